"""Which parameters of a model something is kept of, and tensors that grow with them.

What is kept is kept by name. Avalanche replaces parameters when a head grows, also
during evaluation, and adds further ones with further heads, so that neither the object
nor its shape can be relied on from one step to the next.
"""

from collections.abc import Collection, Mapping, Sequence, Set
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

Patterns = str | Collection[str]
"""Names of parameters with ``*`` and ``?`` as in file names. A name also stands for all
that is below it: ``"body"`` for ``"body.0.weight"``."""


class ParameterSelection:
    """The trainable parameters of a model whose names match.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    >>> list(ParameterSelection("*.weight", exclude="1").of(model))
    ['0.weight', '2.weight']

    :param include: patterns, of which a name must match one; ``None`` for all names.
    :param exclude: patterns, of which it must match none.
    :raises ValueError: for what are no patterns.
    """

    def __init__(
        self, include: Patterns | None = None, exclude: Patterns | None = None
    ) -> None:
        self.include = None if include is None else _patterns("include", include)
        self.exclude = () if exclude is None else _patterns("exclude", exclude)
        self.selected: dict[str, nn.Parameter] = {}
        """What :meth:`of` returned last."""
        self._seen: list[Any] = []
        self._alive: list[nn.Parameter] = []  # so that no other one gets their ids

    def __repr__(self) -> str:
        return f"{type(self).__name__}(include={self.include}, exclude={self.exclude})"

    def of(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """The parameters by name; the same dictionary as long as they are the same.

        They are the same as long as the model has the same parameters in the same
        memory, and the same of them are frozen.

        :raises ValueError: for a pattern that matches no parameter, or if none is left.
        :raises TypeError: for what is no module.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module, got {model!r:.60}")
        seen: list[Any] = []
        _look(model, seen)
        if seen != self._seen:
            self.selected = self._select(model)
            self._seen = seen
            self._alive = list(model.parameters())
        return self.selected

    def _select(self, model: nn.Module) -> dict[str, nn.Parameter]:
        named = dict(model.named_parameters())
        for argument, patterns in (
            ("include", self.include),
            ("exclude", self.exclude),
        ):
            for pattern in patterns or ():
                if not any(_matches(name, pattern) for name in named):
                    raise ValueError(
                        f"{argument}: {pattern!r} matches no parameter of "
                        f"{type(model).__name__}, which has {some_of(list(named))}: give "
                        "one of these names, or a pattern such as 'body.*'"
                    )
        chosen = {
            name: parameter
            for name, parameter in named.items()
            if (self.include is None or _any_matches(name, self.include))
            and not _any_matches(name, self.exclude)
        }
        trainable = {n: p for n, p in chosen.items() if p.requires_grad}
        if not trainable:
            reason = (
                f"the {len(chosen)} parameters that match are frozen"
                if chosen
                else f"include={self.include} and exclude={self.exclude} leave none of "
                f"its parameters {some_of(list(named))}"
            )
            raise ValueError(
                f"no parameter of {type(model).__name__} is selected: {reason}; give "
                "other patterns, or set requires_grad"
            )
        return trainable

    def __getstate__(self) -> dict[str, Any]:
        """Without the model's parameters, which are not ours to keep."""
        return {**self.__dict__, "_seen": [], "_alive": [], "selected": {}}


def _look(module: nn.Module, seen: list[Any]) -> None:
    """Which parameters there are, where, and which are frozen.

    In place of ``module.parameters()``, which takes several times as long and is asked
    at every step.
    """
    for parameter in module._parameters.values():
        if parameter is not None:
            seen += id(parameter), parameter.data_ptr(), parameter.requires_grad
            seen += parameter.shape, parameter.stride()
    for inner in module._modules.values():
        if inner is not None:
            _look(inner, seen)


def are_others(before: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> bool:
    """Whether parameters are those of another model, and not the same ones after growth.

    Growth replaces parameters, too, but entries that were there keep their values.

    :param before: by name, as they were used last.
    """
    names = [name for name in before if name in now]
    if any(before[name] is now[name] for name in names):
        return False
    return not all(begins_with(now[name], before[name]) for name in names)


def begins_with(values: Tensor, part: Tensor) -> bool:
    """Whether values are those of ``part`` where it has entries, as after growth.

    >>> begins_with(torch.tensor([[1.0, 5.0], [6.0, 7.0]]), torch.tensor([[1.0, 5.0]]))
    True
    """
    if values.dim() != part.dim():
        return False
    corner = values.detach()[tuple(slice(0, n) for n in part.shape)]
    return corner.shape == part.shape and torch.equal(corner.to(part), part.detach())


def grown(values: Tensor, like: Tensor, fill: Tensor | float = 0.0) -> Tensor:
    """``values`` in the shape of ``like``, on its device and in its memory format.

    Entries that were there keep their place, whichever dimensions have grown.

    >>> grown(torch.ones(1, 2), torch.empty(2, 3))
    tensor([[1., 1., 0.],
            [0., 0., 0.]])

    :param fill: the entries that are new: a number, or a tensor in the shape of
        ``like`` that they are taken from.
    :return: a new tensor, unless nothing changes; at least in single precision.
    :raises ValueError: where a dimension is smaller than that of ``values``.
    """
    kind = torch.promote_types(like.dtype, torch.float32)
    if values.shape == like.shape:
        same_layout = values.stride() == like.stride()
        if same_layout and values.device == like.device and values.dtype == kind:
            return values
    elif values.dim() != like.dim() or any(
        new < old for old, new in zip(values.shape, like.shape, strict=True)
    ):
        raise ValueError(
            f"what is kept has shape {tuple(values.shape)} and cannot grow to "
            f"{tuple(like.shape)}: it is of another model"
        )
    made = torch.empty_like(like, dtype=kind, requires_grad=False)
    if isinstance(fill, Tensor):
        made.copy_(fill.detach())
    else:
        made.fill_(fill)
    made[tuple(slice(size) for size in values.shape)].copy_(values)
    return made


def two_parts(
    state: Any, first: str, second: str, said: str
) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Two parts of a state, tensors by the names of the same parameters.

    :param said: what they are, for the message.
    :raises ValueError: where it has not both.
    """
    state = state if isinstance(state, Mapping) else {}
    one, other = state.get(first), state.get(second)
    if (
        not isinstance(one, Mapping)
        or not isinstance(other, Mapping)
        or one.keys() != other.keys()
    ):
        raise ValueError(
            f"the state has the parts {sorted(state)}, and it must have {said} of the "
            "same parameters: give what state_dict() returned"
        )
    return one, other


def _patterns(argument: str, given: Any) -> tuple[str, ...]:
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, Collection) or not all(
        isinstance(pattern, str) for pattern in patterns
    ):
        raise ValueError(
            f"{argument} must be names of parameters, or patterns such as 'body.*', got "
            f"{given!r}"
        )
    return tuple(sorted(patterns) if isinstance(patterns, Set) else patterns)


def _any_matches(name: str, patterns: Sequence[str]) -> bool:
    return any(_matches(name, pattern) for pattern in patterns)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def some_of(names: list[str]) -> str:
    """Names for a message: all, or the first of many."""
    shown = ", ".join(names[:8])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 8 else shown
