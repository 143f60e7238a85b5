"""Run directories: what is written, and what is there already."""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from experiments import origin
from experiments.errors import UserError
from experiments.methods import METHODS, parameters
from experiments.options import Run
from experiments.summary import COLUMNS

FORMAT = 1
MEMORY = "memory.npz"
"""Some rows of a seed's memory; see :mod:`experiments.memory_sample`."""
NO_MATTER = frozenset(
    (
        *("seeds", "first_seed", "data_root", "download", "progress", "loggers", "out"),
        "overwrite",
    )
)
"""Options that do not change the result of a seed; data are compared by contents."""


def seed_directory(run: Path, seed: int) -> Path:
    """Where a seed's ``config.json`` and ``result.json`` are."""
    return run / f"seed-{seed}"


def memory_part(directory: Path) -> Path:
    """Where training leaves rows of the memory until the seed is written."""
    return directory / f"{MEMORY}.part"


def configuration(
    command: str,
    options: dict[str, Any],
    method_options: dict[str, Any],
    data: dict[str, str],
) -> dict[str, Any]:
    """What makes a run repeatable, apart from its seed."""
    return {
        "format": FORMAT,
        "command": command,
        "options": options,
        "method_options": method_options,
        "data": data,
        **origin.now(),
    }


def write_seed(
    run: Path, seed: int, config: dict[str, Any], result: dict[str, Any]
) -> None:
    """Write both files, the result last: where it is, everything is.

    What was left of the memory (see :func:`memory_part`) gets its name between the two; an
    earlier one goes.
    """
    directory = seed_directory(run, seed)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "result.json").unlink(missing_ok=True)
        write_json(
            directory / "config.json", {**config, "seed": seed, "created": created}
        )
        (directory / MEMORY).unlink(missing_ok=True)
        if memory_part(directory).exists():
            os.replace(memory_part(directory), directory / MEMORY)
        write_json(directory / "result.json", result)
    except OSError:
        with suppress(OSError):
            memory_part(directory).unlink()
        raise


def write_json(path: Path, value: dict[str, Any]) -> None:
    """:func:`write_whole`, with a line for each key."""
    lines = [f" {json.dumps(key)}: {_text(item)}" for key, item in value.items()]
    write_whole(path, "{\n" + ",\n".join(lines) + "\n}\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all: a full disk leaves what there was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _text(item: Any) -> str:
    spread = 1 if isinstance(item, dict) else None
    text = json.dumps(item, indent=spread, allow_nan=False, ensure_ascii=False)
    return text.replace("\n", "\n ")


def finished(
    run: Path, config: dict[str, Any], anyway: Collection[str] = ()
) -> dict[int, dict[str, Any]]:
    """Results of this configuration that are there already, by seed.

    :param config: with ``data`` empty, where they are not at hand to be compared.
    :param anyway: options that may differ.
    :raises UserError: if the directory holds results of another configuration, or
        files that cannot be read.
    """
    results = {}
    for path in sorted(run.glob("seed-*/result.json")):
        other = read(path.with_name("config.json"), ("seed",))
        difference = _difference(config, other, anyway)
        if difference:
            raise UserError(
                f"{path.parent} was run with {difference}: use another --out, or "
                "--overwrite to replace it"
            )
        results[other["seed"]] = read(path, ("seed",), COLUMNS)
    return results


def other_origin(
    folder: Path, used: Mapping[str, Collection[int]], now: Mapping[str, Any]
) -> str:
    """What made stored seeds, if that was not for certain what is there now.

    :param used: seeds that are used again, by run directory in ``folder``.
    :param now: :func:`experiments.origin.now`, or a configuration, which holds it.
    :return: a line for people; empty where nothing differs.
    """
    others: dict[str, list[str]] = {}
    for run, seeds in used.items():
        made: dict[str, list[int]] = {}
        for seed in sorted(seeds):
            then = read(seed_directory(folder / run, seed) / "config.json")
            if not origin.same(then, now):
                made.setdefault(origin.told(then), []).append(seed)
        for then_told, some in made.items():
            others.setdefault(then_told, []).append(f"{run} {_seeds(some)}")
    if not others:
        return ""
    told = "; ".join(f"{', '.join(some)} by {then}" for then, some in others.items())
    return f"{folder} holds {told}; now {origin.told(now)}: --overwrite runs them again"


def _seeds(some: list[int]) -> str:
    if len(some) == 1:
        return f"seed {some[0]}"
    if some == list(range(some[0], some[-1] + 1)):
        return f"seeds {some[0]}–{some[-1]}"
    return f"seeds {', '.join(map(str, some))}"


def drop_others(run: Path, config: dict[str, Any]) -> None:
    """Remove results of other configurations, which would mix with this one's."""
    for path in run.glob("seed-*/result.json"):
        try:
            differs = bool(_difference(config, read(path.with_name("config.json"))))
        except UserError:
            differs = True
        if differs:
            path.unlink()


def read(
    path: Path, keys: Collection[str] = (), figures: Collection[str] = ()
) -> dict[str, Any]:
    """Contents of a seed's ``config.json`` or ``result.json``.

    :param keys: what has to be there.
    :param figures: what has to be there as a number, or null where undefined.
    :raises UserError: naming the file and what is wrong with it.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise ValueError(f"format {version!r}, not {FORMAT}")
        if missing := [key for key in (*keys, *figures) if key not in found]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        for key in figures:
            if not (found[key] is None or type(found[key]) in (int, float)):
                raise ValueError(f"{key} is not a number")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove it, or run again with another "
            "--out or --overwrite"
        ) from error
    return found


def _difference(
    ours: dict[str, Any], theirs: dict[str, Any], anyway: Collection[str] = ()
) -> str:
    """The options that differ, as ``option theirs (now ours)``.

    An option that their run did not have yet counts as its default.
    """
    parts = []
    for group, prefix in (("options", "--"), ("method_options", "")):
        now, then = ours[group], dict(theirs.get(group, {}))
        for name in now.keys() - then.keys():
            then[name] = _default(ours, group, name)
        for name in sorted({*now, *then} - NO_MATTER - {*anyway}):
            if now.get(name) != then.get(name):
                option = prefix + (name.replace("_", "-") if prefix else name)
                parts.append(f"{option} {then.get(name)} (now {now.get(name)})")
    data = ours["data"]
    if data and data["sha256"] != theirs.get("data", {}).get("sha256"):
        parts.append(f"other data (now {ours['data']['source']})")
    return ", ".join(parts)


def _default(config: dict[str, Any], group: str, name: str) -> Any:
    if group == "options":
        option = Run.__dataclass_fields__.get(name)
        default = None if option is None else option.default
        return list(default) if isinstance(default, tuple) else default
    method = config["options"].get("method")
    own = parameters(method) if method in METHODS else {}
    return own[name].default if name in own else None
