"""Accuracy, over all classes or among those of the evaluated experience."""

from typing import Any

from avalanche_ext.metrics.plugin import ExperienceMetric, StreamMetric, record_for
from avalanche_ext.metrics.record import EvaluationRecord

__all__ = ["accuracy_metrics", "task_masked_accuracy_metrics"]


class ExperienceAccuracy(ExperienceMetric):
    def result(self) -> float | None:
        accuracy = self.record.experience_accuracy
        return None if accuracy is None else accuracy.plain

    def __str__(self) -> str:
        return "Top1_Acc_Exp"


class StreamAccuracy(StreamMetric):
    def result(self) -> float | None:
        accuracy = self.record.stream_accuracy
        return None if accuracy is None else accuracy.plain

    def __str__(self) -> str:
        return "Top1_Acc_Stream"


class ExperienceTaskMaskedAccuracy(ExperienceMetric):
    def result(self) -> float | None:
        accuracy = self.record.experience_accuracy
        return None if accuracy is None else accuracy.task_masked

    def __str__(self) -> str:
        return "Top1_TaskMaskedAcc_Exp"


class StreamTaskMaskedAccuracy(StreamMetric):
    def result(self) -> float | None:
        accuracy = self.record.stream_accuracy
        return None if accuracy is None else accuracy.task_masked

    def __str__(self) -> str:
        return "Top1_TaskMaskedAcc_Stream"


def accuracy_metrics(
    *,
    experience: bool = True,
    stream: bool = True,
    record: EvaluationRecord | None = None,
) -> list[Any]:
    """Accuracy of every evaluation: right predictions / samples.

    The same numbers under the same names (``Top1_Acc_Exp``, ``Top1_Acc_Stream``)
    as ``avalanche.evaluation.metrics.accuracy_metrics(experience=True,
    stream=True)``, counted on the strategy's device. An evaluation without samples
    emits nothing, where upstream emits 0.

    >>> [str(metric) for metric in accuracy_metrics()]
    ['Top1_Acc_Exp', 'Top1_Acc_Stream']

    :param experience: emit the accuracy on each evaluated experience.
    :param stream: emit the accuracy over all samples of the evaluated stream.
    :param record: a record shared with other metrics; by default an own one.
    :return: plugin metrics for an ``EvaluationPlugin``.
    """
    record = record_for(experience, stream, record)
    metrics: list[Any] = []
    if experience:
        metrics.append(ExperienceAccuracy(record))
    if stream:
        metrics.append(StreamAccuracy(record))
    return metrics


def task_masked_accuracy_metrics(
    *,
    experience: bool = True,
    stream: bool = True,
    record: EvaluationRecord | None = None,
) -> list[Any]:
    """Accuracy with the arg-max among the classes of the evaluated experience.

    For a head shared by all experiences this is its Task-IL accuracy: what it would
    reach if the task of a sample were known at test time. It equals the plain one
    where all experiences have all classes.

    >>> [str(metric) for metric in task_masked_accuracy_metrics(stream=False)]
    ['Top1_TaskMaskedAcc_Exp']

    :param experience: emit the accuracy on each evaluated experience.
    :param stream: emit the accuracy over all samples of the evaluated stream.
    :param record: a record shared with other metrics; by default an own one.
    :return: plugin metrics for an ``EvaluationPlugin``.
    :raises ValueError: if the record does not count task-masked accuracies.
    """
    record = record_for(experience, stream, record, task_masked=True)
    if not record.task_masked:
        raise ValueError(
            "the record has task_masked=False and counts no task-masked accuracies: "
            "create it with EvaluationRecord(), or leave record out"
        )
    metrics: list[Any] = []
    if experience:
        metrics.append(ExperienceTaskMaskedAccuracy(record))
    if stream:
        metrics.append(StreamTaskMaskedAccuracy(record))
    return metrics
