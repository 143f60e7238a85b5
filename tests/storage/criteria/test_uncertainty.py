"""avalanche_ext/storage/criteria/uncertainty.py and dropout.py: passes with dropout."""

import copy
import math

import pytest
import torch
from avalanche.models import MTSimpleMLP, SimpleMLP
from model_traces import assert_same_traces, multi_head, traces
from torch import nn

from avalanche_ext.storage.criteria import ScoringContext, UncertaintyCriterion
from avalanche_ext.storage.criteria.dropout import dropout_outputs

SEED = 11


class Listed(nn.Module):
    """Multiplies by the masks of one pass, scaled, as dropout does."""

    def __init__(self, layer):
        super().__init__()
        self.p, self.mask = layer.p, None

    def forward(self, x):
        return x * self.mask / (1 - self.p)


def separate_passes(model, x, task, passes, widths):
    """The oracle: a copy whose dropout layers are told their masks, pass by pass.

    :param widths: shape of a row where each dropout layer is, in the order of calls.
    """
    model = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(SEED)
    listed = []
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.modules.dropout._DropoutNd):
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], Listed(module))
            listed.append(model.get_submodule(name))
    n = len(next(iter(x.values()))) if isinstance(x, dict) else len(x)
    masks = [
        torch.rand(passes * n, *width, generator=generator) >= layer.p
        for layer, width in zip(listed, widths, strict=True)
    ]
    outputs = []
    for k in range(passes):
        for layer, mask in zip(listed, masks, strict=True):
            layer.mask = mask[k * n : (k + 1) * n].float()
        with torch.no_grad():
            outputs.append(model(x) if task is None else model(x, task))
    return torch.stack(outputs)


class Counting(nn.Sequential):
    """Needs the number of rows that it was given: rows cannot be repeated on the way."""

    def forward(self, x):
        return super().forward(x).view(len(x), -1)


class Skipping(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 4)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.last(x + self.drop(self.first(x)).relu_())


class Sensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.last = nn.Dropout(0.4, inplace=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.cat([x["a"], self.drop(x["b"] * 1)], 1))


def convolutions():
    return nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)),
        nn.Conv2d(1, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.Dropout2d(0.3),
        nn.Flatten(),
        nn.Linear(20, 7),
        nn.Dropout(0.5, inplace=True),
        nn.Linear(7, 4),
    )


MODELS = {
    "mlp": (lambda: SimpleMLP(5, 16, 12, 2, 0.4), [(12,), (12,)]),
    "channels, batch norm": (convolutions, [(5, 1, 1), (7,)]),
    "counting": (
        lambda: Counting(nn.Linear(16, 8), nn.Dropout(0.2), nn.Linear(8, 4)),
        [(8,)],
    ),
    "skipping": (Skipping, [(16,)]),
    "input": (lambda: nn.Sequential(nn.Dropout(0.2), nn.Linear(16, 3)), [(16,)]),
    "multi-head": (lambda: multi_head(lambda: MTSimpleMLP(16, 12)), [(12,)]),
    "nested": (Sensors, [(3,)]),
}


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("name", MODELS)
def test_passes_are_those_made_one_by_one_with_the_same_masks(name, n):
    make, widths = MODELS[name]
    torch.manual_seed(1)
    model, x, task = make(), torch.rand(n, 16), None
    if name == "channels, batch norm":
        model(torch.rand(8, 16))
    if name == "multi-head":
        task = torch.tensor([0, 2, 1, 1, 0, 2])[:n]
    if name == "nested":
        x = {"a": torch.rand(n, 3), "b": torch.rand(n, 3)}
    expected = separate_passes(model, x, task, 5, widths)
    before = traces(model)
    found, dropped = dropout_outputs(
        model, x, task, passes=5, seed=SEED, forward=_forward
    )
    assert dropped
    torch.testing.assert_close(found, expected)
    assert_same_traces(model, before)


def _forward(model, x, task):
    return model(x) if task is None else model(x, task)


@pytest.mark.parametrize("n", [1, 5])
def test_layers_that_torch_would_skip_in_evaluation_mode(n):
    """Transformer layers have a fast path without their dropout layers."""

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.TransformerEncoderLayer(8, 2, 16, 0.3, batch_first=True)
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            return self.last(self.body(x).mean(1))

    model, x = Transformer(), torch.rand(n, 4, 8)
    found, dropped = dropout_outputs(model, x, None, passes=3, seed=0, forward=_forward)
    assert dropped
    assert found.shape == (3, n, 3)
    assert (found.std(0) > 0).all()


def test_heads_are_met_once():
    """Rows of several heads need no pass from the start."""
    model, calls = multi_head(lambda: MTSimpleMLP(16, 12)), []
    model.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    task = torch.tensor([0, 2, 1, 1])
    dropout_outputs(model, torch.rand(4, 16), task, passes=3, seed=0, forward=_forward)
    assert calls == [4]


