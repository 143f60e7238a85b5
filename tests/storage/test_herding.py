"""avalanche_ext/storage/herding.py against all rows of a class, compared one by one."""

from collections import Counter

import pytest
import torch
from memories import through_disk

from avalanche_ext.storage import MultiStrategyBuffer, herding


class SlowHerding:
    """Rows as lists by class, the distance to the mean written out for each choice."""

    def __init__(self, size):
        self.size, self.held, self.offered = size, {}, {}

    def add(self, number, x, label):
        self.held.setdefault(label, []).append((number, x))
        self.offered.setdefault(label, []).append(x)
        if sum(map(len, self.held.values())) > self.size:
            self.drop(label)

    def drop(self, newest=None):
        most = max(map(len, self.held.values()))
        largest = [label for label, rows in self.held.items() if len(rows) == most]
        loser = newest if newest in largest else largest[0]
        mean = torch.stack(self.offered[loser]).mean(0)
        rows = self.held[loser]
        distances = [
            (
                torch.stack([x for _, x in rows[:i] + rows[i + 1 :]]).mean(0) - mean
            ).norm()
            for i in range(len(rows))
        ]
        rows.pop(int(torch.stack(distances).argmin()))

    def numbers(self):
        return sorted(number for rows in self.held.values() for number, _ in rows)


def rows(n, seed=0, classes=3, width=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (n,), generator=generator)
    return x + y[:, None], y


def kept(buffer):
    return sorted(buffer.table.column("number").tolist())


def offer(buffer, slow, x, y, batch, first=0):
    for start in range(0, len(x), batch):
        some = slice(start, start + batch)
        numbers = torch.arange(first + start, first + start + len(x[some]))
        buffer.add(x[some], y[some], columns={"number": numbers})
        for number, row, label in zip(numbers.tolist(), x[some], y[some], strict=True):
            slow.add(number, row, int(label))
        assert kept(buffer) == slow.numbers()


@pytest.mark.parametrize("batch", [1, 4, 30])
@pytest.mark.parametrize("seed", range(3))
def test_the_rows_kept_are_those_of_the_slow_reference(batch, seed):
    x, y = rows(120, seed)
    offer(
        MultiStrategyBuffer(20, admission="herding", seed=0),
        SlowHerding(20),
        x,
        y,
        batch,
    )


@pytest.mark.parametrize("batch", [1, 10])
def test_rows_far_from_zero(batch):
    """Such as years: their squares are large beside the distances that decide."""
    x, y = rows(120)
    x = (x + 10_000).float().double()  # as they are compared
    buffer = MultiStrategyBuffer(20, admission="herding", seed=0)
    slow = SlowHerding(20)
    offer(buffer, slow, x, y, batch)
    buffer.evict(5)
    for _ in range(5):
        slow.drop()
    assert kept(buffer) == slow.numbers()


def test_classes_that_come_later_take_their_share():
    x, y = rows(90)
    y = torch.arange(90) // 30  # one class after the other
    buffer, slow = MultiStrategyBuffer(12, admission="herding", seed=0), SlowHerding(12)
    offer(buffer, slow, x, y, 7)
    assert buffer.class_counts() == {0: 4, 1: 4, 2: 4}


def test_evicted_rows_are_those_of_the_slow_reference():
    x, y = rows(60)
    buffer, slow = MultiStrategyBuffer(20, admission="herding", seed=0), SlowHerding(20)
    offer(buffer, slow, x, y, 10)
    buffer.evict(7)
    for _ in range(7):
        slow.drop()
    assert kept(buffer) == slow.numbers()
    buffer.set_size(9)
    while len(slow.numbers()) > 9:
        slow.drop()
    assert kept(buffer) == slow.numbers()
    slow.size = 9
    offer(buffer, slow, *rows(30, seed=4), 10, first=60)


def test_the_mean_is_nearer_than_that_of_a_random_sample():
    x, y = rows(2000, classes=2, width=20)
    apart = {}
    for admission in ("herding", "class_balanced"):
        buffer = MultiStrategyBuffer(40, admission=admission, seed=0)
        for some in torch.arange(2000).split(10):
            buffer.add(x[some], y[some])
        held, labels = buffer.table.column("x"), buffer.table.column("y")
        apart[admission] = sum(
            float((held[labels == c].mean(0) - x[y == c].mean(0)).norm())
            for c in (0, 1)
        )
    assert apart["herding"] < apart["class_balanced"] / 4


def test_a_state_goes_on_bit_for_bit():
    x, y = rows(80)
    numbers = torch.arange(80)
    one = MultiStrategyBuffer(15, admission="herding", seed=0)
    one.add(x[:40], y[:40], columns={"number": numbers[:40]})
    other = MultiStrategyBuffer(15, admission="herding", seed=9)
    other.load_state_dict(through_disk(one.state_dict()))
    for memory in (one, other):
        memory.add(x[40:], y[40:], columns={"number": numbers[40:]})
    assert one.table.column("number").tolist() == other.table.column("number").tolist()


def test_rows_of_another_form_keep_the_mean_of_those_stored():
    x, y = rows(60, classes=1)
    buffer = MultiStrategyBuffer(10, admission="herding", seed=0)
    buffer.add(x, y)
    buffer.table.recast({"x": 2 * buffer.table.column("x") + 1})
    mean = buffer.table.column("x").mean(0)
    buffer.add(mean[None], y[:1])
    policy = buffer._policy
    assert policy._sums[0] == pytest.approx((61 * mean).numpy())
    assert policy._held[0] == pytest.approx(buffer.table.column("x").sum(0).numpy())


