"""avalanche_ext/plugins/step_scores.py against one row at a time.

Before each step the model is copied; after it the scores of the rows drawn and of the
rows kept are compared with losses and gradient norms of single rows, in float64.
"""

import copy

import pytest
import torch
from avalanche.models import MTSimpleMLP
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from noted_memory import CRITERIA, DRAWN, SIZE, Noted, assert_alone
from rehearsed import network, strategy
from slow_scores import energy
from torch import nn

from avalanche_ext import (
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    RehearsalPlugin,
    reservoir_replay,
)
from avalanche_ext.storage.priority import Priority

CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0, 1.0, 0.7, 1.5])


def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    kinds += ("_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)


class Check(SupervisedPlugin):
    """Comes last; compares after each step.

    :param criterion: of single rows.
    :param scale: of the loss, as by a loss scaler or where gradients are accumulated.
    """

    def __init__(self, memory, criterion, scale=1.0):
        super().__init__()
        self.memory, self.criterion, self.scale = memory, criterion, scale
        self.steps = self.refreshed = self.kept = 0
        self.watched = []

    def before_training_iteration(self, strategy, **kwargs):
        assert not hooks(strategy.model)
        self.model = copy.deepcopy(strategy.model)
        self.memory.drawn, self.memory.kept = [], []
        self.before = self.columns()

    def columns(self):
        table = self.memory.table
        names = ["scored", *(f"score_{name}" for name in CRITERIA)]
        return {n: table.column(n).clone() for n in names if n in table.columns}

    def before_forward(self, strategy, **kwargs):
        self.watched.append(hooks(strategy.model) > 0)

    def before_backward(self, strategy, **kwargs):
        strategy.loss = strategy.loss * self.scale

    def after_training_iteration(self, strategy, **kwargs):
        memory, every = self.memory, self.memory.refresh_every
        due = bool(every) and self.steps % every == 0
        drawn = set(memory.drawn) - set(memory.kept) if due else set()
        assert_alone(memory, {*drawn, *memory.kept}, self.model, self.criterion)
        for name, before in self.before.items():  # all others are as they were
            others = [
                slot
                for slot in range(len(before))
                if slot not in drawn and slot not in memory.kept
            ]
            assert torch.equal(memory.table.column(name)[others], before[others])
        self.steps += 1
        self.refreshed += len(drawn)
        self.kept += len(memory.kept)


class Accumulating(torch.optim.SGD):
    """Steps by the gradients of two minibatches."""

    met = 0

    def zero_grad(self, set_to_none=True):
        if self.met % 2 == 0:
            super().zero_grad(set_to_none)

    def step(self, closure=None):
        self.met += 1
        if self.met % 2 == 0:
            super().step(closure)


IMPORTANT = {"sampling": Priority("gradient", alpha=1.0, beta=1.0)}
CASES = {
    "uniform": {},
    "mixed": {"sampling": "mixed"},
    "loss weights": {"loss_weights": (0.3, 2.0)},
    "importance weights": IMPORTANT,
    "both": {**IMPORTANT, "loss_weights": (0.3, 2.0)},
    "class weights": {**IMPORTANT, "criterion": nn.CrossEntropyLoss(CLASS_WEIGHTS)},
    "sum": {"criterion": nn.CrossEntropyLoss(reduction="sum"), "scale": 1 / 16},
    "scaled": {**IMPORTANT, "scale": 2.0**16, "lr": 0.05 / 2**16},
    "accumulated": {**IMPORTANT, "scale": 0.5, "optimizer": Accumulating},
    "smoothed": {"criterion": nn.CrossEntropyLoss(label_smoothing=0.2)},
}


def run(
    benchmark,
    *,
    criterion=None,
    scale=1.0,
    loss_weights=None,
    optimizer=torch.optim.SGD,
    lr=0.05,
    model=None,
    before=(),
    after=(),
    epochs=2,
    **options,
):
    memory = Noted(**options)
    criterion = criterion or nn.CrossEntropyLoss()
    plugin = RehearsalPlugin(memory, DRAWN, loss_weights=loss_weights)
    check = Check(memory, copy.deepcopy(criterion).double(), scale)
    model = model or network()
    trained = Naive(
        model=model,
        optimizer=optimizer(model.parameters(), lr=lr),
        criterion=criterion,
        train_mb_size=8,
        train_epochs=epochs,
        plugins=[*before, plugin, *after, check],
        evaluator=LeanEvaluationPlugin(),
    )
    for experience in benchmark.train_stream:
        trained.train(experience, eval_streams=[])
    assert not hooks(trained.model)
    assert check.kept >= SIZE
    return check


@pytest.mark.parametrize("case", CASES)
def test_rows_drawn_and_kept_have_the_scores_of_before_the_step(class_stream, case):
    check = run(class_stream(experiences=2), **CASES[case])
    assert check.steps == 2 * 2 * 5
    assert check.refreshed > 50


@pytest.mark.parametrize("every", [0, 1, 3])
def test_rows_drawn_are_scored_anew_every_so_many_steps(class_stream, every):
    check = run(class_stream(experiences=2), refresh_every=every, sampling="mixed")
    # In the second epoch no rows are offered.
    due = [bool(every) and step % every == 0 for step in range(20)]
    offers = [step % 10 < 5 for step in range(20)]
    assert check.watched == [
        offer or now for offer, now in zip(offers, due, strict=True)
    ]
    assert bool(check.refreshed) == bool(every)


@pytest.mark.parametrize("first", [True, False])
def test_beside_another_memory(class_stream, first):
    """Whose rows are before or after this one's."""
    other = reservoir_replay(SIZE, batch_size_mem=3, seed=1)
    place = {"before" if first else "after": [other]}
    assert run(class_stream(experiences=2), **place, **IMPORTANT).refreshed > 50
    assert other.replayed


def test_of_several_heads(class_stream):
    torch.manual_seed(1)
    model = MTSimpleMLP(64, 12)
    for module in model.modules():  # which would score rows under their masks
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    check = run(class_stream(tasks=True, experiences=3), model=model, sampling="mixed")
    assert check.refreshed > 50


def test_rows_of_weight_0_are_scored_by_a_pass_of_their_own(class_stream):
    """After the step: the step's own backward pass tells nothing of their gradients."""

    class After(SupervisedPlugin):
        def after_training_iteration(self, strategy, **kwargs):
            drawn = set(memory.drawn) - set(memory.kept)
            model, criterion = strategy.model, strategy._criterion
            assert_alone(memory, drawn, model, criterion, ["gradient"])
            compared.extend(drawn)

    memory, compared = Noted(sampling="mixed"), []
    plugin = RehearsalPlugin(memory, DRAWN, loss_weights=(1.0, 0.0))
    strategy([plugin, After()]).train(class_stream().train_stream, eval_streams=[])
    assert len(compared) > 50


# What is not needed


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.passes = network(), []

    def forward(self, x):
        self.passes.append(len(x))
        return self.body(x)


def test_a_step_makes_no_other_pass(class_stream):
    memory = MultiStrategyBuffer(SIZE, criteria=["loss"], sampling="mixed", seed=0)
    model = Counting()
    trained = strategy([RehearsalPlugin(memory, DRAWN)], model, epochs=2)
    for experience in class_stream(experiences=2).train_stream:
        model.passes.clear()
        trained.train(experience, eval_streams=[])
        # One of all rows at the end: those stored are scored anew.
        assert model.passes[1:] == [8 + DRAWN] * 9 + [SIZE]


@pytest.mark.parametrize(
    ("options", "plugin"),
    [
        ({}, {}),
        ({"sampling": "age"}, {}),
        ({"sampling": "loss", "refresh_every": 0}, {"feed": "experience"}),
    ],
)
def test_nothing_is_watched_where_no_score_is_needed(class_stream, options, plugin):
    class Watch(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            assert not hooks(strategy.model)

        def after_forward(self, strategy, **kwargs):
            assert not strategy.mb_output._backward_hooks

    memory = MultiStrategyBuffer(SIZE, seed=0, **options)
    plugins = [RehearsalPlugin(memory, DRAWN, **plugin), Watch()]
    strategy(plugins).train(class_stream().train_stream, eval_streams=[])
    assert plugins[0].replayed


@pytest.mark.parametrize("goes_on", ["training", "evaluation"])
def test_a_step_that_was_cut_short_leaves_no_hook_to_what_follows(
    class_stream, goes_on
):
    class Fail(SupervisedPlugin):
        def after_forward(self, strategy, **kwargs):
            if strategy.clock.train_iterations == 2:
                raise RuntimeError("cut short")

    class Watch(SupervisedPlugin):
        def before_eval_forward(self, strategy, **kwargs):
            self.met = hooks(strategy.model)

    benchmark, memory = class_stream(), Noted(sampling="mixed")
    plugin, fail, watch = RehearsalPlugin(memory, DRAWN), Fail(), Watch()
    trained = strategy([plugin, fail, watch])
    with pytest.raises(RuntimeError, match="cut short"):
        trained.train(benchmark.train_stream[0], eval_streams=[])
    if goes_on == "training":
        check = trained.plugins[1] = Check(memory, nn.CrossEntropyLoss())
        trained.train(benchmark.train_stream[1], eval_streams=[])
        assert check.refreshed > 10
    else:
        trained.eval(benchmark.test_stream)
        assert watch.met == 0
    assert not hooks(trained.model)


# Rows that are compared


def test_energy_is_not_of_rows_whose_features_are_unknown(class_stream):
    """Rows that were added without a model are scored before the step."""

    class First(SupervisedPlugin):
        """Notes what the first step makes of the memory."""

        def before_training_iteration(self, strategy, **kwargs):
            if not strategy.clock.train_iterations:
                self.stale = memory.stale.tolist()
                self.model = copy.deepcopy(strategy.model)

        def after_training_iteration(self, strategy, **kwargs):
            if not strategy.clock.train_iterations:
                names = ("x", "arrival", "score_energy")
                self.rows = [memory.table.column(name).clone() for name in names]

    stream, first = class_stream(scale=False).train_stream, First()
    memory = MultiStrategyBuffer(30, criteria=["energy"], admission="score", seed=0)
    rows = [stream[1].dataset[i] for i in range(20)]
    memory.add(torch.stack([x for x, _ in rows]), torch.tensor([y for _, y in rows]))
    strategy([RehearsalPlugin(memory, DRAWN), first]).train(stream[0], eval_streams=[])
    assert first.stale == [True] * 20
    x, arrival, found = first.rows
    assert arrival.tolist() == list(range(1, 29))  # the last 8 came with the step
    with torch.no_grad():
        features = first.model[:3](x).tolist()
    for row in range(28):
        others = [features[other] for other in range(20) if other != row]
        expected = energy(features[row], others)
        assert found[row].item() == pytest.approx(expected, abs=1e-5)
