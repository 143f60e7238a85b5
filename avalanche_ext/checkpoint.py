"""Save and load a whole run between experiences.

Avalanche pickles the strategy: model, optimizer, plugins with their state, metrics
and the random generators. Its ``save_checkpoint`` fails with current torch for every
strategy, because ``torch.optim`` removes its submodules from its namespace, so that
``dill`` no longer finds optimizer classes by name and tries to pickle their code.
:func:`save` puts the submodules back while it pickles, and takes them away again.
"""

import os
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from avalanche.checkpointing import maybe_load_checkpoint
from avalanche.models import DynamicModule
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.templates.base_sgd import BaseSGDTemplate
from torch.nn.parameter import is_lazy

from avalanche_ext import in_place
from avalanche_ext.arguments import whole_number
from avalanche_ext.settings import TellsSettings, differences

_DAMAGED = (
    "{} is not a whole checkpoint, it was cut short or damaged: take another copy, or "
    "begin anew"
)


def save(
    strategy: Any, path: str | Path, *, next_experience: int | None = None
) -> None:
    """Save ``strategy`` and the global random generators to ``path``.

    Call it between experiences, not from a plugin. The file is complete or absent: it
    is written beside ``path`` and renamed. Upstream's ``maybe_load_checkpoint`` reads
    it too.

    :param strategy: one of Avalanche's, with its plugins.
    :param path: of the file; folders are made.
    :param next_experience: what :func:`load` returns as the experience to go on with;
        by default the number of experiences trained (on an online stream, of
        sub-experiences).
    :raises TypeError: for other things than a strategy and a path.
    :raises ValueError: for a folder, or a ``next_experience`` that is no number of
        experiences.
    :raises OSError: where the file cannot be written.
    :raises RuntimeError: inside ``train`` or ``eval``.
    """
    path = _file("save", strategy, path)
    if strategy.experience is not None:
        raise RuntimeError(
            f"{type(strategy).__name__} is at work on experience "
            f"{strategy.experience.current_experience}, or was cut short there: save "
            "after train() or eval() has returned"
        )
    if next_experience is None:
        next_experience = strategy.clock.train_exp_counter
    next_experience = whole_number(
        "next_experience", next_experience, "experiences", least=0
    )
    content = {
        "form": _Form(_form(strategy)),  # first, so that it is checked first
        "strategy": strategy,
        "rng_manager": RNGManager,
        "exp_counter": next_experience,
    }
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
    with _told_of_writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _optimizer_modules(), open(unfinished, "wb") as file:
                torch.save(content, file, pickle_module=in_place.pickling(strategy))
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def load(
    strategy: Any,
    path: str | Path,
    *,
    map_location: Any = None,
    missing_ok: bool = False,
) -> tuple[Any, int]:
    """Take over a saved strategy's state, and the random generators' state.

    ``strategy`` must have been made as the saved one was, with plugins of the same
    settings; seeds, devices and directories may differ. It, its model and optimizer,
    plugins, memories and metrics take over the saved state in place, so whatever refers
    to them stays right. Parameters, loggers, data sets and transforms are new objects:
    reach them through the strategy from here on. Rows go to the device, or the
    directory, of the strategy's own tables.

    >>> strategy, start = load(strategy, "run.ckpt", missing_ok=True)  # doctest: +SKIP
    >>> for experience in benchmark.train_stream[start:]:              # doctest: +SKIP
    ...     strategy.train(experience)
    ...     save(strategy, "run.ckpt")

    :param strategy: to take over the saved state.
    :param path: of the file.
    :param map_location: as for ``torch.load``.
    :param missing_ok: without a file return ``(strategy, 0)``, for scripts that resume.
    :return: the strategy and the experience to go on with.
    :raises TypeError: for other things than a strategy and a path.
    :raises FileNotFoundError: without a file.
    :raises ValueError: for a folder, a file that is no checkpoint or was cut short, or the
        checkpoint of a strategy of another type, or with another model, optimizer,
        plugins or settings of them; nothing changed.
    """
    path = _file("load", strategy, path)
    if not path.exists():
        if missing_ok:
            return strategy, 0
        raise FileNotFoundError(
            f"no checkpoint at {path}: save one first, or give missing_ok=True to start "
            "from the first experience"
        )
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4" and not is_zipfile(
            path
        ):  # torch says little of it
            raise ValueError(_DAMAGED.format(path))
    with _optimizer_modules(), in_place.into(strategy):
        try:
            loaded: tuple[Any, int] = maybe_load_checkpoint(
                strategy, path, map_location=map_location
            )
        except (KeyError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is not a checkpoint ({error!r}): name a file that save() wrote"
            ) from error
        except RuntimeError as error:
            if "PytorchStreamReader" not in str(error):
                raise
            raise ValueError(_DAMAGED.format(path)) from error
    return loaded


