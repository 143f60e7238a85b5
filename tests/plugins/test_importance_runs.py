"""Whole runs of Avalanche's strategies against loops written from the papers."""

import copy
from typing import Any

import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.plugins import SupervisedPlugin
from paper_importance import (
    PaperEWC,
    PaperSI,
    close,
    importance_of,
    named,
    rows_of,
    train,
)
from paper_runs import (
    EXPERIENCES,
    METHODS,
    MODELS,
    OPTIMIZERS,
    batches_of,
    made,
    reference,
    rows,
    run,
    same,
    strategy_of,
    stream,
)
from torch import Tensor, nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    ResidentDataPlugin,
    SynapticIntelligencePlugin,
    reservoir_replay,
)

RUNS = [
    (model, method, optimizer)
    for model in MODELS
    for method in METHODS
    for optimizer in OPTIMIZERS
    if model == "plain" or optimizer == ("adam" if model == "heads" else "sgd")
]


@pytest.mark.parametrize(("name", "method", "optimizer"), RUNS)
def test_weights_of_a_run(name: str, method: str, optimizer: str) -> None:
    model, tasks, dtype = made(name)
    theirs, untouched = copy.deepcopy(model), copy.deepcopy(model)
    make, write, share = METHODS[method]
    plugin, paper = make(), write()
    benchmark = stream(tasks, dtype)
    run(strategy_of(model, [plugin], optimizer), benchmark)
    reference(theirs, benchmark, tasks, dtype, [paper], optimizer)
    same(model, theirs)
    if method == "si":
        found = importance_of(plugin, model, share)
        close(found, paper.importance, 1e-7 if dtype == torch.float64 else 1e-5)
    elif method != "ewc-separate":
        found = importance_of(plugin, model, share)
        ((wanted, _),) = paper.terms(model)
        scale = paper.scale(model)
        wanted = {n: v / scale for n, v in wanted.items()}
        close(found, wanted, 1e-8 if dtype == torch.float64 else 1e-5)
    reference(untouched, benchmark, tasks, dtype, [], optimizer)
    gap = [
        (p - q).abs().max()
        for p, q in zip(named(model).values(), named(untouched).values(), strict=True)
    ]
    assert max(gap) > 1e-3  # the penalty did something


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["growing", "upstream-heads"])
def test_models_that_an_evaluation_has_grown(name: str, method: str) -> None:
    """Evaluated on all experiences from the start: outputs of classes not met yet."""
    model, tasks, dtype = made(name)
    theirs = copy.deepcopy(model)
    make, write, _ = METHODS[method]
    benchmark = stream(tasks, dtype)
    run(strategy_of(model, [make()], "sgd"), benchmark, ahead=EXPERIENCES)
    reference(theirs, benchmark, tasks, dtype, [write()], "sgd", ahead=EXPERIENCES)
    same(model, theirs)


class Clip(SupervisedPlugin[Any]):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        torch.nn.utils.clip_grad_norm_(strategy.model.parameters(), self.limit)


class ClipEarly(Clip):
    after_backward = Clip.before_update
    before_update = SupervisedPlugin.before_update


def shrinkage(model: nn.Module) -> Tensor:
    """Another regulariser's term of the loss."""
    return 0.05 * sum((p**2).sum() for p in model.parameters())


class Shrink(SupervisedPlugin[Any]):
    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        strategy.loss += shrinkage(strategy.model)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("clip", [Clip, ClipEarly])
@pytest.mark.parametrize("method", ["ewc", "si"])
def test_with_clipped_gradients(method: str, clip: Any, first: bool) -> None:
    """The path integral has the gradient that was not clipped, and the step that was."""
    model, tasks, dtype = made("plain")
    theirs = copy.deepcopy(model)
    make, write, share = METHODS[method]
    plugin, paper = make(), write()
    benchmark = stream(tasks, dtype)
    plugins = [clip(0.3), plugin] if first else [plugin, clip(0.3)]
    run(strategy_of(model, plugins, "momentum"), benchmark)
    reference(theirs, benchmark, tasks, dtype, [paper], "momentum", clip=0.3)
    same(model, theirs)
    if method == "si":
        close(importance_of(plugin, model, share), paper.importance)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("method", ["ewc", "si"])
def test_with_another_regulariser(method: str, first: bool) -> None:
    model, tasks, dtype = made("plain")
    theirs = copy.deepcopy(model)
    make, write, share = METHODS[method]
    plugin, paper = make(), write()
    benchmark = stream(tasks, dtype)
    plugins = [Shrink(), plugin] if first else [plugin, Shrink()]
    run(strategy_of(model, plugins, "adam"), benchmark)
    reference(theirs, benchmark, tasks, dtype, [paper], "adam", also=shrinkage)
    same(model, theirs)
    if method == "si":
        close(importance_of(plugin, model, share), paper.importance)


