"""experiments/upstream.py: each method is upstream's, and where it cannot be used."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import supervised
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.plugins import EvaluationPlugin, ReplayPlugin
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.supervised.mer import MER
from small_images import small_images

from experiments import benchmarks, training
from experiments.data import class_groups
from experiments.errors import UserError
from experiments.job import Job
from experiments.methods import build, method_options
from experiments.models import MODELS
from experiments.options import Run
from experiments.training import train_seed
from experiments.upstream import UPSTREAM
from experiments.upstream_limits import quiet, with_task_zero

ROWS = 60
"""Of each of the two experiences: six batches."""
SMALL = {
    "upstream-replay": ["mem_size=20"],
    "upstream-reservoir-replay": ["mem_size=20"],
    "upstream-ewc": ["ewc_lambda=5"],
    "upstream-gem": ["patterns_per_experience=20"],
    "upstream-agem": ["patterns_per_experience=20", "sample_size=12"],
    "upstream-der": ["mem_size=20", "alpha=0.5"],
    "upstream-gss": ["mem_size=50", "mem_strength=2"],
    "upstream-mir": ["mem_size=20", "batch_size_mem=5", "subsample=15"],
    "upstream-mer": ["mem_size=20", "n_inner_steps=1", "batch_size_mem=3"],
}
VARYING = {"train_seconds", "eval_seconds", "peak_memory_mb", "method"}


@pytest.fixture(autouse=True)
def _without_collections(monkeypatch):
    """They take most of the time of so short a training."""
    monkeypatch.setattr(training, "_imports_out_of_collections", nullcontext)


@pytest.fixture(scope="module")
def arrays():
    """Four classes of small images, near enough to each other to be forgotten."""
    return small_images(ROWS // 2, 10)


def job(arrays, method, settings=None, **options):
    settings = SMALL.get(method, ()) if settings is None else settings
    options = {"experiences": 2, "epochs": 1, "hidden": (20,), **options}
    run = Run("small", method, progress="off", **options)
    groups = class_groups(arrays, 2, "small")
    return Job(run, method_options(method, settings), arrays, groups, "cpu")


def train(*arguments, seed=0, **options):
    result = train_seed(job(*arguments, **options), seed)
    return {key: value for key, value in result.items() if key not in VARYING}


@pytest.mark.parametrize("method", list(UPSTREAM))
def test_two_experiences_are_learnt_the_same_each_time(arrays, method):
    one = train(arrays, method)
    assert one["iterations"] == 2 * ROWS // 10
    assert np.isfinite(one["accuracy_matrix"]).all()
    assert one["memory_composition"] == []
    torch.rand(5), np.random.rand()  # noqa: NPY002
    assert train(arrays, method) == one
    assert train(arrays, method, seed=1) != one


def upstreams(method, shape):
    """Avalanche's own class for a method, and the arguments that SMALL stands for."""
    policy = ReservoirSamplingBuffer(20)
    reservoir = ReplayPlugin(20, storage_policy=policy)
    return {
        "upstream-replay": (supervised.Replay, {"mem_size": 20}),
        "upstream-reservoir-replay": (
            supervised.Naive,
            {"plugins": [reservoir]},
        ),
        "upstream-ewc": (supervised.EWC, {"ewc_lambda": 5}),
        "upstream-si": (supervised.SynapticIntelligence, {"si_lambda": 1}),
        "upstream-gem": (
            supervised.GEM,
            {"patterns_per_exp": 20, "memory_strength": 0.5},
        ),
        "upstream-agem": (
            supervised.AGEM,
            {"patterns_per_exp": 20, "sample_size": 12},
        ),
        "upstream-der": (supervised.DER, {"mem_size": 20, "alpha": 0.5}),
        "upstream-gss": (
            supervised.GSS_greedy,
            {"mem_size": 50, "mem_strength": 2, "input_size": list(shape)},
        ),
        "upstream-mir": (
            supervised.MIR,
            {"mem_size": 20, "batch_size_mem": 5, "subsample": 15},
        ),
        "upstream-mer": (
            MER,
            {"mem_size": 20, "n_inner_steps": 1, "batch_size_mem": 3},
        ),
    }[method]


@pytest.mark.parametrize("method", list(UPSTREAM))
def test_figures_are_those_of_avalanche_by_itself(arrays, method):
    work = job(arrays, method)
    benchmark = benchmarks.build(arrays, work.groups, "class")
    if method in ("upstream-der", "upstream-gss", "upstream-mir", "upstream-mer"):
        benchmark = with_task_zero(benchmark)
    kind, arguments = upstreams(method, benchmark.task.shape)
    RNGManager.set_random_seeds(3)
    model = MODELS["mlp"](benchmark.task, work.options.hidden, "xavier")
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No loggers specified")
        strategy = kind(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            criterion=torch.nn.CrossEntropyLoss(),
            train_mb_size=10,
            train_epochs=1,
            eval_mb_size=256,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True)),
            **arguments,
        )
        rows = []
        for experience in benchmark.train:
            strategy.train(experience, eval_streams=[])
            rows.append(list(strategy.eval(benchmark.test).values()))
    assert train(arrays, method, seed=3)["accuracy_matrix"] == rows


@pytest.mark.parametrize("method", ["upstream-reservoir-replay", "upstream-der"])
@pytest.mark.filterwarnings("ignore:the training data stay")
def test_resident_data_would_change_nothing(arrays, method, monkeypatch):
    one = train(arrays, method)
    monkeypatch.setattr(Run, "in_memory", True)
    assert train(arrays, method) == one


def test_data_are_loaded_by_avalanche(arrays):
    assert Run("b", "naive").in_memory
    assert not Run("b", "naive", resident=False).in_memory
    assert not Run("b", "upstream-ewc").in_memory


