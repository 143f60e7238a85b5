"""experiments/networks.py and models.py: shapes, heads, initial weights."""

import pytest
import torch
from torch import nn

from experiments.models import MODELS, Task, summary

SINGLE = Task((1, 4, 4), 6, 0)
MULTI = Task((1, 4, 4), 2, 3)


def made(task, hidden=(7, 5), init="xavier", seed=0):
    torch.manual_seed(seed)
    return MODELS["mlp"](task, hidden, init)


def test_one_head():
    model = made(SINGLE)
    x = torch.rand(3, 1, 4, 4)
    widths = [(m.in_features, m.out_features) for m in linears(model)]
    assert widths == [(16, 7), (7, 5), (5, 6)]
    first, second, last = linears(model)
    by_hand = last(second(first(x.flatten(1)).relu()).relu())
    torch.testing.assert_close(model(x), by_hand)
    assert [p for p in summary("mlp") if p == "\n"] == []


def test_each_row_goes_to_the_head_of_its_task():
    model = made(MULTI)
    x, task = torch.rand(5, 1, 4, 4), torch.tensor([2, 0, 1, 0, 2])
    out = model(x, task)
    assert out.shape == (5, 2)
    features = model.features(x)
    for row, t in enumerate(task.tolist()):
        head = model.classifier.classifiers[str(t)]
        torch.testing.assert_close(out[row], head(features[row][None])[0])


def test_heads_without_rows_get_no_gradient():
    model = made(MULTI)
    model(torch.rand(2, 1, 4, 4), torch.tensor([1, 1])).sum().backward()
    for name, parameter in model.classifier.named_parameters():
        assert (parameter.grad is not None) == name.startswith("classifiers.1.")


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_xavier_weights_and_zero_biases(task):
    for module in linears(made(task)):
        bound = (6 / (module.in_features + module.out_features)) ** 0.5
        largest = module.weight.abs().max().item()
        assert 0.5 * bound < largest <= bound
        assert not module.bias.any()
    assert all(m.bias.any() for m in linears(made(task, init="default")))


@pytest.mark.parametrize("task", [SINGLE, MULTI])
def test_the_seed_decides_all_weights(task):
    one, same, other = made(task), made(task), made(task, seed=1)
    states = [list(model.state_dict().values()) for model in (one, same, other)]
    assert all(map(torch.equal, states[0], states[1]))
    assert not torch.equal(states[0][0], states[2][0])
    # Heads differ from each other: they are no copies.
    weights = [m.weight for m in linears(one)][-2:]
    assert weights[0].shape != weights[1].shape or not torch.equal(*weights)


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]
