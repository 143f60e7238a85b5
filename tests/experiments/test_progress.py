"""experiments/progress.py: the count, the bar and the guard."""

from types import SimpleNamespace

import pytest
import torch

from experiments.errors import UserError
from experiments.progress import EVERY, ProgressPlugin, rate_to_try


def strategy(loss, device="cpu"):
    group = {"lr": 0.5}
    return SimpleNamespace(
        loss=torch.tensor(loss),
        device=torch.device(device),
        optimizer=SimpleNamespace(param_groups=[group]),
        mbatch=[],
    )


@pytest.mark.parametrize("loss", ["nan", "inf", "-inf"])
def test_a_loss_that_is_no_number_ends_the_run(loss):
    plugin = ProgressPlugin(5, "seed 0", "off")
    plugin.begin(0, 2)
    plugin.after_training_iteration(strategy(1.0))
    plugin.begin(1, 2)
    plugin.after_training_iteration(strategy(1.0))
    with pytest.raises(UserError) as raised:
        plugin.after_training_iteration(strategy(float(loss)))
    for part in (
        f"the loss is {loss} in iteration 2 of experience 2",
        "with learning rate 0.5: try --lr 0.05",
    ):
        assert part in str(raised.value)
    assert plugin.iterations == 3


@pytest.mark.parametrize("bad", ["nan", "inf", "3e36"])
def test_an_evaluation_that_is_no_number_ends_the_run(bad):
    """The last update is followed by no loss of training."""
    plugin = ProgressPlugin(5, "seed 0", "off")
    plugin.begin(1, 2)
    for losses in ([1.0, 2e4], [1.0, float(bad), 2.0]):
        plugin.before_eval(strategy(0.0))
        for loss in losses:
            plugin.after_eval_iteration(strategy(loss))
        if losses[1] == 2e4:
            plugin.after_eval(strategy(0.0))
    with pytest.raises(UserError) as raised:
        plugin.after_eval(strategy(0.0))
    for part in (
        "the loss is ",
        "in the evaluation after experience 2, with learning rate 0.5: try --lr 0.05",
    ):
        assert part in str(raised.value)


def test_an_accelerator_is_waited_for_now_and_then_only():
    plugin = ProgressPlugin(5, "seed 0", "off")
    plugin.begin(0, 1)
    bad = strategy(float("nan"), "meta")
    bad.loss = torch.tensor(float("nan"))
    for _ in range(EVERY - 1):
        plugin.after_training_iteration(bad)
    with pytest.raises(UserError, match=f"by iteration {EVERY} of experience 1"):
        plugin.after_training_iteration(bad)
    with pytest.raises(UserError, match="by iteration"):
        plugin.after_training_exp(bad)


@pytest.mark.parametrize(
    ("rate", "told"), [(1e30, "0.1"), (5.0, "0.1"), (0.5, "0.05"), (1e-3, "0.0001")]
)
def test_the_learning_rate_to_try_is_a_usual_one(rate, told):
    assert f"{rate_to_try(rate):g}" == told


def test_the_bar_is_on_stderr_and_only_where_asked(capsys):
    for show, shown in (("off", False), ("auto", False), ("on", True)):
        plugin = ProgressPlugin(5, "seed 7", show)
        plugin.begin(0, 2)
        plugin.after_training_iteration(strategy(1.0))
        plugin.evaluating()
        plugin.close()
        told = capsys.readouterr()
        assert told.out == ""
        assert ("seed 7" in told.err and "experience 1/2" in told.err) == shown
