"""Pickles that are loaded into the objects that are there already.

When it is pickled, each part of a root object is named by its place, the attributes
that lead to it. When it is loaded inside :func:`into`, the part at that place of
another root is filled, instead of a new object; whatever refers to it stays right.
Loaded in any other way the pickle makes new objects.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copyreg import __newobj__ as new_object  # type: ignore[attr-defined]
from types import SimpleNamespace
from typing import Any

import dill
from avalanche.core import BasePlugin
from avalanche.evaluation import PluginMetric
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import nn

_PARTS = (BasePlugin, EvaluationPlugin, ExemplarsBuffer, PluginMetric)

_root: ContextVar[Any] = ContextVar("root", default=None)
_waiting: ContextVar[dict[str, Any] | None] = ContextVar("waiting", default=None)


def parts(root: Any) -> dict[str, Any]:
    """The parts of ``root`` by place, itself among them.

    Parts are plugins, metrics, storage policies and whatever has a
    ``load_state_dict``. Of modules only those of the root's own attributes: others,
    such as a plugin's transforms, may belong to the data too.
    """
    found = {"": root}
    met = {id(root)}
    todo = deque([("", root, True)])
    while todo:
        place, value, modules = todo.popleft()
        for name, inner in _inner(value):
            if id(inner) in met:
                continue
            part = _is_part(inner) and (modules or not isinstance(inner, nn.Module))
            if part or isinstance(inner, (list, tuple, dict)):
                met.add(id(inner))
                below = f"{place}.{name}"
                if part:
                    found[below] = inner
                further = not part or isinstance(inner, nn.Module)
                todo.append((below, inner, modules and further))
    return found


def _inner(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, (list, tuple)):
        return enumerate(value)
    if isinstance(value, dict):  # an optimizer's state is by parameter
        return [item for item in value.items() if isinstance(item[0], (str, int))]
    attributes: dict[str, Any] = vars(value)
    return attributes.items()


def _is_part(value: Any) -> bool:
    kind: Any = type(value)
    plain = hasattr(value, "__dict__") and all(
        getattr(kind, name) is getattr(object, name)
        for name in ("__reduce__", "__reduce_ex__")
    )
    return plain and (isinstance(value, _PARTS) or hasattr(kind, "load_state_dict"))


def pickling(root: Any) -> Any:
    """``dill`` as the ``pickle_module`` of ``torch.save``, with the places of ``root``."""
    places = {id(part): place for place, part in parts(root).items()}

    class Pickler(dill.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if id(value) not in places:
                return NotImplemented
            make, arguments, *state = value.__reduce_ex__(2)
            if (
                make is not new_object
                or arguments != (type(value),)
                or any(items is not None for items in state[1:])
            ):
                return NotImplemented
            return _at, (places[id(value)], type(value)), *state

    return SimpleNamespace(
        __name__=dill.__name__, __version__=dill.__version__, Pickler=Pickler
    )


def _at(place: str, kind: type) -> Any:
    part = (_waiting.get() or {}).pop(place, None)
    if part is None or type(part).__qualname__ != kind.__qualname__:
        return new_object(kind)
    if not hasattr(kind, "__setstate__"):
        vars(part).clear()
    return part


@contextmanager
def into(root: Any) -> Iterator[None]:
    """Load into the parts of ``root``; where that fails they are left as they were."""
    found = parts(root)
    before = [(part, dict(vars(part))) for part in found.values()]
    tokens = _root.set(root), _waiting.set(found)
    try:
        yield
    except BaseException:
        for part, attributes in before:
            vars(part).clear()
            vars(part).update(attributes)
        raise
    finally:
        _root.reset(tokens[0])
        _waiting.reset(tokens[1])


def target() -> Any:
    """The root that is being loaded into; ``None`` outside of :func:`into`."""
    return _root.get()
