"""The report as a reader meets it: in a browser without a network, light and dark, on a phone and on paper."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from product_browser import BROWSER, DRIVER, Browser, chromium
from test_testbed_report import fill
from testbed_rows import sweep_rows

from testbed.crossover import crossovers, write_crossovers
from testbed.report import write_report

pytestmark = pytest.mark.skipif(
    not (BROWSER.exists() and DRIVER.exists()),
    reason="needs the Debian packages chromium and chromium-driver",
)

RATES = (10e6, 100e6, 1e9)
# Two rounds with an accuracy, so that there is a learning curve too.
ROWS = [
    dataclasses.replace(row, round=number, accuracy=0.5 + 0.2 * number, started_s=number * row.round_s)
    for row in sweep_rows(repeats=2, noise=0.03, rates=RATES, codecs=("none", "sz2"))
    for number in (0, 1)
]
PICTURES = (
    "Round time over bandwidth",
    "Where the time goes",
    "Ratio against speed",
    "One round, client by client",
    "Accuracy over emulated time",
)
FIDELITY = {"schema": 1, "points": [{"rate": "10 Mbit/s", "error": 0.0012}]}

# Contrast of each text with what lies behind it, by the formula of WCAG 2.2, from the styles as computed. Letters in
# pictures count as well. Returned: the lowest contrast and its text.
CONTRAST = """
const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
let worst = [99, ""];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
  if (!own || !node.getClientRects().length) continue;
  const style = getComputedStyle(node);
  const ink = parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [low, high] = [luminance(ink), luminance(behind(node))].sort((a, b) => a - b);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < worst[0]) worst = [contrast, own];
}
return worst;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("report") / "r"
    fill(folder, ROWS)
    write_crossovers(folder, crossovers(ROWS))
    (folder / "fidelity.json").write_text(json.dumps(FIDELITY), encoding="utf-8")
    # Away from everything it was made from: it must need nothing beside it.
    alone = tmp_path_factory.mktemp("sent") / "report.html"
    alone.write_bytes(write_report(folder).read_bytes())
    return alone


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def pixels(browser: Browser) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(browser.screenshot())) as image:
        return np.asarray(image.convert("L"), dtype=float)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_every_picture_is_drawn_and_every_letter_can_be_read(
    browser: Browser, page: Path, scheme: str, dark: bool
) -> None:
    browser.open(page, scheme=scheme)
    seen = pixels(browser)
    assert (np.median(seen) < 60) == dark  # the paper
    boxes = browser.run(
        "return [...document.querySelectorAll('svg')].map((s) => { const b = s.getBoundingClientRect();"
        " return [s.getAttribute('aria-label'), b.left + scrollX, b.top + scrollY, b.width, b.height]; })"
    )
    assert [label.split(". ")[0] for label, *_ in boxes] == list(PICTURES)
    for label, *box in boxes:
        left, top, width, height = (int(value) for value in box)
        assert width > 300, label
        assert height > 150, label
        quarters = seen[top : top + height, left : left + width]
        assert quarters.shape == (height, width), label
        for part in np.array_split(quarters, 3, axis=0):  # nothing drawn shows as one colour
            assert part.std() > 4, label
    worst, text = browser.run(CONTRAST)
    assert worst >= 4.5, text  # WCAG AA
    assert browser.complaints() == []


def test_the_answer_is_seen_before_anything_is_scrolled(browser: Browser, page: Path) -> None:
    browser.open(page, width=1200, height=700)
    bottom = browser.run("return document.querySelector('.trust').getBoundingClientRect().bottom")
    assert bottom < 700
    first = browser.run("return document.querySelector('.answers').innerText")
    assert "pi (raspberry-pi-4)" in first
    assert "pairs of rounds" in first


def test_a_phone_shows_it_without_moving_the_page_sideways_and_in_readable_letters(
    browser: Browser, page: Path
) -> None:
    browser.open(page, width=390, height=800)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    letters = browser.run(
        "return Math.min(...[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert letters > 7
    # What is wider than the window is moved by itself, with the keyboard too.
    assert browser.run(
        "return [...document.querySelectorAll('.scroll, figure')].filter((b) => b.scrollWidth > b.clientWidth + 1)"
        ".every((b) => b.tabIndex === 0 && getComputedStyle(b).overflowX === 'auto')"
    )


def test_on_paper_everything_is_unfolded(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page, scheme="dark")  # a reader whose screen is dark prints on white paper all the same
    file = tmp_path / "report.pdf"
    file.write_bytes(browser.pdf())
    done = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, text=True, check=True)
    pages = done.stdout.split("\f")
    assert 3 <= len(pages) <= 12
    assert "raspberry-pi-4" in pages[0]
    assert "Round time over bandwidth" in pages[0]  # the answer and the picture of it on one sheet
    for expected in ("Every point of the sweep", "congestion_control: cubic", '"started"', "0.0012"):
        assert expected in done.stdout, expected
    subprocess.run(["pdftoppm", "-r", "20", "-png", file, tmp_path / "page"], check=True)
    for sheet in sorted(tmp_path.glob("page-*.png")):
        with Image.open(sheet) as image:
            assert np.median(np.asarray(image.convert("L"))) > 250
