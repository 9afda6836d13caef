"""What a run says at its end, made from its result folder alone: table, crossover, plots, report."""

from __future__ import annotations

from pathlib import Path

from testbed.crossover import crossovers, write_crossovers
from testbed.record import read_results


def summarise(folder: Path, *, quiet: bool = False, json_lines: bool = False) -> None:
    """Write ``crossover.json``, plots and the report into *folder* and print the answer."""
    results = read_results(folder)
    found = crossovers(results.rows)
    write_crossovers(folder, found)
    for item in found:
        print(item.fleet, item.codec.id, item.sentence, item.closed_form)
