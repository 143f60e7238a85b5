"""experiments/sources.py: the named data sets, where they are found, their defaults."""

import os
import struct

import numpy as np
import pytest
import torchvision
from sklearn.datasets import load_digits

from experiments.errors import UserError
from experiments.sources import SOURCES, experience_groups, read_arrays, source


def images(n, shape=(4, 4)):
    return np.random.default_rng(n).integers(0, 255, (n, *shape), dtype=np.uint8)


def good(**changed):
    arrays = {
        "x_train": images(6),
        "y_train": np.array([5, 7, 5, 9, 7, 9]),
        "x_test": images(3),
        "y_test": np.array([9, 5, 7]),
    }
    return {**arrays, **changed}


def test_an_unknown_benchmark_says_which_there_are_and_where_to_put_ones_own(tmp_path):
    with pytest.raises(UserError) as raised:
        read_arrays("split-minst", tmp_path)
    for part in (
        "unknown benchmark 'split-minst' (did you mean 'split-mnist'?)",
        "use split-digits, split-mnist, permuted-mnist",
        str(tmp_path / "split-minst.npz"),
        "x_train, y_train, x_test, y_test",
    ):
        assert part in str(raised.value)


def test_a_name_cannot_leave_the_data_root(tmp_path):
    np.savez(tmp_path / "own.npz", **good())
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="unknown benchmark"):
        read_arrays("../own", tmp_path / "data")


