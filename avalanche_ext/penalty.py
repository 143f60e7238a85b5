"""The quadratic penalty that importance regularisers share.

``s · Σ_i F_i (θ_i − θ*_i)²`` over the entries ``i`` of named parameters, with their
importances ``F ≥ 0``, their anchors ``θ*`` and a strength ``s``: EWC's with the diagonal
Fisher information and ``s = λ/2``, Synaptic Intelligence's with its path integral and
``s = c``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from avalanche_ext.parameters import begins_with, grown, some_of, two_parts
from avalanche_ext.penalty_node import Companion, Done, Named, Work, attached


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
        """``F`` by parameter; in single precision at least. To be looked at; it is
        changed by the methods below."""
        self.anchor: dict[str, Tensor] = {}
        """``θ*`` by parameter, likewise."""
        self.constant: dict[str, Tensor] = {}
        """What :meth:`fold` leaves by parameter, to be multiplied by ``s``."""
        self._changes = 0
        self._work: Work | None = None
        self._state: Any = None  # the strength and the changes that it is made for

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

    def largest_curvatures(self) -> dict[str, float]:
        """The largest entry of ``2 F`` by parameter: of the penalty at a strength of 1."""
        return {
            name: 2 * float(values.max()) if values.numel() else 0.0
            for name, values in self.importance.items()
        }

    def nonzero_share(self) -> float:
        """The share of the entries whose importance is above 0."""
        entries = sum(values.numel() for values in self.importance.values())
        nonzero = sum(int(torch.count_nonzero(v)) for v in self.importance.values())
        return nonzero / entries if entries else 0.0

    def __call__(
        self,
        parameters: Named,
        strength: float,
        done: Done | None = None,
        companions: Mapping[str, Companion] | None = None,
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
        work, state = self._work, (strength, self._changes)
        if work is None or work.parameters is not parameters or self._state != state:
            with torch.inference_mode(False):  # it is there for training, too
                work = Work(
                    parameters, strength, self.importance, self.anchor, self.constant
                )
            self._work, self._state = work, state
        if not work.covered and done is None:
            # A leaf, so that it has a backward pass, as a penalty that holds something.
            return work.zero().requires_grad_(torch.is_grad_enabled())
        return attached(work, done, companions)

    def is_left(self, parameters: Named) -> bool:
        """Whether a parameter is not at its anchor."""
        return any(
            name in self.anchor and not begins_with(parameter, self.anchor[name])
            for name, parameter in parameters.items()
        )

    def check_model(self, model: nn.Module) -> None:
        """Refuse a model that has none of the parameters of which something is kept.

        Some of them may be missing, such as a head that is added later.

        :raises ValueError: naming both.
        """
        names = [name for name, _ in model.named_parameters()]
        if self.importance and not self.importance.keys() & set(names):
            raise ValueError(
                f"importances are kept of {some_of(list(self.importance))}, and "
                f"{type(model).__name__} has the parameters {some_of(names)}: they are of "
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
        importance, anchor = two_parts(
            state, "importance", "anchor", "an importance and an anchor"
        )
        for name, values in importance.items():
            if values.shape != anchor[name].shape:
                raise ValueError(
                    f"the importance of {name} has shape {tuple(values.shape)}, its "
                    f"anchor {tuple(anchor[name].shape)}: they must be the same"
                )
        self.importance = {n: values.clone() for n, values in importance.items()}
        self.anchor = {n: values.clone() for n, values in anchor.items()}
        self.constant = {
            n: values.clone() for n, values in state.get("constant", {}).items()
        }
        self._changes += 1

    def __getstate__(self) -> dict[str, Any]:
        """Without views of a model's parameters."""
        return {**self.__dict__, "_work": None, "_state": None}


def mean_above_zero(importance: Mapping[str, Tensor]) -> float:
    """Mean over the entries that are not 0, of all parameters together; 0 where there is
    none.

    >>> mean_above_zero({"weight": torch.tensor([0.0, 1.0]), "bias": torch.tensor([3.0])})
    2.0
    """
    total = sum(float(v.sum(dtype=torch.float64)) for v in importance.values())
    entries = sum(int(torch.count_nonzero(v)) for v in importance.values())
    return total / entries if entries else 0.0


def _copy(parameter: Tensor) -> Tensor:
    return parameter.detach().to(
        torch.promote_types(parameter.dtype, torch.float32), copy=True
    )
