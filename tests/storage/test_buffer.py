"""Tests of avalanche_ext/storage/buffer.py against a list of dictionaries.

Every sample has a number that can be read off its input, so whatever the memory does,
each row can be asked whether its target, task, age and uses are still its own.
"""

import io
import re
import warnings
from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from torch.utils.data import TensorDataset

from avalanche_ext.storage import MultiStrategyBuffer

ADMISSIONS = ["reservoir", "ring", "class_balanced"]
QUICK = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def inputs(numbers):
    """Nested inputs of three dtypes; each part tells the number of its row."""
    numbers = torch.as_tensor(numbers, dtype=torch.int64)
    image = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8)
    return {
        "image": image.reshape(-1, 1, 2),
        "more": {"feature": torch.stack([numbers / 2, -numbers / 4], 1)},
    }


def numbers_of(x):
    """The numbers of the rows of ``inputs``, which must agree in every part."""
    assert x["image"].dtype == torch.uint8
    assert x["more"]["feature"].dtype == torch.float32
    image = x["image"].reshape(-1, 2).long()
    numbers = image[:, 0] * 256 + image[:, 1]
    feature = x["more"]["feature"]
    assert torch.equal(feature[:, 0], numbers / 2)
    assert torch.equal(feature[:, 1], -numbers / 4)
    return numbers.tolist()


