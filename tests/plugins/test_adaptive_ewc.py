"""avalanche_ext/plugins/adaptive_ewc.py against EWC written out."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.models import IncrementalClassifier, MTSimpleMLP
from avalanche.training.plugins import SupervisedPlugin
from regularised import experiences, strategy
from slow_importance import SlowEWC, slow_fisher
from torch import Tensor, nn

from avalanche_ext import (
    AdaptiveEWCPlugin,
    ResidentDataPlugin,
    reservoir_replay,
)
from avalanche_ext.parameters import grown


def train(model: nn.Module, method: Any, batches: Any) -> list[float]:
    """Steps of descent; the penalty at each."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    penalties = []
    for x, y in batches:
        optimizer.zero_grad()
        penalty = method.penalty(model)
        (F.cross_entropy(model(x), y) + penalty).backward()
        optimizer.step()
        penalties.append(penalty.item())
    return penalties


@pytest.mark.parametrize("labels", ["empirical", "exact"])
@pytest.mark.parametrize(
    ("accumulation", "decay"),
    [("ema", 0.7), ("sum", 1.0), ("sum", 0.6), ("separate", None)],
)
def test_it_is_ewc_written_out(accumulation: Any, decay: Any, labels: Any) -> None:
    """Losses and weights over four experiences, in double precision."""
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    other = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    other.load_state_dict(one.state_dict())
    ours = AdaptiveEWCPlugin(
        4.0, accumulation=accumulation, decay=decay, labels=labels, num_samples=None
    )
    slow = SlowEWC(4.0, accumulation, decay or 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experiences of two steps
        for batches in experiences(4):
            torch.testing.assert_close(
                train(one, ours, batches), train(other, slow, batches)
            )
            ours.update(one, batches)
            x, y = (torch.cat(part) for part in zip(*batches, strict=True))
            slow.end(other, slow_fisher(other, x, y, labels))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
    assert ours.penalty(one).item() == pytest.approx(slow.penalty(other).item())


@pytest.mark.parametrize("batch", [1, 8, 40])
def test_the_importance_does_not_depend_on_the_batch_size(
    class_stream: Any, batch: int
) -> None:
    """Without training: of the same weights, in Avalanche, on transformed rows."""
    plugin = AdaptiveEWCPlugin(1.0, num_samples=None, labels="empirical")
    trained = strategy([plugin], train_mb_size=batch)
    for group in trained.optimizer.param_groups:
        group["lr"] = 0.0
    benchmark = class_stream(experiences=1)
    trained.train(benchmark.train_stream[0], eval_streams=[])
    rows = [row for row in benchmark.train_stream[0].dataset.eval()]
    x = torch.stack([row[0] for row in rows])
    y = torch.tensor([int(row[1]) for row in rows])
    expected = slow_fisher(trained.model, x, y, "empirical")
    for name, values in expected.items():
        found = plugin.quadratic.importance[name]
        assert (found - values).norm() <= 1e-5 * values.norm()


def test_rows_and_labels_are_drawn_by_the_seed(class_stream: Any) -> None:
    def importance(seed: int | None) -> Tensor:
        torch.manual_seed(5)
        plugin = AdaptiveEWCPlugin(1.0, labels="sampled", num_samples=7, seed=seed)
        trained = strategy([plugin])
        stream = class_stream(experiences=1).train_stream
        after = None
        trained.train(stream, eval_streams=[])
        after = torch.rand(1)
        torch.manual_seed(5)
        if seed is None:
            AdaptiveEWCPlugin(1.0)  # draws its seed
        plain = strategy([])
        plain.train(stream, eval_streams=[])
        assert torch.rand(1) == after  # the Fisher pass draws from its own generator
        return plugin.quadratic.importance["1.weight"]

    assert torch.equal(importance(1), importance(1))
    assert not torch.equal(importance(1), importance(2))
    assert torch.equal(importance(None), importance(None))


def test_the_data_are_looked_at_in_evaluation(class_stream: Any) -> None:
    """Under the evaluation transforms, with dropout off; nothing is left behind."""
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.BatchNorm1d(6),
        nn.Dropout(0.5),
        nn.Linear(6, 8),
    )
    plugin = AdaptiveEWCPlugin(1.0, seed=0)
    trained = strategy([plugin], model)
    benchmark = class_stream(experiences=1)
    trained.train(benchmark.train_stream, eval_streams=[])
    assert model.training
    assert model[3].training
    model.eval()
    x = torch.stack([row[0] for row in benchmark.train_stream[0].dataset.eval()])
    y = torch.zeros(len(x), dtype=torch.long)
    for name, values in slow_fisher(model, x, y, "exact").items():
        found = plugin.quadratic.importance[name]
        assert (found - values).norm() <= 1e-5 * values.norm() + 1e-12


@pytest.mark.parametrize("kind", ["heads", "growing"])
def test_models_with_several_or_growing_heads(class_stream: Any, kind: str) -> None:
    """Importances are the sum of those at each end, a head's from where it is met."""
    several = kind == "heads"
    model: nn.Module = (
        MTSimpleMLP(input_size=64, hidden_size=5) if several else Growing()
    )
    plugin = AdaptiveEWCPlugin(1.0, num_samples=None)
    trained = strategy([plugin], model)
    total: dict[str, Tensor] = {}
    benchmark = class_stream(experiences=3, tasks=several)
    for k, experience in enumerate(benchmark.train_stream):
        trained.train(experience, eval_streams=[])
        x = torch.stack([row[0] for row in experience.dataset.eval()])
        task = torch.full((len(x),), k) if several else None
        y = torch.zeros(len(x), dtype=torch.long)
        for name, new in slow_fisher(model, x, y, "exact", task).items():
            total[name] = new + grown(total.get(name, torch.zeros_like(new)), new)
        trained.eval(benchmark.test_stream)  # may add heads and outputs
    for name, values in total.items():
        found = plugin.quadratic.importance[name]
        assert (found - values).norm() <= 1e-5 * values.norm() + 1e-12, name
    heads = [name for name in total if "classifiers" in name]
    assert len(heads) == (6 if several else 0)


