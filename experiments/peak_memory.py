"""The largest memory of one seed, not of all that this process ever ran."""

import sys
from collections.abc import Callable
from pathlib import Path

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def follow(device: str) -> Callable[[], float | None]:
    """Begin to follow the memory of the device, or of the process on a CPU.

    That of a process holds what it has imported, and data that were read before.

    :param device: ``"cpu"`` or ``"cuda"``.
    :return: a function of the largest memory since then in 10⁶ bytes. It returns None
        where the system knows the largest of the process's whole life only (it is not
        Linux, or ``/proc`` cannot be written), and that was reached earlier.
    """
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return lambda: torch.cuda.max_memory_allocated() / 1e6
    try:
        CLEAR.write_text("5", encoding="ascii")  # resets VmHWM: man 5 proc
        _high_water()
    except OSError:
        before = _of_life()
        return lambda: after if (after := _of_life()) > before else None
    return _high_water


def _high_water() -> float:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"no VmHWM in {STATUS}")


def _of_life() -> float:
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
