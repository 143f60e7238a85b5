"""RecordMetric: a plugin metric that emits a value of a shared record."""

from abc import abstractmethod
from typing import Any

from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name

from avalanche_ext.arguments import check_flag
from avalanche_ext.metrics.record import EvaluationRecord

__all__ = ["ExperienceMetric", "RecordMetric", "StreamMetric", "record_for"]


def record_for(
    experience: bool,
    stream: bool,
    record: EvaluationRecord | None,
    *,
    task_masked: bool = False,
) -> EvaluationRecord:
    """The record of a helper function's metrics, its arguments checked.

    :param experience: whether to emit a value for each experience.
    :param stream: whether to emit one for the stream.
    :param record: the record given; ``None`` makes an own one.
    :param task_masked: whether the own one counts task-masked accuracies.
    :raises ValueError: for flags that are neither ``True`` nor ``False``.
    :raises TypeError: for anything but a record.
    """
    check_flag("experience", experience)
    check_flag("stream", stream)
    if record is None:
        return EvaluationRecord(task_masked=task_masked)
    if not isinstance(record, EvaluationRecord):
        raise TypeError(f"record must be an EvaluationRecord, got {record!r}")
    return record


class RecordMetric(PluginMetric):
    """Keeps its record up to date; a subclass says what to emit of it, and when.

    Metrics that share a record may be in any order: the record does its work at
    the first call. No callback of a training iteration is used, so the metrics
    cost nothing there.

    :param record: the record, which other metrics may share; None makes an own one
        without the task-masked accuracy.
    """

    def __init__(self, record: EvaluationRecord | None = None) -> None:
        super().__init__()
        if record is None:
            record = EvaluationRecord(task_masked=False)
        self.record = record

    @abstractmethod
    def result(self) -> float | None:
        """The value now; None where it is undefined, and then nothing is emitted."""

    def reset(self) -> None:
        """Empty the record, for all metrics that share it."""
        self.record.reset()

    def before_training_exp(self, strategy: Any) -> None:
        self.record.begin_training(strategy)

    def before_eval(self, strategy: Any) -> None:
        self.record.begin_evaluation(strategy)

    def before_eval_exp(self, strategy: Any) -> None:
        self.record.begin_experience(strategy)

    def after_eval_iteration(self, strategy: Any) -> None:
        self.record.update(strategy)

    def after_eval_exp(self, strategy: Any) -> list[MetricValue] | None:
        self.record.end_experience(strategy)
        return None

    def _emit(
        self, strategy: Any, *, add_experience: bool, add_task: bool = True
    ) -> list[MetricValue] | None:
        value = self.result()
        if value is None:
            return None
        name = get_metric_name(
            self, strategy, add_experience=add_experience, add_task=add_task
        )
        return [MetricValue(self, name, value, strategy.clock.train_iterations)]


class ExperienceMetric(RecordMetric):
    """A record's metric that emits at the end of every evaluated experience."""

    def after_eval_exp(self, strategy: Any) -> list[MetricValue] | None:
        super().after_eval_exp(strategy)
        return self._emit(strategy, add_experience=True)


class StreamMetric(RecordMetric):
    """A record's metric that emits at the end of every evaluation.

    The displayed name has the task label, as for upstream's accuracy, where
    ``names_task`` is true.
    """

    names_task = True

    def after_eval(self, strategy: Any) -> list[MetricValue] | None:
        return self._emit(strategy, add_experience=False, add_task=self.names_task)
