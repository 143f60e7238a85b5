"""What a strategy does with what is remembered, one plugin a file."""

from avalanche_ext.plugins.evaluation import LeanEvaluationPlugin
from avalanche_ext.plugins.rehearsal import RehearsalPlugin
from avalanche_ext.plugins.replay_presets import (
    class_balanced_replay,
    er_ring,
    multi_strategy_replay,
    reservoir_replay,
)
from avalanche_ext.plugins.resident_data import ResidentDataPlugin

__all__ = [
    "LeanEvaluationPlugin",
    "RehearsalPlugin",
    "ResidentDataPlugin",
    "class_balanced_replay",
    "er_ring",
    "multi_strategy_replay",
    "reservoir_replay",
]
