"""The quadratic penalty that importance regularisers share.

``s · Σ_i F_i (θ_i − θ*_i)²`` over the entries ``i`` of named parameters, with their
importances ``F ≥ 0``, their anchors ``θ*`` and a strength ``s``: EWC's with the diagonal
Fisher information and ``s = λ/2``, Synaptic Intelligence's with its path integral and
``s = c``.
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


class QuadraticPenalty:
    """Importances and anchors by name, and the penalty they make.

    It costs the same however many experiences went into it: the importances of all are
    one tensor a parameter, also where each has an anchor of its own (:meth:`fold`).

    >>> model = nn.Linear(2, 1, bias=False)
    >>> _ = nn.init.constant_(model.weight, 1.0)
    >>> named, penalty = dict(model.named_parameters()), QuadraticPenalty()
    >>> penalty.accumulate(named, {"weight": torch.tensor([[1.0, 3.0]])})
    >>> _ = nn.init.constant_(model.weight, 3.0)
    >>> penalty(named, strength=0.5)
    tensor(8., grad_fn=<_NodeBackward>)

    A parameter that has grown has its new entries free, one that is missing or frozen
    is left out, and so is a parameter of which nothing is kept.
    """

    def __init__(self) -> None:
        self.importance: dict[str, Tensor] = {}
        """``F`` by parameter; in single precision at least."""
        self.anchor: dict[str, Tensor] = {}
        """``θ*`` by parameter."""
        self.constant: dict[str, Tensor] = {}
        """What :meth:`fold` leaves by parameter, to be multiplied by ``s``."""
        self._changes = 0
        self._work: _Work | None = None

    def accumulate(
        self,
        parameters: Named,
        importance: Mapping[str, Tensor],
        *,
        keep: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        """``F ← keep · F + weight · importance`` and ``θ* ← θ``.

        Parameters of which no importance is given stay as they are.

        :param importance: in the shape of each parameter.
        """
        for name, new in importance.items():
            parameter = parameters[name]
            new = grown(new, parameter)
            if name in self.importance:
                before = grown(self.importance[name], parameter)
                new = torch.add(before * keep, new, alpha=weight)
            else:
                new = new * weight
            self._set(name, new, _copy(parameter))

    def fold(self, parameters: Named, importance: Mapping[str, Tensor]) -> None:
        """Add ``importance · (θ' − θ)²``, with an anchor of its own at ``θ``.

        The sum ``Σ_k F_k (θ' − θ_k)²`` of all that was folded is
        ``F (θ' − θ*)² + Σ_k F_k (θ_k − θ*)²`` with ``F = Σ_k F_k`` and
        ``θ* = Σ_k F_k θ_k / F``. The second term does not depend on ``θ'``; it is kept
        for the penalty's value, in double precision. Mean and constant are updated as
        West (1979) does, so that no large numbers are subtracted.
        """
        for name, new in importance.items():
            parameter = parameters[name]
            new = grown(new, parameter)
            at = _copy(parameter)
            if name not in self.importance:
                self._set(name, new.clone(), at)
                continue
            before = grown(self.importance[name], parameter)
            total = before + new
            share = torch.where(total > 0, new / total, 1.0)
            anchor = grown(self.anchor[name], parameter, fill=at)
            step = at - anchor
            spread = (before * share * step.square()).sum(dtype=torch.float64)
            self.constant[name] = self.constant.get(name, 0.0) + spread
            self._set(name, total, torch.addcmul(anchor, share, step))

    def renew(self, parameters: Named, importance: Mapping[str, Tensor]) -> None:
        """``F ← importance`` and ``θ* ← θ`` for the parameters given."""
        for name, new in importance.items():
            self._set(name, grown(new, parameters[name]), _copy(parameters[name]))

    def _set(self, name: str, importance: Tensor, anchor: Tensor) -> None:
        self.importance[name], self.anchor[name] = importance, anchor
        self._changes += 1

    def mean_importance(self) -> float:
        """:func:`mean_above_zero` of ``F``."""
        return mean_above_zero(self.importance)

    def largest_importances(self) -> dict[str, float]:
        """The largest entry of ``F`` by parameter."""
        return {name: float(values.max()) for name, values in self.importance.items()}

    def nonzero_share(self) -> float:
        """The share of the entries whose importance is above 0."""
        entries = sum(values.numel() for values in self.importance.values())
        nonzero = sum(int(torch.count_nonzero(v)) for v in self.importance.values())
        return nonzero / entries if entries else 0.0

    def __call__(
        self,
        parameters: Named,
        strength: float,
        done: "Done | None" = None,
        companions: "Mapping[str, Companion] | None" = None,
    ) -> Tensor:
        """The penalty's value, to be added to a loss: one node of the graph.

        Its gradient is exact, ``2 s F (θ − θ*)``, and scales with whatever the loss is
        multiplied by.

        :param parameters: the same mapping object as long as they are the same.
        :param strength: ``s``.
        :param done: called at the end of each backward pass through the penalty, when
            the gradients of all losses are in ``.grad``, and before anything else may
            change them; the node is then there even if nothing is kept yet.
        :param companions: by parameter, what takes the penalty's own gradient for
            ``done``, and goes over the entries together with the penalty.
        :return: a scalar on the device of the last parameter.
        """
        work = self._work
        state = (strength, self._changes)
        if work is None or work.parameters is not parameters or work.state != state:
            work = self._work = _Work(self, parameters, state)
        if not work.covered and done is None:
            return work.zero()
        found = BackwardPass(work, done, companions)
        # With nothing kept one parameter makes it a node, whose gradient is none.
        tied = [parameters[n] for n in work.covered or list(parameters)[:1]]
        value: Tensor = _Node.apply(found, *tied)
        if companions and value.grad_fn is not None:
            _last(value.grad_fn)
        return value

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that has none of the parameters of which something is kept.

        Some of them may be missing, such as a head that is added later.

        :raises ValueError: naming both.
        """
        names = [name for name, _ in model.named_parameters()]
        if self.importance and not self.importance.keys() & set(names):
            raise ValueError(
                f"importances are kept of {_some(list(self.importance))}, and "
                f"{type(model).__name__} has the parameters {_some(names)}: they are of "
                "another model; make a new plugin for this one"
            )

    def state_dict(self) -> dict[str, Any]:
        """What is kept, by parameter."""
        return {
            "importance": dict(self.importance),
            "anchor": dict(self.anchor),
            "constant": dict(self.constant),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        :raises ValueError: for anything else. Whether it is of the model is seen when
            the penalty is computed.
        """
        parts = {
            n: dict(state.get(n, {})) for n in ("importance", "anchor", "constant")
        }
        importance, anchor = parts["importance"], parts["anchor"]
        if "importance" not in state or importance.keys() != anchor.keys():
            raise ValueError(
                f"the state has the parts {sorted(state)}, and it must have an importance "
                "and an anchor of the same parameters: give what state_dict() returned"
            )
        for name, values in importance.items():
            if values.shape != anchor[name].shape:
                raise ValueError(
                    f"the importance of {name} has shape {tuple(values.shape)}, its "
                    f"anchor {tuple(anchor[name].shape)}: they must be the same"
                )
        self.importance = {n: values.clone() for n, values in importance.items()}
        self.anchor = {n: values.clone() for n, values in anchor.items()}
        self.constant = {n: values.clone() for n, values in parts["constant"].items()}
        self._changes += 1

    def __getstate__(self) -> dict[str, Any]:
        """Without views of a model's parameters."""
        return {**self.__dict__, "_work": None}


def mean_above_zero(importance: Mapping[str, Tensor]) -> float:
    """Mean over the entries that are not 0, of all parameters together; 0 where there is
    none.

    >>> mean_above_zero({"weight": torch.tensor([0.0, 1.0]), "bias": torch.tensor([3.0])})
    2.0
    """
    total = sum(float(v.sum(dtype=torch.float64)) for v in importance.values())
    entries = sum(int(torch.count_nonzero(v)) for v in importance.values())
    return total / entries if entries else 0.0


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
    :param companions: see :class:`QuadraticPenalty`.
    """

    def __init__(
        self,
        work: "_Work",
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
        if not self._work.covered:
            return [None]
        # Autograd adds in place to what nobody else holds, and keeps it.
        given, self._given = self._given, None
        if given is None or torch.is_grad_enabled():
            return self._work.differentiable(parameters, scale)
        if not is_one(scale):
            given = [gradient * scale.to(gradient) for gradient in given]
        return [
            gradient if gradient.dtype is parameter.dtype else gradient.to(parameter)
            for gradient, parameter in zip(given, parameters, strict=True)
        ]

    def _finish(self) -> None:
        assert self._done is not None
        with torch.no_grad():
            self._done(self)


Done = Callable[[BackwardPass], None]
"""What is called at the end of a backward pass through a penalty."""


def is_one(scale: Tensor) -> bool:
    """Whether a scale is known to be 1; asking another device would make it wait."""
    return scale.device.type == "cpu" and scale.item() == 1


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


class _Work:
    """A penalty made ready for the parameters of a model.

    :param state: the strength, and what was kept when this was made.
    """

    def __init__(
        self, penalty: QuadraticPenalty, parameters: Named, state: tuple[float, int]
    ) -> None:
        self.parameters = parameters
        self.state = state
        strength = state[0]
        kept = penalty.importance if strength else {}
        self.covered = [name for name in parameters if name in kept]
        self._pulls: dict[str, _Pull] = {}
        self._constant = 0.0
        shared: dict[Any, Tensor] = {}
        largest = max((parameters[n].numel() for n in self.covered), default=0)
        for name in self.covered:
            at = parameters[name].detach()
            importance = grown(penalty.importance[name], at)
            anchor = grown(penalty.anchor[name], at, fill=at)
            penalty.importance[name], penalty.anchor[name] = importance, anchor
            curvature = importance * (2 * strength)
            away = scratch(curvature, shared, largest)
            self._pulls[name] = _Pull(at, anchor, curvature, away)
            self._constant += strength * float(penalty.constant.get(name, 0.0))

    def zero(self) -> Tensor:
        """A penalty of nothing."""
        return list(self.parameters.values())[-1].detach().new_zeros(())

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
        value = last.new_tensor(sum(here) / 2 + self._constant)
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
    :param away: memory that is used up in a call.
    """

    def __init__(
        self, at: Tensor, anchor: Tensor, curvature: Tensor, away: Tensor
    ) -> None:
        self._at, self._anchor, self._curvature, self._away = (
            at, anchor, curvature, away
        )  # fmt: skip
        self._arrays = compiled.arrays(at, anchor, curvature)

    def __call__(self, companion: Companion | None) -> tuple[Tensor, Tensor | float]:
        """The pull, which without a companion is in new memory, and
        ``Σ 2 s F (θ − θ*)²``."""
        if self._arrays is not None:
            if companion is not None:
                return companion.slope, companion.advance_and_pull(self._arrays)
            gradient = torch.empty_like(self._curvature)
            found: float = compiled.pull(*self._arrays, compiled.flat(gradient))
            return gradient, found
        if companion is not None:
            companion.advance()
        torch.sub(self._at, self._anchor, out=self._away)
        out = None if companion is None else companion.slope
        gradient = torch.mul(self._away, self._curvature, out=out)
        if gradient.is_contiguous():
            return gradient, torch.dot(self._away.view(-1), gradient.view(-1))
        return gradient, (self._away * gradient).sum()

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


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to(
        torch.promote_types(parameter.dtype, torch.float32), copy=True
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + ", …" * (len(names) > 4)
