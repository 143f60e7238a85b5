"""experiments/comparison.py: which runs belong together, and what they are called."""

from pathlib import Path

from experiments.comparison import groups
from experiments.finished_run import FinishedRun


def run(method="naive", benchmark="digits", scenario="class", place="", **options):
    own = {name: options.pop(name) for name in ("mem_size", "feed") if name in options}
    config = {
        "options": {"lr": 0.1, "stream_size": None, "method": method, **options},
        "method_options": own,
    }
    result = {"method": method, "benchmark": benchmark, "scenario": scenario}
    name = place or f"runs/{benchmark}-{method}-{scenario}"
    return FinishedRun(Path(name), (result,), (config,), ())


def labels(*runs):
    (group,) = groups(runs)
    return group.labels


def columns(*runs):
    (group,) = groups(runs)
    return group.columns


def test_methods_are_their_own_names():
    assert labels(run(), run("joint")) == ["naive", "joint"]
    assert columns(run(), run("joint")) == {}


def test_one_option_that_differs_is_named():
    ring = [run("er-ring", mem_size=size) for size in (200, 500)]
    assert labels(run(), *ring) == [
        "naive",
        "er-ring, mem_size 200",
        "er-ring, mem_size 500",
    ]
    assert columns(run(), *ring) == {}


def test_all_options_that_differ_are_named():
    some = [
        run("er-ring", mem_size=200, lr=0.1, hidden=[100, 100]),
        run("er-ring", mem_size=500, lr=0.5, hidden=[100, 100]),
        run("er-ring", mem_size=500, lr=0.5, hidden=[400]),
    ]
    assert labels(*some) == [
        "er-ring, lr 0.1, hidden 100,100, mem_size 200",
        "er-ring, lr 0.5, hidden 100,100, mem_size 500",
        "er-ring, lr 0.5, hidden 400, mem_size 500",
    ]


def test_options_that_change_no_result_or_that_one_run_lacks_are_not_named():
    one, other = run(seeds=3, out="a"), run("joint", seeds=5, out="b", mem_size=9)
    assert labels(one, other) == ["naive", "joint"]
    assert columns(one, other) == {}


def test_an_option_that_differs_between_methods_is_a_column():
    some = [run(lr=0.05), run("er-ring", lr=0.1, mem_size=9)]
    assert labels(*some) == ["naive", "er-ring"]
    assert columns(*some) == {"lr": ["0.05", "0.1"]}
    some.append(run("er-ring", lr=0.1, mem_size=50))
    assert columns(*some) == {"lr": ["0.05", "0.1", "0.1"]}
    some.append(run("joint", feed="x", mem_size=9))
    assert labels(*some)[-1] == "joint"
    assert columns(*some)["mem_size"] == ["–", "9", "50", "9"]


def test_the_same_runs_of_two_folders_have_their_places():
    two = [run(place=f"{out}/digits-naive-class") for out in "ab"]
    assert labels(*two) == [
        "naive, a/digits-naive-class",
        "naive, b/digits-naive-class",
    ]
    assert labels(run(place="x"), run(place="y")) == ["naive, x", "naive, y"]


def test_runs_of_one_benchmark_and_scenario_are_a_group():
    some = [
        run(method, benchmark, scenario)
        for method in ("naive", "joint")
        for benchmark, scenario in (
            ("digits", "class"),
            ("digits", "task"),
            ("own", "x"),
        )
    ]
    made = groups([*some, run(stream_size=10)])
    assert [group.title for group in made] == [
        "digits, class-incremental",
        "digits, task-incremental",
        "own, x",
        "digits, class-incremental, online",
    ]
    assert [group.labels for group in made] == [["naive", "joint"]] * 3 + [["naive"]]
    assert made[1].runs == [some[1], some[4]]


def test_runs_that_would_each_be_alone_are_compared_with_each_other():
    scenarios = [run(scenario=scenario) for scenario in ("class", "task")]
    assert labels(*scenarios) == ["naive, class-incremental", "naive, task-incremental"]
    assert columns(*scenarios) == {}
    mixed = [run(), run("joint", "own", "task")]
    assert labels(*mixed) == ["naive", "joint"]
    assert columns(*mixed) == {
        "benchmark": ["digits", "own"],
        "scenario": ["class-incremental", "task-incremental"],
    }
    online = [run(), run(stream_size=10)]
    assert labels(*online) == [
        "naive, class-incremental",
        "naive, class-incremental, online",
    ]
    assert columns(*online) == {"stream_size": ["none", "10"]}


def test_a_single_run_has_its_title():
    (group,) = groups([run()])
    assert (group.title, group.labels) == ("digits, class-incremental", ["naive"])
