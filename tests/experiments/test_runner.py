"""experiments/runner.py: which seeds run, what is written, what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from experiments import origin, report, runner, training
from experiments.__main__ import main
from experiments.errors import UserError
from experiments.options import Run
from experiments.summary import COLUMNS

NAME = "own-naive-class-experiences=2"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with a data set of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    draw = np.random.default_rng(0)
    y = np.tile(np.arange(4), 10)
    x = (draw.integers(0, 60, (40, 3, 3)) + 45 * y[:, None, None]).astype(np.uint8)
    np.savez("data/own.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return tmp_path


def line(*more):
    return ["run", "own", "naive", "--experiences", "2", "--epochs", "1", *more]


def results(folder):
    found = {}
    for path in sorted(folder.glob("**/result.json")):
        result = json.loads(path.read_text())
        for name in ("train_seconds", "eval_seconds", "peak_memory_mb"):
            del result[name]
        found[result["seed"]] = result
    return found


@pytest.fixture
def fake(monkeypatch):
    """Training that only notes its seeds, and a page without its figures."""
    trained = []

    def train_seed(job, seed):
        if fail["at"] == seed:
            raise fail["with"]
        trained.append(seed)
        return {"format": 1, "seed": seed, **dict.fromkeys(COLUMNS, 0.5)}

    def write_report(runs, output):
        output.write_text("page")
        return output

    fail = {"at": None}
    monkeypatch.setattr(training, "train_seed", train_seed)
    monkeypatch.setattr(report, "write_report", write_report)
    trained_and_fail = (trained, fail)
    return trained_and_fail


def test_a_run_from_end_to_end(place, capsys):
    assert main(line("--seeds", "2")) == 0
    told = capsys.readouterr().out
    run = place / "runs" / NAME
    assert "own, class-incremental, 2 experiences, 1 epoch: naive" in told
    assert "mean" in told
    assert str(run / "report.html").removeprefix(f"{place}/") in told
    assert sorted(p.name for p in run.iterdir()) == ["report.html", "seed-0", "seed-1"]
    config = json.loads((run / "seed-1" / "config.json").read_text())
    used = {
        **{"benchmark": "own", "method": "naive", "scenario": "class"},
        **{"experiences": 2, "stream_size": None, "seeds": 2, "first_seed": 0},
        **{"epochs": 1, "iterations": None, "samples": [], "label_noise": 0.0},
        **{"validation": 0.0, "task_labels": False, "head": "all"},
        **{"angles": "random"},
        **{"batch_size": 10, "eval_batch_size": 256, "model": "mlp"},
        **{"hidden": [100, 100], "init": "xavier", "optimizer": "sgd", "lr": 0.1},
        **{"momentum": 0.0, "reset_optimizer": False, "data_root": "data"},
        **{"download": False, "threads": 1, "out": "runs", "progress": "auto"},
    }
    assert used.items() <= config["options"].items()
    names = {field.name for field in dataclasses.fields(Run)}
    assert set(config["options"]) == names - {"set"}
    assert config["options"]["device"] in ("cpu", "cuda")
    assert (
        config["command"] == f"python -m experiments {' '.join(line('--seeds', '2'))}"
    )
    assert main(["report", str(run), "--output", "page.html"]) == 0
    assert "naive" in (place / "page.html").read_text()


def test_two_runs_of_a_seed_are_the_same_bit_for_bit(place):
    for out in ("a", "b"):
        assert main(line("--seeds", "1", "--device", "cpu", "--out", out)) == 0
    assert results(place / "a") == results(place / "b") != {}


def test_an_interrupted_run_goes_on_with_the_missing_seeds(place, fake, capsys):
    trained, fail = fake
    fail.update({"at": 1, "with": KeyboardInterrupt()})
    assert main(line()) == 130
    assert [p.name for p in (place / "runs" / NAME).iterdir()] == ["seed-0"]
    fail["at"] = None
    assert main(line()) == 0
    assert trained == [0, 1, 2]
    assert f"seed 0: already in runs/{NAME}/seed-0" in capsys.readouterr().err
    # More seeds of the same are no other configuration.
    assert main(line("--seeds", "2", "--first-seed", "2")) == 0
    assert trained == [0, 1, 2, 3]


def test_a_seed_that_fails_leaves_nothing_and_earlier_ones_stay(place, fake, capsys):
    _, fail = fake
    fail.update({"at": 1, "with": UserError("no")})
    assert main(line()) == 2
    assert capsys.readouterr().err.splitlines() == [
        "seed 0: accuracy 50.00 %, 1.0 s",
        "error: no",
    ]
    assert [p.name for p in (place / "runs" / NAME).iterdir()] == ["seed-0"]


def test_nothing_is_written_where_the_loss_is_no_number(place, capsys):
    assert main(line("--lr", "1e30")) == 2
    told = capsys.readouterr().err
    for part in ("the loss is", "iteration", "of experience 1", "learning rate 1e+30"):
        assert part in told
    assert not (place / "runs").exists()


def test_other_options_have_a_folder_of_their_own(place, fake):
    """The README's second command after its first."""
    trained, _ = fake
    command = "run own reservoir-replay --experiences 2 --seeds 2 --set"
    for size in (200, 30, 200):
        assert main([*command.split(), f"mem_size={size}", "batch_size_mem=5"]) == 0
    assert trained == [0, 1, 0, 1]
    shared = "own-reservoir-replay-class-experiences=2"
    assert sorted(path.name for path in (place / "runs").iterdir()) == [
        f"{shared}-batch_size_mem=5",
        f"{shared}-mem_size=30-batch_size_mem=5",
    ]
    for folder, size in zip(sorted((place / "runs").iterdir()), (200, 30), strict=True):
        for seed in (0, 1):
            config = json.loads((folder / f"seed-{seed}" / "config.json").read_text())
            assert config["method_options"]["mem_size"] == size


