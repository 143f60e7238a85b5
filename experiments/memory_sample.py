"""Some rows of a memory as a small file beside a result: images, facts and scores."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import CHANNELS
from experiments.errors import UserError
from experiments.store import MEMORY, memory_part

MOST_ROWS = 200
MOST_BYTES = 2**20
"""Of all images together, but ten are kept of any size."""

_KEYS = ("stored", "slot", "class", "label", "task", "age", "uses")


def sample(
    memory: Any, classes: Sequence[str], maximum: int | None
) -> dict[str, np.ndarray]:
    """Up to 200 rows of a memory, drawn at random where it holds more.

    The same memory gives the same rows; no number is drawn from any generator in use,
    and nothing is scored.

    :param memory: a :class:`~avalanche_ext.MultiStrategyBuffer`.
    :param classes: what the class of each of its rows is called.
    :param maximum: of the pixels of a data set of ``uint8`` images; ``None`` for others.
    :return: ``stored`` (rows in the memory), and of each row drawn ``slot``, ``class``,
        ``label``, ``task`` (−1 without task labels), ``age``, ``uses``,
        ``score_<name>`` of each criterion in use and of ``mixed`` (NaN of stale rows)
        and, where inputs look like images, ``image``, uint8,
        ``(rows, channels, height, width)``.
    """
    import torch

    table, n = memory.table, len(memory)
    if not n:
        return {
            "stored": np.array(0),
            **{name: np.zeros(0, dtype=np.int64) for name in _KEYS[1:]},
        }
    x = table.column("x")
    most = MOST_ROWS
    if isinstance(x, torch.Tensor):
        most = min(most, max(10, MOST_BYTES // max(1, x[0].numel())))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    slots = order[:most].sort().values
    task = torch.full((n,), -1)
    if "task" in table.columns:
        task = table.column("task")
    facts = {
        "label": table.column("y"),
        "task": task,
        "age": memory.ages,
        "uses": memory.uses,
    }
    for name, known in memory.known_scores().items():
        facts[f"score_{name}"] = torch.full((n,), torch.nan)
        facts[f"score_{name}"][~memory.stale.cpu()] = known.float().cpu()
    rows = {name: values.cpu()[slots].numpy() for name, values in facts.items()}
    images = None
    if isinstance(x, torch.Tensor):
        images = as_images(table.gather(slots, ["x"])["x"].cpu().numpy(), maximum)
    return {
        "stored": np.array(n),
        "slot": slots.numpy(),
        "class": np.array(classes)[slots.numpy()],
        **rows,
        **({} if images is None else {"image": images}),
    }


def as_images(x: np.ndarray, maximum: int | None) -> np.ndarray | None:
    """Rows as uint8 images, ``(n, channels, height, width)``; ``None`` where they do
    not look like any.

    Pixels are told by ``maximum``, as stored or as parts of it; without it, they lie
    from black to white between the smallest and the largest number here.
    """
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim == 4 and x.shape[1] not in CHANNELS and x.shape[3] in CHANNELS:
        x = x.transpose(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in CHANNELS or min(x.shape[2:]) < 2:
        return None
    low, high = 0.0, 1.0
    if x.dtype == np.uint8:
        high = float(maximum or 255)
    elif maximum is None:
        low, high = float(x.min()), float(x.max())
    share = (x.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.round(255 * share.clip(0, 1)).astype(np.uint8)


def leave(directory: Path, rows: dict[str, np.ndarray] | None) -> None:
    """Leave the sample of a seed that has been trained where
    :func:`~experiments.store.write_seed` takes it over with the result.

    :param directory: the seed's own.
    :param rows: ``None`` for a method without a memory.
    :raises UserError: where it cannot be written.
    """
    path = memory_part(directory)
    try:
        path.unlink(missing_ok=True)
        if rows is None:
            return
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            columns: dict[str, Any] = rows
            np.savez_compressed(file, **columns)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):  # nothing half-written stays
            path.unlink()
        raise UserError(
            f"cannot write {path} ({error}): name another folder by --out DIR"
        ) from error


def read(directory: Path) -> dict[str, np.ndarray] | None:
    """The sample of a seed; ``None`` where there is none.

    :param directory: the seed's own.
    :raises UserError: naming the file and what is wrong with it.
    """
    path = directory / MEMORY
    if not path.is_file():
        return None
    try:
        # Opened here: numpy leaves a file open that begins as an archive and is none.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            rows = {name: stored[name] for name in stored.files}
        if missing := [name for name in _KEYS if name not in rows]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        lengths = {len(rows[name]) for name in rows if name != "stored"}
        if len(lengths) > 1:
            raise ValueError(f"its columns have lengths {sorted(lengths)}")
    except (
        *(OSError, ValueError, TypeError, EOFError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove it, or run again with --overwrite"
        ) from error
    return rows
