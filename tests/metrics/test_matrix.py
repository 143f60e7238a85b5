"""avalanche_ext/metrics/matrix.py against numbers worked out by hand."""

import pytest

from avalanche_ext.metrics.matrix import (
    average_accuracy,
    backward_transfer,
    experience_forgetting,
    forgetting,
    mean_or_none,
)

# Trained on experiences 0, 1, 2 in turn.
MATRIX = [
    [0.5, 0.1, 0.0],
    [0.9, 0.8, 0.2],
    [0.6, 0.7, 0.95],
]
TRAINED = [0, 1, 2]


def test_forgetting_by_max_and_by_first():
    column = [0.5, 0.9, 0.6]
    lost = experience_forgetting(column, TRAINED, 0)
    assert lost == pytest.approx(0.3)
    first = experience_forgetting(column, TRAINED, 0, "first")
    assert first == pytest.approx(-0.1)


def test_a_whole_matrix():
    assert forgetting(MATRIX, TRAINED) == [
        pytest.approx(0.3),
        pytest.approx(0.1),
        None,
    ]
    assert backward_transfer(MATRIX, TRAINED) == [
        pytest.approx(0.1),
        pytest.approx(-0.1),
        None,
    ]
    assert average_accuracy(MATRIX) == pytest.approx((0.6 + 0.7 + 0.95) / 3)


def test_the_last_measured_row_is_now():
    unmeasured = [*MATRIX, [None, None, None]]
    assert forgetting(unmeasured, [*TRAINED, 3]) == forgetting(MATRIX, TRAINED)
    assert average_accuracy(unmeasured) == average_accuracy(MATRIX)


def test_after_one_experience_nothing_is_forgotten_yet():
    assert forgetting(MATRIX[:1], TRAINED[:1]) == [None, None, None]
    assert backward_transfer(MATRIX[:1], TRAINED[:1]) == [None, None, None]


def test_the_past_includes_rows_before_the_experience_was_trained():
    # Chaudhry et al. take the maximum over all earlier rows.
    assert experience_forgetting([0.7, 0.6, 0.5], [1, 0, 2], 0) == pytest.approx(0.2)


def test_gaps_are_skipped():
    holes = [[0.5, None], [None, 0.8], [0.4, 0.6]]
    assert forgetting(holes, TRAINED) == [pytest.approx(0.1), pytest.approx(0.2)]
    # Nothing now, nothing ever before, or nothing right after training.
    assert experience_forgetting([0.5, 0.9, None], TRAINED, 0) is None
    assert experience_forgetting([None, None, 0.9], TRAINED, 0) is None
    assert experience_forgetting([None, 0.7, 0.6], TRAINED, 0, "first") is None
    assert experience_forgetting([None, 0.7, 0.6], TRAINED, 0) == pytest.approx(0.1)


def test_an_experience_trained_twice():
    trained = [0, 1, 0, 1]
    column = [0.9, 0.5, 0.7, 0.6]
    assert experience_forgetting(column, trained, 0) == pytest.approx(0.3)
    # first: from the last time that it was trained, as upstream
    assert experience_forgetting(column, trained, 0, "first") == pytest.approx(0.1)
    # just trained again: what it has now was not kept but learnt
    assert experience_forgetting(column[:3], trained[:3], 0) is None


def test_training_of_no_known_experience_gives_no_forgetting():
    assert forgetting(MATRIX, [None, None, None]) == [None, None, None]


def test_empty():
    assert forgetting([], []) == []
    assert backward_transfer([], []) == []
    assert average_accuracy([]) is None
    assert average_accuracy([[None]]) is None
    assert experience_forgetting([], [], 0) is None
    assert mean_or_none([None]) is None


@pytest.mark.parametrize("matrix", [[], MATRIX])
def test_an_unknown_definition_is_refused(matrix):
    with pytest.raises(ValueError, match=r"'last'.*'max', 'first'"):
        forgetting(matrix, TRAINED[: len(matrix)], "last")
