"""experiments/bench: every case in small, and what its command writes and refuses."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bench import TINY

from experiments import training
from experiments.bench import command, online, strategies, whole_run
from experiments.bench.cases import CASES, Case, choose
from experiments.bench.command import Bench, run_bench
from experiments.bench.results import case_record, case_table
from experiments.bench.timing import Measured
from experiments.bench.workload import Row, load, random_images
from experiments.errors import UserError


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (strategies.ours, "bytes"),
        (strategies.upstream, "floats"),
        (strategies.upstream, "images"),
    ],
)
def test_contenders_replay_as_many_rows_in_as_many_iterations(tiny, make, rows):
    seen = []
    with warnings.catch_warnings(record=True):  # upstream's, of itself
        warnings.simplefilter("always")
        strategy = make((8,), 10, 120)
        strategy.train(strategies.experience(tiny, 0, 140, rows), eval_streams=[])
        strategy.model.register_forward_hook(lambda m, i, out: seen.append(len(i[0])))
        before = strategy.clock.total_iterations
        strategy.train(strategies.experience(tiny, 140, 290, rows), eval_streams=[])
    assert strategy.clock.total_iterations - before == 15
    assert seen == [20] * 15


def test_a_late_stage_is_passed_once_by_all_rounds_and_an_early_one_in_each(tiny):
    runs = []

    def begin():
        run = []
        runs.append(run)
        return lambda n: (run.append(n), n)[1]

    for _ in range(2):
        late = online._around(tiny, 100, begin)
        late()
        late()
    assert runs == [[80, 20, 20], [80, 20, 20]]  # two rounds around 100
    runs.clear()
    early = online._around(tiny, 15, begin)
    early()
    early()
    assert runs == [[8, 15], [8, 15]]


def test_every_case_runs(tmp_path, capsys):
    out = tmp_path / "results" / "bench.json"
    run_bench(Bench(repeats=1, out=out), TINY)
    text = capsys.readouterr().out
    assert "random images" in text
    record = json.loads(out.read_text(encoding="utf-8"))
    assert str(tmp_path) not in out.read_text(encoding="utf-8")
    assert record["command"] == "python -m experiments bench --repeats 1"
    assert record["options"] == {"repeats": 1, "threads": 1}
    assert "random images" in record["data"]["source"]
    assert record["machine"]["processor"]
    assert record["versions"]["torch"]
    assert list(record["cases"]) == list(CASES)
    for case in record["cases"].values():
        for row in case["rows"].values():
            assert "ours" in row["contenders"]
            for one in row["contenders"].values():
                assert one.get("error") is None
                assert len(one["values"]) == 1
                assert one["median"] > 0
    rows = record["cases"]["online-replay"]["rows"]["sub-experience 8"]
    assert set(rows["ratios"]) == {
        "ours / bare",
        "upstream / ours",
        "upstream, images / ours",
        "upstream default / ours",
    }
    assert "ours / sub-experience 4" in rows["growth"]


def test_a_workload_wraps_around_and_scales(tiny):
    assert len(tiny.arrays.y_train) == 290
    part = tiny.part(280, 300, floats=True)
    assert (part.y_train[10:] == tiny.arrays.y_train[:10]).all()
    assert part.x_train.dtype == "float32"
    assert part.maximum is None
    assert 0 <= part.x_train.min() <= part.x_train.max() <= 1


def test_images_are_read_from_the_data_root(tmp_path):
    images = random_images(60, 40)
    names = ("x_train", "y_train", "x_test", "y_test")
    torch_free = {name: getattr(images, name) for name in names}
    np.savez(tmp_path / "mnist.npz", **torch_free)
    work = load(tmp_path, TINY, rounds=2)
    assert work.data == "MNIST"
    assert len(work.arrays.y_test) == 40
    (tmp_path / "data").symlink_to(tmp_path)  # what is taken without a name
    assert load(None, TINY, rounds=2).data == "MNIST"
    (tmp_path / "mnist.npz").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        load(tmp_path, TINY, rounds=2)


def test_a_folder_that_was_named_and_has_no_mnist_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no MNIST in --data-root .*elsewhere: look"):
        run_bench(Bench(out=tmp_path / "b.json", data_root=tmp_path / "elsewhere"))
    assert list(tmp_path.iterdir()) == []


def test_ours_does_in_a_whole_run_what_the_runner_does(tiny, monkeypatch):
    trained = []

    def train_stream(strategy, *rest):
        weights = [p.detach().clone() for p in strategy.model.parameters()]
        trained.append((strategy, weights))
        return training.train_stream(strategy, *rest)

    monkeypatch.setattr(whole_run, "train_stream", train_stream)
    (row,) = whole_run.split_rows(tiny)
    row.contenders["ours"]()()
    ((strategy, weights),) = trained
    assert isinstance(strategy, training.Trainer)
    kinds = [type(plugin).__name__ for plugin in strategy.plugins]
    assert kinds[:3] == ["RehearsalPlugin", "ResidentDataPlugin", "ProgressPlugin"]
    progress = strategy.plugins[2]
    assert progress._bar.total == progress.iterations > 0
    assert progress._bar.disable
    memory = strategy.plugins[0].buffer
    assert memory.max_size == len(memory) == TINY.memory
    assert (strategy.train_mb_size, strategy.eval_mb_size) == (10, 256)
    # The network of the other contenders, before any step.
    same = strategies.network(whole_run.HIDDEN)
    assert all(map(torch.equal, weights, same.parameters()))
    assert not torch.equal(weights[0], next(strategy.model.parameters()))


def test_an_interruption_leaves_the_cases_that_ended(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    row = Row("a row", {"ours": lambda: lambda: 1.0})
    for name, rows in (("one", lambda work: [row]), ("two", lambda w: interrupted())):
        monkeypatch.setitem(CASES, name, Case(name, "for a test", "units", rows))
    out = tmp_path / "b.json"
    with pytest.raises(KeyboardInterrupt):
        run_bench(Bench(("one", "two"), 1, out), TINY)
    record = json.loads(out.read_text())
    assert list(record["cases"]) == ["one"]
    assert record["missing"] == ["two"]
    run_bench(Bench(("one",), 1, out), TINY)
    assert "missing" not in json.loads(out.read_text())


def test_a_file_that_cannot_be_written_in_the_end_is_told(tmp_path, monkeypatch):
    def refuse(path, value):
        raise OSError(28, "No space left on device")

    _invented(monkeypatch, {"ours": lambda: lambda: 1.0})
    monkeypatch.setattr(command.store, "write_json", refuse)
    with pytest.raises(UserError, match=r"cannot write .*b\.json .*No space left"):
        run_bench(Bench(("invented",), 1, tmp_path / "b.json"), TINY)


def _invented(monkeypatch, contenders):
    row = Row("a row", contenders)
    case = Case("invented", "for a test", "units", lambda work: [row])
    monkeypatch.setitem(CASES, "invented", case)


def _broken():
    raise RuntimeError("broken")


def test_upstreams_failure_is_shown_and_the_case_goes_on(tmp_path, monkeypatch, capsys):
    good = lambda: lambda: 1.0  # noqa: E731
    _invented(monkeypatch, {"ours": good, "upstream": _broken, "bare": good})
    out = run_bench(Bench(("invented",), 2, tmp_path / "b.json"), TINY)
    text = capsys.readouterr().out
    assert "RuntimeError: broken" in text
    row = json.loads(out.read_text())["cases"]["invented"]["rows"]["a row"]
    assert row["contenders"]["upstream"] == {"error": "RuntimeError: broken"}
    assert list(row["ratios"]) == ["ours / bare"]


def test_our_own_failure_is_an_error_after_the_numbers_are_written(
    tmp_path, monkeypatch
):
    good = lambda: lambda: 1.0  # noqa: E731
    _invented(monkeypatch, {"ours": _broken, "upstream": good, "bare": good})
    out = tmp_path / "b.json"
    with pytest.raises(UserError, match="invented, a row, ours: RuntimeError: broken"):
        run_bench(Bench(("invented",), 1, out), TINY)
    assert "invented" in json.loads(out.read_text())["cases"]


def test_nothing_measured_is_an_error(tmp_path, monkeypatch):
    _invented(monkeypatch, {"upstream": _broken})
    with pytest.raises(UserError, match="RuntimeError: broken"):
        run_bench(Bench(("invented",), 1, tmp_path / "b.json"), TINY)


def test_the_table_says_who_is_compared_with_whom():
    rows = [
        Row("small", dict.fromkeys(("ours", "bare", "upstream"), None)),
        Row("large", dict.fromkeys(("ours", "bare"), None), grown_from="small"),
    ]
    results = {
        ("small", "ours"): Measured([2.0]),
        ("small", "bare"): Measured([1.0]),
        ("small", "upstream"): Measured([3000.0]),
        ("large", "ours"): Measured([3.0]),
        ("large", "bare"): Measured([0.5]),
    }
    case = Case("name", "summary", "µs", lambda work: rows)
    lines = case_table(case, rows, results).splitlines()
    assert lines[0] == "name: summary"
    head = " ".join(lines[1].split())
    assert head == "µs ours upstream bare ours / bare upstream / ours"
    assert lines[2].split()[:5] == ["small", "2.00", "3,000", "1.00", "2.00"]
    assert lines[3].split()[:4] == ["large", "3.00", "–", "0.50"]
    assert lines[4].split(":")[0].strip() == "large / small"
    assert "ours 1.50" in lines[4]
    record = case_record(case, rows, results)
    assert record["rows"]["large"]["growth"]["ours / small"]["median"] == 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Bench(("naive-iteratio",)), "did you mean 'naive-iteration'.*use .*insertion"),
        (Bench(repeats=0), "--repeats 0: use 1 or more"),
    ],
)
def test_bad_options_are_told_before_anything_runs(options, message):
    with pytest.raises(UserError, match=message):
        run_bench(options)


def test_a_place_that_cannot_take_the_file_is_told_before_anything_runs(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(command, "load", _broken)
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "bench.json"):
        with pytest.raises(UserError, match="cannot write"):
            run_bench(Bench(out=place))


def test_names_choose_cases_once_and_none_chooses_all():
    assert [case.name for case in choose(["draw", "insertion", "draw"])] == [
        "draw",
        "insertion",
    ]
    assert [case.name for case in choose([])] == list(CASES)


def test_the_options_load_without_torch():
    code = (
        "import sys, experiments.bench.command; "
        "assert not {'torch', 'avalanche'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
