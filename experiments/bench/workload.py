"""What the cases work on: the data, how much of it, and what a case is made of."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.bench.timing import Observe
from experiments.data import Arrays, from_arrays
from experiments.errors import UserError
from experiments.sources import read_arrays

DIGITS = "split-mnist"
DATA_ROOT = Path("data")
FILES = (f"{DIGITS}.npz", "mnist.npz", "MNIST/raw")
SHAPE = (28, 28)
CLASSES = 10
Admission = Literal["reservoir", "ring", "class_balanced", "herding", "score"]
"""Of the memories that are looked at by themselves."""


@dataclass(frozen=True)
class Sizes:
    """How much work a case does; tests make it small.

    :param warm: rows trained before those that are timed, so that memories are full.
    :param memory: rows of the memory where a model is trained.
    :param stages: sub-experiences around which the steps of a stream are timed.
    :param capacities: of the memory by itself.
    :param stored: rows of the memory whose bytes are counted.
    :param offered: batches of ten offered in a round of ``insertion``.
    :param drawn: draws in a round of ``draw``.
    :param experiences: before a regularised one that is timed: few, and many.
    :param scored: rows whose gradient norms are found.
    :param covered: rows, features and chosen rows of ``k-center``.
    :param run: rows of a whole run, of each task where there are rotations.
    :param rotations: tasks of a run of rotated images.
    """

    train: int = 6_000
    warm: int = 1_000
    test: int = 10_000
    memory: int = 500
    stages: tuple[int, ...] = (30, 300, 3_000)
    capacities: tuple[int, ...] = (1_000, 10_000, 100_000)
    stored: int = 5_000
    offered: int = 20
    drawn: int = 200
    experiences: tuple[int, ...] = (2, 50)
    scored: int = 256
    covered: tuple[int, int, int] = (50_000, 128, 1_000)
    run: int = 60_000
    rotations: int = 20


@dataclass(frozen=True)
class Row:
    """A line of a case's table.

    :param contenders: name → maker of its observation; the maker's time and that of
        whatever it prepares do not count.
    :param grown_from: the row that this one is compared with, contender by contender.
    """

    label: str
    contenders: dict[str, Callable[[], Observe]]
    grown_from: str | None = None


@dataclass(frozen=True)
class Workload:
    """Data and sizes.

    :param arrays: images as uint8.
    :param data: what they are, for the record.
    :param rounds: how often every contender will be observed.
    """

    arrays: Arrays
    data: str
    sizes: Sizes
    rounds: int

    @cached_property
    def floats(self) -> Arrays:
        """The same images between 0 and 1, ready for a model."""
        return dataclasses.replace(
            self.arrays,
            x_train=_scaled(self.arrays.x_train),
            x_test=_scaled(self.arrays.x_test),
            maximum=None,
        )

    def part(self, start: int, stop: int, floats: bool = False) -> Arrays:
        """Training rows ``start … stop − 1``, from the first again after the last."""
        arrays = self.floats if floats else self.arrays
        rows: slice | np.ndarray = slice(start, stop)
        if stop > len(arrays.y_train):
            rows = np.arange(start, stop) % len(arrays.y_train)
        return dataclasses.replace(
            arrays, x_train=arrays.x_train[rows], y_train=arrays.y_train[rows]
        )


def load(data_root: Path | None, sizes: Sizes, rounds: int) -> Workload:
    """MNIST, of which nothing is fetched.

    :param data_root: its folder; None for ``data``, or for random images of its shape
        where it is not there.
    :raises UserError: where the folder that was named has no MNIST, and where there are
        files that cannot be read as MNIST.
    """
    folder = DATA_ROOT if data_root is None else data_root
    if any((folder / name).exists() for name in FILES):
        arrays, data = read_arrays(DIGITS, folder), "MNIST"
    elif data_root is not None:
        raise UserError(
            f"no MNIST in --data-root {data_root}: looked for {', '.join(FILES)}; name "
            "its folder, or leave --data-root out to take random images"
        )
    else:
        arrays = random_images(sizes.train + sizes.warm, sizes.test)
        data = "random images of MNIST's shape (no MNIST in the data root)"
    test = slice(sizes.test)
    arrays = dataclasses.replace(
        arrays, x_test=arrays.x_test[test], y_test=arrays.y_test[test]
    )
    return Workload(arrays, data, sizes, rounds)


def random_images(train: int, test: int) -> Arrays:
    """Noise with balanced labels, the same each time."""
    draw = np.random.default_rng(0)

    def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
        x = draw.integers(0, 256, (rows, *SHAPE), dtype=np.uint8)
        return x, draw.permutation(np.arange(rows) % CLASSES)

    return from_arrays(*images(train), *images(test), source="random")


def _scaled(images: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = images / np.float32(255)
    return scaled
