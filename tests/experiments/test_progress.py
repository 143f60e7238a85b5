"""experiments/progress.py: the count, the bar and the guard."""

import sys
from types import SimpleNamespace

import pytest
import torch

from experiments.errors import UserError
from experiments.progress import EVERY, ProgressPlugin, rate_to_try


def strategy(loss, device="cpu", outputs=((0.0, 1.0), (1.0, 0.0))):
    group = {"lr": 0.5}
    return SimpleNamespace(
        loss=torch.tensor(loss),
        mb_output=torch.tensor(outputs),
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
        plugin.before_eval_exp(strategy(0.0))
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


def evaluated(plugin, *experiences):
    """Each experience is a list of batches of outputs."""
    plugin.before_eval(strategy(0.0))
    for batches in experiences:
        plugin.before_eval_exp(strategy(0.0))
        for outputs in batches:
            plugin.after_eval_iteration(strategy(1.0, outputs=outputs))
    plugin.after_eval(strategy(0.0))


SAME, OTHER, ONE = [[0.5, 0.1]] * 3, [[0.5, 0.1], [0.5, 0.2]], [[0.5, 0.1]]


def test_a_network_whose_outputs_are_all_the_same_is_warned_about_once():
    plugin = ProgressPlugin(5, "seed 3", "off")
    plugin.begin(1, 4)
    with pytest.warns(UserWarning, match="the same outputs") as caught:
        evaluated(plugin, [SAME, OTHER], [ONE], [SAME])
    assert [str(warning.message) for warning in caught] == [
        "seed 3: after experience 2 the network gives all test rows the same outputs, "
        "with learning rate 0.5: its units are dead; try --lr 0.05, or wider layers"
    ]
    evaluated(plugin, [SAME])  # a warning would be an error here


@pytest.mark.parametrize("experiences", [[[OTHER]], [[SAME], [OTHER]], [[ONE], [ONE]]])
def test_outputs_that_differ_or_are_of_one_row_are_not(experiences):
    evaluated(ProgressPlugin(5, "seed 0", "off"), *experiences)


def test_each_experience_has_a_line_where_there_is_no_terminal(capsys, monkeypatch):
    record = SimpleNamespace(accuracy_matrix=[[0.5, 0.0, 0.0], [0.25, 0.75, 0.1]])

    def told(show, of):
        plugin = ProgressPlugin(5, "seed 7", show, record)
        plugin.begin(1 if of > 1 else 0, of)
        evaluated(plugin, [OTHER])
        plugin.close()
        return capsys.readouterr().err

    assert told("auto", 3).startswith(
        "seed 7, experience 2 of 3: accuracy 50.00 % over the experiences seen, 0."
    )
    assert "experience 1 of 1: accuracy 36.67 %" in told("auto", 1)  # joint: all
    assert told("off", 3) == ""
    assert "accuracy" not in told("on", 3)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "accuracy" not in told("auto", 3)


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
