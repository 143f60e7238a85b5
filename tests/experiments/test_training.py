"""experiments/training.py and measures.py: what a seed trains on and reports."""

import numpy as np
import pytest
import torch

from experiments import training
from experiments.data import Arrays, class_groups
from experiments.errors import UserError
from experiments.job import Job
from experiments.methods import METHODS, method_options
from experiments.models import MODELS
from experiments.options import Run
from experiments.sources import read_arrays
from experiments.training import train_seed

SCENARIOS = ["class", "domain", "task"]
OURS = [method for method in METHODS if not method.startswith("upstream-")]
VARYING = {"train_seconds", "eval_seconds", "peak_memory_mb"}


@pytest.fixture(scope="module")
def digits():
    return read_arrays("split-digits", None)


def job(arrays, method="naive", settings=(), experiences=None, **options):
    experiences = experiences or (5 if len(arrays.classes) == 10 else 3)
    run = Run("b", method, experiences=experiences, progress="off", **options)
    groups = class_groups(arrays, experiences, "b")
    return Job(run, method_options(method, settings), arrays, groups, "cpu")


def steady(result):
    return {key: value for key, value in result.items() if key not in VARYING}


@pytest.mark.parametrize("method", ["naive", "class-balanced-replay"])
@pytest.mark.parametrize("stream_size", [None, 10])
def test_the_same_seed_gives_the_same_result(digits, method, stream_size):
    work = job(digits, method, epochs=1, stream_size=stream_size)
    one = train_seed(work, 3)
    torch.rand(5), np.random.rand()  # noqa: NPY002
    assert steady(train_seed(work, 3)) == steady(one)
    assert steady(train_seed(work, 4)) != steady(one)


def test_resident_data_change_nothing(blobs):
    options = {"epochs": 2, "scenario": "task"}
    one, other = (
        train_seed(job(blobs, "reservoir-replay", resident=r, **options), 0)
        for r in (True, False)
    )
    assert steady(one) == steady(other)


def test_joint_training_solves_the_digits(digits):
    result = train_seed(job(digits, "joint", epochs=5), 0)
    assert result["average_accuracy"] > 0.9
    assert np.shape(result["accuracy_matrix"]) == (1, 5)
    assert result["forgetting"] == [None] * 5
    assert result["average_forgetting"] is None
    assert result["backward_transfer"] is None


def test_replay_keeps_what_plain_training_forgets(digits):
    work = {"epochs": 10}
    naive = train_seed(job(digits, **work), 0)
    replay = train_seed(job(digits, "reservoir-replay", **work), 0)
    assert naive["average_accuracy"] < 0.25
    assert naive["average_forgetting"] > 0.9
    assert replay["average_accuracy"] > 0.75


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_last_row_equals_a_bare_evaluation(blobs, scenario, monkeypatch):
    models = []
    build = MODELS["mlp"]
    monkeypatch.setitem(MODELS, "mlp", lambda *a: models.append(build(*a)) or models[0])
    result = train_seed(job(blobs, "reservoir-replay", scenario=scenario), 0)
    (model,) = models
    model.eval()
    plain, known = [], []
    for t in range(3):
        rows = np.isin(blobs.y_test, [2 * t, 2 * t + 1])
        x = torch.from_numpy(blobs.x_test[rows]).float() / 255
        y = torch.from_numpy(blobs.y_test[rows])
        with torch.no_grad():
            if scenario == "task":
                out = model(x, torch.full((len(x),), t))
            else:
                out = model(x)
        first = 2 * t if scenario == "class" else 0
        y = y - 2 * t + first
        plain.append((out.argmax(1) == y).double().mean().item())
        pair = out[:, first : first + 2].argmax(1) + first
        known.append((pair == y).double().mean().item())
    assert result["accuracy_matrix"][-1] == pytest.approx(plain)
    assert result["accuracy_matrix_task_known"][-1] == pytest.approx(known)
    assert result["average_accuracy"] == pytest.approx(np.mean(plain))
    assert result["average_accuracy_task_known"] == pytest.approx(np.mean(known))


