"""Small images of a few classes, which a network learns in no time."""

import numpy as np

from experiments.data import Arrays, from_arrays


def small_images(
    train: int,
    test: int,
    *,
    classes: int = 4,
    centres: tuple[int, int] = (90, 165),
    noise: int = 60,
    first: int = 0,
    source: str = "small",
) -> Arrays:
    """Noise about a random image for each class; as it is, classes are near enough to
    each other to be forgotten.

    :param train: rows of each class.
    :param centres: pixels of these images, from and below.
    :param first: the first label.
    """
    draw = np.random.default_rng(0)
    middle = draw.integers(*centres, (classes, 4, 4))

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.tile(np.arange(classes), n)
        away = draw.integers(-noise, noise, (len(y), 4, 4))
        return (middle[y] + away).astype(np.uint8), y + first

    return from_arrays(*part(train), *part(test), source=source)
