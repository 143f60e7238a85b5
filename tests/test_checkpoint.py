"""avalanche_ext/checkpoint.py: a run that was stopped and one that was not."""

import pytest
import torch
from avalanche.training.supervised import Naive
from torch import nn

from avalanche_ext import (
    LeanEvaluationPlugin,
    ResidentDataPlugin,
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


def test_the_repair_leaves_no_trace(tmp_path):
    before = set(vars(torch.optim))
    checkpoint.save(make("reservoir", "adam"), tmp_path / "run.ckpt")
    assert set(vars(torch.optim)) == before


def test_missing_file(tmp_path):
    strategy = make("reservoir", "sgd")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none.*missing_ok"):
        checkpoint.load(strategy, tmp_path / "none")
    assert checkpoint.load(strategy, tmp_path / "none", missing_ok=True) == (
        strategy,
        0,
    )


def test_saving_inside_training_is_refused(class_stream, tmp_path):
    strategy = make("reservoir", "sgd")
    strategy.experience = class_stream().train_stream[0]
    with pytest.raises(RuntimeError, match="at work on experience 0"):
        checkpoint.save(strategy, tmp_path / "run.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(tmp_path):
    strategy = make("reservoir", "sgd")
    checkpoint.save(strategy, tmp_path / "run.ckpt")
    content = (tmp_path / "run.ckpt").read_bytes()
    strategy.open_file = (i for i in range(3))  # generators do not pickle
    with pytest.raises(TypeError):
        checkpoint.save(strategy, tmp_path / "run.ckpt")
    assert (tmp_path / "run.ckpt").read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 1


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    (tmp_path / "junk").write_bytes(b"junk")
    torch.save({"a": 1}, tmp_path / "foreign")
    for name in ("junk", "foreign"):
        with pytest.raises(ValueError, match=f"{name} is not a checkpoint"):
            checkpoint.load(make("reservoir", "sgd"), tmp_path / name)
