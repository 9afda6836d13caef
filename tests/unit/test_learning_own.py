"""A user's own model and data: what works, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from testbed.errors import ScenarioErrors
from testbed.learning.data import load_dataset
from testbed.learning.errors import DatasetDamagedError, OwnModelError
from testbed.learning.models import ModelSpec, build_model, initial_state, load
from testbed.learning.own import ARRAYS, located
from testbed.scenario import load as load_scenario

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, channels, size):
        super().__init__()
        self.head = nn.Linear(channels * size * size, classes)
        self.register_buffer("scale", __import__("torch").full((1,), 3.0), persistent=False)

    def forward(self, images):
        return self.head(images.flatten(1)) * self.scale

def broken(classes, channels, size):
    raise ZeroDivisionError("oops")

def text(classes, channels, size):
    return "a model"
"""
SCENARIO = """
name: own
learning: {{model: {model}, data: {data}}}
network: {{engine: model}}
fleets: [{{name: pi, count: 1, device: raspberry-pi-4, uplink: 1 Mbit/s, downlink: 1 Mbit/s}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MODEL, encoding="utf-8")
    np.savez(tmp_path / "images.npz", **arrays())
    return tmp_path


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (10, 6, 8, 3), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 4])
    return dict(zip(ARRAYS, (images[:7], labels[:7], images[7:], labels[7:]), strict=True))


def test_a_scenario_names_files_beside_it(folder: Path) -> None:
    file = folder / "own.yaml"
    file.write_text(SCENARIO.format(model="net.py:Net", data="images.npz"), encoding="utf-8")
    learning = load_scenario(file).learning
    assert learning.model == f"{folder / 'net.py'}:Net"
    assert learning.data == str(folder / "images.npz")
    # The filled-in form, which stands in another folder, means the same.
    again = folder / "elsewhere" / "again.yaml"
    again.parent.mkdir()
    again.write_text(load_scenario(file).to_yaml(), encoding="utf-8")
    assert load_scenario(again).learning == learning


@pytest.mark.parametrize(
    ("model", "data", "told"),
    [
        ("nets.py:Net", "digits", "nets.py cannot be read"),
        ("net.py:Nett", "digits", "has no function 'Nett'; it has Net, broken, text"),
        ("cnn", "image.npz", "image.npz: cannot be read: No such file or directory"),
        ("cnn", "half.npz", "has no array test_images, test_labels; expected are train_images, train_labels"),
        ("cnn", "net.npz", "net.npz: cannot be read: File is not a zip file"),
    ],
)
def test_mistakes_are_lines_of_the_scenario(folder: Path, model: str, data: str, told: str) -> None:
    np.savez(folder / "half.npz", **{name: arrays()[name] for name in ARRAYS[:2]})
    (folder / "net.npz").write_text(MODEL, encoding="utf-8")
    file = folder / "own.yaml"
    file.write_text(SCENARIO.format(model=model, data=data), encoding="utf-8")
    with pytest.raises(ScenarioErrors) as caught:
        load_scenario(file)
    text = " ".join(str(caught.value).split())
    assert told in text
    assert "own.yaml:3:" in text


def test_the_model_is_seeded_loaded_and_called(folder: Path) -> None:
    name = located("net.py:Net", folder)
    spec = ModelSpec(name, classes=5, in_channels=3, image_size=8)
    before = torch.get_rng_state()
    first, second, other = (initial_state(spec, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(first["head.weight"], second["head.weight"])
    assert not np.array_equal(first["head.weight"], other["head.weight"])
    logits = load(spec, first)(torch.ones(2, 3, 8, 8))
    expected = 3 * (first["head.weight"].sum(axis=1) + first["head.bias"])
    assert np.allclose(logits[0].detach().numpy(), expected, atol=1e-5)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    name = located("net.py:Net", folder)
    assert build_model(name, 5, 1, 8).head.in_features == 64
    (folder / "net.py").write_text(MODEL.replace("channels * size", "2 * channels * size"), encoding="utf-8")
    assert build_model(name, 5, 1, 8).head.in_features == 128


def test_a_function_that_fails_says_so(folder: Path) -> None:
    with pytest.raises(OwnModelError, match=r"net\.py:broken: ZeroDivisionError: oops$"):
        build_model(located("net.py:broken", folder), 5)
    with pytest.raises(OwnModelError, match=r"returned str; a torch\.nn\.Module is expected$"):
        build_model(located("net.py:text", folder), 5)


def test_images_come_as_they_are_stored(folder: Path) -> None:
    given = arrays()
    data = load_dataset(located("images.npz", folder))
    assert data.classes == 5  # the largest label is 4, of a test image
    assert data.train_images.shape == (7, 3, 6, 8)
    assert np.array_equal(data.train_images.numpy().transpose(0, 2, 3, 1), given["train_images"])
    assert np.array_equal(data.test_labels.numpy(), given["test_labels"])
    assert np.allclose(data.mean, given["train_images"].mean(axis=(0, 1, 2)) / 255)
    assert "7 + 3 images, 6 x 8 colour, 5 classes" in data.source


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("train_images", np.zeros((7, 6, 8), np.float32), "uint8 of shape"),
        ("train_images", np.zeros((7, 6, 8, 4), np.uint8), "uint8 of shape"),
        ("train_images", np.zeros((7, 6, 9, 3), np.uint8), "differ in shape"),
        ("train_labels", np.zeros(6, np.int64), "a whole number for each of the 7 images"),
        ("test_labels", np.array([0.0, 1.0, 2.0]), "a whole number for each of the 3 images"),
        ("test_labels", np.array([0, -1, 2]), "none is below 0"),
        ("train_labels", np.array([None] * 7), "cannot be read"),
    ],
)
def test_other_arrays_are_refused(folder: Path, name: str, value: np.ndarray, told: str) -> None:
    np.savez(folder / "bad.npz", **(arrays() | {name: value}))
    with pytest.raises(DatasetDamagedError, match=told):
        load_dataset(located("bad.npz", folder))
