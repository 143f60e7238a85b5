"""avalanche_ext/storage/scores.py: which scores are kept, whose they are, and states.

That they are right, whatever is done with the rows, is tested in test_memory_scores.py.
"""

import math

import pytest
import torch
from memories import filled, plain, through_disk
from torch import nn

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.criteria import (
    CRITERIA,
    AgeCriterion,
    GradientCriterion,
    LossCriterion,
    UncertaintyCriterion,
    WeightedCriterion,
)

KEPT = ["gradient", "loss", "uncertainty", "energy", "forgetting"]
FACTS = {"x", "y", "arrival", "uses", "drawn"}


def small_model(dropout=0.0):
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(1, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 3)
    )


MODEL = small_model()


class Given:
    """Scores that are the first input of a row, and what a test makes of them."""

    name = "given"

    def __init__(self, made=lambda scores: scores, name="given"):
        self.made, self.name = made, name

    def score(self, rows, context):
        return self.made(rows["x"][:, 0])


# What is kept


def test_nothing_is_kept_before_it_is_asked_for():
    memory = filled()
    memory.add(*plain(3, 6), model=MODEL)
    scores = memory.scorer.scores
    assert set(memory.table.columns) == FACTS
    assert (scores.active, scores.facts, scores.reads) == (False, (), frozenset())
    assert not memory.stale.any()


@pytest.mark.parametrize("name", CRITERIA)
def test_what_each_criterion_keeps(name):
    memory = filled(sampling=name)
    columns = {f"score_{name}"} if name in KEPT else set()
    columns |= {"lowest_loss"} if name == "forgetting" else set()
    live = name in ("age", "access")
    compares = name in ("energy", "diversity")
    scores = memory.scorer.scores
    assert (scores.nearest is not None) == compares
    assert scores.compares == (name == "energy")
    scored = set() if live else {"scored"}
    assert set(memory.table.columns) == FACTS | columns | scored
    assert memory.stale.tolist() == [not live] * 6
    memory.refresh(MODEL)
    assert not memory.stale.any()
    assert memory.scores(name).shape == (6,)
    for column in columns:
        assert memory.table.column(column).dtype is torch.float32


@pytest.mark.parametrize(
    ("criteria", "reads"),
    [
        (["loss"], {"losses"}),
        (["gradient", "age"], {"gradient_norms"}),
        ([GradientCriterion("last")], {"last_gradient_norms"}),
        (["uncertainty", "access"], {"outputs"}),
        (["diversity"], {"features"}),
        (["energy", "loss"], {"features", "losses"}),
        ([Given()], {"outputs", "losses"}),
        (["age"], set()),
    ],
)
def test_what_a_training_step_should_note(criteria, reads):
    memory = filled(criteria=criteria, sampling="mixed")
    assert memory.scorer.scores.reads == reads


def test_samplings_keep_what_they_read():
    assert filled(sampling="coreset").scorer.scores.reads == {"features"}
    memory = filled(criteria=["gradient"], sampling="priority")
    assert "score_gradient" in memory.table.columns
    assert "score_loss" not in memory.table.columns
    memory = filled(criteria=["age", "loss"], weights={"loss": 0}, sampling="mixed")
    assert set(memory.table.columns) == FACTS


def test_scores_asked_for_later_make_rows_stale():
    memory = filled(criteria=["loss"], sampling="loss")
    memory.refresh(MODEL)
    for name in ("loss", "age", "access", "mixed"):  # all there, or read from facts
        memory.scores(name)
        memory.sample(2, strategy=name)
        assert not memory.stale.any()
    before = memory.scores("loss").clone()
    assert memory.scores("gradient").shape == (6,)
    assert {"score_gradient", "score_loss"} <= set(memory.table.columns)
    assert torch.equal(memory.scores("loss"), before)


