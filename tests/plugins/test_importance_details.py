"""What importance regularisers must also keep to: loads, looks, draws, copies, rates."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from regularised import experiences, network, strategy
from torch import Tensor, nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
    SynapticIntelligencePlugin,
)

MAKERS: dict[str, Callable[[], Any]] = {
    "ewc": lambda: AdaptiveEWCPlugin(3.0, seed=0),
    "si": lambda: SynapticIntelligencePlugin(3.0),
}
BATCHES = experiences(2)
RATE = 0.05  # of regularised.strategy


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3).double()


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


def train(model: nn.Module, plugin: Any, batches: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for batch in batches:
        optimizer.zero_grad()
        (loss_of(model, batch) + plugin.penalty(model)).backward()
        optimizer.step()


def end(model: nn.Module, plugin: Any, batches: Any) -> None:
    if isinstance(plugin, AdaptiveEWCPlugin):
        plugin.update(model, batches)
    else:
        plugin.update(model)


def used(plugin: Any) -> nn.Module:
    """A model that was trained with it past the end of an experience."""
    model = linear()
    train(model, plugin, BATCHES[0])
    end(model, plugin, BATCHES[0])
    train(model, plugin, BATCHES[1])
    return model


# States


@pytest.mark.parametrize("kind", MAKERS)
def test_a_state_of_another_model_is_seen_by_a_plugin_in_use(kind: str) -> None:
    plugin, other = MAKERS[kind](), MAKERS[kind]()
    model = used(plugin)
    plugin.penalty(model)
    another = nn.Sequential(linear())
    train(another, other, BATCHES[0])
    end(another, other, BATCHES[0])
    plugin.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="of another model"):
        plugin.penalty(model)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_copy_carries_no_model(kind: str) -> None:
    """Importance and anchor, for SI also the integral and three tensors beside it."""
    model, plugin = nn.Linear(400, 50), MAKERS[kind]()
    batch = torch.randn(8, 400), torch.arange(8)
    for _ in range(2):
        train(model, plugin, [batch, batch])
        end(model, plugin, [batch])
    train(model, plugin, [batch, batch])
    tensor = 4 * sum(p.numel() for p in model.parameters())
    assert len(pickle.dumps(plugin)) < {"ewc": 2, "si": 6}[kind] * tensor + 20_000


# A penalty that is looked at, and passes that are no step


@pytest.mark.parametrize("kind", MAKERS)
def test_a_penalty_to_look_at_is_the_penalty(kind: str) -> None:
    plugin = MAKERS[kind]()
    model = used(plugin)
    with torch.no_grad():
        looked_at = plugin.penalty(model)
    assert not looked_at.requires_grad
    assert looked_at.item() > 0
    assert looked_at.item() == plugin.penalty(model).item()


def nothing(*given: Any) -> None:
    """In place of what is done at a step beside it."""


def importance_of(
    before: Callable[..., None] = nothing, after: Callable[..., None] = nothing
) -> Tensor:
    """Synaptic Intelligence's of two experiences.

    :param before: called before each backward pass, with the model and the whole loss.
    :param after: called between it and the step, with the model and the plugin.
    """
    model, plugin = linear(), SynapticIntelligencePlugin(3.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for batches in BATCHES:
        for batch in batches:
            optimizer.zero_grad()
            loss = loss_of(model, batch) + plugin.penalty(model)
            before(model, loss)
            loss.backward()
            after(model, plugin)
            optimizer.step()
        plugin.update(model)
    found: Tensor = plugin.quadratic.importance["weight"]
    assert found.max() > 0
    return found


def test_a_look_between_backward_pass_and_step_is_no_step() -> None:
    def look(model: nn.Module, plugin: Any) -> None:
        with torch.no_grad():
            plugin.penalty(model)

    assert torch.equal(importance_of(after=look), importance_of())


def test_a_pass_for_gradients_alone_is_no_step() -> None:
    """Through the loss of the step itself, and through one of its own."""

    def through_it(model: nn.Module, loss: Tensor) -> None:
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)

    plain = importance_of()
    found = importance_of(before=through_it)
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0)

    model, plugin = linear(), SynapticIntelligencePlugin(3.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for batches in BATCHES:
        for batch in batches:
            optimizer.zero_grad()
            own = loss_of(model, batch) + plugin.penalty(model)
            torch.autograd.grad(own, list(model.parameters()))
            (loss_of(model, batch) + plugin.penalty(model)).backward()
            optimizer.step()
        plugin.update(model)
    found = plugin.quadratic.importance["weight"]
    torch.testing.assert_close(found, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1.0, 64.0])
def test_sparse_gradients_count_as_dense_ones(scale: float) -> None:
    """Rows that are met twice in a batch, and some that are not met."""
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3)
        )
        plugin = SynapticIntelligencePlugin(3.0)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for experience in range(2):
            for k in range(4):
                x = torch.tensor([[k, k], [k + experience, 1], [6, 1]])
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), torch.arange(3))
                ((loss + plugin.penalty(model)) * scale).backward()
                for parameter in model.parameters():
                    assert parameter.grad is not None
                    parameter.grad /= scale
                optimizer.step()
            plugin.update(model)
        found.append(plugin.quadratic.importance["0.weight"])
    assert found[0][6].max() > 0
    torch.testing.assert_close(found[1], found[0])


def test_squares_of_sparse_gradients(class_stream: Any) -> None:
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = Looked(sparse)
        plugin = SynapticIntelligencePlugin(1.0, path="squares")
        optimizer = torch.optim.SGD(model.parameters(), RATE)
        stream = class_stream(experiences=1).train_stream
        strategy([plugin], model, optimizer=optimizer).train(stream, eval_streams=[])
        found.append(plugin.quadratic.importance["table.weight"])
    assert found[0].max() > 0
    torch.testing.assert_close(found[1], found[0])


class Looked(nn.Module):
    """Looks up whether pixels are bright."""

    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 3, sparse=sparse)
        self.head = nn.Linear(3 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.table((x.flatten(1) > 0.5).long()).flatten(1))
        return out


# Draws and rows


def test_labels_are_drawn_anew_at_each_end() -> None:
    """With a decay of 0 the importance is that of the last end alone."""
    model = linear()
    kinds: list[tuple[Any, bool]] = [("exact", True), ("sampled", False)]
    for labels, same in kinds:
        plugin = AdaptiveEWCPlugin(
            1.0, labels=labels, accumulation="ema", decay=0.0, seed=0
        )
        found = []
        for _ in range(2):
            plugin.update(model, BATCHES[0])
            found.append(plugin.quadratic.importance["weight"].clone())
        assert torch.equal(*found) == same, labels


def test_rows_are_drawn_anew_at_each_end(class_stream: Any) -> None:
    """Of the same experience and the same weights."""
    experience = class_stream(experiences=1).train_stream[0]
    for rows, same in ((None, True), (7, False)):
        plugin = AdaptiveEWCPlugin(
            1.0, num_samples=rows, accumulation="ema", decay=0.0, seed=0
        )
        model = network()
        still = torch.optim.SGD(model.parameters(), 0.0)
        trained = strategy([plugin], model, optimizer=still)
        found = []
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # parameters that have not moved
                trained.train(experience, eval_streams=[])
            found.append(plugin.quadratic.importance["1.weight"].clone())
        assert torch.equal(*found) == same, rows


def test_rows_that_are_kept_are_copies(class_stream: Any) -> None:
    """A loader may write its next minibatch into the same memory."""

    class Overwrite(SupervisedPlugin[Any]):
        def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            for item in strategy.mbatch:
                item.zero_()

    found = []
    for more in ([], [Overwrite()]):
        plugin = AdaptiveEWCPlugin(10.0, boundary=5, labels="empirical", seed=0)
        stream = class_stream(experiences=1).train_stream
        strategy([plugin, *more]).train(stream, eval_streams=[])
        assert plugin.consolidations == 1
        found.append(plugin.quadratic.importance["1.weight"])
    assert torch.equal(*found)


# In a strategy


def test_a_callback_that_ceases_is_told(class_stream: Any) -> None:
    """In the experience in which it does."""

    class Silent(Naive):
        def _before_backward(self, **kwargs: Any) -> None:
            if self.clock.train_exp_counter == 0:
                super()._before_backward(**kwargs)

    model, stream = network(), class_stream(experiences=2).train_stream
    trained = Silent(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), RATE),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=8,
        plugins=[AdaptiveEWCPlugin(10.0, seed=0)],
        evaluator=LeanEvaluationPlugin(),
    )
    trained.train(stream[0], eval_streams=[])
    with pytest.warns(UserWarning, match="Silent never calls before_backward"):
        trained.train(stream[1], eval_streams=[])


class Strengths(SupervisedPlugin[Any]):
    """The strength at each step, and what ``1 / (η max 2F)`` is there.

    :param stop: the iteration from which on the learning rate is 0.
    """

    def __init__(self, plugin: AdaptiveEWCPlugin, stop: int | None = None) -> None:
        super().__init__()
        self.plugin, self.stop = plugin, stop
        self.found: list[float] = []
        self.expected: list[float] = []

    def before_training_iteration(self, strategy: Any, *args: Any, **kw: Any) -> None:
        if strategy.clock.train_iterations == self.stop:
            strategy.optimizer.param_groups[0]["lr"] = 0.0

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        importance = self.plugin.quadratic.importance.values()
        if importance:
            largest = max(float(values.max()) for values in importance)
            self.found.append(self.plugin.strength)
            self.expected.append(1 / (2 * RATE * largest))
            assert self.plugin.health.lowered < 1


def balanced() -> AdaptiveEWCPlugin:
    return AdaptiveEWCPlugin(1e5, balance=True, seed=0)


def lowered(
    plugin: AdaptiveEWCPlugin, stream: Any, stop: int | None = None
) -> Strengths:
    """What was seen in training on a stream."""
    watch = Strengths(plugin, stop)
    trained = strategy([plugin, watch])
    with pytest.warns(UserWarning, match=r"ewc_lambda=100000 is lowered to"):
        trained.train(stream, eval_streams=[])
    return watch


def test_a_lowered_strength_is_renewed_with_the_importances(class_stream: Any) -> None:
    watch = lowered(balanced(), class_stream(experiences=3).train_stream)
    assert len(watch.found) == 10
    assert watch.found == pytest.approx(watch.expected, rel=1e-6)
    assert watch.found[-1] < 0.9 * watch.found[0]


def test_a_lowered_strength_is_as_low_from_a_state(class_stream: Any) -> None:
    """From the first step on."""
    stream = class_stream(experiences=3).train_stream
    part, loaded = balanced(), balanced()
    lowered(part, stream[:2])
    loaded.load_state_dict(part.state_dict())
    watch = lowered(loaded, stream[2])
    assert len(watch.found) == 5
    assert watch.found == pytest.approx(watch.expected, rel=1e-6)


def test_at_a_rate_of_0_a_strength_stays_lowered(class_stream: Any) -> None:
    watch = lowered(balanced(), class_stream(experiences=2).train_stream, stop=8)
    assert len(watch.found) == 5
    assert len(set(watch.found)) == 1
    assert watch.found == pytest.approx(watch.expected, rel=1e-6)
