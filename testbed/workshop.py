"""What the clients of one cell do: each round's real work of one client, done and measured before it is played."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

import fedsz
from devices.errors import WorkerDiedError
from testbed.client_work import ClientWork
from testbed.coding import CodecSettings
from testbed.participant import ClientPlan
from testbed.policy import Policy, settings_of
from testbed.row import CodecUsed
from testbed.scenario import Scenario
from testbed.work import Model, Timed, Trained, Workbench


@dataclass(frozen=True)
class Sent:
    """The global model as it goes to one client, and what the client makes of it.

    Attributes:
        fails: why the client could make nothing of it; empty where it could.
        reference: whether it was coded against a model that the client still held.
    """

    payload: bytes
    digest: str
    model: Model
    pack_s: float = 0.0
    unpack_s: float = 0.0
    fails: str = ""
    reference: bool = False


@dataclass
class Client:
    """What is known of one client's round before a packet flies, and what it makes of the model."""

    work: ClientWork
    sent: Sent
    trained: Trained | None = None
    decoded: Model | None = None

    @property
    def name(self) -> str:
        return self.work.plan.client


class Workshop:
    """Does the work of one cell's clients.

    Args:
        seed: of the repeat; decides data split, training and who falls silent or crashes.
        rng: draws durations.
    """

    def __init__(self, scenario: Scenario, seed: int, bench: Workbench, rng: np.random.Generator) -> None:
        self._scenario, self._seed, self._bench, self._rng = scenario, seed, bench, rng
        self._shares = bench.samples_of(scenario, seed)
        self._positions = {name: position for position, name in enumerate(scenario.client_names)}
        self._raw: tuple[str, bytes, str] | None = None
        self.policy = Policy(scenario, bench)

    def client(self, name: str, model: Model, held: Model | None, number: int) -> Client:
        """One client's round from *model*: what is sent to it, what it trains and what it sends back.

        Args:
            held: the model that the client still holds from before, where the server knows it.
            number: of the round, or how many rounds this client has had; it decides what is drawn.
        """
        return self._work(name, self._send(name, model, held), number)

    def _send(self, name: str, model: Model, held: Model | None) -> Sent:
        """What the server sends to one client; against the model that the client still holds, where it holds one."""
        scenario, compression = self._scenario, self._scenario.compression
        if not compression.downlink or compression.policy == "never" or compression.codec == "none":
            return Sent(*self._uncompressed(model), model)
        fleet = scenario.fleet_of(name)
        settings = settings_of(compression)
        reference = held if compression.reference else None
        against = reference is not None
        coded = self._bench.encode(scenario, None, model, settings, reference, self._rng)
        digest = hashlib.sha256(coded.value).hexdigest()
        try:
            received = self._bench.decode(
                coded.value, digest, settings.codec, reference, model, self._rng, fleet
            )
        except WorkerDiedError as died:
            return Sent(coded.value, digest, model, coded.seconds, fails=str(died), reference=against)
        return Sent(coded.value, digest, received.value, coded.seconds, received.seconds, reference=against)

    def _uncompressed(self, model: Model) -> tuple[bytes, str]:
        """The uncompressed payload and its SHA-256, one object for all: it is laid ready only once."""
        if self._raw is None or self._raw[0] != model.digest:
            payload = fedsz.compress(model.state, codec="none")
            self._raw = (model.digest, payload, hashlib.sha256(payload).hexdigest())
        return self._raw[1:]

    def _work(self, name: str, sent: Sent, number: int) -> Client:
        scenario, rng = self._scenario, self._rng
        fleet, model = scenario.fleet_of(name), sent.model
        position = self._positions[name]
        train_seed = int(np.random.SeedSequence([self._seed, number, 2, position]).generate_state(1)[0])
        fails = sent.fails
        settings = settings_of(scenario.compression)
        if not fails:
            try:
                settings = self.policy.settings(name, fleet, model, rng)
            except WorkerDiedError as died:
                fails = str(died)
        reference = model if scenario.compression.reference and settings.codec != "none" else None
        plan = ClientPlan(name, sent.payload, b"", 0.0, 0.0, 0.0, pack_s=sent.pack_s, unpack_s=sent.unpack_s)
        work = ClientWork(
            plan,
            _used(settings),
            update_bytes=model.nbytes,
            downlink_digest=sent.digest,
            reference=reference is not None,
            downlink_reference=sent.reference,
            doubt=self._bench.doubt(fleet),
        )
        client = Client(work, sent)
        if fails:
            work.plan = replace(plan, fails=fails)
            return client
        try:
            trained: Timed[Trained] = self._bench.train(
                scenario, fleet, model, self._shares[name], train_seed, rng
            )
            work.plan = plan = replace(plan, train_s=trained.seconds)
            self.policy.trained(name, trained.value.model, model)
            coded = self._bench.encode(scenario, fleet, trained.value.model, settings, reference, rng)
        except WorkerDiedError as died:
            work.plan = replace(plan, fails=str(died))
            return client
        client.trained = trained.value
        work.uplink_digest = hashlib.sha256(coded.value).hexdigest()
        work.update_bytes = trained.value.model.nbytes
        work.samples = trained.value.samples
        work.source.update(train=trained.source, compress=coded.source)
        work.plan = self._mishaps(
            replace(plan, uplink=coded.value, compress_s=coded.seconds), number, position
        )
        self._receive(client, coded.value, settings, reference)
        return client

    def _receive(
        self, client: Client, payload: bytes, settings: CodecSettings, reference: Model | None
    ) -> None:
        """What the server will make of *payload*, should it arrive."""
        work, like = client.work, client.sent.model
        assert client.trained is not None
        try:
            decoded = self._bench.decode(
                payload, work.uplink_digest, settings.codec, reference, like, self._rng
            )
        except (fedsz.FedSZError, WorkerDiedError) as why:
            # Its bytes travel all the same. What a client sends costs the server one update, never the round.
            work.refused = f"the server cannot decode it: {why}"
            return
        work.plan = replace(work.plan, decompress_s=decoded.seconds)
        work.source["decompress"] = decoded.source
        work.refused = _other_form(decoded.value, like)
        if work.refused:
            return
        client.decoded = decoded.value
        work.saw(self._bench.fidelity(like, client.trained.model, decoded.value, settings))

    def _mishaps(self, plan: ClientPlan, number: int, position: int) -> ClientPlan:
        """*plan*, or how it comes to an early end: silence while training, or a crash while sending."""
        policy = self._scenario.rounds_policy
        draws = np.random.default_rng(np.random.SeedSequence([self._seed, number, 3, position])).random(4)
        if draws[0] < policy.dropout:
            plan = replace(plan, silent_after_s=plan.train_s * float(draws[1]))
        assert isinstance(plan.uplink, bytes)
        if draws[2] < policy.crash:
            share = float(draws[3]) if policy.crash_at is None else policy.crash_at
            most = len(plan.uplink) - 1
            plan = replace(plan, crash_after_bytes=min(max(round(share * len(plan.uplink)), 1), most))
        return plan


def _used(settings: CodecSettings) -> CodecUsed:
    if settings.codec == "none":
        return CodecUsed("none")
    return CodecUsed(settings.codec, settings.bound.mode, settings.bound.value)


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
