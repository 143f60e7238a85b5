"""Gradients of rows from a training step's own backward pass."""

import copy
import pickle
from typing import Any

import pytest
import small_networks as networks
import torch
import torch.nn.functional as F
from single_rows import gradient_rows, norms_of, squares_of
from torch import Tensor, nn

from avalanche_ext.gradients import GradientRecorder, gradient_norms

ROWS = 8


@pytest.fixture
def batch() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(4)
    model = networks.mlp()
    model[2].p = 0.0  # the oracle has no dropout
    return model, torch.randn(ROWS, 6), torch.arange(ROWS) % 4


def close(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (networks.convolutions, (4, 9, 9)),
        (networks.Residual, (4, 6, 6)),
        (networks.Experts, (6,)),
        (networks.Added, (6,)),
        (networks.Checkpointed, (6,)),
    ],
)
def test_norms_and_squares(make: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(4)
    model, x, y = make().eval(), torch.randn(ROWS, *shape), torch.arange(ROWS) % 4
    recorder = GradientRecorder(model)
    with recorder:
        F.cross_entropy(model(x), y).backward()
    rows = gradient_rows(model, F.cross_entropy, x, y)
    assert not recorder.missing
    close(recorder.gradient_norms(), norms_of(rows))
    for name, square in squares_of(rows).items():
        close(recorder.squared_gradients()[name], square)


def test_the_step_is_as_without(batch: Any) -> None:
    model, x, y = batch
    model[2].p = 0.5
    alone = copy.deepcopy(model)
    recorder = GradientRecorder(model)
    for step in range(3):
        for network in (alone, model):
            network.zero_grad()
            torch.manual_seed(step)
            if network is model:
                recorder.start()
            F.cross_entropy(network(x), y).backward()
        recorder.stop()
        for own, other in zip(model.parameters(), alone.parameters(), strict=True):
            assert own.grad is not None
            assert torch.equal(own.grad, other.grad)
            assert not own._backward_hooks
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert module.training


def test_dropout_is_that_of_the_step(batch: Any) -> None:
    model, x, y = batch
    model[2].p = 0.5
    recorder = GradientRecorder(model)
    with recorder:
        output = model(x)
        F.cross_entropy(output, y).backward()
    mean = recorder.squared_gradients()
    assert (recorder.gradient_norms() > 0).all()
    assert mean["3.weight"][:, 0].any() or mean["3.weight"].any()
    total = sum(value.sum() for value in mean.values())
    close(recorder.gradient_norms().square().mean(), total)
    # All rows' gradients of the last bias follow from the step's own output.
    delta = output.detach().softmax(1) - F.one_hot(y, 4)
    close(mean["3.bias"], delta.square().mean(0))


def test_losses_with_weights_and_a_penalty(batch: Any) -> None:
    model, x, y = batch
    weights = torch.rand(ROWS) + 0.1
    recorder = GradientRecorder(model)
    with recorder:
        losses = F.cross_entropy(model(x), y, reduction="none")
        penalty = sum(p.square().sum() for p in model.parameters())
        (1024 * (losses @ weights) + 3 * penalty).backward()
    rows = gradient_rows(model, F.cross_entropy, x, y)
    close(recorder.gradient_norms(1024 * weights), norms_of(rows))
    share = torch.arange(ROWS).float()
    found = recorder.squared_gradients(1024 * weights, share)
    for name, values in rows.items():
        expected = torch.tensordot(share / share.sum(), values**2, 1)
        close(found[name], expected)


def test_gradient_of_the_batch_is_the_sum_of_shares() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    x, y = torch.randn(2, 6), torch.tensor([0, 1])
    recorder = GradientRecorder(model, ["1.weight"])
    with recorder:
        F.cross_entropy(model(x), y).backward()
    gradient = model[1].weight.grad
    # Of two rows a and b: |a|² + |b|² + |a - b|² = 2|a|² + 2|b|² - |a + b|² + ...
    squares = recorder.squared_gradients()["1.weight"] / 2  # of the shares themselves
    shares = (recorder.gradient_norms() / 2).square()
    close(squares.sum(), shares.sum())
    assert gradient is not None
    normalised = F.batch_norm(model[0](x), None, None, training=True)
    output = model[2](model[1](model[0](x)))
    delta = (output.softmax(1) - F.one_hot(y, 4)) / 2 @ model[2].weight
    close((delta * normalised).sum(0), gradient)
    close(shares, (delta * normalised).square().sum(1))


def test_later_passes_count(batch: Any) -> None:
    model, x, y = batch
    recorder = GradientRecorder(model)
    with recorder:
        torch.autograd.grad(F.cross_entropy(model(x + 1), y), model[0].weight)
        with torch.no_grad():
            model(x - 1)
        loss = F.cross_entropy(model(x), y)
        torch.autograd.grad(2 * loss, list(model.parameters()), retain_graph=True)
        with torch.no_grad():
            model(x + 2)
        loss.backward()
    close(recorder.gradient_norms(), gradient_norms(model, F.cross_entropy, x, y))


def test_the_model_is_inspected_once_and_when_it_grows(batch: Any) -> None:
    model, x, y = batch
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    recorder = GradientRecorder(model)
    for step in range(4):
        if step == 2:
            model[3] = nn.Linear(5, 7)
        sizes.clear()
        with recorder:
            F.cross_entropy(model(x), y).backward()
        assert (sizes == [ROWS]) == (step in (1, 3))
        close(recorder.gradient_norms(), gradient_norms(model, F.cross_entropy, x, y))


def test_heads_are_inspected_when_they_are_met() -> None:
    torch.manual_seed(4)
    model, x, y = networks.Experts(), torch.randn(ROWS, 6), torch.arange(ROWS) % 4
    recorder = GradientRecorder(model)
    for some in (x[:, 0] > 0, x[:, 0] < 9):
        with recorder:
            F.cross_entropy(model(x[some]), y[some]).backward()
        assert not recorder.missing
        close(
            recorder.gradient_norms(),
            gradient_norms(model, F.cross_entropy, x[some], y[some]),
        )


def test_inspection_leaves_statistics_and_random_numbers_alone() -> None:
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
    alone = copy.deepcopy(model)
    x = torch.randn(ROWS, 6)
    torch.manual_seed(5)
    alone(x).sum().backward()
    numbers = torch.get_rng_state()
    torch.manual_seed(5)
    with GradientRecorder(model):
        model(x).sum().backward()
    assert torch.equal(numbers, torch.get_rng_state())
    for name, value in alone.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_mixed_precision(batch: Any) -> None:
    model, x, y = batch
    recorder = GradientRecorder(model)
    with recorder:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
    expected = gradient_norms(model, F.cross_entropy, x, y)
    assert recorder.gradient_norms().dtype == torch.float32
    assert (recorder.gradient_norms() - expected).norm() <= 0.02 * expected.norm()


def test_what_has_no_formula_is_named() -> None:
    model, x = networks.Twice(), torch.randn(ROWS, 6)
    recorder = GradientRecorder(model)
    with recorder:
        model(x).sum().backward()
    assert set(recorder.missing) == {"layer.weight", "layer.bias"}
    with pytest.raises(RuntimeError, match="2 parameters have no formula"):
        recorder.gradient_norms()
    part = GradientRecorder(model, ["head.weight", "head.bias"])
    with part:
        model(x).sum().backward()
    assert (part.gradient_norms() > 0).all()


def test_nothing_recorded(batch: Any) -> None:
    model, x, y = batch
    recorder = GradientRecorder(model)
    with pytest.raises(RuntimeError, match="nothing was recorded"):
        recorder.gradient_norms()
    with recorder:
        F.cross_entropy(model(x), y).backward()
    with pytest.raises(ValueError, match="one for each of the 8"):
        recorder.gradient_norms(torch.ones(3))
    with pytest.raises(ValueError, match="not recorded"):
        GradientRecorder(model, "last")


def test_hooks_go_when_the_step_fails(batch: Any) -> None:
    model, x, _ = batch
    recorder = GradientRecorder(model)
    with pytest.raises(RuntimeError, match="shapes"), recorder:
        model(x[:, :5])
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_a_recorder_with_a_record_can_be_pickled(batch: Any) -> None:
    model, x, y = batch
    recorder = GradientRecorder(model)
    with recorder:
        F.cross_entropy(model(x), y).backward()
    copied = pickle.loads(pickle.dumps(recorder))
    with copied:
        F.cross_entropy(copied.model(x), y).backward()
    close(copied.gradient_norms(), recorder.gradient_norms())
