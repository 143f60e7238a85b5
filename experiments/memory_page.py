"""What the page of a run tells of its memory: scores, ages, uses and images."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from experiments import memory_figures, memory_sample
from experiments.errors import UserError
from experiments.finished_run import FinishedRun, as_array
from experiments.memory_figures import QUANTILES, quantile_panels
from experiments.quantities import written
from experiments.spread import Array, mean_and_sd
from experiments.store import seed_directory

SHOWN = 32
"""Pixels that a small image is enlarged to, by a whole number."""
_WIDTH = 760  # of a line of images, in pixels


def memory_section(run: FinishedRun) -> dict[str, Any] | None:
    """What the template needs to know of the memory, ready to be written.

    :return: means over seeds; ``None`` for a run without a memory, or of a time when
        none of this was measured.
    :raises UserError: for a result whose ``memory_health`` is not as it was written.
    """
    readings: list[_Reading] = []
    for result in run.results:
        if health := result.get("memory_health"):
            path = seed_directory(run.directory, result["seed"]) / "result.json"
            try:
                readings.append(_reading(health))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path}: memory_health is not as it was written ({error!r}); "
                    "remove it and run again"
                ) from error
            if len(readings[0].sizes) != len(health):
                raise UserError(
                    f"{path}: memory_health has another length than those of the seeds "
                    "beside it; keep one run in a directory"
                )
    if not readings:
        return None
    names = dict.fromkeys(name for reading in readings for name in reading.scores)
    scores = [
        (name, _mean(r.scores[name] for r in readings if name in r.scores))
        for name in names
    ]
    facts = [
        ("age", _mean(r.ages for r in readings)),
        ("uses", _mean(r.uses for r in readings)),
    ]
    sizes = _mean(reading.sizes for reading in readings)
    sized = not np.isnan(sizes[:, 1]).all()
    stale, never_drawn = _mean(reading.shares for reading in readings)[-1]
    return {
        "scores": Markup(quantile_panels(scores)) if scores else None,
        "facts": Markup(quantile_panels(facts, sizes if sized else None)),
        "sized": sized,
        "stale": written(100 * stale, 1),
        "never_drawn": written(100 * never_drawn, 1),
        "sheet": _sheet(run),
    }


class _Reading(NamedTuple):
    """``memory_health`` of a seed as arrays, an experience a row."""

    scores: dict[str, Array]  # quantiles by criterion, as are ages and uses
    ages: Array
    uses: Array
    sizes: Array  # rows, effective sample size
    shares: Array  # of stale rows, of rows never drawn


def _reading(health: list[dict[str, Any]]) -> _Reading:
    names = dict.fromkeys(name for step in health for name in step["scores"])
    return _Reading(
        {name: _quantiles([s["scores"].get(name) for s in health]) for name in names},
        _quantiles([step["ages"] for step in health]),
        _quantiles([step["uses"] for step in health]),
        as_array([[s["rows"], s["effective_sample_size"]] for s in health]),
        as_array([[s["stale"], s["never_drawn"]] for s in health]),
    )


def _mean(arrays: Iterable[Array]) -> Array:
    return mean_and_sd(np.stack(list(arrays)))[0]


def _quantiles(steps: list[list[float | None] | None]) -> Array:
    array = as_array([step or [None] * QUANTILES for step in steps])
    if array.shape[1:] != (QUANTILES,):
        raise ValueError(f"quantiles of shape {array.shape}")
    return array


def _sheet(run: FinishedRun) -> dict[str, Any] | None:
    """The images of the first seed that has some."""
    for seed in run.seeds:
        rows = memory_sample.read(seed_directory(run.directory, seed))
        if rows is not None and len(rows.get("image", ())):
            return {
                "seed": seed,
                "shown": len(rows["slot"]),
                "stored": int(rows["stored"]),
                "order": _order(rows)[0],
                "strips": list(_strips(rows)),
            }
    return None


def _order(rows: dict[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """By what rows are ordered, and numbers that ascend in that order."""
    scores = [name for name in rows if name.startswith("score_")]
    if not scores:
        return "age", -rows["age"]
    name = "score_mixed" if "score_mixed" in scores else scores[0]
    return name.removeprefix("score_"), -rows[name]


def _strips(rows: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """The images of each class, and the medians of what is known of its rows."""
    by, order = _order(rows)
    height, width = rows["image"].shape[2:]
    scale = max(1, SHOWN // max(height, width))
    across = max(1, _WIDTH // ((width + 1) * scale))
    names = sorted(set(rows["class"].tolist()), key=lambda name: (len(name), name))
    for name in names:
        own = np.flatnonzero(rows["class"] == name)
        own = own[np.argsort(order[own], kind="stable")]  # NaN last
        picture = memory_figures.strip(rows["image"][own], across)
        lines = -(-len(own) // across)
        facts = [("age", 0), ("uses", 0)]
        if by != "age":
            facts.append((f"score_{by}", 2))
        yield {
            "class": name,
            "rows": len(own),
            "medians": [
                written(_median(rows[fact][own]), decimals) for fact, decimals in facts
            ],
            "source": Markup("data:image/png;base64,")
            + base64.b64encode(picture).decode(),
            "width": scale * (min(len(own), across) * (width + 1) - 1),
            "height": scale * (lines * (height + 1) - 1),
        }


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")
