"""One cell of a sweep, from the first global model to its rows: all rounds, all clients."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import fedsz
from devices.errors import WorkerDiedError
from testbed.carrier import Carrier, Played
from testbed.cell_log import CellLog
from testbed.cells import Cell
from testbed.client_work import ClientWork, refuse_damaged
from testbed.coding import compare
from testbed.payloads import PayloadStore
from testbed.policy import Policy, settings_of
from testbed.record import CellDone
from testbed.round import ClientPlan
from testbed.row import CodecUsed, Row
from testbed.scenario import Scenario
from testbed.work import Model, Timed, Trained, Workbench

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Sent:
    """The global model as it goes to one client, and what the client makes of it.

    Attributes:
        fails: why the client could make nothing of it; empty where it could.
    """

    payload: bytes
    digest: str
    model: Model
    pack_s: float = 0.0
    unpack_s: float = 0.0
    fails: str = ""


@dataclass
class _Client:
    """What is known of one client's round before a packet flies, and what it makes of the model."""

    work: ClientWork
    sent: _Sent
    trained: Trained | None = None
    decoded: Model | None = None

    @property
    def name(self) -> str:
        return self.work.plan.client


class Experiment:
    """Plays cells on one workbench and one engine.

    Args:
        run: id that goes into every row.
        tell: called with what is being done, for progress.
        payloads: keeps every payload, for replays over real links; None keeps none.
    """

    def __init__(
        self,
        run: str,
        bench: Workbench,
        carrier: Carrier,
        tell: Tell = lambda _: None,
        payloads: PayloadStore | None = None,
    ) -> None:
        self._run, self._bench, self._carrier, self._tell = run, bench, carrier, tell
        self._payloads = payloads
        self._broadcast: tuple[str, bytes, str] | None = None

    def cell(self, cell: Cell) -> tuple[list[Row], CellDone]:
        """Measure one cell.

        A repeat has its own seed for weights, data split and training, the same in every variant, so that variants of
        one repeat can be compared pair by pair.
        """
        scenario = cell.scenario
        seed = int(np.random.SeedSequence([scenario.seed, cell.repeat]).generate_state(1)[0])
        rng = np.random.default_rng(np.random.SeedSequence([scenario.seed, cell.repeat, cell.variant]))
        model = self._bench.initial(seed)
        shares = self._bench.samples_of(scenario, seed)
        policy = Policy(scenario, self._bench)
        held: dict[str, Model] = {}  # what each client of the round before has received
        log = CellLog(self._run, cell, self._carrier.engine)
        for number in range(scenario.learning.rounds):
            asked = self._asked(scenario, seed, number)
            self._tell("working")
            clients = []
            for name in asked:
                sent = self._send(scenario, name, model, held.get(name), rng)
                clients.append(self._work(scenario, name, sent, shares[name], seed, number, policy, rng))
            held = {client.name: client.sent.model for client in clients if not client.sent.fails}
            usable = [(c.decoded, c.work.samples) for c in clients if c.decoded]
            # Where every client failed there is nothing to average, and the model stays what it is.
            aggregate = self._bench.average(usable, rng) if usable else Timed(model, 0.0, "measured")
            self._tell("sending")
            works = [client.work for client in clients]
            for work in works:
                work.source["aggregate"] = aggregate.source
            self._keep(works)
            played = self._carrier.play(scenario, [w.plan for w in works], aggregate.seconds, log.clock_s)
            arrived = self._arrived(clients, played)
            if arrived:
                model = self._bench.average(arrived, rng).value
            accuracy = None
            if scenario.learning.evaluate:
                self._tell("evaluating")
                accuracy = self._bench.accuracy(model, scenario.learning.test_samples)
            log.add(works, played, aggregate.seconds, accuracy)
            for client, outcome in zip(clients, played.outcome.clients, strict=True):
                policy.learn(client.name, outcome)
        return log.rows, log.done()

    def _keep(self, works: list[ClientWork]) -> None:
        if self._payloads is not None:
            for work in works:
                for payload, digest in (
                    (work.plan.downlink, work.downlink_digest),
                    (work.plan.uplink, work.uplink_digest),
                ):
                    if payload and isinstance(payload, bytes):
                        self._payloads.keep(payload, digest)

    def _asked(self, scenario: Scenario, seed: int, number: int) -> list[str]:
        """The clients that are asked in this round, in the scenario's order."""
        names = scenario.client_names
        policy = scenario.rounds_policy
        rng = np.random.default_rng(np.random.SeedSequence([seed, number, 1]))
        chosen = sorted(rng.choice(len(names), policy.asked(len(names)), replace=False))
        return [names[index] for index in chosen]

    def _send(
        self, scenario: Scenario, name: str, model: Model, held: Model | None, rng: np.random.Generator
    ) -> _Sent:
        """What the server sends to one client; against the model that the client still holds, where it holds one."""
        compression = scenario.compression
        if not compression.downlink or compression.policy == "never" or compression.codec == "none":
            return _Sent(*self._raw(model), model)
        fleet = scenario.fleet_of(name)
        settings = settings_of(compression)
        reference = held if compression.reference else None
        coded = self._bench.encode(scenario, None, model, settings, reference, rng)
        digest = hashlib.sha256(coded.value).hexdigest()
        try:
            received = self._bench.decode(coded.value, digest, settings.codec, reference, model, rng, fleet)
        except WorkerDiedError as died:
            return _Sent(coded.value, digest, model, coded.seconds, fails=str(died))
        return _Sent(coded.value, digest, received.value, coded.seconds, received.seconds)

    def _raw(self, model: Model) -> tuple[bytes, str]:
        """The uncompressed payload of the round and its SHA-256, one object for all: it is laid ready only once."""
        if self._broadcast is None or self._broadcast[0] != model.digest:
            payload = fedsz.compress(model.state, codec="none")
            self._broadcast = (model.digest, payload, hashlib.sha256(payload).hexdigest())
        return self._broadcast[1:]

    def _work(
        self,
        scenario: Scenario,
        name: str,
        sent: _Sent,
        share: np.ndarray,
        seed: int,
        number: int,
        policy: Policy,
        rng: np.random.Generator,
    ) -> _Client:
        fleet, model = scenario.fleet_of(name), sent.model
        position = scenario.client_names.index(name)
        train_seed = int(np.random.SeedSequence([seed, number, 2, position]).generate_state(1)[0])
        fails = sent.fails
        settings = settings_of(scenario.compression)
        if not fails:
            try:
                settings = policy.settings(name, fleet, model, rng)
            except WorkerDiedError as died:
                fails = str(died)
        reference = model if scenario.compression.reference and settings.codec != "none" else None
        plan = ClientPlan(name, sent.payload, b"", 0.0, 0.0, 0.0, pack_s=sent.pack_s, unpack_s=sent.unpack_s)
        lossy = settings.codec != "none"
        work = ClientWork(
            plan,
            CodecUsed(
                settings.codec,
                settings.bound.mode if lossy else None,
                settings.bound.value if lossy else None,
            ),
            update_bytes=model.nbytes,
            downlink_digest=sent.digest,
            reference=reference is not None,
            doubt=self._bench.doubt(fleet),
        )
        client = _Client(work, sent)
        if fails:
            work.plan = replace(plan, fails=fails)
            return client
        try:
            trained: Timed[Trained] = self._bench.train(scenario, fleet, model, share, train_seed, rng)
            work.plan = plan = replace(plan, train_s=trained.seconds)
            coded = self._bench.encode(scenario, fleet, trained.value.model, settings, reference, rng)
        except WorkerDiedError as died:
            work.plan = replace(plan, fails=str(died))
            return client
        client.trained = trained.value
        work.uplink_digest = hashlib.sha256(coded.value).hexdigest()
        decoded_s = 0.0
        digest = work.uplink_digest
        try:
            decoded = self._bench.decode(coded.value, digest, settings.codec, reference, model, rng)
        except (fedsz.FedSZError, WorkerDiedError) as why:
            # Its bytes travel all the same. What a client sends costs the server one update, never the round.
            work.refused = f"the server cannot decode it: {why}"
        else:
            work.refused = _other_form(decoded.value, model)
            decoded_s = decoded.seconds
            work.source["decompress"] = decoded.source
        if not work.refused:
            client.decoded = decoded.value
            kept = compare(trained.value.model.state, decoded.value.state, settings.bound)
            work.max_error = kept.max_error
            work.max_error_over_bound = kept.over_bound if lossy else None
        work.update_bytes = trained.value.model.nbytes
        work.samples = trained.value.samples
        silence = np.random.default_rng(np.random.SeedSequence([seed, number, 3, position])).random(2)
        work.plan = replace(
            plan,
            uplink=coded.value,
            compress_s=coded.seconds,
            decompress_s=decoded_s,
            silent_after_s=trained.seconds * silence[1]
            if silence[0] < scenario.rounds_policy.dropout
            else None,
        )
        work.source.update(train=trained.source, compress=coded.source)
        return client

    @staticmethod
    def _arrived(clients: list[_Client], played: Played) -> list[tuple[Model, int]]:
        """What enters the average: updates of which every byte was at the server, and in time."""
        updates = []
        for client, outcome in zip(clients, played.outcome.clients, strict=True):
            refuse_damaged(client.work, outcome, played)
            if outcome.status == "ok" and client.decoded is not None:
                updates.append((client.decoded, client.work.samples))
        return updates


def _other_form(update: Model, model: Model) -> str:
    """Why *update* cannot be averaged with states of *model*'s form; empty where it can."""
    odd = sorted(update.state.keys() ^ model.state.keys())
    if odd:
        return f"its tensors are not the model's: {', '.join(odd[:5])}"
    for name, like in model.state.items():
        found, wanted = np.asarray(update.state[name]), np.asarray(like)
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            got, like_it = f"{found.dtype}{list(found.shape)}", f"{wanted.dtype}{list(wanted.shape)}"
            return f"tensor {name} is {got}; the model's is {like_it}"
    return ""
