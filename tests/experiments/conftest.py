"""Data that every run of a test may train on."""

import numpy as np
import pytest

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
