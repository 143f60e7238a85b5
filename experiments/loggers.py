"""Avalanche's loggers by name, and what they are given to log."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.errors import UserError, unknown

LOGGERS = ("tensorboard", "csv", "wandb")
NEEDED = {"tensorboard": "tensorboard", "wandb": "wandb"}
"""Packages by logger."""


def check(names: Sequence[str]) -> None:
    """Refuse loggers that there are not.

    :raises UserError: for an unknown name, one given twice, or a missing package.
    """
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        if names.count(name) > 1:
            raise UserError(f"--loggers gives {name!r} twice: give it once")
        package = NEEDED.get(name)
        if package and find_spec(package) is None:
            raise UserError(
                f"--loggers {name} needs the package {package}: pip install {package}"
            )


def metrics(record: Any) -> list[Any]:
    """What is logged besides the metrics of every run.

    Training accuracy and loss of each epoch, the loss on each experience, and
    forgetting as first minus last, by the names that ``CSVLogger`` looks for.

    :param record: the record that the other metrics share.
    """
    from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics

    from avalanche_ext.metrics import forgetting_metrics

    return [
        *accuracy_metrics(epoch=True),
        *loss_metrics(epoch=True, experience=True, stream=True),
        *forgetting_metrics(record=record, definition="first"),
    ]


def without_logs(names: Sequence[str], directory: Path) -> list[str]:
    """Loggers that a finished seed has nothing of, which can only be had by training.

    :param directory: a seed's own.
    """
    return [name for name in names if not (directory / "logs" / name).exists()]


@contextmanager
def open_loggers(
    names: Sequence[str], directory: Path | None, title: str
) -> Iterator[list[Any]]:
    """Loggers that write into ``directory/logs``.

    While they write, the folder is ``logs.part``; it gets its name when all has gone
    well. An earlier folder goes then, also where there are no loggers.

    :param names: of :data:`LOGGERS`.
    :param directory: a seed's own.
    :param title: what the run is called where runs of several directories meet.
    """
    if directory is None:
        if names:
            raise UserError(
                "loggers have no directory to write to: use the command run"
            )
        yield []
        return
    part, logs = directory / "logs.part", directory / "logs"
    if not names:
        yield []
        shutil.rmtree(logs, ignore_errors=True)
        return
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    opened: list[tuple[Any, Callable[[int], None]]] = []
    status = 1
    try:
        for name in names:
            opened.append(_MAKERS[name](part, title))
        yield [logger for logger, _ in opened]
        status = 0
    finally:
        for _, close in opened:
            close(status)
    shutil.rmtree(logs, ignore_errors=True)
    part.rename(logs)


def _tensorboard(folder: Path, title: str) -> tuple[Any, Callable[[int], None]]:
    from avalanche.logging import TensorboardLogger

    logger = TensorboardLogger(folder / "tensorboard")
    return logger, lambda status: logger.writer.close()


def _csv(folder: Path, title: str) -> tuple[Any, Callable[[int], None]]:
    from avalanche.evaluation.metric_results import MetricValue
    from avalanche.logging import CSVLogger

    from avalanche_ext.metrics.record import experience_index

    class Logger(CSVLogger):
        """Upstream's, which on online streams overlooks all values of training and
        counts sub-experiences as experiences."""

        def before_training_exp(
            self, strategy: Any, metric_values: Any, **kwargs: Any
        ) -> None:
            self.training_exp_id = experience_index(strategy.experience)

        def after_training_epoch(
            self, strategy: Any, metric_values: Any, **kwargs: Any
        ) -> None:
            values = [
                MetricValue(
                    value.origin,
                    value.name.replace("train_online_stream", "train_stream"),
                    value.value,
                    value.x_plot,
                )
                for value in metric_values
            ]
            super().after_training_epoch(strategy, values, **kwargs)

    logger = Logger(str(folder / "csv"))
    return logger, lambda status: logger.close()


def _wandb(folder: Path, title: str) -> tuple[Any, Callable[[int], None]]:
    import wandb
    from avalanche.logging import WandBLogger

    class Logger(WandBLogger):
        """Upstream's, without what current wandb no longer has."""

        def log_single_metric(self, name: str, value: Any, x_plot: int) -> None:
            self.step = x_plot
            if isinstance(value, float | int):
                self.wandb.log({name: value}, step=x_plot)

    key = os.environ.get("WANDB_API_KEY")
    mode = os.environ.get("WANDB_MODE") or ("online" if key else "offline")
    (folder / "wandb").mkdir()
    try:
        logger = Logger(
            "avalanche_ext",
            title,
            dir=str(folder),
            save_code=False,
            params={
                "id": os.urandom(4).hex(),
                "mode": mode,
                "reinit": "finish_previous",
                # Its messages and its link name the folder that is renamed.
                "settings": wandb.Settings(silent=True, symlink=False, console="off"),
            },
        )
    except wandb.Error as error:
        line = " ".join(str(error).split())
        raise UserError(f"--loggers wandb: {line}") from error
    # Unlike finish, it waits until everything is written.
    return logger, lambda status: wandb.teardown(exit_code=status)


_MAKERS: dict[str, Callable[[Path, str], tuple[Any, Callable[[int], None]]]] = {
    "tensorboard": _tensorboard,
    "csv": _csv,
    "wandb": _wandb,
}
