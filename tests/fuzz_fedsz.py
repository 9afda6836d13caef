"""Mutation harness: damaged, re-checksummed and lying payloads against `fedsz.decompress`.

    .venv/bin/python -m tests.fuzz_fedsz 100000 [--seed 1] [--isolated-share 0.02] [--finds DIR]

Every input must end in our error or in a state whose frame is what its directory says and whose size is within
max_bytes; anything else (another exception, a wrong frame, values from bytes whose checksum is wrong, memory, time, a
crash) is a find. Inputs that reach a C
decoder not written for strangers (sz2, sz3, zfp) are decoded in a worker process, all others in this one, where a crash
would end the run. Each find is written to DIR before its input is tried again, so that a crash leaves its input behind.
"""

from __future__ import annotations

import argparse
import collections
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fedsz
from fedsz import ErrorBound, Isolation, Partition
from fedsz.container import HEAD, read_directory
from fedsz.globalmodel import Reference
from fedsz.registry import lossy_codec, trusts_input

MAX_BYTES = 1 << 20
LIMITS = Isolation(seconds=20.0)
_INTERESTING = (0, 1, 2, 3, 7, 16, 17, 20, 127, 128, 129, 254, 255)


def seeds(codecs: list[str]) -> list[tuple[bytes, Reference | None]]:
    """Small honest payloads that reach every branch of the format."""
    rng = np.random.default_rng(0)
    state: dict[str, Any] = {
        "conv.weight": rng.normal(0, 0.02, (8, 16, 3)).astype("f4"),
        "head.weight": rng.normal(0, 0.1, 300),
        "half.weight": rng.normal(0, 0.1, 200).astype("f2"),
        "brain.weight": rng.normal(0, 0.1, 200).astype(ml_dtypes.bfloat16),
        "swapped.weight": rng.normal(0, 0.1, (10, 20)).astype(">f4"),
        "holes.weight": np.where(rng.random(300) < 0.05, np.nan, rng.normal(size=300)).astype("f4"),
        "constant.weight": np.full(100, 0.5, "f4"),
        "bn.bias": rng.normal(size=16).astype("f4"),
        "bn.running_mean": rng.normal(size=16).astype("f4"),
        "bn.num_batches_tracked": np.array(391),
        "empty": np.zeros((0, 4), "f4"),
        "flags": rng.random(9) < 0.5,
        "phase": rng.normal(size=4).astype("c8"),
    }
    moved = {
        name: (array + rng.normal(0, 1e-3, array.shape)).astype(array.dtype)
        if array.dtype.kind in "fc"
        else array
        for name, array in state.items()
    }
    reference, rule = Reference(moved), Partition(threshold=64)
    made: list[tuple[bytes, Reference | None]] = []
    for codec in codecs:
        made += [
            (fedsz.compress(state, codec=codec, partition=rule, reference=held), held)
            for held in (None, reference)
        ]
        tight = fedsz.compress(state, ErrorBound("ABS", 1e-6), codec=codec, partition=rule)
        made.append((tight, None))
    exact = ErrorBound("REL", 0)
    for lossless in (info.codec_id for info in fedsz.codecs().values() if info.kind == "lossless"):
        made += [
            (fedsz.compress(state, exact, lossless=lossless, reference=held), held)
            for held in (None, reference)
        ]
    made.append((fedsz.compress(state, codec="none"), None))
    made.append((fedsz.compress({}), None))
    return made


def unpacked_directory(payload: bytes) -> tuple[bytearray, bytearray]:
    """Blocks and raw directory of a payload."""
    stored, size = struct.unpack_from("<II", payload, len(payload) - 12)
    end = len(payload) - 12 - stored
    packed = payload[end : end + stored]
    raw = bytearray(size)
    if stored < size:
        fedsz.lossless.zstd_decompress_into(memoryview(packed), memoryview(raw))
    else:
        raw[:] = packed
    return bytearray(payload[HEAD.size : end]), raw


def sealed(head: bytes, blocks: bytes, directory: bytes, claimed: int | None = None) -> bytes:
    """A payload with the right checksum: what a hostile sender makes."""
    size = len(directory) if claimed is None else claimed
    body = head + blocks + directory + struct.pack("<II", len(directory), size)
    return body + struct.pack("<I", zlib.crc32(body))


def mutate(rng: np.random.Generator, payload: bytes) -> bytes:
    """One damaged payload; most of them carry a right checksum, because the checksum stops the others at once."""
    kind = rng.random()
    if kind < 0.05:
        return _damage(rng, payload)
    head = bytearray(payload[: HEAD.size])
    blocks, directory = unpacked_directory(payload)
    if kind < 0.45:
        blocks = bytearray(_damage(rng, bytes(blocks), keep_length=rng.random() < 0.7))
    elif kind < 0.85:
        directory = bytearray(_damage(rng, bytes(directory), keep_length=rng.random() < 0.7))
    elif kind < 0.9:
        head = bytearray(_damage(rng, bytes(head), keep_length=True))
    elif kind < 0.95:
        blocks = bytearray(_damage(rng, bytes(blocks)))
        directory = bytearray(_damage(rng, bytes(directory)))
    else:
        claim = int(rng.choice([0, 1, len(directory) + 1, 1 << 24, (1 << 32) - 1]))
        return sealed(bytes(head), bytes(blocks), bytes(directory), claim)
    return sealed(bytes(head), bytes(blocks), bytes(directory))


