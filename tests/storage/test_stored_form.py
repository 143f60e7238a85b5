"""avalanche_ext/storage/stored_form.py: whatever is kept, the model's input is known."""

import io
from dataclasses import dataclass

import pytest
import torch

from avalanche_ext.storage.stored_form import StoredForm
from avalanche_ext.storage.table import ExemplarTable


@dataclass(frozen=True)
class Scale:
    by: float

    def __call__(self, x):
        return x.float() * self.by


def store(form, table, x, transform):
    """As a plugin stores raw rows ``x`` that ``transform`` makes inputs of."""
    rows = x
    if form.settle(transform, table) == "after" and transform is not None:
        rows = transform(x)
    slots = torch.arange(len(table), len(table) + len(x))
    table.write(slots, {"x": rows, "y": torch.zeros(len(x))})


def inputs_of(form, table):
    x = table.column("x")
    return x if form.transform is None else form.transform(x)


def raw(first, dtype=torch.uint8):
    return torch.arange(first, first + 3, dtype=dtype)[:, None]


# For each step the transform, and the side from which rows are kept from then on.
SEQUENCES = {
    "none": [(None, "before")] * 3,
    "one": [(Scale(2), "before")] * 3,
    "alike": [(Scale(2), "before"), (Scale(2), "before"), (Scale(2), "before")],
    "another": [(Scale(2), "before"), (Scale(3), "after"), (Scale(2), "after")],
    "one and none": [(Scale(2), "before"), (None, "after"), (Scale(2), "after")],
    "none and one": [(None, "before"), (Scale(2), "after"), (None, "after")],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_inputs_are_those_that_were_met(name):
    sequence = SEQUENCES[name]
    # Where rows are inputs and others are not, both have one dtype as in any stream.
    mixed = name in ("one and none", "none and one")
    dtype = torch.float32 if mixed else torch.uint8
    form, table, expected = StoredForm(), ExemplarTable(9), []
    for number, (transform, side) in enumerate(sequence):
        x = raw(3 * number, dtype)
        store(form, table, x, transform)
        expected.append(x if transform is None else transform(x))
        assert form.settle(transform, table) == side
        assert torch.equal(inputs_of(form, table), torch.cat(expected))
        assert (table.column("x").dtype == dtype) == (side == "before" or mixed)
        assert not form.unknown


def test_a_transform_that_is_alike_takes_the_place_of_the_first():
    """So that the next batch is recognised at once, and the first can be let go."""
    form, table = StoredForm(), ExemplarTable(6)
    first, second = Scale(2), Scale(2)
    store(form, table, raw(0), first)
    assert form.transform is first
    store(form, table, raw(3), second)
    assert form.transform is second


def test_an_empty_memory_takes_any_transform():
    form, table = StoredForm(), ExemplarTable(6)
    for transform in (Scale(2), Scale(3), None, Scale(4)):
        assert form.settle(transform, table) == "before"
        assert form.transform is transform


def loaded(form):
    file = io.BytesIO()
    torch.save(form.state_dict(), file)
    file.seek(0)
    other = StoredForm()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def test_loaded_rows_wait_for_their_transform():
    form, table = StoredForm(), ExemplarTable(6)
    store(form, table, raw(0), Scale(2))
    after = loaded(form)
    assert after.unknown
    assert after.transform is None
    assert after.state_dict() == form.state_dict()
    for other in (Scale(3), None):
        with pytest.raises(ValueError, match="before another transform than") as error:
            after.settle(other, table)
        assert str(other) in str(error.value)
        assert "\n" not in str(error.value)
        assert after.unknown
    assert after.settle(Scale(2), table) == "before"
    assert not after.unknown
    assert torch.equal(inputs_of(after, table), 2.0 * raw(0))
    assert after.settle(Scale(3), table) == "after"
    assert torch.equal(inputs_of(after, table), 2.0 * raw(0))


@pytest.mark.parametrize("transforms", [[None], [Scale(2), Scale(3)]])
def test_loaded_rows_that_are_inputs_wait_for_nothing(transforms):
    form, table = StoredForm(), ExemplarTable(9)
    for number, transform in enumerate(transforms):
        store(form, table, raw(3 * number), transform)
    after = loaded(form)
    assert not after.unknown
    for transform in (None, Scale(5)):
        copy = ExemplarTable(9)
        copy.load_state_dict(table.state_dict())
        assert loaded(form).settle(transform, copy) == form.settle(transform, copy)


def test_loading_over_a_form_in_use():
    table = ExemplarTable(6)
    form, other = StoredForm(), StoredForm()
    store(form, table, raw(0), Scale(2))
    assert form.settle(Scale(3), table) == "after"
    form.load_state_dict(other.state_dict())
    assert (form.transform, form.unknown) == (None, False)
    assert form.settle(None, table) == "before"
