"""avalanche_ext/storage/buffer.py: criteria of users, and combined ones, in a memory."""

import pytest
import torch
from memories import filled, plain, through_disk
from slow_scores import mean_of
from torch import nn
from torch.nn.functional import cross_entropy

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.criteria import (
    AccessCriterion,
    AgeCriterion,
    GradientCriterion,
    LossCriterion,
    UncertaintyCriterion,
    WeightedCriterion,
)
from avalanche_ext.storage.softmax import Softmax


class Counting(nn.Module):
    """Counts the rows that pass."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(1, 6), nn.Tanh())
        self.head, self.rows = nn.Linear(6, 3), 0

    def forward(self, x):
        self.rows += len(x)
        return self.head(self.body(x))


class Margin:
    """How little the right class stands out."""

    name = "margin"

    def score(self, rows, context):
        outputs = context.outputs(rows).clone()
        right = outputs.gather(1, rows["y"][:, None])[:, 0]
        outputs.scatter_(1, rows["y"][:, None], -torch.inf)
        return outputs.max(1).values - right


class Spread:
    """How large the features are; nothing else of the model is looked at."""

    name = "spread"
    reads = ("features",)

    def score(self, rows, context):
        return context.features(rows).norm(dim=1)


class Even:
    """Rows that came at an even number are worth more: read from facts."""

    name = "even"
    live = True

    def __init__(self):
        self.asked = []

    def score(self, rows, context):
        self.asked.append((sorted(rows), context.seen, context.draws))
        return 1 - rows["arrival"] % 2


class Crowd:
    """How many rows are as near as 1: compares features that are kept."""

    name = "crowd"
    live = True
    compares_features = True

    def score(self, rows, context):
        features = context.need_stored(self.name).features
        if (rows["index"] < 0).any():
            own = context.features(rows)
        else:
            own = features[rows["index"]]
        return (torch.cdist(own, features) < 1).sum(1).float()


class Chance:
    """Random numbers of the memory's own."""

    name = "chance"

    def score(self, rows, context):
        return torch.rand(len(rows["y"]), generator=context.generator)


class Relief:
    """How far the loss is below the highest that it had."""

    name = "relief"
    remembers = "highest_loss"

    def score(self, rows, context):
        return self.remember(rows, context) - context.losses(rows)

    def remember(self, rows, context):
        return torch.fmax(context.losses(rows), rows[self.remembers])


class Never:
    """A criterion that must not be computed."""

    name = "never"

    def score(self, rows, context):
        raise AssertionError("of weight 0")


MODEL = Counting()


def margins(model, memory):
    x, y = memory.table.column("x"), memory.table.column("y").tolist()
    outputs = [model(row[None])[0].tolist() for row in x]
    return [
        max(o for c, o in enumerate(output) if c != label) - output[label]
        for output, label in zip(outputs, y, strict=True)
    ]