def through_disk(state):
    """The state as a checkpoint brings it back: only tensors and plain containers."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class BufferMachine(RuleBasedStateMachine):
    """Any sequence of operations; the reference tracks arrival and uses by number."""

    admission = "reservoir"
    smallest = 1  # capacity: at least the four classes where these share it

    @initialize(data=st.data(), seed=st.integers(0, 9), with_task=st.booleans())
    def create(self, data, seed, with_task):
        self.with_task = with_task
        size = data.draw(st.integers(self.smallest, 9), label="max_size")
        self.buffer = MultiStrategyBuffer(size, admission=self.admission, seed=seed)
        self.facts = []  # one dictionary a sample offered, by number
        self.kept = set()

    @rule(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12))
    def add(self, labels):
        first = len(self.facts)
        numbers = list(range(first, first + len(labels)))
        for number, y in zip(numbers, labels, strict=True):
            self.facts.append(
                {"y": y, "task": y // 2, "arrival": number + 1, "uses": 0}
            )
        slots = self.buffer.add(
            inputs(numbers),
            torch.tensor(labels),
            torch.tensor(labels) // 2 if self.with_task else None,
        )
        assert slots.dtype == torch.int64
        assert slots.shape == (len(labels),)
        now = numbers_of(self.buffer.table.column("x"))
        assert set(now) <= self.kept | set(numbers)
        said = {
            number: slot
            for number, slot in zip(numbers, slots.tolist(), strict=True)
            if slot >= 0
        }
        assert len(set(said.values())) == len(said)
        # The slots are where the rows are, and no newcomer is anywhere else.
        assert said == {n: slot for slot, n in enumerate(now) if n >= first}
        self.kept = set(now)

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(n=st.integers(0, 12))
    def sample(self, n):
        rows = self.buffer.sample(n)
        assert rows.batch_size == (min(n, len(self.kept)),)
        numbers = numbers_of(rows["x"])
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) <= self.kept
        by_slot = numbers_of(self.buffer.table.column("x"))
        assert [by_slot[i] for i in rows["index"].tolist()] == numbers
        assert rows["y"].tolist() == [self.facts[i]["y"] for i in numbers]
        assert ("task" in set(rows.keys())) == self.with_task
        if self.with_task:
            assert rows["task"].tolist() == [self.facts[i]["task"] for i in numbers]
        assert torch.equal(rows["weight"], torch.ones(len(numbers)))
        for number in numbers:
            self.facts[number]["uses"] += 1

    @precondition(lambda self: len(getattr(self, "kept", ())) > 1)
    @rule(data=st.data())
    def evict(self, data):
        n = data.draw(st.integers(1, len(self.kept) - 1))
        self.buffer.evict(n)
        now = set(numbers_of(self.buffer.table.column("x")))
        assert now < self.kept
        assert len(now) == len(self.kept) - n
        self.kept = now

    @precondition(lambda self: getattr(self, "kept", None))
    @rule(more=st.integers(0, 3))
    def evict_too_many(self, more):
        n = len(self.kept) + more
        with pytest.raises(ValueError, match=str(n)):
            self.buffer.evict(n)

    @rule(data=st.data())
    def resize(self, data):
        size = data.draw(st.integers(self.smallest, 12))
        grows = size >= self.buffer.max_size
        self.buffer.resize(None, size)
        assert self.buffer.max_size == size
        if self.kept:
            now = set(numbers_of(self.buffer.table.column("x")))
            assert now <= self.kept
            if grows or self.admission != "ring":  # a ring's quotas shrink at once
                assert len(now) == min(size, len(self.kept))
            self.kept = now

    @rule(seed=st.integers(10, 19))
    def round_trip(self, seed):
        state = through_disk(self.buffer.state_dict())
        self.buffer = MultiStrategyBuffer(
            self.buffer.max_size, admission=self.admission, seed=seed
        )
        self.buffer.load_state_dict(state)

    @invariant()
    def aligned(self):
        if not hasattr(self, "kept"):
            return
        buffer = self.buffer
        assert buffer.seen == len(self.facts)
        assert len(buffer) == len(self.kept) == len(buffer.table)
        assert len(buffer) <= buffer.max_size
        if not self.facts:
            return
        numbers = numbers_of(buffer.table.column("x"))
        facts = [self.facts[i] for i in numbers]
        assert len(set(numbers)) == len(numbers)
        assert set(numbers) == self.kept
        assert buffer.table.column("y").tolist() == [f["y"] for f in facts]
        if self.with_task:
            assert buffer.table.column("task").tolist() == [f["task"] for f in facts]
        assert buffer.ages.tolist() == [len(self.facts) - f["arrival"] for f in facts]
        assert buffer.uses.tolist() == [f["uses"] for f in facts]
        counts = Counter(
            (f["task"], f["y"]) if self.with_task else f["y"] for f in facts
        )
        assert {c: m for c, m in buffer.class_counts().items() if m} == counts


class RingMachine(BufferMachine):
    admission = "ring"
    smallest = 4


class ClassBalancedMachine(BufferMachine):
    admission = "class_balanced"
    smallest = 4


TestReservoir = BufferMachine.TestCase
TestRing = RingMachine.TestCase
TestClassBalanced = ClassBalancedMachine.TestCase
TestReservoir.settings = TestRing.settings = TestClassBalanced.settings = QUICK


# --- rows ---------------------------------------------------------------------------


def plain(n, first=0, dtype=torch.float32):
    """A batch whose x holds the number of the row, labels 0, 1, 2, 0, …"""
    numbers = torch.arange(first, first + n)
    return numbers.reshape(-1, 1).to(dtype), numbers % 3


def filled(n=6, max_size=10, seed=0, **options):
    buffer = MultiStrategyBuffer(max_size, seed=seed, **options)
    buffer.add(*plain(n))
    return buffer


@pytest.mark.parametrize("admission", ADMISSIONS)
@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool]
)
def test_inputs_keep_their_dtype(dtype, admission):
    buffer = MultiStrategyBuffer(4, admission=admission, seed=0)
    for first in range(0, 30, 5):
        buffer.add(*plain(5, first, dtype))
    assert buffer.table.column("x").dtype == dtype
    assert buffer.sample(2)["x"].dtype == dtype
    assert buffer.buffer[0][0].dtype == dtype


@pytest.mark.parametrize("with_task", [False, True])
def test_a_stored_image_costs_its_bytes(with_task):
    """At most 5 % above the raw row at 3,072 bytes."""
    buffer = MultiStrategyBuffer(20, seed=0)
    y = torch.arange(8)
    x = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    buffer.add(x, y, y if with_task else None)
    assert buffer.table.bytes_per_row <= 1.05 * 3072


def test_memory_owns_its_rows():
    x, y = plain(5)
    buffer = MultiStrategyBuffer(5, seed=0)
    buffer.add(x, y)
    x.zero_()
    y.zero_()
    rows = buffer.sample(5)
    rows["x"].fill_(-1)
    rows["y"].fill_(-1)
    x, y = plain(5)
    assert torch.equal(buffer.table.column("x"), x)
    assert torch.equal(buffer.table.column("y"), y)


def test_further_columns_travel_with_their_rows():
    buffer = MultiStrategyBuffer(6, seed=0)
    for first in range(0, 60, 7):
        x, y = plain(7, first)
        more = {"logits": torch.cat([x, 2 * x], 1), "deep": {"half": x.half() / 2}}
        buffer.add(x, y, columns=more)
    for rows in (buffer.sample(4), buffer.sample(10)):
        assert torch.equal(rows["logits"], torch.cat([rows["x"], 2 * rows["x"]], 1))
        assert rows["deep"]["half"].dtype == torch.float16
        assert torch.equal(rows["deep"]["half"], rows["x"].half() / 2)


@pytest.mark.parametrize("name", ["x", "y", "task", "arrival", "uses"])
def test_further_columns_cannot_take_the_memory_s_own_names(name):
    buffer = MultiStrategyBuffer(6, seed=0)
    with pytest.raises(ValueError, match=name):
        buffer.add(*plain(3), columns={name: torch.zeros(3)})
    assert len(buffer) == buffer.seen == 0


def test_empty_batch_changes_nothing():
    buffer = filled()
    slots = buffer.add(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long))
    assert slots.shape == (0,)
    assert (len(buffer), buffer.seen) == (6, 6)


def test_new_memory_is_empty():
    for admission in ADMISSIONS:
        buffer = MultiStrategyBuffer(4, admission=admission, seed=0)
        assert len(buffer) == 0
        assert buffer.max_size == 4
        assert buffer.seen == 0
        assert buffer.class_counts() == {}
        assert len(buffer.ages) == len(buffer.uses) == 0
        assert len(buffer.buffer) == 0


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_on_disk_as_in_memory(admission, tmp_path):
    """The same rows and the same draws, and files that hold them."""
    memory = MultiStrategyBuffer(9, admission=admission, seed=4)
    disk = MultiStrategyBuffer(
        9, admission=admission, seed=4, directory=tmp_path / "rows"
    )
    for first in range(0, 60, 7):
        numbers = torch.arange(first, first + 7)
        for buffer in (memory, disk):
            buffer.add(inputs(numbers), numbers % 3, numbers % 3 // 2)
        assert_same(memory, disk)
        assert torch.equal(memory.sample(3)["index"], disk.sample(3)["index"])
    for buffer in (memory, disk):
        buffer.evict(3)
        buffer.resize(None, 5)
    assert_same(memory, disk)
    size = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert size >= 5 * disk.table.bytes_per_row


def assert_same(one, other):
    """Everything public about two memories of `inputs` is equal, slot by slot."""
    assert (one.seen, one.max_size) == (other.seen, other.max_size)
    assert set(one.table.columns) == set(other.table.columns)
    for name in one.table.columns:
        a, b = one.table.column(name), other.table.column(name)
        if not isinstance(a, torch.Tensor):
            assert numbers_of(a) == numbers_of(b)
            continue
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    assert torch.equal(one.ages, other.ages)
    assert torch.equal(one.uses, other.uses)
    assert one.class_counts() == other.class_counts()


# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize("max_size", [0, -5])
def test_size_must_be_positive(max_size):
    with pytest.raises(ValueError, match=re.escape(str(max_size))) as error:
        MultiStrategyBuffer(max_size)
    assert "\n" not in str(error.value)
    buffer = filled()
    with pytest.raises(ValueError, match=re.escape(str(max_size))):
        buffer.resize(None, max_size)
    assert (len(buffer), buffer.max_size) == (6, 10)


@pytest.mark.parametrize(
    ("option", "allowed"), [("admission", ADMISSIONS), ("sampling", ["uniform"])]
)
def test_unknown_names_list_those_allowed(option, allowed):
    with pytest.raises(ValueError, match="herring") as error:
        MultiStrategyBuffer(5, **{option: "herring"})
    assert all(name in str(error.value) for name in allowed)
    assert "\n" not in str(error.value)


def test_unknown_sampling_of_one_draw():
    buffer = filled()
    assert len(buffer.sample(3, strategy="uniform")) == 3
    with pytest.raises(ValueError, match="herring") as error:
        buffer.sample(3, strategy="herring")
    assert "uniform" in str(error.value)


@pytest.mark.parametrize("per_class", [0, -2])
def test_per_class_must_be_positive(per_class):
    with pytest.raises(ValueError, match=str(per_class)):
        MultiStrategyBuffer(5, admission="ring", per_class=per_class)


@pytest.mark.parametrize("admission", ["reservoir", "class_balanced"])
def test_per_class_is_for_the_ring(admission):
    with pytest.raises(ValueError, match="per_class"):
        MultiStrategyBuffer(5, admission=admission, per_class=2)


@pytest.mark.parametrize("n", [6, 7, 100])
def test_evict_leaves_a_row(n):
    buffer = filled(6)
    with pytest.raises(ValueError, match=str(n)) as error:
        buffer.evict(n)
    assert "6" in str(error.value)
    assert "\n" not in str(error.value)
    assert len(buffer) == 6


ONE_HOT = torch.eye(3)[Y_OF_SIX := torch.arange(6) % 3]


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
@pytest.mark.parametrize(
    ("y", "task"),
    [
        (ONE_HOT, None),
        (ONE_HOT.long(), None),
        (Y_OF_SIX.float(), None),
        (Y_OF_SIX, ONE_HOT),
        (Y_OF_SIX, Y_OF_SIX.float()),
    ],
    ids=["one-hot", "one-hot of integers", "float", "task one-hot", "task float"],
)
def test_admission_by_class_needs_class_labels(admission, y, task):
    one, other = (MultiStrategyBuffer(6, admission=admission, seed=0) for _ in range(2))
    column, wrong = ("y", y) if task is None else ("task", task)
    shape = re.escape(str(tuple(wrong.shape)))
    with pytest.raises(ValueError, match=f"'{column}'.*{shape}.*argmax") as error:
        one.add(torch.zeros(6, 1), y, task)
    assert "\n" not in str(error.value)
    assert admission in str(error.value)
    one.add(*plain(6))
    other.add(*plain(6))
    assert_same(one, other)


def test_a_reservoir_keeps_any_targets_but_counts_classes_only():
    buffer = MultiStrategyBuffer(6, seed=0)
    assert buffer.class_counts() == {}
    buffer.add(torch.zeros(6, 1), ONE_HOT)
    assert torch.equal(buffer.table.column("y"), ONE_HOT)
    with pytest.raises(ValueError, match=r"class_counts\(\).*\(6, 3\).*argmax"):
        buffer.class_counts()


X, Y = plain(3, 6)
BAD_BATCHES = {
    "fewer targets": (X, Y[:2], None),
    "more targets": (X, torch.zeros(4, dtype=torch.long), None),
    "another width": (torch.zeros(3, 2), Y, None),
    "another dtype": (X.double(), Y, None),
    "uint8 for float": (X.to(torch.uint8), Y, None),
    "a mapping for a tensor": ({"x": X}, Y, None),
    "float targets": (X, Y.float(), None),
    "task where there was none": (X, Y, Y),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_batches_that_do_not_fit_are_refused(case, admission):
    """One line; and the memory goes on as if the batch had never come."""
    one, other = (filled(admission=admission) for _ in range(2))
    with pytest.raises(ValueError, match=r".") as error:
        one.add(*BAD_BATCHES[case])
    assert "\n" not in str(error.value)
    for buffer in (one, other):
        for first in range(6, 40, 4):
            buffer.add(*plain(4, first))
    assert one.seen == other.seen
    assert torch.equal(one.table.column("x"), other.table.column("x"))
    assert torch.equal(one.ages, other.ages)
    assert one.class_counts() == other.class_counts()
    assert torch.equal(one.sample(4)["index"], other.sample(4)["index"])


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_bad_batch_is_refused_by_a_memory_that_would_not_keep_it(admission):
    """Whether a batch fits must not depend on the luck of its rows."""
    buffer = MultiStrategyBuffer(3, admission=admission, seed=0)
    for first in range(0, 3000, 100):
        buffer.add(*plain(100, first))
    for _ in range(20):
        with pytest.raises(ValueError, match="x"):
            buffer.add(torch.zeros(1, 2), torch.tensor([0]))


@pytest.mark.parametrize("admission", ["ring", "class_balanced"])
def test_a_class_too_many_is_refused_before_anything_happens(admission):
    one, other = (MultiStrategyBuffer(3, admission=admission, seed=0) for _ in range(2))
    one.add(*plain(20))
    other.add(*plain(20))
    with pytest.raises(ValueError, match="4") as error:
        one.add(X, torch.tensor([0, 9, 1]))
    assert "3" in str(error.value)
    assert "\n" not in str(error.value)
    for buffer in (one, other):
        for first in range(20, 40, 4):
            buffer.add(*plain(4, first))
    assert one.seen == other.seen == 40
    assert torch.equal(one.table.column("x"), other.table.column("x"))
    assert torch.equal(one.ages, other.ages)
    assert one.class_counts() == other.class_counts()


def test_lengths_are_named():
    with pytest.raises(ValueError, match="2") as error:
        filled().add(X, Y[:2])
    assert "3" in str(error.value)
    with pytest.raises(ValueError, match="task") as error:
        MultiStrategyBuffer(9).add(X, Y, Y[:1])
    assert "3" in str(error.value)


@pytest.mark.parametrize(
    ("batch", "named"),
    [
        (([[0.0]] * 3, Y), "x must be a tensor or a mapping of tensors, got list"),
        ((X.numpy(), Y), "x must be .* got ndarray"),
        ((X, [0, 1, 2]), "y must be .* got list"),
        ((X, Y, [0, 0, 0]), "task must be .* got list"),
        (({"a": X, "b": {"c": [1, 2, 3]}}, Y), r"x\.b\.c must be .* got list"),
        ((X, Y[0]), "y is a single number"),
    ],
)
def test_only_tensors_are_rows(batch, named):
    buffer = filled()
    with pytest.raises(TypeError, match=named) as error:
        buffer.add(*batch)
    assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match=r"logits must be .* got list"):
        buffer.add(X, Y, columns={"logits": [1, 2, 3]})
    assert (len(buffer), buffer.seen) == (6, 6)


def test_task_always_or_never():
    buffer = MultiStrategyBuffer(9, seed=0)
    buffer.add(X, Y, Y)
    with pytest.raises(ValueError, match="task"):
        buffer.add(X, Y)
    assert buffer.seen == 3


def test_state_of_another_admission_is_refused():
    state = filled(admission="ring").state_dict()
    buffer = filled(admission="reservoir")
    with pytest.raises(ValueError, match="ring") as error:
        buffer.load_state_dict(state)
    assert "reservoir" in str(error.value)


# --- seeds and state ----------------------------------------------------------------


def stream(n=120, seed=0):
    """Batches of random sizes with labels that come and go; x, y, task."""
    g = torch.Generator().manual_seed(seed)
    start = 0
    while start < n:
        size = int(torch.randint(1, 9, (), generator=g))
        numbers = torch.arange(start, start + size)
        y = torch.randint(0, 1 + min(4, 1 + start // 25), (size,), generator=g)
        yield inputs(numbers), y, y // 2
        start += size


def step(buffer, batch):
    """One training step of a rehearsal method: what it draws, and what is kept."""
    drawn = buffer.sample(4)["index"].tolist() if len(buffer) else []
    return drawn, buffer.add(*batch).tolist()


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_same_seed_same_memory_and_draws(admission):
    def run(seed):
        buffer = MultiStrategyBuffer(11, admission=admission, seed=seed)
        return [step(buffer, batch) for batch in stream()], buffer

    one, other = run(3), run(3)
    assert one[0] == other[0]
    assert_same(one[1], other[1])
    assert run(4)[0] != one[0]


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_without_a_seed_the_global_generator_decides(admission):
    def run():
        buffer = MultiStrategyBuffer(11, admission=admission)
        return [step(buffer, batch) for batch in stream()]

    torch.manual_seed(7)
    first, second = run(), run()
    torch.manual_seed(7)
    assert run() == first
    assert second != first


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_seeded_memory_leaves_the_global_generator_alone(admission):
    state = torch.get_rng_state()
    buffer = MultiStrategyBuffer(11, admission=admission, seed=3)
    for batch in stream():
        step(buffer, batch)
    buffer.evict(3)
    buffer.resize(None, 7)
    buffer.load_state_dict(through_disk(buffer.state_dict()))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop", [0, 1, 2, 7, 15, 22])
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_loaded_memory_goes_on_bit_for_bit(admission, stop):
    """The same slots, the same draws, at whatever moment the state was taken."""
    batches = list(stream())
    through = MultiStrategyBuffer(11, admission=admission, seed=3)
    expected = [step(through, batch) for batch in batches]

    before = MultiStrategyBuffer(11, admission=admission, seed=3)
    steps = [step(before, batch) for batch in batches[:stop]]
    state = through_disk(before.state_dict())
    after = MultiStrategyBuffer(11, admission=admission, seed=99)
    after.load_state_dict(state)
    assert steps + [step(after, batch) for batch in batches[stop:]] == expected
    assert_same(after, through)
    # Taking the state changed nothing for the one it was taken from.
    assert steps + [step(before, batch) for batch in batches[stop:]] == expected
    # And both go on alike through what makes room.
    for buffer in (after, before):
        buffer.evict(4)
        buffer.resize(None, 6)
        for batch in stream(40, seed=1):
            step(buffer, batch)
    assert_same(after, before)


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_a_state_in_use_is_not_shared(admission):
    """Loaded without a file, two memories still do not write into each other."""
    one = MultiStrategyBuffer(11, admission=admission, seed=3)
    for batch in stream():
        step(one, batch)
    state = one.state_dict()
    other = MultiStrategyBuffer(11, admission=admission, seed=5)
    other.load_state_dict(state)
    third = MultiStrategyBuffer(11, admission=admission, seed=6)
    third.load_state_dict(through_disk(state))
    for batch in stream(60, seed=2):
        step(one, batch)
    assert_same(other, third)
    assert [step(other, b) for b in stream(60, seed=4)] == [
        step(third, b) for b in stream(60, seed=4)
    ]


@pytest.mark.parametrize("admission", ADMISSIONS)
def test_loading_over_a_used_memory(admission):
    """What the memory knew before is gone: rows, counters, draws made ahead."""
    one = MultiStrategyBuffer(11, admission=admission, seed=3)
    used = MultiStrategyBuffer(6, admission=admission, seed=5)
    for batch in stream(60):
        step(one, batch)
    for batch in stream(90, seed=8):
        step(used, batch)
    used.load_state_dict(through_disk(one.state_dict()))
    assert_same(used, one)
    for batch in stream(60, seed=2):
        assert step(used, batch) == step(one, batch)
    assert_same(used, one)


# --- in Avalanche -------------------------------------------------------------------


@pytest.fixture(scope="module")
def avalanche():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import avalanche
        import avalanche.training.plugins
    return avalanche


def dataset(n=80):
    """Rows [number, 0, 0, 1] of four classes."""
    x = torch.zeros(n, 4)
    x[:, 0] = torch.arange(n)
    x[:, 3] = 1
    y = torch.arange(n) % 4
    data = TensorDataset(x, y)
    data.targets = y.tolist()
    return data


def benchmark(avalanche, kind):
    """Two experiences of two classes; items [x, y] or [x, y, task]."""
    data = dataset()
    if kind != "plain":
        return avalanche.benchmarks.nc_benchmark(
            data, data, 2, task_labels=kind == "task labels", shuffle=False
        )
    whole = avalanche.benchmarks.utils.as_classification_dataset(data)
    y = torch.tensor(data.targets)
    parts = [
        whole.subset(((y // 2) == e).nonzero().flatten().tolist()) for e in range(2)
    ]
    return avalanche.benchmarks.benchmark_from_datasets(train=parts, test=parts)


def items(buffer):
    """The items of the memory as a dataset, each checked against the data."""
    result = {}
    for item in buffer.buffer:
        x, y, *task = item
        number = int(x[0])
        assert x.tolist() == [number, 0, 0, 1]
        assert int(y) == number % 4
        result[number] = int(task[-1]) if task else None
    assert len(result) == len(buffer.buffer) == len(buffer)
    return result


KINDS = ["plain", "task labels", "task label 0"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("admission", ADMISSIONS)
def test_in_upstreams_replay_plugin(avalanche, admission, kind):
    training = avalanche.training
    buffer = MultiStrategyBuffer(12, admission=admission, seed=0)
    batches = []

    class Spy(training.plugins.SupervisedPlugin):
        def before_training_iteration(self, strategy, *args, **kwargs):
            batches.append(
                (strategy.experience.current_experience, strategy.mb_x, strategy.mb_y)
            )

    torch.manual_seed(0)
    model = avalanche.models.SimpleMLP(num_classes=4, input_size=4, hidden_size=8)
    strategy = training.Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-4),
        train_mb_size=10,
        train_epochs=1,
        plugins=[
            training.plugins.ReplayPlugin(
                mem_size=12, batch_size_mem=6, storage_policy=buffer
            ),
            Spy(),
        ],
        evaluator=training.plugins.EvaluationPlugin(
            loggers=avalanche.logging.TextLogger(io.StringIO())
        ),
    )
    stream = benchmark(avalanche, kind).train_stream
    seen = 0
    for experience in stream:
        classes = {2 * experience.current_experience + c for c in range(2)}
        current = {i for i in range(80) if i % 4 in classes}
        memory = set(items(buffer))
        batches.clear()
        strategy.train(experience)
        seen += 40
        assert (len(buffer), buffer.seen) == (12, seen)

        shown = [int(i) for _, x, _ in batches for i in x[:, 0]]
        for _, x, y in batches:
            assert torch.equal(y, x[:, 0].long() % 4)
            replayed = {int(i) for i in x[:, 0]} - current
            assert replayed <= memory
            assert bool(replayed) == bool(memory)
        assert Counter(i for i in shown if i in current) == Counter(current)

        stored = items(buffer)
        tasks = {"task labels": None, "task label 0": 0}
        for number, task in stored.items():
            if kind == "task labels":
                assert task == (number % 4) // 2
            else:
                assert task == tasks.get(kind)
    if admission != "reservoir":
        keys = {
            "plain": [0, 1, 2, 3],
            "task labels": [(0, 0), (0, 1), (1, 2), (1, 3)],
            "task label 0": [(0, 0), (0, 1), (0, 2), (0, 3)],
        }
        assert buffer.class_counts() == dict.fromkeys(keys[kind], 3)
    buffer.resize(strategy, 5)
    assert len(items(buffer)) == 5
    assert buffer.max_size == 5
    strategy.eval(benchmark(avalanche, kind).test_stream)


def halve(x):
    return x.float() / 2


@pytest.mark.parametrize("transform", [None, halve])
def test_dataset_items_are_those_of_the_experience(avalanche, transform):
    """With its transform: a model sees replayed rows as it saw them new."""
    raw = dataset()
    data = avalanche.benchmarks.utils.as_classification_dataset(
        raw, transform_groups=None if transform is None else groups(avalanche)
    )
    experience = avalanche.benchmarks.benchmark_from_datasets(
        train=[data]
    ).train_stream[0]
    buffer = MultiStrategyBuffer(9, seed=0)
    buffer.post_adapt(None, experience)
    seen = {float(x[0]): (x, int(y)) for x, y in experience.dataset}
    assert len(buffer.buffer) == 9
    for x, y in buffer.buffer:
        expected, label = seen[float(x[0])]
        assert torch.equal(x, expected)
        assert int(y) == label


def groups(avalanche):
    transforms = avalanche.benchmarks.utils.TransformGroups
    return transforms({"train": (halve, None), "eval": (halve, None)})


def test_update_is_post_adapt(avalanche):
    """The deprecated name, which upstream's plugin still calls."""
    experience = benchmark(avalanche, "plain").train_stream[0]
    one, other = (MultiStrategyBuffer(7, seed=0) for _ in range(2))

    class Strategy:
        pass

    strategy = Strategy()
    strategy.experience = experience
    one.update(strategy)
    other.post_adapt(None, experience)
    assert one.seen == other.seen == 40
    assert torch.equal(one.table.column("x"), other.table.column("x"))
    assert items(one) == items(other)


