"""avalanche_ext/penalty.py against sums written out and differentiated by autograd."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from avalanche_ext.parameters import ParameterSelection
from avalanche_ext.penalty import QuadraticPenalty

pytestmark = pytest.mark.usefixtures("passes")

TERMS = list[tuple[dict[str, Tensor], dict[str, Tensor]]]


def network(outputs: int = 4, inputs: int = 200) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 190), nn.Tanh(), nn.Linear(190, outputs)
    ).double()


def importances(model: nn.Module) -> dict[str, Tensor]:
    """Random, half of them zero."""
    return {
        name: torch.rand_like(p) * (torch.rand_like(p) > 0.5)
        for name, p in model.named_parameters()
    }


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def move(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


def written_out(model: nn.Module, terms: TERMS, strength: float) -> Tensor:
    """``s Σ_k Σ F_k (θ − θ_k)²`` over the entries that each term has."""
    named = dict(model.named_parameters())
    total = torch.zeros((), dtype=torch.float64)
    for importance, anchor in terms:
        for name, values in importance.items():
            if name in named and named[name].requires_grad:
                old = tuple(slice(size) for size in values.shape)
                away = named[name][old] - anchor[name]
                total = total + strength * (values * away**2).sum()
    return total


def check(model: nn.Module, penalty: QuadraticPenalty, terms: TERMS) -> None:
    """Value and gradient, also below a factor."""
    named = ParameterSelection().of(model)
    for strength in (0.5, 3.0):
        found = penalty(named, strength)
        expected = written_out(model, terms, strength)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        wanted = list(named.values())
        one = torch.autograd.grad(3 * found, wanted, allow_unused=True)
        other = torch.autograd.grad(3 * expected, wanted, allow_unused=True)
        for a, b, p in zip(one, other, wanted, strict=True):
            a = torch.zeros_like(p) if a is None else a
            b = torch.zeros_like(p) if b is None else b
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_one_anchor():
    model, penalty = network(), QuadraticPenalty()
    terms = [(importances(model), values(model))]
    penalty.accumulate(dict(model.named_parameters()), terms[0][0])
    assert penalty(dict(model.named_parameters()), 1.0) == 0
    move(model)
    check(model, penalty, terms)


def test_accumulated_importance_is_anchored_where_it_was_last():
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    first, second = importances(model), importances(model)
    penalty.accumulate(named, first)
    move(model)
    penalty.accumulate(named, second, keep=0.9, weight=0.2)
    both = {n: 0.9 * first[n] + 0.2 * second[n] for n in first}
    terms = [(both, values(model))]
    move(model)
    check(model, penalty, terms)
    penalty.renew(named, second)
    check(model, penalty, [(second, values(model))])


@pytest.mark.parametrize("experiences", [2, 7])
def test_folded_experiences_are_the_sum_of_all(experiences):
    model, penalty, terms = network(), QuadraticPenalty(), []
    for _ in range(experiences):
        terms.append((importances(model), values(model)))
        penalty.fold(dict(model.named_parameters()), terms[-1][0])
        check(model, penalty, terms)
        move(model)
        check(model, penalty, terms)


def test_folding_subtracts_no_large_numbers():
    torch.manual_seed(0)
    model, penalty, terms = nn.Linear(50, 40), QuadraticPenalty(), []
    with torch.no_grad():
        model.weight += 1e3  # Σ F θ² would be some 1e6 times the penalty
    for _ in range(20):
        terms.append((importances(model), values(model)))
        penalty.fold(dict(model.named_parameters()), terms[-1][0])
        move(model)
    found = penalty(dict(model.named_parameters()), 1.0)
    expected = sum(
        (f[n].double() * (p.double() - at[n].double()) ** 2).sum()
        for f, at in terms
        for n, p in model.named_parameters()
    )
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("how", ["accumulate", "fold"])
def test_parameters_that_grow_in_any_dimension(how):
    """With one anchor, or the anchors of all; new entries are free at first."""
    model, penalty, terms = network(2, 5), QuadraticPenalty(), []
    for outputs, inputs in ((2, 5), (4, 5), (4, 9), (7, 12)):
        larger = network(outputs, inputs)
        with torch.no_grad():
            for new, old in zip(larger.parameters(), model.parameters(), strict=True):
                new[tuple(slice(size) for size in old.shape)] = old
        model = larger
        if terms:
            check(model, penalty, terms)
        new = importances(model)
        if how == "fold":
            penalty.fold(dict(model.named_parameters()), new)
            terms.append((new, values(model)))
        else:
            penalty.accumulate(dict(model.named_parameters()), new)
            for importance, _ in terms:
                for name, old in importance.items():
                    new[name][tuple(slice(size) for size in old.shape)] += old
            terms = [(new, values(model))]
        move(model)
        check(model, penalty, terms)


def test_missing_frozen_and_further_parameters():
    model, penalty = network(), QuadraticPenalty()
    terms = [(importances(model), values(model))]
    penalty.accumulate(dict(model.named_parameters()), terms[0][0])
    move(model)
    model[0].bias.requires_grad_(False)
    model.append(nn.Linear(2, 2).double())  # of which nothing is kept
    check(model, penalty, terms)
    without = nn.Sequential(model[0], model[1])
    check(without, penalty, terms)
    penalty.check_model(without)
    with pytest.raises(ValueError, match=r"importances are kept of 0\.weight, 0\.bias"):
        penalty.check_model(nn.Linear(3, 3))


def test_memory_formats_and_types():
    model = nn.Conv2d(3, 5, 3)
    model.to(memory_format=torch.channels_last)
    penalty = QuadraticPenalty()
    new = {n: torch.rand(p.shape) for n, p in model.named_parameters()}
    penalty.accumulate(dict(model.named_parameters()), new)
    terms = [(new, values(model))]
    move(model)
    named = dict(model.named_parameters())
    value = penalty(named, 2.0)
    expected = written_out(model, terms, 2.0)
    torch.testing.assert_close(value.double(), expected.double(), rtol=1e-5, atol=0)
    value.backward()
    away = 4 * new["weight"] * (model.weight - terms[0][1]["weight"])
    torch.testing.assert_close(model.weight.grad, away.detach(), rtol=1e-5, atol=1e-7)

    half = nn.Linear(3, 2).bfloat16()
    penalty = QuadraticPenalty()
    tiny = {n: torch.full(p.shape, 1e-12) for n, p in half.named_parameters()}
    penalty.accumulate(dict(half.named_parameters()), tiny)
    assert penalty.importance["weight"].dtype == torch.float32
    with torch.no_grad():
        half.weight += 1
    penalty(dict(half.named_parameters()), 1e12).backward()
    assert half.weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(
        half.weight.grad.float(), torch.full((2, 3), 2.0), rtol=1e-2, atol=0
    )


def test_it_is_one_node_beside_the_loss():
    """Gradients accumulate, scale and clip as if autograd had seen the sum."""
    torch.manual_seed(0)
    model, penalty = network(), QuadraticPenalty()
    terms = [(importances(model), values(model))]
    penalty.accumulate(dict(model.named_parameters()), terms[0][0])
    move(model)
    x = torch.randn(8, 200).double()
    reference = copy.deepcopy(model)

    def train(model: nn.Module, term: Callable[[], Tensor]) -> None:
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        for scale in (1.0, 128.0, 0.5):
            optimizer.zero_grad()
            ((model(x).square().mean() + term()) * scale).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.7)
            optimizer.step()

    named = dict(model.named_parameters())
    train(model, lambda: penalty(named, 0.1))
    train(reference, lambda: written_out(reference, terms, 0.1))
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_several_penalties_before_one_backward_pass():
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    new = importances(model)
    penalty.accumulate(named, new)
    anchor = values(model)
    move(model)
    away = {n: 2 * new[n] * (p.detach() - anchor[n]) for n, p in named.items()}
    losses = penalty(named, 1.0), penalty(named, 1.0)
    losses[1].backward(retain_graph=True)
    losses[0].backward()
    (losses[1] * 2).backward(retain_graph=True)
    for name, parameter in named.items():
        torch.testing.assert_close(parameter.grad, 4 * away[name])
    move(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses[1].backward()  # as autograd says of any other loss


def test_what_a_backward_pass_tells():
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    told = []

    def done(found):
        complete = all(p.grad is not None for p in model.parameters())
        told.append((found.scale.item(), len(found.gradients), complete))
        assert not torch.is_grad_enabled()

    x = torch.randn(4, 200).double()
    ((penalty(named, 1.0, done) + model(x).sum()) * 4).backward()
    penalty.accumulate(named, importances(model))
    ((penalty(named, 1.0, done) + model(x).sum()) * 2).backward()
    assert told == [(4.0, 0, True), (2.0, 4, True)]


def test_without_strength_or_importance_it_is_no_node():
    """But a leaf, so that it has a backward pass of its own."""
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    assert penalty(named, 1.0).is_leaf
    penalty.accumulate(named, importances(model))
    assert penalty(named, 0.0).is_leaf
    assert not penalty(named, 1.0).is_leaf
    with torch.no_grad():
        assert not penalty(named, 1.0).requires_grad


def test_second_derivatives():
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    terms = [(importances(model), values(model))]
    penalty.accumulate(named, terms[0][0])
    move(model)
    wanted = list(named.values())
    found = []
    for value in (penalty(named, 1.0), written_out(model, terms, 1.0)):
        first = torch.autograd.grad(value * 3, wanted, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), wanted)
        found.append((*first, *second))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_figures():
    model, penalty = nn.Linear(2, 1, bias=False), QuadraticPenalty()
    assert (penalty.mean_importance(), penalty.nonzero_share()) == (0, 0)
    named = dict(model.named_parameters())
    penalty.accumulate(named, {"weight": torch.tensor([[0.0, 3.0]])})
    assert (penalty.mean_importance(), penalty.nonzero_share()) == (3, 0.5)


def folded() -> tuple[nn.Module, QuadraticPenalty, TERMS]:
    """Two experiences with an anchor each, and their terms written out."""
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    terms: TERMS = []
    for _ in range(2):
        terms.append((importances(model), values(model)))
        penalty.fold(named, terms[-1][0])
        move(model)
    return model, penalty, terms


def test_state_round_trip():
    model, penalty, terms = folded()
    file = io.BytesIO()
    torch.save(penalty.state_dict(), file)
    file.seek(0)
    loaded = QuadraticPenalty()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    check(model, loaded, terms)
    check(model, copy.deepcopy(penalty), terms)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda state: state.pop("importance"),
            "must have an importance and an anchor",
        ),
        (lambda state: state["anchor"].popitem(), "of the same parameters"),
        (
            lambda state: state["anchor"].update({"0.bias": torch.zeros(3)}),
            r"importance of 0\.bias has shape \(190,\), its anchor \(3,\)",
        ),
    ],
)
def test_a_state_that_is_none_is_refused(change, told):
    model, penalty = network(), QuadraticPenalty()
    penalty.accumulate(dict(model.named_parameters()), importances(model))
    state = penalty.state_dict()
    change(state)
    with pytest.raises(ValueError, match=told):
        penalty.load_state_dict(state)


def test_a_state_of_larger_parameters_is_refused():
    penalty, model = QuadraticPenalty(), network(6)
    penalty.accumulate(dict(model.named_parameters()), importances(model))
    smaller = dict(network(3).named_parameters())
    with pytest.raises(
        ValueError, match=r"shape \(6, 190\) and cannot grow to \(3, 190\)"
    ):
        penalty(smaller, 1.0)


def test_a_state_is_taken_over_as_a_copy():
    """By each that loads it; and there is nothing left of what was used before."""
    model, penalty, terms = folded()
    named = dict(model.named_parameters())
    state = penalty.state_dict()
    one, other = QuadraticPenalty(), QuadraticPenalty()
    one.accumulate(named, importances(model))
    move(model)
    assert one(named, 0.5) != penalty(named, 0.5)
    for loaded in (one, other):
        loaded.load_state_dict(state)
        assert loaded(named, 0.5) == penalty(named, 0.5)
    for part in ("importance", "anchor", "constant"):
        for name, kept in getattr(one, part).items():
            kept.add_(1.0)
            memory = {getattr(other, part)[name].data_ptr(), kept.data_ptr()}
            assert len(memory) == 2
            assert state[part][name].data_ptr() not in memory
    check(model, penalty, terms)
    check(model, other, terms)


def test_what_folding_leaves_is_in_double_precision():
    model, penalty = network().float(), QuadraticPenalty()
    for _ in range(2):
        penalty.fold(dict(model.named_parameters()), importances(model))
        move(model)
    assert {values.dtype for values in penalty.constant.values()} == {torch.float64}
    assert penalty.importance["0.weight"].dtype == torch.float32


def test_a_copy_of_a_penalty_in_use_holds_no_parameters():
    model, penalty = network(), QuadraticPenalty()
    named = dict(model.named_parameters())
    penalty.accumulate(named, importances(model))
    move(model)
    before = penalty(named, 1.0)
    file = pickle.dumps(penalty)
    entries = 8 * sum(p.numel() for p in model.parameters())
    assert len(file) < 2 * entries + 10_000  # importances and anchors
    assert pickle.loads(file)(named, 1.0) == before
