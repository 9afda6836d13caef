"""The structure of the report: headings as an outline, every picture named and sized. Browser or not."""

from __future__ import annotations

import html.parser
import itertools
from pathlib import Path

import pytest
from test_testbed_report import ROWS, fill

from testbed.crossover import crossovers, write_crossovers
from testbed.report import write_report


class Outline(html.parser.HTMLParser):
    """Headings with their texts, pictures with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.headings: list[tuple[int, str]] = []
        self.pictures: list[dict[str, str | None]] = []
        self.shapes = 0
        self.language: str | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "html":
            self.language = dict(attrs).get("lang")
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append((int(tag[1]), ""))
            self._inside = True
        if tag in ("svg", "img"):
            self.pictures.append(dict(attrs))
        self.shapes += tag in ("path", "use")

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        if self._inside:
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data

    def handle_endtag(self, tag: str) -> None:
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self._inside = False


@pytest.fixture(scope="module")
def outline(tmp_path_factory: pytest.TempPathFactory) -> Outline:
    folder: Path = tmp_path_factory.mktemp("report") / "r"
    fill(folder, ROWS)
    write_crossovers(folder, crossovers(ROWS))
    found = Outline()
    found.feed(write_report(folder).read_text(encoding="utf-8"))
    return found


def test_headings_are_an_outline(outline: Outline) -> None:
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    texts = [text.strip() for _, text in outline.headings]
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_every_picture_has_a_name_a_size_and_something_in_it(outline: Outline) -> None:
    assert outline.pictures
    for picture in outline.pictures:
        assert picture.get("aria-label") or picture.get("alt")
        assert picture.get("viewbox") or picture.get("src")
    assert outline.shapes > 20 * len(outline.pictures)


def test_the_page_says_its_language(outline: Outline) -> None:
    assert outline.language == "en"
