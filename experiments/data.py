"""Data sets as plain arrays: read, checked and put into one shape, without torch."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.errors import UserError, unknown

KEYS = ("x_train", "y_train", "x_test", "y_test")
SAVE = "numpy.savez(PATH, x_train=…, y_train=…, x_test=…, y_test=…)"
DIGITS_SPLIT_SEED = 0
CHANNELS = (1, 3, 4)


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
            state.update(array.tobytes())
        return state.hexdigest()


class Source(NamedTuple):
    """A named data set."""

    read: Callable[[Path, bool], Arrays]
    summary: str
    epochs: int
    """Passes over a batch experience unless the user says otherwise."""


def read_arrays(benchmark: str, data_root: Path, download: bool = False) -> Arrays:
    """The arrays of a benchmark: a named one, or a user's ``DATA_ROOT/NAME.npz``.

    :param download: whether a public data set may be fetched into ``data_root``.
    :raises UserError: for an unknown name, a missing data set or malformed arrays.
    """
    if benchmark in SOURCES:
        return SOURCES[benchmark].read(data_root, download)
    path = data_root / f"{benchmark}.npz"
    if Path(benchmark).name != benchmark or not path.is_file():
        raise unknown(
            "benchmark",
            benchmark,
            SOURCES,
            f", or put your own arrays ({', '.join(KEYS)}) at {path}",
        )
    return read_npz(path)


def default_epochs(benchmark: str) -> int:
    """Passes over a batch experience where the user gives none."""
    return SOURCES[benchmark].epochs if benchmark in SOURCES else 1


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
    anything else is floating, ``(n, …)``, and is used as it is. Labels are integers.

    :raises UserError: for missing keys, wrong types, shapes or lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [key for key in KEYS if key not in stored.files]
            if missing:
                raise UserError(
                    f"{path}: no {', '.join(missing)} (it has "
                    f"{', '.join(stored.files) or 'nothing'}); save it with {SAVE}"
                )
            found = {key: stored[key] for key in KEYS}
    except (
        OSError,
        ValueError,
        TypeError,  # np.save under the name of an npz
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(
            f"{path} cannot be read as arrays ({error}); save it with {SAVE}"
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
    for part, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        _check_pair(source, part, x, y)
    if x_train.dtype != x_test.dtype or x_train.shape[1:] != x_test.shape[1:]:
        raise UserError(
            f"{source}: rows of x_train are {x_train.dtype} {x_train.shape[1:]}, those "
            f"of x_test {x_test.dtype} {x_test.shape[1:]}; make them the same"
        )
    classes = np.unique(y_train)
    tested = np.unique(y_test)
    if not np.array_equal(classes, tested):
        odd = np.setxor1d(classes, tested).tolist()
        raise UserError(
            f"{source}: the classes {odd} are in one of y_train and y_test only; "
            "give every class rows in both"
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


def _check_pair(source: str, part: str, x: np.ndarray, y: np.ndarray) -> None:
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise UserError(
            f"{source}: x_{part} is {x.dtype}; use uint8 for images or float32"
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
    if not np.issubdtype(y.dtype, np.integer):
        raise UserError(
            f"{source}: y_{part} is {y.dtype}; use integer class labels, "
            "e.g. y.astype('int64')"
        )
    if y.ndim != 1:
        raise UserError(
            f"{source}: y_{part} has shape {y.shape}; use (n,), one label a row, "
            "e.g. y.reshape(-1) or y.argmax(1)"
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


def _digits(data_root: Path, download: bool) -> Arrays:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x, y = digits.images.astype(np.uint8), digits.target
    # The split is part of the benchmark: its seed is not the run's.
    train, test = train_test_split(
        np.arange(len(y)), test_size=0.25, stratify=y, random_state=DIGITS_SPLIT_SEED
    )
    train.sort()
    test.sort()
    return from_arrays(
        x[train], y[train], x[test], y[test], "scikit-learn's digits", maximum=16
    )


def _mnist(data_root: Path, download: bool) -> Arrays:
    files = [data_root / "split-mnist.npz", data_root / "mnist.npz"]
    for path in files:
        if path.is_file():
            return read_npz(path)

    from torchvision.datasets import MNIST

    try:
        train, test = (
            MNIST(str(data_root), train=part, download=download)
            for part in (True, False)
        )
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"no data for 'split-mnist' ({'download failed: ' if download else ''}"
            f"{str(error).splitlines()[0]}): looked for {files[0]}, {files[1]} and "
            f"{data_root / 'MNIST' / 'raw'}; name their folder by --data-root DIR, or "
            "add --download to fetch it there"
        ) from error
    return from_arrays(
        train.data.numpy(),
        train.targets.numpy(),
        test.data.numpy(),
        test.targets.numpy(),
        str(data_root / "MNIST"),
    )


SOURCES: dict[str, Source] = {
    "split-digits": Source(
        _digits, "8x8 handwritten digits that ship with scikit-learn; no download", 20
    ),
    "split-mnist": Source(
        _mnist, "MNIST from split-mnist.npz, mnist.npz or torchvision's files", 1
    ),
}