def close(found, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


# Of users


def test_a_criterion_is_kept_as_a_column():
    memory = filled(criteria=[Margin()], sampling="margin")
    assert memory.stale.all()
    memory.add(*plain(3, 6), model=MODEL)
    close(memory.scores("margin"), margins(MODEL, memory))
    close(memory.sample(9)["score_margin"], margins(MODEL, memory))
    best = max(range(9), key=margins(MODEL, memory).__getitem__)
    for how in ("margin", "mixed", Softmax("margin", 1e-9)):
        own = None if isinstance(how, Softmax) else 1e-9
        assert memory.sample(1, how, temperature=own)["index"].tolist() == [best]


def test_it_is_scored_by_name_where_it_is_not_mixed():
    memory = filled(
        criteria=["loss", Margin()], weights={"margin": 0}, sampling="mixed"
    )
    memory.refresh(MODEL)
    assert "score_margin" not in memory.table.columns
    close(memory.scores("margin"), margins(MODEL, memory))
    assert torch.equal(
        memory.scores("mixed").argsort(), memory.scores("loss").argsort()
    )


def test_it_decides_what_is_kept():
    memory = MultiStrategyBuffer(
        5, criteria=[Margin()], admission="score", balance="none", seed=0
    )
    every = filled(20, 20)
    order = torch.tensor(margins(MODEL, every)).argsort(descending=True)
    for first in range(0, 20, 4):
        memory.add(*plain(4, first), model=MODEL)
    kept = sorted(memory.table.column("x").flatten().long().tolist())
    assert kept == sorted(order[:5].tolist())
    close(memory.scores("margin"), margins(MODEL, memory))


def test_a_state_is_of_names():
    memory = filled(criteria=[Margin(), "age"], sampling="mixed")
    memory.refresh(MODEL)
    memory.sample(2)
    loaded = MultiStrategyBuffer(
        10, criteria=[Margin(), "age"], sampling="mixed", seed=5
    )
    loaded.load_state_dict(through_disk(memory.state_dict()))
    for name in ("margin", "age", "mixed"):
        assert torch.equal(loaded.scores(name), memory.scores(name))
    assert torch.equal(loaded.sample(3)["index"], memory.sample(3)["index"])


def test_criteria_share_one_pass():
    model = Counting()
    criteria = [Margin(), Spread(), "loss", UncertaintyCriterion(0), "diversity"]
    memory = filled(criteria=criteria, sampling="mixed")
    memory.refresh(model)
    assert model.rows == 6
    x, y = memory.table.column("x"), memory.table.column("y")
    close(memory.scores("spread"), model.body(x).norm(dim=1).detach())
    close(memory.scores("loss"), cross_entropy(model(x), y, reduction="none").detach())
    model.rows = 0
    memory.sample(3)
    memory.scores("mixed")
    assert model.rows == 0


def test_what_a_training_step_notes_for_it():
    memory = filled(criteria=[Spread()], sampling="mixed")
    assert memory.scorer.scores.reads == {"features"}
    memory = filled(criteria=[Margin()], sampling="mixed")
    assert memory.scorer.scores.reads == {"outputs", "losses"}


def test_what_a_criterion_remembers_stays_with_its_row():
    models = [Counting(seed) for seed in (2, 1, 0)]
    memory = filled(criteria=[Relief()], sampling="relief", max_size=8)
    highest = {}
    for step, model in enumerate(models):
        memory.add(*plain(2, 6 + 2 * step), model=model, compute_scores=False)
        memory.evict(1)
        memory.refresh(model)
        x, y = memory.table.column("x"), memory.table.column("y")
        losses = cross_entropy(model(x), y, reduction="none").tolist()
        numbers = x.flatten().tolist()
        for number, loss in zip(numbers, losses, strict=True):
            highest[number] = max(loss, highest.get(number, loss))
        most = [highest[number] for number in numbers]
        close(memory.table.column("highest_loss"), most)
        expected = [m - loss for m, loss in zip(most, losses, strict=True)]
        close(memory.scores("relief"), expected)
        state = through_disk(memory.state_dict())
        memory = MultiStrategyBuffer(8, criteria=[Relief()], sampling="relief", seed=3)
        memory.load_state_dict(state)
    assert max(expected) > 0.01
    with pytest.raises(ValueError, match=r"\['highest_loss'\] are the memory's own"):
        memory.add(*plain(2), columns={"highest_loss": torch.zeros(2)})


def test_a_live_criterion_is_evaluated_when_asked():
    even = Even()
    memory = filled(criteria=[even], sampling="even")
    assert not memory.stale.any()
    assert memory.scores("even").tolist() == [0, 1, 0, 1, 0, 1]
    assert len(memory.sample(2)) == 2  # no model, then or now
    memory.add(*plain(2, 6))
    memory.evict(3)
    arrival = memory.table.column("arrival")
    assert memory.scores("even").tolist() == (1 - arrival % 2).tolist()
    assert {name for name in memory.table.columns if "even" in name} == set()
    facts = ["arrival", "drawn", "index", "uses"]
    assert even.asked[0] == (facts, 6, 0)
    assert even.asked[-1] == (facts, 8, 1)


def test_a_live_criterion_decides_what_is_kept():
    memory = MultiStrategyBuffer(
        4, criteria=[Even()], admission="score", balance="none", seed=0
    )
    for first in range(0, 12, 3):
        memory.add(*plain(3, first))
    assert (memory.table.column("arrival") % 2 == 0).all()
    # Rows that arrive are told apart by the order in which they do.
    assert memory.add(*plain(3, 12)).tolist().count(-1) == 2


def test_a_live_criterion_that_compares_features():
    memory = filled(criteria=[Crowd()], sampling="crowd")
    assert memory.stale.all()
    memory.refresh(MODEL)
    features = MODEL.body(memory.table.column("x")).detach()
    expected = [sum(int((a - b).norm() < 1) for b in features) for a in features]
    close(memory.scores("crowd"), expected)
    memory = MultiStrategyBuffer(5, criteria=[Crowd()], admission="score", seed=0)
    for first in range(0, 20, 4):
        memory.add(*plain(4, first), model=MODEL)
    assert len(memory) == 5


def test_random_criteria_are_those_of_the_seed():
    def run(seed):
        memory = MultiStrategyBuffer(
            9, criteria=[Chance()], sampling="chance", seed=seed
        )
        memory.add(*plain(5), model=MODEL)
        memory.refresh()
        return memory

    state = torch.get_rng_state()
    assert torch.equal(run(1).scores("chance"), run(1).scores("chance"))
    assert not torch.equal(run(1).scores("chance"), run(2).scores("chance"))
    assert torch.equal(torch.get_rng_state(), state)
    memory = run(1)
    loaded = MultiStrategyBuffer(9, criteria=[Chance()], sampling="chance", seed=3)
    loaded.load_state_dict(through_disk(memory.state_dict()))
    memory.refresh()
    loaded.refresh()
    assert torch.equal(loaded.scores("chance"), memory.scores("chance"))


# Combined


def nested(**options):
    """Two levels: half of it loss, which itself is mixed with age; nothing of others."""
    inner = WeightedCriterion(
        [LossCriterion(), AgeCriterion(tau=5), Never()],
        {"age": 3, "never": 0},
        name="in",
    )
    outer = [inner, Margin(), AccessCriterion()]
    weights = {"in": 2.0, "margin": 1.0, "access": 0.5}
    return filled(criteria=outer, weights=weights, sampling="mixed", **options)


def expected_of(memory):
    raw = {n: memory.scores(n).tolist() for n in ("loss", "age", "margin", "access")}
    inner = mean_of(raw, {"loss": 1, "age": 3})
    weights = {"in": 2.0, "margin": 1.0, "access": 0.5}
    return inner, mean_of({**raw, "in": inner}, weights)


def test_nested_criteria():
    memory = nested()
    memory.refresh(MODEL)
    for _ in range(3):
        memory.sample(2)
        memory.add(*plain(1, 9), model=MODEL)
        inner, mixed = expected_of(memory)
        close(memory.scores("in"), inner)
        close(memory.scores("mixed"), mixed)
    own = {name for name in memory.table.columns if name.startswith("score_")}
    assert own == {"score_loss", "score_margin"}
    for name, scores in (("in", inner), ("mixed", mixed)):
        best = max(range(len(memory)), key=scores.__getitem__)
        assert memory.sample(1, name, temperature=1e-9)["index"].tolist() == [best]


def test_nested_criteria_decide_what_is_kept():
    memory = nested(n=10, max_size=10, admission="score", balance="none")
    memory.refresh(MODEL)
    _, mixed = expected_of(memory)
    worst = torch.tensor(mixed).argsort()[:4].tolist()
    gone = {int(memory.table.column("x")[slot]) for slot in worst}
    memory.evict(4)
    left = set(memory.table.column("x").flatten().long().tolist())
    assert left == set(range(10)) - gone


def test_a_nested_state():
    memory = nested()
    memory.refresh(MODEL)
    memory.sample(2)
    loaded = nested(seed=9)
    loaded.load_state_dict(through_disk(memory.state_dict()))
    for name in ("in", "mixed", "loss"):
        assert torch.equal(loaded.scores(name), memory.scores(name))


def test_weights_of_0_are_not_computed():
    """At any level; and asked for by name they are."""
    off = WeightedCriterion([Never(), GradientCriterion()], name="off")
    for weights in ({"off": 0}, {"off": 0.0, "loss": 2}):
        memory = filled(criteria=["loss", off], weights=weights, sampling="mixed")
        memory.refresh(MODEL)
        memory.sample(2)
        assert "score_gradient" not in memory.table.columns
        with pytest.raises(AssertionError, match="of weight 0"):
            memory.scores("off")


def test_a_combined_criterion_names_itself():
    combined = WeightedCriterion([AgeCriterion(), LossCriterion()], {"age": 3})
    memory = filled(criteria=[combined], sampling="3 age + loss")
    memory.refresh(MODEL)
    raw = {name: memory.scores(name).tolist() for name in ("age", "loss")}
    expected = mean_of(raw, {"age": 3, "loss": 1})
    close(memory.scores("3 age + loss"), expected)
    low, high = min(expected), max(expected)
    close(memory.scores("mixed"), [(v - low) / (high - low) for v in expected])
