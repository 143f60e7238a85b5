"""Tests of avalanche_ext/storage/table.py against a list of dictionaries."""

import io
import pickle
import re
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from avalanche_ext.storage import ExemplarTable

# The same examples in every run, and no example database left in the checkout.
QUICK = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
DTYPES = [torch.uint8, torch.int64, torch.float32, torch.bool, torch.float16]


def row(number):
    """One row, every entry a function of its number; all dtypes, nested twice."""
    g = torch.Generator().manual_seed(number)
    return {
        "id": torch.tensor(number),
        "image": torch.randint(0, 256, (2, 3), generator=g, dtype=torch.uint8),
        "value": torch.rand((), generator=g),
        "half": torch.rand(2, generator=g).half(),
        "flag": torch.tensor(number % 3 == 0),
        "nested": {
            "a": torch.rand(2, generator=g),
            "b": {"c": torch.randint(0, 99, (1,), generator=g)},
        },
    }


def batch(rows):
    """The rows stacked into columns."""
    return {
        name: (
            batch([r[name] for r in rows])
            if isinstance(value, dict)
            else torch.stack([r[name] for r in rows])
        )
        for name, value in rows[0].items()
    }


def assert_same(actual, expected):
    """Equal names, dtypes, shapes and values, through every level of nesting."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(actual, torch.Tensor)
        assert actual.dtype == expected.dtype
        assert actual.shape == expected.shape
        assert torch.equal(actual.cpu(), expected)
        return
    assert set(actual.keys()) == set(expected)
    for name in expected:
        assert_same(actual[name], expected[name])


def assert_table_is(table, rows):
    assert len(table) == len(rows)
    if rows:
        expected = batch(rows)
        assert set(table.columns) == set(expected)
        for name, column in expected.items():
            assert_same(table.column(name), column)
        assert_same(table.gather(torch.arange(len(rows))), expected)


def through_disk(state):
    """The state as a checkpoint brings it back: only tensors and plain containers."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def filled(n, capacity=10, **options):
    table = ExemplarTable(capacity, **options)
    rows = [row(i) for i in range(n)]
    table.write(torch.arange(n), batch(rows))
    return table, rows


class TableMachine(RuleBasedStateMachine):
    """Any sequence of operations leaves the table equal to the list."""

    on_disk = False

    def __init__(self):
        super().__init__()
        self.folders = []
        self.rows = []
        self.written = 0

    def new_table(self, capacity):
        if not self.on_disk:
            return ExemplarTable(capacity)
        self.folders.append(tempfile.TemporaryDirectory())
        return ExemplarTable(capacity, directory=self.folders[-1].name)

    def teardown(self):
        self.table = None
        for folder in self.folders:
            folder.cleanup()

    @initialize(capacity=st.integers(1, 8))
    def create(self, capacity):
        self.table = self.new_table(capacity)

    @rule(data=st.data())
    def write(self, data):
        n = len(self.rows)
        new = data.draw(st.integers(0, self.table.capacity - n), label="new rows")
        old = data.draw(st.sets(st.integers(0, n - 1)) if n else st.just(set()))
        slots = data.draw(st.permutations([*old, *range(n, n + new)]))
        if not slots:
            return
        rows = [row(self.written + i) for i in range(len(slots))]
        self.written += len(slots)
        self.table.write(torch.tensor(slots), batch(rows))
        self.rows += [None] * new
        for slot, new_row in zip(slots, rows, strict=True):
            self.rows[slot] = new_row

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def gather(self, data):
        index = data.draw(st.lists(st.integers(0, len(self.rows) - 1), min_size=1))
        expected = batch([self.rows[i] for i in index])
        assert_same(self.table.gather(torch.tensor(index)), expected)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def remove(self, data):
        index = data.draw(st.lists(st.integers(0, len(self.rows) - 1), unique=True))
        moved = self.table.remove(torch.tensor(index, dtype=torch.long))
        kept = {i: r for i, r in enumerate(self.rows) if i not in index}
        # Which rows fill the holes is the table's choice, but it says which, and
        # only holes below the new length are filled.
        slots = [moved.get(i, i) for i in kept]
        assert sorted(slots) == list(range(len(kept)))
        assert set(moved) <= set(range(len(kept), len(self.rows)))
        assert set(moved.values()) <= set(index)
        by_slot = dict(zip(slots, kept.values(), strict=True))
        self.rows = [by_slot[slot] for slot in range(len(kept))]

    @rule(data=st.data())
    def resize(self, data):
        capacity = data.draw(st.integers(max(1, len(self.rows)), 12))
        self.table.resize(capacity)
        assert self.table.capacity == capacity

    @rule()
    def round_trip(self):
        state = through_disk(self.table.state_dict())
        self.table = self.new_table(self.table.capacity)
        self.table.load_state_dict(state)

    @invariant()
    def same(self):
        if hasattr(self, "table"):
            assert len(self.rows) <= self.table.capacity
            assert_table_is(self.table, self.rows)


