"""A small study of the digits, and training that is looked up instead of done."""

import copy
import json

import pytest

from experiments.study import plan as plans

PLAN = {
    "title": "What to keep",
    "question": "Does it matter?",
    "options": {"benchmark": "split-digits", "epochs": 1, "hidden": [10]},
    "streams": {
        "even": {"label": "balanced", "options": {}},
        "odd": {"options": {"samples": [40, 20, 20, 20, 20]}, "turns": True},
    },
    "arms": {
        "base": {
            "label": "a reservoir",
            "method": "reservoir-replay",
            "set": {"mem_size": 50},
        },
        "ring": {"method": "er-ring", "set": {"mem_size": 50}},
        "long": {
            "method": "multi-strategy-replay",
            "options": {"epochs": 2},
            "set": {"mem_size": 50, "temperature": None, "loss_weights": [1, 0.5]},
        },
    },
    "references": ["base"],
    "halves": {
        "validation": {"validation": 0.1, "first_seed": 100, "seeds": 2},
        "confirmation": {"first_seed": 0, "seeds": 3},
    },
}


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """A folder of study files with one in it; a function that writes one."""
    folder = tmp_path / "studies"
    folder.mkdir()
    monkeypatch.setattr(plans, "FOLDER", folder)

    def write(content, name="digits"):
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
        return name

    write(PLAN)
    return write


@pytest.fixture
def changed(studies):
    """The study with some keys of it changed, or taken away; their places by dots."""

    def change(changes=None, remove=()):
        content = copy.deepcopy(PLAN)
        for place, value in (changes or {}).items():
            *path, last = place.split(".")
            part = content
            for key in path:
                part = part[key]
            part[last] = value
        for place in [remove] if isinstance(remove, str) else remove:
            *path, last = place.split(".")
            part = content
            for key in path:
                part = part[key]
            del part[last]
        return studies(content)

    return change
