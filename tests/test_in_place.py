"""avalanche_ext/in_place.py: which objects are filled, and which are made anew."""

import io

import dill
import pytest
import torch
from avalanche.core import BasePlugin
from torch import nn

from avalanche_ext import in_place


class Holder:
    """A root: what a strategy is to a checkpoint."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Plugin(BasePlugin):
    def __init__(self, **attributes):
        super().__init__()
        self.__dict__.update(attributes)


class Listed(list):
    """Has contents beside its attributes."""

    def load_state_dict(self, state):
        """Looks like a part."""


def saved(root):
    file = io.BytesIO()
    torch.save(root, file, pickle_module=in_place.pickling(root))
    file.seek(0)
    return file


def load(file, root=None):
    if root is None:
        return torch.load(file, pickle_module=dill)
    with in_place.into(root):
        return torch.load(file, pickle_module=dill)


def test_parts_are_found_by_the_shortest_way():
    layer, crop, inner = nn.Linear(1, 1), nn.Dropout(), Plugin()
    root = Holder(
        plugins=[Plugin(transform=crop, friend=inner), inner],
        model=nn.Sequential(layer),
        numbers=[1, 2],
        names={"a": Holder(), 0.5: Plugin(), "b": [inner]},
    )
    assert in_place.parts(root) == {
        "": root,
        ".plugins.0": root.plugins[0],
        ".plugins.1": inner,
        ".model": root.model,
        ".model._modules.0": layer,
    }


def test_parts_are_filled_and_references_follow():
    shared = Plugin(value=1)
    file = saved(Holder(a=shared, b=[Plugin(to=shared)], c=(3, shared)))
    mine = Plugin(value=2, stale=True)
    other = Plugin(to=None)
    root = Holder(a=mine, b=[other], d="gone")
    assert load(file, root) is root
    assert root.a is mine
    assert root.b[0] is other
    assert other.to is mine
    assert root.c == (3, mine)
    assert vars(mine) == vars(shared)
    assert not hasattr(root, "d")
    assert in_place.target() is None


def test_a_pickle_loads_anywhere():
    root = Holder(a=Plugin(value=1))
    copy = load(saved(root))
    assert copy is not root
    assert copy.a is not root.a
    assert copy.a.value == 1


def test_what_is_not_there_or_of_another_type_is_made():
    file = saved(Holder(a=Plugin(value=1), b=Plugin(value=2)))
    other = nn.Dropout()
    root = Holder(a=other)
    load(file, root)
    assert (root.a.value, root.b.value) == (1, 2)
    assert type(other) is nn.Dropout
    assert other.p == 0.5


def test_one_object_is_never_filled_twice():
    """Where the saved root had two and this one has the same twice."""
    file = saved(Holder(a=Plugin(value=1), b=Plugin(value=2)))
    one = Plugin()
    root = Holder(a=one, b=one)
    load(file, root)
    assert root.a is one
    assert (root.a.value, root.b.value) == (1, 2)


def test_objects_with_contents_are_made_anew():
    root = Holder(a=Listed([1]))
    mine = Listed([7, 8])
    fresh = load(saved(root), Holder(a=mine))
    assert fresh.a == [1]
    assert mine == [7, 8]


class Unreadable:
    def __reduce__(self):
        return _fail, ()


def _fail():
    raise OSError("no such disk")


def test_failing_leaves_all_as_it_was():
    root = Holder(a=Plugin(value=1))
    before = dict(vars(root.a))
    file = saved(Holder(a=Plugin(value=2), b=Unreadable()))
    with pytest.raises(OSError, match="no such disk"):
        load(file, root)
    assert vars(root.a) == before
    assert vars(root) == {"a": root.a}
    assert in_place.target() is None
