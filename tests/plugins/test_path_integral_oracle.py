"""Synaptic Intelligence against a loop written from its paper, in plain PyTorch."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from paper_importance import (
    Named,
    PaperEWC,
    PaperSI,
    close,
    gradients,
    importance_of,
    rows_of,
    train,
)
from torch import Tensor, nn

from avalanche_ext import AdaptiveEWCPlugin, SynapticIntelligencePlugin

pytestmark = pytest.mark.usefixtures("passes")

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.02),
    "momentum": lambda p: torch.optim.SGD(p, 0.03, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, 0.01),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
}


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(number: int, steps: int) -> list[tuple[Tensor, Tensor, None]]:
    """Batches of a task that a network can learn."""
    generator = torch.Generator().manual_seed(number)
    rule = torch.randn(6, 3, generator=generator).double()
    inputs = [torch.randn(8, 6, generator=generator).double() for _ in range(steps)]
    return [(x, (x @ rule).argmax(1), None) for x in inputs]


def train_with(
    plugins: list[Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    clip: float | None = None,
    early: bool = True,
) -> None:
    """The loop of the plugin's documentation.

    :param early: whether gradients are reset before the penalty is asked for.
    """
    for x, y, _ in batches:
        if early:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        for plugin in plugins:
            loss = loss + plugin.penalty(model)
        if not early:
            optimizer.zero_grad()
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def omega_of(si: Any, model: nn.Module) -> Named:
    """The path integral so far, as the plugin saves it when it has seen the last step."""
    si.penalty(model)
    found: Named = si.state_dict()["integral"]["integral"]
    return found


@pytest.mark.parametrize(
    ("optimizer", "early"), [*((name, True) for name in OPTIMIZERS), ("adam", False)]
)
def test_three_experiences_of_200_steps(optimizer: str, early: bool) -> None:
    ours, theirs = network(), network()
    steps = [OPTIMIZERS[optimizer](m.parameters()) for m in (ours, theirs)]
    si, paper = SynapticIntelligencePlugin(0.5, eps=0.01), PaperSI(0.5, xi=0.01)
    for number in range(3):
        batches = data(number, 200)
        paper.begin(theirs)
        train_with([si], ours, steps[0], batches, early=early)
        train(theirs, steps[1], batches, [paper])
        close(dict(ours.state_dict()), dict(theirs.state_dict()))
        si.update(ours)
        paper.end(theirs, [])
        assert all((v > 0).any() for v in paper.importance.values())
        close(importance_of(si, ours, 0.5), paper.importance)
        place = copy.deepcopy(theirs)
        with torch.no_grad():
            for p in place.parameters():
                p += torch.randn(p.shape)
        probe, wanted = copy.deepcopy(si), paper.penalty(place)
        found = probe.penalty(place)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-8)
        close(gradients(found, place), gradients(wanted, place))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_path_integral_within_an_experience(optimizer: str) -> None:
    """Also under a penalty, and with clipped gradients: ``g`` is the loss's own."""
    ours, theirs = network(), network()
    steps = [OPTIMIZERS[optimizer](m.parameters()) for m in (ours, theirs)]
    si, paper = SynapticIntelligencePlugin(5.0), PaperSI(5.0)
    paper.begin(theirs)
    train_with([si], ours, steps[0], data(0, 30), clip=0.5)
    train(theirs, steps[1], data(0, 30), [paper], clip=0.5)
    si.update(ours)
    paper.end(theirs, [])
    paper.begin(theirs)
    batches = data(1, 50)
    train_with([si], ours, steps[0], batches, clip=0.5)
    train(theirs, steps[1], batches, [paper], clip=0.5)
    close(dict(ours.state_dict()), dict(theirs.state_dict()))
    close(omega_of(si, ours), paper.omega, 1e-7)


def test_paths_that_raise_the_loss() -> None:
    """The relu is of the sum: some importances shrink, some end at 0, as does the mass
    that the plugin says was lost."""
    ours, theirs = network(), network()
    si, paper = SynapticIntelligencePlugin(1.0), PaperSI(1.0)
    shrunk = silent = 0
    for number in range(3):
        climbs = number == 1
        steps = [
            torch.optim.SGD(m.parameters(), 0.02, maximize=climbs)
            for m in (ours, theirs)
        ]
        before = {n: v.clone() for n, v in paper.importance.items()}
        paper.begin(theirs)
        train_with([si], ours, steps[0], data(number, 40))
        train(theirs, steps[1], data(number, 40), [paper])
        si.update(ours)
        paper.end(theirs, [])
        close(importance_of(si, ours, 1.0), paper.importance)
        if climbs:
            assert si.health.mass_lost is not None
            assert si.health.mass_lost > 0
            for name, values in paper.importance.items():
                silent += int((values == 0).sum())
                shrunk += int(((values > 0) & (values < before[name])).sum())
    assert shrunk > 5
    assert silent > 5


