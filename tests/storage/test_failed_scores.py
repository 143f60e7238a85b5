"""avalanche_ext/storage/memory.py: a criterion that fails leaves no row half scored.

Rows whose scores are not known stay stale, those that were scored before keep what was
found, and all is well again when the criterion is.
"""

import math

import pytest
import torch
from memories import filled, plain, through_disk
from torch import nn

from avalanche_ext.storage import MultiStrategyBuffer, scorer
from avalanche_ext.storage.criteria import CRITERIA

ROWS, SLICE = 10, 4


class Breaks:
    """Twice the first input of a row; fails at bad ones, by an error or by NaN."""

    name = "breaks"

    def __init__(self):
        self.bad, self.how = set(), "error"

    def score(self, rows, context):
        x = rows["x"][:, 0]
        bad = torch.tensor([float(value) in self.bad for value in x])
        if bad.any() and self.how == "error":
            raise RuntimeError("it broke")
        return (2 * x).masked_fill(bad, math.nan)


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 3))


MODEL = network()


@pytest.fixture
def sliced(monkeypatch):
    """Rows are scored a few at a time."""
    monkeypatch.setattr(scorer, "_ROWS", SLICE)


def made(**options):
    breaks = Breaks()
    memory = MultiStrategyBuffer(
        ROWS, criteria=["loss", "energy", breaks], sampling="loss", seed=0, **options
    )
    memory.add(*plain(ROWS), model=MODEL)
    return memory, breaks


def assert_scored(memory):
    """As a memory in which nothing failed."""
    sound, _ = made()
    for name in ("loss", "energy", "breaks"):
        torch.testing.assert_close(memory.scores(name), sound.scores(name))
    assert not memory.stale.any()
    assert len(memory.sample(3, "mixed")) == 3


@pytest.mark.parametrize("asked", ["scores", "sample", "mixed"])
@pytest.mark.parametrize("how", ["error", "NaN"])
def test_scores_asked_for_later_that_fail(how, asked, sliced):
    memory, breaks = made()
    assert not memory.stale.any()
    drawing = memory.state_dict()["drawing"]
    breaks.bad, breaks.how = {6.0}, how
    error = RuntimeError if how == "error" else ValueError
    told = "it broke" if how == "error" else r"'breaks' scored .* NaN \(row 6\): look"
    calls = {
        "scores": lambda: memory.scores("breaks"),
        "sample": lambda: memory.sample(3, "breaks"),
        "mixed": lambda: memory.sample(3, "mixed"),
    }
    for _ in range(2):
        with pytest.raises(error, match=told):
            calls[asked]()
        # The rows of the first part are known, the others are not said to be.
        assert memory.stale.tolist() == [slot >= SLICE for slot in range(ROWS)]
        known = memory.known_scores()
        assert known["breaks"].tolist() == [2.0 * slot for slot in range(SLICE)]
        assert len(known["loss"]) == SLICE
    with pytest.raises(error, match=told):  # nor are they drawn by what was known
        memory.sample(3)
    assert (memory.draws, int(memory.uses.sum())) == (0, 0)
    assert torch.equal(memory.state_dict()["drawing"], drawing)
    assert len(memory.sample(3, "uniform")) == 3
    breaks.bad = set()
    assert_scored(memory)


@pytest.mark.parametrize("how", ["error", "NaN"])
def test_a_refresh_that_fails_keeps_what_was_known(how):
    memory, breaks = made()
    before = {n: memory.scores(n).clone() for n in ("loss", "energy", "breaks")}
    breaks.bad, breaks.how = {6.0}, how
    other = network()
    other[0].weight.data.mul_(2)
    with pytest.raises((RuntimeError, ValueError)):
        memory.refresh(other)
    assert not memory.stale.any()
    for name, known in before.items():
        assert torch.equal(memory.table.column(f"score_{name}"), known)
    breaks.bad = set()
    memory.refresh(MODEL)
    assert_scored(memory)


