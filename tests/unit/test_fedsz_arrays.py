"""Torch in, torch out; and what is no tensor."""

from __future__ import annotations

import pickle

import ml_dtypes
import numpy as np
import pytest
import torch

import fedsz
from fedsz import ErrorBound, UnsupportedTensorError
from fedsz.arrays import StateArray, as_array, torch_tensor

TORCH_DTYPES = [
    torch.bool, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16,
    torch.float32, torch.float64, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 40, 3)
        self.norm = torch.nn.BatchNorm2d(40)
        self.head = torch.nn.Linear(40, 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_goes_in_and_load_state_dict_takes_what_comes_out(
    dtype: torch.dtype, assign: bool
) -> None:
    torch.manual_seed(0)
    net, other = Net().to(dtype), Net().to(dtype)
    net.norm.num_batches_tracked += 391
    state = fedsz.decompress(fedsz.compress(net.state_dict(), ErrorBound("REL", 1e-2)))
    if assign:
        other.load_state_dict(fedsz.to_torch(state), assign=True)
    else:
        other.load_state_dict(state)
    assert int(other.norm.num_batches_tracked) == 391
    assert other.conv.weight.dtype == dtype
    assert torch.equal(other.norm.running_var, net.norm.running_var)
    span = float(net.conv.weight.detach().double().max() - net.conv.weight.detach().double().min())
    assert (other.conv.weight - net.conv.weight).abs().double().max() <= 1e-2 * span
    assert not torch.equal(other.conv.weight, net.conv.weight)


@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_every_torch_dtype_comes_back_bit_for_bit(dtype: torch.dtype) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    for value in (tensor, tensor.T, tensor[1, 2], tensor[:0]):
        state = fedsz.decompress(fedsz.compress({"t": value}))
        back = fedsz.to_torch(state)["t"]
        assert back.dtype == dtype
        assert back.shape == value.shape
        assert torch.equal(back.to(torch.complex64), value.to(torch.complex64))


def test_gradients_conjugates_and_negatives_do_not_matter() -> None:
    values = torch.randn(5, dtype=torch.complex64)
    state = {
        "grad": torch.ones(3, requires_grad=True),
        "conj": values.conj(),
        "neg": torch._neg_view(torch.ones(2)),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    back = fedsz.to_torch(fedsz.decompress(fedsz.compress(state)))
    assert torch.equal(back["conj"], values.conj().resolve_conj())
    assert torch.equal(back["neg"], -torch.ones(2))
    assert not back["grad"].requires_grad


def test_results_mix_with_torch_and_numpy() -> None:
    back = fedsz.decompress(fedsz.compress({"a": np.arange(4.0)}))["a"]
    assert isinstance(back, StateArray)
    assert isinstance(torch.ones(4, dtype=torch.float64) + back, torch.Tensor)
    assert type(back.sum()) is type(np.abs(back).max()) is type(back[0]) is np.float64
    assert type(np.asarray(back)) is np.ndarray
    shared = torch_tensor(back)
    shared += 1
    assert back.tolist() == [1, 2, 3, 4]


def test_an_average_of_updates_loads_too() -> None:
    torch.manual_seed(0)
    nets = [torch.nn.Linear(3, 2) for _ in range(2)]
    one, two = (fedsz.decompress(fedsz.compress(net.state_dict())) for net in nets)
    mean = {name: (one[name] + two[name]) * np.float32(0.5) for name in one}
    one["bias"] += 1
    nets[0].load_state_dict(mean)
    assert torch.allclose(nets[0].bias, (fedsz.to_torch(two)["bias"] + torch.from_numpy(one["bias"]) - 1) / 2)
    nets[1].load_state_dict(one)


def test_states_travel_between_processes() -> None:
    back = fedsz.decompress(fedsz.compress({"a": np.arange(4.0)}))["a"]
    again = pickle.loads(pickle.dumps(back))
    assert isinstance(again, StateArray)
    assert np.array_equal(again, back)


def test_a_tensor_shares_memory_with_the_input_array() -> None:
    tensor = torch.zeros(4)
    array = as_array("t", tensor)
    tensor += 1
    assert array.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("w", np.array([object()]), "dtype object is not supported"),
        ("w", np.array(["a"]), "dtype <U1 is not supported"),
        ("w", np.zeros(2, "datetime64[s]"), "is not supported"),
        ("w", np.zeros(2, np.longdouble), "is not supported"),
        ("w", np.zeros(2, [("a", "f4")]), "is not supported"),
        ("w", np.ma.masked_array([1.0, 2.0], [0, 1]), "masked arrays"),
        ("w", {"epoch": 3}, "dtype object is not supported"),
        ("w", [[1, 2], [3]], "not an array"),
        ("w", torch.eye(3).to_sparse(), "only dense"),
        ("w", torch.zeros(3, device="meta"), "only dense"),
        (3, np.zeros(2), "names are str, this one is int"),
    ],
)
@pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::DeprecationWarning"
)  # torch's own, on building these
def test_what_is_no_tensor_is_named(name: object, value: object, why: str) -> None:
    with pytest.raises(UnsupportedTensorError, match=why) as caught:
        fedsz.compress({name: value})  # type: ignore[dict-item]
    assert caught.value.name == name


def test_lists_and_scalars_are_taken() -> None:
    back = fedsz.decompress(fedsz.compress({"a": [[1, 2], [3, 4]], "b": 1.5, "c": True}))
    assert [(array.dtype.name, array.tolist()) for array in back.values()] == [
        ("int64", [[1, 2], [3, 4]]),
        ("float64", 1.5),
        ("bool", True),
    ]


def test_bfloat16_is_a_numpy_dtype() -> None:
    back = fedsz.decompress(fedsz.compress({"a": torch.ones(3, dtype=torch.bfloat16)}))["a"]
    assert back.dtype == ml_dtypes.bfloat16
