"""EWC's penalties over several experiences against a loop over their history."""

import copy
from typing import Any

import pytest
import torch
from paper_importance import (
    Named,
    PaperEWC,
    close,
    copied,
    fisher,
    gradients,
    named,
    rows_of,
)
from paper_problems import problem
from torch import Tensor, nn

from avalanche_ext import AdaptiveEWCPlugin

pytestmark = [
    pytest.mark.usefixtures("passes"),
    # Parameters are moved by hand here, and not trained; and the penalty is looked at in
    # places where training never was.
    pytest.mark.filterwarnings("ignore:.*holds another model's parameters"),
    pytest.mark.filterwarnings("ignore:.*penalty\\(\\) was not called"),
]


def moved(model: nn.Module, seed: int) -> None:
    """Other parameters, as after another experience."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def wider(layer: Any, outputs: int, inputs: int | None = None) -> nn.Linear:
    """The same layer with more outputs, and inputs."""
    new = nn.Linear(inputs or layer.in_features, outputs).to(layer.weight.dtype)
    with torch.no_grad():
        new.weight[: layer.out_features, : layer.in_features] = layer.weight
        new.bias[: layer.out_features] = layer.bias
    return new


def agree(ewc: Any, paper: PaperEWC, model: nn.Module) -> None:
    """Value and gradient at three places, and the gradient against differences."""
    for seed in range(3):
        place = copy.deepcopy(model)
        moved(place, 100 + seed)
        wanted = paper.penalty(place)
        found = ewc.penalty(place)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-8)
        found.backward()
        close(
            {
                n: torch.zeros_like(p) if p.grad is None else p.grad
                for n, p in named(place).items()
            },
            gradients(wanted, place),
        )
    name, p = next(iter(named(place).items()))
    slope = p.grad.flatten()[0].item()
    values = []
    for step in (1e-4, -2e-4):
        with torch.no_grad():
            p.view(-1)[0] += step
        values.append(ewc.penalty(place).item())
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(slope, rel=1e-4), name


ACCUMULATIONS = [
    ("sum", None, 1.0),
    ("sum", 0.6, 0.6),
    ("sum", 0.0, 0.0),
    ("ema", None, 0.95),
    ("ema", 0.3, 0.3),
    ("ema", 1.0, 1.0),
    ("separate", None, 1.0),
]


@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize(("accumulation", "given", "decay"), ACCUMULATIONS)
def test_four_experiences(
    accumulation: Any, given: float | None, decay: float, balance: bool
) -> None:
    model, x, y = problem("mlp")
    options: dict[str, Any] = {} if given is None else {"decay": given}
    ewc = AdaptiveEWCPlugin(7.0, accumulation=accumulation, balance=balance, **options)
    paper = PaperEWC(7.0, accumulation, decay, balance=balance)
    for number in range(4):
        part = slice(3 * number, 3 * number + 4)
        ewc.update(model, [(x[part], y[part])])
        paper.end(model, rows_of(x[part], y[part]))
        agree(ewc, paper, model)
        moved(model, number)


@pytest.mark.parametrize(("accumulation", "given", "decay"), ACCUMULATIONS[1::2])
def test_four_experiences_of_growing_heads(
    accumulation: Any, given: float | None, decay: float
) -> None:
    """More outputs, a matrix that grows in both dimensions, and new heads."""
    torch.manual_seed(0)

    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(6, 5)
            self.heads = nn.ModuleList([nn.Linear(5, 2)])
            self.mixed = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.tanh(self.shared(x))
            out = torch.cat([head(hidden) for head in self.heads], 1)
            return self.mixed(torch.tanh(out))

    model = Growing().double()
    ewc = AdaptiveEWCPlugin(3.0, accumulation=accumulation, decay=given)
    paper = PaperEWC(3.0, accumulation, decay)
    for number in range(4):
        x, y = torch.randn(6, 6).double(), torch.randint(0, 2 + number, (6,))
        ewc.update(model, [(x, y)])
        paper.end(model, rows_of(x, y))
        agree(ewc, paper, model)
        moved(model, number)
        if number % 2:
            model.heads.append(nn.Linear(5, 1).double())
        else:
            model.heads[0] = wider(model.heads[0], 3 + number // 2)
        model.mixed = wider(model.mixed, 3 + number, 3 + number)
        agree(ewc, paper, model)


def test_threshold_is_relative_to_the_mean_of_all_entries() -> None:
    model, x, y = problem("mlp")
    ewc = AdaptiveEWCPlugin(3.0, threshold=0.5)
    with pytest.warns(UserWarning, match="Fisher"):
        ewc.update(model, [(x, y)])
    paper = PaperEWC(3.0, threshold=0.5)
    paper.end(model, rows_of(x, y))
    agree(ewc, paper, model)
    whole = fisher(model, rows_of(x, y))
    lost = 1 - sum(v.sum() for v in paper.history[0][0].values()) / sum(
        v.sum() for v in whole.values()
    )
    assert ewc.health.mass_lost == pytest.approx(lost.item(), rel=1e-6)


def test_held_parameters() -> None:
    model, x, y = problem("cnn")
    model[0].weight.requires_grad_(False)
    ewc = AdaptiveEWCPlugin(3.0, exclude="*.bias", include=["0.*", "1.*", "9.*"])
    paper = PaperEWC(
        3.0, held=lambda n: n.split(".")[0] in "019" and not n.endswith("bias")
    )
    ewc.update(model, [(x, y)])
    paper.end(model, rows_of(x, y))
    assert list(paper.history[0][0]) == ["1.weight", "9.weight"]
    place = copy.deepcopy(model)
    moved(place, 5)
    wanted = paper.penalty(place)
    assert ewc.penalty(place).item() == pytest.approx(wanted.item(), rel=1e-8)
    close(gradients(ewc.penalty(place), place), gradients(wanted, place))


def test_balance_each() -> None:
    """Each Fisher over the mean of its entries that are not 0, then accumulated."""
    model, x, y = problem("mlp")
    ewc = AdaptiveEWCPlugin(3.0, accumulation="separate", balance="each")
    terms: list[tuple[Named, Named]] = []
    for number in range(3):
        part = slice(3 * number, 3 * number + 4)
        ewc.update(model, [(x[part], y[part])])
        new = fisher(model, rows_of(x[part], y[part]))
        entries = torch.cat([v.flatten() for v in new.values()])
        mean = entries[entries != 0].mean()
        terms.append(({n: v / mean for n, v in new.items()}, copied(model)))
        moved(model, number)
    wanted = sum(
        1.5 * (f[n] * (p.detach() - a[n]) ** 2).sum()
        for f, a in terms
        for n, p in named(model).items()
    )
    assert ewc.penalty(model).item() == pytest.approx(float(wanted), rel=1e-8)
