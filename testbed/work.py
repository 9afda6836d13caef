"""All of a scenario's real work, measured: training, compression, decompression, averaging, evaluation.

Work runs before the packets of its round fly, one piece at a time, in a worker process of its own, while no link is
busy (`docs/clock.md`). What went in decides what comes out, so a piece whose inputs have been seen in this run is not
run again: its result is reused and its duration *drawn* from what was measured, where the scenario allows that.
"""

from __future__ import annotations

import gc
import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np

from devices.errors import WorkerDiedError
from devices.limits import Limits, Notebook
from devices.profile import DeviceProfile, Work
from devices.worker import Worker
from testbed.coding import CodecSettings, Fidelity, State, compare, decode_update, digest_of, encode_update
from testbed.learning.aggregate import fedavg
from testbed.learning.buffered import fedbuff
from testbed.learning.data import cached_dataset, load_or_fallback
from testbed.learning.federation import with_samples
from testbed.learning.models import ModelSpec, initial_state
from testbed.learning.partition import split
from testbed.learning.training import TrainTask, evaluate, train_client
from testbed.scenario import Fleet, Scenario

Source = Literal["measured", "drawn"]
Value = TypeVar("Value")

# Enough for a few dozen states of MobileNetV2, or two of AlexNet beside the one in use; what falls out is run again.
CACHE_BYTES = 2 << 30
# A decoder may be asked for this many times the bytes of the model that both sides know, never more.
DECODE_HEADROOM = 1.25


@dataclass(frozen=True)
class Timed(Generic[Value]):
    """A result, the emulated seconds its making took, and where that number is from."""

    value: Value
    seconds: float
    source: Source


@dataclass(frozen=True)
class Model:
    """The weights of a model and what tells them from others: equal digests mean equal weights."""

    state: State
    digest: str

    @classmethod
    def of(cls, state: State) -> Self:
        return cls(state, digest_of(state))

    @property
    def nbytes(self) -> int:
        """Size of its arrays, uncompressed."""
        return sum(np.asarray(array).nbytes for array in self.state.values())


@dataclass(frozen=True)
class Trained:
    """A client's model after local training, and how many samples it stands for in the average."""

    model: Model
    samples: int
    loss: float


@dataclass(frozen=True)
class _Measured:
    """A result with every duration (host, wall seconds) that was measured for it."""

    value: Any
    seconds: tuple[float, ...]
    nbytes: int