@pytest.mark.parametrize("first", [True, False])
def test_ewc_and_si_together(first: bool) -> None:
    """Either way round. SI's path has the other penalty in its loss."""
    model, tasks, dtype = made("heads")
    theirs = copy.deepcopy(model)
    ewc, si, paper = (
        AdaptiveEWCPlugin(40.0),
        SynapticIntelligencePlugin(2.0),
        PaperSI(2.0),
    )
    other = PaperEWC(40.0)
    benchmark = stream(tasks, dtype)
    run(strategy_of(model, [ewc, si] if first else [si, ewc], "adam"), benchmark)

    class Both:  # so that the one is the other's `also`
        def begin(self, model: nn.Module) -> None:
            paper.begin(model)

        def end(self, model: nn.Module, rows: Any) -> None:
            paper.end(model, rows)
            other.end(model, rows)

        def penalty(self, model: nn.Module) -> Tensor:
            return paper.penalty(model)

        def step(self, *args: Any) -> None:
            paper.step(*args)

    reference(theirs, benchmark, tasks, dtype, [Both()], "adam", also=other.penalty)
    same(model, theirs)
    close(importance_of(si, model, 2.0), paper.importance)
    close(importance_of(ewc, model, 20.0), other.terms(model)[0][0])


class Record(SupervisedPlugin[Any]):
    """Every minibatch as the model got it."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[list[tuple[Tensor, Tensor, None]]] = []

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.met.append([])

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self.met[-1].append((strategy.mb_x.clone(), strategy.mb_y.clone(), None))


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("method", ["ewc", "ewc-separate", "si"])
def test_with_rehearsal(method: str, first: bool, resident: bool) -> None:
    """Memory rows are part of the loss, and of the path, but not of the Fisher."""
    model, tasks, dtype = made("normalised")
    theirs = copy.deepcopy(model)
    make, write, share = METHODS[method]
    plugin, paper, record = make(), write(), Record()
    benchmark = stream(tasks, dtype)
    replay = reservoir_replay(20, batch_size_mem=5, seed=3)
    plugins = [plugin, replay] if first else [replay, plugin]
    plugins += [ResidentDataPlugin()] if resident else []
    run(strategy_of(model, [*plugins, record], "momentum"), benchmark)
    assert len(record.met[1][0][0]) == 12
    steps = OPTIMIZERS["momentum"](theirs.parameters())
    for number, batches in enumerate(record.met):
        paper.begin(theirs)
        train(theirs, steps, batches, [paper])
        paper.end(theirs, rows_of(*rows(number, tasks, dtype)))
    same(model, theirs)
    if method == "si":
        close(importance_of(plugin, model, share), paper.importance)


@pytest.mark.parametrize("name", ["plain", "upstream-heads"])
@pytest.mark.parametrize("method", ["ewc", "ewc-ema", "si"])
def test_with_resident_data(method: str, name: str) -> None:
    model, tasks, dtype = made(name)
    theirs = copy.deepcopy(model)
    make, write, _ = METHODS[method]
    benchmark = stream(tasks, dtype)
    run(strategy_of(model, [make(), ResidentDataPlugin()], "sgd"), benchmark)
    reference(theirs, benchmark, tasks, dtype, [write()], "sgd")
    same(model, theirs)


@pytest.mark.parametrize("size", [10, 7])
@pytest.mark.parametrize("boundary", ["origin", "experience", 5])
@pytest.mark.parametrize("method", METHODS)
def test_online_streams(method: str, boundary: Any, size: int) -> None:
    """Sub-experiences of one minibatch, twice each; boundaries as stated."""
    model, tasks, dtype = made("plain")
    theirs = copy.deepcopy(model)
    make, write, share = METHODS[method]
    plugin, paper = make(boundary=boundary), write()
    online = split_online_stream(
        stream(tasks, dtype).train_stream,
        experience_size=size,
        shuffle=False,
        access_task_boundaries=boundary == "origin",
    )
    strategy = strategy_of(model, [plugin], "momentum", train_mb_size=size)
    for experience in online:
        strategy.train(experience, eval_streams=[], shuffle=False)
    steps = OPTIMIZERS["momentum"](theirs.parameters())
    count = 0
    since: list[Any] = []
    paper.begin(theirs)
    for number in range(EXPERIENCES):
        x, y = rows(number, tasks, dtype)
        batches = batches_of(x, y, None, size, epochs=1)
        for place, batch in enumerate(batches):
            for first in (True, False):  # passes over a sub-experience
                train(theirs, steps, [batch], [paper])
                count += 1
                if first or boundary == 5:
                    since += rows_of(batch[0], batch[1])
                if {
                    "origin": place == len(batches) - 1 and not first,
                    "experience": not first,
                    5: count % 5 == 0,
                }[boundary]:
                    paper.end(theirs, since)
                    paper.begin(theirs)
                    since = []
    same(model, theirs)
    if method == "si":
        close(importance_of(plugin, model, share), paper.importance)
