"""The documentation site, built as strictly as `make docs` builds it, and looked through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import devices
import fedsz
import netem
from testbed.cli import _parser

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# What a browser fetches by itself; a link that is followed on a click is no matter.
FETCHED = {
    *((tag, "src") for tag in ("script", "img", "iframe", "source", "video", "audio", "embed")),
    *((tag, "href") for tag in ("link", "image", "use")),
    ("object", "data"),
}


class Page(HTMLParser):
    """What one page fetches, and its links, ids and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.classes: set[str] = set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.classes |= set((given.get("class") or "").split())
        if tag == "link" and given.get("rel") in ("canonical", "prev", "next", "edit"):
            return
        for name, value in attrs:
            if (tag, name) in FETCHED and value:
                self.fetched.append(value)
            if name == "srcset" and value:
                self.fetched += [part.split()[0] for part in value.split(",")]
            if (tag, name) == ("a", "href") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}
    assert len(found) > 20
    return found


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert page.fetched, name
        for url in page.fetched:
            assert not re.match(r"(?:\w+:)?//", url), f"{name} fetches {url}"
            if name != "404.html":  # made for the root of a server
                target = (site / name).parent / url.partition("?")[0].partition("#")[0]
                assert target.exists(), f"{name} fetches {url}, which is not there"
        # The theme would load this library from elsewhere for pages that have such a diagram or formula.
        assert not page.classes & {"mermaid", "arithmatex"}, name
        assert "fonts.googleapis" not in page.text, name
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style


def test_every_page_can_be_reached(site: Path, pages: dict[str, Page]) -> None:
    home = pages["index.html"]
    linked = {link.partition("#")[0] for link in home.links}
    for source in DOCS.rglob("*.md"):
        name = str(source.relative_to(DOCS).with_suffix(".html"))
        assert name in pages
        assert name in linked or name == "index.html", f"{name} is not in the navigation of mkdocs.yml"


def test_the_reference_holds_every_public_name(pages: dict[str, Page]) -> None:
    for package in (fedsz, devices, netem):
        text = pages[f"reference/{package.__name__}.html"].text
        for name in package.__all__:
            assert re.search(rf'id="{package.__name__}\.(?:\w+\.)?{name}"', text), (
                f"{package.__name__}.{name}"
            )
    for name in ("load", "Run.frame", "Run.crossovers", "export"):
        assert f'id="testbed.results.{name}"' in pages["reference/results.html"].text


def test_the_command_line_is_the_parsers(pages: dict[str, Page]) -> None:
    text = pages["reference/cli.html"].text
    (commands,) = (item for item in _parser()._actions if item.choices and item.dest == "command")
    for name, command in commands.choices.items():
        assert f">testbed {name}<" in text, name
        for action in command._actions:
            for option in action.option_strings:
                assert option in text or option in ("-h", "--help"), option


def test_every_scenario_that_ships_is_in_the_gallery() -> None:
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    for scenario in (ROOT / "scenarios").glob("*.yaml"):
        place = f"<!-- gallery: {scenario.stem} -->"
        assert place in text or f"`scenarios/{scenario.name}`" in text, scenario.name


def test_what_the_readme_points_to_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) > 8
    assert [link for link in links if not (ROOT / link.partition("#")[0]).exists()] == []
    assert len(text.splitlines()) < 70, "the README is one screen and one picture"
