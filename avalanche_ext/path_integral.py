"""The path integral of Synaptic Intelligence: how much each parameter lowered the loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from avalanche_ext import compiled
from avalanche_ext.parameters import grown, two_parts
from avalanche_ext.penalty_node import BackwardPass, Named, is_one, scratch


class PathIntegral:
    """``ω ← ω − g · Δθ`` at each step, by parameter.

    ``g`` is the gradient of the loss without the penalty, recorded at the end of the
    backward pass (:meth:`record`), ``Δθ`` what the optimizer made of it, seen when the
    next step begins (:meth:`advance`). So it does not matter what else clips or projects
    gradients, nor which optimizer there is. With small steps of gradient descent on the
    whole data ``Σ ω`` is what the loss has decreased by.
    """

    def __init__(self) -> None:
        self.integral: dict[str, Tensor] = {}
        """``ω`` since the last :meth:`restart`."""
        self.start: dict[str, Tensor] = {}
        """``θ`` at that time."""
        self._last: dict[str, Tensor] = {}  # θ where the step that is under way began
        self._slope: dict[str, Tensor] = {}  # −g there
        self._pending = False  # whether a step is under way
        self._parameters: Named | None = None  # that the steps are made ready for
        self._steps: dict[str, _Step] = {}

    def advance(self, parameters: Named) -> None:
        """Finish the step that is under way, and begin another at the parameters' values.

        Parameters that are new, or the new entries of one that has grown, begin here.
        """
        for step in self.begin(parameters).values():
            step.advance()

    def begin(self, parameters: Named) -> "Mapping[str, _Step]":
        """The same, of which a part is left to whoever goes over the entries next: each
        step is to be advanced.

        :return: by parameter.
        """
        if self._parameters is not parameters:
            self._due()
            for name, step in self._steps.items():
                # Where the last step has brought them, which may be other memory.
                step.ends_at((self._parameters or {})[name].detach())
            self._parameters, self._steps = parameters, self._ready(parameters)
        self._due()
        return self._steps

    def _due(self) -> None:
        for step in self._steps.values():
            step.due, step.counts = True, self._pending
        if self._steps:
            self._pending = False

    def record(self, found: BackwardPass) -> None:
        """Take the gradient of the losses other than the penalty, of ``found``'s pass.

        It is ``grad / scale`` minus the penalty's own gradient; entries that overflow
        under loss scaling count as 0, since then no step is made.
        """
        parameters = self._parameters
        assert parameters is not None, "advance() comes first"
        if all(parameter.grad is None for parameter in parameters.values()):
            return  # a pass that leaves no gradient is not that of a step
        held = {id(gradient) for _, gradient in found.gradients}
        one = is_one(found.scale)
        for name, parameter in parameters.items():
            gradient, slope = parameter.grad, self._slope[name]
            if id(slope) not in held:
                slope.zero_()
            if gradient is None:
                # No other loss depends on it; the penalty's own gradient is no part.
                slope.zero_()
                continue
            if gradient.is_sparse:
                gradient = gradient.to_dense()
            if one:
                slope.sub_(gradient)
            else:
                slope.sub_(gradient.to(slope) / found.scale.to(slope))
                slope.nan_to_num_(0.0, 0.0, 0.0)
        self._pending = True

    def add_squares(self, parameters: Named, rates: Mapping[int, float]) -> None:
        """``ω ← ω + η g²`` with whatever is in ``.grad``: the published code's way, equal
        to the path integral of plain gradient descent with that gradient alone.

        :param rates: ``η`` by the ``id`` of the parameter.
        """
        for name, parameter in parameters.items():
            gradient, rate = parameter.grad, rates.get(id(parameter), 0.0)
            if gradient is not None and name in self.integral:
                if gradient.is_sparse:
                    gradient = gradient.to_dense()
                self.integral[name].addcmul_(gradient, gradient, value=rate)
        self._pending = False

    def importance(self, parameters: Named, eps: float) -> dict[str, Tensor]:
        """``ω / ((θ − θ_start)² + eps)`` by parameter."""
        return {
            name: self.integral[name]
            / (parameter.detach() - self.start[name]).square_().add_(eps)
            for name, parameter in parameters.items()
            if name in self.integral
        }

    def total(self) -> float:
        """``Σ ω`` of all parameters."""
        return float(sum(v.sum(dtype=torch.float64) for v in self.integral.values()))

    def restart(self) -> None:
        """Begin anew, wherever the parameters are when the next step begins."""
        self.integral, self.start, self._last, self._slope = {}, {}, {}, {}
        self._pending, self._parameters, self._steps = False, None, {}

    def _ready(self, parameters: Named) -> "dict[str, _Step]":
        shared: dict[Any, Tensor] = {}
        largest = max(parameter.numel() for parameter in parameters.values())
        steps = {}
        for name, parameter in parameters.items():
            at = parameter.detach()
            _kept(self.start, name, at, at)
            last = _kept(self._last, name, at, at)
            slope = _kept(self._slope, name, at, 0.0)
            integral = _kept(self.integral, name, at, 0.0)
            arrays = compiled.arrays(at, last, slope, integral)
            moved = scratch(last, shared, largest) if arrays is None else None
            steps[name] = _Step(at, last, slope, integral, arrays, moved)
        return steps

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that training goes on bit for bit."""
        under_way = {"last": self._last, "slope": self._slope} if self._pending else {}
        return {
            "integral": dict(self.integral),
            "start": dict(self.start),
            **{name: dict(values) for name, values in under_way.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        :raises ValueError: for anything else.
        """
        integral, start = two_parts(
            state, "integral", "start", "an integral and a start"
        )
        self.restart()
        self.integral, self.start = _copies(integral), _copies(start)
        self._last = _copies(state.get("last", {}))
        self._slope = _copies(state.get("slope", {}))
        self._pending = "slope" in state

    def __getstate__(self) -> dict[str, Any]:
        """Without views of a model's parameters."""
        return {**self.__dict__, "_parameters": None, "_steps": {}}


class _Step:
    """``ω ← ω − g · Δθ`` of a parameter, which has an importance penalty beside it.

    :param at: ``θ``, as it is whenever this advances.
    :param last: ``θ`` where it last did.
    :param slope: ``−g`` there; before, the penalty's own gradient.
    :param integral: ``ω``.
    :param arrays: of these four, for compiled passes; ``None`` where torch is to do it.
    :param moved: memory that is used up, for torch.
    """

    def __init__(
        self,
        at: Tensor,
        last: Tensor,
        slope: Tensor,
        integral: Tensor,
        arrays: tuple[Any, ...] | None,
        moved: Tensor | None,
    ) -> None:
        self.slope = slope
        self.due = True
        """Whether it is to be advanced."""
        self.counts = False
        """Whether the way to where ``θ`` is now was a step: else nothing is added."""
        self._at, self._last, self._integral, self._moved = at, last, integral, moved
        self._arrays = arrays

    def ends_at(self, at: Tensor) -> None:
        """The last of its advances, to ``at``; to where ``θ`` was where that is of another
        shape or on another device."""
        now = self._at
        if (at.shape, at.device, at.dtype) != (now.shape, now.device, now.dtype):
            self.advance()
        elif self.due and self.counts:
            self._integral.addcmul_(at - self._last, self.slope)
            self.due = False

    def advance(self) -> None:
        """To where ``θ`` is now, if that is due."""
        if not self.due:
            return
        self.due = False
        if self.counts and self._arrays is not None:
            compiled.advance(*self._arrays)
            return
        if self.counts:
            assert self._moved is not None
            torch.sub(self._at, self._last, out=self._moved)
            self._integral.addcmul_(self._moved, self.slope)
        self._last.copy_(self._at)

    def advance_and_pull(self, arrays: tuple[Any, ...]) -> float:
        """See :class:`~avalanche_ext.penalty_node.Companion`."""
        assert self._arrays is not None  # of the same parameter, hence as theirs
        if self.due and self.counts:
            self.due = False
            return compiled.advance_and_pull(*self._arrays, *arrays[1:])
        self.advance()
        return compiled.pull(*arrays, self._arrays[2])


def _kept(
    values: dict[str, Tensor], name: str, at: Tensor, fill: Tensor | float
) -> Tensor:
    """The values of a parameter as it is now; what it is new in has ``fill``."""
    if name in values:
        values[name] = grown(values[name], at, fill)
    else:
        kind = torch.promote_types(at.dtype, torch.float32)
        made = torch.empty_like(at, dtype=kind)
        values[name] = (
            made.copy_(fill) if isinstance(fill, Tensor) else made.fill_(fill)
        )
    return values[name]


def _copies(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in values.items()}