def test_forgetting_and_backward_transfer_follow_from_the_matrix(blobs):
    result = train_seed(job(blobs, epochs=2), 0)
    matrix = np.array(result["accuracy_matrix"])
    lost = matrix[:-1].max(0)[:2] - matrix[-1, :2]
    assert result["forgetting"][:2] == pytest.approx(lost.tolist())
    assert result["forgetting"][2] is None
    assert result["average_forgetting"] == pytest.approx(lost.mean())
    gained = matrix[-1, :2] - matrix.diagonal()[:2]
    assert result["backward_transfer"] == pytest.approx(gained.mean())


def test_a_result_has_every_field(blobs):
    result = train_seed(job(blobs), 5)
    assert set(result) == {
        *("format", "benchmark", "method", "scenario", "seed", "average_accuracy"),
        *("average_forgetting", "backward_transfer", "average_accuracy_task_known"),
        *("accuracy_matrix", "accuracy_matrix_task_known", "forgetting", "classes"),
        *("memory_composition", "train_seconds", "eval_seconds", "peak_memory_mb"),
        *("memory_health", "penalty_health", "iterations"),
    }
    assert result["seed"] == 5
    assert result["classes"] == [[1, 2], [3, 4], [5, 6]]
    assert result["memory_composition"] == []
    assert result["penalty_health"] is None
    assert result["peak_memory_mb"] > 50


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("stream_size", [None, 7])
def test_an_epoch_passes_over_each_row_once(
    blobs, method, scenario, stream_size, monkeypatch
):
    """Online, batch, of one task or several: the same rows, and the bar knows how many
    iterations that takes."""
    seen = []
    criterion = torch.nn.CrossEntropyLoss.forward

    def forward(self, out, y):
        if torch.is_grad_enabled():
            seen.append(len(y))
        return criterion(self, out, y)

    totals = []
    monkeypatch.setattr(torch.nn.CrossEntropyLoss, "forward", forward)
    plugin = training.ProgressPlugin
    monkeypatch.setattr(
        training, "ProgressPlugin", lambda *a: totals.append(a[0]) or plugin(*a)
    )
    options = method_options(method, ())
    settings = ["batch_size_mem=0"] if "mem_size" in options else []
    if "boundary" in options and stream_size:
        settings.append("boundary=10")  # where experiences end is hidden
    work = job(
        *(blobs, method, settings),
        scenario=scenario,
        stream_size=stream_size,
        batch_size=4,
        epochs=2,
    )
    result = train_seed(work, 0)
    rows = 156 * 2 * (2 if method == "cumulative" else 1)  # 52 + 104 + 156 rows
    assert sum(seen) == rows
    assert result["iterations"] == len(seen) == totals[0]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_memory_is_told_by_class(blobs, scenario):
    settings = ["mem_size=30"]
    work = job(blobs, "reservoir-replay", settings, scenario=scenario)
    composition = train_seed(work, 0)["memory_composition"]
    assert [sum(step.values()) for step in composition] == [30, 30, 30]
    names = [set(step) for step in composition]
    if scenario == "domain":
        assert names == [{"label 0", "label 1"}] * 3
    else:
        assert [sorted(step) for step in names] == [
            ["1", "2"],
            ["1", "2", "3", "4"],
            ["1", "2", "3", "4", "5", "6"],
        ]


@pytest.mark.parametrize("method", ["er-ring", "class-balanced-replay"])
@pytest.mark.parametrize(("scenario", "classes"), [("class", 6), ("task", 6)])
def test_a_memory_without_a_row_for_each_class_is_refused(
    blobs, method, scenario, classes
):
    settings = ["mem_size=5", "batch_size_mem=2"]
    with pytest.raises(UserError) as raised:
        train_seed(job(blobs, method, settings, scenario=scenario), 0)
    assert str(raised.value) == (
        f"{method}: a memory of 5 rows is smaller than the {classes} classes of 'b': "
        f"use --set mem_size={classes} or more"
    )


