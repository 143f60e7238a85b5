"""avalanche_ext/plugins/synaptic_intelligence.py against the paper written out."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.supervised import Naive
from regularised import network, stopped_and_continued, strategy
from slow_importance import SlowSI
from torch import Tensor, nn

from avalanche_ext import (
    SynapticIntelligencePlugin,
)

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 1e-3),
}


def batches(number: int, experience: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(experience)
    y = torch.arange(8) % 2 + experience % 3
    return [
        (torch.randn(8, 5, generator=generator).double() + y[:, None], y)
        for _ in range(number)
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_is_the_paper_written_out(optimizer: str) -> None:
    """Importances and weights over three experiences of 200 steps."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(
            nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)).double()
        )
    one, other = models
    ours, slow = SynapticIntelligencePlugin(0.5, eps=0.01), SlowSI(0.5, 0.01)
    steps = [OPTIMIZERS[optimizer](model.parameters()) for model in models]
    for experience in range(3):
        slow.begin(other)
        for x, y in batches(200, experience):
            steps[0].zero_grad()
            (F.cross_entropy(one(x), y) + ours.penalty(one)).backward()
            steps[0].step()
            slow.step(other, steps[1], lambda x=x, y=y: F.cross_entropy(other(x), y))
        ours.update(one)
        slow.end(other)
        for name, values in slow.importance.items():
            found = ours.quadratic.importance[name]
            assert (found - values).norm() <= 1e-8 * values.norm(), name
            torch.testing.assert_close(ours.quadratic.anchor[name], slow.anchor[name])
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_gradients_that_add_up_before_a_step() -> None:
    """A step of four parts, with the penalty at the last, is that of the whole batch."""
    found = []
    for parts in (1, 4):
        torch.manual_seed(0)
        model = nn.Linear(5, 4).double()
        plugin = SynapticIntelligencePlugin(0.5, eps=0.01)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        for experience in range(2):
            for x, y in batches(30, experience):
                optimizer.zero_grad()
                cut = list(zip(x.chunk(parts), y.chunk(parts), strict=True))
                for number, (inputs, targets) in enumerate(cut, start=1):
                    loss = F.cross_entropy(model(inputs), targets) / parts
                    if number == parts:
                        loss = loss + plugin.penalty(model)
                    loss.backward()
                optimizer.step()
            plugin.update(model)
        found.append((*plugin.quadratic.importance.values(), *model.parameters()))
    for whole, added in zip(*found, strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-9, atol=1e-12)


def test_in_avalanche_it_is_the_same(class_stream: Any) -> None:
    """In single precision, whatever clips the gradients, before or after it."""
    plugin = SynapticIntelligencePlugin(1.0)
    slow = SlowSI(1.0, 0.1)

    class Reference(SupervisedPlugin):
        """The integral of what this strategy does."""

        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            slow.begin(strategy.model)

        def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            loss = F.cross_entropy(strategy.mb_output, strategy.mb_y)
            named = dict(strategy.model.named_parameters())
            self.at = {n: p.detach().clone() for n, p in named.items()}
            self.gradients = torch.autograd.grad(
                loss, list(named.values()), retain_graph=True
            )

        def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            nn.utils.clip_grad_norm_(strategy.model.parameters(), 0.3)

        def after_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            named = strategy.model.named_parameters()
            for (n, p), g in zip(named, self.gradients, strict=True):
                slow.integral[n] -= g * (p.detach() - self.at[n])

        def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            slow.end(strategy.model)

    stream = class_stream(experiences=3).train_stream
    for order in (1, -1):
        plugin, slow = SynapticIntelligencePlugin(1.0), SlowSI(1.0, 0.1)
        trained = strategy([plugin, Reference()][::order], train_epochs=2)
        trained.train(stream, eval_streams=[])
        for name, values in slow.importance.items():
            error = (plugin.quadratic.importance[name] - values).norm()
            assert error <= 1e-5 * values.norm(), name


def test_it_has_an_effect_on_a_cpu(class_stream: Any) -> None:
    """Unlike upstream's."""
    plugin = SynapticIntelligencePlugin(10.0)
    trained = strategy([plugin], train_epochs=3)
    trained.train(class_stream(experiences=2).train_stream, eval_streams=[])
    health = plugin.health
    assert health.consolidations == 2
    assert health.nonzero > 0.3
    assert health.gradient_ratio is not None
    assert health.gradient_ratio > 1e-2
    assert health.penalty_over_loss is not None
    assert health.penalty_over_loss > 0
    assert health.mass_lost is not None
    assert 0 <= health.mass_lost < 0.5


def test_a_strength_for_each_experience(class_stream: Any) -> None:
    plugin = SynapticIntelligencePlugin([0, 2, 0.5])
    trained = strategy([plugin])
    strengths = []
    for experience in class_stream(experiences=4).train_stream:
        strengths.append(plugin.strength)
        trained.train(experience, eval_streams=[])
    assert strengths == [0, 2, 0.5, 0.5]
    assert plugin.health.consolidations == 4


