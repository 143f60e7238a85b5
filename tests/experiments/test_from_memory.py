"""experiments/from_memory.py against training and evaluation written out."""

import copy

import pytest
import torch
from torch.utils.data import RandomSampler

from avalanche_ext.storage import MultiStrategyBuffer
from experiments import benchmarks
from experiments.data import class_groups
from experiments.errors import UserError
from experiments.from_memory import accuracy_from_memory
from experiments.job import Job
from experiments.methods import method_options
from experiments.models import MODELS
from experiments.options import Run
from experiments.training import train_seed

EPOCHS, SEED = 4, 5


def made(blobs, scenario, size=23, experiences=3, **options):
    """A stream, a memory of it and a model."""
    groups = class_groups(blobs, 3, "b")
    benchmark = benchmarks.build(blobs, groups, scenario, **options)
    memory = MultiStrategyBuffer(size, admission="class_balanced", seed=0)
    for experience in list(benchmark.train)[:experiences]:
        memory.post_adapt(None, experience)
    torch.manual_seed(3)
    return MODELS["mlp"](benchmark.task, (12,), "xavier"), memory, benchmark


def call(model, x, task):
    return model(x) if task is None else model(x, task)


def written_out(model, memory, benchmark):
    """SGD with momentum on the memory's rows, then each test row alone."""
    rows = list(memory.buffer)
    task_known = benchmark.scenario == "task"
    order = RandomSampler(rows, generator=torch.Generator().manual_seed(SEED))
    speed = [torch.zeros_like(p) for p in model.parameters()]
    for _ in range(EPOCHS):
        left = list(order)
        while left:
            batch, left = left[:10], left[10:]
            x = torch.stack([rows[i][0] for i in batch])
            y = torch.tensor([int(rows[i][1]) for i in batch])
            task = torch.tensor([int(rows[i][-1]) for i in batch])
            output = call(model, x, task if task_known else None)
            chances = output.log_softmax(1)
            model.zero_grad()
            (-sum(chances[i, y[i]] for i in range(len(y))) / len(y)).backward()
            with torch.no_grad():
                for v, p in zip(speed, model.parameters(), strict=True):
                    if p.grad is not None:
                        v.mul_(0.9).add_(p.grad)
                        p.sub_(0.05 * v)
    shares = []
    for experience in benchmark.test:
        right = []
        for x, y, *task in experience.dataset:
            label = torch.tensor([int(task[0])]) if task_known else None
            right.append(int(call(model, x[None], label).argmax()) == int(y))
        shares.append(sum(right) / len(right))
    return sum(shares) / len(shares)


@pytest.mark.parametrize("size", [6, 20, 23])  # less than a batch, whole ones, and rest
@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
def test_it_is_training_on_the_rows_and_nothing_else(blobs, scenario, size):
    model, memory, benchmark = made(blobs, scenario, size)
    other = copy.deepcopy(model)
    found = accuracy_from_memory(model, memory, benchmark, EPOCHS, SEED)
    assert found == pytest.approx(written_out(other, memory, benchmark), abs=1e-12)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_task_labels_that_the_model_is_not_told(blobs):
    model, memory, benchmark = made(blobs, "class", task_labels=True)
    assert len(memory.buffer[0]) == 3
    other = copy.deepcopy(model)
    found = accuracy_from_memory(model, memory, benchmark, EPOCHS, SEED)
    assert found == pytest.approx(written_out(other, memory, benchmark), abs=1e-12)


def test_what_the_memory_has_not_is_not_known(blobs):
    """Of three tasks one is in the memory."""
    model, memory, benchmark = made(blobs, "class", experiences=1)
    found = accuracy_from_memory(model, memory, benchmark, 100, SEED)
    assert found == pytest.approx(1 / 3)


def test_the_seed_decides_and_the_memory_is_left_as_it_was(blobs):
    model, memory, benchmark = made(blobs, "class")
    before = copy.deepcopy(memory.state_dict())
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(torch.randint(99, ()))
        one = copy.deepcopy(model)
        accuracy_from_memory(one, memory, benchmark, EPOCHS, seed)
        assert not one.training
        weights.append(torch.cat([p.flatten() for p in one.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert memory.draws == 0
    assert not memory.uses.any()
    for name in ("table", "drawing", "admitting"):
        now = memory.state_dict()[name]
        if name == "table":
            now, then = now["columns"], before[name]["columns"]
            assert all(torch.equal(now[column], then[column]) for column in now)
        else:
            assert torch.equal(now, before[name])


def job(blobs, method, settings=(), **options):
    run = Run("b", method, experiences=3, progress="off", epochs=1, **options)
    groups = class_groups(blobs, 3, "b")
    return Job(run, method_options(method, settings), blobs, groups, "cpu")


@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
def test_a_result_has_it_where_it_is_asked_for(blobs, scenario):
    work = job(blobs, "reservoir-replay", ["mem_size=60"], scenario=scenario)
    plain, found, again = (train_seed(work, 0, epochs) for epochs in (0, 30, 30))
    assert "memory_accuracy" not in plain
    assert found["memory_accuracy"] == again["memory_accuracy"] > 0.8
    assert found["accuracy_matrix"] == plain["accuracy_matrix"]


def test_a_head_of_seen_classes_is_one_of_all_of_them(blobs):
    work = job(blobs, "reservoir-replay", ["mem_size=60"], head="seen")
    assert train_seed(work, 0, 30)["memory_accuracy"] > 0.8


@pytest.mark.parametrize("method", ["naive", "joint", "upstream-replay"])
def test_a_method_without_a_memory_is_refused_before_training(blobs, method):
    settings = ["mem_size=30"] if "replay" in method else ()
    with pytest.raises(UserError) as raised:
        train_seed(job(blobs, method, settings, lr=1e12), 0, memory_epochs=2)
    assert str(raised.value) == (
        f"{method} has no memory that a model could be trained on alone: leave out "
        "memory_epochs, or use a method that has one"
    )


@pytest.mark.parametrize(("rows", "epochs"), [(0, 5), (23, 0), (23, -1)])
def test_nothing_to_train_on_is_refused(blobs, rows, epochs):
    model, memory, benchmark = made(blobs, "class")
    memory = memory if rows else MultiStrategyBuffer(23, seed=0)
    with pytest.raises(UserError) as raised:
        accuracy_from_memory(model, memory, benchmark, epochs, SEED)
    assert str(raised.value) == (
        f"nothing to train on from the memory alone: {rows} rows, {epochs} epochs; use "
        "1 or more of each"
    )