def test_facts_survive_what_is_asked_later():
    """Uses and the draws they are a share of, of rows that were there long before."""
    memory = filled(4, max_size=8)
    for _ in range(30):
        memory.sample(2)
    memory.add(*plain(4, 4))
    for name in ("access", "loss", "energy", "access"):
        memory.sample(2)
        memory.refresh(MODEL)
        memory.scores(name)
    drawn = memory.table.column("drawn")
    assert drawn.tolist() == [0] * 4 + [30] * 4
    rates = memory.uses / (memory.draws - drawn)
    torch.testing.assert_close(memory.scores("access"), rates)
    assert rates.max() <= 1


def test_what_a_criterion_remembers_survives_what_is_asked_later():
    """The lowest loss of each row, also where all rows become stale."""
    first, second = small_model(), nn.Linear(1, 3)
    memory = filled(criteria=["forgetting"], sampling="mixed")
    lowest = torch.full((6,), math.inf)
    for model in (first, second):
        memory.refresh(model)
        lowest = torch.minimum(lowest, memory.scores("loss"))
        memory.scores("uncertainty")
    assert (memory.scores("forgetting") > 0).any()
    torch.testing.assert_close(memory.table.column("lowest_loss"), lowest)
    expected = memory.scores("loss") - lowest
    torch.testing.assert_close(memory.scores("forgetting"), expected)


def test_rows_of_a_training_step_are_remembered_by_their_slots():
    """They come without the memory's columns; those that arrive have no slot yet."""
    memory = filled(criteria=["forgetting"], sampling="mixed")
    memory.refresh(MODEL)
    lowest = memory.table.column("lowest_loss").clone()
    x, y = plain(6)
    slots = torch.tensor([4, -1, 0])
    rows = {"x": x[slots], "y": y[slots], "index": slots}
    context = memory.scorer.context()
    losses = lowest[slots] + torch.tensor([0.5, 2.0, -0.25])
    context.know(rows, losses=losses)
    scored = memory.scorer.scores.score(rows, context)
    torch.testing.assert_close(
        scored.columns["score_forgetting"], torch.tensor([0.5, 0.0, 0.0])
    )
    expected = torch.stack([lowest[4], losses[1], losses[2]])
    torch.testing.assert_close(scored.columns["lowest_loss"], expected)


def test_on_disk_as_in_memory(tmp_path):
    """Columns of scores are files like all others, also those that come later."""
    options = {"criteria": ["loss", "energy", "forgetting"], "sampling": "mixed"}
    options |= {"admission": "score", "seed": 0}
    memory = MultiStrategyBuffer(7, **options)
    disk = MultiStrategyBuffer(7, directory=tmp_path / "rows", **options)
    for first in range(0, 30, 5):
        for one in (memory, disk):
            one.add(*plain(5, first), model=MODEL)
        assert torch.equal(memory.sample(3)["index"], disk.sample(3)["index"])
        for name in ("mixed", "gradient", "diversity"):
            assert torch.equal(memory.scores(name), disk.scores(name))
    for one in (memory, disk):
        one.evict(2)
        one.resize(None, 4)
    for name in memory.table.columns:
        assert torch.equal(memory.table.column(name), disk.table.column(name))
    assert list((tmp_path / "rows").glob("score_energy.*"))


def test_all_scores_of_an_empty_memory_are_empty():
    memory = MultiStrategyBuffer(4, criteria=CRITERIA, seed=0)
    for name in (*CRITERIA, "mixed"):
        assert memory.scores(name).shape == (0,)
    assert memory.stale.shape == (0,)
    memory.refresh()
    assert memory.add(*plain(6), model=MODEL).shape == (6,)
    assert not memory.stale.any()


# What is refused


@pytest.mark.parametrize("bad", [[3], [0, 5], [1, 2, 3, 4, 5]])
def test_nan_is_named_by_slot(bad):
    """Also where others are not scored with it."""
    memory = filled(criteria=[Given()], sampling="given")
    memory.refresh()
    x = memory.table.column("x")
    x[bad] = math.nan
    slots = torch.tensor(sorted({*bad, 4}))
    rows = ", ".join(map(str, bad))
    with pytest.raises(
        ValueError, match=rf"'given' scored .* NaN \(row {rows}\): look"
    ):
        memory.refresh(slots=slots)
    x[bad] = 0.0
    memory.refresh(slots=slots)


