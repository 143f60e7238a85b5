"""experiments/methods.py: the table, its options and its recipes."""

from typing import get_args

import pytest

from avalanche_ext.plugins import rehearsal
from experiments.errors import UserError
from experiments.methods import (
    METHODS,
    Feed,
    TrainMetrics,
    build,
    method_options,
    parameters,
    summary,
)

REPLAY = [
    *("reservoir-replay", "er-ring", "class-balanced-replay"),
    "multi-strategy-replay",
]


def test_every_method_has_a_summary_of_one_line():
    for method in METHODS:
        assert 20 < len(summary(method)) < 90
        assert "seed" not in parameters(method)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_can_be_built_from_its_defaults(method):
    recipe = build(method, method_options(method, ()), seed=1)
    assert (recipe.memory is not None) == (method in REPLAY)
    expected = {"joint": "all", "cumulative": "seen"}
    assert recipe.data == expected.get(method, "own")
    assert recipe.row_per_class == (method in REPLAY[1:])


@pytest.mark.parametrize("method", REPLAY)
def test_settings_reach_the_memory(method):
    settings = ["mem_size=31", "batch_size_mem=7", "feed=every_epoch"]
    options = method_options(method, settings)
    own = {"per_class": None} if method == "er-ring" else {}
    expected = {
        **{"mem_size": 31, "batch_size_mem": 7, "feed": "every_epoch"},
        **{"loss_weights": "mean", "train_metrics": "all", **own},
    }
    assert {name: options[name] for name in expected} == expected
    recipe = build(method, options, seed=1)
    (plugin,) = recipe.plugins
    assert recipe.memory is plugin.buffer
    assert (plugin.buffer.max_size, plugin.batch_size_mem) == (31, 7)
    assert plugin.feed == "every_epoch"
    assert plugin.loss_weights is None
    assert not recipe.shuffled


@pytest.mark.parametrize("method", REPLAY)
def test_loss_weights_by_experience(method):
    settings = ["loss_weights=by_experience", "feed=experience"]
    recipe = build(method, method_options(method, settings), seed=1)
    (plugin,) = recipe.plugins
    assert plugin.feed == "experience"
    assert recipe.shuffled == (method == "er-ring")  # it keeps the last rows
    weights = [plugin.loss_weights(k) for k in (1, 2, 4)]
    assert weights == [(1, 0), (0.5, 0.5), (0.25, 0.75)]


@pytest.mark.parametrize("method", REPLAY)
def test_plain_options_of_the_plugin_can_be_set(method):
    settings = ["loss_weights=1,0.5", "train_metrics=current", "feed=experience"]
    options = method_options(method, settings)
    assert options["loss_weights"] == [1.0, 0.5]  # as it is read back from a file
    (plugin,) = build(method, options, seed=1).plugins
    assert plugin.loss_weights == (1.0, 0.5)
    assert (plugin.train_metrics, plugin.feed) == ("current", "experience")
    (plugin,) = build(method, method_options(method, ()), seed=1).plugins
    assert (plugin.train_metrics, plugin.loss_weights) == ("all", None)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("loss_weights=1", "'1' is not mean or by_experience or two numbers C,R"),
        ("loss_weights=1,2,3", "'1,2,3' is not mean or by_experience or two num"),
        ("loss_weights=1,x", "'x' is not float"),
        ("loss_weights=1,-1", "loss_weights must be two numbers of 0 or more"),
        ("train_metrics=some", "'some' is not all or current"),
        ("mem_size=1.5", "'1.5' is not int from 1 on"),
        ("mem_size=0", "mem_size=0 must be 1 or more"),
        ("mem_size=-9999999999999999999", "use a whole number below 2**63"),
        ("mem_size=9223372036854775808", "use a whole number below 2**63"),
    ],
)
@pytest.mark.parametrize("method", REPLAY)
def test_values_that_no_memory_has_are_refused(method, setting, told):
    with pytest.raises(UserError) as raised:
        build(method, method_options(method, [setting]), seed=1)
    assert told in str(raised.value)


def test_closed_sets_are_those_of_the_plugin():
    assert get_args(Feed) == get_args(rehearsal.Feed)
    assert get_args(TrainMetrics) == get_args(rehearsal.TrainMetrics)


def test_a_ring_by_rows_a_class():
    options = method_options("er-ring", ["mem_size=none", "per_class=3"])
    assert build("er-ring", options, seed=1).memory.grows
    options = method_options("er-ring", ["per_class=3"])
    assert not build("er-ring", options, seed=1).memory.grows
    options = method_options("er-ring", ["mem_size=none"])
    with pytest.raises(UserError, match="per_class"):
        build("er-ring", options, seed=1)


@pytest.mark.parametrize("method", REPLAY)
def test_a_memory_smaller_than_a_replay_batch_is_refused(method):
    options = method_options(method, ["mem_size=5"])
    with pytest.raises(UserError) as raised:
        build(method, options, seed=1)
    told = str(raised.value)
    assert told.startswith(f"{method}: ")
    assert "batch_size_mem=10" in told
    assert "5" in told
    assert "\n" not in told


def test_a_memory_of_several_criteria():
    settings = ["criteria=loss, 0.5*age", "admission=score", "sampling=priority"]
    options = method_options("multi-strategy-replay", [*settings, "w_age=0.1"])
    recipe = build("multi-strategy-replay", options, seed=1)
    memory = recipe.memory
    assert memory.scorer.scores.mixed.weights == {"loss": 1.0, "age": 0.5}
    assert (memory.admission, memory.sampling) == ("score", "mixed")
    assert recipe.row_per_class
    for setting, told in (
        ("criteria=loss,x*age", "write names"),
        ("criteria=loss,2*loss", "several criteria are named ['loss']: give each once"),
        ("criteria=lost", "unknown criterion 'lost'"),
        ("criteria=0*loss", "at least one above 0"),
        ("sampling=lucky", "unknown sampling 'lucky'"),
        ("temperature=0", "above 0"),
        ("w_use=-1", "w_use"),
    ):
        options = method_options("multi-strategy-replay", [setting])
        with pytest.raises(UserError, match="multi-strategy-replay: ") as raised:
            build("multi-strategy-replay", options, seed=1)
        assert told in str(raised.value)
    options = method_options("multi-strategy-replay", ["admission=reservoir"])
    assert not build("multi-strategy-replay", options, seed=1).row_per_class


def test_what_priority_draws_by():
    for settings, sampling, weights in (
        ([], "mixed", {"forgetting": 1.0}),
        (["criteria=loss"], "mixed", {"loss": 1.0}),
        (["sampling=priority"], "loss", {"forgetting": 1.0}),
        (["criteria=none", "sampling=priority"], "loss", {"forgetting": 1.0}),
        (["criteria=gradient", "sampling=priority"], "gradient", {"gradient": 1.0}),
    ):
        options = method_options("multi-strategy-replay", settings)
        memory = build("multi-strategy-replay", options, seed=1).memory
        assert memory.sampling == sampling
        assert memory.scorer.scores.mixed.weights == weights
