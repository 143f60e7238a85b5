"""experiments/rows.py: samples, noise and validation rows against plain selections."""

import numpy as np
import pytest

from experiments.data import from_arrays
from experiments.errors import UserError
from experiments.rows import hold_out, portions, training_portions

GROUPS = [[0, 1, 2], [3, 4, 5]]


@pytest.fixture(scope="module")
def y():
    return np.random.default_rng(0).permutation(np.repeat(np.arange(6), 20))


def rows_of(y, group):
    return [i for i in range(len(y)) if y[i] in group]


def test_all_rows_in_the_order_of_the_array(y):
    for found in (portions(y, GROUPS), training_portions(y, GROUPS)):
        for (rows, classes), group in zip(found, GROUPS, strict=True):
            assert rows.tolist() == rows_of(y, group)
            np.testing.assert_array_equal(classes, y[rows])


@pytest.mark.parametrize(("samples", "sizes"), [((7,), [7, 7]), ((60, 5), [60, 5])])
def test_samples_are_some_of_the_rows_each_once(y, samples, sizes):
    found = training_portions(y, GROUPS, samples, seed=1)
    assert [len(rows) for rows, _ in found] == sizes
    for (rows, classes), group in zip(found, GROUPS, strict=True):
        assert (np.diff(rows) > 0).all()
        assert set(rows) <= set(rows_of(y, group))
        np.testing.assert_array_equal(classes, y[rows])
    again, other = (training_portions(y, GROUPS, samples, seed=s) for s in (1, 2))
    assert again[1].rows.tolist() == found[1].rows.tolist()
    assert other[1].rows.tolist() != found[1].rows.tolist()


def test_samples_of_the_same_classes_differ_between_experiences(y):
    one, other = training_portions(y, [GROUPS[0]] * 2, (30,))
    assert set(one.rows) != set(other.rows)


def test_the_order_is_drawn_where_asked(y):
    plain = training_portions(y, GROUPS, (40,), 0.2, seed=3)
    shuffled, again, other = (
        training_portions(y, GROUPS, (40,), 0.2, seed, shuffled=True)
        for seed in (3, 3, 4)
    )
    for one, two, same, different in zip(plain, shuffled, again, other, strict=True):
        assert two.rows.tolist() == same.rows.tolist()
        assert two.rows.tolist() != different.rows.tolist()
        assert (np.diff(two.rows) < 0).any()
        assert sorted(zip(*one, strict=True)) == sorted(zip(*two, strict=True))


def test_every_row_is_as_likely_to_be_drawn(y):
    counts = np.zeros(len(y))
    for seed in range(600):
        counts[training_portions(y, GROUPS, (15,), seed=seed)[1].rows] += 1
    drawn = counts[rows_of(y, GROUPS[1])]  # 600 draws of one in four
    assert counts.sum() == 600 * 15
    assert abs(drawn - 150).max() < 5 * (600 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("share", [0.0, 0.25, 0.99])
def test_noise_gives_a_share_of_rows_another_class_of_their_experience(y, share):
    clean = training_portions(y, GROUPS, (40,), seed=3)
    noisy = training_portions(y, GROUPS, (40,), share, seed=3)
    for before, after, group in zip(clean, noisy, GROUPS, strict=True):
        np.testing.assert_array_equal(before.rows, after.rows)  # the same samples
        assert (before.classes != after.classes).sum() == round(share * 40)
        assert set(after.classes) <= set(group)


def test_all_other_classes_are_as_likely(y):
    table = np.zeros((6, 6))
    for seed in range(200):
        for rows, classes in training_portions(y, GROUPS, (), 0.5, seed):
            np.add.at(table, (y[rows], classes), 1)
    for group in GROUPS:
        block = table[np.ix_(group, group)]  # 4000 rows of each class, half changed
        others = block[~np.eye(3, dtype=bool)]
        assert abs(block.diagonal() - 2000).max() < 200
        assert abs(others - 1000).max() < 150
    assert table.sum() == 200 * len(y)


@pytest.mark.parametrize(
    ("samples", "noise", "groups", "told"),
    [
        ((61,), 0, GROUPS, "--samples 61: experience 1 has 60 training rows: use 60"),
        ((5, 99), 0, GROUPS, "--samples 5 99: experience 2 has 60 training rows"),
        ((5, 5, 5), 0, GROUPS, "--samples 5 5 5: use one number, or one for each of"),
        ((), 0.1, [[0], [1]], "--label-noise 0.1: an experience of one class has no"),
    ],
)
def test_what_the_data_cannot_give_is_refused(y, samples, noise, groups, told):
    with pytest.raises(UserError) as raised:
        training_portions(y, groups, samples, noise)
    assert str(raised.value).startswith(told)


@pytest.fixture(scope="module")
def arrays(y):
    x = np.arange(len(y), dtype=np.float32)[:, None]
    return from_arrays(x, y + 3, -x[:6], np.arange(6) + 3, source="test")


def test_validation_rows_are_a_share_of_each_class_and_not_trained_on(arrays):
    held = hold_out(arrays, 0.26, seed=1)
    assert np.bincount(held.y_test).tolist() == [5] * 6  # 5.2 of 20
    assert np.bincount(held.y_train).tolist() == [15] * 6
    train, test = held.x_train[:, 0], held.x_test[:, 0]
    assert sorted([*train, *test]) == list(range(len(arrays.y_train)))
    for x, y in ((train, held.y_train), (test, held.y_test)):
        np.testing.assert_array_equal(arrays.y_train[x.astype(int)], y)
        assert (np.diff(x) > 0).all()
    again, other = (hold_out(arrays, 0.26, seed) for seed in (1, 2))
    assert again.digest() == held.digest() != other.digest()


def test_no_validation_changes_nothing(arrays):
    assert hold_out(arrays, 0.0, seed=1) is arrays


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_class_needs_rows_on_both_sides(arrays, share):
    with pytest.raises(UserError, match=r"of the 20 training rows of class 3: use a"):
        hold_out(arrays, share, seed=0)
