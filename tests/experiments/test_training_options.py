"""experiments/training.py with the options that published protocols ask for."""

import numpy as np
import pytest
import torch

from experiments import training
from experiments.errors import UserError
from experiments.job import Job
from experiments.methods import METHODS, method_options
from experiments.models import MODELS
from experiments.options import Run
from experiments.pixel_maps import pixel_maps
from experiments.rows import hold_out
from experiments.sources import experience_groups
from experiments.training import train_seed

SCENARIOS = ["class", "domain", "task"]
VARYING = {"train_seconds", "eval_seconds", "peak_memory_mb"}
OURS = [name for name in METHODS if not name.startswith("upstream-")]


def job(arrays, method="naive", settings=(), experiences=3, name="b", **options):
    run = Run(name, method, experiences=experiences, progress="off", **options)
    groups = experience_groups(arrays, experiences, name)
    return Job(run, method_options(method, settings), arrays, groups, "cpu")


def steady(result):
    return {key: value for key, value in result.items() if key not in VARYING}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", ["permuted-mnist", "rotated-mnist"])
def test_moved_pixels_are_evaluated_as_a_bare_loop_would(
    blobs, scenario, name, monkeypatch
):
    models = []
    build = MODELS["mlp"]
    monkeypatch.setitem(MODELS, "mlp", lambda *a: models.append(build(*a)) or models[0])
    options = {"name": name, "scenario": scenario, "experiences": 2}
    result = train_seed(job(blobs, "reservoir-replay", **options), 5)
    (model,) = models
    model.eval()
    plain, known = [], []
    for t, pixels in enumerate(pixel_maps(name[: name.index("-")], (1, 4, 4), 2, 5)):
        x = blobs.x_test.reshape(-1, 16)
        x = np.where(pixels < 0, 0, x[:, pixels]).reshape(blobs.x_test.shape)
        x, y = torch.from_numpy(x).float() / 255, torch.from_numpy(blobs.y_test)
        with torch.no_grad():
            task = torch.full((len(x),), t)
            out = model(x, task) if scenario == "task" else model(x)
        first = 6 * t if scenario == "class" else 0
        plain.append((out.argmax(1) == y + first).double().mean().item())
        own = out[:, first : first + 6].argmax(1)
        known.append((own == y).double().mean().item())
    assert result["accuracy_matrix"][-1] == pytest.approx(plain)
    assert result["accuracy_matrix_task_known"][-1] == pytest.approx(known)
    assert result["classes"] == [[1, 2, 3, 4, 5, 6]] * 2


def test_moved_pixels_are_of_one_head_unless_said(blobs):
    by_default = train_seed(job(blobs, name="rotated-mnist"), 0)
    assert by_default["scenario"] == "domain"
    domain = train_seed(job(blobs, name="rotated-mnist", scenario="domain"), 0)
    assert steady(by_default) == steady(domain)
    by_class = train_seed(job(blobs, name="rotated-mnist", scenario="class"), 0)
    assert steady(by_class) != steady(domain)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("method", ["naive", "joint", "cumulative", "er-ring"])
@pytest.mark.parametrize("stream_size", [None, 15])
def test_every_kind_of_stream_of_moved_pixels(blobs, scenario, method, stream_size):
    work = job(
        *(blobs, method),
        name="permuted-mnist",
        scenario=scenario,
        samples=(30,),
        label_noise=0.1,
        stream_size=stream_size,
    )
    result = train_seed(work, 0)
    assert steady(train_seed(work, 0)) == steady(result)
    assert np.shape(result["accuracy_matrix"]) == (1 if method == "joint" else 3, 3)
    experiences = 6 if method == "cumulative" else 3  # 1 + 2 + 3
    # 30 rows by 10, or each half of them by 10 and 5
    assert result["iterations"] == experiences * (3 if stream_size is None else 4)


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_models_of_images(blobs, model, scenario):
    options = {"model": model, "scenario": scenario, "epochs": 15}
    work = job(blobs, "reservoir-replay", **options)
    result = train_seed(work, 0)
    assert steady(train_seed(work, 0)) == steady(result)
    assert result["average_accuracy_task_known"] > 0.5


@pytest.mark.parametrize("scenario", ["class", "domain"])
@pytest.mark.parametrize("method", ["naive", "reservoir-replay", "joint"])
def test_task_labels_are_for_those_who_ask(blobs, scenario, method):
    """Who does not gets the same result."""
    one, other = (
        train_seed(job(blobs, method, scenario=scenario, task_labels=told), 0)
        for told in (False, True)
    )
    for result in (one, other):
        del result["memory_composition"]  # of rows that tell their class
    assert steady(one) == steady(other)