class Growing(nn.Module):
    """A head that grows with the classes met."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh())
        self.head = IncrementalClassifier(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


@pytest.mark.parametrize("balance", [True, "each"])
@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_a_balanced_strength_does_not_depend_on_the_scale(
    balance: Any, scale: float
) -> None:
    """A loss ten times as large has a Fisher information a hundred times as large."""
    torch.manual_seed(0)
    model = nn.Linear(5, 3).double()
    plugin = AdaptiveEWCPlugin(2.0, balance=balance, labels="empirical")
    batches = experiences(1)[0]
    for _ in range(2):
        plugin.update(
            model, batches, criterion=lambda a, b: scale * F.cross_entropy(a, b)
        )
    with torch.no_grad():
        model.weight += 1
    mean = plugin.quadratic.mean_importance() * plugin.strength
    assert mean == pytest.approx(2.0 if balance == "each" else 1.0)


def test_thresholds_are_told(class_stream: Any) -> None:
    model = nn.Linear(5, 3).double()
    batches = experiences(1)[0]
    plugin = AdaptiveEWCPlugin(1.0, threshold=0.01)
    plugin.update(model, batches)  # takes next to nothing
    assert plugin.health.mass_lost is not None
    assert 0 <= plugin.health.mass_lost < 0.01
    plugin = AdaptiveEWCPlugin(1.0, threshold=1.0)
    with pytest.warns(UserWarning, match=r"takes .*% of the Fisher information, whose"):
        plugin.update(model, batches)
    plugin.update(model, batches)  # once
    plugin = AdaptiveEWCPlugin(1.0, threshold=1e6, threshold_unit="absolute")
    silenced = "sets the whole Fisher information to zero, whose quantiles are 5%"
    with pytest.warns(UserWarning, match=silenced) as told:
        plugin.update(model, batches)
    assert len(told) == 1
    assert plugin.health.mass_lost == 1


def test_an_importance_of_zero_is_told() -> None:
    model = nn.Linear(5, 2).double()
    with torch.no_grad():
        model.bias[0] = 1e6  # sure of everything
    plugin = AdaptiveEWCPlugin(1.0)
    with pytest.warns(
        UserWarning, match="is zero for all parameters, so that Adaptive"
    ):
        plugin.update(model, experiences(1)[0])


def test_a_penalty_that_does_nothing_is_told(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(1e-6, seed=0)
    trained = strategy([plugin], train_epochs=2)
    inert = "next to nothing: its gradient was .* with ewc_lambda=1e-06 .*balance=True"
    with pytest.warns(UserWarning, match=inert) as told:
        trained.train(class_stream(experiences=4).train_stream, eval_streams=[])
    assert len(told) == 1


def test_health_is_of_the_steps(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(50.0, seed=0)
    trained = strategy([plugin], train_epochs=4)
    stream = class_stream(experiences=2).train_stream
    assert plugin.health.penalty_over_loss is None
    trained.train(stream[0], eval_streams=[])
    assert plugin.health.gradient_ratio is None
    seen: list[tuple[float, float, float, float]] = []

    class Watch(SupervisedPlugin):
        def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
            named = dict(strategy.model.named_parameters())
            at = [(p.detach() - plugin.quadratic.anchor[n]) for n, p in named.items()]
            own = [
                50 * plugin.quadratic.importance[n] * d
                for n, d in zip(named, at, strict=True)
            ]
            penalty = sum((d * w).sum() / 2 for d, w in zip(at, own, strict=True))
            task = torch.autograd.grad(
                strategy.loss, list(named.values()), retain_graph=True
            )
            seen.append(
                (
                    float(penalty),
                    strategy.loss.item(),
                    float(sum(w.square().sum() for w in own)),
                    float(sum(g.square().sum() for g in task)),
                )
            )

    trained.plugins.insert(0, Watch())
    trained.train(stream[1], eval_streams=[])
    looked_at = [seen[step - 1] for step in (1, 2, 4, 8, 16) if step <= len(seen)]
    penalty, loss, own, task = (sum(part) for part in zip(*looked_at, strict=True))
    health = plugin.health
    assert health.consolidations == 2
    assert health.strength == 25
    assert 0.5 < health.nonzero <= 1
    assert health.penalty_over_loss == pytest.approx(penalty / loss, rel=1e-4)
    assert health.gradient_ratio == pytest.approx((own / task) ** 0.5, rel=1e-4)


def test_order_among_plugins_does_not_matter(class_stream: Any) -> None:
    def trained(order: int) -> list[Tensor]:
        plugins = [
            AdaptiveEWCPlugin(10.0, seed=0),
            reservoir_replay(16, batch_size_mem=4, seed=0),
            ResidentDataPlugin(),
        ]
        plugins = plugins[order:] + plugins[:order] if order < 2 else plugins
        run = strategy(plugins)
        run.train(class_stream(experiences=3).train_stream, eval_streams=[])
        return [p.detach() for p in run.model.parameters()]

    first, second = trained(0), trained(1)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_frozen_and_excluded_parameters_are_free(class_stream: Any) -> None:
    plugin = AdaptiveEWCPlugin(10.0, exclude="3", seed=0)
    trained = strategy([plugin])
    trained.model[1].bias.requires_grad_(False)
    trained.train(class_stream(experiences=2).train_stream, eval_streams=[])
    assert list(plugin.quadratic.importance) == ["1.weight"]
