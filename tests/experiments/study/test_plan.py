"""experiments/study/plan.py: a study file is read whole or refused."""

from pathlib import Path

import pytest

from experiments.errors import UserError
from experiments.methods import method_options
from experiments.study import plan as plans
from experiments.study.plan import Task


def test_a_plan_is_read(studies):
    assert plans.names() == ["digits"]
    plan = plans.read("digits")
    assert (plan.name, plan.found["title"]) == ("digits", "What to keep")
    assert list(plan.streams) == ["even", "odd"]
    assert list(plan.arms) == ["base", "ring", "long"]
    assert (plan.references, plan.memory_epochs) == (["base"], 0)
    assert list(plan.seeds("validation")) == [100, 101]
    assert list(plan.seeds("confirmation")) == [0, 1, 2]


def test_a_run_is_of_the_options_of_all_of_the_stream_and_of_the_arm(changed):
    name = changed({"options.lr": 0.3, "streams.even.options": {"lr": 0.2}})
    plan = plans.read(name)
    runs = [
        plan.run_of(Task("even", arm, 7), half, Path("there"))
        for arm, half in (("base", "confirmation"), ("long", "validation"))
    ]
    base, long = runs
    assert (base.benchmark, base.method) == ("split-digits", "reservoir-replay")
    assert (base.hidden, base.lr, base.epochs, long.epochs) == ((10,), 0.2, 1, 2)
    assert (base.validation, long.validation) == (0.0, 0.1)
    assert (base.seed_list, base.data_root, base.progress) == (
        [7],
        Path("there"),
        "off",
    )
    assert base.set == ("mem_size=50",)
    own = method_options(long.method, long.set)  # as the command line reads them
    assert own["temperature"] is None
    assert own["loss_weights"] == [1.0, 0.5]
    for run in runs:
        run.check()


def test_a_stream_sets_options_of_the_methods(changed):
    """The arm's own come first, as for options of the run."""
    plan = plans.read(
        changed({"streams.even.set": {"mem_size": 20, "seed": 3}, "arms.base.set": {}})
    )
    found = [
        plan.run_of(Task("even", arm, 0), "confirmation", Path()).set
        for arm in ("base", "long")
    ]
    assert found[0] == ("mem_size=20", "seed=3")
    assert "mem_size=20" not in found[1]
    assert "seed=3" in found[1]


def test_an_arm_has_the_last_word(changed):
    plan = plans.read(changed({"streams.even.options": {"epochs": 5}}))
    epochs = [
        plan.run_of(Task("even", arm, 0), "confirmation", Path()).epochs
        for arm in ("base", "long")
    ]
    assert epochs == [5, 2]


def test_samples_turn_with_the_seed(studies):
    """Each seed has its large task elsewhere, and the next round begins anew."""
    plan = plans.read("digits")
    found = [
        plan.run_of(Task("odd", "base", seed), "confirmation", Path()).samples
        for seed in range(7)
    ]
    large = [samples.index(40) for samples in found]
    assert large == [0, 1, 2, 3, 4, 0, 1]
    assert all(sorted(samples) == [20, 20, 20, 20, 40] for samples in found)
    assert plan.found["streams"]["odd"]["options"]["samples"] == [40, 20, 20, 20, 20]


@pytest.mark.parametrize("name", plans.names())
def test_studies_that_are_there_can_be_run(name):
    plan = plans.read(name)
    halves = [set(plan.seeds(half)) for half in plan.found["halves"]]
    assert sum(map(len, halves)) == len(set().union(*halves))  # seeds of their own
    for stream in plan.streams:
        for arm in plan.arms:
            run = plan.run_of(Task(stream, arm, 3), "confirmation", Path())
            run.check()
            method_options(run.method, run.set)


ARM = "key of digits.json, arms, base 'sets' (did you mean 'set'?): use method, label"
MISTAKES = {
    "unknown study": (None, {}, "unknown study 'digit' (did you mean 'digits'?)"),
    "no JSON": ("{", {}, "digits.json is no JSON (Expecting"),
    "no object": ("[]", {}, "digits.json is no object: give title, question, opt"),
    "no title": ({}, {"remove": "title"}, "digits.json lacks title: add them"),
    "lacks two": (
        {},
        {"remove": ["arms", "halves"]},
        "digits.json lacks arms, halves: add them",
    ),
    "unknown key": ({"tilte": 1}, {}, "unknown key of digits.json 'tilte' (did you"),
    "unknown key of an arm": ({"arms.base.sets": {}}, {}, f"unknown {ARM}"),
    "an arm without method": (
        {},
        {"remove": "arms.base.method"},
        "digits.json, arms, base lacks method: add them",
    ),
    "no arms": ({"arms": {}}, {}, "digits.json, arms: give one or more, by name"),
    "a list of arms": ({"arms": ["base"]}, {}, "arms: give one or more, by name"),
    "an arm that is a word": ({"arms.base": "er"}, {}, "arms, base is no object"),
    "a stream without options": (
        {},
        {"remove": "streams.odd.options"},
        "digits.json, streams, odd lacks options: add them",
    ),
    "turns of nothing": (
        {"streams.even.turns": True},
        {},
        "digits.json, streams, even turns samples, and has none",
    ),
    "a half without seeds": (
        {},
        {"remove": "halves.validation.first_seed"},
        "digits.json, halves, validation lacks first_seed: add them",
    ),
    "a reference that is no arm": (
        {"references": ["base", "bass"]},
        {},
        "digits.json: references bass are no arms",
    ),
    "epochs below 0": ({"memory_epochs": -1}, {}, "memory_epochs -1: use 0 or more"),
    "half an epoch": ({"memory_epochs": 0.5}, {}, "memory_epochs 0.5: use 0 or more"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake, studies, changed):
    content, how, told = MISTAKES[mistake]
    if isinstance(content, str):
        studies(content)
    elif content is not None:
        changed(content, **how)
    with pytest.raises(UserError) as raised:
        plans.read("digit" if content is None else "digits")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