def _damage(rng: np.random.Generator, data: bytes, keep_length: bool = False) -> bytes:
    out = bytearray(data)
    if not out:
        return bytes(out) if keep_length else rng.bytes(int(rng.integers(1, 9)))
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        at = int(rng.integers(len(out)))
        kind = int(rng.integers(4 if keep_length else 8))
        if kind == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            out[at] = int(rng.integers(256))
        elif kind == 2:
            out[at] = int(rng.choice(_INTERESTING))
        elif kind == 3:
            width = int(rng.integers(1, 9))
            patch = rng.bytes(width) if rng.random() < 0.5 else bytes([int(rng.choice([0, 255]))]) * width
            out[at : at + width] = patch[: len(out) - at]
        elif kind == 4:
            del out[at : at + int(rng.integers(1, 1 + len(out) - at))]
        elif kind == 5:
            out[at:at] = rng.bytes(int(rng.integers(1, 20)))
        elif kind == 6:
            start = int(rng.integers(len(out)))
            out[at:at] = out[start : start + int(rng.integers(1, 64))]
        else:
            del out[at:]
        if not out:
            break
    return bytes(out)


def attempt(payload: bytes, reference: Reference | None) -> str:
    """Decode one input; what came of it. Raises whatever is not ours."""
    isolate = needs_isolation(payload, reference)
    started = time.process_time()  # of this process's own: a machine that is busy or asleep is no find
    try:
        state = fedsz.decompress(
            payload, reference=reference, max_bytes=MAX_BYTES, isolate=LIMITS if isolate else False
        )
    except fedsz.FedSZError as error:
        if error.__cause__ is not None:
            raise AssertionError(f"not foreseen: {error.__cause__!r}") from error
        outcome = type(error).__name__
    else:
        directory, _ = read_directory(payload, reference, MAX_BYTES)
        frame = {name: (array.dtype, array.shape) for name, array in state.items()}
        layout = directory.layout
        told = {name: (layout.dtype(at), layout.shapes[at]) for at, name in enumerate(layout.names)}
        if list(frame.items()) != list(told.items()):
            raise AssertionError(f"decoded {frame}, directory says {told}")
        if zlib.crc32(payload[:-4]) != int.from_bytes(payload[-4:], "little"):
            raise AssertionError("decoded although the checksum is wrong")
        outcome = "decoded"
    if not isolate and time.process_time() - started > 5:
        raise AssertionError("took more than 5 s of CPU time")
    return f"{outcome} (isolated)" if isolate else outcome


def needs_isolation(payload: bytes, reference: Reference | None) -> bool:
    """Whether any block would reach a decoder that trusts its input."""
    try:
        directory, _ = read_directory(payload, reference, MAX_BYTES)
    except fedsz.FedSZError:
        return False
    return any(trusts_input(block.method) for block in directory.blocks)


def inputs(seed: int, isolated_share: float) -> Iterator[tuple[bytes, Reference | None]]:
    """Damaged payloads without end; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    lossy = [info.codec_id for info in fedsz.codecs().values() if info.kind == "lossy"]
    trusting = seeds([codec for codec in lossy if lossy_codec(codec).trusts_input])
    others = seeds([codec for codec in lossy if not lossy_codec(codec).trusts_input])
    while True:
        pool = trusting if rng.random() < isolated_share else others
        payload, reference = pool[int(rng.integers(len(pool)))]
        yield mutate(rng, payload), reference if rng.random() < 0.98 else None


def run(
    count: int, seed: int, isolated_share: float, finds: Path | None, progress: bool = False
) -> collections.Counter[str]:
    """Try *count* inputs; outcomes by name. Finds are written and counted as ``FIND ...``."""
    outcomes: collections.Counter[str] = collections.Counter()
    current = finds / "current.bin" if finds else None
    started = time.monotonic()
    for number, (payload, reference) in enumerate(inputs(seed, isolated_share)):
        if number == count:
            break
        if current is not None:
            current.write_bytes(payload)
        try:
            outcomes[attempt(payload, reference)] += 1
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what we look for)
            outcomes[f"FIND {type(error).__name__}: {str(error)[:80]}"] += 1
            if finds is not None:
                (finds / f"find-{seed}-{number}.bin").write_bytes(payload)
        if progress and number % 10_000 == 9_999:
            print(f"{number + 1} inputs, {time.monotonic() - started:.0f} s", file=sys.stderr)
    return outcomes


def main() -> None:
    """Run from the command line; exit status 1 where there were finds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--isolated-share", type=float, default=0.02, help="inputs made from sz2, sz3, zfp")
    parser.add_argument("--finds", type=Path, help="folder for inputs that break a promise")
    arguments = parser.parse_args()
    if arguments.finds:
        arguments.finds.mkdir(parents=True, exist_ok=True)
    outcomes = run(arguments.count, arguments.seed, arguments.isolated_share, arguments.finds, progress=True)
    for name, number in outcomes.most_common():
        print(f"{number:9d}  {name}")
    sys.exit(any(name.startswith("FIND") for name in outcomes))


if __name__ == "__main__":
    main()
