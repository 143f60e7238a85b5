"""avalanche_ext/checkpoint.py: a run that was stopped and one that was not."""

import os
import subprocess
import sys
from pathlib import Path

import continued_run
import pytest
import torch
from avalanche.checkpointing import maybe_load_checkpoint
from avalanche.models import IncrementalClassifier
from avalanche.training.supervised import Naive
from checkpointed import net, run
from torch import nn

import avalanche_ext
from avalanche_ext import (
    EvaluationRecord,
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    accuracy_metrics,
    checkpoint,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
)

PRESETS = {
    "reservoir": reservoir_replay,
    "ring": er_ring,
    "balanced": class_balanced_replay,
}


def make(preset, optimizer, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.2), nn.Linear(16, 8)
    )
    optimizer = (
        torch.optim.Adam(model.parameters(), 1e-2)
        if optimizer == "adam"
        else torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    )
    return Naive(
        model=model,
        optimizer=optimizer,
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[PRESETS[preset](20, batch_size_mem=8), ResidentDataPlugin()],
        evaluator=LeanEvaluationPlugin(),
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("preset", PRESETS)
def test_stopped_after_two_experiences_equals_never_stopped(
    preset, optimizer, class_stream, tmp_path
):
    stream = class_stream()
    straight = make(preset, optimizer)
    for experience in stream.train_stream:
        straight.train(experience, eval_streams=[])
    first = make(preset, optimizer)
    for experience in stream.train_stream[:2]:
        first.train(experience, eval_streams=[])
    checkpoint.save(first, tmp_path / "run.ckpt")

    torch.manual_seed(99)
    second, start = checkpoint.load(
        make(preset, optimizer, seed=5), tmp_path / "run.ckpt"
    )
    assert start == 2
    for experience in stream.train_stream[start:]:
        second.train(experience, eval_streams=[])
    for a, b in zip(
        straight.model.parameters(), second.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    assert (
        straight.plugins[0].buffer.class_counts()
        == second.plugins[0].buffer.class_counts()
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.ckpt"]


def test_another_process_goes_on(tmp_path):
    """Equal to a run without a stop, bit for bit, batch statistics included."""
    stream = continued_run.stream()
    straight = continued_run.train(continued_run.make(seed=0), stream)
    first = continued_run.train(continued_run.make(seed=0), stream[:2])
    checkpoint.save(first, tmp_path / "run.ckpt")
    package = Path(avalanche_ext.__file__).parent.parent
    subprocess.run(
        [sys.executable, continued_run.__file__, tmp_path / "run.ckpt", "model.pt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package)},
        check=True,
    )
    expected = straight.model.state_dict()
    continued = torch.load(tmp_path / "model.pt", weights_only=True)
    assert set(continued) == set(expected)
    assert not torch.equal(first.model.state_dict()["1.weight"], expected["1.weight"])
    for name, value in expected.items():
        assert torch.equal(continued[name], value), name


def test_what_refers_to_the_strategys_parts_stays_right(class_stream, tmp_path):
    def parts():
        memory = MultiStrategyBuffer(20, admission="ring", seed=0)
        record = EvaluationRecord()
        model = net()
        strategy = run(
            model, [RehearsalPlugin(memory, 8)], accuracy_metrics(record=record)
        )
        return strategy, model, strategy.optimizer, strategy.plugins[0], memory, record

    stream = class_stream()
    saved, *_ = parts()
    saved.train(stream.train_stream[0], eval_streams=[])
    saved.eval(stream.test_stream)
    checkpoint.save(saved, tmp_path / "run.ckpt")

    strategy, model, optimizer, plugin, memory, record = parts()
    table, layer = memory.table, model[1]
    loaded, _ = checkpoint.load(strategy, tmp_path / "run.ckpt")
    assert loaded is strategy
    assert strategy.model is model
    assert model[1] is layer
    assert strategy.optimizer is optimizer
    assert optimizer.param_groups[0]["params"][0] is layer.weight
    assert strategy.plugins[0] is plugin
    assert plugin.buffer is memory
    assert memory.table is table
    assert strategy.evaluator.metrics[0].record is record
    assert torch.equal(layer.weight, saved.model[1].weight)
    assert len(optimizer.state) == 4
    assert memory.class_counts() == saved.plugins[0].buffer.class_counts() != {}
    assert record.accuracy_matrix == saved.evaluator.metrics[0].record.accuracy_matrix
    assert record.accuracy_matrix != []


def test_upstream_reads_it_into_new_objects(class_stream, tmp_path):
    saved = make("ring", "sgd")
    saved.train(class_stream().train_stream[0], eval_streams=[])
    checkpoint.save(saved, tmp_path / "run.ckpt")
    strategy = make("ring", "sgd", seed=5)
    plugin, model = strategy.plugins[0], strategy.model
    strategy, start = maybe_load_checkpoint(strategy, tmp_path / "run.ckpt")
    assert start == 1
    assert len(strategy.plugins[0].buffer) == 20
    assert torch.equal(strategy.model[1].weight, saved.model[1].weight)
    assert strategy.plugins[0] is not plugin
    assert strategy.model is not model
    assert len(plugin.buffer) == 0


def test_what_changes_during_a_run_is_no_setting(class_stream, tmp_path):
    """A memory that grows or was resized, counters, seeds, devices."""

    def growing(seed, **place):
        memory = MultiStrategyBuffer(
            None, admission="ring", per_class=3, seed=seed, **place
        )
        other = RehearsalPlugin(MultiStrategyBuffer(30, seed=seed), 2)
        return run(net(), [RehearsalPlugin(memory, 2), other])

    saved = growing(0)
    saved.plugins[1].buffer.set_size(7)
    for experience in class_stream().train_stream[:2]:
        saved.train(experience, eval_streams=[])
    checkpoint.save(saved, tmp_path / "run.ckpt")
    loaded, _ = checkpoint.load(growing(1, device="cpu"), tmp_path / "run.ckpt")
    assert loaded.plugins[0].buffer.max_size == 12
    assert loaded.plugins[1].buffer.max_size == 7
    assert loaded.plugins[0].replayed == saved.plugins[0].replayed > 0
    checkpoint.save(loaded, tmp_path / "run.ckpt")
    checkpoint.load(growing(2), tmp_path / "run.ckpt")


def test_a_head_that_grew_is_the_same_model(class_stream, tmp_path):
    def growing(features=8):
        body = nn.Linear(64, features)
        return run(nn.Sequential(nn.Flatten(), body, IncrementalClassifier(features)))

    stream = class_stream()
    saved = growing()
    for experience in stream.train_stream[:2]:
        saved.train(experience, eval_streams=[])
    checkpoint.save(saved, tmp_path / "run.ckpt")
    strategy, _ = checkpoint.load(growing(), tmp_path / "run.ckpt")
    weight = strategy.model[2].classifier.weight
    assert torch.equal(weight, saved.model[2].classifier.weight)
    strategy.train(stream.train_stream[2], eval_streams=[])
    assert len(strategy.model[2].classifier.weight) > len(weight)
    with pytest.raises(ValueError, match=r"classifier.weight has shape \(4, 8\)"):
        checkpoint.load(growing(features=6), tmp_path / "run.ckpt")


def test_a_file_cut_short_leaves_the_strategy_alone(class_stream, tmp_path):
    """Also when it fails after the model was filled."""
    saved = make("ring", "sgd")
    saved.train(class_stream().train_stream[0], eval_streams=[])
    saved.last = Unreadable()
    checkpoint.save(saved, tmp_path / "run.ckpt")
    strategy = make("ring", "sgd", seed=5)
    weight, plugin = strategy.model[1].weight, strategy.plugins[0]
    before = weight.clone()
    with pytest.raises(OSError, match="no such disk"):
        checkpoint.load(strategy, tmp_path / "run.ckpt")
    assert strategy.model[1].weight is weight
    assert torch.equal(weight, before)
    assert strategy.plugins[0] is plugin
    assert len(plugin.buffer) == 0
    strategy.train(class_stream().train_stream[0], eval_streams=[])
    assert len(plugin.buffer) == 20


class Unreadable:
    def __reduce__(self):
        return _fail, ()


def _fail():
    raise OSError("no such disk")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_memory_mapped_table_comes_back_as_one(elsewhere, class_stream, tmp_path):
    """In the directory of the strategy that loads it."""

    def mapped(folder):
        torch.manual_seed(0)
        memory = MultiStrategyBuffer(20, directory=folder, seed=0)
        return run(net(), [RehearsalPlugin(memory, 8)])

    stream = class_stream()
    straight = mapped(tmp_path / "straight")
    for experience in stream.train_stream:
        straight.train(experience, eval_streams=[])
    first = mapped(tmp_path / "rows")
    for experience in stream.train_stream[:2]:
        first.train(experience, eval_streams=[])
    checkpoint.save(first, tmp_path / "run.ckpt")
    rows = first.plugins[0].buffer.table.column("x").clone()

    folder = tmp_path / ("others" if elsewhere else "rows")
    second, start = checkpoint.load(mapped(folder), tmp_path / "run.ckpt")
    table = second.plugins[0].buffer.table
    assert torch.equal(table.column("x"), rows)
    on_disk = torch.from_file(
        str(folder / "x.20.bin"), size=rows.numel(), dtype=rows.dtype
    )
    assert torch.equal(on_disk.view_as(rows), rows)
    for experience in stream.train_stream[start:]:
        second.train(experience, eval_streams=[])
    on_disk = torch.from_file(
        str(folder / "x.20.bin"), size=rows.numel(), dtype=rows.dtype
    )
    assert torch.equal(on_disk.view_as(rows), table.column("x"))
    assert not torch.equal(table.column("x"), rows)
    assert torch.equal(second.model[1].weight, straight.model[1].weight)


def test_the_repair_leaves_no_trace(tmp_path):
    before = set(vars(torch.optim))
    checkpoint.save(make("reservoir", "adam"), tmp_path / "run.ckpt")
    assert set(vars(torch.optim)) == before