def test_zero_for_all_experiences_is_off(class_stream: Any) -> None:
    plugin = SynapticIntelligencePlugin([0.0, 0.0])
    plain, off = strategy([]), strategy([plugin])
    stream = class_stream(experiences=2).train_stream
    for trained in (plain, off):
        torch.manual_seed(1)
        trained.train(stream, eval_streams=[])
    for a, b in zip(plain.model.parameters(), off.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not plugin.quadratic.importance


def test_squares_are_those_of_published_code(class_stream: Any) -> None:
    """``η g²`` with the whole gradient, clipped by value, which trains too."""
    plugin = SynapticIntelligencePlugin(1.0, path="squares", clip_value=0.05)
    seen: dict[str, Any] = {}

    class Reference(SupervisedPlugin):
        def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            named = strategy.model.named_parameters()
            seen["start"] = {n: p.detach().clone() for n, p in named}
            seen["sum"] = {n: torch.zeros_like(p) for n, p in seen["start"].items()}

        def before_update(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            for name, p in strategy.model.named_parameters():
                assert p.grad.abs().max() <= 0.05
                seen["sum"][name] += 0.05 * p.grad**2

    trained = strategy([plugin, Reference()])
    total: dict[str, Tensor] = {}
    for experience in class_stream(experiences=3).train_stream:
        trained.train(experience, eval_streams=[])
        for name, p in trained.model.named_parameters():
            away = (p.detach() - seen["start"][name]) ** 2
            total[name] = total.get(name, 0) + seen["sum"][name] / (away + 0.1)
            found = plugin.quadratic.importance[name]
            torch.testing.assert_close(found, total[name])


@pytest.mark.parametrize("boundary", ["origin", 5])
def test_boundaries_of_online_streams(class_stream: Any, boundary: Any) -> None:
    """Parts of an experience, or five iterations, are as the whole of it."""
    stream = class_stream(experiences=3).train_stream
    plugins = []
    for how in ("whole", "parts"):
        plugin = SynapticIntelligencePlugin(1.0, boundary=boundary)
        trained = strategy([plugin])
        for experience in stream:
            online = split_online_stream(
                [experience], 8, seed=0, access_task_boundaries=boundary == "origin"
            )
            if how == "whole":  # the same rows in the same order
                for part in online:
                    trained.train(part, eval_streams=[])
            else:
                trained.train(online, eval_streams=[])
        plugins.append(plugin)
        assert plugin.consolidations == 3
    first, second = (p.quadratic.importance["1.weight"] for p in plugins)
    assert torch.equal(first, second)


def test_a_stream_that_is_left_early(class_stream: Any) -> None:
    """An origin whose last part is not trained on ends where another one begins."""
    plugin = SynapticIntelligencePlugin(1.0)
    trained = strategy([plugin])
    for experience in class_stream(experiences=2).train_stream:
        parts = list(
            split_online_stream([experience], 8, seed=0, access_task_boundaries=True)
        )
        trained.train(parts[:3], eval_streams=[])
    assert plugin.consolidations == 1


def test_state_and_checkpoint(class_stream: Any, tmp_path: Any) -> None:
    """A run that stops in the middle of what its iterations are counted by."""
    stream = class_stream(experiences=4).train_stream

    def make() -> Naive:
        return strategy([SynapticIntelligencePlugin(1.0, boundary=7)])

    _, part, loaded = stopped_and_continued(make, stream, tmp_path / "run.ckpt")
    for plugin in (loaded, part.plugins[0]):
        plugin.update(part.model)
    one, other = (p.quadratic.importance["1.weight"] for p in (loaded, part.plugins[0]))
    assert torch.equal(one, other)


def test_upstreams_arguments_are_taken(class_stream: Any) -> None:
    plugin = SynapticIntelligencePlugin(1.0, 0.5, ["3"], "cpu")
    assert (plugin.eps, plugin.selection.exclude) == (0.5, ("3",))
    strategy([plugin]).train(class_stream(experiences=1).train_stream, eval_streams=[])
    assert list(plugin.quadratic.importance) == ["1.weight", "1.bias"]
    other = SynapticIntelligencePlugin(1.0, device="meta")
    with pytest.warns(UserWarning, match="device='meta' has no effect"):
        strategy([other]).train(
            class_stream(experiences=1).train_stream, eval_streams=[]
        )
    with pytest.warns(UserWarning, match="eps=1e-07 divides by next to nothing"):
        SynapticIntelligencePlugin(1.0, eps=1e-7)


def test_importances_of_zero_are_told() -> None:
    model, plugin = nn.Linear(5, 3), SynapticIntelligencePlugin(1.0)
    with pytest.warns(UserWarning, match="are all zero, so that it has no effect"):
        plugin.update(model)


def test_a_penalty_that_does_nothing_is_told(class_stream: Any) -> None:
    plugin = SynapticIntelligencePlugin(1e-9)
    with pytest.warns(UserWarning, match="si_lambda=1e-09 and a mean importance of"):
        strategy([plugin]).train(
            class_stream(experiences=3).train_stream, eval_streams=[]
        )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"si_lambda": -1}, "si_lambda must be a number of 0 or more, or a list"),
        ({"si_lambda": []}, "si_lambda must be a number of 0 or more, or a list"),
        ({"si_lambda": [1, "x"]}, "one an experience, got"),
        ({"eps": 0}, "eps must be a number above 0, got 0"),
        ({"path": "abs"}, "unknown path 'abs': choose one of"),
        ({"clip_value": 0}, "clip_value must be a number above 0, or None"),
        ({"excluded_parameters": ["a"], "exclude": "b"}, "two names of one thing"),
        ({"boundary": -2}, "boundary must be a whole number of iterations"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        SynapticIntelligencePlugin(**{"si_lambda": 1.0, **arguments})


def test_bad_state() -> None:
    plugin = SynapticIntelligencePlugin(1.0)
    with pytest.raises(
        ValueError, match="the state is of no plugin, this plugin is of Synaptic"
    ):
        plugin.load_state_dict({})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plugin.update(nn.Linear(5, 3))
    with pytest.raises(ValueError, match="of another model"):
        plugin.penalty(network())
