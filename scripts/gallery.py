"""Pictures and tables of docs/gallery.md, made from result folders.

    python -m scripts.gallery results/gallery --run            # run what has no folder there yet, then draw
    python -m scripts.gallery results/gallery --run stragglers # only some of them
    python -m scripts.gallery results/gallery                  # draw again from what is there

`results/gallery/NAME` is the result folder of `scenarios/NAME.yaml`. Each gives `docs/gallery/NAME.png` and the part of
the page between its two comments; what stands outside of them is written by hand. A scenario that `KNOWN` does not
name gets the report's split of the round.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from scripts import gallery_figures as figures
from testbed.crossover import crossovers
from testbed.plot import PNG_DPI
from testbed.record import Results, Row, read_results
from testbed.tables import estimate_text, seconds_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "gallery"

Lines = list[str]


def main() -> None:
    """Run what is asked for, then draw every scenario that has a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="one result folder a scenario lies in here")
    parser.add_argument("names", nargs="*", help="scenarios (default: all that the page has a place for)")
    parser.add_argument("--run", action="store_true", help="run scenarios that have no folder yet")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    for name in options.names or places(page):
        folder = options.folder / name
        if options.run and not folder.exists():
            command = ["-m", "testbed", "sweep", f"scenarios/{name}.yaml", "--fallback", "--out", str(folder)]
            subprocess.run([sys.executable, *command], check=True, cwd=ROOT)
        if folder.exists():
            page = put(page, name, part(name, read_results(folder)))
            PAGE.write_text(page, encoding="utf-8")
            print(f"{name}: docs/gallery/{name}.png and its part of docs/gallery.md")


def places(page: str) -> list[str]:
    """Names of the scenarios that *page* has a place for, in order."""
    return re.findall(r"^<!-- gallery: ([\w-]+) -->$", page, re.MULTILINE)


def put(page: str, name: str, lines: Lines) -> str:
    """*page* with *lines* between the comments of *name*."""
    start, end = f"<!-- gallery: {name} -->\n", f"<!-- end of {name} -->"
    head, rest = page.split(start, 1)
    return head + start + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]


def part(name: str, results: Results) -> Lines:
    """Draw the picture; what the page says about it."""
    table, figure, shows = KNOWN.get(name, (split_table, figures.split, "Where the time of a round goes"))
    drawn = figure(results)
    drawn.savefig(PICTURES / f"{name}.png", dpi=PNG_DPI, metadata={"Software": None}, facecolor="white")
    return [*table(results), "", f"![{shows}](gallery/{name}.png)", "", provenance(results)]


def provenance(results: Results) -> str:
    """Where the figures come from."""
    machine = results.manifest["machine"]
    wall_s = sum(cell.wall_s for cell in results.cells)
    rows, doubted = len(results.rows), sum(not row.trusted for row in results.rows)
    links = "modelled" if {row.engine for row in results.rows} == {"model"} else "emulated"
    return (
        f"*One run on {machine['cores']} cores of a virtual machine ({machine['cpu']}), links {links}: "
        f"{len(results.cells)} cells and {rows} client-rounds in {wall_s:.0f} s, {doubted or 'none'} of them not "
        "trusted and left out.*"
    )


