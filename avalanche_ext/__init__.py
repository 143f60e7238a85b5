"""Continual-learning strategies for Avalanche that are correct, fast and explain
themselves.

Of single rows: :func:`per_sample_losses`, :func:`gradient_norms`,
:func:`gradient_vectors`, :func:`diagonal_fisher` and their kin.
Remembered: :class:`ExemplarTable`, :class:`MultiStrategyBuffer`,
:func:`fast_reservoir_sampling`. Scored: the ``…Criterion`` classes; drawn:
:class:`Softmax`, :class:`Priority`, :class:`Coreset`. Done with it:
:class:`RehearsalPlugin` and its presets. Held in place: :class:`AdaptiveEWCPlugin`,
:class:`SynapticIntelligencePlugin`. For upstream's ``ParametricBuffer``: the
``…SelectionStrategy`` classes. Run: :class:`ResidentDataPlugin`,
:class:`LeanEvaluationPlugin`, :class:`ScaleToUnit`, :mod:`~avalanche_ext.checkpoint`.
Measured: :class:`EvaluationRecord` and the ``…_metrics`` helpers.
"""

from avalanche_ext import checkpoint
from avalanche_ext.gradients import (
    GradientRecorder,
    cosines,
    diagonal_fisher,
    gradient_cosines,
    gradient_norms,
    gradient_vectors,
    group_gradients,
    inspect_gradients,
    losses_and_gradient_norms,
    per_sample_losses,
)
from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    backward_transfer_metrics,
    forgetting_metrics,
    memory_health_metrics,
    memory_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.plugins import (
    AdaptiveEWCPlugin,
    LeanEvaluationPlugin,
    RehearsalPlugin,
    ResidentDataPlugin,
    SynapticIntelligencePlugin,
    class_balanced_replay,
    er_ring,
    multi_strategy_replay,
    reservoir_replay,
)
from avalanche_ext.storage import (
    AccessCriterion,
    AgeCriterion,
    Coreset,
    CriterionSelectionStrategy,
    DiversityCriterion,
    EnergyCriterion,
    ExemplarTable,
    ForgettingCriterion,
    GradientCriterion,
    KCenterSelectionStrategy,
    LossCriterion,
    MultiStrategyBuffer,
    Priority,
    ScaleToUnit,
    Softmax,
    UncertaintyCriterion,
    WeightedCriterion,
    fast_reservoir_sampling,
)

__version__ = "0.1.0"

__all__ = [
    "AccessCriterion",
    "AdaptiveEWCPlugin",
    "AgeCriterion",
    "Coreset",
    "CriterionSelectionStrategy",
    "DiversityCriterion",
    "EnergyCriterion",
    "EvaluationRecord",
    "ExemplarTable",
    "ForgettingCriterion",
    "GradientCriterion",
    "GradientRecorder",
    "KCenterSelectionStrategy",
    "LeanEvaluationPlugin",
    "LossCriterion",
    "MultiStrategyBuffer",
    "Priority",
    "RehearsalPlugin",
    "ResidentDataPlugin",
    "ScaleToUnit",
    "Softmax",
    "SynapticIntelligencePlugin",
    "UncertaintyCriterion",
    "WeightedCriterion",
    "accuracy_metrics",
    "backward_transfer_metrics",
    "checkpoint",
    "class_balanced_replay",
    "cosines",
    "diagonal_fisher",
    "er_ring",
    "fast_reservoir_sampling",
    "forgetting_metrics",
    "gradient_cosines",
    "gradient_norms",
    "gradient_vectors",
    "group_gradients",
    "inspect_gradients",
    "losses_and_gradient_norms",
    "memory_health_metrics",
    "memory_metrics",
    "multi_strategy_replay",
    "per_sample_losses",
    "reservoir_replay",
    "task_masked_accuracy_metrics",
]
