"""What is remembered: tables of exemplars, and the policies that fill and read them."""

from avalanche_ext.storage.buffer import MultiStrategyBuffer
from avalanche_ext.storage.reservoir import fast_reservoir_sampling
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import ScaleToUnit

__all__ = [
    "ExemplarTable",
    "MultiStrategyBuffer",
    "ScaleToUnit",
    "fast_reservoir_sampling",
]
