"""The one exception that means "the user can fix this"."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what was asked for; its text is one line naming value and fix."""


class Diverged(UserError):
    """Training that went to infinity."""


def unknown(kind: str, value: str, allowed: Iterable[str], more: str = "") -> UserError:
    """The error for a name that is not in a closed list.

    :param kind: what the name stands for, e.g. ``"method"``.
    :param allowed: the names that exist.
    :param more: a further way out, appended to the message.
    """
    names = list(allowed)
    close = difflib.get_close_matches(value, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return UserError(f"unknown {kind} {value!r}{hint}: use {', '.join(names)}{more}")
