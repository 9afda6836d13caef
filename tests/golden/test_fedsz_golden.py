"""Payloads of version 1 that were made once decode to the same values for ever."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import make_fedsz_golden as make
import numpy as np
import pytest

import fedsz

DIGESTS: dict[str, str] = json.loads((make.FOLDER / "digests.json").read_text())


def payload(name: str) -> bytes:
    return (Path(make.FOLDER) / f"{name}.fdsz").read_bytes()


# Compilers may fuse SZ's and ZFP's multiply-add elsewhere, which moves the last bit; see docs/format.md.
SAME_ARITHMETIC = platform.machine() in ("x86_64", "AMD64")


@pytest.mark.skipif(not SAME_ARITHMETIC, reason="golden digests of SZ and ZFP were made on x86-64")
@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_old_bytes_decode_to_the_same_values(name: str) -> None:
    reference = make.reference() if fedsz_needs_reference(payload(name)) else None
    decoded = fedsz.decompress(payload(name), reference=reference)
    assert make.digest(decoded) == DIGESTS[name]


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_and_to_values_within_the_bound(name: str) -> None:
    state = make.state()
    decoded = fedsz.decompress(payload(name), reference=make.reference())
    seen = fedsz.inspect(payload(name), reference=make.reference())
    assert list(decoded) == list(state)
    for row in seen.tensors:
        before, after = state[row.name], decoded[row.name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        if not row.lossy:
            assert after.tobytes() == before.tobytes(), row.name
            continue
        wide = before.astype("f8")
        finite = np.isfinite(wide)
        allowed = seen.bound.absolute(wide[finite].max() - wide[finite].min())
        assert (abs(after.astype("f8")[finite] - wide[finite]) <= allowed).all(), row.name
        assert after[~finite].tobytes() == before[~finite].tobytes()


def fedsz_needs_reference(data: bytes) -> bool:
    return bool(data[5] & 1)


def test_every_file_has_its_digest() -> None:
    assert set(DIGESTS) == {file.stem for file in Path(make.FOLDER).glob("*.fdsz")}
