"""The importance regularisers, as methods of :mod:`experiments.methods`."""

from typing import TYPE_CHECKING, Any, Literal

from experiments.errors import UserError
from experiments.recipe import Recipe

if TYPE_CHECKING:
    from experiments.benchmarks import Benchmark
    from experiments.options import Run

Accumulation = Literal["sum", "ema", "separate"]
"""How the Fisher informations of several experiences become one."""

Labels = Literal["exact", "sampled", "empirical", "weighted"]
"""Of the Fisher information: all classes by their probability, one drawn for each row, the
row's own, or that by its probability."""

ThresholdUnit = Literal["mean", "absolute"]
"""What threshold is a multiple of."""

Balance = Literal["none", "running", "each"]
"""Whether ewc_lambda is divided by the mean importance, or each new one by its own."""

Boundary = Literal["origin", "experience"]
"""Where an experience ends; instead of a name: a number of training iterations."""

Path = Literal["gradient", "squares"]
"""−g·Δθ, or lr·g² as in published code."""


def adaptive_ewc(
    *,
    seed: int,
    ewc_lambda: float = 1.0,
    accumulation: Accumulation = "sum",
    decay: float | None = None,
    labels: Labels = "exact",
    num_samples: int | None = 1000,
    threshold: float = 0.0,
    threshold_unit: ThresholdUnit = "mean",
    balance: Balance = "running",
    include: str | None = None,
    exclude: str | None = None,
    boundary: Boundary | int = "origin",
) -> Recipe:
    """EWC with a Fisher information of single rows: penalty λ/2 Σ F (θ − θ*)²."""
    from avalanche_ext.plugins import AdaptiveEWCPlugin

    plugin = AdaptiveEWCPlugin(
        ewc_lambda,
        accumulation=accumulation,
        decay=decay,
        labels=labels,
        num_samples=num_samples,
        threshold=threshold,
        threshold_unit=threshold_unit,
        balance=_balance(balance),
        include=_patterns(include),
        exclude=_patterns(exclude),
        boundary=boundary,
        seed=seed,
    )
    return _recipe("adaptive-ewc", plugin, boundary)


def si(
    *,
    seed: int,
    si_lambda: float | str = 1.0,
    eps: float = 0.1,
    include: str | None = None,
    exclude: str | None = None,
    boundary: Boundary | int = "origin",
    path: Path = "gradient",
    clip_value: float | None = None,
) -> Recipe:
    """Synaptic Intelligence (Zenke et al. 2017): penalty c Σ Ω (θ − θ*)²."""
    from avalanche_ext.plugins import SynapticIntelligencePlugin

    plugin = SynapticIntelligencePlugin(
        _strengths(si_lambda),
        eps,
        include=_patterns(include),
        exclude=_patterns(exclude),
        boundary=boundary,
        path=path,
        clip_value=clip_value,
    )
    return _recipe("si", plugin, boundary)


def _recipe(method: str, plugin: Any, boundary: Boundary | int) -> Recipe:
    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        online = options.stream_size is not None
        if online and boundary == "origin" and not benchmark.task_labels:
            raise UserError(
                f"{method}: boundary=origin needs to know where an experience ends, "
                "which an online stream hides: use --set boundary=N, a number of training "
                "iterations, or add --task-labels"
            )
        return benchmark

    return Recipe([plugin], prepare=prepare)


def _balance(name: Balance) -> bool | Literal["each"]:
    return "each" if name == "each" else name == "running"


def _patterns(text: str | None) -> list[str] | None:
    """The patterns of ``a,b``."""
    if text is None or text == "none":
        return None
    return [part.strip() for part in text.split(",")]


def _strengths(given: float | str) -> float | list[float]:
    """The number, or those of ``1,0.5``, one an experience."""
    if not isinstance(given, str):
        return given
    try:
        return [float(part) for part in given.split(",")]
    except ValueError as error:
        raise ValueError(
            f"si_lambda={given!r}: write a number, or one for each experience, such as "
            "1,0.5"
        ) from error
