"""A sweep from start to finish: the result folder, every cell, and going on where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netem.capabilities import require_for
from netem.ledger import Ledger
from netem.link import Topology
from testbed import device_record, manifest, quota
from testbed.carrier import Carrier, open_carrier
from testbed.cells import Cell
from testbed.errors import RecordError
from testbed.payloads import PayloadStore
from testbed.progress import Mode, Progress
from testbed.record import MANIFEST, RowWriter, add_manifest, create_folder, read_manifest
from testbed.replay import Recording, Replay
from testbed.round_line import round_lines
from testbed.scenario import Scenario, loads

if TYPE_CHECKING:
    from testbed.experiment import Experiment


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
    """Raise `CapabilityError` or `LimitError` where this machine cannot do what *scenario* asks for; starts nothing."""
    quota.require(scenario)
    if scenario.network.engine == "mininet":
        for topology, congestion_control in _networks(scenario):
            require_for(topology, congestion_control, "auto")


def _networks(scenario: Scenario) -> Iterator[tuple[Topology, str]]:
    """One of each kind of network in *scenario*'s cells, as far as machines differ in what they can do."""
    seen: set[tuple[bool, str]] = set()
    for cell in scenario.cells():
        topology, control = cell.scenario.topology(), cell.scenario.network.congestion_control
        links = (topology.server, *topology.clients.values())
        kind = any(link.uplink.needs_netem or link.downlink.needs_netem for link in links), control
        if kind not in seen:
            seen.add(kind)
            yield topology, control


def start(
    scenario: Scenario,
    folder: Path,
    *,
    mode: Mode = "auto",
    replay: Path | None = None,
    keep_payloads: bool = False,
) -> None:
    """Measure every cell of *scenario* into *folder*.

    Args:
        replay: a result folder whose work is played instead of working anew.
        keep_payloads: keep every payload in *folder*, so that it can be replayed over real links.

    Raises:
        CapabilityError: this machine cannot; nothing was started.
        RecordError: *replay* does not hold the work of every cell.
        ResultsExistError: *folder* holds a run already.
    """
    require(scenario)
    recording = Recording(replay) if replay else None
    run = secrets.token_hex(4) if recording is None else _replay_id(scenario, recording)
    with ExitStack() as stack:
        progress = _progress(scenario, mode, stack)
        player = _player(scenario, folder, recording, stack, keep_payloads=keep_payloads)
        create_folder(folder, manifest.collect(scenario, run, extra=player.manifest))
        writer = stack.enter_context(RowWriter(folder))
        _measure(scenario, run, writer, player, progress)


def resume(folder: Path, *, mode: Mode = "auto") -> Scenario:
    """Measure what is missing in *folder*; its own scenario is used. Returns it.

    Raises: as `start`, and RecordError where the folder is none of ours.
    """
    try:
        first = read_manifest(folder)
        scenario = loads(json.dumps(first["scenario"]), str(folder / MANIFEST))
        run = first["run"]
        replayed: Any = first.get("replay")
        recording = Recording(Path(replayed["folder"])) if replayed else None
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(str(folder), f"holds no run that could go on ({error})") from error
    if recording is not None and recording.run != replayed["run"]:
        raise RecordError(str(recording.folder), f"is run {recording.run}, not {replayed['run']} as before")
    require(scenario)
    with ExitStack() as stack:
        keep_payloads = bool(first.get("keep_payloads"))
        progress = _progress(scenario, mode, stack)
        player = _player(scenario, folder, recording, stack, keep_payloads=keep_payloads)
        writer = stack.enter_context(
            RowWriter(folder)
        )  # before anything is written: another sweep may be at it
        add_manifest(folder, manifest.collect(scenario, run, extra=player.manifest))
        _measure(scenario, run, writer, player, progress)
    return scenario


@dataclass(frozen=True)
class _Player:
    """What plays cells once there is a carrier, what ``run.json`` says of it, and what the user is told first."""

    open: Callable[[str, Carrier, Progress], Experiment | Replay]
    manifest: Mapping[str, Any]
    notes: tuple[str, ...]


def _player(
    scenario: Scenario, folder: Path, recording: Recording | None, stack: ExitStack, *, keep_payloads: bool
) -> _Player:
    if recording is not None:
        recording.require(scenario)
        found = recording
        return _Player(
            lambda run, carrier, _: Replay(run, found, carrier),
            {
                "replay": {"run": found.run, "folder": str(found.folder.resolve())},
                "devices": device_record.collect(scenario),
            },
            (f"work: REPLAYED from {found.folder}; nothing is trained or compressed",),
        )
    # They load PyTorch, which takes seconds: only once a run has passed all checks, and not to replay one.
    from testbed.experiment import Experiment
    from testbed.work import Workbench

    held = any(fleet.held for cell in scenario.cells() for fleet in cell.scenario.fleets)
    ledger = stack.enter_context(Ledger(state_dir())) if held else None
    checks = quota.check(scenario, ledger)
    doubts = {check.device: check.doubt for check in checks if check.doubt}
    bench = stack.enter_context(Workbench(scenario, ledger=ledger, doubts=doubts))
    payloads = PayloadStore(folder) if keep_payloads else None
    source = bench.dataset.source
    return _Player(
        lambda run, carrier, progress: Experiment(run, bench, carrier, progress, payloads, folder),
        {
            "data": source,
            "data_note": bench.data_note,
            "keep_payloads": keep_payloads,
            "devices": device_record.collect(scenario, checks),
        },
        (f"data: {source}", *([bench.data_note] if bench.data_note else []), *doubts.values()),
    )


def _replay_id(scenario: Scenario, recording: Recording) -> str:
    """Over modelled links a replay is a function of what goes in, and so is its id."""
    if scenario.network.engine == "mininet":
        return secrets.token_hex(4)
    return hashlib.sha256(f"{recording.run} {json.dumps(scenario.to_dict())}".encode()).hexdigest()[:8]


def _progress(scenario: Scenario, mode: Mode, stack: ExitStack) -> Progress:
    cells = scenario.cells()
    total = sum(_weights(cells).values())
    progress = stack.enter_context(Progress(total, steps=len(cells), unit="cell", mode=mode))
    progress.phase("setting up")
    return progress


def _measure(scenario: Scenario, run: str, writer: RowWriter, player: _Player, progress: Progress) -> None:
    cells = scenario.cells()
    weights = _weights(cells)
    with ExitStack() as stack:
        for note in player.notes:
            progress.note(note)
        missing = [cell for cell in cells if cell.index not in writer.done]
        if len(missing) < len(cells):
            skipped = [cell for cell in cells if cell.index in writer.done]
            progress.skip(sum(weights[cell.index] for cell in skipped), steps=len(skipped))
            progress.note(f"going on: {len(cells) - len(missing)} of {len(cells)} cells were done before")
        if not missing:
            return
        if scenario.network.engine == "mininet":
            progress.phase("making links")
        carrier = stack.enter_context(open_carrier(scenario, state_dir()))
        for thing in getattr(getattr(carrier, "network", None), "swept", ()):
            progress.note(f"removed what a dead run left behind: {thing}")
        experiment = player.open(run, carrier, progress)
        progress.begin()
        for cell in missing:
            rows, done = experiment.cell(cell)
            for row in rows:
                writer.write(row)
            writer.end_cell(done)
            progress.rounds(round_lines(rows))
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
