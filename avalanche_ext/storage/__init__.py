"""What is remembered: tables of exemplars, and the policies that fill and read them."""

from avalanche_ext.storage.buffer import MultiStrategyBuffer
from avalanche_ext.storage.coreset import Coreset
from avalanche_ext.storage.criteria import (
    AccessCriterion,
    AgeCriterion,
    DiversityCriterion,
    EnergyCriterion,
    ForgettingCriterion,
    GradientCriterion,
    LossCriterion,
    UncertaintyCriterion,
    WeightedCriterion,
)
from avalanche_ext.storage.priority import Priority
from avalanche_ext.storage.reservoir import fast_reservoir_sampling
from avalanche_ext.storage.selection import (
    CriterionSelectionStrategy,
    KCenterSelectionStrategy,
)
from avalanche_ext.storage.softmax import Softmax
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import ScaleToUnit

__all__ = [
    "AccessCriterion",
    "AgeCriterion",
    "Coreset",
    "CriterionSelectionStrategy",
    "DiversityCriterion",
    "EnergyCriterion",
    "ExemplarTable",
    "ForgettingCriterion",
    "GradientCriterion",
    "KCenterSelectionStrategy",
    "LossCriterion",
    "MultiStrategyBuffer",
    "Priority",
    "ScaleToUnit",
    "Softmax",
    "UncertaintyCriterion",
    "WeightedCriterion",
    "fast_reservoir_sampling",
]
