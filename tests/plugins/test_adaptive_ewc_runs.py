"""avalanche_ext/plugins/adaptive_ewc.py in runs: boundaries, states, and what is refused."""

import warnings
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.supervised import Naive
from regularised import experiences, network, stopped_and_continued, strategy
from torch import nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
)


@pytest.mark.parametrize("boundary", ["origin", "experience", 4])
def test_boundaries_of_online_streams(class_stream: Any, boundary: Any) -> None:
    """Two experiences of 40 rows, in ten parts of 8 each, a batch a part."""
    plugin = AdaptiveEWCPlugin(10.0, boundary=boundary, seed=0)
    trained = strategy([plugin])
    stream = class_stream(experiences=2).train_stream
    known = boundary == "origin"
    online = split_online_stream(stream, 8, seed=0, access_task_boundaries=known)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one-step experiences are told
        trained.train(online, eval_streams=[])
    expected = {"origin": 2, "experience": 10, 4: 2}[boundary]
    assert plugin.consolidations == expected


def test_one_step_experiences_are_told(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(10.0, boundary="experience", seed=0)
    online = split_online_stream(class_stream(experiences=1).train_stream, 8, seed=0)
    with pytest.warns(UserWarning, match="held parameters that had not moved"):
        strategy([plugin]).train(online, eval_streams=[])


def test_rows_of_the_iterations_are_used(class_stream: Any) -> None:
    """All of them, where as many are wanted: equal to the experience's own Fisher."""
    found = []
    for boundary in (5, "origin"):
        plugin = AdaptiveEWCPlugin(10.0, boundary=boundary, num_samples=None)
        trained = strategy([plugin])
        trained.train(class_stream(experiences=1).train_stream, eval_streams=[])
        found.append(plugin.quadratic.importance["1.weight"])
    assert (found[0] - found[1]).norm() <= 1e-5 * found[1].norm()


def test_hidden_boundaries_are_refused(class_stream: Any) -> None:
    online = split_online_stream(class_stream(experiences=1).train_stream, 8, seed=0)
    trained = strategy([AdaptiveEWCPlugin(10.0)])
    with pytest.raises(ValueError, match="boundary='origin' needs to know which"):
        trained.train(online, eval_streams=[])


@pytest.mark.parametrize("boundary", ["origin", 3])
def test_state_and_checkpoint(class_stream: Any, tmp_path: Any, boundary: Any) -> None:
    """A run that stops between experiences, with iterations counted across them."""
    stream = class_stream(experiences=4).train_stream

    def make() -> Naive:
        plugin = AdaptiveEWCPlugin(
            10.0, accumulation="separate", balance=True, boundary=boundary, seed=0
        )
        return strategy([plugin])

    whole, part, loaded = stopped_and_continued(make, stream, tmp_path / "run.ckpt")
    assert loaded.health.strength == part.plugins[0].health.strength
    with torch.no_grad():
        assert loaded.penalty(whole.model).item() == pytest.approx(
            part.plugins[0].penalty(whole.model).item(), rel=1e-6
        )


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: AdaptiveEWCPlugin(1.0, accumulation="ema"), "accumulation='sum'"),
        (lambda: AdaptiveEWCPlugin(1.0, balance=True), "balance=False"),
    ],
)
def test_a_state_of_another_kind_is_refused(make: Any, told: str) -> None:
    state = AdaptiveEWCPlugin(1.0).state_dict()
    with pytest.raises(ValueError, match=f"the state has {told}"):
        make().load_state_dict(state)
    state["method"] = "Other"
    with pytest.raises(
        ValueError, match="the state is of Other, this plugin is of Adaptive"
    ):
        AdaptiveEWCPlugin(1.0).load_state_dict(state)


def test_another_model_is_refused(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(1.0)
    plugin.update(nn.Linear(5, 3).double(), experiences(1)[0])
    other = AdaptiveEWCPlugin(1.0)
    other.load_state_dict(plugin.state_dict())
    with pytest.raises(ValueError, match="they are of another model"):
        strategy([other]).train(
            class_stream(experiences=1).train_stream, eval_streams=[]
        )


def test_another_run_is_told(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(10.0)
    stream = class_stream(experiences=1).train_stream
    strategy([plugin]).train(stream, eval_streams=[])
    with pytest.warns(UserWarning, match="goes on with the importances of another run"):
        strategy([plugin]).train(stream, eval_streams=[])


def test_a_template_without_the_callback_is_told(class_stream: Any) -> None:
    class Silent(Naive):
        def _before_backward(self, **kwargs: Any) -> None:
            pass

    model = network()
    trained = Silent(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        criterion=nn.CrossEntropyLoss(),
        plugins=[AdaptiveEWCPlugin(10.0)],
        evaluator=LeanEvaluationPlugin(),
    )
    with pytest.warns(UserWarning, match="Silent never calls before_backward"):
        trained.train(class_stream(experiences=1).train_stream, eval_streams=[])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ewc_lambda": -1}, "ewc_lambda must be a number of 0 or more, got -1"),
        ({"ewc_lambda": float("nan")}, "ewc_lambda must be a number"),
        ({"ewc_lambda": True}, "ewc_lambda must be a number"),
        ({"accumulation": "mean"}, "unknown accumulation 'mean': choose one of"),
        ({"decay": 1.5}, "decay must be a number from 0 to 1, got 1.5"),
        ({"decay": -0.1, "accumulation": "ema"}, "decay must be a number from 0 to 1"),
        ({"decay": 0.9, "accumulation": "separate"}, "weighs all experiences alike"),
        ({"threshold": -1}, "threshold must be a number of 0 or more"),
        ({"threshold_unit": "max"}, "unknown threshold_unit 'max'"),
        ({"num_samples": 0}, "num_samples must be a whole number of rows, at least 1"),
        ({"labels": "true"}, "unknown labels 'true': choose one of"),
        ({"balance": "all"}, "balance must be True, False or 'each'"),
        ({"boundary": 0}, "boundary must be a whole number of iterations, at least 1"),
        ({"boundary": "task"}, "boundary='task': choose 'origin', 'experience', or"),
        ({"include": 1}, "include must be names of parameters"),
        ({"seed": 0.5}, "seed must be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AdaptiveEWCPlugin(**{"ewc_lambda": 1.0, **arguments})


def test_bad_data() -> None:
    plugin = AdaptiveEWCPlugin(1.0, labels="empirical")
    with pytest.raises(ValueError, match="labels='empirical' needs targets: y is None"):
        plugin.update(nn.Linear(5, 3), [[torch.randn(4, 5)]])
    with pytest.raises(ValueError, match="there is none: give data"):
        plugin.update(nn.Linear(5, 3), [])
    model = nn.Linear(5, 3)
    with pytest.raises(ValueError, match="is selected: include=None and exclude"):
        AdaptiveEWCPlugin(1.0, exclude="*").penalty(model)
    with pytest.raises(ValueError, match="'head' matches no parameter of Linear"):
        AdaptiveEWCPlugin(1.0, include="head").penalty(model)


def test_losses_that_are_not_of_classes_are_refused(class_stream: Any) -> None:
    trained = strategy([AdaptiveEWCPlugin(1.0)], criterion=nn.MSELoss())
    with pytest.raises(ValueError, match="and the criterion is MSELoss: use labels="):
        trained.train(class_stream(experiences=1).train_stream, eval_streams=[])
