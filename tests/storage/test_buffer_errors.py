"""avalanche_ext/storage/buffer.py: bad input, each one clear error.

It is one line that names what was given, what is allowed and what to do; and the memory
goes on as if nothing had been asked.
"""

import gc
import math

import pytest
import torch
from memories import filled, plain, through_disk
from torch import nn

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.criteria import (
    CRITERIA,
    AgeCriterion,
    EnergyCriterion,
    LossCriterion,
    UncertaintyCriterion,
    WeightedCriterion,
)
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.softmax import Softmax

MODEL = nn.Linear(1, 3)
LOSS = {"criteria": ["loss"]}


def refused(call, *told, error=ValueError):
    with pytest.raises(error, match=r"\w") as raised:
        call()
    text = str(raised.value)
    for part in told:
        assert part in text
    assert "\n" not in text


CONSTRUCTION = {
    "no capacity": ({"max_size": 0}, "max_size", "at least 1", "0"),
    "capacity below 0": ({"max_size": -3}, "at least 1", "-3"),
    "half a row": ({"max_size": 2.5}, "whole number", "2.5"),
    "no size at all": ({"max_size": None}, "max_size=None", "per_class=…", "or a size"),
    "admission": ({"admission": "herring"}, "'herring'", "'reservoir'", "'score'"),
    "sampling": (
        {"sampling": "herring"},
        "'herring'",
        "'mixed'",
        "'coreset'",
        "'loss'",
    ),
    "criterion": ({"criteria": ["herring"]}, "'herring'", *CRITERIA, "or give an obj"),
    "of a sampling": ({"sampling": Softmax("herring")}, "'herring'", "'loss'"),
    "of priorities": ({"sampling": Priority("herring")}, "'herring'", "'loss'"),
    "balance": ({"balance": "herring"}, "'herring'", "('class', 'none')"),
    "balance of score": (
        {"admission": "score", "balance": "task"},
        *("'task'", "('class', 'none')"),
    ),
    "criteria as one name": ({"criteria": "loss"}, "got 'loss'", "give ['loss']"),
    "criteria as no name": ({"criteria": "herring"}, "got 'herring'", "give ['loss']"),
    "no criteria": ({"criteria": []}, "no criteria to combine", "name at least one"),
    "criteria unordered": ({"criteria": {"loss"}}, "a list of names", "got {'loss'}"),
    "criteria twice": ({"criteria": ["age", "age"]}, "['age']", "a name of its own"),
    "weight below 0": (
        {**LOSS, "weights": {"loss": -1}},
        "-1",
        "from 0 on",
        "set to 0",
    ),
    "weights all 0": ({**LOSS, "weights": {"loss": 0}}, "at least one above 0", "0}"),
    "weight nan": ({**LOSS, "weights": {"loss": math.nan}}, "numbers", "nan"),
    "weight infinite": ({**LOSS, "weights": {"loss": math.inf}}, "numbers", "inf"),
    "weight a word": ({**LOSS, "weights": {"loss": "1"}}, "numbers", "'1'"),
    "weight of another": (
        {**LOSS, "weights": {"los": 1}},
        "given for ['los'], the criteria are ['loss']: give weights for these",
    ),
    "weight of no name": (
        {**LOSS, "weights": {1: 1}},
        "given for [1], the criteria are ['loss']",
    ),
    "temperature of priorities": (
        {"sampling": "priority", "temperature": 0.5},
        *("temperature=0.5", "got 'priority'", "leave it out"),
    ),
    "temperature 0": (
        {"sampling": "loss", "temperature": 0},
        "above 0",
        "got 0",
        "0.01",
    ),
    "temperature below 0": ({"sampling": "mixed", "temperature": -1.0}, "got -1.0"),
    "temperature nan": ({"sampling": "age", "temperature": math.nan}, "got nan"),
    "temperature a word": ({"sampling": "age", "temperature": "hot"}, "got 'hot'"),
    "temperature of uniform": (
        {"sampling": "uniform", "temperature": 0.5},
        *("temperature=0.5", "'uniform'", "leave it out"),
    ),
    "w_age below 0": ({"w_age": -0.5}, "w_age", "from 0 on", "got -0.5", "0 leaves"),
    "w_use below 0": ({"w_use": -0.5}, "w_use", "from 0 on", "got -0.5", "0 leaves"),
    "w_age nan": ({"w_age": math.nan}, "w_age", "got nan"),
    "w_use a word": ({"w_use": "much"}, "w_use", "got 'much'"),
    "w_age of a reservoir": (
        {"w_age": 0.5},
        *("w_age=0.5 would have no effect", "'score'", "got 'reservoir'", "leave out"),
    ),
    "w_use of herding": (
        {"w_use": 2, "admission": "herding"},
        *("w_use=2 would have no effect", "'score'", "got 'herding'"),
    ),
    "both of a ring": (
        {"w_age": 0.5, "w_use": 2, "admission": "ring"},
        *("w_age=0.5 and w_use=2 would have no effect", "got 'ring'"),
    ),
    "refresh_every below 0": (
        {"refresh_every": -1},
        "refresh_every",
        "at least 0",
        "-1",
    ),
    "refresh_every half": ({"refresh_every": 1.5}, "whole number of steps", "1.5"),
    "refresh_at_end": (
        {"refresh_at_end": 3},
        "refresh_at_end",
        "True or False",
        "got 3",
    ),
}


