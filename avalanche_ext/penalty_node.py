"""The penalty of importance regularisers as one node of autograd's graph.

What :class:`~avalanche_ext.penalty.QuadraticPenalty` keeps is made ready for a model's
parameters (:class:`Work`); its value and its gradient are found together.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from avalanche_ext import compiled
from avalanche_ext.parameters import grown

Named = Mapping[str, nn.Parameter]
"""Parameters of a model, as
:meth:`~avalanche_ext.parameters.ParameterSelection.of` gives them."""


class Companion(Protocol):
    """What needs the penalty's own gradient of a parameter, and has something else to do
    with its entries at each step: in one pass over them where that is possible."""

    slope: Tensor
    """Where the gradient is written to, and stays."""

    def advance(self) -> None:
        """Do what is to be done before that."""

    def advance_and_pull(self, arrays: tuple[Any, ...]) -> float:
        """The same, and :func:`avalanche_ext.compiled.pull` of ``arrays`` into it."""


class BackwardPass:
    """A backward pass through a penalty.

    :param done: called with this at its end.
    :param companions: see :class:`~avalanche_ext.penalty.QuadraticPenalty`.
    """

    def __init__(
        self,
        work: "Work",
        done: "Done | None",
        companions: Mapping[str, Companion] | None,
    ) -> None:
        self.scale = torch.ones(())
        """What the penalty's gradient was multiplied by on the way, as by loss scaling,
        and those of the other losses with it."""
        self.gradients: list[tuple[nn.Parameter, Tensor]] = []
        """The penalty's own gradient ``2 s F (θ − θ*)``, not scaled, by parameter; empty
        without ``done``."""
        self._work, self._done, self._companions = work, done, companions
        self._given: list[Tensor] | None = None  # the gradients, for autograd to keep
        self._before: Any = None  # see _kept()

    def value(self) -> Tensor:
        """The penalty; its gradients are found on the way."""
        work, companions = self._work, self._companions
        value, given = work.value(companions or {})
        self._given = given
        if self._done is not None:
            own = given if companions else [gradient.clone() for gradient in given]
            held = [work.parameters[name] for name in work.covered]
            self.gradients = list(zip(held, own, strict=True))
        return value

    def scaled(self, scale: Tensor, parameters: tuple[Tensor, ...]) -> list[Any]:
        """The gradients times ``scale``, as autograd takes them.

        :param parameters: as they were, for a second pass and for one whose own graph is
            wanted.
        """
        self.scale = scale
        if self._done is not None:
            # As DDP does it: the one moment when the gradients of this pass are complete
            # and nobody has clipped or projected them yet.
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._finish)
            self._before = self._kept()
        if not self._work.covered:
            return [None]
        # Autograd adds in place to what nobody else holds, and keeps it.
        given, self._given = self._given, None
        if given is None and self._done is not None:  # what was found has been used up
            again = self._work.differentiable(parameters, torch.ones(()))
            for (_, own), values in zip(self.gradients, again, strict=True):
                own.copy_(values.detach())
        if given is None or torch.is_grad_enabled():
            return self._work.differentiable(parameters, scale)
        if not is_one(scale):
            given = [gradient * scale.to(gradient) for gradient in given]
        return [
            gradient if gradient.dtype is parameter.dtype else gradient.to(parameter)
            for gradient, parameter in zip(given, parameters, strict=True)
        ]

    def _kept(self) -> Any:
        """What the gradient of one of its parameters is known by; a pass of a step adds
        to that, one of ``torch.autograd.grad`` leaves it as it is."""
        names = self._work.covered
        kept = self._work.parameters[names[0]].grad if names else None
        return None if kept is None else (id(kept), kept._version)

    def _finish(self) -> None:
        assert self._done is not None
        before, now = self._before, self._kept()
        if self._work.covered and (now is None or before == now):
            return
        with torch.no_grad():
            self._done(self)


Done = Callable[[BackwardPass], None]
"""What is called at the end of a backward pass through a penalty."""


def is_one(scale: Tensor) -> bool:
    """Whether a scale is known to be 1; asking another device would make it wait."""
    return scale.device.type == "cpu" and scale.item() == 1


def attached(
    work: "Work", done: Done | None, companions: Mapping[str, Companion] | None
) -> Tensor:
    """The value of a penalty, as a node of the graph of its parameters.

    :param done: see :class:`~avalanche_ext.penalty.QuadraticPenalty`, as for the rest.
    """
    # With nothing kept one parameter makes it a node, whose gradient is none.
    tied = [work.parameters[name] for name in work.covered or list(work.parameters)[:1]]
    value: Tensor = _Node.apply(BackwardPass(work, done, companions), *tied)
    if companions and value.grad_fn is not None:
        _last(value.grad_fn)
    return value


def _last(node: Any) -> None:
    """Have a node's backward pass come after all others, which are then the ones whose
    gradients are added to in place, where these are held by a companion."""
    if hasattr(node, "_set_sequence_nr"):
        node._set_sequence_nr(0)


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: BackwardPass, *parameters: Tensor) -> Tensor:
        ctx.found = found
        ctx.save_for_backward(*parameters)
        return found.value()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> Any:
        return None, *ctx.found.scaled(scale, ctx.saved_tensors)


class Work:
    """A penalty made ready for the parameters of a model.

    :param importance: ``F`` by parameter; those of parameters that have grown grow here.
    :param anchor: ``θ*`` likewise.
    :param constant: by parameter, to be multiplied by the strength and added.
    """

    def __init__(
        self,
        parameters: Named,
        strength: float,
        importance: dict[str, Tensor],
        anchor: dict[str, Tensor],
        constant: Mapping[str, Tensor],
    ) -> None:
        self.parameters = parameters
        kept = importance if strength else {}
        self.covered = [name for name in parameters if name in kept]
        self._pulls: dict[str, _Pull] = {}
        self._constant = 0.0
        shared: dict[Any, Tensor] = {}
        largest = max((parameters[n].numel() for n in self.covered), default=0)
        for name in self.covered:
            at = parameters[name].detach()
            importance[name] = grown(importance[name], at)
            anchor[name] = grown(anchor[name], at, fill=at)
            curvature = importance[name] * (2 * strength)
            arrays = compiled.arrays(at, anchor[name], curvature)
            away = scratch(curvature, shared, largest) if arrays is None else None
            self._pulls[name] = _Pull(at, anchor[name], curvature, arrays, away)
            self._constant += strength * float(constant.get(name, 0.0))

    def zero(self) -> Tensor:
        """A penalty of nothing."""
        last = list(self.parameters.values())[-1]
        kind = torch.promote_types(last.dtype, torch.float32)
        return torch.zeros((), dtype=kind, device=last.device)

    def value(self, companions: Mapping[str, Companion]) -> tuple[Tensor, list[Tensor]]:
        """``s Σ F (θ − θ*)²``, and ``2 s F (θ − θ*)`` for each parameter."""
        if not self._pulls:
            return self.zero(), []
        gradients, parts = [], []
        for name, pull in self._pulls.items():
            gradient, part = pull(companions.get(name))
            gradients.append(gradient)
            parts.append(part)
        here = [part for part in parts if isinstance(part, float)]
        last = gradients[-1]
        # Not new_tensor, for which another device would make it wait.
        value = last.new_full((), sum(here) / 2 + self._constant)
        there = [p.to(last.device) for p in parts if isinstance(p, Tensor)]
        if there:
            value += torch.stack(there).sum().mul_(0.5)
        return value, gradients

    def differentiable(
        self, parameters: tuple[Tensor, ...], scale: Tensor
    ) -> list[Tensor]:
        """The gradients times ``scale``, as functions of both."""
        return [
            pull.differentiable(at, scale)
            for at, pull in zip(parameters, self._pulls.values(), strict=True)
        ]


class _Pull:
    """``2 s F (θ − θ*)`` of a parameter.

    :param at: ``θ``, as it is whenever this is called.
    :param curvature: ``2 s F``.
    :param arrays: of these three, for compiled passes; ``None`` where torch is to do it.
    :param away: memory that is used up in a call, for torch.
    """

    def __init__(
        self,
        at: Tensor,
        anchor: Tensor,
        curvature: Tensor,
        arrays: tuple[Any, ...] | None,
        away: Tensor | None,
    ) -> None:
        self._at, self._anchor, self._curvature = at, anchor, curvature
        self._arrays, self._away = arrays, away

    def __call__(self, companion: Companion | None) -> tuple[Tensor, Tensor | float]:
        """The pull, which without a companion is in new memory, and
        ``Σ 2 s F (θ − θ*)²``."""
        if self._arrays is not None:
            if companion is not None:
                return companion.slope, companion.advance_and_pull(self._arrays)
            gradient = torch.empty_like(self._curvature)
            return gradient, compiled.pull(*self._arrays, compiled.flat(gradient))
        away = self._away
        assert away is not None
        if companion is not None:
            companion.advance()
        torch.sub(self._at, self._anchor, out=away)
        out = None if companion is None else companion.slope
        gradient = torch.mul(away, self._curvature, out=out)
        if gradient.is_contiguous():
            return gradient, torch.dot(away.view(-1), gradient.view(-1))
        return gradient, (away * gradient).sum()

    def differentiable(self, at: Tensor, scale: Tensor) -> Tensor:
        """The pull times ``scale``, as a function of both."""
        pull = (at - self._anchor) * self._curvature
        return (pull * scale.to(pull)).to(at.dtype)


def scratch(like: Tensor, shared: dict[Any, Tensor], largest: int) -> Tensor:
    """Memory for what is used up at once, the same for all where that can be.

    :param largest: entries of the largest that will be asked for.
    """
    if not like.is_contiguous():
        return torch.empty_like(like)
    kind = (like.device, like.dtype)
    if kind not in shared:
        shared[kind] = torch.empty(largest, dtype=like.dtype, device=like.device)
    return shared[kind][: like.numel()].view(like.shape)