def test_missing_mnist_says_where_it_was_looked_for_and_what_would_put_it_there(
    tmp_path,
):
    with pytest.raises(UserError) as raised:
        read_arrays("split-mnist", tmp_path)
    for part in (
        "no data for 'split-mnist'",
        str(tmp_path / "split-mnist.npz"),
        str(tmp_path / "mnist.npz"),
        str(tmp_path / "MNIST" / "raw"),
        "--data-root DIR",
        "--download",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize("name", ["mnist", "split-mnist"])
def test_split_mnist_reads_an_npz_first(tmp_path, name):
    np.savez(tmp_path / f"{name}.npz", **good())
    found = read_arrays("split-mnist", tmp_path)
    assert found.source == str(tmp_path / f"{name}.npz")
    assert found.classes == (5, 7, 9)


def test_digits_are_scikit_learns_with_a_fixed_stratified_quarter_for_the_test():
    found = read_arrays("split-digits", None)
    digits = load_digits()
    everything = digits.images.astype(np.uint8)[:, None]
    joined = np.concatenate([found.x_train, found.x_test])
    labels = np.concatenate([found.y_train, found.y_test])
    assert len(found.x_test) == 450
    assert found.maximum == 16
    assert joined.max() == 16

    def rows(x, y):
        return sorted(map(bytes, np.hstack([x.reshape(len(x), -1), y[:, None]])))

    ours = rows(joined, labels.astype(np.uint8))
    assert ours == rows(everything, digits.target.astype(np.uint8))
    share = np.bincount(found.y_test) / np.bincount(digits.target)
    assert np.abs(share - 0.25).max() < 0.01
    # The split is part of the benchmark: it must not move.
    assert found.digest()[:16] == "fea815dfcf596bf0"


def test_defaults():
    assert (source("split-digits").epochs, source("split-mnist").epochs) == (20, 1)
    assert source("own").epochs == 1
    experiences = {name: source(name).experiences for name in [*SOURCES, "own"]}
    assert experiences.pop("permuted-mnist") == experiences.pop("rotated-mnist") == 20
    assert experiences.pop("split-cifar100") == 10
    assert set(experiences.values()) == {5}
    domain = {name for name in [*SOURCES, "own"] if source(name).scenario == "domain"}
    assert domain == {"permuted-mnist", "rotated-mnist"}


@pytest.mark.parametrize("name", ["permuted-mnist", "rotated-mnist"])
def test_experiences_that_move_pixels_have_all_classes(tmp_path, name):
    np.savez(tmp_path / "mnist.npz", **good())
    arrays = read_arrays(name, tmp_path)
    assert experience_groups(arrays, 4, name) == [[0, 1, 2]] * 4
    assert experience_groups(arrays, 3, "split-mnist") == [[0], [1], [2]]


def test_pixels_of_what_is_no_image_cannot_be_moved(tmp_path):
    rows = {"x_train": np.ones((6, 9)), "x_test": np.ones((3, 9))}
    np.savez(tmp_path / "mnist.npz", **good(**rows))
    with pytest.raises(UserError) as raised:
        read_arrays("permuted-mnist", tmp_path)
    for part in (str(tmp_path / "mnist.npz"), "permuted-mnist", "(9,)", "save uint8"):
        assert part in str(raised.value)
    assert read_arrays("split-mnist", tmp_path).maximum is None


@pytest.mark.parametrize("name", ["split-cifar10", "cifar10"])
def test_colour_images_with_a_column_of_labels(tmp_path, name):
    """As Keras and others save CIFAR-10."""
    x = {"x_train": images(6, (5, 4, 3)), "x_test": images(3, (5, 4, 3))}
    arrays = good(**x)
    for key in ("y_train", "y_test"):
        arrays[key] = arrays[key][:, None]
    np.savez(tmp_path / f"{name}.npz", **arrays)
    found = read_arrays("split-cifar10", tmp_path)
    np.testing.assert_array_equal(found.x_train, x["x_train"].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(found.y_test, [2, 0, 1])


@pytest.mark.parametrize(
    ("name", "files", "folder"),
    [
        ("split-cifar10", ["split-cifar10", "cifar10"], "cifar-10-batches-py"),
        ("split-cifar100", ["split-cifar100", "cifar100"], "cifar-100-python"),
        ("rotated-mnist", ["split-mnist", "mnist"], "MNIST/raw"),
        (
            "split-fashion-mnist",
            ["split-fashion-mnist", "fashion-mnist"],
            "FashionMNIST/raw",
        ),
    ],
)
def test_missing_data_say_where_they_were_looked_for(tmp_path, name, files, folder):
    with pytest.raises(UserError) as raised:
        read_arrays(name, tmp_path)
    told = str(raised.value)
    for part in (f"no data for {name!r}", str(tmp_path / folder), "--download"):
        assert part in told
    assert all(str(tmp_path / f"{file}.npz") in told for file in files)
    assert "\n" not in told


def write_mnist(root, arrays):
    """In torchvision's layout, which asks for no checksums."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for kind, part in (("train", "train"), ("t10k", "test")):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"].astype(np.uint8)
        head = struct.pack(">4i", 0x803, *x.shape)
        (raw / f"{kind}-images-idx3-ubyte").write_bytes(head + x.tobytes())
        head = struct.pack(">2i", 0x801, len(y))
        (raw / f"{kind}-labels-idx1-ubyte").write_bytes(head + y.tobytes())
    return raw


def test_torchvisions_files_are_read(tmp_path):
    arrays = good()
    raw = write_mnist(tmp_path, arrays)
    found = read_arrays("rotated-mnist", tmp_path)
    np.testing.assert_array_equal(found.x_test[:, 0], arrays["x_test"])
    np.testing.assert_array_equal(found.y_train, [0, 1, 0, 2, 1, 2])
    assert found.source == str(raw)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_file_that_was_cut_short_is_named(tmp_path, name, part):
    path = write_mnist(tmp_path, good()) / name
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    told = f"'split-mnist': {path} cut short or damaged .*; remove .*/raw and add --do"
    with pytest.raises(UserError, match=told) as raised:
        read_arrays("split-mnist", tmp_path)
    assert "looked for" not in str(raised.value)
    path.unlink()
    with pytest.raises(UserError, match=f"the files in {path.parent} incomplete"):
        read_arrays("split-mnist", tmp_path)


def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def download(self):
        os.makedirs(self.raw_folder)
        raise RuntimeError("Error downloading it:\nnobody there")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    told = r"\(download failed: Error downloading it:\): looked for .*--data-root DIR$"
    with pytest.raises(UserError, match=told):
        read_arrays("split-mnist", tmp_path / "new", download=True)
    assert not list(tmp_path.iterdir())