@pytest.mark.parametrize("case", CONSTRUCTION)
def test_what_cannot_be_made(case):
    options, *told = CONSTRUCTION[case]
    refused(lambda: MultiStrategyBuffer(**{"max_size": 9, **options}), *told)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampling": None}, ("unknown sampling None", "'uniform'", "or a Softmax")),
        ({"sampling": ["loss"]}, ("unknown sampling ['loss']", "'uniform'")),
        ({"criteria": [3]}, ("3 is no criterion", "a name and a method")),
        ({"criteria": [LossCriterion]}, ("is a class", "give LossCriterion()")),
        ({**LOSS, "weights": [1.0]}, ("a mapping", "[1.0]", "give {'loss': 1.0}")),
        ({"loss": "cross-entropy"}, ("a loss function", "'cross-entropy'")),
        ({"loss": nn.CrossEntropyLoss}, ("CrossEntropyLoss() say", "got <class")),
        ({"layer": 3}, ("layer must be the name", "got 3")),
    ],
)
def test_what_is_something_else(options, told):
    refused(lambda: MultiStrategyBuffer(9, **options), *told, error=TypeError)


@pytest.mark.parametrize("below", ["", "rows/of/mine"])
def test_a_directory_that_cannot_be_written(below, tmp_path):
    """At once, not when the first rows are kept."""
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / below
    refused(
        lambda: MultiStrategyBuffer(3, directory=folder),
        *(f"directory '{folder}' cannot be written", "file: Not a directory: name a"),
    )
    MultiStrategyBuffer(3, directory=tmp_path / "there" / below)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


USE = {
    "sampling": (lambda m: m.sample(2, "herring"), "'herring'", "'uniform'", "'loss'"),
    "score": (lambda m: m.scores("herring"), "'herring'", "'loss'", "'age'"),
    "criterion of a sampling": (lambda m: m.sample(2, Softmax("he")), "'he'", "'loss'"),
    "temperature 0": (lambda m: m.sample(2, "loss", temperature=0), "above 0", "got 0"),
    "temperature below 0": (lambda m: m.sample(2, temperature=-1), "above 0", "got -1"),
    "temperature of none": (
        lambda m: m.sample(2, "coreset", temperature=0.5),
        *("temperature=0.5", "'coreset'", "leave it out"),
    ),
    "rows below 0": (lambda m: m.sample(-1), "at least 0", "got -1"),
    "half a row": (lambda m: m.sample(1.5), "whole number of rows", "got 1.5"),
    "evicting all": (lambda m: m.evict(6), "evict 6 of 6 rows", "at least one row"),
    "evicting more": (lambda m: m.evict(60), "evict 60 of 6 rows", "at least one row"),
    "evicting below 0": (lambda m: m.evict(-1), "at least 0", "got -1"),
    "evicting half": (lambda m: m.evict(0.5), "whole number of rows", "got 0.5"),
    "size 0": (lambda m: m.resize(None, 0), "max_size", "at least 1", "got 0"),
    "size below 0": (lambda m: m.set_size(-2), "max_size", "at least 1", "got -2"),
    "slots": (lambda m: m.refresh(slots=torch.tensor([6])), "6 rows stored", "[6]"),
}


@pytest.mark.parametrize("case", USE)
@pytest.mark.parametrize("admission", ["reservoir", "class_balanced", "score"])
def test_what_cannot_be_asked(case, admission):
    call, *told = USE[case]
    memory = filled(admission=admission, sampling="loss", **LOSS)
    memory.refresh(MODEL)
    other = filled(admission=admission, sampling="loss", **LOSS)
    other.load_state_dict(through_disk(memory.state_dict()))
    refused(lambda: call(memory), *told)
    assert len(memory) == 6
    assert not memory.stale.any()
    assert (memory.draws, memory.uses.sum()) == (0, 0)
    for one in (memory, other):
        one.add(*plain(7, 6), model=MODEL)
    assert torch.equal(memory.table.column("x"), other.table.column("x"))
    assert torch.equal(memory.sample(3)["index"], other.sample(3)["index"])


@pytest.mark.parametrize(
    ("make", "told", "error"),
    [
        (lambda: AgeCriterion(tau="x"), ("tau", "above 0, got 'x'"), ValueError),
        (lambda: EnergyCriterion(math.inf), ("beta", "finite", "inf"), ValueError),
        (lambda: UncertaintyCriterion(True), ("passes", "got True"), ValueError),
        (lambda: WeightedCriterion(["loss"]), ("'loss' is no crit",), TypeError),
        (lambda: WeightedCriterion([LossCriterion]), ("LossCriterion()",), TypeError),
    ],
)
def test_criteria_that_cannot_be_made(make, told, error):
    refused(make, *told, error=error)


