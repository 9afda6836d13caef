"""Earlier work over another network: the rounds of a run played again without training or compressing anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from testbed.carrier import Carrier
from testbed.cell_log import CellLog
from testbed.cells import Cell
from testbed.client_work import WORK_PARTS, ClientWork, refuse_damaged
from testbed.errors import RecordError
from testbed.payloads import PayloadStore
from testbed.record import CellDone, Row, read_results
from testbed.row import Source
from testbed.scenario import Scenario, loads

# What of a scenario decides nothing about the work of its clients, unless the links decide, too (`_bound_to_links`).
_NETWORK = ("name", "description", "network", "sweep")
_POLICY = ("deadline", "take")
_LEARNING = ("evaluate", "data_dir", "checkpoint")


@dataclass(frozen=True)
class RecordedRound:
    """The work of one round.

    Attributes:
        averaged: clients whose updates entered the average.
    """

    aggregate_s: float
    accuracy: float | None
    averaged: tuple[str, ...]
    clients: tuple[ClientWork, ...]


@dataclass(frozen=True)
class _RecordedCell:
    values: Mapping[str, str]
    rounds: tuple[RecordedRound, ...]


class Recording:
    """The work that a run has measured, by what decides it.

    Raises: RecordError, as `read_results`, and where the folder holds no work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.payloads = PayloadStore(folder)
        try:
            results = read_results(folder)
            scenario = loads(json.dumps(results.manifest["scenario"]), str(folder / "run.json"))
        except (OSError, KeyError, ValueError) as error:
            raise RecordError(str(folder), f"holds no run to replay ({error})") from error
        self.run: str = results.manifest["run"]
        cells = {cell.index: cell for cell in scenario.cells()}
        self._cells: dict[str, list[_RecordedCell]] = {}
        for done in results.cells:
            cell = cells[done.cell]
            found = _RecordedCell(cell.to_dict()["values"], _rounds(done, folder))
            self._cells.setdefault(_key(cell), []).append(found)

    def rounds(self, cell: Cell) -> tuple[RecordedRound, ...]:
        """The recorded work of a cell that is like *cell* in all that decides work; the likest in the rest.

        Raises: RecordError where there is none.
        """
        alike = self._cells.get(_key(cell))
        if not alike:
            why = "replay changes the network, links, deadline and take, nothing else"
            if _bound_to_links(cell.scenario):
                why = f"{_bound_to_links(cell.scenario)}, so that only deadline and take may change"
            where = f"cell {cell.index} ({cell.label})" if cell.label else f"cell {cell.index}"
            raise RecordError(str(self.folder), f"{where} has other work than any recorded one; {why}")
        values = cell.to_dict()["values"]
        return max(
            alike, key=lambda found: sum(values.get(axis) == value for axis, value in found.values.items())
        ).rounds

    def require(self, scenario: Scenario) -> None:
        """Raise RecordError where a cell of *scenario* cannot be replayed from this run; before anything starts."""
        for cell in scenario.cells():
            if cell.scenario.rounds_policy.kind == "async":
                raise RecordError(
                    str(self.folder),
                    "asynchronous training is not replayed: whose upload was there first decides which model is "
                    "trained on, so another network would mean other work",
                )
            self.rounds(cell)
        if scenario.network.engine == "mininet" and not self.payloads.exists:
            raise RecordError(
                str(self.folder),
                "kept no payloads, and real links carry real bytes: replay over modelled links (--engine model), "
                "or record the run anew with --keep-payloads",
            )


class Replay:
    """Plays cells from a recording over one engine.

    Deterministic: over modelled links the same recording and scenario give the same rows, bit for bit.
    """

    def __init__(self, run: str, recording: Recording, carrier: Carrier) -> None:
        self._run, self._recording, self._carrier = run, recording, carrier

    def cell(self, cell: Cell) -> tuple[list[Row], CellDone]:
        """Play one cell.

        Work and sizes are those recorded. Where the new network lets other clients into an average than the recorded
        one did, the model would have been another from then on: no accuracy is given.
        """
        log = CellLog(self._run, cell, self._carrier.engine)
        same_model = True
        for recorded in self._recording.rounds(cell):
            read: dict[str, bytes] = {}  # one object for all clients that are sent the same
            works = [self._replayed(work, read) for work in recorded.clients]
            played = self._carrier.play(
                cell.scenario, [work.plan for work in works], recorded.aggregate_s, log.clock_s
            )
            for work, outcome in zip(works, played.outcome.clients, strict=True):
                refuse_damaged(work, outcome, played)
            averaged = tuple(client.client for client in played.outcome.clients if client.status == "ok")
            same_model = same_model and averaged == recorded.averaged
            log.add(works, played, recorded.aggregate_s, recorded.accuracy if same_model else None)
        return log.rows, log.done()

    def _replayed(self, work: ClientWork, read: dict[str, bytes]) -> ClientWork:
        plan = work.plan
        if self._carrier.engine == "mininet":
            for digest in (work.downlink_digest, work.uplink_digest):
                if digest and digest not in read:
                    read[digest] = self._recording.payloads.read(digest)
            plan = replace(
                plan, downlink=read[work.downlink_digest], uplink=read.get(work.uplink_digest, b"")
            )
        source: dict[str, Source] = {part: "replayed" for part in WORK_PARTS if part in work.source}
        return replace(work, plan=plan, source=source)


def _rounds(done: CellDone, folder: Path) -> tuple[RecordedRound, ...]:
    try:
        return tuple(
            RecordedRound(
                note["aggregate_s"],
                note["accuracy"],
                tuple(note["averaged"]),
                tuple(ClientWork.from_note(client) for client in note["clients"]),
            )
            for note in done.notes["work"]
        )
    except (KeyError, TypeError) as error:
        raise RecordError(
            str(folder), f"cell {done.cell} keeps no work ({error}); it was recorded by an earlier build"
        ) from error


def _bound_to_links(scenario: Scenario) -> str:
    """Why other links would mean other work; empty where they would not."""
    if scenario.compression.policy == "auto":
        return "the policy 'auto' decides by the links"
    if any(fleet.availability for fleet in scenario.fleets):
        return "who is available hangs on how long the rounds before took"
    return ""


def _key(cell: Cell) -> str:
    """Equal for cells whose clients do the same work."""
    data: dict[str, Any] = cell.scenario.to_dict()
    network = data["network"] if _bound_to_links(cell.scenario) else None
    del data["network"]["dilation"], data["network"]["timeout"]
    for name in _NETWORK:
        del data[name]
    for name in _POLICY:
        del data["rounds_policy"][name]
    for name in _LEARNING:
        del data["learning"][name]
    del data["devices"]["doubt"]
    for fleet in data["fleets"]:
        del fleet["radio"]
    if network is None:
        for fleet in data["fleets"]:
            del fleet["uplink"], fleet["downlink"]
    return json.dumps([cell.repeat, network, data], sort_keys=True)
