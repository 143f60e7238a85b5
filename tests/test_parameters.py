"""avalanche_ext/parameters.py: parameters by name, and tensors that grow with them."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from avalanche_ext.parameters import ParameterSelection, grown


def model() -> nn.Module:
    return nn.ModuleDict(
        {
            "body": nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)),
            "head": nn.Linear(4, 2),
        }
    )


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (None, None, "body.0.weight body.0.bias body.1.weight body.1.bias head.weight"),
        ("body", None, "body.0.weight body.0.bias body.1.weight body.1.bias"),
        ("*.weight", "body.1", "body.0.weight head.weight"),
        (["head.bias", "body.0.*"], None, "body.0.weight body.0.bias head.bias"),
        (None, ["body", "head.b?as"], "head.weight"),
    ],
)
def test_patterns(include, exclude, expected):
    found = ParameterSelection(include, exclude).of(model())
    if include is None and exclude is None:
        expected += " head.bias"
    assert list(found) == expected.split()


def test_frozen_parameters_are_left_out():
    network, selection = model(), ParameterSelection("body")
    network["body"][0].requires_grad_(False)
    assert list(selection.of(network)) == ["body.1.weight", "body.1.bias"]
    network["body"][0].bias.requires_grad_(True)
    assert "body.0.bias" in selection.of(network)


@pytest.mark.parametrize(
    ("include", "exclude", "told"),
    [
        ("tail", None, "include: 'tail' matches no parameter of ModuleDict, which has"),
        (None, ["head", "hea"], "exclude: 'hea' matches no parameter"),
        (
            None,
            "*",
            r"no parameter of ModuleDict is selected: include=None and exclude",
        ),
        (3, None, "include must be names of parameters"),
        (None, [1], "exclude must be names of parameters"),
    ],
)
def test_bad_patterns(include, exclude, told):
    with pytest.raises(ValueError, match=told):
        ParameterSelection(include, exclude).of(model())


def test_a_frozen_model_is_refused():
    with pytest.raises(ValueError, match="the 6 parameters that match are frozen"):
        ParameterSelection().of(model().requires_grad_(False))


@pytest.mark.parametrize("model", [None, nn.Linear(2, 2).state_dict(), nn.Linear])
def test_what_is_no_model(model):
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got "):
        ParameterSelection().of(model)


def test_the_same_parameters_are_the_same_dictionary():
    network, selection = model(), ParameterSelection()
    first = selection.of(network)
    assert selection.of(network) is first
    network["head"] = nn.Linear(4, 3)  # a head that grew
    second = selection.of(network)
    assert second is not first
    assert second["head.weight"].shape == (3, 4)
    network["body"][0].weight.data = torch.zeros(3, 3)
    third = selection.of(network)
    assert third is not second
    network["more"] = nn.Linear(1, 1)
    assert "more.bias" in selection.of(network)
    assert not pickle.loads(pickle.dumps(selection)).selected


shapes = st.lists(st.integers(0, 4), min_size=1, max_size=3)


@given(shapes, st.data())
def test_old_entries_stay_where_they_were(shape, data):
    more = data.draw(
        st.lists(st.integers(0, 3), min_size=len(shape), max_size=len(shape))
    )
    larger = [a + b for a, b in zip(shape, more, strict=True)]
    values = torch.rand(shape)
    found = grown(values, torch.empty(larger))
    assert found.shape == torch.Size(larger)
    inside = found[tuple(slice(size) for size in shape)]
    assert torch.equal(inside, values)
    torch.testing.assert_close(found.sum(), values.sum())


def test_new_entries_are_filled():
    like = torch.full((2, 3), 7.0)
    found = grown(torch.zeros(2, 2), like, fill=like)
    assert found.tolist() == [[0, 0, 7], [0, 0, 7]]
    found[0, 2] = 1  # in memory of its own
    assert (like == 7).all()
    values = torch.ones(2, 3)
    assert grown(values, like) is values
    assert grown(values.half(), like.half()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (2,), (2, 3, 1)])
def test_what_cannot_grow_is_refused(shape):
    with pytest.raises(ValueError, match=r"has shape \(2, 3\) and cannot grow to"):
        grown(torch.zeros(2, 3), torch.zeros(shape))


def test_a_parameter_in_the_place_of_one_that_is_gone_is_seen():
    """Python gives the id of an object that is gone to the next one of its size."""
    owner = nn.Module()
    for name in ("weight", "held_0", "held_1"):
        owner.register_parameter(name, nn.Parameter(torch.zeros(3)))
    selection = ParameterSelection(exclude="held*")
    assert list(selection.of(owner)) == ["weight"]
    values = owner.held_1.data
    del owner.held_1
    owner.free = nn.Parameter(values)  # in the same memory too
    assert list(selection.of(owner)) == ["weight", "free"]