def row_lines(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> Lines:
    """A Markdown table."""
    lines = [f"| {' | '.join(heading)} |", "| --- " * len(heading) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def usable(results: Results, wanted: Callable[[Row], bool]) -> list[Row]:
    """Trusted and finished rows."""
    return [row for row in results.rows if row.usable and wanted(row)]


def middle(values: Iterable[float]) -> str:
    """Median in seconds."""
    found = list(values)
    return seconds_text(statistics.median(found)) if found else "-"


def words(codec: str) -> str:
    """How the page calls it."""
    return "raw" if codec == "none" else codec


# --- one function a scenario -----------------------------------------------------------------------------------------


def contention_table(results: Results) -> Lines:
    """Median upload and round by the server's rate."""
    axis = "network.server.downlink.rate"
    rates = list(dict.fromkeys(row.values[axis] for row in results.rows))
    codecs = list(dict.fromkeys(row.codec.id for row in results.rows))

    def cell(rate: str, codec: str, value: Callable[[Row], float]) -> str:
        rows = usable(results, lambda row: row.values[axis] == rate and row.codec.id == codec)
        return middle(value(row) for row in rows)

    heading = ["server takes in", *(f"{words(codec)}: upload (s)" for codec in codecs)]
    heading += [f"{words(codec)}: round (s)" for codec in codecs]
    body = [
        [rate]
        + [cell(rate, codec, lambda row: row.uplink_s) for codec in codecs]
        + [cell(rate, codec, lambda row: row.round_s) for codec in codecs]
        for rate in rates
    ]
    return row_lines(heading, body)


def stragglers_table(results: Results) -> Lines:
    """What a deadline costs and buys, with and without compression."""
    body = []
    for deadline, codec in dict.fromkeys((deadline_of(row), row.codec.id) for row in results.rows):
        mine = [row for row in results.rows if deadline_of(row) == deadline and row.codec.id == codec]
        rounds = {(row.cell, row.round): row.round_s for row in mine if row.usable}
        laptops = [row.wait_s for row in mine if row.usable and row.fleet == "laptop"]
        slow = [row for row in mine if row.fleet == "slow"]
        arrived = sum(row.status == "ok" for row in slow)
        body.append(
            [deadline, words(codec), middle(rounds.values()), middle(laptops), f"{arrived} of {len(slow)}"]
        )
    heading = ["deadline", "codec", "round (s)", "a laptop waits (s)", "slow clients in the average"]
    return row_lines(heading, body)


def deadline_of(row: Row) -> str:
    """As the scenario says it."""
    value = row.values["rounds_policy.deadline"]
    return "none" if value in ("null", "None", "") else value


def mixed_table(results: Results) -> Lines:
    """Mean seconds of compressing, sending and decompressing by fleet and policy."""
    policies = list(dict.fromkeys(row.values["policy"] for row in results.rows))
    means: dict[str, list[float]] = {policy: [] for policy in policies}
    body = []
    for rate in sorted({row.uplink_rate_bps for row in results.rows}):
        line = [figures.rate_words(rate)]
        for policy in policies:
            rows = usable(
                results, lambda row, p=policy, r=rate: row.values["policy"] == p and row.uplink_rate_bps == r
            )
            means[policy].append(statistics.fmean(figures.coding_s(row) for row in rows))
            line.append(seconds_text(means[policy][-1]))
        chosen = [
            row.codec.id
            for row in results.rows
            if row.values["policy"] == "auto" and row.uplink_rate_bps == rate
        ]
        line.append(words(statistics.mode(chosen)))
        body.append(line)
    body.append(["mean of all", *(seconds_text(statistics.fmean(means[policy])) for policy in policies), ""])
    return row_lines(["uplink", *(f"{policy} (s)" for policy in policies), "auto chose mostly"], body)


def trace_table(results: Results) -> Lines:
    """Least, median and most seconds of an upload."""
    codecs = list(dict.fromkeys(row.codec.id for row in results.rows))
    body = []
    for fleet in dict.fromkeys(row.fleet for row in results.rows):
        line = [figures.TRACES.get(fleet, fleet)]
        for codec in codecs:
            found = sorted(
                row.uplink_s
                for row in usable(results, lambda row, f=fleet, c=codec: (row.fleet, row.codec.id) == (f, c))
            )
            line.append(
                ", ".join(
                    seconds_text(value)
                    for value in ([found[0], statistics.median(found), found[-1]] if found else [])
                )
                or "-"
            )
        body.append(line)
    return row_lines(["trace", *(f"{words(codec)}: upload (s)" for codec in codecs)], body)


def memory_table(results: Results) -> Lines:
    """Who came through."""
    body = []
    for fleet, codec in dict.fromkeys((row.fleet, row.codec.id) for row in results.rows):
        mine = [row for row in results.rows if (row.fleet, row.codec.id) == (fleet, codec)]
        failed = [row.reason for row in mine if row.status != "ok"]
        passed = [row for row in mine if row.status == "ok"]
        body.append(
            [
                f"{fleet} ({mine[0].device})",
                words(codec),
                f"{len(passed)} of {len(mine)}",
                failed[0] if failed else "-",
                middle(row.train_s for row in passed),
            ]
        )
    return row_lines(["device", "codec", "finished", "why not", "training (s)"], body)


def side_information_table(results: Results) -> Lines:
    """Ratio in each round, what arrives of what was learnt, and up to which rate compressing pays."""
    rounds = sorted({row.round for row in results.rows})
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    found = {
        (item.codec, item.setting["compression.reference"].lower()): item.measured
        for item in crossovers(results.rows)
    }
    body = []
    for codec, held in dict.fromkeys((row.codec, figures.held(row)) for row in results.rows):
        if codec.id == "none":
            continue
        mine = usable(results, lambda row, c=codec, h=held: (row.codec, figures.held(row)) == (c, h))
        ratios = [
            [row.compression_ratio for row in mine if row.round == number and row.compression_ratio]
            for number in rounds
        ]
        later = [row.delta_arrived for row in mine if row.round > 0 and row.delta_arrived is not None]
        estimate = found.get((codec, held))
        body.append(
            [
                f"{codec.id}, {'given the global model' if held == 'true' else 'alone'}",
                *(f"{statistics.median(group):.2f}" if group else "-" for group in ratios),
                f"{100 * statistics.median(later):.0f} %" if later else "-",
                estimate_text(estimate, rates, with_interval=False) if estimate else "-",
            ]
        )
    heading = [
        "codec",
        *(f"ratio, round {number + 1}" for number in rounds),
        "arrives, later rounds",
        "pays below",
    ]
    return row_lines(heading, body)


def learning_table(results: Results) -> Lines:
    """Accuracy by round and emulated time, a line a codec."""
    rounds = sorted({row.round for row in results.rows})
    lines = []
    for codec in dict.fromkeys(row.codec.id for row in results.rows):
        rows = [row for row in results.rows if row.codec.id == codec]
        reached = {row.round: f"{100 * row.accuracy:.1f} %" for row in rows if row.accuracy is not None}
        ended_s = max(row.started_s + row.round_s for row in rows)
        joules = [row.energy_j for row in rows if row.energy_j is not None]
        energy = f"{statistics.fmean(joules):.0f}" if joules else "-"
        lines.append([words(codec), *(reached[number] for number in rounds), seconds_text(ended_s), energy])
    heading = [
        "codec",
        *(f"round {number + 1}" for number in rounds),
        "all rounds (s)",
        "a client's round (J, estimated)",
    ]
    return row_lines(heading, lines)


def asynchronous_table(results: Results) -> Lines:
    """What was learned by when and from whom: means over the repeats of each setting and codec."""
    fleets = list(dict.fromkeys(row.fleet for row in results.rows))
    body = []
    for setting, codec, curves in figures.learned(results):
        ends = [curve[-1] for curve in curves]
        hits = [next((at_s for at_s, accuracy in curve if accuracy >= 0.8), None) for curve in curves]
        mine = [
            row
            for row in results.rows
            if (figures.setting_of(row), row.codec) == (setting, codec) and row.status == "ok"
        ]
        stale = [row.staleness for row in mine if row.staleness is not None]
        counts = [sum(row.fleet == fleet for row in mine) for fleet in fleets]
        body.append(
            [
                setting or "synchronous",
                words(codec.id),
                seconds_text(statistics.fmean(seconds for seconds, _ in ends)),
                "-"
                if None in hits
                else seconds_text(statistics.fmean(hit for hit in hits if hit is not None)),
                f"{statistics.fmean(accuracy for _, accuracy in ends):.1%}",
                ", ".join(f"{count} {fleet}" for fleet, count in zip(fleets, counts, strict=True)),
                f"{statistics.fmean(stale):.2f}, at most {max(stale)}" if stale else "-",
            ]
        )
    heading = [
        "rounds",
        "codec",
        "all models (s)",
        "80 % after (s)",
        "at the end",
        "updates in models",
        "mean staleness",
    ]
    return row_lines(heading, body)


def split_table(results: Results) -> Lines:
    """The mean round, for scenarios that have no table of their own."""
    body = []
    for item in figures.summaries(results):
        setting = ", ".join(f"{axis} {value}" for axis, value in item.setting)
        body.append(
            [item.fleet, setting or "-", figures.rate_words(item.rate_bps), words(item.codec.id)]
            + [seconds_text(item.mean_s[name]) for name in figures.SHOWN]
            + [seconds_text(item.round_s)]
        )
    heading = ["fleet", "setting", "uplink", "codec", *(f"{name} (s)" for name in figures.SHOWN), "round (s)"]
    return row_lines(heading, body)


KNOWN = {
    "async": (asynchronous_table, figures.asynchronous, "Accuracy over emulated time, in rounds and without"),
    "contention": (
        contention_table,
        figures.contention,
        "Upload and round over the server's rate, raw and compressed",
    ),
    "stragglers": (stragglers_table, figures.stragglers, "Where a round's time goes, by deadline and codec"),
    "mixed-bandwidth": (mixed_table, figures.mixed, "Time of an update by uplink rate, for three policies"),
    "trace-driven": (
        trace_table,
        figures.traces,
        "Rate of each trace over time, and below it the uploads made over it",
    ),
    "side-information": (
        side_information_table,
        figures.side_information,
        "Compression ratio by round, with and without the global model",
    ),
    "learning": (
        learning_table,
        figures.learning,
        "Accuracy over emulated time, with and without compression",
    ),
    "memory": (memory_table, figures.memory, "Which device gets through its training"),
}

if __name__ == "__main__":
    main()
