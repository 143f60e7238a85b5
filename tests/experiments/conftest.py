"""Data that every run of a test may train on, and runs that were not trained."""

import json

import numpy as np
import pytest
from invented_runs import config_of, result_of

from experiments.data import from_arrays


@pytest.fixture(scope="session")
def blobs():
    """Six classes far apart: 26 rows each to train on, 10 to test."""
    draw = np.random.default_rng(0)
    centres = draw.integers(40, 215, (6, 4, 4))

    def part(n):
        y = np.tile(np.arange(6), n)
        noise = draw.integers(-25, 25, (len(y), 4, 4))
        return (centres[y] + noise).astype(np.uint8), y + 1

    return from_arrays(*part(26), *part(10), source="blobs")


@pytest.fixture
def make_run(tmp_path):
    """Write a run directory; keyword arguments replace fields of every result."""

    def make(name="split-digits-naive-class", seeds=(0,), config=True, **fields):
        for seed in seeds:
            folder = tmp_path / "runs" / name / f"seed-{seed}"
            folder.mkdir(parents=True)
            result = {**result_of(seed), **fields}
            (folder / "result.json").write_text(json.dumps(result))
            if config:
                settings = config_of(seed)
                (folder / "config.json").write_text(json.dumps(settings))
        return tmp_path / "runs" / name

    return make
