"""Make golden payloads of the current format version. Run on purpose, once per format or codec; never overwrites.

    .venv/bin/python -m tests.golden.make_fedsz_golden

Each payload comes with the digest of what it decodes to, in digests.json. A file here is never changed: bytes that were
sent once must decode to the same values for ever.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import fedsz
from fedsz import ErrorBound, Partition

FOLDER = Path(__file__).parent / "fedsz-v1"
BOUND = ErrorBound("REL", 1e-2)
RULE = Partition(threshold=64)


def weights(count: int, salt: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Values like weights, near 0.05 * N(0, 1), from integer arithmetic alone: the same on every machine."""
    index = np.arange(12 * count, dtype=np.uint64) + np.uint64(salt << 32)
    mixed = (index ^ (index >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    uniform = (mixed >> np.uint64(40)).astype(np.float64) / (1 << 24)
    total: np.ndarray[Any, np.dtype[np.float64]] = 0.05 * (uniform.reshape(12, count).sum(axis=0) - 6)
    return total


def state() -> dict[str, Any]:
    """One tensor of every kind that the format treats in its own way."""
    holes = weights(300, 5).astype("f4")
    holes[[3, 77, 299]] = [np.nan, np.inf, -np.inf]
    return {
        "conv.weight": weights(600, 1).astype("f4").reshape(10, 20, 3),
        "half.weight": weights(300, 2).astype("f2"),
        "brain.weight": weights(300, 3).astype("f4").astype(ml_dtypes.bfloat16),
        "double.weight": weights(300, 4).reshape(3, 100),
        "holes.weight": holes,
        "swapped.weight": weights(200, 6).astype(">f4"),
        "constant.weight": np.full(100, -0.25, "f4"),
        "bn.bias": weights(20, 7).astype("f4"),
        "bn.running_mean": weights(20, 8).astype("f4"),
        "bn.running_var": abs(weights(20, 9)).astype("f4"),
        "bn.num_batches_tracked": np.array(391),
        "mask": np.arange(11) % 3 == 0,
        "empty": np.zeros((2, 0), "f4"),
        "größe": np.arange(5, dtype=">i4"),
        "phase": weights(6, 10).astype("c8"),
    }


def reference() -> dict[str, Any]:
    """The state a round earlier."""
    before = {
        name: (array - 1e-3).astype(array.dtype) if array.dtype.kind in "fc" else array
        for name, array in state().items()
    }
    return before | {"bn.num_batches_tracked": np.array(331)}


def variants() -> dict[str, dict[str, Any]]:
    """Keyword arguments of `compress` by name of the golden file."""
    made: dict[str, dict[str, Any]] = {"none": {"codec": "none"}}
    # Made when that codec learnt to use a reference; the file without the number is older and goes without.
    made["fedsz-q-dither-reference-2"] = {"codec": "fedsz-q-dither", "reference": reference()}
    for info in fedsz.codecs().values():
        if info.kind == "lossy":
            made[info.codec_id] = {"codec": info.codec_id}
            made[f"{info.codec_id}-reference"] = {"codec": info.codec_id, "reference": reference()}
        elif info.kind == "lossless":
            made[f"exact-{info.codec_id}"] = {
                "codec": "sz3",
                "bound": ErrorBound("ABS", 0),
                "lossless": info.codec_id,
                "reference": reference(),
            }
    return made


def digest(decoded: dict[str, Any]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of a decoded state."""
    sha = hashlib.sha256()
    for name, array in decoded.items():
        sha.update(repr((name, array.dtype.str, str(array.dtype), array.shape)).encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def main() -> None:
    """Write what is missing."""
    FOLDER.mkdir(exist_ok=True)
    record = FOLDER / "digests.json"
    digests = json.loads(record.read_text()) if record.exists() else {}
    for name, arguments in variants().items():
        file = FOLDER / f"{name}.fdsz"
        if file.exists():
            continue
        payload = fedsz.compress(state(), **{"bound": BOUND, "partition": RULE, **arguments})
        file.write_bytes(payload)
        digests[name] = digest(fedsz.decompress(payload, reference=arguments.get("reference")))
        print(f"{file.name}: {len(payload)} bytes")
    record.write_text(json.dumps(digests, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