class DiskTableMachine(TableMachine):
    """The same on a memory map."""

    on_disk = True


TestTable = TableMachine.TestCase
TestTable.settings = QUICK
TestDiskTable = DiskTableMachine.TestCase
TestDiskTable.settings = settings(QUICK, max_examples=10, stateful_step_count=12)


@pytest.fixture(params=["memory", "disk"])
def options(request, tmp_path):
    return {} if request.param == "memory" else {"directory": tmp_path / "table"}


def test_new_table_is_empty(options):
    table = ExemplarTable(3, **options)
    assert len(table) == 0
    assert table.capacity == 3
    assert tuple(table.columns) == ()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data(), shape=st.lists(st.integers(1, 3), max_size=3))
@settings(QUICK, max_examples=10)
def test_dtype_and_shape_are_kept(dtype, data, shape):
    n = data.draw(st.integers(1, 5))
    values = (torch.rand(n, *shape) * 4).to(dtype)
    table = ExemplarTable(5)
    table.write(torch.arange(n), {"x": values})
    assert_same(table.column("x"), values)
    assert_same(table.gather(torch.arange(n)), {"x": values})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_is_kept_on_disk_and_through_a_checkpoint(dtype, tmp_path):
    values = (torch.arange(12).reshape(4, 3) % 5).to(dtype)
    table = ExemplarTable(6, directory=tmp_path / "a")
    table.write(torch.arange(4), {"x": values})
    assert_same(table.column("x"), values)
    again = ExemplarTable(6, directory=tmp_path / "b")
    again.load_state_dict(through_disk(table.state_dict()))
    assert_same(again.column("x"), values)


def test_extreme_values_survive(options):
    values = {
        "u": torch.tensor([0, 255], dtype=torch.uint8),
        "i": torch.tensor([-(2**63), 2**63 - 1]),
        "f": torch.tensor([float("inf"), 1e-45]),
    }
    table = ExemplarTable(2, **options)
    table.write(torch.arange(2), values)
    assert_same(table.gather(torch.arange(2)), values)


def test_full_table_takes_overwrites_only(options):
    table, rows = filled(4, capacity=4, **options)
    table.write(torch.tensor([2]), batch([row(9)]))
    rows[2] = row(9)
    assert_table_is(table, rows)
    with pytest.raises(ValueError, match="4"):
        table.write(torch.tensor([4]), batch([row(10)]))
    assert_table_is(table, rows)


def test_table_owns_its_rows(options):
    """Neither the writer's tensors nor gathered ones are views of the table."""
    rows = batch([row(0), row(1)])
    table = ExemplarTable(4, **options)
    table.write(torch.arange(2), rows)
    rows["image"].zero_()
    rows["nested"]["a"].zero_()
    got = table.gather(torch.tensor([0, 1]))
    got["value"].zero_()
    got["nested"]["a"].fill_(7)
    assert_table_is(table, [row(0), row(1)])


