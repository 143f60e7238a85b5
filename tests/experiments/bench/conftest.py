"""A bench in small, on random images."""

import pytest
from tiny_bench import TINY

from experiments.bench.workload import load


@pytest.fixture(autouse=True)
def _no_data(tmp_path, monkeypatch):
    """Without a folder data, images are random."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny():
    return load(None, TINY, rounds=2)
