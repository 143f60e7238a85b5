"""avalanche_ext/storage/scorer.py: under which model and loss rows are scored, and when."""

import copy
import gc
import pickle

import pytest
import torch
from avalanche.models import MTSimpleMLP
from memories import filled, plain
from model_traces import assert_same_traces, multi_head, traces
from single_rows import gradient_rows, norms_of
from slow_criteria import nearest_distances
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.storage import MultiStrategyBuffer, scorer
from avalanche_ext.storage.criteria import UncertaintyCriterion


def small_model(seed=3, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(1, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)
    )


def losses(model, memory):
    """One row at a time, in evaluation mode."""
    model = copy.deepcopy(model).eval()
    rows = zip(memory.table.column("x"), memory.table.column("y"), strict=True)
    with torch.no_grad():
        return torch.stack([cross_entropy(model(x[None])[0], y) for x, y in rows])


class Counting(nn.Module):
    """Counts the rows that pass."""

    def __init__(self):
        super().__init__()
        self.layer, self.rows = nn.Linear(1, 3), 0

    def forward(self, x):
        self.rows += len(x)
        return self.layer(x)


# The model


def test_the_model_last_met_is_the_one():
    first, second = small_model(1), small_model(2)
    memory = MultiStrategyBuffer(9, criteria=["loss"], sampling="loss", seed=0)
    memory.add(*plain(3), model=first)
    torch.testing.assert_close(memory.scores("loss"), losses(first, memory))
    memory.add(*plain(3, 3))
    assert memory.stale.tolist() == [False] * 3 + [True] * 3
    torch.testing.assert_close(memory.scores("loss"), losses(first, memory))
    memory.add(*plain(3, 6), model=second)
    expected = torch.cat([losses(first, memory)[:6], losses(second, memory)[6:]])
    torch.testing.assert_close(memory.scores("loss"), expected)
    memory.refresh()
    torch.testing.assert_close(memory.scores("loss"), losses(second, memory))
    memory.refresh(first)
    torch.testing.assert_close(memory.scores("loss"), losses(first, memory))
    memory.add(*plain(3, 9), compute_scores=False, model=second)
    stale = int(memory.stale.sum())
    memory.sample(2, model=first)
    assert stale
    assert not memory.stale.any()
    torch.testing.assert_close(memory.scores("loss"), losses(first, memory))


def test_a_model_that_is_gone_is_not_kept_alive():
    memory = MultiStrategyBuffer(9, criteria=["loss"], sampling="loss", seed=0)
    model = small_model()
    memory.add(*plain(4), model=model)
    known = memory.scores("loss").clone()
    del model
    gc.collect()
    assert torch.equal(memory.scores("loss"), known)
    assert len(memory.sample(2)) == 2
    memory.add(*plain(2, 4))
    with pytest.raises(
        ValueError, match=r"'loss' needs a model.*give the model, model="
    ):
        memory.sample(2)
    with pytest.raises(ValueError, match="'loss' needs a model"):
        memory.refresh()


def test_what_is_no_model():
    for given in ("model", small_model().state_dict(), small_model):
        with pytest.raises(TypeError, match=r"must be a torch\.nn\.Module, got"):
            filled().refresh(given)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_copy_of_a_memory_meets_its_model_anew(copied):
    memory = MultiStrategyBuffer(9, criteria=["loss", "gradient"], sampling="mixed")
    model = small_model()
    memory.add(*plain(4), model=model)
    twin = copied(memory)
    assert torch.equal(twin.scores("mixed"), memory.scores("mixed"))
    assert torch.equal(twin.sample(2)["index"], memory.sample(2)["index"])
    twin.add(*plain(2, 4))
    with pytest.raises(ValueError, match="needs a model"):
        twin.sample(2)
    twin.refresh(model)
    memory.add(*plain(2, 4), model=model)
    assert torch.equal(twin.scores("loss")[4:], memory.scores("loss")[4:])


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_model_as_it_was(training):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(1, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Linear(4, 3)
    )
    model(torch.randn(20, 1))
    model.train(training)
    model[0].eval()  # a mode of its own
    criteria = ["gradient", "loss", "uncertainty", "diversity", "energy"]
    memory = filled(criteria=criteria, sampling="mixed")
    before = traces(model)
    memory.refresh(model)
    memory.add(*plain(3, 6), model=model)
    memory.sample(2)
    assert_same_traces(model, before)
    torch.testing.assert_close(memory.scores("loss"), losses(model, memory))


# The loss


def test_which_loss_it_is():
    """The memory's own, else that of the trainer, else cross-entropy."""

    class Trainer:
        model = small_model()
        _criterion = nn.CrossEntropyLoss(label_smoothing=0.4)

    own = nn.CrossEntropyLoss(label_smoothing=0.2)
    for loss, meets, smoothing in [
        (own, True, 0.2),
        (None, True, 0.4),
        (None, False, 0),
    ]:
        memory = filled(criteria=["loss"], loss=loss)
        if meets:
            memory.meet(Trainer)
        memory.refresh(Trainer.model)
        expected = cross_entropy(
            Trainer.model(memory.table.column("x")),
            memory.table.column("y"),
            label_smoothing=smoothing,
            reduction="none",
        )
        torch.testing.assert_close(memory.scores("loss"), expected.detach())


def test_regression_by_its_own_loss():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    memory = MultiStrategyBuffer(
        6, criteria=["loss", "gradient"], sampling="mixed", loss=nn.MSELoss(), seed=0
    )
    memory.add(x, y, model=model)
    expected = (model(x) - y).square().mean(1).detach()
    torch.testing.assert_close(memory.scores("loss"), expected)
    expected = norms_of(gradient_rows(model, nn.MSELoss(), x, y))
    torch.testing.assert_close(memory.scores("gradient"), expected)


