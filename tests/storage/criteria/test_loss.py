"""avalanche_ext/storage/criteria/loss.py and context.py: losses, gradients, what passes
are shared."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from avalanche.models import IncrementalClassifier, MTSimpleMLP, SimpleMLP
from avalanche.models.dynamic_modules import avalanche_model_adaptation
from model_traces import Experience, assert_same_traces, multi_head, traces
from single_rows import gradient_rows, norms_of, output_of, single
from torch import nn

from avalanche_ext.storage.criteria import (
    GradientCriterion,
    LossCriterion,
    ScoringContext,
    UncertaintyCriterion,
    WeightedCriterion,
    make_criteria,
)


def convolutions():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(12, 6),
    )


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.last = nn.Embedding(7, 3), nn.Linear(5, 6)

    def forward(self, x):
        words = self.embed(x["text"]["ids"]).mean(1)
        return self.last(torch.cat([words, x["extra"]], 1))


def growing():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), IncrementalClassifier(5))
    avalanche_model_adaptation(model, Experience(2))
    return model


IMAGES = {
    "mlp": lambda: SimpleMLP(6, 16, 8),
    "batch norm": convolutions,
    "growing": growing,
    "multi-head": lambda: multi_head(lambda: MTSimpleMLP(16, 8)),
    "nested": Nested,
}


def made(name, n=9):
    torch.manual_seed(3)
    model = IMAGES[name]()
    rows = {"x": torch.rand(n, 1, 4, 4), "y": torch.randint(6, (n,))}
    if name == "multi-head":
        rows["task"] = torch.randint(3, (n,))
        rows["y"] = torch.randint(2, (n,)) + 2 * rows["task"]
    if name == "nested":
        ids = torch.randint(7, (n, 4))
        rows["x"] = {"text": {"ids": ids}, "extra": torch.rand(n, 2)}
    if name == "batch norm":
        model(rows["x"])  # running statistics that are not the initial ones
    model.train()
    return model, rows


@pytest.mark.parametrize("name", IMAGES)
def test_losses_are_those_of_single_rows(name):
    model, rows = made(name)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    plain = copy.deepcopy(model).eval()
    expected = torch.stack(
        [
            loss(
                output_of(plain, single(rows["x"], i), single(rows.get("task"), i)),
                rows["y"][i : i + 1],
            )
            for i in range(9)
        ]
    )
    before = traces(model)
    scores = LossCriterion().score(rows, ScoringContext(model=model, loss=loss))
    torch.testing.assert_close(scores, expected.detach())
    assert_same_traces(model, before)


@pytest.mark.parametrize("name", IMAGES)
def test_gradient_norms_are_those_of_single_rows(name):
    model, rows = made(name)
    loss = nn.CrossEntropyLoss()
    plain = copy.deepcopy(model)
    found = gradient_rows(plain, loss, rows["x"], rows["y"], rows.get("task"))
    before = traces(model)
    context = ScoringContext(model=model, loss=loss)
    scores = GradientCriterion().score(rows, context)
    torch.testing.assert_close(scores, norms_of(found), rtol=1e-5, atol=1e-6)
    last = GradientCriterion("last", name="last").score(rows, context)
    heads = {n: g for n, g in found.items() if _is_last(n)}
    torch.testing.assert_close(last, norms_of(heads), rtol=1e-5, atol=1e-6)
    assert_same_traces(model, before)


def _is_last(name):
    return name.startswith(("classifier", "5.", "2.", "last"))


def test_a_head_that_grows_is_inspected_again():
    model, rows = made("growing")
    criterion, loss = GradientCriterion(), nn.CrossEntropyLoss()
    criterion.score(rows, ScoringContext(model=model, loss=loss))
    first = criterion._inspected
    criterion.score(rows, ScoringContext(model=model, loss=loss))
    assert criterion._inspected is first
    avalanche_model_adaptation(model, Experience(5))
    rows["y"] = torch.arange(9)
    scores = criterion.score(rows, ScoringContext(model=model, loss=loss))
    expected = norms_of(gradient_rows(model, loss, rows["x"], rows["y"]))
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-6)
    assert criterion._inspected is not first


def test_it_is_saved_without_its_model():
    model, rows = made("mlp")
    context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    criterion = GradientCriterion()
    scores = criterion.score(rows, context)
    loaded = pickle.loads(pickle.dumps(criterion))
    assert loaded == copy.deepcopy(criterion) == criterion
    again = loaded.score(rows, ScoringContext(model=model, loss=nn.CrossEntropyLoss()))
    assert torch.equal(again, scores)


def test_criteria_share_their_passes():
    model, rows = made("mlp")
    passes = Counter()
    model.register_forward_hook(lambda *_: passes.update(["forward"]))
    context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    both = WeightedCriterion([LossCriterion(), UncertaintyCriterion(passes=0)])
    both.score(rows, context)
    context.features(rows)
    assert passes["forward"] == 1
    LossCriterion().score(dict(rows), context)  # others, for all that is known
    assert passes["forward"] == 2


def test_the_gradient_gives_the_loss():
    model, rows = made("mlp")
    context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    GradientCriterion().score(rows, context)
    passes = Counter()
    model.register_forward_hook(lambda *_: passes.update(["forward"]))
    LossCriterion().score(rows, context)
    assert not passes


def test_what_a_training_step_knows_is_taken():
    rows = {"x": torch.rand(2, 3), "y": torch.zeros(2)}
    context = ScoringContext()
    context.know(rows, losses=torch.tensor([1.0, 2.0]))
    context.know(rows, gradient_norms=torch.tensor([3.0, 4.0]))
    assert LossCriterion().score(rows, context).tolist() == [1, 2]
    assert GradientCriterion().score(rows, context).tolist() == [3, 4]
    with pytest.raises(ValueError, match="'loss' needs a model"):
        LossCriterion().score(dict(rows), context)


@pytest.mark.parametrize("name", ["loss", "gradient", "uncertainty"])
def test_a_criterion_without_what_it_needs(name):
    rows = {"x": torch.rand(2, 3), "y": torch.zeros(2, dtype=torch.long)}
    criterion = make_criteria([name])[0]
    with pytest.raises(ValueError, match=f"'{name}' needs a model, and there is none"):
        criterion.score(rows, ScoringContext(loss=nn.CrossEntropyLoss()))
    if name != "uncertainty":
        with pytest.raises(ValueError, match=f"'{name}' needs the loss function"):
            criterion.score(rows, ScoringContext(model=nn.Linear(3, 2)))


def test_names():
    with pytest.raises(ValueError, match=r"unknown criterion 'entropy'.*'uncertainty'"):
        make_criteria(["loss", "entropy"])
    with pytest.raises(TypeError, match="is no criterion"):
        make_criteria([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match="'all' or 'last', got 'first'"):
        GradientCriterion("first")


def test_no_rows():
    model = SimpleMLP(6, 16, 8)
    rows = {"x": torch.rand(0, 16), "y": torch.zeros(0, dtype=torch.long)}
    context = ScoringContext(model=model, loss=nn.CrossEntropyLoss())
    for criterion in make_criteria(["loss", "gradient", "uncertainty"]):
        assert criterion.score(rows, context).shape == (0,)
