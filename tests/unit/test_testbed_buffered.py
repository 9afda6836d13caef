"""Asynchronous training: who trains on which model, how stale it is, and how it enters the next one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_testbed_clock import ScriptedModel
from testbed_bench import Speed, SteadyBench

from testbed.buffer_server import Update, play_buffered
from testbed.carrier import ModelCarrier
from testbed.clock import ModelledEnvironment
from testbed.errors import NobodyAvailableError, NothingArrivesError, ScenarioErrors
from testbed.experiment import Experiment
from testbed.learning.buffered import fedbuff
from testbed.learning.errors import AggregationError
from testbed.participant import ClientPlan
from testbed.row import Row
from testbed.scenario import Scenario, loads
from testbed.work import Model, Timed


class Clockwork:
    """Work of fixed length: on a link of a second a byte, 1 s down, training, 1 s up, nothing else."""

    def __init__(
        self, train_s: dict[str, float], *, merge_s: float = 0.0, silent: tuple[str, ...] = ()
    ) -> None:
        self.train_s, self.merge_s, self.silent = train_s, merge_s, silent
        self.order: list[str] = []
        self.ended_updates: list[Update] = []
        self.models: list[list[tuple[str, int]]] = []

    def pick(self, idle: Sequence[str], at_s: float) -> str | None:
        self.order.append(idle[0])
        return idle[0]

    def returns_s(self, idle: Sequence[str], at_s: float) -> float:
        return at_s

    def begin(self, update: Update) -> ClientPlan:
        train_s = self.train_s[update.client]
        silent_after_s = train_s / 2 if update.client in self.silent else None
        return ClientPlan(update.client, b"d", b"u", train_s, 0.0, 0.0, silent_after_s=silent_after_s)

    def refused(self, update: Update) -> str:
        return ""

    def merge(self, updates: Sequence[Update]) -> float:
        self.models.append([(update.client, update.staleness or 0) for update in updates])
        return self.merge_s

    def publish(self) -> None:
        pass

    def ended(self, update: Update) -> None:
        self.ended_updates.append(update)


def play(labour: Clockwork, **settings: Any) -> tuple[int, float]:
    clients = list(labour.train_s)
    return play_buffered(ModelledEnvironment(ScriptedModel()), labour, clients, **settings)


def test_a_slow_client_is_as_stale_as_the_models_made_meanwhile() -> None:
    labour = Clockwork({"fast": 1.0, "slow": 8.0})
    made, ended_s = play(labour, buffer=1, concurrency=2, versions=4)
    assert (made, ended_s) == (4, 10.0)  # fast needs 3 s a turn, slow 10 s
    assert labour.models == [[("fast", 0)], [("fast", 0)], [("fast", 0)], [("slow", 3)]]


def test_a_buffer_waits_until_it_is_full_and_a_client_may_stand_in_it_twice() -> None:
    labour = Clockwork({"fast": 1.0, "slow": 20.0})
    made, ended_s = play(labour, buffer=2, concurrency=2, versions=2)
    assert (made, ended_s) == (2, 12.0)
    assert labour.models == [[("fast", 0), ("fast", 0)]] * 2
    first, second, *_ = labour.ended_updates
    assert first.outcome.seconds["wait"] == 3.0
    assert second.outcome.seconds["wait"] == 0.0


def test_no_more_than_the_concurrency_are_at_work() -> None:
    labour = Clockwork(dict.fromkeys(["a", "b", "c", "d"], 1.0))
    play(labour, buffer=2, concurrency=2, versions=3)
    spans = [(u.started_s, u.started_s + u.outcome.seconds["downlink"] + u.outcome.seconds["train"]
              + u.outcome.seconds["uplink"]) for u in labour.ended_updates]  # fmt: skip
    for instant in {start for start, _ in spans}:
        assert sum(start <= instant < end for start, end in spans) <= 2


def test_parts_add_up_for_updates_that_entered_and_for_those_that_were_lost() -> None:
    labour = Clockwork({"fast": 1.0, "mute": 4.0, "slow": 50.0}, merge_s=0.25, silent=("mute",))
    play(labour, buffer=2, concurrency=3, versions=3)
    assert {update.outcome.status for update in labour.ended_updates} == {"ok", "dropped"}
    for update in labour.ended_updates:
        assert sum(update.outcome.seconds.values()) == pytest.approx(update.round_s, abs=1e-12)
        assert all(0 <= start < end <= update.round_s for _, start, end in update.outcome.spans)
    lost = next(update for update in labour.ended_updates if update.client == "mute")
    assert (lost.outcome.reason, lost.round_s) == ("fell silent while training", 3.0)


def test_clients_are_given_the_old_model_until_the_new_one_is_made() -> None:
    labour = Clockwork({"a": 1.0, "b": 1.0, "mute": 3.0}, merge_s=1.0, silent=("mute",))
    play(labour, buffer=2, concurrency=3, versions=2)
    asked = {(u.client, u.number): (u.started_s, u.version) for u in labour.ended_updates}
    # a and b fill the buffer at 3 s, the model stands at 4 s. a was free at 3 s, b is with the model; mute at 2.5 s.
    assert asked["a", 1] == (3.0, 0)
    assert asked["mute", 1] == (2.5, 0)
    assert asked["b", 1] == (4.0, 1)


# --- the next model ---------------------------------------------------------------------------------------


def test_the_model_moves_by_the_weighted_mean_of_the_updates_directions() -> None:
    model = {"w": np.array([1.0, 2.0], np.float32), "running_var": np.array([0.1], np.float32)}
    updates = [
        ({"w": np.array([0.0, 0.0], np.float32), "running_var": np.array([9.0], np.float32)},
         {"w": np.array([1.0, -1.0], np.float32), "running_var": np.array([0.2], np.float32)}, 1.0),
        ({"w": np.array([1.0, 1.0], np.float32), "running_var": np.array([5.0], np.float32)},
         {"w": np.array([1.0, 3.0], np.float32), "running_var": np.array([0.4], np.float32)}, 0.5),
    ]  # fmt: skip
    merged = fedbuff(model, updates, server_lr=2.0)
    np.testing.assert_allclose(merged["w"], [1 + 2 * (1 + 0) / 2, 2 + 2 * (-1 + 0.5 * 2) / 2])
    # Adding differences of variances would give 0.1 + (0.2 - 9 + ...) / 2 < 0, a model that computes NaN.
    np.testing.assert_allclose(merged["running_var"], [0.1 + (0.1 + 0.5 * 0.3) / 2], rtol=1e-6)
    assert merged["w"].dtype == np.float32


def test_one_fresh_update_of_each_client_is_the_plain_mean() -> None:
    rng = np.random.default_rng(1)
    model = {"w": rng.normal(size=20), "n": np.array(3, np.int64)}
    updates = [({**model}, {"w": rng.normal(size=20), "n": np.array(3 + i, np.int64)}, 1.0) for i in range(4)]
    merged = fedbuff(model, updates)
    np.testing.assert_allclose(merged["w"], np.mean([update["w"] for _, update, _ in updates], axis=0))
    assert merged["n"].dtype == np.int64


@pytest.mark.parametrize(
    ("updates", "match"),
    [
        ([], "no update arrived"),
        ([({"w": np.zeros(2)}, {"w": np.zeros(2)}, float("nan"))], "a weight is from 0 to 1"),
        ([({"w": np.zeros(2)}, {"v": np.zeros(2)}, 1.0)], "update 0 has other tensors than the model"),
        ([({"w": np.zeros(2)}, {"w": np.zeros(3)}, 1.0)], "update 0, tensor w: its shape is not the model's"),
    ],
)
def test_what_does_not_fit_is_refused(updates: Any, match: str) -> None:
    with pytest.raises(AggregationError, match=match):
        fedbuff({"w": np.zeros(2)}, updates)


# --- a whole cell -----------------------------------------------------------------------------------------

CELL = """
name: buffered
seed: 5
learning: {{rounds: {rounds}, evaluate: true}}
network: {{engine: model, server: {{uplink: 1 Gbit/s, downlink: 1 Gbit/s}}}}
fleets:
  - {{name: near, count: 3, device: cloud-vm, uplink: 100 Mbit/s, downlink: 100 Mbit/s{near}}}
  - {{name: far, count: 1, device: cloud-vm, uplink: 8 Mbit/s, downlink: 50 Mbit/s{near}}}
