"""Pictures: what they show, and that they are the same for the same records."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image
from testbed_rows import sweep_rows

from testbed.crossover import crossovers
from testbed.plot import figures, save, save_all, split_figure, svg, time_figure
from testbed.row import CodecUsed
from testbed.style import looks

ROWS = sweep_rows(repeats=2, noise=0.03)
FOUND = crossovers(ROWS)
FEW = sweep_rows(repeats=2, rates=(10e6, 1e9), codecs=("none", "sz2"))


def test_time_over_bandwidth_has_a_panel_a_fleet_and_a_line_a_codec():
    figure = time_figure(ROWS, FOUND)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "pi (raspberry-pi-4)",
        "phone (pixel-6)",
        "",
        "",
    ]
    for axes in panels:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        labels = [line.get_label() for line in axes.get_lines() if not line.get_label().startswith("_")]
        assert labels == ["no compression", "sz2", "sz3", "fedsz-q"]
    assert panels[2].get_xlabel() == "uplink rate (Mbit/s)"
    assert "(s)" in panels[0].get_ylabel()


def test_crossovers_are_marked_where_they_are():
    figure = time_figure(ROWS, FOUND)
    pi = {item.codec.id: item.measured for item in FOUND if item.fleet == "pi"}
    marked = sorted(
        line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_label().startswith("_")
    )
    within = [estimate.value_bps / 1e6 for estimate in pi.values() if estimate.where == "within"]
    assert marked == pytest.approx(sorted(within))
    legend = [text.get_text() for text in figure.axes[2].get_legend().get_texts()]
    assert legend[0] == "no compression"
    assert legend[1].startswith("sz2: pays below 1")
    assert legend[3] == "fedsz-q: pays up to 2 Gbit/s and beyond"


def test_bars_add_up_to_the_mean_round():
    shown = [axes for axes in split_figure(ROWS).axes if axes.get_visible()]
    assert len(shown) == 4 * 2  # four of the eight rates, two fleets
    assert [axes.get_title(loc="left") for axes in shown[:3]] == [
        "pi (raspberry-pi-4)\n10 Mbit/s",
        "phone (pixel-6)\n10 Mbit/s",
        "50 Mbit/s",
    ]
    ends = {}
    for bar in shown[0].patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    first = [
        row.round_s
        for row in ROWS
        if row.fleet == "pi" and row.uplink_rate_bps == 10e6 and row.codec.id == "none"
    ]
    assert ends[min(ends)] == pytest.approx(sum(first) / len(first))
    assert len(ends) == 4  # codecs


def test_a_fast_rate_has_a_scale_of_its_own():
    """On the slowest rate's scale the bars in which codecs differ most would be too short to see."""
    for axes in (axes for axes in split_figure(ROWS).axes if axes.get_visible()):
        longest = max(bar.get_x() + bar.get_width() for bar in axes.patches)
        assert longest > 0.8 * axes.get_xlim()[1]


def test_files_are_whole_and_the_same_every_time(tmp_path):
    paths = save_all(ROWS, FOUND, tmp_path)
    names = [path.name for path in paths]
    assert names == [
        f"{name}.{kind}"
        for name in ("round-time", "round-split", "ratio-speed", "timeline")
        for kind in ("svg", "png")
    ]
    for path in paths:
        if path.suffix == ".svg":
            assert ElementTree.fromstring(path.read_text(encoding="utf-8")).tag.endswith("svg")
        else:
            with Image.open(path) as image:
                assert min(image.size) > 300
                assert image.convert("L").getextrema()[0] < 60  # something dark is drawn on it
    before = paths[0].read_text(encoding="utf-8")
    save(time_figure(ROWS, FOUND), tmp_path, "round-time")  # made again, in place
    assert paths[0].read_text(encoding="utf-8") == before


def test_no_usable_row_no_picture(tmp_path):
    failed = [dataclasses.replace(row, status="failed", reason="oom") for row in ROWS]
    assert save_all(failed, crossovers(failed), tmp_path) == []
    assert figures([], []) == {}


UNTRUSTED = {"trusted": False, "untrusted_because": "late"}


@pytest.mark.parametrize(
    "rows",
    [
        sweep_rows(1, rates=(10e6,), codecs=("none",)),
        sweep_rows(1, rates=(10e6,), codecs=("sz2",)),
        sweep_rows(1, rates=(10e6, 15e6)),
        [dataclasses.replace(row, values={**row.values, "lr": str(row.repeat)}) for row in FEW],
        [dataclasses.replace(row, fleet=f"f{row.repeat}-{row.fleet}") for row in FEW],
        [dataclasses.replace(row, **UNTRUSTED) if row.cell % 2 else row for row in FEW],
    ],
    ids=["one raw point", "one coded point", "two rates", "two settings", "four fleets", "half untrusted"],
)
def test_unusual_records_are_drawn_without_a_warning(rows):
    for figure in figures(rows, crossovers(rows)).values():
        assert svg(figure).startswith("<?xml")


def test_accuracy_is_drawn_where_there_is_a_curve():
    rows = [
        dataclasses.replace(row, round=number, started_s=number * row.round_s, accuracy=0.3 + 0.1 * number)
        for row in sweep_rows(1, rates=(10e6, 99e6, 200e6, 2e9))
        for number in range(3)
    ]
    made = figures(rows, [])
    assert [axes.get_title(loc="left") for axes in made["accuracy"].axes] == [
        "uplink 10 Mbit/s", "uplink 200 Mbit/s", "uplink 2000 Mbit/s",
    ]  # fmt: skip
    line = made["accuracy"].axes[0].get_lines()[0]
    assert list(line.get_ydata()) == pytest.approx([30.0, 40.0, 50.0])
    assert "accuracy" not in figures(ROWS, [])


def test_each_kind_of_rounds_has_a_panel_of_its_own_whatever_rates_its_fleets_have():
    rows = [
        dataclasses.replace(row, round=number, accuracy=0.5, values={"rounds_policy.kind": kind, "codec": row.codec.id},
                            cell=row.cell + (1000 if kind == "async" else 0),
                            model_version=0 if kind == "async" else None)
        for kind in ("sync", "async")
        for row in sweep_rows(1, rates=(10e6, 99e6))
        for number in range(2)
    ]  # fmt: skip
    (panels,) = [figures(rows, [])["accuracy"].axes]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "rounds sync",
        "rounds async",
    ]


def test_no_two_codecs_look_alike_even_without_colour():
    codecs = [CodecUsed("none"), *(CodecUsed(f"c{number}", "REL", 0.01) for number in range(12))]
    found = list(looks(codecs).values())
    assert len({(look.colour, look.marker) for look in found}) == 13
    first = found[:7]
    assert len({look.marker for look in first}) == 7
    assert len({look.colour for look in first}) == 7
