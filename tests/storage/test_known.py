"""avalanche_ext/storage/known.py: what is known of scores, against one row at a time;
and the effective sample size that a memory tells of it."""

import math
import warnings
from copy import deepcopy

import pytest
import torch
from slow_criteria import nearest_distances
from torch import nn

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax


class Forbidden(nn.Module):
    """A model that must not be called."""

    def forward(self, x):
        raise AssertionError("a forward pass was made")


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))


def batch(n, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator)
    return x, torch.randint(0, 4, (n,), generator=generator)


CRITERIA = ("gradient", "uncertainty", "diversity")


def memory_of(model, stale=True, criteria=CRITERIA, **options):
    """Some rows that were scored, then others that were not."""
    memory = MultiStrategyBuffer(25, criteria=criteria, seed=0, **options)
    for seed in range(3):
        memory.add(*batch(10, seed), model=model)
        memory.sample(4)
    if stale:
        memory.add(*batch(20, 9))
        assert 0 < memory.stale.sum() < len(memory) == 25
    return memory


def parts_of(memory):
    """Everything in a memory that could change, tensor by tensor."""
    found = [torch.get_rng_state()]

    def walk(value):
        if isinstance(value, torch.Tensor):
            found.append(value.clone())
        elif isinstance(value, torch.Generator):
            found.append(value.get_state())
        elif isinstance(value, dict):
            for name in value:
                # Draws that wait to be counted are, when uses are asked for.
                if name != "_used":
                    walk(value[name])
        elif isinstance(value, list | tuple):
            for part in value:
                walk(part)
        elif hasattr(value, "__dict__") and not isinstance(value, nn.Module):
            walk(vars(value))
        elif isinstance(value, int | float | bool):
            found.append(torch.tensor(value))

    walk(vars(memory))
    return found


def normalised(values):
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.5 for v in values]


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("admission", ["reservoir", "class_balanced"])
def test_scores_one_row_at_a_time(stale, admission):
    model = network()
    criteria = ("loss", "diversity", "age")
    weights = {"loss": 2.0, "age": 0.5}
    memory = memory_of(
        model,
        stale,
        criteria=criteria,
        weights=weights,
        sampling=Softmax("mixed", temperature=0.1),
        admission=admission,
    )
    known = (~memory.stale).nonzero()[:, 0].tolist()
    x, y = memory.table.column("x"), memory.table.column("y")
    loss = [nn.CrossEntropyLoss()(model(x[[i]]), y[[i]]).item() for i in known]
    diversity = nearest_distances(model[:2](x[known]).detach()).tolist()
    age = [1 - math.exp(-memory.ages[i].item() / 1000) for i in known]
    mixed = [
        (2 * a + b + 0.5 * c) / 3.5
        for a, b, c in zip(*map(normalised, (loss, diversity, age)), strict=True)
    ]
    found = memory.known_scores()
    assert set(found) == {*criteria, "mixed"}
    for name, expected in (
        ("loss", loss),
        ("diversity", diversity),
        ("age", age),
        ("mixed", mixed),
    ):
        assert found[name].tolist() == pytest.approx(expected, abs=1e-5), name
    chance = [math.exp(v / 0.1) for v in normalised(mixed)]
    size = sum(chance) ** 2 / sum(c * c for c in chance)
    assert memory.effective_sample_size == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize("sampling", ["mixed", "diversity", "priority", "coreset"])
@pytest.mark.parametrize("stale", [False, True])
def test_a_look_leaves_no_trace(sampling, stale):
    """Not even in distances that wait to be brought up to date."""
    model = network()
    memory = memory_of(model, stale, sampling=sampling)
    memory.add(*batch(5, 4), model=None if stale else model)
    assert memory.scorer.scores.nearest is None or bool(
        memory.scorer.scores.nearest._written.any()
    )
    forbidden = Forbidden()
    memory.scorer.meet(forbidden)
    _ = memory.uses  # counts what was drawn
    before = deepcopy(parts_of(memory))
    memory.known_scores()
    _ = memory.effective_sample_size
    after = parts_of(memory)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_what_is_told_belongs_to_the_caller():
    memory = memory_of(network(), stale=False, sampling="loss")
    memory.known_scores()["loss"].zero_()
    assert memory.scores("loss").abs().sum() > 0


