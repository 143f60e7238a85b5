"""The named data sets, where each is looked for, and its defaults."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import KEYS, Arrays, class_groups, from_arrays, read_npz
from experiments.errors import UserError, unknown
from experiments.pixel_maps import Pixels
from experiments.torchvision_files import damage

DIGITS_SPLIT_SEED = 0


class Source(NamedTuple):
    """A named benchmark.

    :param read: function of (name, data root, whether to download).
    :param epochs: passes over a batch experience unless the user says otherwise.
    :param experiences: how many unless the user says otherwise.
    :param pixels: how experiences differ where not by their classes.
    :param scenario: unless the user says otherwise: where experiences differ by their
        pixels, that of the literature, the same classes in all of them.
    """

    read: Callable[[str, Path, bool], Arrays]
    summary: str
    epochs: int = 1
    experiences: int = 5
    pixels: Pixels = "same"
    scenario: str = "class"


def read_arrays(benchmark: str, data_root: Path, download: bool = False) -> Arrays:
    """The arrays of a benchmark: a named one, or a user's ``DATA_ROOT/NAME.npz``.

    :param download: whether a public data set may be fetched into ``data_root``.
    :raises UserError: for an unknown name, a missing data set or malformed arrays.
    """
    if benchmark in SOURCES:
        arrays = SOURCES[benchmark].read(benchmark, data_root, download)
        if SOURCES[benchmark].pixels != "same" and arrays.maximum is None:
            raise UserError(
                f"{arrays.source}: {benchmark} moves pixels, and rows of "
                f"{arrays.x_train.dtype} {arrays.x_train.shape[1:]} are no images; "
                "save uint8 (n, height, width)"
            )
        return arrays
    path = data_root / f"{benchmark}.npz"
    if Path(benchmark).name != benchmark or not path.is_file():
        raise unknown(
            "benchmark",
            benchmark,
            SOURCES,
            f", or put your own arrays ({', '.join(KEYS)}) at {path}",
        )
    return read_npz(path)


def source(benchmark: str) -> Source:
    """A named benchmark, or what holds for a user's own arrays."""
    return SOURCES.get(benchmark, OWN)


def experience_groups(
    arrays: Arrays, experiences: int, benchmark: str
) -> list[list[int]]:
    """Classes of each experience, as positions: a part of them, or all where
    experiences differ by their pixels.

    :raises UserError: if ``experiences`` does not divide the classes to split.
    """
    if source(benchmark).pixels == "same":
        return class_groups(arrays, experiences, benchmark)
    return [list(range(len(arrays.classes))) for _ in range(experiences)]


def _digits(benchmark: str, data_root: Path, download: bool) -> Arrays:
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


def _public(
    dataset: str,
    folder: str,
    files: tuple[str, ...],
    benchmark: str,
    data_root: Path,
    download: bool,
) -> Arrays:
    """A data set of torchvision's, from an npz where there is one.

    :param dataset: the name of torchvision's class.
    :param folder: where torchvision keeps its files.
    :param files: names of the npz, the first found counts.
    """
    places = [data_root / f"{name}.npz" for name in files]
    for path in places:
        if path.is_file():
            return read_npz(path)

    import torchvision.datasets

    place = data_root / folder
    new = [path for path in (place, *place.parents) if not path.exists()]
    try:
        train, test = (
            getattr(torchvision.datasets, dataset)(
                str(data_root), train=part, download=download
            )
            for part in (True, False)
        )
    except (RuntimeError, OSError, ValueError, AssertionError) as error:
        for path in new:  # what a download made and left empty
            with suppress(OSError):
                path.rmdir()
        reason = (str(error).splitlines() or [repr(error)])[0]
        if wrong := damage(place):
            raise UserError(
                f"no data for {benchmark!r}: {wrong} ({reason}); remove {place} and add "
                "--download to fetch it anew"
            ) from error
        looked = f"looked for {', '.join(map(str, places))} and {place}"
        raise UserError(
            f"no data for {benchmark!r} ({'download failed: ' if download else ''}"
            f"{reason}): {looked}; name their folder by --data-root DIR"
            + ", or add --download to fetch it there" * (not download)
        ) from error
    return from_arrays(
        np.asarray(train.data),
        np.asarray(train.targets),
        np.asarray(test.data),
        np.asarray(test.targets),
        str(place),
    )


_mnist = partial(_public, "MNIST", "MNIST/raw", ("split-mnist", "mnist"))
_fashion = partial(
    _public,
    *("FashionMNIST", "FashionMNIST/raw", ("split-fashion-mnist", "fashion-mnist")),
)
_cifar10 = partial(
    _public, "CIFAR10", "cifar-10-batches-py", ("split-cifar10", "cifar10")
)
_cifar100 = partial(
    _public, "CIFAR100", "cifar-100-python", ("split-cifar100", "cifar100")
)

SOURCES: dict[str, Source] = {
    "split-digits": Source(
        _digits, "8x8 handwritten digits that ship with scikit-learn; no download", 20
    ),
    "split-mnist": Source(
        _mnist, "MNIST from split-mnist.npz, mnist.npz or torchvision's files"
    ),
    "permuted-mnist": Source(
        _mnist,
        "all of MNIST in each experience, its pixels permuted at random; domain-"
        "incremental unless said",
        experiences=20,
        pixels="permuted",
        scenario="domain",
    ),
    "rotated-mnist": Source(
        _mnist,
        "all of MNIST in each experience, rotated by a random angle below 180°; domain-"
        "incremental unless said",
        experiences=20,
        pixels="rotated",
        scenario="domain",
    ),
    "split-fashion-mnist": Source(
        _fashion,
        "Fashion-MNIST from split-fashion-mnist.npz, fashion-mnist.npz or torchvision's "
        "files",
    ),
    "split-cifar10": Source(
        _cifar10, "CIFAR-10 from split-cifar10.npz, cifar10.npz or torchvision's files"
    ),
    "split-cifar100": Source(
        _cifar100,
        "CIFAR-100 from split-cifar100.npz, cifar100.npz or torchvision's files",
        experiences=10,
    ),
}
OWN = Source(lambda name, root, download: read_npz(root / f"{name}.npz"), "your own")
"""Defaults of ``NAME.npz``."""
