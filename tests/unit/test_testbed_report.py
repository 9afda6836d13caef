"""The report: answer first, one file, from records alone."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import re

import pytest
from testbed_rows import sweep_rows

from testbed.crossover import crossovers, write_crossovers
from testbed.markup import element, table
from testbed.record import CellDone, RowWriter, create_folder
from testbed.report import write_report
from testbed.scenario import loads

ROWS = sweep_rows(repeats=2, noise=0.03)
FEW = sweep_rows(repeats=2, rates=(10e6, 1e9), codecs=("none", "sz2"))
SCENARIO = loads(
    "name: made-up\ndescription: Two <unlike> fleets\n"
    "fleets: [{name: pi, count: 2, device: raspberry-pi-4, uplink: 1 Mbit/s, downlink: 1 Mbit/s}]\n"
)


def fill(folder, rows):
    manifest = {
        "run": "made-up", "name": "made-up", "started": "2026-01-02T03:04:05+00:00", "seed": 7,
        "scenario": SCENARIO.to_dict(), "machine": {"cpu": "A & B", "cores": 2, "memory_bytes": 8_000_000_000},
        "versions": {"numpy": "2.4", "simpy": None}, "source": {"commit": "abc123", "dirty": True},
    }  # fmt: skip
    create_folder(folder, manifest)
    with RowWriter(folder) as writer:
        for cell in dict.fromkeys(row.cell for row in rows):
            mine = [row for row in rows if row.cell == cell]
            for row in mine:
                writer.write(row)
            writer.end_cell(
                CellDone(cell=cell, rows=len(mine), transfer_wall_s=0.5, transfer_emulated_s=10.0)
            )


class Checker(html.parser.HTMLParser):
    """Every tag closed in order, no id twice, nothing loaded from elsewhere."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attrs)

    def handle_startendtag(self, tag, attrs):
        self._look(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def _look(self, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:")):
                self.outside.append(value)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    fill(folder, ROWS)
    write_crossovers(folder, crossovers(ROWS))
    return write_report(folder).read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_complete_in_itself(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.outside == []
    assert "<script" not in page
    assert not re.search(r"@import|url\((?!#)", page)
    drawn = [
        page.count(f'aria-label="{title}') for title in ("Round time", "Where the time", "Ratio", "One round")
    ]
    assert drawn == [1, 1, 1, 1]
    assert page.count("<svg ") == 4


def test_the_answer_comes_first(page):
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    answer = next(item for item in crossovers(ROWS) if (item.fleet, item.codec.id) == ("pi", "sz2"))
    value = f"<b>{answer.measured.value_bps / 1e6:.0f} Mbit/s</b>"
    assert value in body
    assert body.index(value) < body.index("<svg ")
    assert "<b>above 2 Gbit/s</b>" in body
    assert body.index("client-rounds are trusted.") < body.index("<svg ")
    assert "Transfer times are modelled, not measured on links." in body
    assert "Transfers that take 640 s in the emulated world took 32.0 s here, 20 times less." in body


def test_what_ran_is_in_it_and_text_is_escaped(page):
    assert "Two &lt;unlike&gt; fleets" in page
    assert "A &amp; B" in page
    assert "abc123, changed since" in page
    assert "rate: 1 Mbit/s" in page  # the filled-in scenario
    assert "numpy 2.4" in page


def test_light_and_dark_and_print(page):
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert "currentColor" in page
    assert "#010203" not in page


def test_untrusted_rounds_are_told_in_the_trust_line(tmp_path):
    rows = [
        dataclasses.replace(row, trusted=False, untrusted_because="the host lagged by 12 ms")
        if row.cell == 1
        else row
        for row in FEW
    ]
    fill(tmp_path / "r", rows)
    text = write_report(tmp_path / "r").read_text(encoding="utf-8")
    assert "28 of 32 client-rounds are trusted. Untrusted and left out: 4 (the host lagged by 12 ms)." in text


def test_a_run_that_has_just_begun_gives_a_page(tmp_path):
    fill(tmp_path / "r", [])
    text = write_report(tmp_path / "r").read_text(encoding="utf-8")
    assert "No cell of this run is complete yet." in text
    assert "<svg " not in text


def test_a_run_without_comparison_says_so(tmp_path):
    fill(tmp_path / "r", sweep_rows(1, rates=(10e6, 1e9), codecs=("none",)))
    text = write_report(tmp_path / "r").read_text(encoding="utf-8")
    assert "there is nothing to compare" in text


def test_fidelity_is_shown_where_it_was_measured(tmp_path):
    fill(tmp_path / "r", ROWS[:4])
    points = [{"rate": "10 Mbit/s", "error": 0.0012}, {"rate": "1 Gbit/s", "error": 0.01}]
    (tmp_path / "r" / "fidelity.json").write_text(json.dumps({"schema": 1, "points": points}))
    text = write_report(tmp_path / "r").read_text(encoding="utf-8")
    assert "how true links and clock were" in text
    assert "0.0012" in text


def test_elements_escape_what_is_not_html():
    assert element("p", "a < b", element("b", "&"), class_="x") == '<p class="x">a &lt; b<b>&amp;</b></p>'
    assert element("a", title='"') == '<a title="&quot;"></a>'
    assert '<td class="number">1</td>' in table(["a", "b"], [["x", 1]])


def made(folder, rows):
    fill(folder, rows)
    return write_report(folder).read_text(encoding="utf-8")


def test_at_one_rate_the_answer_is_what_compressing_is_worth_there(tmp_path):
    rows = [
        dataclasses.replace(
            row,
            cell=100 * (take or 4) + row.cell,
            values={"rounds_policy.take": str(take), "codec": row.codec.id},
        )
        for take in (3, None)
        for row in FEW
        if row.uplink_rate_bps == 10e6
    ]
    page = made(tmp_path / "r", rows)
    assert "<small>rounds take 3</small>" in page
    assert "<small>rounds take not set</small>" in page
    assert page.count('class="answer"') == len(
        {row.fleet for row in rows}
    )  # one card a fleet, not one a setting
    assert "pays at 10 Mbit/s" in page
    assert "less a round" in page
    assert "Round time by setting" in page
    assert "Round time over bandwidth" not in page
    (pi, *_) = crossovers(rows)
    assert pi.sentence.startswith("pays at 10 Mbit/s: ")


def test_a_run_without_any_pair_gives_the_reason_once_and_no_empty_table(tmp_path):
    rows = [row for row in FEW if row.codec.id == "sz2"]
    page = made(tmp_path / "r", rows)
    assert page.count("no round without compression to compare with") == 1
    assert "Crossovers</h2>" not in page
    assert "sooner than raw" not in page


def test_all_reasons_for_leaving_rows_out_are_there_and_the_first_is_beside_the_answer(tmp_path):
    reasons = {1: "late by 12 ms", 2: "late by 13 ms", 3: "no memory"}
    rows = [
        dataclasses.replace(row, trusted=False, untrusted_because=reasons[row.cell])
        if row.cell in reasons
        else row
        for row in FEW
    ]
    page = made(tmp_path / "r", rows)
    assert "Untrusted and left out: 12 (for example, late by 12 ms)." in page
    assert 'href="#left-out"' in page
    after = page.partition('id="left-out"')[2]
    assert [after.count(text) for text in ("late by 12 ms", "no memory")] == [1, 1]


def test_where_nothing_may_be_believed_the_page_says_so_first(tmp_path):
    rows = [dataclasses.replace(row, trusted=False, untrusted_because="late") for row in FEW]
    page = made(tmp_path / "r", rows)
    assert f"None of the {len(rows)} client-rounds may be believed, so there is no answer." in page
    assert "<svg" not in page


def test_asynchronous_rounds_have_no_pairs_and_the_page_says_why(tmp_path):
    rows = [dataclasses.replace(row, model_version=0, staleness=0) for row in FEW]
    assert "asynchronous updates have no partner" in made(tmp_path / "r", rows)
