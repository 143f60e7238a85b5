"""The methods by name. A method's own options are the parameters of its function."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from experiments.errors import UserError, unknown
from experiments.importance import adaptive_ewc, si
from experiments.recipe import Recipe
from experiments.upstream import UPSTREAM
from experiments.upstream_limits import at_least_one
from experiments.values import Count, Pair, described, read, word

Feed = Literal["first_epoch", "every_epoch", "experience"]
"""When rows are offered to a memory: with each minibatch of the first or of every epoch,
or all rows of an experience at its end."""

Admission = Literal["reservoir", "ring", "class_balanced", "herding", "score"]
"""What the memory keeps."""

Balance = Literal["class", "none"]
"""What admission by score keeps even."""

LossWeights = Literal["mean", "by_experience"]
"""How the losses of current and replayed rows are summed: the mean over all rows, or the
mean of each, weighted 1/k and 1 − 1/k in experience k. Instead of a name: two weights."""

TrainMetrics = Literal["all", "current"]
"""Whether the training metrics of loggers see replayed rows, too."""


def naive(*, seed: int) -> Recipe:
    """Plain training on one experience after the other: the lower bound."""
    return Recipe()


def joint(*, seed: int) -> Recipe:
    """One training on the data of all experiences at once: the upper bound."""
    return Recipe(data="all")


def cumulative(*, seed: int) -> Recipe:
    """Training on the data of all experiences met so far, each time again."""
    return Recipe(data="seen")


def reservoir_replay(
    *,
    seed: int,
    mem_size: Count = 200,
    batch_size_mem: int = 10,
    feed: Feed = "first_epoch",
    loss_weights: LossWeights | Pair = "mean",
    train_metrics: TrainMetrics = "all",
) -> Recipe:
    """Replay of a uniform sample of everything seen so far (algorithm R)."""
    from avalanche_ext import plugins

    at_least_one(mem_size=mem_size)
    return _replay(
        plugins.reservoir_replay(
            mem_size,
            batch_size_mem=batch_size_mem,
            seed=seed,
            feed=feed,
            loss_weights=_weights(loss_weights),
            train_metrics=train_metrics,
        )
    )


def er_ring(
    *,
    seed: int,
    mem_size: Count | None = 200,
    per_class: Count | None = None,
    batch_size_mem: int = 10,
    feed: Feed = "first_epoch",
    loss_weights: LossWeights | Pair = "mean",
    train_metrics: TrainMetrics = "all",
) -> Recipe:
    """Replay of the most recent samples of each class, per_class or equal shares."""
    from avalanche_ext import plugins

    at_least_one(mem_size=mem_size, per_class=per_class)
    recipe = _replay(
        plugins.er_ring(
            mem_size,
            per_class=per_class,
            batch_size_mem=batch_size_mem,
            seed=seed,
            feed=feed,
            loss_weights=_weights(loss_weights),
            train_metrics=train_metrics,
        ),
        row_per_class=True,
    )
    # Data sets are in the order of their writers, and the last rows all there is kept.
    recipe.shuffled = feed == "experience"
    return recipe


def class_balanced_replay(
    *,
    seed: int,
    mem_size: Count = 200,
    batch_size_mem: int = 10,
    feed: Feed = "first_epoch",
    loss_weights: LossWeights | Pair = "mean",
    train_metrics: TrainMetrics = "all",
) -> Recipe:
    """Replay of a uniform sample of each class, as balanced as the stream allows."""
    from avalanche_ext import plugins

    at_least_one(mem_size=mem_size)
    return _replay(
        plugins.class_balanced_replay(
            mem_size,
            batch_size_mem=batch_size_mem,
            seed=seed,
            feed=feed,
            loss_weights=_weights(loss_weights),
            train_metrics=train_metrics,
        ),
        row_per_class=True,
    )


def multi_strategy_replay(
    *,
    seed: int,
    mem_size: Count = 200,
    batch_size_mem: int = 10,
    criteria: str | None = None,
    admission: Admission = "herding",
    sampling: str = "mixed",
    temperature: float | None = None,
    w_age: float = 0.0,
    w_use: float = 0.0,
    balance: Balance = "class",
    refresh_every: int = 1,
    refresh_at_end: bool = True,
    feed: Feed = "first_epoch",
    loss_weights: LossWeights | Pair = "mean",
    train_metrics: TrainMetrics = "all",
) -> Recipe:
    """Replay of the rows that criteria score highest, from a memory that they may fill."""
    from avalanche_ext import plugins

    at_least_one(mem_size=mem_size)
    names, weights = (None, None) if criteria is None else _criteria(criteria)
    plugin = plugins.multi_strategy_replay(
        mem_size,
        batch_size_mem=batch_size_mem,
        criteria=names,
        weights=weights,
        admission=admission,
        sampling=sampling,
        temperature=temperature,
        w_age=w_age,
        w_use=w_use,
        balance=balance,
        refresh_every=refresh_every,
        refresh_at_end=refresh_at_end,
        seed=seed,
        feed=feed,
        loss_weights=_weights(loss_weights),
        train_metrics=train_metrics,
    )
    by_class = admission in ("ring", "class_balanced", "herding") or (
        admission == "score" and balance == "class"
    )
    return _replay(plugin, row_per_class=by_class)


METHODS: dict[str, Callable[..., Recipe]] = {
    "naive": naive,
    "joint": joint,
    "cumulative": cumulative,
    "reservoir-replay": reservoir_replay,
    "er-ring": er_ring,
    "class-balanced-replay": class_balanced_replay,
    "multi-strategy-replay": multi_strategy_replay,
    "adaptive-ewc": adaptive_ewc,
    "si": si,
    **UPSTREAM,
}


def summary(method: str) -> str:
    """The first line of a method's text."""
    return (METHODS[method].__doc__ or "").splitlines()[0].rstrip(".")


