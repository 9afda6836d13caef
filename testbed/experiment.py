"""One cell of a sweep, from the first global model to its rows: all rounds, all clients."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fedsz
from devices.errors import WorkerDiedError
from testbed.carrier import Carrier, Played
from testbed.cells import Cell
from testbed.coding import CodecSettings, compare
from testbed.fidelity import to_notes
from testbed.record import CellDone
from testbed.round import PARTS, ClientOutcome, ClientPlan
from testbed.row import CodecUsed, Row, Source
from testbed.scenario import Scenario
from testbed.work import Model, Timed, Trained, Workbench, settings_of

Tell = Callable[[str], None]


@dataclass
class _Client:
    """What is known of one client's round before a packet flies."""

    name: str
    settings: CodecSettings
    plan: ClientPlan
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
        rows: list[Row] = []
        clock_s = transfer_wall_s = transfer_emulated_s = 0.0
        notes: dict[str, Any] = {"dilation_because": [], "transfers": []}
        for number in range(scenario.learning.rounds):
            asked = self._asked(scenario, seed, number)
            self._tell("working")
            downlink = fedsz.compress(model.state, codec="none")
            clients = [
                self._work(scenario, name, model, downlink, shares[name], seed, number, rng) for name in asked
            ]
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
                rows.append(
                    self._row(cell, number, clock_s, client, outcome, played, model, accuracy, len(downlink))
                )
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
        """The clients of this round, in the scenario's order; a client that drops out is not heard of at all."""
        names = scenario.client_names
        policy = scenario.rounds_policy
        rng = np.random.default_rng(np.random.SeedSequence([seed, number, 1]))
        chosen = sorted(rng.choice(len(names), policy.asked(len(names)), replace=False))
        return [names[index] for index in chosen]

    def _work(
        self,
        scenario: Scenario,
        name: str,
        model: Model,
        downlink: bytes,
        share: np.ndarray,
        seed: int,
        number: int,
        rng: np.random.Generator,
    ) -> _Client:
        fleet = scenario.fleet_of(name)
        settings = settings_of(scenario.compression)
        reference = model if scenario.compression.reference and settings.codec != "none" else None
        position = scenario.client_names.index(name)
        train_seed = int(np.random.SeedSequence([seed, number, 2, position]).generate_state(1)[0])
        client = _Client(name, settings, ClientPlan(name, downlink, b"", 0.0, 0.0, 0.0))
        train_s = 0.0
        try:
            trained: Timed[Trained] = self._bench.train(scenario, fleet, model, share, train_seed, rng)
            train_s = trained.seconds
            coded = self._bench.encode(scenario, fleet, trained.value.model, settings, reference, rng)
        except WorkerDiedError as died:
            client.plan = ClientPlan(name, downlink, b"", train_s, 0.0, 0.0, fails=str(died))
            return client
        client.trained = trained.value
        client.digest = hashlib.sha256(coded.value).hexdigest()
        decoded = self._bench.decode(coded.value, client.digest, settings.codec, reference, model, rng)
        client.decoded = decoded.value
        kept = compare(trained.value.model.state, decoded.value.state, settings.bound)
        client.max_error, client.over_bound = kept.max_error, kept.over_bound
        client.plan = ClientPlan(name, downlink, coded.value, trained.seconds, coded.seconds, decoded.seconds)
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
        downlink_bytes: int,
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
            **{f"{part}_s": outcome.seconds[part] for part in PARTS},  # type: ignore[arg-type]
            round_s=played.outcome.round_s,
            update_bytes=update_bytes,
            payload_bytes=payload_bytes,
            downlink_payload_bytes=downlink_bytes,
            link_bytes=outcome.uplink.flow.wire_bytes if outcome.uplink else None,
            compression_ratio=update_bytes / payload_bytes if payload_bytes else None,
            max_error=client.max_error,
            max_error_over_bound=client.over_bound if lossy else None,
            accuracy=accuracy,
            source={"downlink": moved, "uplink": moved, **client.source},
            values=cell.to_dict()["values"],
        )