def test_a_state_after_another_form_goes_on_bit_for_bit():
    """It is not taken for the form before, by which the sums would be estimated anew."""
    x, y = rows(90, classes=2)
    one = MultiStrategyBuffer(10, admission="herding", seed=0)
    one.add(x[:30], y[:30])
    one.table.recast({"x": 2 * one.table.column("x") + 1})
    one.add(2 * x[30:60] + 1, y[30:60])
    other = MultiStrategyBuffer(10, admission="herding", seed=9)
    other.load_state_dict(through_disk(one.state_dict()))
    sums = one._policy._sums.copy()
    for memory in (one, other):
        memory.add(2 * x[60:61] + 1, y[60:61])
    sums[one._policy._ranks[int(y[60])]] += (2 * x[60] + 1).float().numpy()
    for memory in (one, other):
        assert (memory._policy._sums == sums).all()


def test_large_classes_are_compared_in_part():
    x, y = rows(700, classes=1)
    buffer = MultiStrategyBuffer(300, admission="herding", seed=0)
    buffer.add(x, y)
    held = buffer.table.column("x")
    assert len(buffer) == 300
    assert (held.mean(0) - x.mean(0)).norm() < (x[:300].mean(0) - x.mean(0)).norm() / 5


@pytest.mark.parametrize(("size", "ordered"), [(90, 1024), (90, 50)])
def test_any_row_of_a_large_class_may_be_compared(size, ordered, monkeypatch):
    """In both ways of drawing them: each about as often, none twice."""
    monkeypatch.setattr(herding, "_ORDERED", ordered)
    policy, draw = herding.Herding(), torch.Generator().manual_seed(0)
    policy.surplus([0], size)
    policy._slots[0].extend(range(100, 100 + size))
    counts, drawn = Counter(), 0
    for _ in range(900):
        some = policy._some_of(0, draw)
        assert len(set(some)) == len(some) <= 32
        counts.update(some)
        drawn += len(some)
    assert set(counts) == set(range(100, 100 + size))
    expected = drawn / size
    squares = sum((count - expected) ** 2 / expected for count in counts.values())
    assert squares < 130  # of 89 degrees of freedom: 1 in 300


@pytest.mark.parametrize("classes", [1, 3])
def test_of_those_compared_the_best_one_leaves(classes, monkeypatch):
    """By all rows offered and stored, whichever of these are compared."""
    monkeypatch.setattr(herding, "_COMPARED", 4)
    x, y = rows(150, classes=classes)
    buffer = MultiStrategyBuffer(45, admission="herding", seed=0)
    buffer.add(x[:45], y[:45], columns={"number": torch.arange(45)})
    policy, told = buffer._policy, {}
    some_of = policy._some_of

    def spy(rank, draw):
        told[rank] = some_of(rank, draw)
        return told[rank]

    monkeypatch.setattr(policy, "_some_of", spy)
    for new in range(45, 150):
        before = buffer.table.column("number").clone()
        buffer.add(x[[new]], y[[new]], columns={"number": torch.tensor([new])})
        candidates = {*before.tolist(), new}
        (gone,) = candidates - set(buffer.table.column("number").tolist())
        loser = int(y[gone])
        compared = before[told[policy._ranks[loser]]].tolist()
        assert len(compared) <= 4
        own = [n for n in candidates if y[n] == loser]
        mean = x[: new + 1][y[: new + 1] == loser].mean(0)

        def apart(lost, own=own, mean=mean):
            return float((x[[n for n in own if n != lost]].mean(0) - mean).norm())

        candidates = compared + [new] * (int(y[new]) == loser)
        assert gone == min(candidates, key=apart)


@pytest.mark.parametrize("batch", [50, 400])
def test_a_class_that_loses_many_rows_at_once_loses_stored_ones(batch):
    """More than are compared at a time, all to a class that is new."""
    x, _ = rows(900)
    y = torch.arange(900) // 500
    buffer = MultiStrategyBuffer(300, admission="herding", seed=0)
    for some in torch.arange(900).split(batch):
        slots = buffer.add(x[some], y[some], columns={"number": some})
        numbers = buffer.table.column("number")
        kept = slots >= 0
        assert numbers[slots[kept]].tolist() == some[kept].tolist()
    assert buffer.class_counts() == {0: 150, 1: 150}
    assert len(set(numbers.tolist())) == 300
    held = buffer.table.column("y")
    assert (held == (numbers >= 500)).all()


def test_nested_and_image_inputs_are_vectors_and_tokens_are_none():
    for x in (
        {"a": torch.rand(30, 2), "b": torch.rand(30, 1, 3)},
        torch.randint(0, 255, (30, 3, 4, 4), dtype=torch.uint8),
    ):
        buffer = MultiStrategyBuffer(8, admission="herding", seed=0)
        buffer.add(x, torch.arange(30) % 2)
        assert buffer.class_counts() == {0: 4, 1: 4}
    buffer = MultiStrategyBuffer(8, admission="herding", seed=0)
    with pytest.raises(
        ValueError, match=r"x\.tokens holds torch.int64, which may be no"
    ):
        buffer.add({"tokens": torch.ones(3, 4, dtype=torch.long)}, torch.arange(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused_and_leave_no_trace(bad):
    (x, y), sound = rows(60, classes=2), MultiStrategyBuffer(10, admission="herding")
    buffer = MultiStrategyBuffer(10, admission="herding", seed=0)
    for memory in (buffer, sound):
        memory.add(x[:40], y[:40])
    broken = x[40:].clone()
    broken[[3, 7], 0] = bad
    with pytest.raises(
        ValueError, match=r"2 of the 20 that arrive are not finite.*row 3\): leave"
    ):
        buffer.add(broken, y[40:])
    assert buffer.seen == 40
    for memory in (buffer, sound):
        memory.add(x[40:], y[40:])
    assert torch.equal(buffer.table.column("x"), sound.table.column("x"))
