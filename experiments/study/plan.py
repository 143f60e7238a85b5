"""Study files, read and checked.

A file is one JSON object, ``studies/NAME.json``::

    {"title": "…", "question": "…",
     "options": {"benchmark": "split-mnist", …},         options of ``run``
     "streams": {"imbalanced": {
         "label": "…", "options": {"samples": [2000, 200, 200, 200, 200]},
         "set": {"mem_size": 200},                       of the methods of all arms
         "turns": true}},                                samples move on with the seed
     "arms": {"reservoir": {
         "label": "…", "method": "reservoir-replay",
         "options": {}, "set": {"mem_size": 300}}},      beside those of all and the stream
     "references": ["reservoir"],                        arms that others are compared with
     "memory_epochs": 50,                                0: the memory alone is not tried
     "by_experience": true,                              tell the forgetting of each
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
from experiments.table.settings import setting_words

FOLDER = Path(__file__).parent.parent / "studies"
_KEYS = {
    "the file": (
        ("title", "question", "options", "streams", "arms", "references", "halves"),
        ("memory_epochs", "by_experience", "note"),
    ),
    "streams": (("options",), ("label", "set", "turns")),
    "arms": (("method",), ("label", "options", "set")),
    "halves": (("first_seed", "seeds"), ("validation",)),
}
"""Of each kind of part: the keys that it must have, and those that it may have."""


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

    @property
    def by_experience(self) -> bool:
        return bool(self.found.get("by_experience", False))

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
            set=setting_words({**stream.get("set", {}), **arm.get("set", {})}),
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
    _check_file(path.name, found)
    return Plan(name, found)


def _check_file(file: str, found: Any) -> None:
    _check("the file", file, found)
    for kind in ("streams", "arms", "halves"):
        if not isinstance(found[kind], dict) or not found[kind]:
            raise UserError(f"{file}, {kind}: give one or more, by name")
        for name, part in found[kind].items():
            _check(kind, f"{file}, {kind}, {name}", part)
    for name, stream in found["streams"].items():
        if stream.get("turns") and not {**found["options"], **stream["options"]}.get(
            "samples"
        ):
            raise UserError(f"{file}, streams, {name} turns samples, and has none")
    if lost := [arm for arm in found["references"] if arm not in found["arms"]]:
        raise UserError(f"{file}: references {', '.join(lost)} are no arms")
    epochs = found.get("memory_epochs", 0)
    if type(epochs) is not int or epochs < 0:
        raise UserError(f"{file}: memory_epochs {epochs!r}: use 0 or more")


def _check(kind: str, place: str, content: Any) -> None:
    needed, more = _KEYS[kind]
    if not isinstance(content, dict):
        raise UserError(f"{place} is no object: give {', '.join(needed)}")
    if missing := [key for key in needed if key not in content]:
        raise UserError(f"{place} lacks {', '.join(missing)}: add them")
    if strangers := sorted(set(content) - {*needed, *more}):
        raise unknown(f"key of {place}", strangers[0], (*needed, *more))
