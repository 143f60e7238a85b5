"""OverTime: a plugin metric that reads something at every evaluation and keeps it."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import EVAL

from avalanche_ext.metrics.record import experience_index

Reading = TypeVar("Reading")


class OverTime(PluginMetric, Generic[Reading]):
    """Reads something at the start of every evaluation and keeps it all.

    Not after training experiences, since an online stream has thousands of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    @abstractmethod
    def read(self) -> Reading:
        """What there is now."""

    @abstractmethod
    def values(self, reading: Reading) -> Iterable[tuple[str, float]]:
        """What to emit of it, by name."""

    def reset(self) -> None:
        """Drop the history; what is read is left alone."""
        self.history: list[Reading] = []
        """What was read, one item for each evaluation."""
        self.experiences: list[int | None] = []
        """For each item of :attr:`history`, the experience trained last before it:
        None before any training, or for sub-experiences that blend several."""
        self._trained: int | None = None

    def result(self) -> Reading | None:
        """What was read at the last evaluation; None before the first."""
        return self.history[-1] if self.history else None

    @property
    def by_experience(self) -> dict[int, Reading]:
        """:attr:`history` keyed by training experience, in the order of training;
        the last evaluation after each counts, those before training do not."""
        return {
            trained: reading
            for trained, reading in zip(self.experiences, self.history, strict=True)
            if trained is not None
        }

    def before_training_exp(self, strategy: Any) -> None:
        self._trained = experience_index(strategy.experience)

    def before_eval(self, strategy: Any) -> list[MetricValue]:
        reading = self.read()
        self.history.append(reading)
        self.experiences.append(self._trained)
        x = strategy.clock.train_iterations
        # No stream in the names: at this point the strategy has no experience yet.
        return [
            MetricValue(self, f"{name}/{EVAL}_phase", value, x)
            for name, value in self.values(reading)
        ]
