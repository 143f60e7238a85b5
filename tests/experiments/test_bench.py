"""experiments/bench: its clockwork, its bare loops, and every case in small."""

import itertools
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import training
from experiments.bench import command, loops, online, strategies, whole_run
from experiments.bench.cases import CASES, Case, choose
from experiments.bench.command import Bench, run_bench
from experiments.bench.results import case_record, case_table
from experiments.bench.timing import Measured, interleave, ratio, spread, stopwatch
from experiments.bench.workload import Row, Sizes, load, random_images
from experiments.errors import UserError

TINY = Sizes(
    train=150,
    warm=140,
    test=50,
    memory=128,
    stages=(4, 8),
    capacities=(30, 60),
    stored=50,
    offered=2,
    drawn=3,
    experiences=(1, 2),
    scored=20,
    covered=(60, 8, 10),
    run=150,
    rotations=2,
)


@pytest.fixture(autouse=True)
def _no_data(tmp_path, monkeypatch):
    """Without a folder data, images are random."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny():
    return load(None, TINY, rounds=2)


class TestTiming:
    def test_the_stopwatch_leaves_out_preparation_and_divides_by_units(self):
        now = [0.0]

        def pass_by(seconds, result):
            now[0] += seconds
            return result

        observe = stopwatch(
            lambda: pass_by(100.0, lambda: pass_by(3.0, 6)), 1e3, clock=lambda: now[0]
        )
        assert observe() == pytest.approx(500.0)  # ms a unit

    def test_rounds_interleave_in_changing_order_and_the_first_is_discarded(self):
        seen = []

        def maker(name, costs):
            costs = iter(costs)
            return lambda: lambda: (seen.append(name), next(costs))[1]

        measured = interleave(
            {("row", "a"): maker("a", [9, 1, 2]), ("row", "b"): maker("b", [9, 3, 4])},
            repeats=2,
        )
        assert seen == ["b", "a", "a", "b", "b", "a"]
        assert measured["row", "a"].values == [1, 2]
        assert measured["row", "b"].values == [3, 4]

    def test_a_contender_that_fails_drops_out_and_the_others_go_on(self):
        def broken():
            raise TypeError("no\n  such thing")

        late = itertools.count()

        def breaks_later():
            if next(late) == 1:
                raise ValueError
            return 1.0

        measured = interleave(
            {
                ("row", "making"): broken,
                ("row", "observing"): lambda: breaks_later,
                ("row", "good"): lambda: lambda: 2.0,
            },
            repeats=3,
        )
        assert measured["row", "making"].error == "TypeError: no such thing"
        assert measured["row", "observing"].error == "ValueError"
        assert measured["row", "observing"].spread is None
        assert measured["row", "good"].values == [2.0, 2.0, 2.0]
        assert ratio(measured["row", "making"], measured["row", "good"]) is None

    def test_median_quartiles_and_ratios_by_round(self):
        assert spread([4.0]) == (4.0, 4.0, 4.0)
        assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == (3.0, 2.0, 4.0)
        # The median of the ratios (2), not the ratio of the medians (20 / 1).
        above, below = Measured([2.0, 20.0, 200.0]), Measured([1.0, 100.0, 1.0])
        assert ratio(above, below).median == 2.0
        assert ratio(above, Measured([1.0, 0.0, 1.0])) is None


class TestBareLoops:
    @pytest.mark.parametrize("batch", [7, 40])
    def test_the_reservoir_keeps_every_row_equally_often(self, batch):
        torch.manual_seed(0)
        kept = torch.zeros(40)
        for seed in range(2000):
            memory = loops.ReservoirMemory(10, seed)
            rows = torch.arange(40)
            for some in rows.split(batch):
                memory.add(some[:, None], some)
            assert len(memory) == len(set(memory.y.tolist())) == 10
            assert torch.equal(memory.x[:, 0], memory.y)
            kept[memory.y] += 1
        # 2000 draws of probability 1/4: five standard deviations are 97.
        assert (kept - 500).abs().max() < 97

    def test_the_ring_keeps_the_last_rows_of_each_class(self):
        memory = loops.RingMemory(4, classes=2)
        rows = torch.arange(14)
        for some in rows.split(5):
            memory.add(some, some % 2)
        assert sorted(memory.x.tolist()) == [10, 11, 12, 13]

    @pytest.mark.parametrize("stored", [50, 5000])
    def test_draws_are_distinct_rows(self, stored):
        memory = loops.ReservoirMemory(stored)
        rows = torch.arange(stored)
        memory.add(rows, rows)
        x, y = memory.draw(20)
        assert len(set(x.tolist())) == 20
        assert torch.equal(x, y)

    def test_evaluation_counts_right_answers(self):
        x = torch.eye(3)
        parts = [(x, torch.tensor([0, 1, 0])), (x, torch.tensor([0, 1, 2]))]
        assert loops.evaluate(torch.nn.Identity(), parts, 2) == pytest.approx(
            [2 / 3, 1]
        )

    def test_training_replays_and_steps_once_a_batch(self, tiny):
        x, y = strategies.tensors(tiny, 0, 30, floats=True)
        model = strategies.network((8,))
        rows = []
        model.register_forward_hook(lambda m, i, out: rows.append(len(out)))
        memory = loops.ReservoirMemory(20)
        batches = torch.arange(30).split(10)
        optimizer = strategies.descent(model)
        assert loops.train(model, optimizer, x, y, batches, memory, 10) == 3
        assert rows == [10, 20, 20]
        assert memory.seen == 30


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
