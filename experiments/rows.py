"""Which rows each experience has and what they are labelled, without torch."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.data import Arrays
from experiments.draws import generator
from experiments.errors import UserError


class Portion(NamedTuple):
    """The rows of one experience.

    :param rows: positions in the arrays.
    :param classes: the class of each row, a position in ``Arrays.classes``.
    """

    rows: np.ndarray
    classes: np.ndarray


def portions(y: np.ndarray, groups: Sequence[Sequence[int]]) -> list[Portion]:
    """All rows of the classes of each experience, in the order of the arrays."""
    found = [np.flatnonzero(np.isin(y, group)) for group in groups]
    return [Portion(rows, y[rows]) for rows in found]


def training_portions(
    y: np.ndarray,
    groups: Sequence[Sequence[int]],
    samples: Sequence[int] = (),
    label_noise: float = 0.0,
    seed: int = 0,
    *,
    shuffled: bool = False,
) -> list[Portion]:
    """What each experience trains on.

    :param samples: rows drawn for each experience; one number serves all, none is all
        rows there are.
    :param label_noise: share of the rows whose class is replaced by another one of the
        same experience.
    :param shuffled: whether rows come in a drawn order instead of the arrays'.
    :raises UserError: as :func:`check_portions` does.
    """
    check_portions(y, groups, samples, label_noise)
    found = portions(y, groups)
    if samples:
        each = samples if len(samples) > 1 else [*samples] * len(groups)
        for t, (portion, n) in enumerate(zip(found, each, strict=True)):
            draw = generator(seed, "samples", t)
            chosen = np.sort(draw.choice(len(portion.rows), n, replace=False))
            found[t] = Portion(portion.rows[chosen], portion.classes[chosen])
    if label_noise:
        for t, portion in enumerate(found):
            draw = generator(seed, "noise", t)
            found[t] = _noisy(portion, groups[t], label_noise, draw)
    if shuffled:
        for t, (rows, classes) in enumerate(found):
            order = generator(seed, "order", t).permutation(len(rows))
            found[t] = Portion(rows[order], classes[order])
    return found


def check_portions(
    y: np.ndarray,
    groups: Sequence[Sequence[int]],
    samples: Sequence[int],
    label_noise: float,
) -> None:
    """Refuse what these data cannot give.

    :raises UserError: for more samples than rows, another number of them than there are
        experiences, or label noise in an experience of one class.
    """
    told = " ".join(map(str, samples))
    if len(samples) not in (0, 1, len(groups)):
        raise UserError(
            f"--samples {told}: use one number, or one for each of the {len(groups)} "
            "experiences"
        )
    for t, portion in enumerate(portions(y, groups) if samples else ()):
        n = samples[t if len(samples) > 1 else 0]
        if n > len(portion.rows):
            raise UserError(
                f"--samples {told}: experience {t + 1} has {len(portion.rows)} training "
                f"rows: use {len(portion.rows)} or less for it"
            )
    if label_noise and min(map(len, groups)) < 2:
        raise UserError(
            f"--label-noise {label_noise}: an experience of one class has no other "
            "label to give: use fewer --experiences"
        )


def hold_out(arrays: Arrays, share: float, seed: int) -> Arrays:
    """Training rows in place of the test rows, to choose hyper-parameters by.

    :param share: of the training rows of each class, rounded; training goes on with
        the others.
    :raises UserError: where a class would have no row left on one side.
    """
    if not share:
        return arrays
    draw = generator(seed, "validation")
    held = np.zeros(len(arrays.y_train), dtype=bool)
    for position, name in enumerate(arrays.classes):
        rows = np.flatnonzero(arrays.y_train == position)
        n = round(share * len(rows))
        if not 0 < n < len(rows):
            raise UserError(
                f"--validation {share} takes {n} of the {len(rows)} training rows of "
                f"class {name}: use a share that leaves some on both sides"
            )
        held[draw.choice(rows, n, replace=False)] = True
    return dataclasses.replace(
        arrays,
        x_train=arrays.x_train[~held],
        y_train=arrays.y_train[~held],
        x_test=arrays.x_train[held],
        y_test=arrays.y_train[held],
    )


def _noisy(
    portion: Portion, group: Sequence[int], share: float, draw: np.random.Generator
) -> Portion:
    rows = len(portion.rows)
    changed = draw.choice(rows, round(share * rows), replace=False)
    place = np.searchsorted(group, portion.classes[changed])
    other = (place + draw.integers(1, len(group), len(changed))) % len(group)
    classes = portion.classes.copy()
    classes[changed] = np.asarray(group)[other]
    return Portion(portion.rows, classes)
