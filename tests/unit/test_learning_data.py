"""Data sets: what was loaded is what is said, damage is noticed, absence says what to do."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from testbed.learning import data
from testbed.learning.data import DEBIAN_FASHION_MNIST, held_out, load_dataset, load_or_fallback
from testbed.learning.errors import DatasetDamagedError, DatasetMissingError, UnknownDatasetError
from testbed.learning.fetch import main
from testbed.learning.vision import torchvision

needs_fashion_mnist = pytest.mark.skipif(
    not DEBIAN_FASHION_MNIST.is_dir(), reason="needs Fashion-MNIST: apt install dataset-fashion-mnist"
)


def check(dataset):
    assert dataset.train_images.dtype == dataset.test_images.dtype == torch.uint8
    assert dataset.train_labels.dtype == torch.int64
    assert len(dataset.train_images) == len(dataset.train_labels)
    assert (
        set(dataset.train_labels.tolist()) == set(range(dataset.classes)) == set(dataset.test_labels.tolist())
    )
    values = dataset.train_images.double() / 255
    assert dataset.mean == pytest.approx(values.mean(dim=(0, 2, 3)).tolist())
    assert dataset.deviation == pytest.approx(values.std(dim=(0, 2, 3), correction=0).tolist())


def test_digits_are_always_there():
    digits = load_dataset("digits")
    check(digits)
    assert len(digits.train_labels) + len(digits.test_labels) == 1797
    assert digits.train_images.max() == 255
    assert "UCI" in digits.source


def test_digits_are_those_that_scikit_learn_carries():
    published = load_digits()
    digits = load_dataset("digits")
    ours = sorted(
        image.tobytes() for part in (digits.train_images, digits.test_images) for image in part.numpy()
    )
    theirs = sorted(np.rint(image * (255 / 16)).astype(np.uint8).tobytes() for image in published.images)
    assert ours == theirs
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert torch.bincount(labels).tolist() == np.bincount(published.target).tolist()


@needs_fashion_mnist
def test_fashion_mnist_is_the_published_one():
    fashion = load_dataset("fashion-mnist")
    check(fashion)
    assert fashion.train_images.shape == (60_000, 1, 28, 28)
    assert fashion.test_images.shape == (10_000, 1, 28, 28)
    assert torch.bincount(fashion.train_labels).tolist() == [6000] * 10
    assert str(DEBIAN_FASHION_MNIST) in fashion.source


@needs_fashion_mnist
def test_a_data_folder_comes_first_and_damage_is_noticed(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for file in DEBIAN_FASHION_MNIST.iterdir():
        shutil.copy(file, raw)
    labels = raw / "t10k-labels-idx1-ubyte"
    content = bytearray(gzip.decompress(labels.with_name(labels.name + ".gz").read_bytes()))
    labels.write_bytes(content)  # unpacked files do as well
    assert str(raw) in load_dataset("fashion-mnist", tmp_path).source
    content[100] ^= 1
    labels.write_bytes(content)
    with pytest.raises(
        DatasetDamagedError, match="t10k-labels-idx1-ubyte: content does not have the sha256 0402a96d"
    ):
        load_dataset("fashion-mnist", tmp_path)
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bnonsense")
    labels.unlink()
    with pytest.raises(DatasetDamagedError, match="cannot be unpacked"):
        load_dataset("fashion-mnist", tmp_path)


@pytest.mark.parametrize("name", ["cifar-10", "caltech101", "fashion-mnist"])
def test_absence_says_where_it_looked_and_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "DEBIAN_FASHION_MNIST", tmp_path / "none")
    with pytest.raises(DatasetMissingError) as caught:
        load_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert f"python -m testbed.learning.fetch {name} --data-dir {tmp_path}" in str(caught.value)
    used, note = load_or_fallback(name, data_dir=tmp_path)
    assert used.name == "digits"
    assert note.endswith("digits was used instead")


def test_no_fallback_no_note():
    assert load_or_fallback("digits")[1] == ""


def test_unknown_names_are_refused():
    with pytest.raises(UnknownDatasetError, match="unknown data set 'mnist'; known: fashion-mnist, cifar-10"):
        load_dataset("mnist")


def test_the_environment_names_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDSZ_DATA_DIR", str(tmp_path))
    assert data.data_folder() == tmp_path
    assert data.data_folder(Path("here")) == Path("here")
    monkeypatch.delenv("FEDSZ_DATA_DIR")
    assert data.data_folder().is_relative_to(Path.home())


def test_cifar_with_wrong_bytes_is_damaged_not_unpickled(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch", "batches.meta"]:
        (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")  # a pickle that would run a command
    with pytest.raises(DatasetDamagedError, match="corrupted"):
        load_dataset("cifar-10", tmp_path)


def test_caltech_of_the_wrong_size_is_damaged(tmp_path):
    (tmp_path / "caltech101" / "101_ObjectCategories" / "ant").mkdir(parents=True)
    with pytest.raises(DatasetDamagedError, match="has 0 images in 1 classes, not 8677 in 101"):
        load_dataset("caltech101", tmp_path)


def test_caltech_is_read_split_by_class_and_resized(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(data, "_CALTECH101_IMAGES", 20)
    monkeypatch.setattr(data, "_CALTECH101_CLASSES", 2)
    random = np.random.default_rng(0)
    root = tmp_path / "caltech101" / "101_ObjectCategories"
    for name in ("ant", "bee", "BACKGROUND_Google"):
        (root / name).mkdir(parents=True)
        for number in range(10):
            shape = (40 + number, 60) if number % 2 else (40, 60, 3)  # grey ones occur in the original
            Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(
                root / name / f"image_{number:04}.jpg"
            )
    caltech = load_dataset("caltech101", tmp_path)
    check(caltech)
    assert caltech.train_images.shape == (16, 3, 128, 128)
    assert torch.bincount(caltech.test_labels).tolist() == [2, 2]


def test_the_held_out_part_is_seeded_and_of_every_class():
    labels = np.repeat(np.arange(5), 20)
    test = held_out(labels, 0.2, seed=1)
    assert np.bincount(labels[test]).tolist() == [4] * 5
    assert np.array_equal(test, held_out(labels, 0.2, seed=1))
    assert not np.array_equal(test, held_out(labels, 0.2, seed=2))


def test_fetching_what_is_embedded_works_offline(capsys):
    assert main(["digits"]) == 0
    assert "UCI handwritten digits" in capsys.readouterr().out


def test_torchvision_imports_with_this_build_of_torch():
    vision = torchvision()
    assert "mobilenet_v2" in vision.models.list_models(module=vision.models)
    assert torchvision() is vision
