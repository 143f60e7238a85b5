"""experiments/study/command.py: what runs, what is kept, what is printed."""

import json
import os
from statistics import fmean

import pytest
from scipy import stats

from experiments.__main__ import main
from experiments.errors import UserError
from experiments.study import command
from experiments.study import plan as plans
from experiments.study.command import Study, run_study
from experiments.study.plan import Task
from experiments.table.pool import Done, Failed

ACCURACY = {
    "base": [0.70, 0.74, 0.72],
    "ring": [0.71, 0.72, 0.74],
    "long": [0.80, 0.86, 0.85],
}


class Trainings:
    """Stands for the processes: tasks end at once, with results that are given."""

    def __init__(self):
        self.done, self.failing, self.stop_at = [], set(), None
        self.memory, self.jobs = False, None

    def __call__(self, make_work, tasks, processes):
        self.jobs = processes
        while tasks:
            task = tasks.popleft()
            if task == self.stop_at:
                raise KeyboardInterrupt
            self.done.append(task)
            if task in self.failing:
                yield Failed(task, "out of luck")
                continue
            accuracy = ACCURACY[task.arm][task.seed % 3]
            if task.stream == "odd":
                accuracy /= 2
            value = {"accuracy": accuracy, "forgetting": 0.1, "train_seconds": 2.0}
            if self.memory:
                value["memory_accuracy"] = accuracy - 0.3
            yield Done(task, value, 1.5, ())


@pytest.fixture
def trainings(monkeypatch):
    found = Trainings()
    monkeypatch.setattr(command, "work_through", found)
    return found


@pytest.fixture
def study(studies, trainings, tmp_path, capsys):
    """The command with looked-up training; returns what it printed."""

    def run(name="digits", **options):
        try:
            run_study(Study(name, out=tmp_path / "out", **options))
        finally:
            run.told = capsys.readouterr()
        return run.told.out

    run.path = tmp_path / "out" / "digits-confirmation.json"
    return run


def every(streams=("even", "odd"), arms=tuple(ACCURACY), seeds=(0, 1, 2)):
    return [Task(s, a, seed) for seed in seeds for s in streams for a in arms]


def kept(study):
    return json.loads(study.path.read_text())


# What runs and what is kept


def test_all_runs_seed_by_seed_and_is_kept(study, trainings):
    study()
    assert trainings.done == every()
    found = kept(study)
    assert (found["format"], found["command"]) == (
        1,
        "python -m experiments study digits --half confirmation",
    )
    assert (found["study"], found["half"]) == ("digits", "confirmation")
    assert found["plan"] == plans.read("digits").found
    assert set(found) >= {"versions", "git"}
    assert found["results"]["odd"]["long"]["1"] == {
        "accuracy": 0.43,
        "forgetting": 0.1,
        "train_seconds": 2.0,
    }
    told = study.told.err.splitlines()
    assert len(told) == 18
    assert told[0] == "[1/18] even, base, seed 0: 70.00 in 1.5 s"


def test_arms_streams_seeds_and_jobs_can_be_chosen(study, trainings):
    study(arms=("long", "base"), streams=("odd",), seeds=2, jobs=1)
    assert trainings.done == every(["odd"], ["base", "long"], [0, 1])
    assert trainings.jobs == 1
    trainings.done.clear()
    study(half="validation", streams=("even",), arms=("ring",))
    assert trainings.done == every(["even"], ["ring"], [100, 101])
    assert study.path.with_name("digits-validation.json").exists()


def test_what_is_there_is_kept_and_the_rest_runs(study, trainings):
    trainings.stop_at = Task("odd", "ring", 1)
    with pytest.raises(KeyboardInterrupt):
        study()
    before = list(trainings.done)
    assert len(before) == 6 + 4
    trainings.stop_at = None
    trainings.done.clear()
    study()
    assert trainings.done == every()[len(before) :]
    trainings.done.clear()
    study()
    assert trainings.done == []


def test_what_fails_does_not_stop_the_others_and_runs_again(study, trainings):
    trainings.failing = {Task("even", "ring", 1)}
    with pytest.raises(UserError) as raised:
        study()
    assert str(raised.value) == (
        "1 of 18 runs failed; the first: [8/18] even, ring, seed 1: out of luck"
    )
    assert study.told.out == ""
    assert "[8/18] even, ring, seed 1: out of luck" in study.told.err
    assert len(trainings.done) == 18
    trainings.failing.clear()
    trainings.done.clear()
    study()
    assert trainings.done == [Task("even", "ring", 1)]