def test_experience_in_order_is_a_stream_of_its_rows(avalanche):
    """post_adapt offers every row once, in order: as add does."""
    stream = benchmark(avalanche, "plain").train_stream
    for admission in ADMISSIONS:
        by_experience = MultiStrategyBuffer(9, admission=admission, seed=2)
        by_batch = MultiStrategyBuffer(9, admission=admission, seed=2)
        for experience in stream:
            by_experience.post_adapt(None, experience)
            x = torch.stack([item[0] for item in experience.dataset])
            y = torch.tensor([int(item[1]) for item in experience.dataset])
            by_batch.add(x, y)
        for name in ("x", "y"):
            assert torch.equal(
                by_experience.table.column(name), by_batch.table.column(name)
            )
        assert torch.equal(by_experience.ages, by_batch.ages)


def test_reservoir_over_experiences_is_uniform(avalanche):
    """Each of 80 rows in 20 of 80 memories: experiences are one stream."""
    stream = list(benchmark(avalanche, "plain").train_stream)
    counts = Counter()
    for seed in range(120):
        buffer = MultiStrategyBuffer(20, seed=seed)
        for experience in stream:
            buffer.post_adapt(None, experience)
        counts.update(int(i) for i in buffer.table.column("x")[:, 0])
    p = 20 / 80
    spread = sum((counts[i] - 120 * p) ** 2 for i in range(80))
    statistic = spread / (120 * p * (1 - p)) * 79 / 80
    assert 40 < statistic < 140  # chi-square, 79 degrees of freedom: 2e-4 either side


def test_buffer_follows_the_memory(avalanche):
    """The dataset is of the rows held now, and a loader reads it."""
    buffer = filled(5)
    loader = torch.utils.data.DataLoader(buffer.buffer, batch_size=2)
    assert torch.cat([x for x, _ in loader]).flatten().tolist() == [0, 1, 2, 3, 4]
    assert [int(t) for t in buffer.buffer.targets] == [0, 1, 2, 0, 1]
    buffer.add(*plain(2, 5))
    assert len(buffer.buffer) == 7
    buffer.evict(4)
    left = buffer.table.column("x").flatten().tolist()
    assert [float(x) for x, _ in buffer.buffer] == left
    assert [int(t) for t in buffer.buffer.targets] == [int(i) % 3 for i in left]
    assert len(buffer.buffer.subset([0, 2])) == 2
    assert len(buffer.buffer.concat(filled(2).buffer)) == 5
