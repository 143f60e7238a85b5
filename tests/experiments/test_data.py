"""experiments/data.py: what is read, and what is refused."""

import numpy as np
import pytest

from experiments.data import class_groups, read_npz
from experiments.errors import UserError
from experiments.sources import read_arrays


def images(n=6, shape=(4, 4), dtype=np.uint8):
    size = (n, *shape)
    return np.random.default_rng(n).integers(0, 255, size=size).astype(dtype)


def good(**changed):
    arrays = {
        "x_train": images(6),
        "y_train": np.array([5, 7, 5, 9, 7, 9]),
        "x_test": images(3),
        "y_test": np.array([9, 5, 7]),
    }
    return {**arrays, **changed}


@pytest.fixture
def write(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "own.npz", **arrays)
        return tmp_path

    return save


def test_own_arrays_are_put_into_one_form(write):
    arrays = good()
    found = read_arrays("own", write(**arrays))
    np.testing.assert_array_equal(found.x_train, arrays["x_train"][:, None])
    np.testing.assert_array_equal(found.y_train, [0, 1, 0, 2, 1, 2])
    np.testing.assert_array_equal(found.y_test, [2, 0, 1])
    assert found.classes == (5, 7, 9)
    assert found.maximum == 255
    assert found.x_train.dtype == np.uint8


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5, 4, 3), (3, 5, 4)),
        ((3, 5, 6), (3, 5, 6)),
        ((5, 4, 1), (1, 5, 4)),
        ((5, 4), (1, 5, 4)),
        ((7,), (7,)),
    ],
)
def test_images_become_channels_first(write, shape, expected):
    arrays = good(x_train=images(6, shape), x_test=images(3, shape))
    found = read_arrays("own", write(**arrays)).x_test
    assert found.shape == (3, *expected)
    rows = arrays["x_test"]
    if shape[-1] in (1, 3):
        rows = rows.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(found, rows.reshape(found.shape))


def test_floating_inputs_keep_their_shape_and_scale(write):
    x = {"x_train": images(6, (2, 9), np.float64), "x_test": images(3, (2, 9), float)}
    found = read_arrays("own", write(**good(**x)))
    assert found.x_train.dtype == np.float32
    assert found.maximum is None
    np.testing.assert_array_equal(found.x_train, x["x_train"])


def test_labels_may_be_a_column(write):
    arrays = good()
    column = {key: arrays[key][:, None] for key in ("y_train", "y_test")}
    found = read_arrays("own", write(**{**arrays, **column}))
    np.testing.assert_array_equal(found.y_train, [0, 1, 0, 2, 1, 2])
    np.testing.assert_array_equal(found.y_test, [2, 0, 1])


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"x_train": np.zeros((6, 0, 4), np.uint8)}, ["(6, 0, 4)", "give one row"]),
        ({"x_train": images(6, dtype=np.int32)}, ["x_train is int32", "use uint8"]),
        ({"x_test": images(3, ())}, ["x_test has shape (3,)", "(n, features)"]),
        ({"x_train": images(6, (7, 7, 5))}, ["(6, 7, 7, 5)", "1, 3 or 4 channels"]),
        ({"y_train": np.ones(6)}, ["y_train is float64", "astype('int64')"]),
        (
            {"y_train": np.array(["a", "b", "a", "c", "b", "c"])},
            [
                "y_train is <U1",
                "numpy.unique([*y_train, *y_test], return_inverse=True)",
            ],
        ),
        ({"y_train": np.arange(6) > 2}, ["y_train is bool", "astype('int64')"]),
        ({"y_train": np.arange(6) / 2}, ["y_train is float64", "numpy.unique([*y_"]),
        ({"y_test": np.eye(3)}, ["y_test has shape (3, 3)", "argmax(1)"]),
        ({"y_test": np.eye(3, dtype=int)}, ["y_test has shape (3, 3)", "argmax(1)"]),
        ({"y_train": np.zeros(6, int)}, ["y_train holds the class 0 alone", "two or"]),
        (
            {"y_train": np.array([5, 7, -1, 9, 7, -1])},
            [
                "the classes [-1] of y_train are not in y_test",
                "rows that have no class",
            ],
        ),
        ({"y_test": np.array([9, 5, 5])}, ["the classes [7] of y_train are not in y"]),
        ({"y_test": np.array([9, 5, 8])}, ["the classes [7] of y_train are not in y"]),
        ({"x_train": images(5)}, ["x_train has 5 rows and y_train 6"]),
        ({"x_test": images(3, (4, 5))}, ["(4, 4)", "(4, 5)", "make them the same"]),
        ({"y_test": np.array([9, 5, 5])}, ["classes [7]", "rows in both"]),
        (
            {"x_train": np.full((6, 2), np.nan), "x_test": np.ones((3, 2))},
            ["x_train holds nan or inf", "nan_to_num"],
        ),
        (
            {"y_train": np.array([None] * 6)},
            ["(y_train holds Python objects; use integer class labels)", "numpy.savez"],
        ),
        (
            {"x_test": np.array([{}] * 3)},
            ["(x_test holds Python objects; use uint8 for images or float32)"],
        ),
    ],
)
def test_malformed_arrays_say_what_and_how_to_mend(write, changed, parts):
    root = write(**good(**changed))
    with pytest.raises(UserError) as raised:
        read_arrays("own", root)
    for part in [*parts, str(root / "own.npz")]:
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_keys_are_named(write):
    arrays = good()
    del arrays["y_test"], arrays["x_test"]
    root = write(**arrays)
    with pytest.raises(UserError, match=r"no x_test, y_test \(it has x_train, y_train"):
        read_arrays("own", root)


@pytest.mark.parametrize("content", [b"not a zip", b"", b"\x93NUMPY\x01\x00 array"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"own\.npz cannot be read .* .it is no archive"
    ):
        read_npz(path)


def test_labels_that_are_words_are_numbered_as_the_advice_says(write):
    y_train = np.array(["eel", "cat", "eel", "dog"])
    y_test = np.array(["dog", "eel", "cat"])
    numbers = np.unique([*y_train, *y_test], return_inverse=True)[1]
    rows = {"x_train": images(4), "x_test": images(3)}
    root = write(**rows, y_train=numbers[:4], y_test=numbers[4:])
    found = read_arrays("own", root)
    np.testing.assert_array_equal(found.y_train, [2, 0, 2, 1])
    np.testing.assert_array_equal(found.y_test, [1, 2, 0])


def test_the_digest_tells_data_apart(write):
    one = read_arrays("own", write(**good()))
    same = read_arrays("own", write(**good()))
    other = read_arrays("own", write(**good(x_test=images(3) + 1)))
    assert one.digest() == same.digest() != other.digest()


def test_classes_are_split_evenly_in_numeric_order(write):
    found = read_arrays("split-digits", None)
    assert class_groups(found, 5, "d") == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert class_groups(found, 2, "d") == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert class_groups(found, 1, "d") == [list(range(10))]


def test_experiences_that_do_not_divide_the_classes_say_which_do():
    found = read_arrays("split-digits", None)
    with pytest.raises(UserError) as raised:
        class_groups(found, 3, "split-digits")
    assert str(raised.value) == (
        "--experiences 3 does not divide the 10 classes of 'split-digits': "
        "use 1, 2, 5, 10"
    )
