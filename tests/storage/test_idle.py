"""avalanche_ext/storage/idle.py: options that nothing looks at are told, others not."""

import warnings

import pytest
import torch
from rehearsed import network, strategy
from torch import nn

from avalanche_ext import MultiStrategyBuffer, Priority, RehearsalPlugin
from avalanche_ext.storage.criteria import LossCriterion, WeightedCriterion

SIZE = 20
BOTH = ["loss", "gradient"]


@pytest.mark.parametrize(
    "options",
    [
        {"criteria": BOTH},
        {"weights": {"forgetting": 2.0}},
        {"criteria": BOTH, "admission": "herding"},
        {"criteria": ["gradient"], "sampling": Priority("loss")},
        {"criteria": BOTH, "sampling": "coreset"},
        {"criteria": BOTH, "sampling": "age"},
    ],
)
def test_criteria_that_nothing_reads(options):
    told = MultiStrategyBuffer(SIZE, seed=0, **options).idle_criteria
    names = [*options.get("criteria", ["forgetting"])]
    assert told.startswith(f"criteria {names} have no effect")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"admission": "herding", "weights": {"forgetting": 1.0}},
        {"sampling": "priority"},
        {"criteria": BOTH, "sampling": "mixed"},
        {"criteria": BOTH, "sampling": "loss"},
        {"criteria": BOTH, "sampling": "priority"},
        {"criteria": ["gradient"], "sampling": "priority"},
        {"criteria": ["age"], "sampling": "age"},
        {"criteria": BOTH, "admission": "score"},
        {
            "criteria": [WeightedCriterion([LossCriterion()], name="own")],
            "sampling": "own",
        },
    ],
)
def test_criteria_that_are_read_or_were_not_given(options):
    assert MultiStrategyBuffer(SIZE, seed=0, **options).idle_criteria is None


def test_criteria_that_were_asked_for():
    memory = MultiStrategyBuffer(SIZE, criteria=BOTH, seed=0)
    model = nn.Linear(3, 2)
    memory.add(torch.rand(9, 3), torch.zeros(9, dtype=torch.long), model=model)
    memory.sample(3, "loss")
    assert memory.idle_criteria is None


def test_a_run_tells_it_once(class_stream):
    memory = MultiStrategyBuffer(SIZE, criteria=BOTH, seed=0)
    trained = strategy([RehearsalPlugin(memory, 5)], network())
    first, second = class_stream(experiences=2).train_stream
    with pytest.warns(UserWarning, match="gradient'] have no effect"):
        trained.train(first, eval_streams=[])
    trained.train(second, eval_streams=[])  # a warning would be an error


@pytest.mark.parametrize("sampling", ["mixed", "coreset", "priority"])
def test_a_sampling_in_avalanches_replay(class_stream, sampling):
    """Which takes rows of ``memory.buffer``, all alike."""
    memory = MultiStrategyBuffer(SIZE, sampling=sampling, seed=0)
    trained = strategy([], network())
    told = []
    for experience in class_stream(experiences=3).train_stream:
        trained.train(experience, eval_streams=[])
        trained.experience = experience
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            memory.update(trained)
        told.append([str(one.message) for one in found])
        trained.experience = None
    assert [len(some) for some in told] == [0, 1, 0]
    assert told[1][0].startswith(f"sampling {memory.sampling!r} has no effect")
