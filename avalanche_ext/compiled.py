"""Passes over the entries of parameters that torch makes several of, in one each.

A step of training on a CPU is bound by memory: what regularisers do at each step reads
and writes whole models, and one pass that does it all takes about half the time of
torch's three. They are compiled by numba when they are first called, which takes a
second, and kept beside this file or in the user's cache.

Their arguments are flat arrays of one length and one precision, as :func:`arrays` gives
them.
"""

import os
from collections.abc import Callable
from functools import wraps
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

_BLOCK = 2048  # entries that are summed up in their own precision
_SHARED = 32_768  # entries from which torch divides an operation among threads
_THREADS = 2  # among which torch's passes take as long as the one here, measured
_KINDS = (torch.float32, torch.float64)


def arrays(*tensors: Tensor) -> tuple[Any, ...] | None:
    """The entries of each as a flat array in the same memory, for the passes below.

    :return: ``None`` where torch is to do it: on other devices, for other numbers than
        single or double precision, where entries lie apart, for large tensors that torch
        divides among many threads, and where numba is told not to compile.
    """
    kind, entries = tensors[0].dtype, tensors[0].numel()
    if (
        kind not in _KINDS
        or (entries >= _SHARED and torch.get_num_threads() > _THREADS)
        or os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    ):
        return None
    if all(
        t.device.type == "cpu" and t.dtype == kind and t.is_contiguous()
        for t in tensors
    ):
        return tuple(flat(t) for t in tensors)
    return None


def flat(tensor: Tensor) -> Any:
    """The entries as an array in the same memory."""
    return tensor.detach().view(-1).numpy()


def _compiled(function: Callable[..., Any]) -> Callable[..., float]:
    found: list[Any] = []

    @wraps(function)
    def call(*arguments: Any) -> float:
        if not found:
            found.append(_made(function))
        try:
            value = found[0](*arguments)
        except (OSError, EOFError, UnpicklingError):
            # What is kept is damaged, or there is no room: nothing has run yet.
            found[0] = _made(function, kept=False)
            value = found[0](*arguments)
        return 0.0 if value is None else float(value)

    return call


def _made(function: Callable[..., Any], kept: bool = True) -> Any:
    import numba  # takes half a second, which is for those who have a penalty

    how = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract"},  # sums in any order; NaN stays NaN
    }
    try:
        return numba.njit(cache=kept, **how)(function)
    except RuntimeError:  # there is no folder to keep it in
        return numba.njit(**how)(function)


@_compiled
def pull(at: Any, anchor: Any, curvature: Any, gradient: Any) -> Any:
    """``gradient ← curvature · (at − anchor)``.

    :return: ``Σ gradient · (at − anchor)``, in double precision over short sums.
    """
    total = 0.0
    for begin in range(0, at.size, _BLOCK):
        block = slice(begin, begin + _BLOCK)  # indices from 0 on need no check
        x, x0, f, g = at[block], anchor[block], curvature[block], gradient[block]
        part = at.dtype.type(0)
        for i in range(x.size):
            away = x[i] - x0[i]
            g[i] = away * f[i]
            part += away * away * f[i]
        total += part
    return total


@_compiled
def advance(at: Any, last: Any, slope: Any, integral: Any) -> None:
    """``integral ← integral + slope · (at − last)`` and ``last ← at``."""
    for i in range(at.size):
        value = at[i]
        integral[i] += (value - last[i]) * slope[i]
        last[i] = value


@_compiled
def advance_and_pull(
    at: Any, last: Any, slope: Any, integral: Any, anchor: Any, curvature: Any
) -> Any:
    """:func:`advance`, then :func:`pull` into ``slope``."""
    total = 0.0
    for begin in range(0, at.size, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        x, x0, f = at[block], anchor[block], curvature[block]
        before, s, w = last[block], slope[block], integral[block]
        part = at.dtype.type(0)
        for i in range(x.size):
            w[i] += (x[i] - before[i]) * s[i]
            before[i] = x[i]
            away = x[i] - x0[i]
            s[i] = away * f[i]
            part += away * away * f[i]
        total += part
    return total
