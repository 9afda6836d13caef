"""Which tensors go lossy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fedsz import Partition

RNG = np.random.default_rng(0)


def noise(count: int, dtype: object = "float32") -> np.ndarray:
    return RNG.normal(size=count).astype(dtype)  # type: ignore[call-overload]


def test_the_rule_of_the_paper() -> None:
    """Lossy if "weight" in the name and more than 1024 elements, strictly."""
    rule = Partition()
    assert rule.is_lossy("conv1.weight", noise(1025))
    assert not rule.is_lossy("conv1.weight", noise(1024))
    assert not rule.is_lossy("fc.bias", noise(5000))
    assert rule.is_lossy("in_proj_weight_hh", noise(5000))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float32", "float64", ">f4"])
def test_every_float_can_go_lossy(dtype: object) -> None:
    assert Partition().is_lossy("weight", noise(2000, dtype))


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "complex64"])
def test_nothing_else_does(dtype: str) -> None:
    assert not Partition(by_data=True).is_lossy("weight", noise(2000, dtype))


def test_names_are_parts_or_patterns() -> None:
    rule = Partition(names=("encoder.*.kernel", "embed"))
    assert rule.is_lossy("encoder.3.kernel", noise(2000))
    assert not rule.is_lossy("decoder.encoder.3.kernel", noise(2000))
    assert rule.is_lossy("pos_embedding", noise(2000))
    assert Partition(names="kernel").names == ("kernel",)  # type: ignore[arg-type]


def test_data_instead_of_names() -> None:
    by_name, by_data = Partition(), Partition(by_data=True)
    embedding, table = noise(50_000).reshape(1, 50, 1000), np.tile(np.float32([0, 1]), 5000)
    assert not by_name.is_lossy("pos_embed", embedding)
    assert by_data.is_lossy("pos_embed", embedding)
    assert by_data.is_lossy("pos_embed", embedding.transpose(2, 0, 1))
    assert not by_data.is_lossy("mask", table)
    assert not by_data.is_lossy("pos_embed", embedding[..., :20])


def test_excluded_names_stay_exact() -> None:
    assert not Partition(by_data=True).is_lossy("bn.running_var", noise(5000))
    assert Partition(by_data=True, exclude=()).is_lossy("bn.running_var", noise(5000))
    assert not Partition(exclude=("head.*",)).is_lossy("head.weight", noise(5000))


def test_threshold_zero_and_below_leaves_the_empty_tensor_exact() -> None:
    assert Partition(threshold=0).is_lossy("weight", noise(1))
    assert not Partition(threshold=-5).is_lossy("weight", noise(0))
