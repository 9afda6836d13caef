"""Puts the table and the picture of a real run into README.md: `python scripts/readme_results.py RESULTS`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from netem.units import format_rate
from testbed.crossover import crossovers
from testbed.record import read_results
from testbed.split import summarise
from testbed.tables import estimate_text, seconds_text

START, END = "<!-- results: from `make sweep` -->\n", "<!-- end of results -->"
PARTS = ("downlink", "train", "compress", "uplink", "decompress", "aggregate", "wait")
SHOWN = (10e6, 100e6, 1e9)


def main(folder: Path) -> None:
    """Replace what stands between the two comments, and ``docs/quickstart.png``."""
    root = Path(__file__).resolve().parents[1]
    results = read_results(folder)
    found = crossovers(results.rows)
    shutil.copyfile(folder / "round-time.png", root / "docs" / "quickstart.png")
    machine = results.manifest["machine"]
    wall_s = sum(cell.wall_s for cell in results.cells)
    rates = sorted({row.uplink_rate_bps for row in results.rows})
    lines = [
        (
            f"Measured by `make sweep` on {machine['cores']} cores of a virtual machine ({machine['cpu']}), "
            f"{wall_s / 60:.1f} minutes for {len(results.cells)} cells and {len(results.rows)} client-rounds, "
            f"{sum(not row.trusted for row in results.rows)} of them not trusted and left out; "
            f"the load before it began was {machine['load'][0]:.1f}:"
        ),
        "",
        "| compressing pays below | codec | ratio | t_C | t_D | measured [95 %] | closed form | net |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for item in found:
        ratio = f"{item.compression_ratio:.2f}" if item.compression_ratio else "-"
        lines.append(
            f"| {item.fleet} ({item.device}) | {item.codec.id} REL {item.codec.bound:g} | {ratio} "
            f"| {seconds_text(item.compress_s or 0.0)} s | {seconds_text(item.decompress_s or 0.0)} s "
            f"| {estimate_text(item.measured, rates)} | {estimate_text(item.closed_form, [], with_interval=False)} "
            f"| {estimate_text(item.closed_form_net, [], with_interval=False)} |"
        )
    net = "Closed form: 8 (S - S') / (t_C + t_D); net: less the time that packing the raw values takes"
    lines += ["", f"{net} ([how](docs/crossover.md)).", ""]
    lines += ["![Round time over bandwidth, codecs as lines, crossovers marked](docs/quickstart.png)", ""]
    lines += ["Where the time of a round goes (seconds, means; a few of the rates, the slower fleet):", ""]
    lines += ["| uplink | codec | " + " | ".join(PARTS) + " | ratio |", "| --- " * (len(PARTS) + 3) + "|"]
    fleet = results.rows[0].fleet
    for item in summarise(results.rows):
        if item.fleet == fleet and item.rate_bps in SHOWN:
            cells = " | ".join(seconds_text(item.mean_s[part]) for part in PARTS)
            lines.append(
                f"| {format_rate(item.rate_bps)} | {item.codec.id} | {cells} | {item.compression_ratio or 0:.2f} |"
            )
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split(START, 1)
    _, tail = rest.split(END, 1)
    readme.write_text(head + START + "\n".join(lines) + "\n" + END + tail, encoding="utf-8")
    print(json.dumps({"rows": len(results.rows), "wall_s": wall_s}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
