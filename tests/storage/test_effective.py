"""avalanche_ext/storage/effective.py: the figure, and one warning where it is odd."""

import warnings

import pytest
import torch

from avalanche_ext.storage.effective import SampleSizeWatch, effective_size
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax


@pytest.mark.parametrize(
    ("probability", "size"),
    [
        ([0.25] * 4, 4.0),
        ([0.0, 1.0, 0.0], 1.0),
        ([0.5, 0.0, 0.5], 2.0),
        ([0.5, 0.3, 0.2], 1 / 0.38),
        ([], 0.0),
    ],
)
def test_effective_size(probability, size):
    given = torch.tensor(probability, dtype=torch.float64)
    assert effective_size(given) == pytest.approx(size)


def spread(n=100):
    return torch.linspace(0, 1, n)


def test_nothing_to_say_of_a_sampling_between_the_ends():
    watch = SampleSizeWatch(Softmax("loss", 0.1))
    probability = torch.softmax(spread().double() / 0.1, 0)
    assert watch.look(spread()) == pytest.approx(float(1 / (probability**2).sum()))
    assert not watch.warned


def test_almost_uniform_is_said_once():
    watch = SampleSizeWatch(Softmax("mixed", 2.0))
    message = (
        r"sampling 'mixed' at temperature 2 is almost uniform: its effective sample size "
        r"is 9\d\.\d of 100 rows; choose a lower temperature, or sampling 'uniform'"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        size = watch.look(spread())
    assert caught[0].filename == __file__
    assert 95 < size < 100
    assert watch.warned
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.look(spread())
        watch.look(torch.tensor([0.0] * 99 + [1.0]))


def told_at(watch, scores_of):
    """The draws, of 2,000, at which there was a warning."""
    told = []
    for draw in range(1, 2001):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            watch.drawn(scores_of(draw))
        told += [draw] * len(caught)
    return told


def test_draws_are_looked_at_now_and_then():
    """Every 256th; the third look in a row that finds it odd is the first to warn."""
    odd, fine = torch.tensor([0.0] * 99 + [1.0]), spread()

    def watch():
        return SampleSizeWatch(Softmax("loss", 0.05))

    assert told_at(watch(), lambda draw: odd) == [768]
    assert told_at(watch(), lambda draw: fine) == []
    assert told_at(watch(), lambda draw: fine if draw == 512 else odd) == [1280]
    assert told_at(watch(), lambda draw: odd if draw % 256 else fine) == []
    greedy = [256, 512, 1024, 1280, 1792]
    assert told_at(watch(), lambda draw: odd if draw in greedy else fine) == []


def test_almost_greedy_is_said_once():
    watch = SampleSizeWatch(Softmax("loss", 0.001))
    message = (
        r"'loss' at temperature 0.001 draws nearly always the same rows first: its "
        r"effective sample size is 1\.0 of 100 rows; choose a higher temperature"
    )
    with pytest.warns(UserWarning, match=message):
        watch.look(spread())


def test_equal_scores_are_no_matter_of_temperature():
    watch = SampleSizeWatch(Softmax("loss", 0.1))
    with pytest.warns(UserWarning, match="all scores are equal"):
        watch.look(torch.ones(20))


def test_the_remedy_of_priority_is_alpha():
    with pytest.warns(
        UserWarning, match="'priority' by 'loss' with alpha 0.01.*higher a"
    ):
        SampleSizeWatch(Priority(alpha=0.01)).look(spread())
    with pytest.warns(UserWarning, match="with alpha 500.*a lower alpha"):
        SampleSizeWatch(Priority(alpha=500)).look(spread())


def test_what_was_asked_for_is_no_finding():
    watch = SampleSizeWatch(Priority(alpha=0))
    assert watch.look(spread()) == pytest.approx(100)
    assert not watch.warned


@pytest.mark.parametrize("scores", [[1.0] * 19, [0.0] * 18 + [1.0], [3.0], []])
def test_very_few_rows_are_not_judged(scores):
    watch = SampleSizeWatch(Softmax("loss", 0.001))
    watch.look(torch.tensor(scores))
    assert not watch.warned


@pytest.mark.parametrize(("n", "warned"), [(96, True), (94, False)])
def test_the_upper_limit_is_95_percent(n, warned):
    """n rows alike and the others never drawn: an effective size of n of 100."""
    scores = torch.full((100,), -torch.inf)
    scores[:n] = 0.0
    watch = SampleSizeWatch(Softmax("loss", 0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert watch.look(scores) == pytest.approx(n)
    assert watch.warned == bool(caught) == warned


@pytest.mark.parametrize(("n", "warned"), [(1, True), (2, False), (3, False)])
def test_the_lower_limit_is_two_rows(n, warned):
    scores = torch.zeros(100)
    scores[:n] = torch.inf
    watch = SampleSizeWatch(Softmax("loss", 0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert watch.look(scores) == pytest.approx(n)
    assert watch.warned == bool(caught) == warned
