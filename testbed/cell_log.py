"""What a cell has come to: its rows, its clock, and the notes that stay with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from testbed.buffer_server import Update
from testbed.carrier import Played
from testbed.cells import Cell
from testbed.client_work import ClientWork, row_of
from testbed.fidelity import to_notes
from testbed.record import CellDone, Row
from testbed.row import row_from_dict

_Ended = tuple[ClientWork, Update, Played]


class CellLog:
    """Collects the rounds of one cell.

    Args:
        run: id that goes into every row.
        engine: which carried the bytes.
    """

    def __init__(self, run: str, cell: Cell, engine: str) -> None:
        self._run, self._cell, self._engine = run, cell, engine
        self._began = time.monotonic()
        self._wall_before_s = 0.0  # of a run that this one goes on with
        self._transfer_wall_s = self._transfer_emulated_s = 0.0
        self._notes: dict[str, Any] = {
            "dilation_because": [],
            "transfers": [],
            "probes": [],
            "strain": [],
            "work": [],
        }
        self.rows: list[Row] = []
        self.clock_s = 0.0  # emulated: when the next round begins
        self._accuracy: float | None = None  # of the newest model

    def add(
        self, works: Sequence[ClientWork], played: Played, aggregate_s: float, accuracy: float | None
    ) -> None:
        """One more round, in the order of its clients."""
        number = len(self._notes["work"])
        for work, outcome in zip(works, played.outcome.clients, strict=True):
            self.rows.append(
                row_of(
                    self._run, self._cell, number, self.clock_s, work, outcome, played, self._engine, accuracy
                )
            )
            for transfer in (outcome.downlink, outcome.uplink):
                self._transfer_emulated_s += transfer.seconds if transfer else 0.0
        self.clock_s += played.outcome.round_s
        self._transfer_wall_s += played.transfer_wall_s
        self._notes["dilation_because"].append(played.because)
        self._notes["transfers"].extend(to_notes(played.checks))
        self._notes["probes"].extend(asdict(probe) for probe in played.probes)
        if played.strain is not None:
            self._notes["strain"].append({"round": number, **asdict(played.strain)})
        self._notes["work"].append(
            {
                "aggregate_s": aggregate_s,
                "accuracy": accuracy,
                "averaged": [client.client for client in played.outcome.clients if client.status == "ok"],
                "clients": [work.to_note() for work in works],
            }
        )

    def add_updates(self, ended: Sequence[_Ended], aggregate_s: float | None, accuracy: float | None) -> None:
        """The asynchronous updates that ended since the model before, and what making this one took."""
        for work, update, played in ended:
            row = row_of(
                self._run,
                self._cell,
                update.entered,
                update.started_s,
                work,
                update.outcome,
                played,
                self._engine,
                accuracy,
            )
            self.rows.append(replace(row, model_version=update.version, staleness=update.staleness))
            for transfer in (update.outcome.downlink, update.outcome.uplink):
                self._transfer_emulated_s += transfer.seconds if transfer else 0.0
        self._accuracy = accuracy
        self._notes["work"].append(
            {
                "aggregate_s": aggregate_s,
                "accuracy": accuracy,
                "averaged": [update.client for _, update, _ in ended if update.staleness is not None],
                "clients": [work.to_note() for work, _, _ in ended],
            }
        )

    def close(self, ended_s: float, unfinished: Sequence[_Ended]) -> None:
        """Asynchronous training is over at *ended_s*, and what was under way then came to nothing."""
        self.clock_s = ended_s
        if unfinished:
            self.add_updates(unfinished, None, self._accuracy)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, from which `restore` goes on."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "clock_s": self.clock_s,
            "wall_s": self._wall_s,
            "transfer_wall_s": self._transfer_wall_s,
            "transfer_emulated_s": self._transfer_emulated_s,
            "notes": self._notes,
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on where an interrupted run stood. RecordError where *data* is not what `to_dict` gave."""
        self.rows = [row_from_dict(row, "checkpoint") for row in data["rows"]]
        self.clock_s, self._wall_before_s = data["clock_s"], data["wall_s"]
        self._transfer_wall_s, self._transfer_emulated_s = (
            data["transfer_wall_s"],
            data["transfer_emulated_s"],
        )
        self._notes = {**self._notes, **data["notes"]}

    @property
    def _wall_s(self) -> float:
        return self._wall_before_s + time.monotonic() - self._began

    def done(self) -> CellDone:
        """The cell is complete."""
        return CellDone(
            cell=self._cell.index,
            rows=len(self.rows),
            wall_s=self._wall_s,
            transfer_wall_s=self._transfer_wall_s,
            transfer_emulated_s=self._transfer_emulated_s,
            emulated_s=self.clock_s,
            notes=self._notes,
        )
