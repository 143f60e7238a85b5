"""Experience replay by name: :class:`RehearsalPlugin` over a memory made for it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from avalanche_ext.arguments import whole_number
from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.plugins.rehearsal import RehearsalPlugin
from avalanche_ext.storage.admission import AdmissionName
from avalanche_ext.storage.buffer import MultiStrategyBuffer
from avalanche_ext.storage.criteria import Criterion
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.score_admission import Balance


def _preset(
    made_by: Callable[..., RehearsalPlugin],
    buffer: MultiStrategyBuffer,
    batch_size_mem: int,
    options: dict[str, Any],
) -> RehearsalPlugin:
    """The plugin of a preset; unknown options are told in the preset's own terms."""
    own, general = (
        [
            name
            for name, parameter in inspect.signature(made).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        for made in (made_by, RehearsalPlugin)
    )
    allowed = own + [name for name in general if name not in (*own, "buffer")]
    unknown = ", ".join(repr(name) for name in options if name not in allowed)
    if unknown:
        raise TypeError(
            f"{made_by.__name__} has no option {unknown}: it takes "
            f"{', '.join(allowed)}, where n is the number of rows of the memory"
        )
    return RehearsalPlugin(buffer, batch_size_mem, **options)


def reservoir_replay(
    n: int = 200,
    *,
    batch_size_mem: int = 10,
    seed: int | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> RehearsalPlugin:
    """Experience replay with a reservoir (ER).

    :param n: rows of the memory.
    :param batch_size_mem: rows replayed with each minibatch; 0 feeds the memory only.
    :param seed: of what is kept and drawn; ``None`` derives one from torch's global
        generator.
    :param device: where the rows live; ``None`` is the host.
    :param options: further ones of :class:`RehearsalPlugin`.
    """
    n = whole_number("n", n, "rows", least=1)
    buffer = MultiStrategyBuffer(n, admission="reservoir", seed=seed, device=device)
    return _preset(reservoir_replay, buffer, batch_size_mem, options)


def er_ring(
    n: int | None = None,
    *,
    per_class: int | None = None,
    batch_size_mem: int = 10,
    seed: int | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> RehearsalPlugin:
    """Experience replay with the last rows of each class (ER-Ring).

    :param n: rows of the memory, shared equally by the classes met so far.
    :param per_class: rows a class; without ``n`` the memory grows with each class.
    :param batch_size_mem: rows replayed with each minibatch; 0 feeds the memory only.
    :param seed: of what is kept and drawn; ``None`` derives one from torch's global
        generator.
    :param device: where the rows live; ``None`` is the host.
    :param options: further ones of :class:`RehearsalPlugin`.
    :raises ValueError: for neither ``n`` nor ``per_class``.
    """
    if n is not None:
        n = whole_number("n", n, "rows", least=1)
    elif per_class is None:
        raise ValueError(
            "er_ring needs n, the rows of the memory, or per_class, the rows a class"
        )
    buffer = MultiStrategyBuffer(
        n, admission="ring", per_class=per_class, seed=seed, device=device
    )
    return _preset(er_ring, buffer, batch_size_mem, options)


def class_balanced_replay(
    n: int = 200,
    *,
    batch_size_mem: int = 10,
    seed: int | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> RehearsalPlugin:
    """Experience replay with a class-balancing reservoir (CBRS).

    :param n: rows of the memory.
    :param batch_size_mem: rows replayed with each minibatch; 0 feeds the memory only.
    :param seed: of what is kept and drawn; ``None`` derives one from torch's global
        generator.
    :param device: where the rows live; ``None`` is the host.
    :param options: further ones of :class:`RehearsalPlugin`.
    """
    n = whole_number("n", n, "rows", least=1)
    buffer = MultiStrategyBuffer(
        n, admission="class_balanced", seed=seed, device=device
    )
    return _preset(class_balanced_replay, buffer, batch_size_mem, options)


def multi_strategy_replay(
    n: int = 200,
    *,
    batch_size_mem: int = 10,
    criteria: Sequence[str | Criterion] | None = None,
    weights: Mapping[str, float] | None = None,
    admission: AdmissionName = "herding",
    sampling: str | Sampling = "mixed",
    temperature: float | None = None,
    w_age: float = 0.0,
    w_use: float = 0.0,
    balance: Balance = "class",
    refresh_every: int = 1,
    refresh_at_end: bool = True,
    loss: Loss | None = None,
    layer: str | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> RehearsalPlugin:
    """Replay of the rows that criteria score highest, from a memory that they may fill.

    As it comes, rows whose mean is that of all rows of their class are kept (herding),
    and those that are being forgotten are replayed more often. Scores of current and
    replayed rows come from the training step's own passes where that can be.

    The arguments between ``batch_size_mem`` and ``seed`` are of
    :class:`~avalanche_ext.MultiStrategyBuffer`, which says more of them.

    :param n: rows of the memory.
    :param batch_size_mem: rows replayed with each minibatch; 0 feeds the memory only.
    :param criteria: of the mixed score and of sampling ``"priority"``, by name or as
        objects; ``None``: forgetting of the one, the loss of the other.
    :param weights: of the criteria, by name.
    :param admission: what to keep.
    :param sampling: what to replay; with wrong labels ``"uniform"`` is better, as rows of
        high scores are often those.
    :param temperature: of the sampling.
    :param w_age: of admission ``"score"``: what age costs.
    :param w_use: of admission ``"score"``: what use gains.
    :param balance: of admission ``"score"``: what is kept even.
    :param refresh_every: steps from one refresh of the rows drawn to the next.
    :param refresh_at_end: whether all rows are scored at the end of an experience.
    :param loss: of each row; ``None``: the strategy's criterion.
    :param layer: whose input features are.
    :param seed: of what is kept and drawn; ``None`` derives one from torch's global
        generator.
    :param device: where the rows live; ``None`` is the host.
    :param options: further ones of :class:`RehearsalPlugin`.
    """
    n = whole_number("n", n, "rows", least=1)
    buffer = MultiStrategyBuffer(
        n,
        criteria=criteria,
        weights=weights,
        admission=admission,
        sampling=sampling,
        temperature=temperature,
        w_age=w_age,
        w_use=w_use,
        balance=balance,
        refresh_every=refresh_every,
        refresh_at_end=refresh_at_end,
        loss=loss,
        layer=layer,
        seed=seed,
        device=device,
    )
    return _preset(multi_strategy_replay, buffer, batch_size_mem, options)