def _file(call: str, strategy: Any, path: Any) -> Path:
    """The path, where both arguments can be what they should."""
    if not isinstance(strategy, BaseSGDTemplate) or not isinstance(
        path, (str, os.PathLike)
    ):
        given = [
            x if x is None or isinstance(x, str) else _name(x) for x in (strategy, path)
        ]
        raise TypeError(
            f"{call}(strategy, path) takes a strategy of Avalanche and the path of a file, "
            f"in this order, got {given[0]!r} and {given[1]!r}"
        )
    place = Path(path)
    if place.is_dir():
        raise ValueError(f"{place} is a folder: name a file, as {place / 'run.ckpt'}")
    return place


@contextmanager
def _told_of_writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        if "inline_container" in str(error):  # of torch's writer, which says no more
            reason: str | None = "the disk may be full"
        elif isinstance(error, OSError):
            reason = error.strerror
        else:
            raise
        raise OSError(
            f"cannot write {path} ({reason}): name another file, or free the place"
        ) from error


class _Form(dict[str, Any]):
    """What must be alike; checked against the strategy when it is unpickled."""

    def __reduce__(self) -> Any:
        return _checked, (dict(self),)


def _checked(form: dict[str, Any]) -> dict[str, Any]:
    strategy = in_place.target()
    if strategy is not None:
        differences = list(_differences(form, _form(strategy)))
        if differences:
            raise ValueError(
                f"the checkpoint is of another run: {'; '.join(differences)}: make the "
                "strategy as the saved one was"
            )
    return form


def _form(strategy: Any) -> dict[str, Any]:
    growing = tuple(
        f"{name}." if name else ""
        for name, module in strategy.model.named_modules()
        if isinstance(module, DynamicModule)
    )
    parameters = dict(strategy.model.named_parameters())
    return {
        "strategy": _name(strategy),
        "model": _name(strategy.model),
        "optimizer": _name(getattr(strategy, "optimizer", None)),
        "plugins": [_name(plugin) for plugin in strategy.plugins],
        "shapes": {n: tuple(p.shape) for n, p in parameters.items() if not is_lazy(p)},
        "growing": [n for n, p in parameters.items() if n.startswith(growing)],
        "settings": {
            f"{_name(part)} at {_told(place)}": part.settings
            for place, part in in_place.parts(strategy).items()
            if isinstance(part, TellsSettings)
        },
        "lazy": [n for n, p in parameters.items() if is_lazy(p)],
    }


def _told(place: str) -> str:
    """``.plugins.0.buffer`` as ``plugins[0].buffer``."""
    return re.sub(r"\.(\d+)", r"[\1]", place)[1:]


def _name(part: Any) -> str:
    return type(part).__qualname__


def _differences(saved: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    for what in ("strategy", "model", "optimizer", "plugins"):
        if saved[what] != given[what]:
            yield f"its {what} {_listed(saved[what])}, here {_listed(given[what])}"
    if saved["plugins"] == given["plugins"]:
        yield from _other_settings(saved.get("settings", {}), given["settings"])
    if saved["model"] != given["model"]:
        return
    growing = {*saved["growing"], *given["growing"]}
    lazy = {*saved["lazy"], *given["lazy"]}
    there, here = saved["shapes"], given["shapes"]
    for names, where in (
        (there.keys() - here.keys(), "only there"),
        (here.keys() - there.keys(), "only here"),
    ):
        fixed = sorted(names - growing - lazy)
        if fixed:
            yield f"parameters {_listed(fixed)} {where}"
    for name in there:
        first = 1 if name in growing else 0  # a head that grows has further outputs
        if name in here and there[name][first:] != here[name][first:]:
            yield f"parameter {name} has shape {there[name]}, here {here[name]}"


def _other_settings(
    saved: Mapping[str, Any], given: Mapping[str, Any]
) -> Iterator[str]:
    for part in saved:
        for name, then, now in differences(saved[part], given.get(part, {})):
            yield f"its {part} has {name}={then!r}, here {now!r}"


def _listed(names: Any) -> str:
    return names if isinstance(names, str) else f"[{', '.join(names)}]"


@contextmanager
def _optimizer_modules() -> Iterator[None]:
    """``torch.optim.adam`` and its like, where their classes say they are defined."""
    missing = {
        name.rpartition(".")[2]: module
        for name, module in sys.modules.items()
        if name.startswith("torch.optim.")
        and name.count(".") == 2
        and not hasattr(torch.optim, name.rpartition(".")[2])
    }
    for name, module in missing.items():
        setattr(torch.optim, name, module)
    try:
        yield
    finally:
        for name in missing:
            delattr(torch.optim, name)
