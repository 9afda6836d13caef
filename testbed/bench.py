"""Codecs side by side on real state dicts: ratio against the entropy limit, speeds, largest error, B*.

Everything is timed in one process on one core, variants interleaved (A B A B, every other repeat backwards), garbage
collector off, kernels compiled before. Absolute speeds move with the machine's mood; a codec's speed against the
baseline's in the same repeat does not, or much less.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

import fedsz
from fedsz import ErrorBound, Partition
from fedsz.warmup import warm_up
from testbed import manifest
from testbed.bench_states import DEFAULT_FOLDER, State, load_state
from testbed.errors import NewerSchemaError
from testbed.files import write_derived

SCHEMA = 1
BASELINE = "sz2"
#: After a codec's name in rows and tables: coded against a reference.
GIVEN = " | reference"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to compare on what.

    Attributes:
        states: names or files, as `load_state` takes them.
        codecs: lossy codec ids; the first of them, or ``sz2`` where it is among them, is what speeds are held against.
        bounds: relative to each tensor's range.
        repeats: timings per codec, bound and state.
        reference: a state that both sides hold; every codec that can use it gets a second line. Prepared outside of
            the clock, as a server prepares it once a round.
        part: the whole update, or only the tensors that go lossy.
        lossless: codec of the rest.
        core: the CPU to stay on; None takes the last that this process may use.
        verify: whether codecs that do not prove the bound themselves are decoded and compared while encoding.
        folder: where trained states are kept.
    """

    states: tuple[str, ...] = ("mobilenet_v2", "resnet50")
    codecs: tuple[str, ...] = ("sz2", "sz3", "sz3-interp", "sz3-nopred", "zfp", "szx", "fedsz-q")
    bounds: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    repeats: int = 7
    reference: str | None = None
    part: Literal["whole", "lossy"] = "whole"
    lossless: str = "zstd-planes"
    core: int | None = None
    verify: bool = True
    folder: Path = DEFAULT_FOLDER


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One codec on one state at one bound.

    Attributes:
        update_bytes, payload_bytes: before and after, header and checksum counted.
        exact_bytes: of the payload, what tensors take that are not lossy.
        limit_bytes: what an ideal order-0 coder needs for the lossy tensors' grid points, each tensor on its own.
        compress_s, decompress_s: one a repeat.
        error_over_bound: the largest share of its bound that any tensor used.
        why_not: why there is no measurement; empty where there is one.
    """

    state: str
    bound: float
    codec: str
    update_bytes: int
    payload_bytes: int = 0
    exact_bytes: float = 0.0
    limit_bytes: float = 0.0
    compress_s: tuple[float, ...] = ()
    decompress_s: tuple[float, ...] = ()
    error_over_bound: float = float("nan")
    why_not: str = ""

    @property
    def ratio(self) -> float:
        """Compression ratio."""
        return self.update_bytes / self.payload_bytes

    @property
    def of_limit(self) -> float:
        """Lossy tensors' ratio, container counted, over that of the order-0 entropy limit."""
        return self.limit_bytes / (self.payload_bytes - self.exact_bytes)

    def speeds(self, seconds: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Quartiles of the speed, MB/s of the update."""
        return np.percentile(self.update_bytes / 1e6 / np.array(seconds), [25, 50, 75])

    @property
    def crossover_bps(self) -> float:
        """B* = 8 (S - S') / (t_C + t_D), with medians: below this rate, compressing pays."""
        seconds = float(np.median(self.compress_s) + np.median(self.decompress_s))
        return 8 * (self.update_bytes - self.payload_bytes) / seconds

    def times_faster(self, other: BenchRow) -> tuple[float, float]:
        """Compressing and decompressing: median over repeats of the other's time over this one's."""
        return (
            float(np.median(np.array(other.compress_s) / np.array(self.compress_s))),
            float(np.median(np.array(other.decompress_s) / np.array(self.decompress_s))),
        )


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Rows, and what they were measured on."""

    options: BenchOptions
    rows: tuple[BenchRow, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def baseline(self, row: BenchRow) -> BenchRow | None:
        """The row that *row*'s speed is held against."""
        name = BASELINE if BASELINE in self.options.codecs else self.options.codecs[0]
        for other in self.rows:
            if (other.state, other.bound, other.codec) == (row.state, row.bound, name) and not other.why_not:
                return other
        return None


def run(
    options: BenchOptions,
    tell: Tell = lambda line: None,
    *,
    states: Mapping[str, State] | None = None,
    base: State | None = None,
) -> BenchResult:
    """Measure.

    Args:
        tell: hears a line per state and bound.
        states, base: the arrays themselves, where the options' states and reference are only names for them.

    Raises: StateSourceError; fedsz's UnknownCodecError and InvalidBoundError, before anything is measured.
    """
    known = fedsz.codecs()
    lossy = tuple(info.codec_id for info in known.values() if info.kind == "lossy")
    for codec in options.codecs:
        if codec not in lossy:
            raise fedsz.UnknownCodecError(codec, lossy)
    bounds = [ErrorBound("REL", value) for value in options.bounds]
    if states is None:
        states = {source: load_state(source, options.folder) for source in options.states}
    if base is None and options.reference is not None:
        base = load_state(options.reference, options.folder)
    about: dict[str, Any] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": manifest.machine(),
        "versions": manifest.versions(),
        "source": manifest.source(),
    }
    rows: list[BenchRow] = []
    with _on_one_core(options.core) as core:
        about["core"] = core
        for source, state in states.items():
            wide = any(array.dtype == np.float64 for array in state.values())
            warm_up(float64=wide, reference=base is not None)
            for bound in bounds:
                tell(f"{source}, REL {bound.value:g}")
                rows += _measure(source, state, base, bound, options)
    return BenchResult(options, tuple(rows), about)


@dataclass(slots=True)
class _Variant:
    """One codec with or without the reference, and its timings."""

    codec: str
    reference: fedsz.Reference | None
    payload: bytes = b""
    compress_s: list[float] = field(default_factory=list)
    decompress_s: list[float] = field(default_factory=list)

    def play(self, state: State, bound: ErrorBound, options: BenchOptions) -> State:
        """Compress and decompress once, timed."""
        start = time.perf_counter()
        self.payload = fedsz.compress(
            state,
            bound,
            codec=self.codec,
            lossless=options.lossless,
            reference=self.reference,
            verify=options.verify,
        )
        half = time.perf_counter()
        decoded = fedsz.decompress(self.payload, reference=self.reference, max_bytes=1 << 40)
        self.decompress_s.append(time.perf_counter() - half)
        self.compress_s.append(half - start)
        return decoded


def _measure(
    source: str, state: State, base: State | None, bound: ErrorBound, options: BenchOptions
) -> Iterator[BenchRow]:
    lossy = {name: array for name, array in state.items() if Partition().is_lossy(name, array)}
    update = lossy if options.part == "lossy" else state
    update_bytes = sum(array.nbytes for array in update.values())
    held = None
    if base is not None:
        held = fedsz.Reference({name: base[name] for name in update if name in base})
        assert held.digest  # made now: it is computed on first use
    variants, known = [], fedsz.codecs()
    for codec in options.codecs:
        if not known[codec].available:
            row = known[codec]
            yield BenchRow(source, bound.value, codec, update_bytes, why_not=f"{row.why}; {row.install}")
            continue
        variants.append(_Variant(codec, None))
        if held is not None and fedsz.registry.lossy_codec(codec).supports_reference:
            variants.append(_Variant(codec, held))
    errors = {}
    for at, variant in enumerate(variants):
        decoded = variant.play(update, bound, options)  # not counted: caches and libraries warm up
        errors[at] = _error_over_bound(lossy, decoded, bound)
        del decoded  # its memory is used again, as a receiver's is from round to round
        variant.compress_s.clear()
        variant.decompress_s.clear()
    for repeat in range(options.repeats):
        for variant in variants if repeat % 2 == 0 else reversed(variants):
            with _no_garbage_collection():
                variant.play(update, bound, options)
    limit = sum(_entropy_bytes(array, bound) for array in lossy.values())
    for at, variant in enumerate(variants):
        table = fedsz.inspect(variant.payload, reference=variant.reference)
        yield BenchRow(
            source,
            bound.value,
            variant.codec + (GIVEN if variant.reference else ""),
            update_bytes,
            len(variant.payload),
            sum(row.stored_bytes for row in table.tensors if not row.lossy),
            limit,
            tuple(variant.compress_s),
            tuple(variant.decompress_s),
            errors[at],
        )


def _error_over_bound(lossy: State, decoded: State, bound: ErrorBound) -> float:
    worst = 0.0
    for name, array in lossy.items():
        exact, found = array.astype(np.float64), np.asarray(decoded[name]).astype(np.float64)
        finite = np.isfinite(exact)
        if not finite.any():
            continue
        span = float(exact[finite].max() - exact[finite].min())
        error = float(np.abs(found[finite] - exact[finite]).max())
        if span > 0:
            worst = max(worst, error / bound.absolute(span))
        elif error > 0:
            worst = float("inf")
    return worst


def _entropy_bytes(array: np.ndarray[Any, Any], bound: ErrorBound) -> float:
    """Order-0 entropy of rint(x / (2 bound)) over the tensor, in bytes; values that are not finite left out."""
    values = array.reshape(-1).astype(np.float64)
    values = values[np.isfinite(values)]
    span = float(values.max() - values.min()) if values.size else 0.0
    if span == 0:
        return 0.0
    points = np.rint(values / (2 * bound.absolute(span)))
    counts = np.bincount((points - points.min()).astype(np.int64))
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / values.size)).sum() / 8)


