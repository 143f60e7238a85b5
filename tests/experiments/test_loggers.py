"""experiments/loggers.py: what is logged, where, and that results stay the same."""

import csv

import numpy as np
import pytest

from experiments import loggers, training
from experiments.__main__ import main
from experiments.data import class_groups, from_arrays
from experiments.errors import UserError
from experiments.job import Job
from experiments.loggers import LOGGERS, check, open_loggers
from experiments.methods import method_options
from experiments.options import Run
from experiments.training import train_seed

VARYING = {"train_seconds", "eval_seconds", "peak_memory_mb"}


@pytest.fixture(scope="module")
def arrays():
    draw = np.random.default_rng(0)
    y = np.tile(np.arange(4), 15)
    x = (draw.integers(0, 120, (60, 3, 3)) + 30 * y[:, None, None]).astype(np.uint8)
    return from_arrays(x, y, x[:20], y[:20], source="small")


def train(arrays, directory, names=(), method="naive", **options):
    run = Run(
        *("small", method),
        **{"experiences": 2, "epochs": 2, "progress": "off", "loggers": names},
        **options,
    )
    groups = class_groups(arrays, 2, "small")
    chosen = method_options(method, ())
    job = Job(run, chosen, arrays, groups, "cpu", directory)
    result = train_seed(job, 0)
    return {key: value for key, value in result.items() if key not in VARYING}