def test_results_of_other_options_are_refused_and_replaced_on_request(
    place, fake, capsys
):
    """As those of an earlier version with other defaults would be."""
    trained, _ = fake
    assert main(line("--seeds", "2")) == 0
    for path in (place / "runs" / NAME).glob("seed-*/config.json"):
        path.write_text(path.read_text().replace('"lr": 0.1', '"lr": 0.5'))
    capsys.readouterr()
    assert main(line("--seeds", "2")) == 2
    told = capsys.readouterr().err
    for part in ("seed-0 was run with --lr 0.5 (now 0.1)", "--out", "--overwrite"):
        assert part in told
    assert trained == [0, 1]
    assert main(line("--seeds", "1", "--overwrite")) == 0
    assert trained == [0, 1, 0]
    # The other seed was of the old options: it would have mixed with the new ones.
    assert list(results_there(place)) == ["seed-0"]


def results_there(place):
    return [p.parent.name for p in (place / "runs" / NAME).glob("*/result.json")]


def test_changed_data_are_noticed(place, fake, capsys):
    assert main(line("--seeds", "1")) == 0
    with np.load("data/own.npz") as stored:
        arrays = dict(stored)
    np.savez("data/own.npz", **{**arrays, "x_test": arrays["x_test"] + 1})
    assert main(line("--seeds", "1")) == 2
    assert "other data (now data/own.npz)" in capsys.readouterr().err


def test_a_memory_that_cannot_serve_is_refused_before_anything(place, capsys):
    own = "run own er-ring --experiences 2 --set mem_size=3 batch_size_mem=2"
    assert main(own.split()) == 2
    assert "a memory of 3 rows is smaller than the 4 classes" in capsys.readouterr().err
    small = "run own reservoir-replay --experiences 2 --set mem_size=3"
    assert main(small.split()) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "batch_size_mem=10" in told
    assert not (place / "runs").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_work(place, fake, capsys):
    trained, _ = fake
    (place / "file").write_text("")
    assert main(line("--out", "file")) == 2
    assert "cannot write to" in capsys.readouterr().err
    assert trained == []


def test_inputs_that_the_model_cannot_take_are_refused(place, capsys):
    assert main(line("--model", "cnn")) == 2
    told = capsys.readouterr().err
    assert "--model cnn takes images of 4×4 or more" in told
    assert not (place / "runs").exists()


def test_a_single_update_that_breaks_the_weights_ends_the_run(place, capsys):
    """No loss of training comes after it."""
    update = ("--batch-size", "100", "--seeds", "1")
    assert main(line("--lr", "1e38", "--experiences", "1", *update)) == 2
    told = capsys.readouterr().err
    assert "in the evaluation after experience 1" in told
    assert "learning rate 1e+38: try --lr 0.1," in told
    assert not (place / "runs").exists()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("rate", ["3e38", "1e39", "1e200"])
def test_a_step_that_no_weight_can_take_is_told_in_one_line(
    place, capsys, optimizer, rate
):
    rate = ("--lr", rate, "--optimizer", optimizer)
    assert main(line("--seeds", "1", *rate)) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert f"with learning rate {float(rate[1]):g}: try --lr 0.1" in told
    assert not (place / "runs").exists()


def test_what_torch_cannot_do_otherwise_is_not_called_a_long_step():
    with pytest.raises(RuntimeError, match="shapes"), training._steps_that_fit(0.1):
        raise RuntimeError("shapes differ")


