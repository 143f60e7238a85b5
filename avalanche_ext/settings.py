"""What a part of a strategy was made with, in plain words: two runs are alike in that."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Set
from numbers import Integral, Real
from typing import Any


class TellsSettings:
    """A part of a strategy that tells what it was made with.

    The constructor begins with ``self._settings = settings_of(locals())``, or ends with
    what it has made of them where several words mean the same; what changes later
    (counters, a size that grows) is state and no setting.
    """

    _settings: Mapping[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of the constructor, by name: numbers, words, lists of them."""
        return dict(self._settings)


def settings_of(
    arguments: Mapping[str, Any], but: Collection[str] = ()
) -> dict[str, Any]:
    """Arguments in plain words.

    >>> settings_of({"self": None, "size": 3, "names": ("a", "b"), "loss": max})
    {'size': 3, 'names': ['a', 'b'], 'loss': 'max'}

    :param arguments: ``locals()`` at the beginning of a constructor.
    :param but: those that are no settings, such as a seed, a device, or a part that
        tells its own.
    """
    left_out = {"self", "__class__", *but}
    return {n: _plain(value) for n, value in arguments.items() if n not in left_out}


def differences(
    saved: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of each setting that differs; those that one of them does not
    know, being of another version, are no difference."""
    for name in saved:
        if name in given and saved[name] != given[name]:
            yield name, saved[name], given[name]


def _plain(value: Any) -> Any:
    """What is no number, word or collection is told by its name: objects of one class may
    differ in what cannot be compared."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Set):
        return sorted(map(_plain, value), key=str)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    name = getattr(value, "__qualname__", type(value).__qualname__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        told = ", ".join(f"{n}={_plain(getattr(value, n))!r}" for n in fields)
        return f"{name}({told})"
    return name
