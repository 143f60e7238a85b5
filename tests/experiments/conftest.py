"""Data that every run of a test may train on, and runs that were not trained."""

import json

import pytest
from invented_runs import config_of, result_of
from small_images import small_images


@pytest.fixture(scope="session")
def blobs():
    """Six classes far apart: 26 rows each to train on, 10 to test."""
    far = {"classes": 6, "centres": (40, 215), "noise": 25, "first": 1}
    return small_images(26, 10, **far, source="blobs")


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