def test_a_run_tells_how_it_gets_on(place, capsys):
    assert main(line("--seeds", "2")) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [one.partition(" accuracy")[0] for one in lines] == [
        *("seed 0, experience 1 of 2:", "seed 0, experience 2 of 2:", "seed 0:"),
        *("seed 1, experience 1 of 2:", "seed 1, experience 2 of 2:", "seed 1:"),
    ]
    for result in results(place / "runs").values():
        accuracy = 100 * result["average_accuracy"]
        told = f"seed {result['seed']}: accuracy {accuracy:.2f} %,"
        assert [one for one in lines if one.startswith(told)]
        last = [one for one in lines if one.startswith(f"seed {result['seed']}, ")][-1]
        assert f"experience 2 of 2: accuracy {accuracy:.2f} % over" in last
    assert main(line("--seeds", "1", "--progress", "off", "--out", "quiet")) == 0
    assert capsys.readouterr().err == ""


def test_cuda_is_refused_where_there_is_none(place, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(line("--device", "cuda")) == 2
    assert "--device cuda: torch finds no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("figure", ["high", True, [0.5], "0.5"])
def test_a_stored_figure_that_is_no_number_is_refused(place, fake, capsys, figure):
    assert main(line("--seeds", "1")) == 0
    path = place / "runs" / NAME / "seed-0" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps({**result, "average_accuracy": figure}))
    capsys.readouterr()
    assert main(line("--seeds", "1")) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "result.json cannot be read (average_accuracy is not a number)" in told


def test_results_of_another_state_of_the_code_are_told_and_used(
    place, fake, capsys, monkeypatch
):
    trained, _ = fake
    state = {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(origin, "git_state", lambda: dict(state))
    assert main(line("--seeds", "2")) == 0
    assert main(line("--seeds", "2")) == 0
    assert "note" not in capsys.readouterr().err
    state["commit"] = "b" * 40
    assert main(line("--seeds", "3")) == 0
    notes = [t for t in capsys.readouterr().err.splitlines() if "note: " in t]
    assert len(notes) == 1
    for part in ("seeds 0–1 by commit aaaaaaa,", "now commit bbbbbbb", "--overwrite"):
        assert part in notes[0]
    assert trained == [0, 1, 2]
    # Only seeds that are used again count.
    assert main(line("--seeds", "1", "--first-seed", "2")) == 0
    assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "size",
    [("--hidden", "1000000", "1000000000000"), ("--hidden", "1000000", "9" * 18)],
)
def test_a_network_that_no_memory_holds_is_told_in_one_line(place, capsys, size):
    assert main(line("--seeds", "1", *size)) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "the memory of this machine is too small" in told
    assert "smaller --hidden" in told


def test_a_memory_that_no_memory_holds_is_told_in_one_line(place, capsys):
    own = "run own reservoir-replay --experiences 2 --set mem_size=1000000000000000"
    assert main([*own.split(), "--seeds", "1"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "--set mem_size" in told


def test_an_error_of_torch_that_is_no_lack_of_memory_is_not_called_one():
    with pytest.raises(RuntimeError, match="shapes"), training._sizes_that_fit():
        raise RuntimeError("shapes differ")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried")):
        with pytest.raises(UserError, match="too small"), training._sizes_that_fit():
            raise error


def test_a_file_system_that_takes_no_files_is_refused(monkeypatch, tmp_path):
    def refuse(**options):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(runner.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(UserError, match=r"cannot write to .* \(No such file"):
        runner.check_writable(tmp_path / "runs")


def test_a_place_that_cannot_be_looked_at_is_refused(monkeypatch, tmp_path):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(runner.Path, "exists", refuse)
    with pytest.raises(UserError, match=r"cannot write to .* \(Permission denied"):
        runner.check_writable(tmp_path / "runs")


def test_a_file_in_the_place_of_a_seed_is_refused_before_training(tmp_path):
    (tmp_path / "seed-1").touch()
    runner.check_writable(tmp_path)
    runner.check_writable(tmp_path, [0, 2])
    with pytest.raises(UserError, match=r"cannot write to .*seed-1 \(Not a dir"):
        runner.check_writable(tmp_path, [0, 1])


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    runner.check_writable(tmp_path / "runs" / "one")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_told(place, fake, capsys, monkeypatch):
    assert main(line("--seeds", "1")) == 0
    capsys.readouterr()

    def write_report(runs, output):
        raise FileExistsError(17, "File exists")

    monkeypatch.setattr(report, "write_report", write_report)
    assert main(["report", f"runs/{NAME}", "--output", "file/page.html"]) == 2
    assert capsys.readouterr().err == (
        "error: cannot write file/page.html (File exists): name another file\n"
    )


def test_a_report_of_a_folder_without_results_is_refused(place, capsys):
    (place / "empty").mkdir()
    assert main(["report", "empty"]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "empty" in told
    assert not (place / "report.html").exists()
