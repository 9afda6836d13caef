"""A sweep from start to finish: the result folder, every cell, and going on where an earlier run stopped."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from netem.capabilities import require_for
from netem.ledger import Ledger
from testbed import manifest
from testbed.carrier import open_carrier
from testbed.cells import Cell
from testbed.errors import RecordError
from testbed.experiment import Experiment
from testbed.progress import Mode, Progress
from testbed.record import MANIFEST, RowWriter, add_manifest, create_folder
from testbed.scenario import Scenario, loads
from testbed.work import Workbench


def state_dir() -> Path:
    """Where ledgers of running emulations lie: gone after a reboot, as is all that they name."""
    if os.geteuid() == 0:
        return Path("/run/fedsz-testbed")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        Path(runtime) / "fedsz-testbed"
        if runtime
        else Path(tempfile.gettempdir()) / f"fedsz-testbed-{os.getuid()}"
    )


def default_folder(scenario: Scenario) -> Path:
    """``results/NAME-TIME``, in UTC, in the current folder."""
    return Path("results") / f"{scenario.name}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"


def require(scenario: Scenario) -> None:
    """Raise `CapabilityError` where this machine cannot emulate what *scenario* asks for; starts nothing."""
    if scenario.network.engine == "mininet":
        require_for(scenario.topology(), scenario.network.congestion_control, "auto")


def start(scenario: Scenario, folder: Path, *, mode: Mode = "auto") -> None:
    """Measure every cell of *scenario* into *folder*.

    Raises:
        CapabilityError: this machine cannot; nothing was started.
        ResultsExistError: *folder* holds a run already.
    """
    require(scenario)
    run = secrets.token_hex(4)
    with ExitStack() as stack:
        bench = stack.enter_context(_workbench(scenario, stack))
        create_folder(folder, manifest.collect(scenario, run, extra=_extra(bench)))
        _measure(scenario, run, folder, bench, mode)


def resume(folder: Path, *, mode: Mode = "auto") -> Scenario:
    """Measure what is missing in *folder*; its own scenario is used. Returns it.

    Raises: as `start`, and RecordError where the folder is none of ours.
    """
    try:
        first = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        scenario = loads(json.dumps(first["scenario"]), str(folder / MANIFEST))
        run = first["run"]
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(str(folder), f"holds no run that could go on ({error})") from error
    require(scenario)
    with ExitStack() as stack:
        bench = stack.enter_context(_workbench(scenario, stack))
        add_manifest(folder, manifest.collect(scenario, run, extra=_extra(bench)))
        _measure(scenario, run, folder, bench, mode)
    return scenario


def _workbench(scenario: Scenario, stack: ExitStack) -> Workbench:
    held = any(fleet.limits == "quota" for fleet in scenario.fleets)
    return Workbench(scenario, ledger=stack.enter_context(Ledger(state_dir())) if held else None)


def _extra(bench: Workbench) -> dict[str, str]:
    return {"data": bench.dataset.source, "data_note": bench.data_note}


def _measure(scenario: Scenario, run: str, folder: Path, bench: Workbench, mode: Mode) -> None:
    cells = scenario.cells()
    with ExitStack() as stack:
        writer = stack.enter_context(RowWriter(folder))
        weights = _weights(cells)
        progress = stack.enter_context(Progress(sum(weights.values()), unit="cell", mode=mode))
        progress.note(f"data: {bench.dataset.source}")
        if bench.data_note:
            progress.note(bench.data_note)
        missing = [cell for cell in cells if cell.index not in writer.done]
        if len(missing) < len(cells):
            skipped = [cell for cell in cells if cell.index in writer.done]
            progress.skip(sum(weights[cell.index] for cell in skipped), steps=len(skipped))
            progress.note(f"going on: {len(cells) - len(missing)} of {len(cells)} cells were done before")
        if not missing:
            return
        carrier = stack.enter_context(open_carrier(scenario, state_dir()))
        for thing in getattr(getattr(carrier, "network", None), "swept", ()):
            progress.note(f"removed what a dead run left behind: {thing}")
        experiment = Experiment(run, bench, carrier, progress.phase)
        for cell in missing:
            rows, done = experiment.cell(cell)
            for row in rows:
                writer.write(row)
            writer.end_cell(done)
            progress.step(cell.label, weights[cell.index])


def _weights(cells: Sequence[Cell]) -> dict[int, float]:
    """How much of the whole each cell is, roughly: where work is drawn, the first of a kind does it for all others."""
    weights: dict[int, float] = {}
    seen: set[tuple[object, ...]] = set()
    for cell in cells:
        weight = 1.0
        if cell.scenario.sweep.work == "drawn":
            for key, extra in (
                (("train", cell.repeat, repr(cell.scenario.learning)), 12.0),
                (("code", cell.repeat, repr(cell.scenario.compression)), 4.0),
            ):
                if key not in seen:
                    seen.add(key)
                    weight += extra
        weights[cell.index] = weight
    return weights
