"""experiments/table/command.py: what runs, what is kept, what is told."""

import json

import pytest

from experiments import origin
from experiments.__main__ import main
from experiments.errors import UserError
from experiments.table.command import Table, run_table


@pytest.fixture
def table(protocols, trainings, tmp_path, monkeypatch, capsys):
    """The command with looked-up training; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*cells, **options):
        try:
            run_table(
                Table("digits", cells=cells, **{"seeds": None, **options}),
                "the command",
                trainings,
            )
        finally:
            run.told = capsys.readouterr()
        return run.told.out

    return run


def row(printed, cell, quantity="accuracy"):
    """The words of the line of a cell after its quantity."""
    lines = iter(printed.splitlines())
    for line in lines:
        if line.startswith(f"{cell} "):
            while quantity not in line:
                line = next(lines)
            return " ".join(line.split(quantity, 1)[1].split())
    raise AssertionError(f"no line of {cell} in {printed}")


def kept(tmp_path, cell):
    folder = tmp_path / "experiments" / "results" / "digits" / cell
    return sorted(path.parent.name for path in folder.glob("seed-*/result.json"))


def test_all_cells_run_and_are_compared(table, trainings, tmp_path):
    trainings.accuracy = {"plain": {0: 0.19, 1: 0.22}, "er": 0.8}
    printed = table()
    assert trainings.done == [("plain", 0), ("plain", 1), ("er", 0), ("er", 1)]
    assert "plain, seed 0: accuracy 19.00 % (1.5 s)" in printed
    assert "er, seed 1: accuracy 80.00 %, backward transfer -5.00 % (1.5 s)" in printed
    assert row(printed, "plain") == "20.00 ± 1.00 20.50 ± 2.12 (2) +0.50 reproduced"
    assert row(printed, "er") == "70.00 80.00 ± 0.00 (2) +10.00 above"
    assert row(printed, "er", "backward transfer") == (
        "-5.00 ± 0.50 sem -5.00 ± 0.00 (2) +0.00 reproduced"
    )
    assert row(printed, "later") == "90.00 ± 1.00 – – not yet in this pack"
    assert (
        "4 figures: 2 reproduced, 1 above, 0 missed, 0 inconclusive, 1 not" in printed
    )
    assert "above: 3 of 3 judged against a checked mean (100.0%" in printed
    assert "plain, seed 1: warning: mind the gap" in table.told.err
    assert kept(tmp_path, "plain") == kept(tmp_path, "er") == ["seed-0", "seed-1"]
    place = tmp_path / "experiments" / "results" / "digits" / "er" / "seed-1"
    config = json.loads((place / "config.json").read_text())
    assert config["command"] == "the command"
    assert config["options"]["lr"] == 0.05
    assert config["options"]["hidden"] == [10]
    assert config["options"]["device"] == "cpu"
    assert config["method_options"]["mem_size"] == 50
    assert set(config) >= {"versions", "git", "data"}
    assert json.loads((place / "result.json").read_text())["seed"] == 1


def test_cells_seeds_and_jobs_can_be_chosen(table, trainings):
    table("er", seeds=3, jobs=4, confirm=False)
    assert trainings.done == [("er", 0), ("er", 1), ("er", 2)]
    assert trainings.jobs == 4


def test_what_is_there_is_kept_and_the_rest_runs(table, trainings, tmp_path):
    trainings.accuracy = {"plain": 0.2, "er": 0.7}
    trainings.stop_at = ("er", 0)
    with pytest.raises(KeyboardInterrupt):
        table()
    assert kept(tmp_path, "plain") == ["seed-0", "seed-1"]
    trainings.stop_at = None
    trainings.done.clear()
    printed = table()
    assert trainings.done == [("er", 0), ("er", 1)]
    assert "2 results there already" in table.told.err
    assert row(printed, "plain").endswith("reproduced")
    trainings.done.clear()
    assert row(table(), "er").endswith("reproduced")
    assert trainings.done == []


def test_results_of_another_configuration_are_refused(table, trainings, changed):
    trainings.accuracy = {"plain": 0.2, "er": 0.7}
    table()
    changed("cells.er.options", {"lr": 0.5})
    trainings.done.clear()
    for options in ({}, {"show": True}):
        with pytest.raises(UserError) as raised:
            table("plain", "er", **options)
        for part in ("er/seed-0 was run with --lr 0.05 (now 0.5)", "--overwrite"):
            assert part in str(raised.value)
    assert trainings.done == []
    table(overwrite=True)
    assert trainings.done == [("plain", 0), ("plain", 1), ("er", 0), ("er", 1)]
    trainings.done.clear()
    table()
    assert trainings.done == []


def test_results_of_another_state_of_the_code_are_told_and_used(
    table, trainings, monkeypatch
):
    trainings.accuracy = {"plain": 0.2, "er": 0.7}
    state = {"commit": "a" * 40, "dirty": False}
    monkeypatch.setattr(origin, "git_state", lambda: dict(state))
    table()
    table("plain", seeds=3)
    assert "note" not in table.told.err
    state["commit"] = "b" * 40
    table("er", seeds=3)
    notes = [line for line in table.told.err.splitlines() if "note: " in line]
    assert len(notes) == 1
    assert "digits holds er seeds 0–1 by commit aaaaaaa, torch " in notes[0]
    assert "; now commit bbbbbbb, torch " in notes[0]
    table(show=True)
    (note,) = table.told.err.splitlines()
    assert "holds plain seeds 0–2, er seeds 0–1 by commit aaaaaaa" in note
    # Seeds that decide nothing here are not told of, nor those that run again.
    table("plain", seeds=1, show=True)
    assert "plain seeds 0–1 by" in table.told.err
    table("plain", overwrite=True)
    assert "note" not in table.told.err
    assert trainings.done[-2:] == [("plain", 0), ("plain", 1)]


def test_results_of_another_format_are_refused(table, tmp_path):
    table("plain", confirm=False)
    path = tmp_path / "experiments/results/digits/plain/seed-0/result.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(UserError, match=r"format 0, not 1.*--overwrite"):
        table("plain")


def test_a_cell_of_another_device_is_refused_to_run_but_shown(table, tmp_path):
    table("plain", confirm=False, seeds=1)
    path = tmp_path / "experiments/results/digits/plain/seed-0/config.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    with pytest.raises(UserError, match=r"--device cuda .now cpu"):
        table("plain")
    assert "50.00 (1)" in table("plain", show=True)


def test_a_cell_that_fails_leaves_the_others_alone(table, trainings, tmp_path):
    trainings.accuracy = {"er": 0.7}
    trainings.failing = {("plain", 0)}
    with pytest.raises(UserError) as raised:
        table()
    assert str(raised.value) == (
        "not everything was measured: plain, seed 0: out of luck"
    )
    printed = table.told.out
    assert "plain, seed 0: failed: out of luck" in printed
    assert row(printed, "plain").endswith("(1) +30.00 failed")
    assert row(printed, "er").endswith("reproduced")
    assert "plain failed: seed 0: out of luck" in printed
    assert kept(tmp_path, "plain") == ["seed-1"]
    # Once what it failed of is mended, the seed that is missing runs.
    trainings.failing = set()
    trainings.done.clear()
    table(confirm=False)
    assert trainings.done == [("plain", 0)]


def test_a_cell_that_misses_runs_again_on_the_next_seeds(table, trainings, tmp_path):
    trainings.accuracy = {"plain": {0: 0.10, 1: 0.10, 2: 0.20, 3: 0.21}, "er": 0.7}
    printed = table()
    assert trainings.done == (
        [("plain", 0), ("plain", 1), ("er", 0), ("er", 1), ("plain", 2), ("plain", 3)]
    )
    assert row(printed, "plain") == "20.00 ± 1.00 10.00 ± 0.00 (2) -10.00 missed"
    assert row(printed, "plain", "again") == "20.50 ± 0.71 (2) +0.50 reproduced"
    assert "above: 3 of 3 judged" in printed
    assert len(kept(tmp_path, "plain")) == 4


def test_a_second_miss_stays_one_and_is_not_repeated(table, trainings):
    trainings.accuracy = {"plain": 0.1}
    printed = table("plain")
    assert row(printed, "plain", "again").endswith("missed")
    assert "above: 0 of 1 judged against a checked mean (0.0%" in printed
    assert len(trainings.done) == 4
    table("plain")
    assert len(trainings.done) == 4


def test_a_second_round_goes_on_where_it_was_interrupted(table, trainings):
    trainings.accuracy = {"plain": 0.1}
    trainings.stop_at = ("plain", 3)
    with pytest.raises(KeyboardInterrupt):
        table("plain")
    printed = table("plain", show=True)
    assert row(printed, "plain", "again").endswith("(1) -10.00 incomplete")
    trainings.stop_at = None
    table("plain")
    assert trainings.done == [("plain", seed) for seed in range(4)]


def test_a_second_round_can_be_left_out(table, trainings):
    trainings.accuracy = {"plain": 0.1}
    printed = table("plain", confirm=False)
    assert trainings.done == [("plain", 0), ("plain", 1)]
    assert row(printed, "plain").endswith("missed")
    assert "  again" not in printed


def test_showing_runs_nothing(table, trainings):
    with pytest.raises(
        UserError, match=r"nothing is measured of digits in exp\S+: run"
    ):
        table(show=True)
    printed = table.told.out
    assert trainings.done == []
    assert row(printed, "plain") == "20.00 ± 1.00 – – not run"
    assert "0 inconclusive, 4 not run" in printed
    trainings.accuracy = {"plain": 0.2}
    table("plain", seeds=1)
    assert row(table(show=True), "plain").endswith("incomplete: 1 of 2 seeds")
    assert trainings.done == [("plain", 0)]


def test_nothing_measured_is_a_failure(table, trainings):
    with pytest.raises(UserError, match="nothing was measured: later name methods"):
        table("later")
    assert row(table.told.out, "later").endswith("not yet in this pack")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("table digit", ["unknown table 'digit'", "use digits"]),
        ("table digits --cells eer", ["unknown cell of digits 'eer'", "plain, er"]),
        ("table digits --seeds 0", ["--seeds 0: use 1 or more"]),
        ("table digits --jobs 0", ["--jobs 0: use 1 or more"]),
        ("table digits --first-seed 5", ["--first-seed"]),  # no seed is picked
        ("table --cells er", ["--cells without a table: name one"]),
        ("table --seeds 3 --show", ["--seeds, --show without a table"]),
        ("table --no-confirm", ["--no-confirm without a table"]),
        ("table digits --show --overwrite", ["--overwrite with --show"]),
        ("table digits --show --jobs 1", ["--jobs with --show"]),
        ("table digits --device tpu", ["unknown device 'tpu'", "cpu, cuda"]),
    ],
)
def test_a_mistake_is_told_in_one_line(
    line, parts, protocols, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    for part in parts:
        assert part in told.err
    assert not (tmp_path / "experiments").exists()


def test_missing_data_are_told_before_anything_runs(
    table, changed, trainings, tmp_path
):
    changed("options", {"benchmark": "split-mnist", "epochs": 1})
    with pytest.raises(UserError, match="split-mnist"):
        table()
    assert trainings.done == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    table, trainings, tmp_path
):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        table(out=tmp_path / "file")
    assert trainings.done == []


def test_without_a_name_the_tables_are_listed(protocols, capsys):
    assert main(["table"]) == 0
    assert capsys.readouterr().out == "digits  3 cells  Digits\n"


def test_real_training_in_real_processes(changed, protocols, tmp_path, capfd):
    name = changed("cells.er.options", {"lr": 1e30})
    words = ["table", name, "--out", str(tmp_path / "out"), "--no-confirm"]
    assert main([*words, "--jobs", "1", "--seeds", "2"]) == 2
    told = capfd.readouterr()
    assert row(told.out, "plain").endswith(("reproduced", "above", "missed"))
    assert row(told.out, "er").endswith("– – failed")
    assert "er failed: seed 0: the loss is" in told.out
    assert told.err.startswith(
        "error: not everything was measured: er, seed 0: the los"
    )
    assert len(told.err.splitlines()) == 1  # neither bars nor tracebacks
    found = tmp_path / "out" / "digits"
    results = {p.parent.name: p for p in found.glob("plain/*/result.json")}
    assert sorted(results) == ["seed-0", "seed-1"]
    first, second = (json.loads(p.read_text()) for _, p in sorted(results.items()))
    assert first["method"] == "naive"
    assert first["accuracy_matrix"] != second["accuracy_matrix"]
    assert not (found / "er").exists()
