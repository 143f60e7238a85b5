"""Data sets as plain arrays: read, checked and put into one shape, without torch."""

import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.errors import UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
SAVE = "numpy.savez(PATH, x_train=…, y_train=…, x_test=…, y_test=…)"
CHANNELS = (1, 3, 4)
KINDS = {
    "x": "uint8 for images or float32",
    "y": "integer class labels",
}


@dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    :param x_train: ``(n, channels, height, width)`` uint8 for images, or ``(n, …)``
        float32.
    :param y_train: ``(n,)`` int64, positions in ``classes``.
    :param classes: the data set's own labels in numeric order.
    :param maximum: what a uint8 value is divided by; None for floating inputs.
    :param source: where the rows came from.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[int, ...]
    maximum: int | None
    source: str

    def digest(self) -> str:
        """SHA-256 over contents, types and shapes: says whether data are the same."""
        state = hashlib.sha256()
        for key in KEYS:
            array = np.ascontiguousarray(getattr(self, key))
            state.update(f"{key} {array.dtype} {array.shape} ".encode())
            state.update(array.data.cast("B"))
        return state.hexdigest()


def class_groups(arrays: Arrays, experiences: int, benchmark: str) -> list[list[int]]:
    """Classes of each experience, as positions, in numeric order and evenly split.

    :raises UserError: if ``experiences`` does not divide the number of classes.
    """
    total = len(arrays.classes)
    if experiences < 1 or total % experiences:
        ways = [str(n) for n in range(1, total + 1) if total % n == 0]
        raise UserError(
            f"--experiences {experiences} does not divide the {total} classes of "
            f"{benchmark!r}: use {', '.join(ways)}"
        )
    size = total // experiences
    return [list(range(t * size, (t + 1) * size)) for t in range(experiences)]


def read_npz(path: Path) -> Arrays:
    """Arrays of an ``.npz`` with the keys of Keras' ``mnist.npz``.

    Images are uint8, ``(n, h, w)``, ``(n, h, w, channels)`` or ``(n, channels, h, w)``;
    anything else is floating, ``(n, …)``, and is used as it is. Labels are integers,
    ``(n,)`` or ``(n, 1)``.

    :raises UserError: for missing keys, wrong types, shapes or lengths.
    """
    key = "it"
    try:
        if not zipfile.is_zipfile(path):  # numpy would take it for a pickle
            raise ValueError("it is no archive")
        with np.load(path, allow_pickle=False) as stored:
            missing = [key for key in KEYS if key not in stored.files]
            if missing:
                raise UserError(
                    f"{path}: no {', '.join(missing)} (it has "
                    f"{', '.join(stored.files) or 'nothing'}); save it with {SAVE}"
                )
            found = {}
            for key in KEYS:
                found[key] = stored[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        told = str(error)
        if told.startswith("Object arrays"):
            told = f"{key} holds Python objects; use {KINDS[key[0]]}"
        raise UserError(
            f"{path} cannot be read as arrays ({told}); save it with {SAVE}"
        ) from error
    return from_arrays(**found, source=str(path))


def from_arrays(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    source: str,
    maximum: int = 255,
) -> Arrays:
    """Check arrays and bring inputs and labels into the form of :class:`Arrays`.

    :raises UserError: naming ``source``, the array, what it is and what it should be.
    """
    y_train, y_test = _one_column(y_train), _one_column(y_test)
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        _check_pair(source, part, x, y)
    if x_train.dtype != x_test.dtype or x_train.shape[1:] != x_test.shape[1:]:
        raise UserError(
            f"{source}: rows of x_train are {x_train.dtype} {x_train.shape[1:]}, those "
            f"of x_test {x_test.dtype} {x_test.shape[1:]}; make them the same"
        )
    classes = np.unique(y_train)
    if len(classes) < 2:
        raise UserError(
            f"{source}: y_train holds the class {classes[0]} alone; give two or more"
        )
    tested = np.unique(y_test)
    for here, there, own, other in (
        ("y_train", "y_test", classes, tested),
        ("y_test", "y_train", tested, classes),
    ):
        if odd := np.setdiff1d(own, other).tolist():
            below = "; leave out rows that have no class" * (min(odd) < 0)
            raise UserError(
                f"{source}: the classes {odd} of {here} are not in {there}: give every "
                f"class rows in both{below}"
            )
    return Arrays(
        _inputs(x_train),
        np.searchsorted(classes, y_train).astype(np.int64),
        _inputs(x_test),
        np.searchsorted(classes, y_test).astype(np.int64),
        tuple(classes.tolist()),
        maximum if x_train.dtype == np.uint8 else None,
        source,
    )


def _one_column(y: np.ndarray) -> np.ndarray:
    """Labels of shape ``(n, 1)``, as Keras has them for CIFAR, as ``(n,)``."""
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def _check_pair(source: str, part: str, x: np.ndarray, y: np.ndarray) -> None:
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"{source}: x_{part} is {x.dtype}; use {KINDS['x']}")
    if x.size == 0 or y.size == 0:
        raise UserError(
            f"{source}: x_{part} has shape {x.shape} and y_{part} {y.shape}: give one "
            "row or more, without empty dimensions"
        )
    if x.ndim < 2 or (x.dtype == np.uint8 and x.ndim > 4):
        raise UserError(
            f"{source}: x_{part} has shape {x.shape}; use (n, height, width), "
            "(n, height, width, channels) or (n, features)"
        )
    if x.dtype == np.uint8 and x.ndim == 4 and not _channel_axis(x.shape):
        raise UserError(
            f"{source}: x_{part} has shape {x.shape}; images of 4 dimensions have "
            "1, 3 or 4 channels, last (n, height, width, channels) or second"
        )
    if y.ndim != 1:
        raise UserError(
            f"{source}: y_{part} has shape {y.shape}; use (n,), one label a row, "
            "e.g. y.reshape(-1) or y.argmax(1)"
        )
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(
            f"{source}: y_{part} is {y.dtype}; use {KINDS['y']}, e.g. {_numbered(y)}"
        )
    if len(x) != len(y) or len(x) == 0:
        raise UserError(
            f"{source}: x_{part} has {len(x)} rows and y_{part} {len(y)}; "
            "give one label for each of one or more rows"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite either
        finite = x.dtype == np.uint8 or np.isfinite(x.astype(np.float32)).all()
    if not finite:
        raise UserError(
            f"{source}: x_{part} holds nan or inf; replace them, "
            "e.g. by numpy.nan_to_num"
        )


def _numbered(y: np.ndarray) -> str:
    """What makes integers of labels that are none.

    Of both parts at once: numbered apart, a class that one lacks would shift the others.
    """
    if y.dtype.kind == "b" or (y.dtype.kind == "f" and (y == y.round()).all()):
        return "y.astype('int64')"
    return (
        "numpy.unique([*y_train, *y_test], return_inverse=True)[1], the numbers of "
        "y_train, then of y_test"
    )


def _channel_axis(shape: tuple[int, ...]) -> int:
    """3 or 1 for images of four dimensions, 0 where neither can be the channels."""
    return 3 if shape[3] in CHANNELS else 1 if shape[1] in CHANNELS else 0


def _inputs(x: np.ndarray) -> np.ndarray:
    if x.dtype != np.uint8:
        return np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and _channel_axis(x.shape) == 3:
        x = x.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(x)
