"""One cell of a sweep, from the first global model to its rows: all rounds, all clients."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from testbed.availability import Presence
from testbed.buffered import BufferedCell
from testbed.carrier import Carrier, Played
from testbed.cell_log import CellLog
from testbed.cells import Cell
from testbed.checkpoints import CellCheckpoint
from testbed.client_work import ClientWork, refuse_damaged
from testbed.payloads import PayloadStore
from testbed.record import CellDone
from testbed.row import Row
from testbed.scenario import Scenario
from testbed.work import Model, Timed, Workbench
from testbed.workshop import Client, Workshop


class Watcher(Protocol):
    """Who is told what is being done; `testbed.progress.Progress` is one."""

    def phase(self, name: str, total: float | None = None) -> None: ...

    def advance(self) -> None: ...

    def note(self, text: str) -> None: ...


class _Nobody:
    def phase(self, name: str, total: float | None = None) -> None:
        pass

    def advance(self) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Experiment:
    """Plays cells on one workbench and one engine.

    Args:
        run: id that goes into every row.
        watcher: told what is being done, for progress.
        payloads: keeps every payload, for replays over real links; None keeps none.
        results: the run's folder, where checkpoints go.
    """

    def __init__(
        self,
        run: str,
        bench: Workbench,
        carrier: Carrier,
        watcher: Watcher | None = None,
        payloads: PayloadStore | None = None,
        results: Path | None = None,
    ) -> None:
        self._run, self._bench, self._carrier = run, bench, carrier
        self._watcher = watcher if watcher is not None else _Nobody()
        self._payloads, self._results = payloads, results

    def cell(self, cell: Cell) -> tuple[list[Row], CellDone]:
        """Measure one cell.

        A repeat has its own seed for weights, data split and training, the same in every variant, so that variants of
        one repeat can be compared pair by pair.

        Raises: NobodyAvailableError where rounds are left and no client will be there again.
        """
        scenario = cell.scenario
        seed = int(np.random.SeedSequence([scenario.seed, cell.repeat]).generate_state(1)[0])
        rng = np.random.default_rng(np.random.SeedSequence([scenario.seed, cell.repeat, cell.variant]))
        model = self._bench.initial(seed)
        workshop = Workshop(scenario, seed, self._bench, rng)
        presence = Presence(scenario, seed)
        log = CellLog(self._run, cell, self._carrier.engine)
        if scenario.rounds_policy.kind == "async":
            BufferedCell(scenario, seed, self._bench, workshop, presence, log, rng, self._watcher.phase).play(
                model
            )
        else:
            self._rounds(cell, seed, model, workshop, presence, log, rng)
        return log.rows, log.done()

    def _rounds(
        self,
        cell: Cell,
        seed: int,
        model: Model,
        workshop: Workshop,
        presence: Presence,
        log: CellLog,
        rng: np.random.Generator,
    ) -> None:
        scenario = cell.scenario
        held: dict[str, Model] = {}  # what each client of the round before has received
        first, checkpoint = 0, None
        if scenario.learning.checkpoint and self._results is not None:
            checkpoint = CellCheckpoint(self._results, self._run, cell)
            if kept := checkpoint.resume(log, workshop.policy, rng):
                first, model, held = kept
                rounds = f"{first} of {scenario.learning.rounds} rounds"
                self._watcher.note(f"going on: cell {cell.index} after {rounds}, from {checkpoint.path}")
        for number in range(first, scenario.learning.rounds):
            log.clock_s = presence.somebody_s(log.clock_s)
            asked = _asked(scenario, seed, number, presence.there(log.clock_s))
            self._watcher.phase("clients at work", len(asked))
            clients = []
            for name in asked:
                client = workshop.client(name, model, held.get(name), number)
                client.work.leave(presence.leaves_after_s(name, log.clock_s))
                clients.append(client)
                self._watcher.advance()
            usable = [(c.decoded, c.work.samples) for c in clients if c.decoded]
            # Where every client failed there is nothing to average, and the model stays what it is.
            aggregate = self._bench.average(usable, rng) if usable else Timed(model, 0.0, "measured")
            self._watcher.phase("sending")
            works = [client.work for client in clients]
            for work in works:
                work.source["aggregate"] = aggregate.source
            self._keep(works)
            played = self._carrier.play(scenario, [w.plan for w in works], aggregate.seconds, log.clock_s)
            held = _held(clients, played)
            arrived = self._arrived(clients, played)
            if arrived:
                model = self._bench.average(arrived, rng).value
            accuracy = None
            if scenario.learning.evaluate:
                self._watcher.phase("evaluating")
                accuracy = self._bench.accuracy(model, scenario.learning.test_samples)
            log.add(works, played, aggregate.seconds, accuracy)
            for client, outcome in zip(clients, played.outcome.clients, strict=True):
                workshop.policy.learn(client.name, outcome)
            if checkpoint is not None:
                against = scenario.compression.downlink and scenario.compression.reference
                checkpoint.keep(number, model, held if against else {}, log, workshop.policy, rng)

    def _keep(self, works: list[ClientWork]) -> None:
        if self._payloads is not None:
            for work in works:
                for payload, digest in (
                    (work.plan.downlink, work.downlink_digest),
                    (work.plan.uplink, work.uplink_digest),
                ):
                    if payload and isinstance(payload, bytes):
                        self._payloads.keep(payload, digest)

    @staticmethod
    def _arrived(clients: list[Client], played: Played) -> list[tuple[Model, int]]:
        """What enters the average: updates of which every byte was at the server, and in time."""
        updates = []
        for client, outcome in zip(clients, played.outcome.clients, strict=True):
            refuse_damaged(client.work, outcome, played)
            if outcome.status == "ok" and client.decoded is not None:
                updates.append((client.decoded, client.work.samples))
        return updates


def _held(clients: list[Client], played: Played) -> dict[str, Model]:
    """What each client holds after the round: the model, where all of it arrived and the client could read it."""
    return {
        client.name: client.sent.model
        for client, outcome in zip(clients, played.outcome.clients, strict=True)
        if not client.sent.fails and outcome.downlink is not None and outcome.downlink.ok
    }


def _asked(scenario: Scenario, seed: int, number: int, there: list[str]) -> list[str]:
    """The clients that are asked in this round, of those that are there, in the scenario's order."""
    wanted = min(scenario.rounds_policy.asked(len(scenario.client_names)), len(there))
    rng = np.random.default_rng(np.random.SeedSequence([seed, number, 1]))
    return [there[index] for index in sorted(rng.choice(len(there), wanted, replace=False))]
