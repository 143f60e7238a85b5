"""Continual-learning strategies for Avalanche that are correct, fast and explain
themselves."""

# What is remembered
# What a strategy does with it
from avalanche_ext.plugins import (
    LeanEvaluationPlugin,
    RehearsalPlugin,
    ResidentDataPlugin,
    class_balanced_replay,
    er_ring,
    reservoir_replay,
)
from avalanche_ext.storage import (
    ExemplarTable,
    MultiStrategyBuffer,
    ScaleToUnit,
    fast_reservoir_sampling,
)

__version__ = "0.1.0"

__all__ = [
    "ExemplarTable",
    "LeanEvaluationPlugin",
    "MultiStrategyBuffer",
    "RehearsalPlugin",
    "ResidentDataPlugin",
    "ScaleToUnit",
    "class_balanced_replay",
    "er_ring",
    "fast_reservoir_sampling",
    "reservoir_replay",
]