def parameters(method: str) -> dict[str, inspect.Parameter]:
    """A method's own options."""
    found = inspect.signature(METHODS[method]).parameters
    return {name: found[name] for name in found if name != "seed"}


def method_options(method: str, settings: Sequence[str]) -> dict[str, Any]:
    """Every option of a method: its defaults, and what ``--set`` says.

    :param settings: texts ``name=value``.
    :raises UserError: for an unknown method or option, or a value that cannot be read.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    allowed = parameters(method)
    options = {name: parameter.default for name, parameter in allowed.items()}
    given: set[str] = set()
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting!r} has no value: write name=value")
        if name not in allowed:
            raise UserError(
                f"--set {setting}: {method} has no option {name!r}; "
                f"{_described(allowed)}"
            )
        if name in given:
            raise UserError(f"--set gives {name!r} twice: give it once")
        given.add(name)
        options[name] = read(setting, text, allowed[name].annotation)
    return options


def build(method: str, options: dict[str, Any], seed: int) -> Recipe:
    """The recipe of a method.

    :raises UserError: where the method refuses its options.
    """
    try:
        return METHODS[method](seed=seed, **options)
    except ValueError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{method}: {line}; see --set name=value") from error


def _by_experience(k: int) -> tuple[float, float]:
    """van de Ven et al., Three types of incremental learning, 2022."""
    return 1 / k, 1 - 1 / k


def _weights(chosen: str | Sequence[float]) -> Any:
    """Loss weights as the plugin takes them."""
    if isinstance(chosen, str):
        return {"mean": None, "by_experience": _by_experience}[chosen]
    return tuple(chosen)


def _replay(plugin: Any, row_per_class: bool = False) -> Recipe:
    return Recipe([plugin], memory=plugin.buffer, row_per_class=row_per_class)


def _criteria(text: str) -> tuple[list[str], dict[str, float]]:
    """Names and weights of ``loss,2*age``: a criterion each, after its weight if any."""
    weights: dict[str, float] = {}
    names = []
    for part in text.split(","):
        weight, times, name = part.strip().rpartition("*")
        try:
            names.append(name.strip())
            weights[names[-1]] = float(weight) if times else 1.0
        except ValueError as error:
            raise ValueError(
                f"criteria={text!r}: write names, each after its weight if it has one, "
                "such as loss,0.5*age"
            ) from error
    return names, weights


def _described(allowed: dict[str, inspect.Parameter]) -> str:
    if not allowed:
        return "it has none"
    return "use " + ", ".join(
        f"{name} ({described(p.annotation)}, default {word(p.default)})"
        for name, p in allowed.items()
    )