def test_si_has_no_effect_on_a_cpu(arrays):
    naive = train(arrays, "naive", resident=False)
    assert train(arrays, "upstream-si", ["si_lambda=1000"]) == naive


@pytest.mark.parametrize("method", list(UPSTREAM))
@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
@pytest.mark.parametrize("stream_size", [None, 20])
def test_a_setting_works_or_is_refused_before_training(
    arrays, method, scenario, stream_size
):
    refused = (scenario == "task" and method in ("upstream-der", "upstream-gss")) or (
        stream_size and method == "upstream-gss"
    )
    options = {"scenario": scenario, "stream_size": stream_size}
    if refused:
        with pytest.raises(UserError, match=f"^{method}[ :].*use ") as raised:
            train(arrays, method, **options)
        assert "\n" not in str(raised.value)
    else:
        assert train(arrays, method, **options)["iterations"] == 2 * ROWS // 10


@pytest.mark.parametrize(
    ("method", "settings", "told"),
    [
        ("upstream-replay", ["mem_size=0"], "mem_size=0 must be 1 or more"),
        ("upstream-replay", ["mem_size=9"], "smaller than a replay batch of 10"),
        (
            "upstream-reservoir-replay",
            ["mem_size=5", "batch_size_mem=6"],
            "mem_size=5 is smaller than a replay batch of 6: use --set "
            "batch_size_mem=5 or less",
        ),
        ("upstream-ewc", ["mode=online"], "mode=online needs a decay_factor"),
        ("upstream-ewc", ["decay_factor=0.5"], "mode=separate takes none"),
        ("upstream-ewc", ["ewc_lambda=-1"], "ewc_lambda=-1.0 must be 0 or more"),
        (
            "upstream-ewc",
            ["mode=online", "decay_factor=-1"],
            "decay_factor=-1.0 must be 0 or more",
        ),
        ("upstream-si", ["si_lambda=-1"], "si_lambda=-1.0 must be 0 or more"),
        ("upstream-si", ["eps=0"], "eps=0.0 must be above 0"),
        ("upstream-gem", ["memory_strength=-1"], "must be 0 or more"),
        ("upstream-der", ["alpha=-1"], "alpha=-1.0 must be 0 or more"),
        ("upstream-der", ["beta=-1"], "beta=-1.0 must be 0 or more"),
        ("upstream-mer", ["gamma=-1"], "gamma=-1.0 must be 0 or more"),
        ("upstream-gem", ["patterns_per_experience=0"], "must be 1 or more"),
        ("upstream-agem", ["sample_size=1"], "--set sample_size=2 or more"),
        ("upstream-der", ["mem_size=9"], "smaller than a replay batch of 10"),
        ("upstream-gss", ["mem_size=42"], "--set mem_size=43 or more"),
        ("upstream-mir", ["mem_size=10"], "mem_size=10 must be larger than batch_si"),
        ("upstream-mir", ["subsample=10"], "subsample=10 must be larger than"),
        ("upstream-mer", ["mem_size=9"], "smaller than a replay batch of 10"),
        ("upstream-mer", ["n_inner_steps=0"], "n_inner_steps=0 must be 1 or more"),
    ],
)
def test_options_that_upstream_would_fail_on_are_refused(
    arrays, method, settings, told
):
    with pytest.raises(UserError) as raised:
        train(arrays, method, settings)
    assert str(raised.value).startswith(f"{method}: ")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_smallest_sizes_allowed_do_train(arrays):
    train(arrays, "upstream-gss", ["mem_size=43"])
    train(arrays, "upstream-agem", ["sample_size=2"])
    train(arrays, "upstream-mir", ["mem_size=11", "subsample=11"])


def test_der_is_refused_where_logits_stand_for_classes_to_come(arrays):
    with pytest.raises(UserError, match=r"^upstream-der .* use --head all$"):
        train(arrays, "upstream-der", head="seen")


@pytest.mark.parametrize("method", list(UPSTREAM))
def test_iterations_may_be_counted_instead_of_epochs(arrays, method):
    assert train(arrays, method, epochs=None, iterations=8)["iterations"] == 16


def test_gss_counts_what_few_iterations_leave_in_its_memory(arrays):
    with pytest.raises(UserError, match="fills 40 rows of the memory, fewer than the"):
        train(arrays, "upstream-gss", epochs=None, iterations=4)


def test_a_missing_solver_is_told(monkeypatch):
    monkeypatch.setattr("qpsolvers.available_solvers", ["other"])
    with pytest.raises(UserError, match="pip install quadprog"):
        build("upstream-gem", method_options("upstream-gem", ()), 0)


def test_rows_carry_task_zero_where_they_carry_none(arrays):
    groups = class_groups(arrays, 2, "small")
    plain = benchmarks.build(arrays, groups, "class")
    labelled = with_task_zero(plain)
    for before, after in ((plain.train, labelled.train), (plain.test, labelled.test)):
        for one, other in zip(before, after, strict=True):
            assert other.task_labels == [0]
            assert [row[1:] for row in other.dataset] == [
                [row[1], 0] for row in one.dataset
            ]
            same = zip(one.dataset, other.dataset, strict=True)
            assert all(torch.equal(a[0], b[0]) for a, b in same)
            assert other.classes_in_this_experience == one.classes_in_this_experience
    tasks = benchmarks.build(arrays, groups, "task")
    assert with_task_zero(tasks) is tasks


def test_deprecations_of_upstream_are_not_printed(arrays):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train(arrays, "upstream-replay")
        train(arrays, "upstream-si")
        assert not told
        with quiet():
            warnings.warn("something else", UserWarning, stacklevel=1)
        assert len(told) == 1