@pytest.mark.parametrize("name", ["x", "y"])
def test_rows_without(name):
    rows = {"x": plain(3)[0], "y": plain(3)[1], name: None}
    told = (f"{name} must be a tensor", "got NoneType", "give torch.as_tensor")
    refused(lambda: filled().add(**rows), *told, error=TypeError)


def test_sampling_an_empty_memory():
    memory = MultiStrategyBuffer(9)
    for strategy in (None, "loss", "coreset"):
        refused(lambda s=strategy: memory.sample(2, s), "2 rows of 0", "add rows")


# Rows of another form


@pytest.mark.parametrize("model", [None, MODEL])
@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (torch.zeros(3, 2), plain(3)[1], ("'x'", "float32 (1,)", "float32 (2,)")),
        (torch.zeros(3, 1).double(), plain(3)[1], ("'x'", "float64", "convert these")),
        (torch.zeros(3, 1).to(torch.uint8), plain(3)[1], ("'x'", "float32", "uint8")),
        (torch.zeros(3, 1), plain(3)[1].int(), ("'y'", "int64", "int32")),
        (torch.zeros(3, 1), plain(2)[1], ("'x': 3", "'y': 2", "one row for each")),
    ],
)
def test_rows_of_another_form(x, y, told, model):
    """Before any of them is scored."""
    memory = filled(7, 7, admission="score", sampling="mixed", **LOSS)
    memory.refresh(MODEL)
    refused(lambda: memory.add(x, y, model=model), *told)
    assert (len(memory), memory.seen) == (7, 7)
    assert memory.table.column("x").flatten().tolist() == list(range(7))


# A model that is needed and not there

SAMPLINGS = [
    *[(name, name) for name in CRITERIA if name not in ("age", "access")],
    ("priority", "loss"),
    ("coreset", "coreset"),
    ("mixed", "loss"),
    (Softmax("gradient"), "gradient"),
    (Priority("forgetting"), "forgetting"),
    (Coreset(), "coreset"),
]


@pytest.mark.parametrize(("sampling", "named"), SAMPLINGS)
def test_a_criterion_that_needs_a_model(sampling, named):
    """Named, with the fix; also when there was a model, which is no more."""
    for gone in (False, True):
        memory = MultiStrategyBuffer(9, sampling=sampling, seed=0, **LOSS)
        if gone:
            model = nn.Linear(1, 3)
            memory.add(*plain(3), model=model)
            assert len(memory.sample(2)) == 2
            del model
            gc.collect()
        draws = memory.draws
        memory.add(*plain(3, 3))
        told = (f"'{named}' needs a model", "there is none", "give the model, model=…")
        refused(lambda m=memory: m.sample(2), *told)
        refused(lambda m=memory: m.sample(2, sampling), *told)
        refused(lambda m=memory: m.refresh(), *told)
        assert memory.draws == draws
        assert len(memory.sample(2, "uniform")) == 2
        assert len(memory.sample(2, model=MODEL)) == 2


@pytest.mark.parametrize("name", [*CRITERIA, "mixed"])
def test_scores_that_need_a_model(name):
    memory = filled(**LOSS)
    if name in ("age", "access"):
        assert len(memory.scores(name)) == 6
    else:
        named = "loss" if name == "mixed" else name
        refused(lambda: memory.scores(name), f"'{named}' needs a model", "model=…")


@pytest.mark.parametrize("balance", ["class", "none"])
def test_an_admission_that_needs_a_model(balance):
    """Where not all rows fit, and where some must leave; not before."""
    memory = MultiStrategyBuffer(6, admission="score", balance=balance, **LOSS)
    memory.add(*plain(4))
    told = ("'loss' needs a model", "there is none", "give the model, model=…")
    refused(lambda: memory.add(*plain(4, 4)), *told)
    refused(lambda: memory.evict(1), *told)
    refused(lambda: memory.resize(None, 3), *told)
    assert (len(memory), memory.seen, memory.max_size) == (4, 4, 6)
    memory.evict(0)
    memory.resize(None, 5)
    assert memory.add(*plain(4, 4), model=MODEL).shape == (4,)
    assert len(memory) == 5


def test_criteria_that_need_no_model():
    options = {"criteria": ["age", "access"], "admission": "score", "seed": 0}
    memory = MultiStrategyBuffer(6, sampling="mixed", **options)
    for first in range(0, 40, 4):
        memory.add(*plain(4, first))
        memory.sample(3)
    memory.evict(2)
    assert len(memory) == 4
    assert not memory.stale.any()


# States


@pytest.mark.parametrize(
    ("made", "loads", "told"),
    [
        ({"admission": "ring"}, {}, ("'ring'", "'reservoir'", "the same admission")),
        (
            {"admission": "score", "balance": "none"},
            {"admission": "score"},
            ("balance='none'", "'class'", "the same"),
        ),
        (
            {"admission": "ring", "per_class": 2},
            {"admission": "ring"},
            ("per_class=2", "None", "the same"),
        ),
    ],
)
def test_states_of_other_memories(made, loads, told):
    state = filled(**made).state_dict()
    memory = filled(4, **loads)
    refused(lambda: memory.load_state_dict(state), *told)
    assert (len(memory), memory.seen) == (4, 4)
