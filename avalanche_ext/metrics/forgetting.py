"""Forgetting and backward transfer, right on batch and on online streams."""

from typing import Any

from avalanche.evaluation.metric_results import MetricValue
from avalanche.evaluation.metric_utils import get_metric_name

from avalanche_ext.metrics.matrix import Definition, check_definition, mean_or_none
from avalanche_ext.metrics.plugin import ExperienceMetric, StreamMetric, record_for
from avalanche_ext.metrics.record import EvaluationRecord

__all__ = ["backward_transfer_metrics", "forgetting_metrics"]

_NAMES: dict[Definition, tuple[str, str]] = {
    "max": ("MaxForgetting_Exp", "MaxForgetting_Stream"),
    "first": ("ExperienceForgetting", "StreamForgetting"),
}


class ExperienceForgetting(ExperienceMetric):
    sign = 1

    def __init__(self, definition: Definition, record: EvaluationRecord) -> None:
        super().__init__(record)
        self.definition = definition
        self._due: dict[str, tuple[str, int]] = {}

    def result(self) -> float | None:
        return self._of(None)

    def _of(self, cell: tuple[str, int] | None) -> float | None:
        lost = self.record.forgetting_now(self.definition, cell)
        return None if lost is None else self.sign * lost

    def before_eval(self, strategy: Any) -> None:
        super().before_eval(strategy)
        self._due = {}

    def after_eval_exp(self, strategy: Any) -> list[MetricValue] | None:
        if not self.record.part:
            return super().after_eval_exp(strategy)
        # Complete only once all sub-experiences are counted.
        self.record.end_experience(strategy)
        cell = self.record.cell
        name = get_metric_name(self, strategy, add_experience=False)
        self._due[f"{name}/Exp{cell[1]:03}"] = cell
        return None

    def after_eval(self, strategy: Any) -> list[MetricValue]:
        values = [(name, self._of(cell)) for name, cell in self._due.items()]
        x = strategy.clock.train_iterations
        return [
            MetricValue(self, n, value, x) for n, value in values if value is not None
        ]

    def __str__(self) -> str:
        return _NAMES[self.definition][0]


class StreamForgetting(StreamMetric):
    names_task = False

    def __init__(self, definition: Definition, record: EvaluationRecord) -> None:
        super().__init__(record)
        self.definition = definition

    def result(self) -> float | None:
        stream = self.record.evaluated_stream
        return mean_or_none(self.record.forgetting_by(self.definition, stream=stream))

    def __str__(self) -> str:
        return _NAMES[self.definition][1]


class ExperienceBackwardTransfer(ExperienceForgetting):
    sign = -1

    def __str__(self) -> str:
        return "ExperienceBWT"


class StreamBackwardTransfer(StreamForgetting):
    def result(self) -> float | None:
        lost = super().result()
        return None if lost is None else -lost

    def __str__(self) -> str:
        return "StreamBWT"


def forgetting_metrics(
    *,
    experience: bool = True,
    stream: bool = True,
    definition: Definition = "max",
    record: EvaluationRecord | None = None,
) -> list[Any]:
    """What was once known and is not any more.

    With ``a_{t,i}`` the accuracy on experience i after training experience t and T
    the last one trained, for every experience i trained before T:

    - ``definition="max"``: ``f_i = max_{l<T} a_{l,i} - a_{T,i}`` (Chaudhry et al.
      2018), displayed as ``MaxForgetting_Exp`` and ``MaxForgetting_Stream``;
    - ``definition="first"``: ``a_{i,i} - a_{T,i}``, upstream's definition under
      upstream's names, ``ExperienceForgetting`` and ``StreamForgetting``.

    The stream's value is the mean over those i. Nothing is emitted where there is
    none, as before the second training experience (upstream emits 0 there). On
    online streams, t counts the experiences that the stream was cut from, and so does
    i, with one value for each at the end of the evaluation; upstream's metrics compare
    indices of sub-experiences and stay at 0.

    >>> [str(metric) for metric in forgetting_metrics()]
    ['MaxForgetting_Exp', 'MaxForgetting_Stream']

    :param experience: emit the forgetting of each evaluated experience.
    :param stream: emit its mean over the evaluated stream.
    :param definition: ``"max"`` or ``"first"``.
    :param record: a record shared with other metrics; by default an own one.
    :return: plugin metrics for an ``EvaluationPlugin``.
    :raises ValueError: for an unknown definition.
    """
    check_definition(definition)
    record = record_for(experience, stream, record)
    metrics: list[Any] = []
    if experience:
        metrics.append(ExperienceForgetting(definition, record))
    if stream:
        metrics.append(StreamForgetting(definition, record))
    return metrics


def backward_transfer_metrics(
    *,
    experience: bool = True,
    stream: bool = True,
    record: EvaluationRecord | None = None,
) -> list[Any]:
    """What later training added to, or took from, earlier experiences.

    ``a_{T,i} - a_{i,i}`` for every experience i trained before T, and its mean over
    them (Lopez-Paz & Ranzato 2017). Upstream's definition under upstream's names,
    ``ExperienceBWT`` and ``StreamBWT``, and right on online streams too, see
    :func:`forgetting_metrics`.

    :param experience: emit the transfer of each evaluated experience.
    :param stream: emit its mean over the evaluated stream.
    :param record: a record shared with other metrics; by default an own one.
    :return: plugin metrics for an ``EvaluationPlugin``.
    """
    record = record_for(experience, stream, record)
    metrics: list[Any] = []
    if experience:
        metrics.append(ExperienceBackwardTransfer("first", record))
    if stream:
        metrics.append(StreamBackwardTransfer("first", record))
    return metrics
