"""experiments/peak_memory.py: what was large before does not count."""

import numpy as np
import pytest
import torch

from experiments import peak_memory

MEGABYTES = 200


def use(megabytes):
    return float(np.ones(megabytes * 125_000).sum())  # written to, and given back


def test_each_seed_has_a_peak_of_its_own():
    if not peak_memory.STATUS.exists():
        pytest.skip("the system is not Linux")
    peaks = []
    for megabytes in (0, MEGABYTES, 0):
        peak = peak_memory.follow("cpu")
        use(megabytes)
        peaks.append(peak())
    if None in peaks:
        pytest.skip("/proc/self/clear_refs cannot be written here")
    first, large, last = peaks
    assert large - first > 0.9 * MEGABYTES
    assert large - last > 0.9 * MEGABYTES


def test_a_peak_below_an_earlier_one_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(peak_memory, "CLEAR", tmp_path / "none" / "clear_refs")
    lives = iter([50.0, 70.0, 70.0, 70.0])
    monkeypatch.setattr(peak_memory, "_of_life", lambda: next(lives))
    assert peak_memory.follow("cpu")() == 70.0
    assert peak_memory.follow("cpu")() is None


def test_a_status_without_the_figure_is_no_error(monkeypatch, tmp_path):
    for name in ("CLEAR", "STATUS"):
        (tmp_path / name).write_text("VmRSS: 1 kB\n")
        monkeypatch.setattr(peak_memory, name, tmp_path / name)
    monkeypatch.setattr(peak_memory, "_of_life", iter([1.0, 2.0]).__next__)
    assert peak_memory.follow("cpu")() == 2.0


def test_of_life_is_in_megabytes():
    rows = torch.ones(50_000_000)
    assert rows.nbytes / 1e6 < peak_memory._of_life() < 1e6
