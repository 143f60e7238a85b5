"""experiments/importance.py: options reach the plugins, and streams they cannot serve."""

from typing import get_args

import pytest
from small_images import small_images

from avalanche_ext import threshold
from avalanche_ext.gradients import FisherLabels
from avalanche_ext.plugins import adaptive_ewc, synaptic_intelligence
from experiments import importance
from experiments.data import class_groups
from experiments.errors import Diverged, UserError
from experiments.job import Job
from experiments.methods import build, method_options
from experiments.options import Run
from experiments.training import train_seed


def plugin(method, *settings):
    recipe = build(method, method_options(method, settings), seed=3)
    (found,) = recipe.plugins
    return found


def test_closed_sets_are_those_of_the_plugins():
    for ours, theirs in (
        (importance.Accumulation, adaptive_ewc.Accumulation),
        (importance.Labels, FisherLabels),
        (importance.ThresholdUnit, threshold.ThresholdUnit),
        (importance.Path, synaptic_intelligence.Path),
    ):
        assert set(get_args(ours)) == set(get_args(theirs))


def test_options_of_ewc():
    found = plugin("adaptive-ewc")
    assert (found.ewc_lambda, found.accumulation, found.seed) == (1.0, "sum", 3)
    assert (found.labels, found.num_samples, found.balance) == ("exact", 1000, True)
    # the running average, as first described
    found = plugin(
        "adaptive-ewc",
        *("accumulation=ema", "decay=0.95", "labels=sampled", "num_samples=200"),
        *("ewc_lambda=5e3", "threshold=0.1", "threshold_unit=absolute"),
        *("balance=running", "exclude=classifier,*.bias", "boundary=50"),
    )
    assert (found.accumulation, found.decay, found.labels) == ("ema", 0.95, "sampled")
    assert (found.num_samples, found.ewc_lambda, found.balance) == (200, 5000, True)
    assert (found.threshold, found.threshold_unit) == (0.1, "absolute")
    assert found.selection.exclude == ("classifier", "*.bias")
    assert found.boundaries.boundary == 50
    found = plugin("adaptive-ewc", "balance=each", "num_samples=none", "exclude=none")
    assert (found.balance, found.num_samples) == ("each", None)
    assert found.selection.exclude == ()


def test_options_of_si():
    found = plugin("si", "si_lambda=0,0.5", "eps=0.9", "path=squares", "clip_value=1")
    assert (found.si_lambda, found.eps) == ((0, 0.5), 0.9)
    assert (found.path, found.clip_value) == ("squares", 1)
    assert plugin("si").si_lambda == (1,)
    assert plugin("si", "si_lambda=5e4").si_lambda == (50_000,)
    assert plugin("si", "include=features").selection.include == ("features",)


@pytest.mark.parametrize(
    ("method", "setting", "told"),
    [
        ("adaptive-ewc", "ewc_lambda=-1", "ewc_lambda must be a number of 0 or more"),
        ("adaptive-ewc", "boundary=0", "boundary must be a whole number of iterations"),
        ("adaptive-ewc", "boundary=task", "'task' is not origin or experience or int"),
        ("si", "si_lambda=1,x", "write a number, or one for each experience"),
        ("si", "eps=0", "eps must be a number above 0"),
    ],
)
def test_values_that_are_refused(method, setting, told):
    with pytest.raises(UserError) as raised:
        plugin(method, setting)
    assert told in str(raised.value)


@pytest.fixture(scope="module")
def arrays():
    """Four classes of small images."""
    return small_images(20, 10)


def trained(arrays, method, settings, **options):
    run = Run("small", method, set=settings, progress="off", **options)
    chosen = method_options(method, settings)
    job = Job(run, chosen, arrays, class_groups(arrays, 2, "small"), "cpu")
    return train_seed(job, 0)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("adaptive-ewc", ()), ("si", ("si_lambda=10",))],
)
@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_they_train(arrays, method, settings, scenario):
    options = {"scenario": scenario, "epochs": 3, "experiences": 2}
    found = trained(arrays, method, settings, **options)
    health = found["penalty_health"]
    assert health["consolidations"] == 2
    assert all(health[name] > 0 for name in ("strength", "nonzero", "gradient_ratio"))
    plain = trained(arrays, "naive", (), **options)
    assert found["iterations"] == plain["iterations"]
    assert found["accuracy_matrix"][0] == plain["accuracy_matrix"][0]


@pytest.mark.parametrize("method", ["adaptive-ewc", "si"])
def test_online_streams_that_hide_boundaries(arrays, method):
    options = {"scenario": "class", "stream_size": 10, "experiences": 2}
    with pytest.raises(UserError, match="use --set boundary=N"):
        trained(arrays, method, (), **options)
    trained(arrays, method, ("boundary=4",), **options)
    trained(arrays, method, (), task_labels=True, **options)


@pytest.mark.parametrize("method", ["adaptive-ewc", "si"])
def test_what_only_training_shows_is_one_clear_error(arrays, method):
    with pytest.raises(UserError, match=f"{method}: include: 'nope' matches no param"):
        trained(arrays, method, ("include=nope",), experiences=2)
    strength = "ewc_lambda" if method == "adaptive-ewc" else "si_lambda"
    settings = (f"{strength}=1e9", *(() if method == "si" else ("balance=none",)))
    with (
        pytest.warns(UserWarning, match="too much|pulls"),
        pytest.raises(Diverged, match=f"the loss is .* or lower --set {strength}"),
    ):
        trained(arrays, method, settings, experiences=2, epochs=20)
