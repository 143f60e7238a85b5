"""The gradients of the rows of a batch for one parameter, in the form that costs least.

Let ``g_i`` be row i's gradient. A form holds what ``g_i`` is made of, and gives

- ``square_norms()``: ``‖g_i‖²``, shape ``(m,)``;
- ``square_sum(weights)``: ``Σ_i w_i g_i²`` elementwise, in the parameter's shape;
- ``rows()``: the ``g_i`` themselves, shape ``(m, *shape)``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# Gradients that are made and summed at once stay in the processor's cache.
_BLOCK_BYTES = {"cpu": 1 << 20}
_DEVICE_BLOCK_BYTES = 1 << 28


class Factor(Protocol):
    """One of the forms of this module."""

    def square_norms(self) -> Tensor:
        """``‖g_i‖²``, shape ``(m,)``."""

    def square_sum(self, weights: Tensor) -> Tensor:
        """``Σ_i w_i g_i²``, in the parameter's shape."""

    def rows(self) -> Tensor:
        """``g_i``, shape ``(m, *shape)``."""


@dataclass(frozen=True)
class Direct:
    """Gradients as they are, shape ``(m, *shape)``: of biases and scales."""

    gradients: Tensor

    def square_norms(self) -> Tensor:
        """``‖g_i‖²``, shape ``(m,)``."""
        flat = self.gradients.reshape(len(self.gradients), -1)
        return flat.square().sum(1)

    def square_sum(self, weights: Tensor) -> Tensor:
        """``Σ_i w_i g_i²``, in the parameter's shape."""
        scaled: Tensor = torch.tensordot(weights, self.gradients.square(), 1)
        return scaled

    def rows(self) -> Tensor:
        """``g_i``, shape ``(m, *shape)``."""
        return self.gradients


@dataclass(frozen=True)
class Outer:
    """``g_i = Σ_t δ_it a_itᵀ``, for each of ``groups`` blocks: of linear maps, where
    ``t`` runs over the places at which the map is applied.

    :param delta: gradients of the outputs, shape ``(m, groups, outputs, places)``.
    :param inputs: inputs of the map, shape ``(m, groups, inputs, places)``.
    :param shape: of the parameter.
    """

    delta: Tensor
    inputs: Tensor
    shape: torch.Size

    def square_norms(self) -> Tensor:
        """``‖g_i‖²``, shape ``(m,)``.

        With one place ``‖δ_i‖² ‖a_i‖²``; with few ``Σ_tt' (δ_it·δ_it')(a_it·a_it')``,
        which costs ``places² (inputs + outputs)`` in place of
        ``places · inputs · outputs``.
        """
        delta, inputs = self.delta, self.inputs
        outputs, places = delta.shape[2:]
        if places == 1:
            norms = delta.square().sum((2, 3)) * inputs.square().sum((2, 3))
        elif places * (outputs + inputs.shape[2]) < outputs * inputs.shape[2]:
            gram = delta.mT @ delta
            norms = (gram * (inputs.mT @ inputs)).sum((2, 3)).clamp(min=0)
        else:
            found = [torch.linalg.vecdot(g, g) for g, _ in self._blocks()]
            return torch.cat(found)
        return norms.sum(1)

    def square_sum(self, weights: Tensor) -> Tensor:
        """``Σ_i w_i g_i²``, in the parameter's shape; with one place
        ``Σ_i w_i δ_i² (a_i²)ᵀ``."""
        if self.delta.shape[3] == 1:
            delta = self.delta[..., 0].square() * weights[:, None, None]
            inputs = self.inputs[..., 0].square()
            if delta.shape[1] == 1:
                return (delta[:, 0].T @ inputs[:, 0]).reshape(self.shape)
            sums = delta.permute(1, 2, 0) @ inputs.transpose(0, 1)
            return sums.reshape(self.shape)
        total = self.delta.new_zeros(self.shape.numel())
        for gradients, rows in self._blocks():
            if len(gradients) == 1:
                scaled = gradients[0] * weights[rows]
                total.addcmul_(scaled, gradients[0])
            else:
                scaled = gradients.square_().mul_(weights[rows, None])
                total += scaled.sum(0)
        return total.view(self.shape)

    def rows(self) -> Tensor:
        """``g_i``, shape ``(m, *shape)``."""
        return (self.delta @ self.inputs.mT).reshape(-1, *self.shape)

    def _blocks(self) -> Iterator[tuple[Tensor, slice]]:
        row_bytes = self.shape.numel() * self.delta.element_size()
        limit = _BLOCK_BYTES.get(self.delta.device.type, _DEVICE_BLOCK_BYTES)
        step = max(1, limit // row_bytes)
        for start in range(0, len(self.delta), step):
            rows = slice(start, start + step)
            block = self.delta[rows] @ self.inputs[rows].mT
            yield block.flatten(1), rows


@dataclass(frozen=True)
class Lookup:
    """``g_i`` has ``δ_it`` added at row ``index_it``: of embeddings.

    :param delta: gradients of the outputs, shape ``(m, places, size)``.
    :param index: which rows were looked up, shape ``(m, places)``.
    :param shape: of the parameter, ``(entries, size)``.
    """

    delta: Tensor
    index: Tensor
    shape: torch.Size

    def square_norms(self) -> Tensor:
        """``‖g_i‖²``, shape ``(m,)``."""
        owner, _, gradients = self._entries()
        norms = torch.linalg.vecdot(gradients, gradients)
        total: Tensor = norms.new_zeros(len(self.delta)).index_add_(0, owner, norms)
        return total

    def square_sum(self, weights: Tensor) -> Tensor:
        """``Σ_i w_i g_i²``, in the parameter's shape."""
        owner, entry, gradients = self._entries()
        scaled = gradients.square() * weights[owner, None]
        return scaled.new_zeros(self.shape).index_add_(0, entry, scaled)

    def rows(self) -> Tensor:
        """``g_i``, shape ``(m, *shape)``."""
        owner, entry, gradients = self._entries()
        full = gradients.new_zeros(len(self.delta), *self.shape)
        full[owner, entry] = gradients
        return full

    def _entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """The non-zero rows of all ``g_i``: whose, which, and their values."""
        entries = self.shape[0]
        owner = torch.arange(len(self.index), device=self.index.device)
        keys = owner[:, None] * entries + self.index
        found, place = torch.unique(keys, return_inverse=True)
        sums = self.delta.new_zeros(len(found), self.shape[1])
        sums.index_add_(0, place.flatten(), self.delta.flatten(0, 1))
        return found // entries, found % entries, sums
