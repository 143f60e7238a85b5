"""An evaluation plugin that costs nothing where nobody listens."""

import warnings
from typing import Any

from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_definitions import GenericPluginMetric, PluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin

from avalanche_ext.settings import TellsSettings, settings_of

_CALLBACKS = tuple(
    name for name in dir(SupervisedPlugin) if name.startswith(("before_", "after_"))
)


class LeanEvaluationPlugin(EvaluationPlugin, TellsSettings):
    """Avalanche's ``EvaluationPlugin``, visited only where a metric or logger listens.

    The original copies the experience at each of the ten callbacks of a training
    iteration, whether or not anyone uses it. This one finds out which callbacks the
    metrics and loggers override (again at each call of ``train`` and ``eval``) and
    leaves out the others. Values, names and their order are the same.

    :param metrics: plugin metrics, or lists of them.
    :param loggers: one of Avalanche's loggers, a list of them, or a function that makes
        one; without any, values are still collected.
    :param options: upstream's ``collect_all`` and ``strict_checks``.
    :raises TypeError: for what is no plugin metric or logger.
    """

    def __init__(self, *metrics: Any, loggers: Any = None, **options: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No loggers specified")
            super().__init__(*metrics, loggers=loggers, **options)
        for metric in self.metrics:
            if isinstance(metric, type) or not any(
                hasattr(metric, c) for c in _CALLBACKS
            ):
                raise TypeError(
                    f"metrics must be plugin metrics or lists of them, got {metric!r}: "
                    "give what a …_metrics() helper returns"
                )
        for logger in self.loggers:
            if not isinstance(logger, BaseLogger):
                raise TypeError(
                    f"loggers must be of Avalanche's BaseLogger, got {logger!r}"
                )

        self._settings = settings_of(
            {"metrics": self.metrics, "loggers": self.loggers, **options}
        )

    # Upstream answers every lookup in Python to forward unknown callbacks.
    __getattribute__ = object.__getattribute__

    def __getattr__(self, name: str) -> Any:
        if name in _CALLBACKS:
            return _Visit(self, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        """Look for listeners, and visit them."""
        self._listen()
        self._update_metrics_and_loggers(strategy, "before_training")

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        """Look for listeners, and visit them."""
        self._listen()
        super().before_eval(strategy, **kwargs)

    def _listen(self) -> None:
        for name in _CALLBACKS:
            if name in ("before_training", "before_eval"):
                continue
            if any(_hears(one, name) for one in (*self.metrics, *self.loggers)):
                self.__dict__.pop(name, None)
            else:
                self.__dict__[name] = _nothing


class _Visit:
    def __init__(self, plugin: LeanEvaluationPlugin, callback: str) -> None:
        self.plugin, self.callback = plugin, callback

    def __call__(self, strategy: Any, **kwargs: Any) -> None:
        self.plugin._update_metrics_and_loggers(strategy, self.callback)


def _nothing(strategy: Any, **kwargs: Any) -> None:
    """Nobody listens."""


def _hears(listener: Any, callback: str) -> bool:
    method = getattr(type(listener), callback, None)
    if method is None:
        return callback in vars(listener)
    if method in (getattr(PluginMetric, callback, None),) or (
        getattr(method, "__module__", "") == "avalanche.core"
    ):
        return False
    if method is getattr(GenericPluginMetric, callback, None):
        # A generic metric of one mode has empty callbacks in the other.
        phase = "eval" if "_eval" in callback else "train"
        return bool(listener._mode == phase)
    return True