def test_unknown_and_doubled_names_and_missing_packages_are_refused(monkeypatch):
    check(LOGGERS)
    with pytest.raises(UserError, match="did you mean 'csv'"):
        check(["cvs"])
    with pytest.raises(UserError, match="gives 'csv' twice"):
        check(["csv", "tensorboard", "csv"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    check(["csv"])
    with pytest.raises(
        UserError, match=r"^--loggers wandb needs .* pip install wandb$"
    ):
        check(["csv", "wandb"])
    with pytest.raises(UserError, match="unknown logger"):
        Run("b", "naive", loggers=("text",)).check()


@pytest.mark.parametrize(
    "method", ["naive", "reservoir-replay", "upstream-agem", "upstream-mer"]
)
def test_loggers_change_no_result(arrays, tmp_path, method):
    plain = train(arrays, tmp_path, method=method)
    assert not list(tmp_path.rglob("logs*"))
    assert train(arrays, tmp_path, ("csv", "tensorboard"), method) == plain


@pytest.mark.parametrize("stream_size", [None, 10])
def test_the_tables_hold_the_accuracies_and_forgetting(arrays, tmp_path, stream_size):
    result = train(arrays, tmp_path, ("csv",), stream_size=stream_size)
    folder = tmp_path / "seed-0" / "logs" / "csv"
    with (folder / "eval_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    matrix = np.array([float(row["eval_accuracy"]) for row in rows]).reshape(2, 2)
    assert [row["training_exp"] for row in rows] == ["0", "0", "1", "1"]
    assert matrix == pytest.approx(np.array(result["accuracy_matrix"]), abs=1e-4)
    assert all(float(row["eval_loss"]) > 0 for row in rows)
    # First minus last; with two experiences the same as maximum minus last.
    assert float(rows[2]["forgetting"]) == pytest.approx(
        result["forgetting"][0], abs=1e-4
    )
    with (folder / "training_results.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = 1 if stream_size is None else 3
    numbers = [row["training_exp"] for row in rows]
    assert numbers == ["0"] * 2 * parts + ["1"] * 2 * parts
    assert [row["epoch"] for row in rows] == ["0", "1"] * 2 * parts
    assert all(float(row["training_loss"]) > 0 for row in rows)
    assert any(float(row["training_accuracy"]) > 0 for row in rows)


def test_tensorboard_has_a_curve_of_each_kind(arrays, tmp_path):
    events = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    result = train(arrays, tmp_path, ("tensorboard",))
    read = events.EventAccumulator(str(tmp_path / "seed-0" / "logs" / "tensorboard"))
    read.Reload()
    curves = {
        tag: [event.value for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }
    first = curves["Top1_Acc_Exp/eval_phase/test_stream/Exp000"]
    matrix = np.array(result["accuracy_matrix"])
    assert first == pytest.approx(matrix[:, 0])
    whole = curves["Top1_Acc_Stream/eval_phase/test_stream"]
    assert whole == pytest.approx(matrix.mean(1))
    epochs = curves["Loss_Epoch/train_phase/train_stream"]
    assert len(epochs) == 4
    for kind in ("Top1_Acc_Epoch", "Loss_Exp", "ExperienceForgetting", "MaxForgetting"):
        assert any(tag.startswith(kind) for tag in curves), kind


def test_wandb_writes_its_own_files_offline(arrays, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    plain = train(arrays, tmp_path)
    assert train(arrays, tmp_path, ("wandb",)) == plain
    (run,) = (tmp_path / "seed-0" / "logs" / "wandb").glob("offline-run-*")
    (log,) = run.glob("*.wandb")
    text = log.read_bytes()
    assert b"Top1_Acc_Stream/eval_phase/test_stream" in text
    assert b"small naive class seed 0" in text


def test_what_ends_early_leaves_no_logs_that_look_whole(arrays, tmp_path):
    with pytest.raises(UserError, match="the loss is"):
        train(arrays, tmp_path, ("csv",), lr=1e20)
    seed = tmp_path / "seed-0"
    assert [path.name for path in seed.iterdir()] == ["logs.part"]
    train(arrays, tmp_path, ("csv",))
    assert [path.name for path in seed.iterdir()] == ["logs"]


def test_logs_of_an_earlier_run_go_with_its_result(tmp_path):
    def logged(names):
        with open_loggers(names, tmp_path, "title"):
            pass
        return sorted(path.name for path in tmp_path.glob("logs*/*"))

    assert logged(["csv"]) == ["csv"]
    with pytest.raises(KeyboardInterrupt), open_loggers(["csv"], tmp_path, "title"):
        raise KeyboardInterrupt
    assert (tmp_path / "logs" / "csv").exists()
    assert logged(["tensorboard"]) == ["tensorboard"]
    assert logged([]) == []


LINE = ["run", "split-digits", "naive", "--epochs", "1", "--progress", "off"]
RUN = "split-digits-naive-class-epochs=1"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, and no page, whose figures take seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.report.write_report", lambda runs, output: output)
    return tmp_path


def test_finished_seeds_are_not_run_again_for_their_logs_and_say_so(
    place, monkeypatch, capsys
):
    one = [*LINE, "--seeds", "1"]
    assert main(one) == 0
    with monkeypatch.context() as patch:
        patch.setattr(training, "train_seed", None)
        assert main([*one, "--loggers", "csv", "tensorboard"]) == 0
        seed = f"seed 0: already in runs/{RUN}/seed-0"
        assert capsys.readouterr().err.endswith(
            f"{seed}, and not trained again for logs of csv, tensorboard: "
            "--overwrite does\n"
        )
        assert main(one) == 0
        assert capsys.readouterr().err.endswith(f"{seed}\n")
    assert main([*LINE, "--seeds", "2", "--loggers", "csv"]) == 0
    seeds = place / "runs" / RUN
    assert not (seeds / "seed-0" / "logs").exists()
    assert (seeds / "seed-1" / "logs" / "csv" / "eval_results.csv").exists()
    capsys.readouterr()
    second = [*one, "--first-seed", "1", "--loggers"]
    assert main([*second, "csv"]) == 0
    assert "not trained" not in capsys.readouterr().err
    assert main([*second, "csv", "tensorboard"]) == 0
    assert "not trained again for logs of tensorboard:" in capsys.readouterr().err
    assert main([*one, "--loggers", "cvs"]) == 2
    assert "unknown logger 'cvs'" in capsys.readouterr().err


def test_a_run_that_goes_on_has_the_tables_of_one_that_never_stopped(
    place, monkeypatch
):
    line = [*LINE, "--seeds", "3", "--loggers", "csv"]

    def tables(out):
        found = {
            str(path.relative_to(place / out)): path.read_text()
            for path in (place / out).glob("*/seed-*/logs/csv/*.csv")
        }
        assert all(text.count("\n") > 5 for text in found.values())
        return found

    with monkeypatch.context() as patch:
        begin = training.ProgressPlugin.begin
        begun = []

        def stop(plugin, experience, of):
            begun.append(experience)
            if len(begun) == 8:  # the third experience of the second seed
                raise KeyboardInterrupt
            begin(plugin, experience, of)

        patch.setattr(training.ProgressPlugin, "begin", stop)
        assert main([*line, "--out", "stopped"]) == 130
    first = tables("stopped")
    assert [name.split("/")[1] for name in first] == ["seed-0"] * 2
    assert main([*line, "--out", "stopped"]) == 0
    gone_on = tables("stopped")
    assert main([*line, "--out", "whole"]) == 0
    assert gone_on == tables("whole")
    assert len(gone_on) == 6
    assert first.items() <= gone_on.items()
