"""avalanche_ext/storage/selection.py: criteria and k-center in upstream's buffer."""

import copy

import pytest
import torch
from avalanche.models import MTSimpleMLP, SimpleMLP
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.storage_policy import ParametricBuffer
from avalanche.training.supervised import Naive
from model_traces import assert_same_traces, traces
from torch import nn

from avalanche_ext import (
    AgeCriterion,
    LeanEvaluationPlugin,
    LossCriterion,
    WeightedCriterion,
)
from avalanche_ext.storage.coreset import k_center
from avalanche_ext.storage.selection import (
    CriterionSelectionStrategy,
    KCenterSelectionStrategy,
)

CHOICES = {
    "loss": lambda: CriterionSelectionStrategy("loss", seed=0),
    "gradient": lambda: CriterionSelectionStrategy("gradient", seed=0),
    "uncertainty": lambda: CriterionSelectionStrategy("uncertainty", seed=0),
    "diversity": lambda: CriterionSelectionStrategy("diversity", seed=0),
    "energy": lambda: CriterionSelectionStrategy("energy", seed=0),
    "k-center": lambda: KCenterSelectionStrategy(most=6),
}


def trained(stream, choice, *, groupby=None, tasks=False):
    torch.manual_seed(0)
    model = MTSimpleMLP(64, 16) if tasks else SimpleMLP(4, 64, 16)
    policy = ParametricBuffer(12, groupby, selection_strategy=choice)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=10,
        plugins=[ReplayPlugin(12, storage_policy=policy)],
        evaluator=LeanEvaluationPlugin(),
    )
    for experience in stream:
        strategy.train(experience)
    return strategy, policy


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("tasks", [False, True])
def test_in_upstreams_replay(class_stream, name, tasks):
    stream = class_stream(2, 30, tasks=tasks).train_stream
    groupby = "class" if tasks else None  # upstream's classes come with tasks
    strategy, policy = trained(stream, CHOICES[name](), groupby=groupby, tasks=tasks)
    assert len(policy.buffer) == 12
    assert strategy.model.training
    again = trained(stream, CHOICES[name](), groupby=groupby, tasks=tasks)[1]
    assert [int(row[1]) for row in policy.buffer] == [
        int(row[1]) for row in again.buffer
    ]
    for row, same in zip(policy.buffer, again.buffer, strict=True):
        assert torch.equal(row[0], same[0])


def rows_of(data):
    """Each row of a data set as its evaluation transforms give it."""
    data = data.eval()
    return torch.stack([data[i][0] for i in range(len(data))]), torch.tensor(
        [int(data[i][1]) for i in range(len(data))]
    )


def test_the_order_is_that_of_the_scores(class_stream):
    experience = class_stream(2, 30).train_stream[0]
    choice = CHOICES["loss"]()
    strategy, _ = trained([experience], choice)
    before = traces(strategy.model)
    order = choice.make_sorted_indices(strategy, experience.dataset)
    assert_same_traces(strategy.model, before)
    x, y = rows_of(experience.dataset)
    model = copy.deepcopy(strategy.model).eval()
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    assert sorted(order) == list(range(30))
    ordered = losses[order]
    assert (ordered[:-1] >= ordered[1:] - 1e-6).all()


def test_rows_are_compared_with_each_other(class_stream):
    experience = class_stream(2, 30).train_stream[0]
    choice = CHOICES["diversity"]()
    strategy, _ = trained([experience], choice)
    order = choice.make_sorted_indices(strategy, experience.dataset)
    features = hidden(strategy.model, experience.dataset)
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf).min(1).values
    ordered = distances[order]
    assert (ordered[:-1] >= ordered[1:] - 1e-5).all()


def hidden(model, data):
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return model.get_features(rows_of(data)[0])


@pytest.mark.parametrize("most", [None, 7, 100])
def test_k_center_comes_first(class_stream, most):
    experience = class_stream(2, 30).train_stream[0]
    choice = KCenterSelectionStrategy(most=most)
    strategy, _ = trained([experience], choice)
    order = choice.make_sorted_indices(strategy, experience.dataset)
    assert sorted(order) == list(range(30))
    features = hidden(strategy.model, experience.dataset)
    k = min(most or 29, 29)
    assert order[:k] == k_center(features, k).tolist()
    if most == 7:
        assert order[7:] == sorted(order[7:])


def test_a_criterion_that_tells_no_rows_apart_is_told_once(class_stream):
    class Alike:
        name = "alike"

        def score(self, rows, context):
            return torch.ones(len(rows["y"]))

    experience = class_stream(2, 30).train_stream[0]
    choice = CriterionSelectionStrategy(Alike(), seed=0)
    told = "'alike' gives all 30 rows the same score.* first .*loss, gradient.* tell"
    strategy, _ = trained([], choice)
    with pytest.warns(UserWarning, match=told):
        order = choice.make_sorted_indices(strategy, experience.dataset)
    assert order == list(range(30))
    choice.make_sorted_indices(strategy, experience.dataset)  # warnings are errors


def test_bad_input():
    with pytest.raises(ValueError, match="unknown criterion 'herring'"):
        CriterionSelectionStrategy("herring")
    with pytest.raises(
        ValueError, match="most must be a number of rows from 1 on, got 0"
    ):
        KCenterSelectionStrategy(most=0)


def test_scores_that_are_no_numbers_are_named(class_stream):
    class Broken:
        name = "broken"

        def score(self, rows, context):
            scores = torch.zeros(len(rows["y"]))
            scores[3] = torch.nan
            return scores

    with pytest.raises(
        ValueError, match=r"'broken' scored 1 of \d+ rows NaN \(row 3\)"
    ):
        trained(
            class_stream(2, 30).train_stream,
            CriterionSelectionStrategy(Broken(), seed=0),
        )


@pytest.mark.parametrize(
    "criterion",
    [
        "forgetting",
        "age",
        "access",
        WeightedCriterion([LossCriterion(), AgeCriterion()]),
    ],
)
def test_what_a_memory_knows_of_its_rows_is_refused(criterion):
    """All rows would be alike, and the first ones kept without a word."""
    with pytest.raises(ValueError, match="rows to select from have no past"):
        CriterionSelectionStrategy(criterion)
    part = WeightedCriterion([LossCriterion(), AgeCriterion()], {"age": 0})
    assert CriterionSelectionStrategy(part).criterion is part
