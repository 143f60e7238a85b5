"""avalanche_ext/storage/memory.py: the rows it keeps, and those that it refuses."""

import re

import pytest
import torch
from memories import (
    ADMISSIONS,
    assert_same,
    filled,
    inputs,
    plain,
)

from avalanche_ext.storage import MultiStrategyBuffer
from avalanche_ext.storage.memory import FACTS


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


@pytest.mark.parametrize(
    "name",
    ["x", "y", "task", "index", "weight", "scored", "score_a", "lowest_loss", *FACTS],
)
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


# --- errors -------------------------------------------------------------------------


def test_unknown_sampling_of_one_draw():
    buffer = filled()
    assert len(buffer.sample(3, strategy="uniform")) == 3
    with pytest.raises(ValueError, match="herring") as error:
        buffer.sample(3, strategy="herring")
    assert "uniform" in str(error.value)


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
