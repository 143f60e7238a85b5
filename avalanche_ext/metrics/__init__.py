"""What is measured: plugin metrics for Avalanche's evaluation plugin."""

from avalanche_ext.metrics.accuracy import (
    accuracy_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.metrics.forgetting import (
    backward_transfer_metrics,
    forgetting_metrics,
)
from avalanche_ext.metrics.memory import MemoryComposition, memory_metrics
from avalanche_ext.metrics.memory_health import (
    Health,
    MemoryHealth,
    memory_health_metrics,
)
from avalanche_ext.metrics.record import EvaluationRecord

__all__ = [
    "EvaluationRecord",
    "Health",
    "MemoryComposition",
    "MemoryHealth",
    "accuracy_metrics",
    "backward_transfer_metrics",
    "forgetting_metrics",
    "memory_health_metrics",
    "memory_metrics",
    "task_masked_accuracy_metrics",
]
