"""One cell of asynchronous training: every update's real work, done at the emulated instant at which it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from testbed.availability import Presence
from testbed.buffer_server import Update, play_buffered
from testbed.carrier import Played, modelled_network
from testbed.cell_log import CellLog
from testbed.client_work import ClientWork
from testbed.clock import ModelledEnvironment
from testbed.errors import NobodyAvailableError, NothingArrivesError
from testbed.participant import ClientPlan
from testbed.round import RoundOutcome
from testbed.scenario import Scenario
from testbed.work import Model, Workbench
from testbed.workshop import Client, Workshop


class BufferedCell:
    """Plays one cell with the rounds policy ``async``; a `testbed.buffer_server.Labour`.

    Over modelled links time is virtual, so a client trains, compresses and is decoded while the clock stands: on
    exactly the model that it has received, and against that model where the scenario codes against a reference.

    Args:
        log: takes the rows.
        tell: called with what is being done, for progress.
    """

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        bench: Workbench,
        workshop: Workshop,
        presence: Presence,
        log: CellLog,
        rng: np.random.Generator,
        tell: Callable[[str], None],
    ) -> None:
        self._scenario, self._bench, self._workshop = scenario, bench, workshop
        self._presence, self._log, self._rng, self._tell = presence, log, rng, tell
        self._choice = np.random.default_rng(np.random.SeedSequence([seed, 4]))
        self._sent: dict[str, tuple[Model, Update]] = {}  # what each client was sent last
        self._clients: dict[int, Client] = {}  # by the identity of the update
        self._ended: list[Update] = []  # since the last model

    def play(self, model: Model) -> None:
        """Play the cell from the first global *model*.

        Raises:
            NobodyAvailableError: models are left to be made, and no client will be there again.
            NothingArrivesError: clients are asked, and nothing ever comes of it.
        """
        self._model = self._next = model
        policy, wanted = self._scenario.rounds_policy, self._scenario.learning.rounds
        with modelled_network(self._scenario) as network:
            made, ended_s = play_buffered(
                ModelledEnvironment(network),
                self,
                self._scenario.client_names,
                buffer=policy.buffer,
                concurrency=policy.concurrency,
                versions=wanted,
            )
        if made < wanted:
            if self._presence.returns_s(self._scenario.client_names, ended_s) == float("inf"):
                raise NobodyAvailableError(ended_s)
            failed = [update for update in self._ended if update.outcome.status == "failed"]
            raise NothingArrivesError(made, wanted, (failed or self._ended)[-1].outcome.reason)
        self._log.close(ended_s, self._rows())

    # --- what the clock asks for ------------------------------------------------------------------------------

    def pick(self, idle: Sequence[str], at_s: float) -> str | None:
        """Any of those that are there, drawn evenly."""
        there = [name for name in idle if self._presence.is_there(name, at_s)]
        return there[int(self._choice.integers(len(there)))] if there else None

    def returns_s(self, idle: Sequence[str], at_s: float) -> float:
        """See `Labour`."""
        return self._presence.returns_s(idle, at_s)

    def begin(self, update: Update) -> ClientPlan:
        """Train, compress and decode, from the newest model."""
        self._tell("working")
        name = update.client
        client = self._workshop.client(name, self._model, self._held_by(name), update.number)
        client.work.leave(self._presence.leaves_after_s(name, update.started_s))
        if not client.sent.fails:
            self._sent[name] = client.sent.model, update
        self._clients[id(update)] = client
        return client.work.plan.sized()

    def _held_by(self, name: str) -> Model | None:
        """What the client still holds: the last model that was sent to it, if all of it arrived."""
        model, update = self._sent.get(name, (None, None))
        arrived = update.outcome.downlink if update is not None else None
        return model if arrived is not None and arrived.ok else None

    def refused(self, update: Update) -> str:
        """See `Labour`."""
        return self._clients[id(update)].work.refused

    def merge(self, updates: Sequence[Update]) -> float:
        """The next model, measured; accuracy is looked at while the clock stands."""
        exponent = self._scenario.rounds_policy.staleness_exponent
        buffer = []
        for update in updates:
            client = self._clients[id(update)]
            assert client.decoded is not None
            assert update.staleness is not None
            buffer.append((client.sent.model, client.decoded, (1.0 + update.staleness) ** -exponent))
        merged = self._bench.merge(self._model, buffer, self._scenario.rounds_policy.server_lr, self._rng)
        self._next = merged.value
        for update in updates:
            self._clients[id(update)].work.source["aggregate"] = merged.source
        self._aggregate_s = merged.seconds
        return merged.seconds

    def publish(self) -> None:
        """The next model is the newest; the rows that ended since the last one are complete."""
        self._model = self._next
        accuracy = None
        if self._scenario.learning.evaluate:
            self._tell("evaluating")
            accuracy = self._bench.accuracy(self._model, self._scenario.learning.test_samples)
        self._log.add_updates(self._rows(), self._aggregate_s, accuracy)

    def ended(self, update: Update) -> None:
        """Take note of the goodput, and keep the row for the model to come."""
        self._workshop.policy.learn(update.client, update.outcome)
        self._ended.append(update)

    def _rows(self) -> list[tuple[ClientWork, Update, Played]]:
        """What ended since the last call; payloads are let go of."""
        rows = []
        for update in self._ended:
            work = self._clients.pop(id(update)).work
            work.plan = work.plan.sized()
            outcome = RoundOutcome(update.round_s, (update.outcome,))
            rows.append((work, update, Played(outcome, 1.0, "modelled links need none", 0.0, {}, [], None)))
        self._ended = []
        return rows