@pytest.mark.parametrize("how", ["error", "NaN"])
def test_rows_that_are_kept_while_it_fails_are_stale(how):
    memory, breaks = made()
    memory.scores("breaks")
    memory.evict(4)
    breaks.bad, breaks.how = set(range(100, 150)), how
    with pytest.raises((RuntimeError, ValueError)):
        memory.add(*plain(50, 100), model=MODEL)
    arrived = memory.table.column("x")[:, 0] >= 100
    assert arrived.any()
    assert torch.equal(memory.stale, arrived)
    breaks.bad = set()
    assert len(memory.scores("breaks")) == len(memory)
    assert not memory.stale.any()


def test_a_state_from_after_a_failure_says_what_is_stale():
    memory, breaks = made()
    breaks.bad = {0.0}
    with pytest.raises(RuntimeError, match="it broke"):
        memory.scores("breaks")
    loaded, _ = made()
    loaded.load_state_dict(through_disk(memory.state_dict()))
    assert loaded.stale.all()
    assert_scored(loaded)


@pytest.mark.parametrize("name", ["energy", "diversity", "coreset"])
def test_features_that_are_not_finite(name, sliced):
    """No row is compared with what stands for features that are not known."""
    memory = filled(ROWS, seed=0)
    memory.table.column("x")[6] = math.nan
    for _ in range(2):
        with pytest.raises(ValueError, match=r"features for slots \[6\] are not fin"):
            memory.sample(3, name, model=MODEL)
    assert memory.stale[SLICE:].all()
    memory.table.column("x")[6] = 6.0
    assert len(memory.sample(3, name)) == 3
    assert not memory.stale.any()
    sound = filled(ROWS, seed=0)
    sound.refresh(MODEL)  # scores nothing, and makes it the model that is met
    for criterion in ("energy", "diversity"):
        torch.testing.assert_close(memory.scores(criterion), sound.scores(criterion))


# A row that no criterion can score, which was stored before any tried


@pytest.mark.parametrize("admission", ["reservoir", "class_balanced"])
@pytest.mark.parametrize("given", [True, False], ids=["with model", "without"])
def test_a_memory_with_a_row_of_nan_stays_usable(admission, given):
    x, y = plain(8)
    x[5] = math.nan
    memory = MultiStrategyBuffer(8, admission=admission, sampling="loss", seed=0)
    told = r"'loss' scored 1 of 8 rows NaN \(row 5\): look for"
    if given:
        with pytest.raises(ValueError, match=told):
            memory.add(x, y, model=MODEL)
    else:
        memory.add(x, y)
    for sampling in (None, "loss", "mixed", "priority"):
        with pytest.raises(ValueError, match=told):
            memory.sample(3, sampling, model=MODEL)
    assert (len(memory), memory.seen, memory.draws) == (8, 8, 0)
    assert len(memory.sample(3, "uniform")) == 3
    assert len(memory.sample(8)) == 8  # all of them, which no score decides
    through_disk(memory.state_dict())
    memory.add(*plain(4, 20))
    assert memory.seen == 12
    while memory.table.column("x").isnan().any():
        memory.evict(1)
    assert len(memory.sample(1)) == 1
    assert not memory.stale.any()
    assert memory.scores("loss").isfinite().all()


@pytest.mark.parametrize("name", [n for n in CRITERIA if n not in ("age", "access")])
def test_every_criterion_names_the_row(name):
    memory = filled(8, seed=0)
    memory.table.column("x")[5] = math.nan
    with pytest.raises(ValueError, match=r"row 5|slots \[5\]") as error:
        memory.sample(3, name, model=MODEL)
    assert "\n" not in str(error.value)
    assert len(memory.sample(3, "uniform")) == 3


@pytest.mark.parametrize("balance", ["class", "none"])
def test_an_admission_by_value_takes_none_of_a_batch_that_it_cannot_score(balance):
    memory = MultiStrategyBuffer(
        6, criteria=["loss"], admission="score", balance=balance, seed=0
    )
    memory.add(*plain(6), model=MODEL)
    before = memory.table.state_dict()["columns"]
    x, y = plain(4, 6)
    x[2] = math.nan
    with pytest.raises(ValueError, match=r"'loss' scored 1 of 4 rows NaN \(row 2\)"):
        memory.add(x, y, model=MODEL)
    now = memory.table.state_dict()["columns"]
    assert all(torch.equal(now[name], before[name]) for name in before)
    assert memory.seen == 6
    memory.add(*plain(4, 6), model=MODEL)
    assert (len(memory), memory.seen) == (6, 10)
