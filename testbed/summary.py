"""What a run says at its end, made from its result folder alone: table, crossover, plots, report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from testbed import fidelity
from testbed.crossover import crossovers, write_crossovers
from testbed.device_record import doubt_of
from testbed.files import clear_drafts
from testbed.learnt import learnt, warnings
from testbed.plot import save_all
from testbed.record import Results, read_results
from testbed.report import write_report
from testbed.tables import console, print_results


def summarise(
    folder: Path, *, quiet: bool = False, json_lines: bool = False, doubt: bool | None = None
) -> None:
    """Write everything that follows from the records into *folder* and print the answer.

    Args:
        quiet: print the answer without the table of the round split.
        json_lines: print one JSON object instead.
        doubt: whether the doubt of the devices' factors goes into the intervals; None: as the scenario says.
    """
    results = read_results(folder)
    clear_drafts(folder)
    found = crossovers(results.rows, doubt_of(results.manifest, asked=doubt))
    files = [write_crossovers(folder, found), *save_all(results.rows, found, folder)]
    checked = fidelity.write(folder, results)
    files += [*([checked] if checked else []), write_report(folder)]
    if json_lines:
        answer = {
            "results": str(folder),
            "crossovers": [asdict(item) | {"sentence": item.sentence} for item in found],
            "learnt": [asdict(item) | {"fades": item.fades} for item in learnt(results.rows)],
            **_time(results),
        }
        print(json.dumps(answer))
        return
    out = console()
    print_results([] if quiet else results.rows, found, out)
    checks = fidelity.from_cells(results.cells)
    links = fidelity.probed(fidelity.probes(results.cells))
    for line in (*_beliefs(results), links, fidelity.brief(checks) if checks else "", _pace(results)):
        if line:
            out.print(line, highlight=False)
    out.print(
        f"results in {folder}: " + ", ".join(sorted(path.name for path in files)),
        highlight=False,
        soft_wrap=True,
    )


def _time(results: Results) -> dict[str, float]:
    return {
        "wall_s": sum(cell.wall_s for cell in results.cells),
        "emulated_s": sum(cell.emulated_s for cell in results.cells),
        "transfer_wall_s": sum(cell.transfer_wall_s for cell in results.cells),
        "transfer_emulated_s": sum(cell.transfer_emulated_s for cell in results.cells),
    }


def _pace(results: Results) -> str:
    took = _time(results)
    text = f"{took['emulated_s']:.0f} s of rounds emulated in {took['wall_s']:.0f} s"
    if took["transfer_wall_s"] > 0:
        emulated, wall = took["transfer_emulated_s"], took["transfer_wall_s"]
        text += f"; {emulated:.0f} s of transfers in {wall:.0f} s with packets in flight"
    return text


def _beliefs(results: Results) -> list[str]:
    """What a reader must know before believing the answer."""
    lines = []
    engines = {row.engine for row in results.rows}
    if engines == {"model"}:
        lines.append("Transfer times were MODELLED, not measured; work was measured.")
    stale = [row.staleness for row in results.rows if row.staleness is not None]
    if stale:
        lines.append(
            f"{len(stale)} asynchronous updates: staleness {min(stale)} to {max(stale)}, mean "
            f"{fmean(stale):.2f} versions of the model"
        )
    note = results.manifest.get("data_note")
    if note:
        lines.append(f"Data: {note}")
    lines += warnings(results.rows)
    for status, count in Counter(row.status for row in results.rows if row.status != "ok").items():
        example = next(row for row in results.rows if row.status == status)
        lines.append(
            f"{count} of {len(results.rows)} client-rounds {status}, for example {example.client}: {example.reason}"
        )
    doubted = [row for row in results.rows if not row.trusted]
    if doubted:
        lines.append(
            f"{len(doubted)} of {len(results.rows)} client-rounds are untrusted and left out, for example "
            f"{doubted[0].client}: {doubted[0].untrusted_because}"
        )
    return lines