def test_nan_is_not_drawn_silently():
    memory = MultiStrategyBuffer(9, criteria=["loss"], sampling="loss", seed=0)
    x, y = plain(4)
    memory.add(x, y, model=MODEL)
    x[2] = math.nan
    with pytest.raises(ValueError, match=r"'loss' scored 1 of 4 rows NaN \(row 6\)"):
        memory.add(x, y, model=MODEL)
    assert (len(memory), memory.seen) == (8, 8)
    for strategy in ("loss", "mixed", "priority"):
        with pytest.raises(
            ValueError, match=r"'loss' scored 1 of 4 rows NaN \(row 6\)"
        ):
            memory.sample(2, strategy)
    assert memory.draws == 0
    assert memory.uses.sum() == 0
    assert len(memory.sample(2, "uniform")) == 2
    # Of rows that arrive there is no slot: it is their place in the batch.
    memory = MultiStrategyBuffer(3, criteria=["loss"], admission="score", seed=0)
    with pytest.raises(ValueError, match=r"'loss' scored 1 of 4 rows NaN \(row 2\)"):
        memory.add(x, y, model=MODEL)
    assert len(memory) == memory.seen == 0


def test_features_that_are_no_numbers():
    memory = MultiStrategyBuffer(9, sampling="coreset", seed=0)
    x, y = plain(4)
    x[2] = math.inf
    memory.add(x, y)
    model = nn.Linear(1, 3)
    with pytest.raises(ValueError, match=r"features for slots \[2\] are not finite"):
        memory.sample(2, model=model)


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda s: s[:-1], r"shape \(6,\), got \(5,\)"),
        (lambda s: s[:, None], r"shape \(6,\), got \(6, 1\)"),
        (lambda s: s.mean(), r"shape \(6,\), got \(\)"),
        (lambda s: 1.0, r"shape \(6,\), got 1.0"),
    ],
)
def test_scores_are_one_a_row(made, told):
    memory = filled(criteria=[Given(made)], sampling="given")
    with pytest.raises(ValueError, match="'given' must give one score a row.*" + told):
        memory.refresh()


@pytest.mark.parametrize("scores", [[True, False, True], [3, 1, 2]])
def test_scores_of_any_dtype(scores):
    memory = filled(3, criteria=[Given(lambda s: torch.tensor(scores))])
    assert memory.scores("given").tolist() == [float(score) for score in scores]


def test_names_that_are_not_told_apart():
    last = WeightedCriterion([GradientCriterion("last"), AgeCriterion()])
    twice = [GradientCriterion(), last]
    with pytest.raises(ValueError, match="several criteria are named 'gradient'"):
        MultiStrategyBuffer(4, criteria=twice)
    with pytest.raises(
        ValueError, match=r"several criteria are named \['loss'\]: give each once"
    ):
        MultiStrategyBuffer(4, criteria=["loss", "loss"])
    same = [
        GradientCriterion(),
        WeightedCriterion([GradientCriterion(), AgeCriterion()]),
    ]
    MultiStrategyBuffer(4, criteria=same)
    for name in CRITERIA:
        with pytest.raises(ValueError, match=f"Given is named '{name}', as another"):
            MultiStrategyBuffer(4, criteria=[Given(name=name)])
    with pytest.raises(ValueError, match="LossCriterion is named 'gradient'"):
        MultiStrategyBuffer(4, criteria=["age", LossCriterion(name="gradient")])
    MultiStrategyBuffer(4, criteria=[GradientCriterion("last")])
    for name in ("mixed", "uniform", "priority", "coreset"):
        with pytest.raises(ValueError, match=f"named '{name}', as a sampling is"):
            MultiStrategyBuffer(4, criteria=[Given(name=name)])