def test_the_entropy_of_the_mean_prediction():
    torch.manual_seed(1)
    model, x = SimpleMLP(5, 16, 12, 2, 0.4), torch.rand(6, 16)
    generator = torch.Generator().manual_seed(4)
    context = ScoringContext(model=model, generator=generator)
    criterion = UncertaintyCriterion(passes=7)
    before = traces(model)
    scores = criterion.score({"x": x}, context)
    assert_same_traces(model, before)
    assert criterion.stochastic is True
    generator.manual_seed(4)
    seed = int(torch.randint(2**62, (), generator=generator))
    outputs, _ = dropout_outputs(model, x, None, passes=7, seed=seed, forward=_forward)
    for i in range(6):
        mean = sum(outputs[k, i].softmax(0) for k in range(7)) / 7
        expected = -sum(float(p) * math.log(float(p)) for p in mean)
        assert scores[i] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.Dropout, (4, 6)),
        (nn.AlphaDropout, (4, 6)),
        (nn.Dropout1d, (4, 6, 3)),
        (nn.Dropout2d, (4, 6, 3, 3)),
        (nn.Dropout3d, (4, 6, 2, 2, 2)),
        (nn.FeatureAlphaDropout, (4, 6, 3, 3)),
    ],
)
def test_each_kind_drops_as_torch_does(kind, shape):
    """Over 20,000 passes: the values that appear are torch's, the mean of each place
    within 5 standard errors, and channels fall as a whole where torch drops channels.
    """
    passes = 20_000
    layer = kind(0.3)
    x = torch.rand(shape) + 0.5
    found, _ = dropout_outputs(
        layer, x, None, passes=passes, seed=0, forward=_forward, rows_per_pass=10**6
    )
    torch.manual_seed(0)
    theirs = layer.train()(x.repeat(passes, *(1,) * (len(shape) - 1))).view(found.shape)
    error = (theirs.var(0) / passes + found.var(0) / passes).sqrt()
    assert ((found.mean(0) - theirs.mean(0)).abs() < 5 * error).all()
    for value in (torch.Tensor.amax, torch.Tensor.amin):
        torch.testing.assert_close(value(found, 0), value(theirs, 0))
    kept = found == found.amax(0)
    if len(shape) > 2 and kind is not nn.Dropout:
        whole = kept.flatten(3)
        assert (whole.all(3) == whole.any(3)).all()
    assert kept.float().mean() == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("kind", [nn.Dropout, nn.AlphaDropout])
def test_all_can_be_dropped(kind):
    model = nn.Sequential(kind(1.0), nn.Linear(3, 2))
    found, _ = dropout_outputs(
        model, torch.rand(4, 3), None, passes=2, seed=0, forward=_forward
    )
    torch.testing.assert_close(found, model[1].bias.detach().expand(2, 4, 2))


def test_the_rows_of_a_pass_are_bounded():
    model, sizes = SimpleMLP(5, 16, 12), []
    model.classifier.register_forward_pre_hook(
        lambda m, args: sizes.append(len(args[0]))
    )
    found, _ = dropout_outputs(
        model,
        torch.rand(9, 16),
        None,
        passes=4,
        seed=0,
        forward=_forward,
        rows_per_pass=12,
    )
    assert sizes == [12, 12, 12]
    assert found.shape == (4, 9, 5)


def test_heads_that_drop_and_heads_that_do_not():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.drop = nn.Linear(4, 3), nn.Dropout()

        def forward(self, x):
            return self.last(self.drop(x) if x[0, 0] > 0 else x)

    model, x = Partly(), torch.rand(4, 4)
    x[2:] *= -1
    found, dropped = dropout_outputs(
        model, x, None, passes=3, seed=0, forward=_forward, rows_per_pass=6
    )
    assert dropped
    assert found.shape == (3, 4, 3)
    assert torch.equal(found[0, 2:], found[1, 2:])
    assert not torch.equal(found[0, :2], found[1, :2])


@pytest.mark.parametrize(
    ("model", "passes"),
    [
        (SimpleMLP(5, 16, 12), 0),
        (SimpleMLP(5, 16, 12, drop_rate=0.0), 10),
        (nn.Linear(16, 5), 10),
    ],
)
def test_without_passes_or_dropout_it_is_the_plain_entropy(model, passes):
    x = torch.rand(6, 16)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    criterion = UncertaintyCriterion(passes)
    assert criterion.stochastic is None
    before = traces(model)
    scores = criterion.score({"x": x}, ScoringContext(model=model))
    assert_same_traces(model, before)
    assert criterion.stochastic is False
    assert len(calls) == 1
    expected = torch.distributions.Categorical(logits=model.eval()(x)).entropy()
    torch.testing.assert_close(scores, expected.detach())


def test_outputs_of_several_places():
    model = nn.Conv1d(2, 3, 1)
    x = torch.rand(4, 2, 5)
    scores = UncertaintyCriterion().score({"x": x}, ScoringContext(model=model))
    logits = model(x).permute(0, 2, 1)
    each = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(scores, each.mean(1).detach())


def test_outputs_that_are_no_logits():
    context = ScoringContext(model=nn.Linear(3, 1))
    rows = {"x": torch.rand(2, 3)}
    with pytest.raises(ValueError, match=r"are no logits of classes.*probabilities="):
        UncertaintyCriterion().score(rows, context)

    def binary(outputs):
        p = outputs.sigmoid()
        return torch.cat([p, 1 - p], 1)

    assert UncertaintyCriterion(probabilities=binary).score(rows, context).shape == (2,)
    with pytest.raises(
        ValueError,
        match="passes must be a whole number of forward passes, at least 0, got -1",
    ):
        UncertaintyCriterion(-1)


def test_an_error_of_the_model_is_its_own_and_leaves_no_trace():
    model = SimpleMLP(5, 16, 12)
    x = torch.rand(3, 17)
    context = ScoringContext(model=model, generator=torch.Generator())
    before = traces(model)
    with pytest.raises(RuntimeError, match="shape"):
        UncertaintyCriterion().score({"x": x}, context)
    assert_same_traces(model, before)
