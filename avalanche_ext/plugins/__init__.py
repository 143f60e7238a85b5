"""What a strategy does with what is remembered, one plugin a file."""

from avalanche_ext.plugins.adaptive_ewc import AdaptiveEWCPlugin
from avalanche_ext.plugins.evaluation import LeanEvaluationPlugin
from avalanche_ext.plugins.rehearsal import RehearsalPlugin
from avalanche_ext.plugins.replay_presets import (
    class_balanced_replay,
    er_ring,
    multi_strategy_replay,
    reservoir_replay,
)
from avalanche_ext.plugins.resident_data import ResidentDataPlugin
from avalanche_ext.plugins.synaptic_intelligence import SynapticIntelligencePlugin

__all__ = [
    "AdaptiveEWCPlugin",
    "LeanEvaluationPlugin",
    "RehearsalPlugin",
    "ResidentDataPlugin",
    "SynapticIntelligencePlugin",
    "class_balanced_replay",
    "er_ring",
    "multi_strategy_replay",
    "reservoir_replay",
]