class _Cache:
    """Results by what went in, least recently used out first."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._entries: OrderedDict[Hashable, _Measured] = OrderedDict()

    def get(self, key: Hashable) -> _Measured | None:
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Hashable, entry: _Measured) -> None:
        old = self._entries.pop(key, None)
        self._held += entry.nbytes - (old.nbytes if old else 0)
        self._entries[key] = entry
        while self._held > self._limit and len(self._entries) > 1:
            _, gone = self._entries.popitem(last=False)
            self._held -= gone.nbytes


class Workbench:
    """Runs and measures the work of one scenario's clients and of its server; a context manager.

    Args:
        scenario: decides model, data, devices and limits; the cells of its sweep may differ in anything else.
        ledger: told of every control group before it is made; None where no fleet is held to limits.
        repeats: how often compression and decompression of one update are measured.
        doubts: device -> why its work under a quota is not to be trusted.

    Raises: what `testbed.learning` raises for unknown or missing models and data.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        ledger: Notebook | None = None,
        repeats: int = 3,
        doubts: Mapping[str, str] | None = None,
    ) -> None:
        learning = scenario.learning
        data_dir = Path(learning.data_dir) if learning.data_dir else None
        fallback = learning.fallback_data or learning.data
        self.dataset, self.data_note = load_or_fallback(learning.data, fallback, data_dir)
        self.repeats = repeats
        self._data_dir = data_dir
        self._ledger = ledger
        self._cache = _Cache(CACHE_BYTES)
        self._stack = ExitStack()
        self._workers: dict[Hashable, Worker] = {}
        self._pinned: dict[Hashable, int | None] = {}  # the process that was: one that died is started afresh
        self._died: dict[Hashable, WorkerDiedError] = {}
        self._host = scenario.devices.host
        self._doubts = doubts or {}
        size = learning.image_size or max(self.dataset.image_size, 32)
        self.model = ModelSpec(learning.model, self.dataset.classes, self.dataset.channels, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # --- the server's side ------------------------------------------------------------------------------------

    def initial(self, seed: int) -> Model:
        """The global model before the first round."""
        return Model.of(initial_state(self.model, seed))

    def decode(
        self,
        payload: bytes,
        digest: str,
        codec: str,
        reference: Model | None,
        like: Model,
        rng: np.random.Generator,
        fleet: Fleet | None = None,
    ) -> Timed[Model]:
        """Check and decompress, in a process of its own: the bytes come from somebody else.

        Args:
            digest: SHA-256 of *payload*; equal bytes decode to equal states.
            like: a model of the size that may come out.
            fleet: on whose device; None: on the server.

        Raises: fedsz.PayloadError where the payload is damaged or lies.
        """
        limit = int(DECODE_HEADROOM * like.nbytes) + (1 << 20)

        def work() -> _Measured:
            decoded, _ = self._at(fleet, "compress").call_as(
                "decompressing", decode_update, payload, _state(reference), self.repeats, codec, limit
            )
            model = Model.of(decoded.state)
            return _Measured(model, decoded.seconds, model.nbytes)

        key = ("decode", self._place(fleet), digest, _digest(reference))
        factor = 1.0 if fleet is None else self._factor(fleet, "compress")
        return self._run(key, work, factor, rng, fresh=False)

    def fidelity(self, before: Model, sent: Model, decoded: Model, settings: CodecSettings) -> Fidelity:
        """What coding left of an update that was trained from *before*; not part of any round's time."""
        key = ("fidelity", before.digest, sent.digest, decoded.digest, settings.key)
        found = self._cache.get(key)
        if found is None:
            base = None if settings.codec == "none" else before.state
            seen = compare(sent.state, decoded.state, settings.bound, settings.partition, before=base)
            found = _Measured(seen, (), 0)
            self._cache.put(key, found)
        fidelity: Fidelity = found.value
        return fidelity

    def average(self, updates: Sequence[tuple[Model, int]], rng: np.random.Generator) -> Timed[Model]:
        """FedAvg of *updates*, each with its weight."""

        def work() -> _Measured:
            state, took = self._server().call_as("averaging", fedavg, [(m.state, w) for m, w in updates])
            model = Model.of(state)
            return _Measured(model, (took.wall_s,), model.nbytes)

        key = ("average", *((model.digest, weight) for model, weight in updates))
        return self._run(key, work, 1.0, rng, fresh=False)

    def merge(
        self,
        model: Model,
        updates: Sequence[tuple[Model, Model, float]],
        server_lr: float,
        rng: np.random.Generator,
    ) -> Timed[Model]:
        """The model after a buffer of asynchronous *updates*; see `testbed.learning.buffered.fedbuff`."""

        def work() -> _Measured:
            given = [(base.state, update.state, weight) for base, update, weight in updates]
            state, took = self._server().call_as("aggregating", fedbuff, model.state, given, server_lr)
            merged = Model.of(state)
            return _Measured(merged, (took.wall_s,), merged.nbytes)

        buffer = tuple((base.digest, update.digest, weight) for base, update, weight in updates)
        return self._run(("merge", model.digest, buffer, server_lr), work, 1.0, rng, fresh=False)

    def accuracy(self, model: Model, samples: int | None) -> float:
        """Share of the held-out images that *model* gets right; not part of any round's time."""
        found = self._cache.get(("accuracy", model.digest, samples))
        if found is None:
            value, took = self._server().call_as(
                "evaluating", _evaluate, model.state, self.model, self.dataset.name, self._data_dir, samples
            )
            found = _Measured(value, (took.wall_s,), 0)
            self._cache.put(("accuracy", model.digest, samples), found)
        return float(found.value)

    # --- the clients' side ------------------------------------------------------------------------------------

    def samples_of(self, scenario: Scenario, seed: int) -> dict[str, np.ndarray]:
        """Each client's share of the training images, as indices; no image twice."""
        learning = scenario.learning
        shares = split(
            self.dataset.train_labels.numpy(),
            len(scenario.client_names),
            seed,
            alpha=None if learning.split == "iid" else learning.split.alpha,
            samples_per_client=learning.samples_per_client,
        )
        return dict(zip(scenario.client_names, shares, strict=True))

    def doubt(self, fleet: Fleet) -> str:
        """Why this fleet's work is not to be trusted; empty where it is."""
        return self._doubts.get(fleet.device_name, "") if fleet.limits == "quota" else ""

    def train(
        self,
        scenario: Scenario,
        fleet: Fleet,
        model: Model,
        indices: np.ndarray,
        seed: int,
        rng: np.random.Generator,
    ) -> Timed[Trained]:
        """Local training of one client, from the global model that it has received."""
        learning = scenario.learning
        task = TrainTask(
            model=self.model,
            state=model.state,
            dataset=self.dataset.name,
            indices=indices,
            seed=seed,
            data_dir=self._data_dir,
            local_epochs=learning.local_epochs,
            max_steps=learning.max_steps,
            batch_size=learning.batch_size,
            optimizer=learning.optimizer,
            learning_rate=learning.lr,
            momentum=learning.momentum,
            weight_decay=learning.weight_decay,
            proximal_mu=learning.prox_mu,
            device="cpu",  # the devices' factors are those of CPUs
        )

        def work() -> _Measured:
            worker = self._client(fleet, "train")
            # Under a ceiling a client must not hold everybody's images: they would count against it.
            given = task if fleet.ceiling_bytes is None else with_samples(task, self.dataset)
            worker.call_as("training", _warm_training, given)
            result, took = worker.call_as("training", train_client, given)
            trained = Trained(Model.of(result.state), result.samples, result.loss)
            return _Measured(trained, (took.wall_s,), trained.model.nbytes)

        # Everything that the task holds, by value; *seed* and *indices* belong to one client.
        settings = replace(task, state={}, indices=np.empty(0))
        key = ("train", self._place(fleet), model.digest, indices.tobytes(), repr(settings))
        return self._run(
            key, work, self._factor(fleet, "train"), rng, fresh=scenario.sweep.work == "measured"
        )

    def encode(
        self,
        scenario: Scenario,
        fleet: Fleet | None,
        model: Model,
        settings: CodecSettings,
        reference: Model | None,
        rng: np.random.Generator,
    ) -> Timed[bytes]:
        """Compression of an update on a client's device, or of the global model on the server (*fleet* None)."""
        kind: Work = "lossless" if settings.codec == "none" else "compress"

        def work() -> _Measured:
            coded, _ = self._at(fleet, kind).call_as(
                "compressing", encode_update, model.state, settings, _state(reference), self.repeats
            )
            return _Measured(coded.payload, coded.seconds, len(coded.payload))

        key = ("encode", self._place(fleet), model.digest, settings.key, _digest(reference))
        factor = 1.0 if fleet is None else self._factor(fleet, kind)
        return self._run(key, work, factor, rng, fresh=scenario.sweep.work == "measured")

    # --- how it is run ----------------------------------------------------------------------------------------

    def _run(
        self,
        key: Hashable,
        work: Callable[[], _Measured],
        factor: float,
        rng: np.random.Generator,
        *,
        fresh: bool,
    ) -> Timed[Any]:
        found = None if fresh else self._cache.get(key)
        source: Source = "measured" if found is None else "drawn"
        if found is None:
            if not fresh and key in self._died:
                raise WorkerDiedError(*self._died[key].args)
            try:
                found = work()
            except WorkerDiedError as died:
                if died.out_of_memory:  # the same work would need the same memory
                    self._died[key] = died
                raise
            self._cache.put(key, found)
        return Timed(found.value, factor * float(rng.choice(found.seconds)), source)

    def _profile(self, fleet: Fleet) -> DeviceProfile:
        return fleet.profile if self._host is None else fleet.profile.rebased(self._host)

    def _factor(self, fleet: Fleet, work: Work) -> float:
        """Device seconds per measured second; under a quota the kernel has slowed the work down already."""
        return 1.0 if fleet.limits == "quota" else self._profile(fleet).factor(work)

    def _client(self, fleet: Fleet, work: Work) -> Worker:
        share = self._profile(fleet).cpu_share(work) if fleet.limits == "quota" else None
        limits = Limits(cpu_share=share, memory_bytes=fleet.ceiling_bytes)
        if not limits.any():
            return self._worker(("client", "free"), None)
        worker = self._worker(("client", *self._place(fleet)), limits)
        worker.reshape(limits)
        return worker

    def _at(self, fleet: Fleet | None, work: Work) -> Worker:
        return self._server() if fleet is None else self._client(fleet, work)

    @staticmethod
    def _place(fleet: Fleet | None) -> tuple[Hashable, ...]:
        """Where work runs, and under what: work is the same only in the same place."""
        return ("server",) if fleet is None else (fleet.device, fleet.limits, fleet.ceiling_bytes)

    def _server(self) -> Worker:
        return self._worker(("server", ""), None)

    def _worker(self, key: Hashable, limits: Limits | None) -> Worker:
        if key not in self._workers:
            self._workers[key] = self._stack.enter_context(Worker(limits, ledger=self._ledger))
        worker = self._workers[key]
        if worker.pid is None or worker.pid != self._pinned.get(key):
            worker.call_as("starting", _pin)
            self._pinned[key] = worker.pid
        return worker


def _state(model: Model | None) -> State | None:
    return None if model is None else model.state


def _digest(model: Model | None) -> str:
    return "" if model is None else model.digest


def _pin() -> None:
    """Keep measured work on one core: the last one, as interrupts tend to be served by the first."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


_trained_once: set[str] = set()


def _warm_training(task: TrainTask) -> None:
    """A first batch that is not counted: it loads libraries and data, which a device does once, not each round."""
    if task.model.name not in _trained_once:
        _trained_once.add(task.model.name)
        if task.images is None:
            cached_dataset(task.dataset, task.data_dir)
        train_client(replace(task, max_steps=1, local_epochs=1))
        gc.collect()
        gc.freeze()  # see testbed.coding


def _evaluate(
    state: State, model: ModelSpec, dataset: str, data_dir: Path | None, samples: int | None
) -> float:
    return evaluate(state, model, cached_dataset(dataset, data_dir), limit=samples)