@pytest.mark.parametrize("penalised", [False, True])
def test_conservation(penalised: bool) -> None:
    """Full batch, small steps: ``Σω`` is the decrease of the loss, to 1 %."""
    model = network()
    batch = [
        (
            torch.cat([x for x, _, _ in data(0, 9)]),
            torch.cat([y for _, y, _ in data(0, 9)]),
            None,
        )
    ]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    si = SynapticIntelligencePlugin(1.0)
    if penalised:
        train_with([si], model, optimizer, data(1, 300))
        si.update(model)

    def loss() -> float:
        return F.cross_entropy(model(batch[0][0]), batch[0][1]).item()

    first = loss()
    train_with([si], model, optimizer, 400 * batch)
    decrease = first - loss()
    assert decrease > 0.1
    total = sum(v.sum().item() for v in omega_of(si, model).values())
    assert total == pytest.approx(decrease, rel=0.01)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_with_ewc(order: list[int]) -> None:
    """Both penalties in one loop; SI's path is of the loss and the other penalty."""
    ours, theirs = network(), network()
    steps = [OPTIMIZERS["adam"](m.parameters()) for m in (ours, theirs)]
    si, ewc = SynapticIntelligencePlugin(0.5), AdaptiveEWCPlugin(20.0)
    plugins = [(si, ewc)[i] for i in order]
    paper, other = PaperSI(0.5), PaperEWC(20.0)
    for number in range(3):
        batches = data(number, 40)
        rows = rows_of(batches[0][0], batches[0][1])
        paper.begin(theirs)
        train_with(plugins, ours, steps[0], batches)
        train(theirs, steps[1], batches, [paper], also=other.penalty)
        close(dict(ours.state_dict()), dict(theirs.state_dict()))
        si.update(ours)
        ewc.update(ours, [(batches[0][0], batches[0][1])])
        paper.end(theirs, [])
        other.end(theirs, rows)
        close(importance_of(si, ours, 0.5), paper.importance)


def test_asking_for_the_penalty_between_steps_changes_nothing() -> None:
    ours, theirs = network(), network()
    steps = [OPTIMIZERS["momentum"](m.parameters()) for m in (ours, theirs)]
    si, paper = SynapticIntelligencePlugin(0.5), PaperSI(0.5)
    for number in range(2):
        paper.begin(theirs)
        for batch in data(number, 20):
            train_with([si], ours, steps[0], [batch])
            si.penalty(ours)
            with torch.no_grad():
                si.penalty(ours)
            train(theirs, steps[1], [batch], [paper])
        si.update(ours)
        paper.end(theirs, [])
        close(importance_of(si, ours, 0.5), paper.importance)


@pytest.mark.parametrize("way", ["accumulated", "scaled", "apart"])
def test_backward_passes(way: str) -> None:
    """Two that add up before a step, the penalty in the last; a scaled loss; the
    penalty's own pass."""
    ours, theirs = network(), network()
    steps = [OPTIMIZERS["momentum"](m.parameters()) for m in (ours, theirs)]
    si, paper = SynapticIntelligencePlugin(2.0), PaperSI(2.0)
    for number in range(2):
        batches = data(number, 30)
        paper.begin(theirs)
        train(theirs, steps[1], batches, [paper])
        for x, y, _ in batches:
            steps[0].zero_grad()
            first, last = (
                F.cross_entropy(ours(x[part]), y[part]) / 2
                for part in (slice(4), slice(4, 8))
            )
            if way == "scaled":
                (64 * (first + last + si.penalty(ours))).backward()
                for p in ours.parameters():
                    p.grad /= 64
            else:
                first.backward()
                if way == "accumulated":
                    (last + si.penalty(ours)).backward()
                else:
                    last.backward()
                    si.penalty(ours).backward()
            steps[0].step()
        si.update(ours)
        paper.end(theirs, [])
        close(dict(ours.state_dict()), dict(theirs.state_dict()))
        close(importance_of(si, ours, 2.0), paper.importance)


def test_strengths_of_a_list() -> None:
    """One an experience, the last for all that follow; a path is taken with any."""
    ours, theirs = network(), network()
    steps = [OPTIMIZERS["sgd"](m.parameters()) for m in (ours, theirs)]
    si, paper = SynapticIntelligencePlugin([9.0, 0.0, 3.0]), PaperSI(0.0)
    for number, strength in enumerate([9.0, 0.0, 3.0, 3.0]):
        paper.strength = strength
        paper.begin(theirs)
        train_with([si], ours, steps[0], data(number, 20))
        train(theirs, steps[1], data(number, 20), [paper])
        si.update(ours)
        paper.end(theirs, [])
        close(dict(ours.state_dict()), dict(theirs.state_dict()))
