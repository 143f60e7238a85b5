"""One clear error or warning for what regularisers cannot work with."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.scenarios.online import split_online_stream
from avalanche.benchmarks.utils import DataAttribute, make_avalanche_dataset
from avalanche.training.supervised import Naive
from regularised_loop import MAKERS, X, Y, both, network, renew
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from avalanche_ext import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
)


def experience(plugin: Any, model: nn.Module, rate: float = 0.1) -> None:
    """Three steps, and the end of an experience."""
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X), Y) + plugin.penalty(model)
        loss.backward()
        optimizer.step()
    renew(plugin, model)


@both
@pytest.mark.parametrize("strength", [-1, -1e-9, float("nan"), float("inf"), "1", None])
def test_strengths(make: Any, strength: Any) -> None:
    with pytest.raises(ValueError, match=f"_lambda must be .*, got {strength!r}"):
        make(strength)


@pytest.mark.parametrize(
    "batches",
    [
        X,
        3,
        None,
        "xy",
        {"x": X},
        [X],
        [3],
        [(1, 2)],
        ["xy"],
        [[]],
        [("x", Y)],
        [([], Y)],
        [(None, Y)],
        [(X, 3)],
        [(X, Y.tolist())],
    ],
    ids=repr,
)
def test_what_are_no_batches(batches: Any) -> None:
    with pytest.raises(
        ValueError, match=r"give a data loader, or a list of batches \[x"
    ):
        AdaptiveEWCPlugin(1.0).update(network(), batches)


@both
@pytest.mark.parametrize("state", [None, 3, [], {}])
def test_what_is_no_state(make: Any, state: Any) -> None:
    with pytest.raises(ValueError, match=r"the state is of .* this plugin is of"):
        make().load_state_dict(state)


@pytest.mark.parametrize("accumulation", ["sum", "ema"])
@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decays(decay: float, accumulation: Any) -> None:
    with pytest.raises(ValueError, match=f"decay must be .* from 0 to 1, got {decay}"):
        AdaptiveEWCPlugin(1.0, accumulation=accumulation, decay=decay)


@pytest.mark.parametrize("unit", ["mean", "absolute"])
def test_a_threshold_that_silences_everything(unit: Any) -> None:
    """Warned of once, with quantiles of what there was; then there is no penalty."""
    plugin, model = (
        AdaptiveEWCPlugin(1.0, threshold=1e6, threshold_unit=unit),
        network(),
    )
    with pytest.warns(UserWarning, match=r"threshold=1e\+06.*quantiles") as told:
        experience(plugin, model)
    assert len(told) == 1
    assert plugin.health.mass_lost == 1
    assert plugin.health.nonzero == 0
    experience(plugin, model)  # no second warning, which would be an error
    assert plugin.penalty(model).item() == 0


class Unlabelled(Naive):
    """Trains without targets."""

    def criterion(self) -> Tensor:
        loss: Tensor = self.mb_output.square().mean()
        return loss

    def _unpack_minibatch(self) -> None:
        self.mbatch = [item.to(self.device) for item in self.mbatch]


@pytest.mark.parametrize("labels", ["empirical", "weighted"])
def test_a_dataset_without_targets(labels: Any) -> None:
    dataset = make_avalanche_dataset(TensorDataset(X))
    benchmark = benchmark_from_datasets(train=[dataset], test=[dataset])
    model = network()
    strategy = Unlabelled(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        train_mb_size=4,
        evaluator=LeanEvaluationPlugin(),
        plugins=[AdaptiveEWCPlugin(1.0, labels=labels)],
    )
    with pytest.raises(ValueError, match=f"labels='{labels}' needs targets"):
        strategy.train(benchmark.train_stream[0], eval_streams=[])
    strategy.plugins[0] = AdaptiveEWCPlugin(1.0)  # needs none
    strategy.train(benchmark.train_stream[0], eval_streams=[])
    assert strategy.plugins[0].health.nonzero > 0


@both
def test_nothing_left_to_hold(make: Any) -> None:
    with pytest.raises(ValueError, match=r"no parameter .* exclude=\('\*',\)"):
        experience(make(exclude="*"), network())
    frozen = network().requires_grad_(False)
    with pytest.raises(ValueError, match=r"the 4 parameters that match are frozen"):
        make().penalty(frozen)


@both
@pytest.mark.parametrize("kind", ["include", "exclude"])
def test_a_pattern_that_matches_nothing(make: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=rf"{kind}: 'hed\*' matches no .* 0\.weight"):
        experience(make(**{kind: ["0.*", "hed*"]}), network())


@both
def test_states_that_do_not_fit(make: Any) -> None:
    plugin = make()
    experience(plugin, network())
    state = plugin.state_dict()
    other = next(m for m in MAKERS.values() if m is not make)()
    with pytest.raises(ValueError, match=r"the state is of .* this plugin is of"):
        other.load_state_dict(state)
    for part in state.keys() - {"method"}:
        rest = {name: values for name, values in state.items() if name != part}
        with pytest.raises(ValueError, match=f"lacks {part}"):
            make().load_state_dict(rest)
    for model, told in (
        (nn.ModuleDict({"a": nn.Linear(6, 2)}), "they are of another model"),
        (nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 2)), "cannot grow to"),
    ):
        loaded = make()
        loaded.load_state_dict(copy.deepcopy(state))
        with pytest.raises(ValueError, match=told):
            loaded.penalty(model)


def test_states_of_another_accumulation() -> None:
    plugin = AdaptiveEWCPlugin(1.0)
    experience(plugin, network())
    for options in ({"accumulation": "ema"}, {"balance": True}):
        with pytest.raises(ValueError, match="make it with the same"):
            AdaptiveEWCPlugin(1.0, **options).load_state_dict(plugin.state_dict())


@both
def test_training_that_has_diverged(make: Any) -> None:
    plugin, model = make(), network()
    with pytest.raises(ValueError, match=r"diverged: 0\.weight is not .*_lambda=1"):
        experience(plugin, model, rate=float("inf"))


@both
def test_hidden_boundaries(make: Any) -> None:
    dataset = make_avalanche_dataset(
        TensorDataset(X, Y), data_attributes=[DataAttribute(Y.tolist(), "targets")]
    )
    benchmark = benchmark_from_datasets(train=[dataset], test=[dataset])
    model = network()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.1),
        criterion=nn.CrossEntropyLoss(),
        evaluator=LeanEvaluationPlugin(),
        plugins=[make()],
    )
    online = split_online_stream(benchmark.train_stream, 4, seed=0)
    with pytest.raises(ValueError, match=r"access_task_boundaries=True, or give"):
        strategy.train(next(iter(online)), eval_streams=[])
