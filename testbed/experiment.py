"""One cell of a sweep, from the first global model to its rows: all rounds, all clients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import fedsz
from devices.errors import WorkerDiedError
from testbed.carrier import Carrier, Played
from testbed.cells import Cell
from testbed.coding import CodecSettings, compare
from testbed.fidelity import to_notes
from testbed.policy import Policy, settings_of
from testbed.record import CellDone
from testbed.round import PARTS, ClientOutcome, ClientPlan
from testbed.row import CodecUsed, Row, Source
from testbed.scenario import Scenario
from testbed.work import Model, Timed, Trained, Workbench

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Sent:
    """The global model as it goes to one client, and what the client makes of it."""

    payload: bytes
    model: Model
    pack_s: float = 0.0
    unpack_s: float = 0.0


@dataclass
class _Client:
    """What is known of one client's round before a packet flies."""

    name: str
    settings: CodecSettings
    plan: ClientPlan
    sent: _Sent
    reference: bool = False
    trained: Trained | None = None
    decoded: Model | None = None
    digest: str = ""
    max_error: float | None = None
    over_bound: float | None = None
    source: dict[str, Source] = field(default_factory=dict)


class Experiment:
    """Plays cells on one workbench and one engine.

    Args:
        run: id that goes into every row.
        tell: called with what is being done, for progress.
    """

    def __init__(self, run: str, bench: Workbench, carrier: Carrier, tell: Tell = lambda _: None) -> None:
        self._run, self._bench, self._carrier, self._tell = run, bench, carrier, tell
        self._broadcast: tuple[str, bytes] | None = None

    def cell(self, cell: Cell) -> tuple[list[Row], CellDone]:
        """Measure one cell.

        A repeat has its own seed for weights, data split and training, the same in every variant, so that variants of
        one repeat can be compared pair by pair.
        """
        began = time.monotonic()
        scenario = cell.scenario
        seed = int(np.random.SeedSequence([scenario.seed, cell.repeat]).generate_state(1)[0])
        rng = np.random.default_rng(np.random.SeedSequence([scenario.seed, cell.repeat, cell.variant]))
        model = self._bench.initial(seed)
        shares = self._bench.samples_of(scenario, seed)
        policy = Policy(scenario, self._bench)
        held: dict[str, Model] = {}  # what each client of the round before has received
        rows: list[Row] = []
        clock_s = transfer_wall_s = transfer_emulated_s = 0.0
        notes: dict[str, Any] = {"dilation_because": [], "transfers": []}
        for number in range(scenario.learning.rounds):
            asked = self._asked(scenario, seed, number)
            self._tell("working")
            clients = []
            for name in asked:
                sent = self._send(scenario, name, model, held.get(name), rng)
                clients.append(self._work(scenario, name, sent, shares[name], seed, number, policy, rng))
            held = {client.name: client.sent.model for client in clients}
            aggregate = self._bench.average(
                [(c.decoded, c.trained.samples) for c in clients if c.decoded and c.trained], rng
            )
            self._tell("sending")
            played = self._carrier.play(scenario, [c.plan for c in clients], aggregate.seconds)
            arrived = self._arrived(clients, played)
            if arrived:
                model = self._bench.average(arrived, rng).value
            accuracy = None
            if scenario.learning.evaluate:
                self._tell("evaluating")
                accuracy = self._bench.accuracy(model, scenario.learning.test_samples)
            for client, outcome in zip(clients, played.outcome.clients, strict=True):
                client.source["aggregate"] = aggregate.source
                rows.append(self._row(cell, number, clock_s, client, outcome, played, model, accuracy))
                for transfer in (outcome.downlink, outcome.uplink):
                    transfer_emulated_s += transfer.seconds if transfer else 0.0
            clock_s += played.outcome.round_s
            transfer_wall_s += played.transfer_wall_s
            notes["dilation_because"].append(played.because)
            notes["transfers"].extend(to_notes(played.checks))
        done = CellDone(
            cell=cell.index,
            rows=len(rows),
            wall_s=time.monotonic() - began,
            transfer_wall_s=transfer_wall_s,
            transfer_emulated_s=transfer_emulated_s,
            emulated_s=clock_s,
            notes=notes,
        )
        return rows, done

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
            return _Sent(self._raw(model), model)
        fleet = scenario.fleet_of(name)
        settings = settings_of(compression)
        reference = held if compression.reference else None
        coded = self._bench.encode(scenario, None, model, settings, reference, rng)
        digest = hashlib.sha256(coded.value).hexdigest()
        received = self._bench.decode(coded.value, digest, settings.codec, reference, model, rng, fleet)
        return _Sent(coded.value, received.value, coded.seconds, received.seconds)

    def _raw(self, model: Model) -> bytes:
        """The uncompressed payload of the round, one object for all clients: it is laid ready for sending once."""
        if self._broadcast is None or self._broadcast[0] != model.digest:
            self._broadcast = (model.digest, fedsz.compress(model.state, codec="none"))
        return self._broadcast[1]

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
        settings = policy.settings(name, fleet, model, rng)
        reference = model if scenario.compression.reference and settings.codec != "none" else None
        plan = ClientPlan(name, sent.payload, b"", 0.0, 0.0, 0.0, pack_s=sent.pack_s, unpack_s=sent.unpack_s)
        client = _Client(name, settings, plan, sent, reference is not None)
        try:
            trained: Timed[Trained] = self._bench.train(scenario, fleet, model, share, train_seed, rng)
            client.plan = plan = replace(plan, train_s=trained.seconds)
            coded = self._bench.encode(scenario, fleet, trained.value.model, settings, reference, rng)
        except WorkerDiedError as died:
            client.plan = replace(plan, fails=str(died))
            return client
        client.trained = trained.value
        client.digest = hashlib.sha256(coded.value).hexdigest()
        decoded = self._bench.decode(coded.value, client.digest, settings.codec, reference, model, rng)
        client.decoded = decoded.value
        kept = compare(trained.value.model.state, decoded.value.state, settings.bound)
        client.max_error, client.over_bound = kept.max_error, kept.over_bound
        silence = np.random.default_rng(np.random.SeedSequence([seed, number, 3, position])).random(2)
        client.plan = replace(
            plan,
            uplink=coded.value,
            compress_s=coded.seconds,
            decompress_s=decoded.seconds,
            silent_after_s=trained.seconds * silence[1]
            if silence[0] < scenario.rounds_policy.dropout
            else None,
        )
        client.source = {"train": trained.source, "compress": coded.source, "decompress": decoded.source}
        return client

    def _arrived(self, clients: list[_Client], played: Played) -> list[tuple[Model, int]]:
        """What enters the average: updates of which every byte was at the server, and in time."""
        updates = []
        for client, outcome in zip(clients, played.outcome.clients, strict=True):
            if outcome.status != "ok" or client.decoded is None or client.trained is None:
                continue
            if played.arrived is not None and played.arrived[client.name] != client.digest:
                outcome.status, outcome.reason = (
                    "failed",
                    "what arrived is not what was sent (SHA-256 differs)",
                )
                continue
            updates.append((client.decoded, client.trained.samples))
        return updates

    def _row(
        self,
        cell: Cell,
        number: int,
        started_s: float,
        client: _Client,
        outcome: ClientOutcome,
        played: Played,
        model: Model,
        accuracy: float | None,
    ) -> Row:
        scenario = cell.scenario
        fleet = scenario.fleet_of(client.name)
        payload = client.plan.uplink
        payload_bytes = payload if isinstance(payload, int) else len(payload)
        update_bytes = model.nbytes if client.trained is None else client.trained.model.nbytes
        moved: Source = "measured" if self._carrier.engine == "mininet" else "modelled"
        lossy = client.settings.codec != "none"
        because = played.untrusted.get(client.name, "")
        return Row(
            run=self._run,
            cell=cell.index,
            variant=cell.variant,
            repeat=cell.repeat,
            round=number,
            client=client.name,
            fleet=fleet.name,
            device=fleet.device,
            status=outcome.status,
            reason=outcome.reason,
            trusted=not because,
            untrusted_because=because,
            engine=self._carrier.engine,
            dilation=played.dilation,
            uplink_rate_bps=fleet.uplink.rate_bps,
            downlink_rate_bps=fleet.downlink.rate_bps,
            codec=CodecUsed(
                client.settings.codec,
                client.settings.bound.mode if lossy else None,
                client.settings.bound.value if lossy else None,
            ),
            started_s=started_s,
            **{f"{part}_s": outcome.seconds[part] for part in PARTS},
            round_s=played.outcome.round_s,
            update_bytes=update_bytes,
            payload_bytes=payload_bytes,
            downlink_payload_bytes=len(client.sent.payload),
            link_bytes=outcome.uplink.flow.wire_bytes if outcome.uplink else None,
            compression_ratio=update_bytes / payload_bytes if payload_bytes else None,
            max_error=client.max_error,
            max_error_over_bound=client.over_bound if lossy else None,
            accuracy=accuracy,
            source={"downlink": moved, "uplink": moved, **client.source},
            reference=client.reference,
            spans=tuple(outcome.spans),
            values=cell.to_dict()["values"],
        )
