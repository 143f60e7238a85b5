"""experiments/table/cells.py: a cell as runs."""

from pathlib import Path

import pytest

from experiments import sources
from experiments.table import cells
from experiments.table.cells import Jobs, SeedRun, Training, Where, cell_run
from experiments.table.reading import read


@pytest.fixture
def table(protocols):
    return read("digits")


def test_a_cell_runs_as_the_protocol_says(table):
    where = Where(Path("there"), True, "cuda", Path("results"))
    run = cell_run(table.cells["er"], where, range(3, 7))
    assert (run.benchmark, run.method) == ("split-digits", "reservoir-replay")
    assert (run.epochs, run.hidden, run.lr) == (1, (10,), 0.05)
    assert run.set == ("mem_size=50",)
    assert run.seed_list == [3, 4, 5, 6]
    assert (run.data_root, run.download, run.device) == (Path("there"), True, "cuda")
    assert run.progress == "off"
    assert where.directory(table, table.cells["er"]) == Path("results/digits/er")


def test_data_are_read_once_for_all_cells(table, monkeypatch):
    read_times = []

    def read_arrays(*words):
        read_times.append(words)
        return sources.read_arrays(*words)

    monkeypatch.setattr(cells, "read_arrays", read_arrays)
    jobs = Jobs()
    made = [
        jobs(cell_run(table.cells[name], Where(), range(2))) for name in ("plain", "er")
    ]
    assert len(read_times) == 1
    assert made[0].arrays is made[1].arrays
    assert made[1].method_options["mem_size"] == 50


def test_a_seed_is_trained_as_run_trains_it(table):
    run = cell_run(table.cells["plain"], Where(), range(2))
    work = Training()
    results = [work(SeedRun("plain", run, seed)) for seed in (0, 1, 0)]
    for result in results:
        for name in ("train_seconds", "eval_seconds", "peak_memory_mb"):
            del result[name]
    assert results[0] == results[2] != results[1]
    assert [result["seed"] for result in results] == [0, 1, 0]


def test_seeds_are_sorted_into_two_rounds(table):
    found = {
        seed: {"average_accuracy": seed / 100, "backward_transfer": None}
        for seed in (1, 2, 3, 5, 7, 9)
    }
    accuracy, transfer = cells.comparisons(table.cells["er"], found, range(1, 4))
    assert accuracy.first.values == (1.0, 2.0, 3.0)
    assert accuracy.again.values == (5.0,)
    assert transfer.first.values == ()
    assert transfer.verdict == "not run"


def test_seeds_without_a_result_cost_nothing(table):
    found = {0: {"average_accuracy": 0.2}}
    (accuracy,) = cells.comparisons(table.cells["plain"], found, range(10**12))
    assert accuracy.first.values == (20.0,)


def test_a_method_to_come_has_no_results(table, tmp_path):
    assert cells.stored(table, table.cells["later"], Where(out=tmp_path)) == {}