# State


def test_loaded_random_scores_go_on_bit_for_bit():
    """Passes with dropout draw numbers of their own."""
    model = small_model(dropout=0.5)
    options = {"criteria": ["uncertainty", "energy"], "sampling": "mixed"}
    memory = filled(**options)
    memory.refresh(model)
    state = through_disk(memory.state_dict())
    loaded = MultiStrategyBuffer(10, seed=77, **options)
    loaded.load_state_dict(state)
    for name in ("uncertainty", "energy", "mixed"):
        assert torch.equal(loaded.scores(name), memory.scores(name))
    for one in (memory, loaded):
        one.refresh(model)
        one.add(*plain(3, 6), model=model)
    for name in ("uncertainty", "energy", "diversity"):
        assert torch.equal(loaded.scores(name), memory.scores(name))
    assert torch.equal(loaded.sample(3)["index"], memory.sample(3)["index"])
    other = MultiStrategyBuffer(10, seed=77, **options)
    other.add(*plain(6))
    other.refresh(model)
    assert not torch.equal(
        other.scores("uncertainty"), memory.scores("uncertainty")[:6]
    )


@pytest.mark.parametrize("needs", ["uniform", "age", "loss", "diversity", "mixed"])
@pytest.mark.parametrize("has", ["uniform", "age", "loss", "diversity", "mixed"])
def test_a_state_of_other_scores(has, needs):
    """What the loading memory needs and the state has not, is stale; no fact is lost."""
    one, other = filled(sampling=has), filled(3, sampling=needs, seed=5)
    for memory in (one, other):
        memory.refresh(MODEL)
        memory.sample(2)
    other.load_state_dict(through_disk(one.state_dict()))
    held = one.scorer.scores
    enough = set(other.scorer.scores.facts) <= set(held.facts) and (
        other.scorer.scores.nearest is None or held.nearest is not None
    )
    assert other.stale.tolist() == [not enough] * 6
    for name in ("arrival", "uses", "drawn"):
        assert torch.equal(other.table.column(name), one.table.column(name))
    assert len(other.sample(2, model=MODEL)) == 2
    other.add(*plain(2, 6), model=MODEL)
    for name in (*CRITERIA, "mixed"):
        assert other.scores(name).isfinite().all()


def test_a_state_from_before_there_were_scores():
    state = filled(sampling="uniform").state_dict()
    del state["scores"], state["draws"], state["table"]["columns"]["drawn"]
    memory = MultiStrategyBuffer(10, criteria=["loss"], sampling="mixed", seed=0)
    memory.load_state_dict(state)
    assert memory.stale.all()
    assert memory.draws == 0
    memory.refresh(MODEL)
    fresh = filled(criteria=["loss"], sampling="mixed")
    fresh.refresh(MODEL)
    assert torch.equal(memory.scores("loss"), fresh.scores("loss"))
    assert torch.equal(memory.scores("access"), fresh.scores("access"))


def test_a_state_of_criteria_that_are_not_there():
    one = filled(criteria=[Given()], sampling="given")
    other = filled(4, criteria=["loss"], sampling="uniform")
    with pytest.raises(ValueError, match=r"scores of \['given'\].* the same criteria"):
        other.load_state_dict(one.state_dict())
    assert (len(other), other.seen) == (4, 4)  # nothing was loaded


def test_a_state_does_not_hold_the_model():
    memory = filled(criteria=[UncertaintyCriterion(0)], sampling="mixed")
    memory.refresh(MODEL)
    loaded = MultiStrategyBuffer(
        10, criteria=[UncertaintyCriterion(0)], sampling="mixed", seed=0
    )
    loaded.load_state_dict(through_disk(memory.state_dict()))
    assert len(loaded.sample(3)) == 3  # what is known is known
    loaded.add(*plain(2, 6))
    with pytest.raises(ValueError, match="'uncertainty' needs a model"):
        loaded.sample(3)
