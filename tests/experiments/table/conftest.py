"""A small table of the digits, and training that is looked up instead of done."""

import json
from typing import Any

import pytest

from experiments.summary import COLUMNS
from experiments.table import reading
from experiments.table.pool import Done, Failed

PROTOCOL: dict[str, Any] = {
    "title": "Digits",
    "setting": "Five tasks",
    "seeds": 2,
    "published": {"source": "A paper", "certainty": "repo", "seeds": 5},
    "options": {"benchmark": "split-digits", "epochs": 1, "hidden": [10]},
    "cells": {
        "plain": {
            "label": "SGD",
            "method": "naive",
            "published": {"average_accuracy": {"mean": 20.0, "sd": 1.0}},
        },
        "er": {
            "label": "ER, memory 50",
            "method": "reservoir-replay",
            "options": {"lr": 0.05},
            "set": {"mem_size": 50},
            "published": {
                "average_accuracy": {"mean": 70.0, "sd": None},
                "backward_transfer": {"mean": -5.0, "sem": 0.5},
            },
        },
        "later": {
            "label": "Later",
            "method": "la-maml",
            "set": {"not": "read yet"},
            "published": {"average_accuracy": {"mean": 90.0, "sd": 1.0}},
        },
    },
}


class Trainings:
    """Stands for the processes: tasks end at once, with results that are given.

    ``accuracy[cell]`` is that of every seed, or of each by a dictionary; ``failing``
    holds pairs of cell and seed.
    """

    def __init__(self) -> None:
        self.accuracy: dict[str, Any] = {}
        self.failing: set[tuple[str, int]] = set()
        self.stop_at: tuple[str, int] | None = None
        self.done: list[tuple[str, int]] = []
        self.jobs: int | None = None

    def __call__(self, make_work: Any, tasks: Any, processes: int) -> Any:
        self.jobs = processes
        while tasks:
            task = tasks.popleft()
            at = task.cell, task.seed
            if at == self.stop_at:
                raise KeyboardInterrupt
            self.done.append(at)
            if at in self.failing:
                yield Failed(task, "out of luck")
                continue
            given = self.accuracy.get(task.cell, 0.5)
            accuracy = given[task.seed] if isinstance(given, dict) else given
            value = {
                "format": 1,
                "seed": task.seed,
                **dict.fromkeys(COLUMNS, 0.1),
                "average_accuracy": accuracy,
                "backward_transfer": -0.05,
            }
            yield Done(task, value, 1.5, ("mind the gap",) * (task.seed == 1))


@pytest.fixture
def protocols(tmp_path, monkeypatch):
    """A folder of protocol files with one table in it; a function that writes one."""
    folder = tmp_path / "protocols"
    folder.mkdir()
    monkeypatch.setattr(reading, "FOLDER", folder)

    def write(content, name="digits"):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        return name

    write(PROTOCOL)
    return write


@pytest.fixture
def changed(protocols):
    """The table with one key of it changed, or taken away; its place by dots."""

    def change(place, value=None, remove=False):
        content = json.loads(json.dumps(PROTOCOL))
        *path, last = place.split(".")
        part = content
        for key in path:
            part = part[key]
        if remove:
            del part[last]
        else:
            part[last] = value
        return protocols(content)

    return change


@pytest.fixture
def trainings():
    return Trainings()
