"""avalanche_ext/plugins/step_scores.py: scores where an experience ends."""

import pytest
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.plugins import SupervisedPlugin
from noted_memory import DRAWN, SIZE, Noted, assert_alone
from rehearsed import strategy
from torch import nn

from avalanche_ext import RehearsalPlugin


@pytest.mark.parametrize("refresh", [True, False])
def test_all_rows_are_scored_at_the_end_of_an_experience(class_stream, refresh):
    memory = Noted(sampling="mixed", refresh_at_end=refresh)
    trained = strategy([RehearsalPlugin(memory, DRAWN)])
    for experience in class_stream(experiences=3).train_stream:
        trained.train(experience, eval_streams=[])
        assert (memory.table.column("scored") == memory.seen).all() == refresh
        if refresh:
            assert_alone(memory, range(SIZE), trained.model, nn.CrossEntropyLoss())


class Fresh(SupervisedPlugin):
    """After each part: whether all scores of a full memory are of the model as it is."""

    def __init__(self, memory):
        super().__init__()
        self.memory, self.parts = memory, []

    def after_training_exp(self, strategy, **kwargs):
        if len(self.memory) < SIZE:
            return
        scored = self.memory.table.column("scored")
        fresh = bool((scored == self.memory.seen).all())
        self.parts.append(fresh)
        if fresh:
            slots = range(len(self.memory))
            assert_alone(self.memory, slots, strategy.model, nn.CrossEntropyLoss())


def parts_of(stream, size, known=True):
    return list(split_online_stream(stream, size, access_task_boundaries=known, seed=0))


@pytest.mark.parametrize("refresh", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [8, 9])
def test_of_a_split_stream_where_an_experience_is_over(
    class_stream, known, refresh, size
):
    """With its last part, not at each, and only where boundaries may be known."""
    memory = Noted(sampling="mixed", refresh_at_end=refresh)
    fresh = Fresh(memory)
    trained = strategy([RehearsalPlugin(memory, DRAWN), fresh])
    stream = class_stream(experiences=3).train_stream  # of 40 rows each
    trained.train(parts_of(stream, size, known), eval_streams=[])
    over = [known and refresh and part == 4 for part in range(5)]
    assert fresh.parts == (3 * over)[2:]  # full after three of five parts


def test_of_a_split_stream_that_is_left_where_the_next_begins(class_stream):
    class Begins(SupervisedPlugin):
        def before_training_exp(self, strategy, **kwargs):
            fresh.after_training_exp(strategy)

    memory = Noted(sampling="mixed")
    fresh = Fresh(memory)
    trained = strategy([RehearsalPlugin(memory, DRAWN), Begins()])
    stream = class_stream(experiences=3).train_stream
    first, second = parts_of(stream[:1], 8), parts_of(stream[1:2], 8)
    trained.train([*first[:4], *second[:2], stream[2]], eval_streams=[])
    # Before the fourth part, the two of the second experience, and a whole one.
    assert fresh.parts == [False, True, False, True]
