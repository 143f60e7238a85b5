"""avalanche_ext/checkpoint.py: what is refused, each by one clear error."""

import pytest
import torch
from avalanche.training.plugins import ReplayPlugin
from avalanche.training.supervised import Cumulative
from checkpointed import net, run
from full_disk import full_disk
from torch import nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    AgeCriterion,
    MultiStrategyBuffer,
    ResidentDataPlugin,
    SynapticIntelligencePlugin,
    accuracy_metrics,
    checkpoint,
    er_ring,
    forgetting_metrics,
    multi_strategy_replay,
    reservoir_replay,
)


class OtherNet(nn.Sequential):
    """Another type with the same parameters."""


OTHERS = {
    "shape": (
        lambda: run(net(12)),
        r"1.weight has shape \(16, 64\), here \(12, 64\).*2.weight",
    ),
    "names": (
        lambda: run(nn.Sequential(*net(), nn.Linear(8, 8))),
        r"parameters \[3.bias, 3.weight\] only here",
    ),
    "fewer": (lambda: run(net()[:2]), r"parameters \[2.bias, 2.weight\] only there"),
    "model": (lambda: run(OtherNet(*net())), "its model Sequential, here OtherNet"),
    "plugins": (
        lambda: run(net(), [ResidentDataPlugin()]),
        r"its plugins \[LeanEval.*\], here \[ResidentDataPlugin, LeanEval",
    ),
    "strategy": (
        lambda: run(net(), kind=Cumulative),
        "its strategy Naive, here Cumulative",
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_is_refused_and_left_alone(other, class_stream, tmp_path):
    saved = run(net())
    saved.train(class_stream().train_stream[0], eval_streams=[])
    checkpoint.save(saved, tmp_path / "run.ckpt")
    make_other, message = OTHERS[other]
    strategy = make_other()
    model, before = strategy.model, [p.clone() for p in strategy.model.parameters()]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=f"another run: .*{message}") as error:
        checkpoint.load(strategy, tmp_path / "run.ckpt")
    assert "\n" not in str(error.value)
    assert torch.equal(torch.get_rng_state(), state)
    assert strategy.clock.train_exp_counter == 0
    assert strategy.model is model
    for a, b in zip(before, model.parameters(), strict=True):
        assert torch.equal(a, b)


MADE = {
    "memory": (50,),
    "batch_size_mem": 8,
    "resident": {},
    "metrics": accuracy_metrics,
}


def of_settings(**changed):
    """A strategy whose plugins have some other settings."""
    own = {**MADE, **changed}
    memory, resident, metrics = (own.pop(n) for n in ("memory", "resident", "metrics"))
    preset = own.pop("preset", reservoir_replay)
    replay = preset(*memory, **own)
    return run(net(), [replay, ResidentDataPlugin(**resident)], metrics())


def halves(k):
    return 0.5, 0.5


SETTINGS = {
    "capacity": (
        {"memory": (60,)},
        r"MultiStrategyBuffer at plugins\[0\].buffer has max_size=50, here 60",
    ),
    "admission": (
        {"preset": er_ring},
        "plugins.* has admission='reservoir', here 'ring'",
    ),
    "several": (
        {"batch_size_mem": 9, "feed": "every_epoch"},
        r"RehearsalPlugin at plugins\[0\] has batch_size_mem=8, here 9; its .* has "
        "feed='first_epoch', here 'every_epoch'",
    ),
    "weights": ({"loss_weights": (0.5, 2)}, r"loss_weights=None, here \[0.5, 2\]"),
    "a function": ({"loss_weights": halves}, "loss_weights=None, here 'halves'"),
    "criteria": (
        {"preset": multi_strategy_replay, "criteria": [AgeCriterion(50)]},
        r"criteria=None, here \[\"AgeCriterion\(tau=50, name='age'\)\"\]",
    ),
    "resident": (
        {"resident": {"max_bytes": 1e6}},
        r"ResidentDataPlugin at plugins\[1\] has max_bytes=None, here 1000000.0",
    ),
    "metrics": (
        {"metrics": forgetting_metrics},
        r"LeanEvaluationPlugin at evaluator has metrics=\['ExperienceAccuracy', ",
    ),
}


@pytest.mark.parametrize("other", SETTINGS)
def test_other_settings_of_a_plugin_are_refused(other, tmp_path):
    """They would be those saved, and nobody would know."""
    checkpoint.save(of_settings(), tmp_path / "run.ckpt")
    changed, message = SETTINGS[other]
    strategy = of_settings(**changed)
    with pytest.raises(ValueError, match=f"another run: .*{message}") as error:
        checkpoint.load(strategy, tmp_path / "run.ckpt")
    assert "\n" not in str(error.value)
    checkpoint.load(of_settings(), tmp_path / "run.ckpt")


@pytest.mark.parametrize(
    ("saved", "given", "told"),
    [
        (
            AdaptiveEWCPlugin(1.0, accumulation="ema", seed=0),
            AdaptiveEWCPlugin(2.0, seed=1),
            r"AdaptiveEWCPlugin at plugins\[0\] has ewc_lambda=1.0, here 2.0; its .* has "
            "accumulation='ema', here 'sum'",
        ),
        (
            SynapticIntelligencePlugin([1, 2]),
            SynapticIntelligencePlugin([1, 2], eps=0.2),
            "SynapticIntelligencePlugin .* has eps=0.1, here 0.2",
        ),
        (
            AdaptiveEWCPlugin(1.0, exclude={"*bias"}, seed=0),
            AdaptiveEWCPlugin(1.0, exclude={"*weight"}, seed=0),
            r"has exclude=\['\*bias'\], here \['\*weight'\]",
        ),
    ],
)
def test_other_settings_of_a_regulariser_are_refused(saved, given, told, tmp_path):
    checkpoint.save(run(net(), [saved]), tmp_path / "run.ckpt")
    with pytest.raises(ValueError, match=told):
        checkpoint.load(run(net(), [given]), tmp_path / "run.ckpt")
    checkpoint.load(run(net(), [saved]), tmp_path / "run.ckpt")


@pytest.mark.parametrize(
    ("saved", "given"),
    [
        (AdaptiveEWCPlugin(1.0, seed=0), AdaptiveEWCPlugin(1.0, decay=1, seed=0)),
        (
            SynapticIntelligencePlugin(1, excluded_parameters="bias"),
            SynapticIntelligencePlugin([1.0], exclude={"bias"}),
        ),
        (
            AdaptiveEWCPlugin(1.0, include={"b", "a"}, seed=0),
            AdaptiveEWCPlugin(1.0, include=["a", "b"], seed=0),
        ),
    ],
)
def test_the_same_settings_in_other_words_are_no_others(saved, given):
    assert saved.settings == given.settings


def test_the_memory_of_upstreams_plugin_is_compared_too(tmp_path):
    def replay(admission):
        memory = MultiStrategyBuffer(20, admission=admission, seed=0)
        return run(net(), [ReplayPlugin(20, storage_policy=memory)])

    checkpoint.save(replay("ring"), tmp_path / "run.ckpt")
    told = r"at plugins\[0\].storage_policy has admission='ring', here 'herding'"
    with pytest.raises(ValueError, match=told):
        checkpoint.load(replay("herding"), tmp_path / "run.ckpt")


def test_missing_file(tmp_path):
    strategy = run(net(), [reservoir_replay(20)])
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none.*missing_ok"):
        checkpoint.load(strategy, tmp_path / "none")
    assert checkpoint.load(strategy, tmp_path / "none", missing_ok=True) == (
        strategy,
        0,
    )


def test_saving_inside_training_is_refused(class_stream, tmp_path):
    strategy = run(net(), [reservoir_replay(20)])
    strategy.experience = class_stream().train_stream[0]
    with pytest.raises(RuntimeError, match="at work on experience 0"):
        checkpoint.save(strategy, tmp_path / "run.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_file(tmp_path):
    strategy = run(net(), [reservoir_replay(20)])
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
            checkpoint.load(run(net(), [reservoir_replay(20)]), tmp_path / name)


@pytest.mark.parametrize("part", [0.01, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_told(part, tmp_path):
    checkpoint.save(run(net()), tmp_path / "run.ckpt")
    content = (tmp_path / "run.ckpt").read_bytes()
    (tmp_path / "run.ckpt").write_bytes(content[: int(part * len(content))])
    told = "run.ckpt is not a whole checkpoint, it was cut short or damaged: take"
    with pytest.raises(ValueError, match=told):
        checkpoint.load(run(net()), tmp_path / "run.ckpt")


@pytest.mark.parametrize("call", [checkpoint.save, checkpoint.load])
def test_other_arguments_are_told(call, tmp_path):
    strategy = run(net())
    for given, told in (
        ((tmp_path / "run.ckpt", strategy), "got 'PosixPath' and 'Naive'"),
        ((strategy, None), "got 'Naive' and None"),
        ((strategy, 3), "got 'Naive' and 'int'"),
        ((net(), "run.ckpt"), "got 'Sequential' and 'run.ckpt'"),
    ):
        with pytest.raises(TypeError, match=rf"\(strategy, path\) takes .* {told}"):
            call(*given)
    with pytest.raises(ValueError, match=r"is a folder: name a file, as .*/run.ckpt"):
        call(strategy, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file/run.ckpt", "file/more/run.ckpt"])
def test_a_place_that_cannot_be_written_is_told(place, tmp_path):
    (tmp_path / "file").touch()
    told = rf"cannot write .*{place} \((Not a directory|File exists)\): name another"
    with pytest.raises(OSError, match=told):
        checkpoint.save(run(net()), tmp_path / place)


def test_a_disk_that_is_full_is_told_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "run.ckpt"
    checkpoint.save(run(net()), path)
    content = path.read_bytes()
    strategy = run(net(hidden=2000))  # hundreds of kB
    told = r"cannot write .*run.ckpt \(.*\): name"
    with full_disk(50_000), pytest.raises(OSError, match=told):
        checkpoint.save(strategy, path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