CHANGES = {
    "an arm's setting": ({"arms.ring.set": {"mem_size": 60}}, every(arms=["ring"])),
    "an arm's option": ({"arms.ring.options": {"lr": 0.2}}, every(arms=["ring"])),
    "an arm's method": ({"arms.ring.method": "reservoir-replay"}, every(arms=["ring"])),
    "a stream": (
        {"streams.odd.options": {"label_noise": 0.1}, "streams.odd.turns": 0},
        every(["odd"]),
    ),
    "options of all": ({"options.lr": 0.2}, every()),
    "the share held out": ({"halves.confirmation.validation": 0.2}, every()),
    "epochs on the memory": ({"memory_epochs": 5}, every()),
    "more seeds": ({"halves.confirmation.seeds": 4}, every(seeds=[3])),
    "labels": ({"arms.ring.label": "a ring", "streams.odd.label": "uneven"}, []),
    "words": ({"title": "Other", "question": "Other", "note": "New"}, []),
    "the other half": ({"halves.validation.seeds": 9}, []),
    "a new arm": (
        {"arms.more": {"method": "er-ring"}},
        None,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_run_otherwise_now_runs_again(change, study, changed, trainings):
    """An arm is asked for its results of the plan that they were made by."""
    study()
    trainings.done.clear()
    changes, again = CHANGES[change]
    changed(changes)
    if again is None:
        study(arms=tuple(ACCURACY))
        again = []
    else:
        study()
    assert sorted(trainings.done, key=str) == sorted(again, key=str)
    assert kept(study)["results"]["even"]["base"]["0"]["accuracy"] == 0.7


def test_results_of_another_version_are_refused(study, trainings):
    study(seeds=1)
    trainings.done.clear()
    found = kept(study)
    for wrong, told in (
        ({**found, "format": 0}, "format 0, not 1"),
        ({name: v for name, v in found.items() if name != "plan"}, "it lacks plan"),
        ([], "format None, not 1"),
    ):
        text = json.dumps(wrong)
        study.path.write_text(text)
        with pytest.raises(UserError) as raised:
            study()
        assert told in str(raised.value)
        assert str(study.path) in str(raised.value)
        assert study.path.read_text() == text
    study.path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        study()
    assert trainings.done == []


# What is printed


def table(printed, label):
    """The cells below a heading, row by row."""
    lines = printed.partition(f"{label} (%)\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_has_each_arm_beside_the_references(study):
    printed = study()
    heads, rule, base, ring, long = table(printed, "balanced, accuracy")
    assert heads == ["arm", "mean ± sd", "less base (p)", "s"]
    assert set(rule) == {"---"}
    assert base == ["a reservoir", "72.00 ± 2.00", "–", "2.0"]
    # Two comparisons: the smaller p counts twice.
    p = {arm: stats.ttest_rel(ACCURACY[arm], ACCURACY["base"])[1] for arm in ACCURACY}
    assert p["long"] < p["ring"]
    assert ring[:3] == ["ring", "72.33 ± 1.53", f"+0.33 ± 1.20 ({p['ring']:.2g})"]
    assert long[:3] == ["long", "83.67 ± 3.21", f"+11.67 ± 0.88 ({2 * p['long']:.2g})"]
    assert table(printed, "odd, accuracy")[2][:2] == ["a reservoir", "36.00 ± 1.00"]
    assert "from the memory alone" not in printed
    assert printed.splitlines()[-1] == f"results: {study.path}"


def test_several_references_are_compared_without_correction_among_them(study, changed):
    changed({"references": ["base", "ring"]})
    heads, _, base, ring, long = table(study(), "balanced, accuracy")
    assert heads[2:] == ["less base (p)", "less ring (p)", "s"]
    assert base[2:4] == ["–", "-0.33 ± 1.20"]
    assert ring[2:4] == ["+0.33 ± 1.20", "–"]
    for cell, reference in zip(long[2:4], ("base", "ring"), strict=True):
        p = stats.ttest_rel(ACCURACY["long"], ACCURACY[reference])[1]
        assert cell.endswith(f"({p:.2g})")


def test_the_accuracy_from_the_memory_alone_is_a_table_of_its_own(study, trainings):
    trainings.memory = True
    printed = study(streams=("even",))
    assert table(printed, "balanced, from the memory alone")[2] == (
        ["a reservoir", "42.00 ± 2.00", "–", "2.0"]
    )


def test_showing_runs_nothing_and_shows_what_is_asked_for(study, trainings):
    with pytest.raises(UserError, match=r"nothing is measured of it in .*--show"):
        study(show=True)
    assert not study.path.exists()
    study()
    trainings.done.clear()
    printed = study(show=True, seeds=2, streams=("even",), arms=("base", "long"))
    assert trainings.done == []
    assert "results:" not in printed
    _, _, base, long = table(printed, "balanced, accuracy")
    assert (base[1], long[1]) == ("72.00 ± 2.83", "83.00 ± 4.24")  # of two seeds
    assert "odd" not in printed


def test_seeds_that_are_not_declared_any_more_do_not_count(study, changed):
    study()
    changed({"halves.confirmation": {"first_seed": 1, "seeds": 2}})
    assert table(study(), "balanced, accuracy")[2][1] == "73.00 ± 1.41"
    assert set(kept(study)["results"]["even"]["base"]) == {"0", "1", "2"}


def test_without_a_name_the_studies_are_listed(studies, capsys):
    assert main(["study"]) == 0
    assert capsys.readouterr().out == "digits: What to keep\n"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("study digit", ["unknown study 'digit'", "use digits"]),
        ("study digits --half middle", ["unknown half 'middle'", "validation, con"]),
        ("study digits --arms bas", ["unknown arm 'bas'", "base, ring, long"]),
        ("study digits --streams eve", ["unknown stream 'eve'", "even, odd"]),
        ("study digits --jobs 0", ["--jobs 0: use 1 or more"]),
        ("study digits --seeds 0", ["--seeds 0: use 1 to 3"]),
        ("study digits --seeds -1", ["--seeds -1: use 1 to 3"]),
        ("study digits --seeds 4", ["--seeds 4: use 1 to 3"]),
    ],
)
def test_a_mistake_is_told_in_one_line(
    line, parts, studies, trainings, tmp_path, capsys
):
    out = tmp_path / "out"
    assert main([*line.split(), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    for part in parts:
        assert part in told.err
    assert trainings.done == []
    assert not out.exists()


# Real training


def test_a_worker_trains_the_seed_and_reads_the_data_once(
    changed, tmp_path, monkeypatch
):
    from experiments import runner

    reads = []
    read = runner.read_arrays
    monkeypatch.setattr(
        runner, "read_arrays", lambda *a: reads.append(a[0]) or read(*a)
    )
    plan = plans.read(changed({"memory_epochs": 3}))
    worker = command._Worker(plan, "validation", tmp_path)
    one, again, other = (worker(Task("odd", "base", seed)) for seed in (100, 100, 101))
    assert reads == ["split-digits"]
    own = {"accuracy", "forgetting", "forgetting_of", "train_seconds"}
    assert set(one) == {*own, "memory_accuracy"}
    assert fmean(one["forgetting_of"][:-1]) == pytest.approx(one["forgetting"])
    assert all(0 < one[name] <= 1 for name in ("accuracy", "memory_accuracy"))
    for name in ("accuracy", "forgetting", "memory_accuracy"):
        assert one[name] == again[name]
    assert one["accuracy"] != other["accuracy"]


def test_real_training_in_real_processes(changed, tmp_path, capfd):
    name = changed({"arms.ring.set": {"mem_size": 5}, "memory_epochs": 2})
    out = tmp_path / "out"
    words = ["study", name, "--out", str(out), "--streams", "even", "--seeds", "2"]
    assert main([*words, "--jobs", "1"]) == 2
    told = capfd.readouterr().err.splitlines()
    assert "2 of 6 runs failed; the first: [2/6] even, ring, seed 0: er-r" in told[-1]
    assert len(told) == 7  # neither bars nor tracebacks
    found = json.loads((out / "digits-confirmation.json").read_text())["results"]
    assert {arm: set(seeds) for arm, seeds in found["even"].items()} == (
        {"base": {"0", "1"}, "long": {"0", "1"}}
    )
    assert os.listdir(out) == ["digits-confirmation.json"]
    assert main([*words, "--show"]) == 0
    printed = capfd.readouterr().out
    assert len(table(printed, "balanced, accuracy")) == 4
    assert len(table(printed, "balanced, from the memory alone")) == 4


def test_training_that_diverges_is_a_finding(changed, tmp_path, capfd):
    """Told beside the other arms, kept, and not run again."""
    name = changed({"arms.ring.options": {"lr": 1e30}, "by_experience": True})
    words = ["study", name, "--streams", "even", "--seeds", "1", "--jobs", "1"]
    words += ["--out", str(tmp_path / "out")]
    assert main(words) == 0
    told = capfd.readouterr()
    assert "[2/3] even, ring, seed 0: the loss is" in told.err
    accuracy, forgetting = told.out.split("forgetting of each experience")
    assert "| ring | *1 of 1 diverged* |" in accuracy.splitlines()
    assert "| a reservoir |" in accuracy
    assert "ring" not in forgetting
    assert "| arm | 1 | 2 | 3 | 4 |" in forgetting.splitlines()
    kept = json.loads((tmp_path / "out" / "digits-confirmation.json").read_text())
    of = kept["results"]["even"]["base"]["0"]["forgetting_of"]
    told_of = " | ".join(f"{100 * each:.2f}" for each in of[:-1])
    assert f"| a reservoir | {told_of} |" in forgetting.splitlines()
    assert main([*words, "--arms", "ring", "--show"]) == 0
    assert "1 of 1 diverged" in capfd.readouterr().out
    assert main(words) == 0
    again = capfd.readouterr()
    assert again.err == ""
    assert again.out == told.out
