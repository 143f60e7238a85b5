"""experiments/networks.py and models.py: shapes, heads, initial weights."""

from types import SimpleNamespace

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from experiments.errors import UserError
from experiments.models import (
    HIDDEN,
    INITS,
    MODELS,
    Task,
    check_inputs,
    default_init,
    summary,
)

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


@pytest.mark.parametrize("task", [SINGLE, MULTI, SINGLE._replace(seen=True)])
def test_truncated_normal_weights_and_constant_biases(task):
    expected = stats.truncnorm(-2, 2, scale=0.1)
    for module in linears(made(task, hidden=(200, 150), init="truncated-normal")):
        weights = module.weight.detach().flatten().numpy()
        assert stats.kstest(weights, expected.cdf).pvalue > 1e-3  # the seed is fixed
        assert (module.bias == 0.1).all()


@pytest.mark.parametrize("task", [SINGLE, MULTI])
@pytest.mark.parametrize("init", sorted({*INITS} - {"xavier-zero-head"}))
def test_the_seed_decides_all_weights(task, init):
    one, same, other = (made(task, init=init, seed=seed) for seed in (0, 0, 1))
    states = [list(model.state_dict().values()) for model in (one, same, other)]
    assert all(map(torch.equal, states[0], states[1]))
    assert not torch.equal(states[0][0], states[2][0])
    # Heads differ from each other: they are no copies.
    weights = [m.weight for m in linears(one)][-2:]
    assert weights[0].shape != weights[1].shape or not torch.equal(*weights)


def test_heads_of_zeros():
    for task in (SINGLE, MULTI, SINGLE._replace(seen=True)):
        model = made(task, init="xavier-zero-head")
        assert not any(p.any() for p in model.classifier.parameters())
        assert all(m.weight.any() for m in linears(model.features))
        same = made(task)
        for one, other in zip(
            model.features.parameters(), same.features.parameters(), strict=True
        ):
            assert torch.equal(one, other)


# Convolutions

SMALL = Task((3, 9, 8), 6, 0)


def image_model(name, task=SMALL, hidden=(), init="default"):
    torch.manual_seed(0)
    return MODELS[name](task, hidden, init)


def test_the_reduced_resnet_has_the_parameters_of_the_literature():
    model = image_model("resnet18", Task((3, 32, 32), 10, 0))
    assert sum(p.numel() for p in model.parameters()) == 1_094_750
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len([c for c in convolutions if c.kernel_size == (3, 3)]) == 17
    assert len(linears(model)) == 1  # 18 layers with weights, shortcuts apart
    assert convolutions[0].stride == (1, 1)


def test_the_resnet_by_hand():
    model = image_model("resnet18").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # or they would not show
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    x = torch.rand(2, 3, 9, 8)
    state = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}

    def conv(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return functional.conv2d(
            x, weight, stride=stride, padding=weight.shape[-1] // 2
        )

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    out = norm(conv(x, "features.0"), "features.1").relu()
    for number, (filters, stride) in enumerate(
        [(20, 1), (20, 1), (40, 2), (40, 1), (80, 2), (80, 1), (160, 2), (160, 1)]
    ):
        block = f"features.{number + 3}"
        inner = norm(conv(out, f"{block}.residual.0", stride), f"{block}.residual.1")
        inner = norm(conv(inner.relu(), f"{block}.residual.3"), f"{block}.residual.4")
        if f"{block}.shortcut.0.weight" in state:
            short = conv(out, f"{block}.shortcut.0", stride)
            out = norm(short, f"{block}.shortcut.1")
        out = (out + inner).relu()
        assert out.shape[1] == filters
    logits = model.classifier(out.mean((2, 3)))
    torch.testing.assert_close(model(x), logits)


def test_the_cnn_by_hand():
    model = image_model("cnn", hidden=(12, 7))
    x = torch.rand(2, 3, 9, 8)
    first, second = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert (first.out_channels, second.out_channels) == (32, 64)
    out = functional.max_pool2d(first(x).relu(), 2)
    out = functional.max_pool2d(second(out).relu(), 2).flatten(1)
    assert out.shape[1] == 64 * 2 * 2
    one, two, last = linears(model)
    torch.testing.assert_close(model(x), last(two(one(out).relu()).relu()))


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_images_go_to_the_head_of_their_task(name):
    model = image_model(name, Task((3, 9, 8), 2, 3), hidden=HIDDEN[name]).eval()
    x, task = torch.rand(4, 3, 9, 8), torch.tensor([2, 0, 1, 0])
    out, features = model(x, task), model.features(x)
    for row, t in enumerate(task.tolist()):
        head = model.classifier.classifiers[str(t)]
        torch.testing.assert_close(out[row], head(features[row][None])[0])


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
@pytest.mark.parametrize(("init", "bias"), [("xavier", 0), ("truncated-normal", 0.1)])
def test_initial_weights_are_of_linear_layers_alone(name, init, bias):
    plain, other = image_model(name, init="default"), image_model(name, init=init)
    for one, two in zip(plain.modules(), other.modules(), strict=True):
        if isinstance(one, nn.Linear):
            assert (two.bias == bias).all()
        elif isinstance(one, nn.Conv2d):
            assert torch.equal(one.weight, two.weight)
    assert [default_init(n) for n in MODELS] == ["xavier", "default", "default"]


def test_names_have_defaults():
    assert set(HIDDEN) == set(MODELS)
    assert {default_init(name) for name in MODELS} <= set(INITS)
    assert all("\n" not in summary(name) for name in MODELS)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("cnn", (1, 3, 8), "--model cnn takes images of 4×4 or more"),
        ("cnn", (784,), "the inputs have shape (784,)"),
        ("resnet18", (784,), "--model resnet18 takes images and"),
    ],
)
def test_inputs_that_are_no_images_are_refused(name, shape, told):
    with pytest.raises(UserError) as raised:
        check_inputs(name, shape)
    assert told in str(raised.value)


def test_inputs_that_each_model_takes():
    for name, shape in (("mlp", (7,)), ("cnn", (1, 4, 4)), ("resnet18", (3, 1, 1))):
        check_inputs(name, shape)
        task = Task(shape, 5, 0)
        assert image_model(name, task).eval()(torch.rand(2, *shape)).shape == (2, 5)


# Outputs of the classes seen


@pytest.mark.parametrize("name", list(MODELS))
def test_only_outputs_of_classes_seen_are_active(name):
    model = image_model(name, SMALL._replace(seen=True), hidden=HIDDEN[name])
    whole = image_model(name, SMALL, hidden=HIDDEN[name])
    x = torch.rand(3, 3, 9, 8)

    def meet(*classes, train=True):
        model.train(train)
        experience = SimpleNamespace(classes_in_this_experience=set(classes))
        for module in model.modules():
            if hasattr(module, "adaptation"):
                module.adaptation(experience)
        model.eval()
        return (model(x) > -1000).all(0).nonzero()[:, 0].tolist()

    assert meet(0, 1) == [0, 1]
    assert meet(4, 5, train=False) == [0, 1]  # evaluation teaches no class
    assert meet(3) == [0, 1, 3]
    # The active ones are those of a head of all classes, with the same weights.
    torch.testing.assert_close(model(x)[:, [0, 1, 3]], whole.eval()(x)[:, [0, 1, 3]])
    functional.cross_entropy(model(x), torch.tensor([0, 1, 3])).backward()
    gradient = model.classifier.classifier.weight.grad.abs().sum(1)
    assert (gradient > 0).nonzero()[:, 0].tolist() == [0, 1, 3]


def linears(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]
