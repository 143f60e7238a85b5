"""Gradients of single rows, which one backward pass over a batch does not show.

Losses of rows: :func:`per_sample_losses`. Norms: :func:`gradient_norms`,
:func:`losses_and_gradient_norms`. Mean squares: :func:`diagonal_fisher`, of many batches
:func:`fisher_of_batches`. Vectors:
:func:`gradient_vectors`, :func:`group_gradients`, :func:`gradient_cosines`,
:func:`cosines`. How they are computed for a model: :func:`inspect_gradients`. From a
training step's own backward pass: :class:`GradientRecorder`.
"""

from avalanche_ext.gradients.fisher import FisherLabels, diagonal_fisher
from avalanche_ext.gradients.inspection import Inspection, inspect_gradients
from avalanche_ext.gradients.losses import Criterion, per_sample_losses
from avalanche_ext.gradients.norms import gradient_norms, losses_and_gradient_norms
from avalanche_ext.gradients.problem import Forward, Parameters, forward_rows
from avalanche_ext.gradients.recorder import GradientRecorder
from avalanche_ext.gradients.stream import fisher_of_batches
from avalanche_ext.gradients.vectors import (
    cosines,
    gradient_cosines,
    gradient_vectors,
    group_gradients,
    parameter_slices,
)

__all__ = [
    "Criterion",
    "FisherLabels",
    "Forward",
    "GradientRecorder",
    "Inspection",
    "Parameters",
    "cosines",
    "diagonal_fisher",
    "fisher_of_batches",
    "forward_rows",
    "gradient_cosines",
    "gradient_norms",
    "gradient_vectors",
    "group_gradients",
    "inspect_gradients",
    "losses_and_gradient_norms",
    "parameter_slices",
    "per_sample_losses",
]
