"""Lossless codecs on the part of a trained model that FedSZ codes exactly, with and without the last global model.

    OMP_NUM_THREADS=1 .venv/bin/python -m scripts.lossless_table BEFORE.safetensors AFTER.safetensors

Codecs take turns, ten rounds, medians; one core. Speeds are in raw bytes of the exact part.
"""

from __future__ import annotations

import statistics
import sys
import time

from safetensors.numpy import load_file

import fedsz
from fedsz import ErrorBound, Partition, Reference

ROUNDS = 10


def main() -> None:
    """Print a Markdown table."""
    before, after = (load_file(name) for name in sys.argv[1:3])
    rule = Partition()
    exact = {name: array for name, array in after.items() if not rule.is_lossy(name, array)}
    reference = Reference({name: before[name] for name in exact})
    raw = fedsz.update_bytes(exact)
    codecs = [info.codec_id for info in fedsz.codecs().values() if info.kind == "lossless" and info.available]
    taken: dict[tuple[str, bool, str], list[float]] = {}
    sizes: dict[tuple[str, bool], int] = {}
    for _ in range(ROUNDS):
        for codec in codecs:
            for held in (None, reference):
                start = time.perf_counter()
                payload = fedsz.compress(exact, ErrorBound("ABS", 0), lossless=codec, reference=held)
                middle = time.perf_counter()
                fedsz.decompress(payload, reference=held)
                end = time.perf_counter()
                sizes[codec, held is not None] = len(payload)
                taken.setdefault((codec, held is not None, "in"), []).append(middle - start)
                taken.setdefault((codec, held is not None, "out"), []).append(end - middle)

    def speed(codec: str, held: bool, way: str) -> float:
        return raw / statistics.median(taken[codec, held, way]) / 1e6

    print(f"{len(exact)} tensors, {raw} bytes\n")
    print("| codec | ratio | MB/s in / out | ratio given the reference | MB/s in / out |")
    print("| --- | --- | --- | --- | --- |")
    for codec in codecs:
        cells = [
            f"{raw / sizes[codec, held]:.3f} | {speed(codec, held, 'in'):.0f} / {speed(codec, held, 'out'):.0f}"
            for held in (False, True)
        ]
        print(f"| {codec} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
