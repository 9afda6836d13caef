"""Puts the answer of a real `make sweep` into README.md, and all of its figures into docs/quickstart-results.md.

    python scripts/readme_results.py results/quickstart-20260102-030405 [--alone]

The picture becomes docs/quickstart.png. Only what stands between the comments of the two pages is replaced.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from netem.units import format_rate
from testbed import fidelity
from testbed.crossover import Crossover, crossovers
from testbed.record import Results, read_results
from testbed.split import codec_name, summarise
from testbed.tables import estimate_text, seconds_text

START, END = "<!-- results: from `make sweep` -->\n", "<!-- end of results -->"
PARTS = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write both pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="result folder of the quick start")
    parser.add_argument("--alone", action="store_true", help="nothing else ran on the machine meanwhile")
    options = parser.parse_args()
    results = read_results(options.folder)
    found = crossovers(results.rows)
    shutil.copyfile(options.folder / "round-time.png", ROOT / "docs" / "quickstart.png")
    put(ROOT / "README.md", [*short(results, found), "", made(results, alone=options.alone)])
    page = ROOT / "docs" / "quickstart-results.md"
    put(page, [made(results, alone=options.alone), "", *whole(results, found)])
    print(json.dumps({"rows": len(results.rows), "wall_s": sum(cell.wall_s for cell in results.cells)}))


def put(page: Path, lines: Sequence[str]) -> None:
    """Replace what stands between the two comments of *page*."""
    head, rest = page.read_text(encoding="utf-8").split(START, 1)
    tail = rest.split(END, 1)[1]
    page.write_text(head + START + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")


def made(results: Results, *, alone: bool) -> str:
    """Where the figures come from, in one sentence."""
    machine = results.manifest["machine"]
    wall_s = sum(cell.wall_s for cell in results.cells)
    links = "modelled" if {row.engine for row in results.rows} == {"model"} else "emulated"
    return (
        f"Measured by `make sweep` on {machine['cores']} cores of a virtual machine ({machine['cpu']}), links {links}, "
        f"{'nothing else running' if alone else 'other work running'}: {len(results.cells)} cells and "
        f"{len(results.rows)} client-rounds in {wall_s / 60:.1f} minutes, "
        f"{sum(not row.trusted for row in results.rows) or 'none'} of them not trusted and left out."
    )


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(heading)} |",
        "| --- " * len(heading) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def short(results: Results, found: Sequence[Crossover]) -> list[str]:
    """A line a codec, a column a device."""
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    devices = list(dict.fromkeys(item.device for item in found))
    body = []
    for codec in dict.fromkeys(item.codec for item in found):
        mine = {item.device: item for item in found if item.codec == codec}
        ratio = next(item.compression_ratio for item in mine.values())
        body.append(
            [codec_name(codec), f"{ratio:.2f}" if ratio else "-"]
            + [estimate_text(mine[device].measured, rates) if device in mine else "-" for device in devices]
        )
    return table(["compressing pays below [95 %]", "ratio", *devices], body)


def whole(results: Results, found: Sequence[Crossover]) -> list[str]:
    """Every crossover, every split."""
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    heading = ["fleet (device)", "codec", "ratio", "t_C", "t_D", "measured [95 %]", "closed form", "net"]
    lines = ["## Compressing pays below", ""]
    lines += table(
        heading,
        (
            [
                f"{item.fleet} ({item.device})",
                codec_name(item.codec),
                f"{item.compression_ratio:.2f}" if item.compression_ratio else "-",
                f"{seconds_text(item.compress_s or 0.0)} s",
                f"{seconds_text(item.decompress_s or 0.0)} s",
                estimate_text(item.measured, rates),
                estimate_text(item.closed_form, []),
                estimate_text(item.closed_form_net, []),
            ]
            for item in found
        ),
    )
    lines += ["", "## Where the time of a round goes", "", "Seconds, means over all usable rounds."]
    summaries = [item for item in summarise(results.rows) if item.used]
    for fleet in dict.fromkeys(item.fleet for item in summaries):
        mine = [item for item in summaries if item.fleet == fleet]
        lines += ["", f"### {fleet} ({mine[0].device})", ""]
        lines += table(
            ["uplink", "codec", *PARTS, "round", "rows"],
            (
                [
                    format_rate(item.rate_bps),
                    item.codec.id,
                    *(seconds_text(item.mean_s[part]) for part in PARTS),
                    seconds_text(item.round_s),
                    str(item.used),
                ]
                for item in mine
            ),
        )
    return lines + belief(results)


def belief(results: Results) -> list[str]:
    """How far the transfers may be believed, and how fast the clock was."""
    wall_s = sum(cell.transfer_wall_s for cell in results.cells)
    emulated_s = sum(cell.transfer_emulated_s for cell in results.cells)
    checks = fidelity.from_cells(results.cells)
    if not checks or wall_s <= 0:
        return []
    off = statistics.median(abs(check.difference) for check in checks)
    text = (
        f"{len(checks)} emulated transfers were held against the modelled network; the median difference is {off:.2%}. "
        f"{emulated_s:.0f} s of transfers took {wall_s:.0f} s with packets in flight."
    )
    return ["", "## Why to believe it", "", text]


if __name__ == "__main__":
    main()