def test_loading_does_not_share_memory(options):
    table, rows = filled(3, **options)
    again = ExemplarTable(10)
    again.load_state_dict(table.state_dict())
    again.write(torch.tensor([0]), batch([row(50)]))
    table.write(torch.tensor([1]), batch([row(51)]))
    assert_table_is(again, [row(50), rows[1], rows[2]])
    assert_table_is(table, [rows[0], row(51), rows[2]])


def test_empty_table_round_trips(options):
    again = ExemplarTable(4, **options)
    again.load_state_dict(through_disk(ExemplarTable(4).state_dict()))
    assert len(again) == 0
    again.write(torch.arange(2), batch([row(0), row(1)]))
    assert_table_is(again, [row(0), row(1)])


def test_state_moves_between_memory_and_disk(tmp_path):
    table, rows = filled(5)
    disk = ExemplarTable(10, directory=tmp_path / "table")
    disk.load_state_dict(through_disk(table.state_dict()))
    assert_table_is(disk, rows)
    back = ExemplarTable(10)
    back.load_state_dict(through_disk(disk.state_dict()))
    assert_table_is(back, rows)


def test_removing_everything_then_writing(options):
    table, _ = filled(5, **options)
    table.remove(torch.tensor([3, 0, 4, 1, 2]))
    assert len(table) == 0
    table.write(torch.arange(2), batch([row(7), row(8)]))
    assert_table_is(table, [row(7), row(8)])


def test_growing_keeps_rows_and_gives_room(options):
    table, rows = filled(3, capacity=3, **options)
    table.resize(6)
    new = [row(20 + i) for i in range(3)]
    table.write(torch.arange(3, 6), batch(new))
    assert_table_is(table, rows + new)


def test_directory_holds_the_rows(tmp_path):
    """A memory map is files at least as large as the rows they hold."""
    folder = tmp_path / "rows"
    table = ExemplarTable(50, directory=folder)
    images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8)
    table.write(torch.arange(20), {"image": images, "y": torch.arange(20)})
    size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    assert size >= 20 * table.bytes_per_row
    assert size <= 1.5 * 50 * table.bytes_per_row + 4096
    assert torch.equal(table.column("image"), images)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_pickled_table_comes_back_where_it_was(n, options):
    table, rows = filled(n, capacity=5, **options)
    again = pickle.loads(pickle.dumps(table))
    assert (again.capacity, again.device) == (table.capacity, table.device)
    assert again.directory == table.directory
    assert_table_is(again, rows)
    again.write(torch.tensor([0]), batch([row(40)]))
    assert_table_is(again, [row(40), *rows[1:]])
    assert_table_is(table, rows)  # its own, though both have one directory
    if options:
        held = torch.from_file(
            str(again.directory / "id.5.bin"), size=5, dtype=torch.int64
        )
        assert held[0] == 40


def test_bytes_per_row_counts_every_column(options):
    table = ExemplarTable(5, **options)
    table.write(
        torch.arange(2),
        {
            "x": torch.zeros(2, 3, 4, dtype=torch.uint8),  # 12
            "y": torch.zeros(2, dtype=torch.int64),  # 8
            "flag": torch.zeros(2, dtype=torch.bool),  # 1
            "nested": {
                "h": torch.zeros(2, 5, dtype=torch.float16),  # 10
                "f": torch.zeros(2, 1),  # 4
            },
        },
    )
    assert table.bytes_per_row == 12 + 8 + 1 + 10 + 4


def test_shrinking_below_the_rows_is_refused(options):
    table, rows = filled(5, **options)
    table.resize(5)
    with pytest.raises(ValueError, match="4") as error:
        table.resize(4)
    assert "5" in str(error.value)
    assert "\n" not in str(error.value)
    assert table.capacity == 5
    assert_table_is(table, rows)