@contextmanager
def _on_one_core(core: int | None) -> Iterator[int | None]:
    """Stay on one CPU; the one it was, None where the system cannot say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    chosen = max(before) if core is None else core
    os.sched_setaffinity(0, {chosen})
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def write_result(result: BenchResult, folder: Path) -> Path:
    """Keep raw values and what they were measured on as ``bench.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    options = asdict(result.options) | {"folder": None}
    rows = [
        {name: value for name, value in asdict(row).items() if not (row.why_not and name in _MEASURED)}
        for row in result.rows
    ]
    data = {"schema": SCHEMA, "about": result.about, "options": options, "rows": rows}
    path = folder / "bench.json"
    write_derived(path, json.dumps(data, indent=1, allow_nan=False) + "\n")
    return path


_MEASURED = ("payload_bytes", "exact_bytes", "limit_bytes", "compress_s", "decompress_s", "error_over_bound")


def read_result(path: Path) -> BenchResult:
    """What `write_result` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    if data["schema"] > SCHEMA:
        raise NewerSchemaError(str(path), data["schema"], SCHEMA)
    options = _with_tuples(data["options"]) | {"folder": DEFAULT_FOLDER}
    rows = tuple(BenchRow(**_with_tuples(row)) for row in data["rows"])
    return BenchResult(BenchOptions(**options), rows, data["about"])


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
