"""experiments/naming.py: options as they are used, and the folder that tells of them."""

import itertools

import pytest

from experiments.job import Job
from experiments.methods import method_options
from experiments.naming import LONGEST, changed, resolved, run_directory
from experiments.options import Run


def job(benchmark="split-digits", method="naive", device="cpu", **options):
    run = Run(benchmark, method, **options)
    return Job(run, method_options(method, run.set), None, [], device)


def name(*words, usual="cpu", **options):
    return str(run_directory(job(*words, **options), usual))


def test_defaults_are_written_as_they_are_used():
    def used(**options):
        return resolved(Run(method="naive", **options), "cpu")

    permuted = used(benchmark="permuted-mnist", model="cnn", iterations=7)
    assert (permuted["experiences"], permuted["epochs"]) == (20, None)
    assert (permuted["hidden"], permuted["init"]) == ([100], "default")
    assert permuted["scenario"] == "domain"
    assert used(benchmark="permuted-mnist", scenario="class")["scenario"] == "class"
    digits = used(benchmark="split-digits")
    assert (digits["epochs"], digits["scenario"]) == (20, "class")
    assert used(benchmark="own", model="resnet18")["hidden"] == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"epochs": 20, "hidden": (100, 100), "init": "xavier", "experiences": 5},
        {"seeds": 9, "first_seed": 4, "progress": "off", "loggers": ("csv",)},
        {"overwrite": True, "download": True, "data_root": "x"},
    ],
)
def test_a_run_by_default_has_a_plain_name(options):
    assert name(**options) == "runs/split-digits-naive-class"


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"lr": 0.05}, "-lr=0.05"),
        ({"scenario": "task", "stream_size": 10}, "-stream_size=10"),
        ({"stream_size": 10, "epochs": 1}, "-stream_size=10"),
        ({"iterations": 7}, "-iterations=7"),
        ({"hidden": (400, 400), "batch_size": 64}, "-batch_size=64-hidden=400,400"),
        ({"model": "cnn"}, "-model=cnn"),
        ({"model": "cnn", "hidden": (100,)}, "-model=cnn"),
        ({"model": "mlp", "hidden": ()}, "-hidden=none"),
        ({"task_labels": True, "head": "seen"}, "-task_labels=true-head=seen"),
        ({"resident": False}, "-resident=false"),
    ],
)
def test_what_is_not_at_its_default_is_in_the_name(options, more):
    scenario = options.get("scenario", "class")
    assert name(**options) == f"runs/split-digits-naive-{scenario}{more}"


def test_the_scenario_of_a_benchmark_is_in_the_name_however_it_came_about():
    domain = "runs/rotated-mnist-naive-domain"
    assert name("rotated-mnist") == name("rotated-mnist", scenario="domain") == domain
    assert name("rotated-mnist", scenario="class") == "runs/rotated-mnist-naive-class"


def test_the_methods_own_options_are_in_the_name():
    own = ("mem_size=500", "batch_size_mem=10")
    told = name(method="reservoir-replay", set=own, lr=0.2)
    assert told == "runs/split-digits-reservoir-replay-class-lr=0.2-mem_size=500"
    ring = ("mem_size=none", "per_class=3")
    assert name(method="er-ring", set=ring).endswith("-mem_size=none-per_class=3")
    upstream = name(method="upstream-si", resident=False)
    assert upstream == "runs/split-digits-upstream-si-class"


def test_a_device_is_named_where_it_is_not_the_usual_one():
    assert name(device="cuda", usual="cuda") == "runs/split-digits-naive-class"
    assert name(device="cpu", usual="cuda").endswith("-class-device=cpu")


def test_one_configuration_has_one_folder_and_another_has_another():
    """Over all ways of combining options that decide each other's defaults."""
    values = {
        "model": ("mlp", "cnn"),
        "hidden": (None, (100,), (100, 100)),
        "init": (None, "xavier"),
        "stream_size": (None, 10),
        "epochs": (None, 1, 20),
        "iterations": (None, 7),
        "experiences": (None, 5),
        "set": ((), ("mem_size=200",), ("mem_size=500",)),
    }
    configurations, folders = {}, {}
    for chosen in itertools.product(*values.values()):
        made = job(method="er-ring", **dict(zip(values, chosen, strict=True)))
        configuration = str((resolved(made.options, "cpu"), made.method_options))
        folder = run_directory(made, "cpu")
        assert configurations.setdefault(folder, configuration) == configuration
        assert folders.setdefault(configuration, folder) == folder


def test_a_long_name_is_cut_and_stays_its_own():
    names = [
        name(samples=(*range(1000, 1050), last), experiences=51) for last in (1, 2)
    ]
    for one in names:
        assert len(one.removeprefix("runs/")) == LONGEST
        assert one.startswith("runs/split-digits-naive-class-experiences=51-samples=")
    assert names[0] != names[1]


def test_what_changed_is_given_as_it_is_used():
    made = job(method="er-ring", hidden=(5,), set=("mem_size=50",))
    assert changed(made, "cpu") == {"hidden": [5], "mem_size": 50}