# Features, task labels, transforms


def test_features_of_a_layer():
    model = small_model()
    x = plain(6)[0]
    for layer, features in ((None, model[:2](x)), ("0", x), ("1", model[:1](x))):
        memory = filled(criteria=["diversity"], layer=layer)
        memory.refresh(model)
        expected = nearest_distances(features.detach())
        memory.scores("diversity")
        memory.refresh(model)
        torch.testing.assert_close(memory.scores("diversity"), expected)


def test_rows_of_several_heads():
    """Each is scored by the head of its task, one row at a time."""
    model = multi_head(lambda: MTSimpleMLP(input_size=4, hidden_size=5), tasks=2)
    x, y, task = (
        torch.randn(6, 4),
        torch.tensor([0, 1, 2, 3, 0, 3]),
        torch.tensor([0, 0, 1, 1, 0, 1]),
    )
    memory = MultiStrategyBuffer(
        9,
        criteria=["loss", "gradient", UncertaintyCriterion(passes=0)],
        sampling="mixed",
        seed=0,
    )
    memory.add(x, y, task, model=model)
    model.eval()
    outputs = torch.cat([model(x[i : i + 1], task[i : i + 1]) for i in range(6)])
    expected = cross_entropy(outputs, y, reduction="none").detach()
    torch.testing.assert_close(memory.scores("loss"), expected)
    chance = outputs.softmax(1).detach()
    expected = -(chance * chance.clamp(min=1e-30).log()).sum(1)
    torch.testing.assert_close(memory.scores("uncertainty"), expected)
    expected = norms_of(gradient_rows(model, cross_entropy, x, y, task))
    torch.testing.assert_close(memory.scores("gradient"), expected)


def test_rows_stored_from_before_their_transform():
    model = small_model()
    x, y = torch.arange(6, dtype=torch.uint8)[:, None], torch.arange(6) % 3
    memory = MultiStrategyBuffer(9, criteria=["loss", "gradient"], seed=0)
    memory.transform = lambda rows: rows / 4
    memory.add(x, y, model=model)
    after = MultiStrategyBuffer(9, criteria=["loss", "gradient"], seed=0)
    after.add(x / 4, y, model=model)
    for name in ("loss", "gradient", "energy", "diversity"):
        assert torch.equal(memory.scores(name), after.scores(name))
    assert memory.table.column("x").dtype is torch.uint8


# When


def test_only_rows_whose_scores_are_asked_for_and_not_known_are_scored():
    model = Counting()
    memory = MultiStrategyBuffer(9, criteria=["loss"], seed=0)
    memory.add(*plain(3), model=model)
    memory.sample(2)
    assert model.rows == 0  # nothing needs scores
    memory.scores("loss")
    assert model.rows == 3
    memory.add(*plain(2, 3), model=model)
    assert model.rows == 5
    memory.add(*plain(2, 5), model=model, compute_scores=False)
    memory.sample(7, "loss")  # all rows
    memory.sample(3, "uniform")
    assert model.rows == 5
    for _ in range(2):
        memory.sample(3, "loss")
        assert model.rows == 7
    memory.refresh(slots=torch.tensor([6, 1]))
    assert model.rows == 9
    memory.refresh(slots=torch.tensor([], dtype=torch.long))
    memory.evict(3)
    memory.sample(2, "loss")
    assert model.rows == 9


def test_refreshing_some_rows_leaves_the_others():
    first, second = small_model(1), small_model(2)
    memory = filled(criteria=["loss"], sampling="loss")
    memory.refresh(first)
    memory.refresh(second, slots=torch.tensor([4, 1]))
    chosen = torch.tensor([False, True, False, False, True, False])
    expected = torch.where(chosen, losses(second, memory), losses(first, memory))
    torch.testing.assert_close(memory.scores("loss"), expected)
    memory.add(*plain(2, 6))
    memory.refresh(second, slots=torch.tensor([7]))
    assert memory.stale.nonzero().flatten().tolist() == [6]
    assert memory.table.column("scored").tolist() == [6] * 6 + [-1, 8]


@pytest.mark.parametrize("slots", [None, [0, 3, 11, 5, 6, 7, 8], [2]])
def test_rows_in_parts_are_scored_as_all_at_once(slots, monkeypatch):
    """Also what compares rows: all features come first."""
    model = small_model()
    slots = None if slots is None else torch.tensor(slots)
    found = []
    for rows in (1024, 3):
        monkeypatch.setattr(scorer, "_ROWS", rows)
        memory = filled(
            12, 12, criteria=["energy", "loss", "gradient"], sampling="mixed"
        )
        memory.refresh(model, slots=slots)
        found.append({n: memory.table.column(f"score_{n}") for n in ("energy", "loss")})
        assert int(memory.stale.sum()) == (0 if slots is None else 12 - len(slots))
    for name in ("energy", "loss"):
        torch.testing.assert_close(found[1][name], found[0][name], equal_nan=True)
    assert (found[0]["energy"] != 0).any()


def test_slots_that_hold_no_row():
    memory = filled(6, 10, sampling="mixed")
    for slots, told in [
        (torch.tensor([2, 6, -1]), r"of the 6 rows stored, from 0 on, got \[6, -1\]"),
        (torch.tensor([9]), r"got \[9\]"),
        ([1, 2], r"a tensor of whole numbers, torch.int64, got list"),
        (memory.stale, r"got torch.bool: give mask.nonzero\(\)\[:, 0\] of a mask"),
    ]:
        with pytest.raises(ValueError, match=told):
            memory.refresh(small_model(), slots=slots)
    assert memory.stale.all()