def test_only_what_is_in_use_is_told():
    model = network()
    assert memory_of(model, False, sampling="uniform").known_scores() == {}
    assert set(memory_of(model, sampling="energy").known_scores()) == {
        "energy",
        "diversity",  # its features are there anyway
    }
    some = memory_of(model, sampling="priority", criteria=None)
    assert list(some.known_scores()) == ["loss"]
    some = memory_of(model, sampling="diversity", criteria=("loss", "age"))
    assert set(some.known_scores()) == {"diversity", "age"}
    some = memory_of(model, False, sampling="uniform", criteria=("age", "access"))
    assert set(some.known_scores()) <= {"age", "access", "mixed"}  # cost nothing
    some = memory_of(model, False, sampling="access", criteria=("age", "access"))
    assert set(some.known_scores()) == {"age", "access", "mixed"}
    some = memory_of(model, False, sampling="loss", criteria=("loss", "age"))
    assert set(some.known_scores()) == {"loss", "age", "mixed"}


def test_rows_that_are_all_stale_or_none():
    memory = MultiStrategyBuffer(30, criteria=CRITERIA, sampling="mixed", seed=0)
    assert memory.effective_sample_size == 0
    memory.add(*batch(8, 0))
    assert memory.effective_sample_size is None
    assert all(len(scores) == 0 for scores in memory.known_scores().values())
    memory.refresh(network())
    assert 1 <= memory.effective_sample_size <= 8
    memory.evict(7)
    assert memory.effective_sample_size == pytest.approx(1)


@pytest.mark.parametrize(
    ("sampling", "size"), [("uniform", 25), ("coreset", None), (Priority(alpha=0), 25)]
)
def test_the_size_of_samplings_that_prefer_no_rows(sampling, size):
    memory = memory_of(network(), stale=False, sampling=sampling)
    expected = None if size is None else pytest.approx(size)
    assert memory.effective_sample_size == expected


# The memory's own watch


def drawing(memory, draws, **options):
    """Which draws warned, and of what."""
    told = []
    for number in range(1, draws + 1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            memory.sample(3, **options)
        told += [(number, str(warning.message)) for warning in caught]
    return told


@pytest.mark.parametrize(
    ("sampling", "finding"),
    [
        (Softmax("loss", temperature=50), "'loss' at temperature 50 is almost uniform"),
        (Softmax("mixed", temperature=1e-3), "draws nearly always the same rows first"),
        (Priority(alpha=200), "alpha 200 draws nearly always the same rows first"),
    ],
)
def test_an_odd_sampling_is_told_once(sampling, finding):
    memory = MultiStrategyBuffer(25, criteria=CRITERIA, sampling=sampling, seed=0)
    memory.add(*batch(30, 0), model=network())
    [(number, message)] = drawing(memory, 1100)
    assert number == 768
    assert finding in message


def test_nothing_is_told_of_a_sampling_between_the_ends():
    memory = MultiStrategyBuffer(25, sampling=Softmax("loss", 0.3), seed=0)
    model = network()
    memory.add(*batch(30, 0), model=model)
    assert drawing(memory, 800) == []
    # Draws of another sampling, and of all rows, are no matter of the memory's own.
    assert drawing(memory, 800, strategy="loss", temperature=100) == []
    watch = memory._drawing.watch
    looked = watch._draws
    memory.sample(25)
    assert watch._draws == looked == 800


def test_stale_rows_are_scored_before_a_look():
    """The look is at the scores of the draw, which no row lacks."""
    model = network()
    memory = MultiStrategyBuffer(25, sampling=Softmax("loss", 50), seed=0)
    memory.add(*batch(30, 0), model=model)
    drawing(memory, 767)
    memory.add(*batch(30, 1))
    assert memory.stale.any()
    [(_, message)] = drawing(memory, 1)
    assert "of 25 rows" in message


def test_a_uniform_memory_has_nothing_to_watch():
    for sampling in ("uniform", "coreset"):
        assert MultiStrategyBuffer(9, sampling=sampling)._drawing.watch is None
