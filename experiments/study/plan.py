"""Study files, read and checked.

A file is one JSON object, ``studies/NAME.json``::

    {"title": "…", "question": "…",
     "options": {"benchmark": "split-mnist", …},         options of ``run``
     "streams": {"imbalanced": {
         "label": "…", "options": {"samples": [2000, 200, 200, 200, 200]},
         "turns": true}},                                samples move on with the seed
     "arms": {"reservoir": {
         "label": "…", "method": "reservoir-replay",
         "options": {}, "set": {"mem_size": 300}}},      beside those of all and the stream
     "references": ["reservoir"],                        arms that others are compared with
     "memory_epochs": 50,                                0: the memory alone is not tried
     "halves": {"validation": {"validation": 0.1, "first_seed": 100, "seeds": 8},
                "confirmation": {"first_seed": 0, "seeds": 16}}}

Choices are made on the half named ``validation``, which is evaluated on training rows that
are held out, and confirmed on the other, on test rows and with other seeds.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.errors import UserError, unknown
from experiments.options import Run

FOLDER = Path(__file__).parent.parent / "studies"
_KEYS = ("title", "question", "options", "streams", "arms", "references", "halves")


@dataclass(frozen=True)
class Task:
    """One seed of an arm on a stream."""

    stream: str
    arm: str
    seed: int


@dataclass(frozen=True)
class Plan:
    """A study; see this module's text for its parts."""

    name: str
    found: dict[str, Any]

    @property
    def streams(self) -> dict[str, Any]:
        streams: dict[str, Any] = self.found["streams"]
        return streams

    @property
    def arms(self) -> dict[str, Any]:
        arms: dict[str, Any] = self.found["arms"]
        return arms

    @property
    def references(self) -> list[str]:
        references: list[str] = self.found["references"]
        return references

    @property
    def memory_epochs(self) -> int:
        return int(self.found.get("memory_epochs", 0))

    def seeds(self, half: str) -> range:
        """The seeds of a half, declared beforehand."""
        part = self.found["halves"][half]
        return range(part["first_seed"], part["first_seed"] + part["seeds"])

    def run_of(self, task: Task, half: str, data_root: Path) -> Run:
        """What the ``run`` command would be given."""
        stream, arm = self.streams[task.stream], self.arms[task.arm]
        options = {
            **self.found["options"],
            **stream["options"],
            **arm.get("options", {}),
        }
        if stream.get("turns"):
            samples = options["samples"]
            by = task.seed % len(samples)
            options["samples"] = samples[-by:] + samples[:-by] if by else samples
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        }
        return Run(
            method=arm["method"],
            set=tuple(f"{name}={value}" for name, value in arm.get("set", {}).items()),
            validation=self.found["halves"][half].get("validation", 0.0),
            first_seed=task.seed,
            seeds=1,
            data_root=data_root,
            progress="off",
            **options,
        )


def names() -> list[str]:
    """The studies that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> Plan:
    """The plan of a study.

    :raises UserError: for a study that does not exist, and a file without what it needs.
    """
    if name not in names():
        raise unknown("study", name, names())
    path = FOLDER / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.name} is no JSON ({error})") from error
    missing = [key for key in _KEYS if key not in found]
    if missing:
        raise UserError(f"{path.name} lacks {', '.join(missing)}: add them")
    strangers = sorted(set(found) - {*_KEYS, "memory_epochs", "note"})
    if strangers:
        raise UserError(f"{path.name} has unknown keys {', '.join(strangers)}")
    lost = [arm for arm in found["references"] if arm not in found["arms"]]
    if lost:
        raise UserError(f"{path.name}: references {', '.join(lost)} are no arms")
    return Plan(name, found)
