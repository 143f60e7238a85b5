"""Every parameter of every public function and class is documented."""

import inspect
import re
from types import ModuleType

import pytest

import avalanche_ext


def public():
    """The names of ``__all__``; of a module among them its own functions."""
    for name in avalanche_ext.__all__:
        part = getattr(avalanche_ext, name)
        if not isinstance(part, ModuleType):
            yield name, part
            continue
        for inner, value in vars(part).items():
            own = getattr(value, "__module__", None) == part.__name__
            if callable(value) and own and not inner.startswith("_"):
                yield f"{name}.{inner}", value


CALLABLES = dict(public())


def undocumented(part):
    """Parameters without a ``:param name:`` in the docstring, and the other way."""
    documented = re.findall(r"^\s*:param (\w+):", part.__doc__ or "", re.MULTILINE)
    return set(inspect.signature(part).parameters) ^ set(documented)


@pytest.mark.parametrize("name", CALLABLES)
def test_each_parameter_is_documented(name):
    assert not undocumented(CALLABLES[name])


def test_functions_of_modules_are_looked_at_too():
    assert {"checkpoint.save", "checkpoint.load", "reservoir_replay"} <= set(CALLABLES)

    def function(a, *, b):
        """One of two.

        :param a: the first.
        :param c: of another time.
        """

    assert undocumented(function) == {"b", "c"}