@pytest.mark.parametrize("name", ["b", "permuted-mnist"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_ring_keeps_rows_of_each_class_of_each_experience(blobs, scenario, name):
    settings = ["mem_size=none", "per_class=2", "batch_size_mem=4"]
    options = {"task_labels": True, "scenario": scenario, "name": name}
    result = train_seed(job(blobs, "er-ring", settings, **options), 0)
    classes = 2 if name == "b" else 6
    for t, counts in enumerate(result["memory_composition"]):
        assert list(counts.values()) == [2] * (t + 1) * classes


def test_a_memory_needs_a_row_for_each_class_of_each_experience(blobs):
    settings = ["mem_size=17", "batch_size_mem=2"]
    plain = {"name": "permuted-mnist", "scenario": "domain"}
    train_seed(job(blobs, "er-ring", settings, **plain), 0)
    with pytest.raises(UserError, match="smaller than the 18 classes"):
        train_seed(job(blobs, "er-ring", settings, **plain, task_labels=True), 0)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("method", ["naive", "reservoir-replay", "joint"])
@pytest.mark.parametrize("stream_size", [None, 9])
def test_a_head_of_the_classes_seen_guesses_no_other(blobs, method, model, stream_size):
    options = {"model": model, "stream_size": stream_size}
    seen = {"head": "seen", **options}
    result = train_seed(job(blobs, method, **seen), 0)
    matrix = np.array(result["accuracy_matrix"])
    if method == "joint":
        assert matrix.shape == (1, 3)
        assert steady(train_seed(job(blobs, method, **options), 0)) == steady(result)
    else:
        assert not np.triu(matrix, 1).any()
        assert matrix[0, 0] >= 0.5  # a guess between the two
    unloaded = train_seed(job(blobs, method, resident=False, **seen), 0)
    assert steady(unloaded) == steady(result)


@pytest.mark.parametrize("method", OURS)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("iterations", [1, 17])
@pytest.mark.filterwarnings("ignore:.*had not moved")  # of penalties, in one iteration
def test_iterations_instead_of_epochs(blobs, method, scenario, iterations, monkeypatch):
    totals = []
    plugin = training.ProgressPlugin
    monkeypatch.setattr(
        training, "ProgressPlugin", lambda *a: totals.append(a[0]) or plugin(*a)
    )
    options = {"scenario": scenario, "iterations": iterations}
    result = train_seed(job(blobs, method, **options), 0)
    assert result["iterations"] == totals[0] == 3 * iterations


def test_whole_epochs_are_the_same_counted_in_iterations(blobs):
    """52 rows by 10 are six iterations."""
    one = train_seed(job(blobs, "reservoir-replay", epochs=3), 0)
    other = train_seed(job(blobs, "reservoir-replay", iterations=18), 0)
    assert steady(one) == steady(other)


@pytest.mark.parametrize("stream_size", [None, 9])
def test_the_optimizer_begins_anew_where_asked(blobs, stream_size, monkeypatch):
    states = []
    train = training.Trainer.train

    def spy(strategy, *args, **kwargs):
        states.append([len(state) for state in strategy.optimizer.state.values()])
        return train(strategy, *args, **kwargs)

    monkeypatch.setattr(training.Trainer, "train", spy)
    options = {"optimizer": "adam", "lr": 0.01, "stream_size": stream_size}
    kept = train_seed(job(blobs, **options), 0)
    assert [any(state) for state in states] == [False, True, True]
    states.clear()
    reset = train_seed(job(blobs, reset_optimizer=True, **options), 0)
    assert states == [[], [], []]
    assert steady(kept) != steady(reset)
    assert kept["accuracy_matrix"][0] == reset["accuracy_matrix"][0]


def test_validation_rows_are_evaluated_and_not_trained_on(blobs):
    result = train_seed(job(blobs, validation=0.3), 4)
    by_hand = train_seed(job(hold_out(blobs, 0.3, 4)), 4)
    assert steady(result) == steady(by_hand)


def test_noise_costs_accuracy(blobs):
    clean, noisy = (
        train_seed(job(blobs, "joint", epochs=20, label_noise=noise), 0)
        for noise in (0.0, 0.9)
    )
    assert clean["average_accuracy_task_known"] > 0.9
    assert noisy["average_accuracy_task_known"] < 0.3


def test_weights_by_experience_need_to_know_where_one_begins(blobs):
    settings = ["loss_weights=by_experience"]
    options = {"stream_size": 9}
    with pytest.raises(UserError, match=r"leave --stream-size out, or add --task-la"):
        train_seed(job(blobs, "er-ring", settings, **options), 0)
    train_seed(job(blobs, "er-ring", settings, **options, task_labels=True), 0)
    weighted, plain = (
        train_seed(job(blobs, "er-ring", given), 0) for given in (settings, ())
    )
    assert steady(weighted) != steady(plain)