compression: {{codec: fedsz-q, reference: true, downlink: true}}
rounds_policy: {{kind: async, buffer: 2, concurrency: 3, {more}}}
"""


def scenario(more: str = "", *, near: str = "", rounds: int = 12) -> Scenario:
    return loads(CELL.format(more=more, near=near, rounds=rounds))


class Numbered(SteadyBench):
    """Every model is another one, and who is coded against which is written down."""

    def __init__(self) -> None:
        super().__init__({"none": Speed(0.003, 0.003, 1.0), "fedsz-q": Speed(0.015, 0.008, 0.14)})
        self.numbers = itertools.count(100)
        self.bases: list[
            tuple[str, str]
        ] = []  # digest of the model trained from, of the reference it is coded against
        self.merged: list[tuple[str, list[tuple[str, float]]]] = []
        self.versions: list[str] = []

    def _new(self) -> Model:
        return Model.of({"w": np.full(100, float(next(self.numbers)), np.float32)})

    def initial(self, seed: int) -> Model:
        first = self._new()
        self.versions.append(first.digest)
        return first

    def train(self, scenario: Any, fleet: Any, model: Model, *rest: Any) -> Any:
        self.base = model.digest
        return super().train(scenario, fleet, self._new(), *rest)

    def encode(self, scenario: Any, fleet: Any, model: Model, settings: Any, *rest: Any) -> Timed[bytes]:
        if fleet is not None and settings.codec != "none":
            self.bases.append((self.base, rest[0].digest))
        return super().encode(scenario, fleet, model, settings, *rest)

    def merge(self, model: Model, updates: Any, server_lr: float, rng: Any) -> Timed[Model]:
        self.merged.append((model.digest, [(base.digest, weight) for base, _, weight in updates]))
        new = self._new()
        self.versions.append(new.digest)
        return Timed(new, 0.01, "measured")


def rows_of(found: Scenario, bench: Any) -> list[Row]:
    rows, _ = Experiment("test", bench, ModelCarrier()).cell(found.cells()[0])
    return rows


def test_each_update_is_coded_against_the_model_that_its_client_received_and_weighs_by_its_age() -> None:
    bench = Numbered()
    rows = rows_of(scenario(), bench)
    assert bench.bases
    assert all(base == reference for base, reference in bench.bases)
    assert [digest for digest, _ in bench.merged] == bench.versions[:-1]
    entered = [row for row in rows if row.status == "ok"]
    for number, (_, updates) in enumerate(bench.merged):
        mine = [row for row in entered if row.round == number]
        assert len(mine) == len(updates) == 2
        for row, (base, weight) in zip(mine, updates, strict=True):
            assert row.model_version is not None
            assert row.staleness == number - row.model_version
            assert base == bench.versions[row.model_version]
            assert weight == (1 + row.staleness) ** -0.5
    assert max(row.staleness or 0 for row in entered) > 0
    assert {row.reference for row in entered} == {True}


def test_rows_of_updates_add_up_and_the_same_seed_gives_the_same_rows() -> None:
    once, twice = (rows_of(scenario("crash: 0.2, dropout: 0.1"), Numbered()) for _ in range(2))
    assert once == twice
    assert {row.status for row in once} == {"ok", "dropped", "failed"}
    assert any("connection lost after" in row.reason for row in once if row.status == "failed")


def test_a_cell_ends_with_an_error_where_no_update_ever_comes() -> None:
    with pytest.raises(
        NothingArrivesError, match=r"^only 0 of 12 models could be made: .* connection lost after"
    ):
        rows_of(scenario("crash: 1.0"), Numbered())
    gone = ", availability: {intervals: [[0 s, 4 s]]}"
    with pytest.raises(NobodyAvailableError, match=r"^no client is available from "):
        rows_of(scenario(near=gone, rounds=200), Numbered())


def test_clients_that_are_away_are_not_asked_and_the_server_waits_for_the_next_to_return() -> None:
    rows = rows_of(scenario(near=", availability: {intervals: [[0 s, 4 s]], every: 10 s}"), Numbered())
    assert all(row.started_s % 10 < 4 for row in rows)
    assert max(row.started_s for row in rows) > 10
    assert any(row.reason.startswith("left while it was at: ") for row in rows)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "engine", "message"),
    [
        ("{kind: async}", "mininet", "4:16: rounds_policy: kind async needs network.engine: model"),
        ("{kind: async, deadline: 5 s}", "model", "rounds_policy.deadline: belongs to synchronous rounds"),
        (
            "{kind: async, concurrency: 3}",
            "model",
            "rounds_policy: keeps 3 clients at work but the fleets have 2",
        ),
    ],
)
def test_what_makes_no_sense_asynchronously_is_refused(policy: str, engine: str, message: str) -> None:
    text = f"""name: a
network: {{engine: {engine}}}
fleets: [{{name: a, count: 2, device: cloud-vm, uplink: 1 Mbit/s, downlink: 1 Mbit/s}}]
rounds_policy: {policy}
"""
    with pytest.raises(ScenarioErrors) as caught:
        loads(text)
    assert message in " ".join(str(caught.value).split())