@pytest.mark.parametrize("size", ["none", "200"])
def test_a_ring_smaller_than_a_replay_batch_is_refused(blobs, size):
    settings = ["per_class=2", f"mem_size={size}", "batch_size_mem=13"]
    with pytest.raises(UserError) as raised:
        train_seed(job(blobs, "er-ring", settings), 0)
    assert str(raised.value) == (
        "er-ring: a memory of per_class=2 × 6 classes is smaller than a replay batch of "
        "13: use --set batch_size_mem=12 or less"
    )
    settings[2] = "batch_size_mem=12"
    train_seed(job(blobs, "er-ring", settings), 0)


def test_a_loss_that_is_no_number_ends_the_run(blobs):
    with pytest.raises(UserError, match=r"the loss is (nan|inf) in iteration \d+ of"):
        train_seed(job(blobs, lr=1e12), 0)


def test_the_peak_of_memory_is_that_of_the_seed(blobs):
    first = train_seed(job(blobs), 0)["peak_memory_mb"]
    torch.ones(150_000_000)  # 600 MB, given back at once
    later = train_seed(job(blobs), 0)["peak_memory_mb"]
    if first is None or later is None:
        pytest.skip("the system knows no peak but that of the whole process")
    assert first > 0
    assert abs(later - first) < 300


def test_optimizers():
    model = torch.nn.Linear(2, 2)
    sgd = training._optimizer(Run("b", "m", lr=0.3, momentum=0.5), model)
    adam = training._optimizer(Run("b", "m", lr=0.3, optimizer="adam"), model)
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["lr"], sgd.defaults["momentum"]) == (0.3, 0.5)
    assert isinstance(adam, torch.optim.Adam)
    assert adam.defaults["lr"] == 0.3


def test_the_number_of_threads_is_given_back(blobs):
    before = torch.get_num_threads()
    train_seed(job(blobs, threads=before + 1), 0)
    assert torch.get_num_threads() == before


def test_floating_features_of_ones_own(blobs):
    def floats(x):
        return x.reshape(len(x), -1).astype(np.float32) / 255

    arrays = Arrays(
        *(floats(blobs.x_train), blobs.y_train),
        *(floats(blobs.x_test), blobs.y_test),
        *(blobs.classes, None, "features"),
    )
    one = train_seed(job(arrays, "er-ring", epochs=3), 0)
    other = train_seed(job(blobs, "er-ring", epochs=3), 0)
    assert steady(one) == steady(other)


@pytest.mark.parametrize("stream_size", [None, 10])
@pytest.mark.parametrize(
    ("method", "settings", "scores"),
    [
        ("naive", (), None),
        ("reservoir-replay", ("mem_size=20",), set()),
        (
            "multi-strategy-replay",
            ("mem_size=20", "criteria=loss,age", "sampling=mixed"),
            {"loss", "age", "mixed"},
        ),
    ],
)
def test_the_health_of_the_memory_after_each_experience(
    blobs, method, settings, scores, stream_size
):
    work = job(blobs, method, settings, epochs=1, stream_size=stream_size)
    health = train_seed(work, 0)["memory_health"]
    assert len(health) == (0 if scores is None else 3)
    for step, met in zip(health, (52, 104, 156), strict=False):
        assert set(step["scores"]) == scores
        assert (step["rows"], step["stale"]) == (20, 0)
        assert 0 <= step["ages"][0] <= step["ages"][-1] < met
        assert 1 <= step["effective_sample_size"] <= 20
        assert (step["effective_sample_size"] == 20) == (not scores)


def test_a_loss_that_is_scaled(blobs):
    """Twice the loss at half the rate is the same descent."""
    found = [
        steady(train_seed(job(blobs, lr=lr, loss_scale=scale, epochs=2), 0))
        for lr, scale in ((0.125, 1.0), (0.0625, 2.0), (0.125, 2.0))
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]