def test_loading_takes_over_the_capacity(options):
    table, rows = filled(5, capacity=7)
    again = ExemplarTable(2, **options)
    again.load_state_dict(through_disk(table.state_dict()))
    assert again.capacity == 7
    assert_table_is(again, rows)


def test_loading_over_other_rows(options):
    """What was in the table before is gone, columns included."""
    table, rows = filled(5)
    again = ExemplarTable(8, **options)
    again.write(torch.arange(7), {"z": torch.zeros(7, 2)})
    again.load_state_dict(through_disk(table.state_dict()))
    assert_table_is(again, rows)


def test_directory_is_on_the_host(tmp_path):
    with pytest.raises(ValueError, match="meta") as error:
        ExemplarTable(2, device="meta", directory=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("capacity", [0, -3])
def test_capacity_must_be_positive(capacity, options):
    with pytest.raises(ValueError, match=re.escape(str(capacity))) as error:
        ExemplarTable(capacity, **options)
    assert "\n" not in str(error.value)
    table, rows = filled(2, **options)
    with pytest.raises(ValueError, match=re.escape(str(capacity))):
        table.resize(capacity)
    assert_table_is(table, rows)


def changed(**columns):
    """A batch of two rows with some columns replaced (None: left out)."""
    rows = batch([row(30), row(31)])
    rows.update(columns)
    return {name: value for name, value in rows.items() if value is not None}


NESTED = {"a": torch.rand(2, 2), "b": {"c": torch.ones(2, 1, dtype=torch.int64)}}
BAD_ROWS = {
    "another shape": (changed(image=torch.zeros(2, 3, 2, dtype=torch.uint8)), "image"),
    "fewer dimensions": (changed(half=torch.zeros(2).half()), "half"),
    "another dtype": (changed(image=torch.zeros(2, 2, 3)), "image"),
    "float for int": (changed(id=torch.zeros(2)), "id"),
    "double for float": (changed(value=torch.zeros(2, dtype=torch.float64)), "value"),
    "a column missing": (changed(flag=None), "flag"),
    "a column too many": (changed(extra=torch.zeros(2)), "extra"),
    "a nested column missing": (changed(nested={"a": torch.rand(2, 2)}), "b"),
    "a nested column too many": (
        changed(nested={**NESTED, "zusatz": torch.rand(2)}),
        "zusatz",
    ),
    "another nested shape": (changed(nested={**NESTED, "a": torch.rand(2, 5)}), "a"),
    "a tensor for a mapping": (changed(nested=torch.rand(2, 2)), "nested"),
    "fewer rows in one column": (changed(flag=torch.zeros(1).bool()), "flag"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_do_not_fit_are_refused(case, options):
    """One line, naming the column; and nothing of the batch is written."""
    rows, name = BAD_ROWS[case]
    table, reference = filled(4, **options)
    with pytest.raises(ValueError, match=name) as error:
        table.write(torch.tensor([1, 4]), rows)
    assert "\n" not in str(error.value)
    assert_table_is(table, reference)


@pytest.mark.parametrize(
    ("slots", "value"),
    [
        ([10], "10"),
        ([4, 12], "12"),
        ([6], "6"),
        ([4, 6], "6"),
        ([0, -1], "-1"),
        ([1, 1], "1"),
        ([4, 4], "4"),
    ],
    ids=str,
)
def test_slots_out_of_bounds_are_refused(slots, value, options):
    """Beyond the capacity, leaving a gap after the last row, negative, or twice."""
    table, reference = filled(4, **options)
    rows = batch([row(40 + i) for i in range(len(slots))])
    with pytest.raises(ValueError, match=re.escape(value)) as error:
        table.write(torch.tensor(slots), rows)
    assert "\n" not in str(error.value)
    assert_table_is(table, reference)


def test_as_many_slots_as_rows(options):
    table, reference = filled(4, **options)
    with pytest.raises(ValueError, match="3"):
        table.write(torch.tensor([0, 1, 2]), batch([row(1), row(2)]))
    assert_table_is(table, reference)
