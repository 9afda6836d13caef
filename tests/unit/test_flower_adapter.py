"""Flower's own strategies, old and new, over compressed updates; what a hostile client sends costs that client only."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import flwr.server
import flwr.server.strategy
import numpy as np
import pytest
from flower_local import LocalGrid, Wire
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.server import LegacyContext, ServerConfig
from flwr.server.workflow import DefaultWorkflow
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdam,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    Strategy,
)

import fedsz
from fedsz_flower import COMPRESS_S, DECOMPRESS_S, UPDATE_BYTES, WIRE_BYTES, CompressMod, DecompressGrid
from fedsz_flower.records import STYPE, payload_of, record_of, state_of

BOUND = fedsz.ErrorBound("REL", 1e-2)
State = dict[str, np.ndarray[Any, Any]]


def model(seed: int = 0) -> State:
    random = np.random.default_rng(seed)
    return {
        "conv.weight": random.normal(0, 0.05, (64, 32, 3, 3)).astype("f4"),
        "conv.bias": random.normal(0, 0.05, 64).astype("f4"),
        "fc.weight": random.normal(0, 0.02, (10, 500)).astype("f4"),
        "count": np.array(seed, np.int64),
    }


def trained(state: State, node: int) -> State:
    """What client *node* makes of a model: the same for the same model, whatever travels how."""
    random = np.random.default_rng(node)
    return {
        name: array + random.normal(0, 1e-3, array.shape).astype(array.dtype) * node
        if array.dtype.kind == "f" and array.ndim
        else array + np.array(1, array.dtype)
        for name, array in state.items()
    }


def app(*mods: Any, train: Callable[[State, int], State] = trained, thrifty: bool = True) -> ClientApp:
    """A client; a *thrifty* one empties the record that it was given, to save memory."""
    client = ClientApp(mods=list(mods))

    @client.train()
    def _train(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        state = train(state_of(message.content["arrays"]), node)
        if thrifty:
            message.content["arrays"].clear()
        content = RecordDict(
            {"arrays": record_of(state), "metrics": MetricRecord({"num-examples": 10 * node, "loss": 0.5})}
        )
        return Message(content, reply_to=message)

    @client.evaluate()
    def _evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "ok": 1})}), reply_to=message)

    return client


def run(strategy: Strategy, grid: Grid, rounds: int = 1) -> Any:
    return strategy.start(grid=grid, initial_arrays=record_of(model()), num_rounds=rounds)


def distance(got: State, want: State) -> float:
    """Largest deviation of a value, in bounds of its tensor; tensors that go exactly count a millionth as one."""
    assert list(got) == list(want)
    return max(
        float(np.abs(got[name] - array).max()) / (1.2e-2 * np.ptp(array) if name.endswith("weight") else 1e-6)
        for name, array in want.items()
    )


def near(got: State, want: State, share: float = 1.0) -> None:
    """Every value within *share* of the bound; ranges differ a little between clients."""
    assert distance(got, want) <= share


def krum() -> Strategy:
    return Krum(num_malicious_nodes=1)


@pytest.mark.parametrize(
    "strategy",
    [FedAvg, FedMedian, FedTrimmedAvg, krum, FedAdam],
    ids=lambda strategy: strategy.__name__,
)
def test_strategies_of_the_message_interface(strategy: Callable[[], Strategy]) -> None:
    plain, compressed = LocalGrid([app()] * 4), LocalGrid([app(CompressMod(bound=BOUND))] * 4)
    want, got = run(strategy(), plain), run(strategy(), DecompressGrid(compressed))
    if strategy is FedAdam:  # divides by the update's size: a value may move by the server's whole step
        assert list(got.arrays) == list(want.arrays)
    elif strategy is krum:  # takes one of the updates, the closer ones being as good as each other here
        far = [distance(state_of(got.arrays), trained(model(), node)) for node in range(1, 5)]
        assert min(far) <= 1
    else:
        near(state_of(got.arrays), state_of(want.arrays))
    assert max(compressed.reply_bytes.values()) < max(plain.reply_bytes.values()) / 4
    metrics = got.train_metrics_clientapp[1]
    assert metrics[UPDATE_BYTES] == pytest.approx(sum(array.nbytes for array in model().values()))
    assert metrics[WIRE_BYTES] < metrics[UPDATE_BYTES] / 4
    assert metrics[COMPRESS_S] > 0
    assert metrics[DECOMPRESS_S] > 0
    assert got.evaluate_metrics_clientapp[1] == {"ok": 1.0}


def test_clipping_on_the_client_still_sees_arrays() -> None:
    def strategy() -> Strategy:
        return DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1e-9, 0.5, 2)

    mods = (CompressMod(bound=BOUND), fixedclipping_mod)
    np.random.seed(0)  # noqa: NPY002  (Flower draws its noise there)
    got = run(strategy(), DecompressGrid(LocalGrid([app(*mods, thrifty=False)] * 2)))
    np.random.seed(0)  # noqa: NPY002
    want = run(strategy(), LocalGrid([app(fixedclipping_mod, thrifty=False)] * 2))
    # Clipped to half a unit, but for the codec's error.
    near(state_of(got.arrays), state_of(want.arrays), share=2)


def test_the_older_interface() -> None:
    class Client(NumPyClient):
        def __init__(self, node: int) -> None:
            self.node = node

        def fit(self, parameters: list[Any], config: Any) -> tuple[list[Any], int, dict[str, Any]]:
            state = trained(dict(zip(model(), parameters, strict=True)), self.node)
            return list(state.values()), 10 * self.node, {"loss": 0.5}

        def evaluate(self, parameters: list[Any], config: Any) -> tuple[float, int, dict[str, Any]]:
            return 0.5, 1, {}

    def legacy(*mods: Any) -> ClientApp:
        return ClientApp(
            client_fn=lambda context: Client(int(context.node_config["partition-id"])).to_client(),
            mods=list(mods),
        )

    def averaged(results: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        seen.extend(results)
        return {}

    def finals(grid: Grid) -> list[Any]:
        strategy = flwr.server.strategy.FedAvg(
            initial_parameters=flwr.common.ndarrays_to_parameters(list(model().values())),
            fit_metrics_aggregation_fn=averaged,
        )
        context = LegacyContext(
            context=Context(1, 1, {}, RecordDict(), {}), config=ServerConfig(num_rounds=1), strategy=strategy
        )
        DefaultWorkflow()(grid, context)
        return [array.numpy() for array in context.state.array_records["parameters"].values()]

    seen: list[tuple[int, dict[str, Any]]] = []
    want = finals(LocalGrid([legacy()] * 2))
    # Lists have no names, so that nothing is called a weight and everything goes exactly, unless the data decide.
    for partition, ratio in ((fedsz.Partition(), 1.0), (fedsz.Partition(by_data=True), 4.0)):
        seen.clear()
        mod = CompressMod(bound=BOUND, partition=partition)
        got = finals(DecompressGrid(LocalGrid([legacy(mod)] * 2)))
        for mine, theirs in zip(got, want, strict=True):
            reach = 1.2e-2 * float(np.ptp(theirs)) if partition.by_data and theirs.size > 1024 else 0.0
            assert np.abs(mine - theirs).max() <= reach
        assert sorted(examples for examples, _ in seen) == [10, 20]
        for _, metrics in seen:
            assert metrics["loss"] == 0.5
            assert 0 < ratio * metrics[WIRE_BYTES] < metrics[UPDATE_BYTES]


def test_the_reference_changes_bytes_and_no_value() -> None:
    results = {}
    for reference in (True, False):
        grid = LocalGrid([app(CompressMod(bound=BOUND, reference=reference))] * 2)
        result = run(FedAvg(), DecompressGrid(grid), rounds=2)
        results[reference] = (state_of(result.arrays), result.train_metrics_clientapp[2][WIRE_BYTES])
    for name, array in results[True][0].items():
        np.testing.assert_array_equal(array, results[False][0][name])
    assert results[True][1] < 0.6 * results[False][1]


def test_clients_may_compress_or_not() -> None:
    grid = LocalGrid([app(), app(CompressMod(bound=BOUND))])
    result = run(FedAvg(), DecompressGrid(grid))
    near(state_of(result.arrays), state_of(run(FedAvg(), LocalGrid([app()] * 2)).arrays))
    assert grid.reply_bytes[2] < grid.reply_bytes[1] / 4


def replaced(change: Callable[[Message], None]) -> Wire:
    """A wire on which what client 2 sends is changed."""

    def wire(node: int, reply: Message) -> Message:
        if node == 2 and reply.has_content() and "arrays" in reply.content:
            change(reply)
        return reply

    return wire


def payload(reply: Message, data: bytes) -> None:
    reply.content["arrays"] = ArrayRecord({"x": Array("uint8", (len(data),), STYPE, data)})


def flipped(reply: Message) -> None:
    data = bytearray(payload_of(reply.content["arrays"]) or b"")
    data[len(data) // 3] ^= 4
    payload(reply, bytes(data))


def resent(state: State, **how: Any) -> Callable[[Message], None]:
    return lambda reply: payload(reply, fedsz.compress(state, **how))


def claims(**metrics: Any) -> Callable[[Message], None]:
    return lambda reply: reply.content["metrics"].update(metrics)


def with_tensor(name: str, array: np.ndarray[Any, Any]) -> State:
    return {**model(), name: array}


HOSTILE: dict[str, tuple[Callable[[Message], None], str]] = {
    "a flipped bit": (flipped, "checksum"),
    "nothing": (lambda reply: payload(reply, b""), "payload"),
    "cut": (
        lambda reply: payload(reply, (payload_of(reply.content["arrays"]) or b"")[:-40]),
        "payload|checksum",
    ),
    "a bomb": (
        resent({"w": np.zeros(1 << 22, "f4")}, codec="fedsz-q"),
        "claims 16777216 decoded bytes; max_bytes allows",
    ),
    "another reference": (
        resent(model(), codec="fedsz-q", reference=model(9)),
        "needs the reference with digest",
    ),
    "other names": (resent({"w": np.zeros(5, "f4")}), r"names differ \('conv.bias', 'conv.weight'"),
    "another order": (resent(dict(reversed(model().items()))), "names come in another order"),
    "another shape": (
        resent(with_tensor("conv.bias", np.zeros((8, 8), "f4"))),
        r"'conv.bias' has float32\[8, 8\], sent was float32\[64\]",
    ),
    "another kind of number": (
        resent(with_tensor("conv.bias", np.zeros(32, "c8"))),
        r"'conv.bias' has complex64",
    ),
    "a payload in company": (
        lambda reply: reply.content["arrays"].update(record_of({"w": np.ones(3)})),
        "a payload among 2 arrays",
    ),
    "arrays of another model, uncompressed": (
        lambda reply: reply.content.update({"arrays": record_of({"w": np.ones(3)})}),
        "names differ",
    ),
    "arrays that are none": (
        lambda reply: reply.content.update(
            {"arrays": ArrayRecord({"w": Array("f4", (3,), "numpy.ndarray", b"?")})}
        ),
        "array 'w' cannot be read",
    ),
    "seconds that are none": (claims(**{COMPRESS_S: math.nan}), "is seconds, got nan"),
    "seconds in a list": (claims(**{COMPRESS_S: [1.0]}), r"is seconds, got \[1.0\]"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_a_hostile_client_sends_costs_its_own_update(kind: str) -> None:
    change, reason = HOSTILE[kind]
    errors: list[str] = []

    class Watching(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            replies = list(replies)
            errors.extend(reply.error.reason for reply in replies if reply.has_error())
            assert sorted(reply.metadata.src_node_id for reply in replies) == [1, 2]
            return super().aggregate_train(server_round, replies)

    grid = LocalGrid([app(CompressMod(bound=BOUND))] * 2, replaced(change))
    result = run(Watching(), DecompressGrid(grid))
    (error,) = errors
    assert error.startswith("update refused: ")
    assert re.search(reason, error), error
    near(state_of(result.arrays), trained(model(), 1))


def test_errors_of_clients_pass() -> None:
    def broken(message: Message, context: Context, call_next: Any) -> Message:
        return Message(Error(2, "no disk"), reply_to=message)

    grid = LocalGrid([app(CompressMod()), app(CompressMod(), broken)])
    result = run(FedAvg(), DecompressGrid(grid))
    near(state_of(result.arrays), trained(model(), 1))


def test_an_update_that_cannot_be_compressed_is_an_error_of_that_client() -> None:
    words = app(CompressMod(), train=lambda state, node: {**state, "conv.bias": np.array(["a", "b"])})
    grid = LocalGrid([app(CompressMod()), words])
    (reply,) = grid.send_and_receive(
        [Message(RecordDict({"arrays": record_of(model()), "config": ConfigRecord()}), 2, "train")]
    )
    assert reply.error.reason.startswith("fedsz_flower: tensor 'conv.bias': dtype <U1 is not supported")


def test_a_loop_of_ones_own_and_models_of_another_kind() -> None:
    """Messages pushed and pulled; replies with something else than the model, which takes a limit from the caller."""
    head = app(
        CompressMod(codec="sz2", bound=BOUND), train=lambda state, node: {"fc.weight": state["fc.weight"]}
    )
    content = RecordDict({"arrays": record_of(model()), "config": ConfigRecord()})
    for grid, refused in (
        (DecompressGrid(LocalGrid([head])), "names differ"),
        (DecompressGrid(LocalGrid([head]), same_tensors=False, max_bytes=1000), "max_bytes allows 1000"),
        (DecompressGrid(LocalGrid([head]), same_tensors=False, isolate=False), None),
    ):
        ids = grid.push_messages([Message(content, 1, "train")])
        (reply,) = grid.pull_messages(ids)
        if refused is not None:
            assert refused in reply.error.reason
            continue
        got = state_of(reply.content["arrays"])
        want = model()["fc.weight"]
        assert list(got) == ["fc.weight"]
        assert 0 < np.abs(got["fc.weight"] - want).max() <= 1e-2 * np.ptp(want) * (1 + 1e-6)
        assert not list(grid.pull_messages(ids))


def test_only_replies_to_training_are_touched() -> None:
    message = Message(RecordDict({"arrays": record_of(model())}), 1, "evaluate")
    LocalGrid([])  # sets who we are
    reply = CompressMod()(
        message, Context(1, 1, {}, RecordDict(), {}), lambda got, _: Message(got.content, reply_to=got)
    )
    assert payload_of(reply.content["arrays"]) is None
    asked = Message(RecordDict({"arrays": record_of(model())}), 1, "train.fast")
    reply = CompressMod()(
        asked, Context(1, 1, {}, RecordDict(), {}), lambda got, _: Message(got.content, reply_to=got)
    )
    assert payload_of(reply.content["arrays"]) is not None
    assert set(reply.content) == {"arrays", "fedsz"}


def test_an_unknown_codec_is_refused_before_the_run() -> None:
    with pytest.raises(fedsz.UnknownCodecError, match="unknown codec 'sz9'"):
        CompressMod(codec="sz9")
    with pytest.raises(fedsz.UnknownCodecError, match="unknown codec 'lz5'"):
        CompressMod(lossless="lz5")
