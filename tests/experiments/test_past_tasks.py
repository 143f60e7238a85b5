"""Under the defaults of admission "score" every past task keeps 5 % of the memory.

On split-digits always, on Split MNIST where it is found in the folder ``DATA_ROOT``, by
default ``data``.
"""

import os
from pathlib import Path

import pytest

from experiments.data import class_groups
from experiments.errors import UserError
from experiments.job import Job
from experiments.methods import method_options
from experiments.options import Run
from experiments.sources import read_arrays
from experiments.training import train_seed

DATA_ROOT = Path(os.environ.get("DATA_ROOT", "data"))
STREAMS = {
    "batch": {},
    "online": {"stream_size": 10},
    "wrong labels": {"stream_size": 10, "label_noise": 0.2},
}


def shares(benchmark, mem_size, **options):
    """Of each class in the memory at the end of each experience."""
    try:
        arrays = read_arrays(benchmark, DATA_ROOT)
    except UserError as error:
        pytest.skip(f"DATA_ROOT={DATA_ROOT}: {error}")
    run = Run(benchmark, "multi-strategy-replay", progress="off", epochs=1, **options)
    own = method_options(run.method, [f"mem_size={mem_size}", "admission=score"])
    job = Job(run, own, arrays, class_groups(arrays, 5, benchmark), "cpu")
    steps = train_seed(job, 0)["memory_composition"]
    assert [sum(step.values()) for step in steps] == [mem_size] * 5
    for step in steps:
        yield [
            (step.get(str(2 * task), 0) + step.get(str(2 * task + 1), 0)) / mem_size
            for task in range(5)
        ]


def check(tasks):
    """Each past task has 5 % at least, and far more by balance."""
    for met, found in enumerate(tasks, start=1):
        assert min(found[:met]) >= 0.05
        assert found[met:] == [0] * (5 - met)
        assert min(found[:met]) >= 0.9 / met


@pytest.mark.parametrize("stream", STREAMS)
def test_of_split_digits(stream):
    check(shares("split-digits", 100, **STREAMS[stream]))


def test_of_imbalanced_split_digits():
    """Where one task has ten times the rows of the others."""
    samples = (200, 20, 20, 20, 20)
    for met, found in enumerate(
        shares("split-digits", 100, samples=samples, stream_size=10), start=1
    ):
        assert min(found[:met]) >= 0.05


@pytest.mark.parametrize("stream", STREAMS)
def test_of_split_mnist(stream):
    check(shares("split-mnist", 300, samples=(1000,), **STREAMS[stream]))
