"""Avalanche's own methods, unchanged, under its own names for their options.

What is said of them here was found by reading and running avalanche-lib 0.6.0.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from experiments.errors import UserError
from experiments.parts import part_sizes
from experiments.recipe import Recipe
from experiments.upstream_limits import (
    at_least_one,
    memory_fits,
    not_negative,
    one_head,
    with_task_zero,
)
from experiments.values import Count

if TYPE_CHECKING:
    from experiments.benchmarks import Benchmark
    from experiments.options import Run

GSS_REPLAY = 32
"""Rows that upstream's GSS replays with each batch; it cannot be set."""


def replay(
    *, seed: int, mem_size: Count = 200, batch_size_mem: int | None = None
) -> Recipe:
    """ReplayPlugin as it comes; online its memory stops taking new rows."""
    from avalanche.training.plugins import ReplayPlugin

    at_least_one(mem_size=mem_size, batch_size_mem=batch_size_mem)
    plugin = ReplayPlugin(mem_size, batch_size_mem=batch_size_mem)
    return Recipe([plugin], prepare=memory_fits(mem_size, batch_size_mem))


def reservoir_replay(
    *, seed: int, mem_size: Count = 200, batch_size_mem: int | None = None
) -> Recipe:
    """ReplayPlugin with ReservoirSamplingBuffer, filled at the end of experiences."""
    from avalanche.training.plugins import ReplayPlugin
    from avalanche.training.storage_policy import ReservoirSamplingBuffer

    at_least_one(mem_size=mem_size, batch_size_mem=batch_size_mem)
    policy = ReservoirSamplingBuffer(mem_size)
    plugin = ReplayPlugin(
        mem_size, batch_size_mem=batch_size_mem, storage_policy=policy
    )
    return Recipe([plugin], prepare=memory_fits(mem_size, batch_size_mem))


def ewc(
    *,
    seed: int,
    ewc_lambda: float = 1.0,
    mode: Literal["separate", "online"] = "separate",
    decay_factor: float | None = None,
    keep_importance_data: bool = False,
) -> Recipe:
    """EWCPlugin; squares gradients of batches, so ewc_lambda depends on their size."""
    from avalanche.training.plugins import EWCPlugin

    not_negative(ewc_lambda=ewc_lambda, decay_factor=decay_factor)
    if (mode == "online") != (decay_factor is not None):
        raise ValueError(
            f"decay_factor={decay_factor} with mode={mode}: mode=online needs a "
            "decay_factor and mode=separate takes none"
        )
    return Recipe([EWCPlugin(ewc_lambda, mode, decay_factor, keep_importance_data)])


def si(*, seed: int, si_lambda: float = 1.0, eps: float = 1e-7) -> Recipe:
    """SynapticIntelligencePlugin, which has no effect at all on a CPU."""
    from avalanche.training.plugins import SynapticIntelligencePlugin

    not_negative(si_lambda=si_lambda)
    if eps <= 0:
        raise ValueError(f"eps={eps} must be above 0: it is what is divided by")
    return Recipe([SynapticIntelligencePlugin(si_lambda, eps)])


def gem(
    *, seed: int, patterns_per_experience: int = 40, memory_strength: float = 0.5
) -> Recipe:
    """GEMPlugin; online, each sub-experience is a constraint of its own."""
    import qpsolvers
    from avalanche.training.plugins import GEMPlugin

    if "quadprog" not in qpsolvers.available_solvers:
        raise UserError("upstream-gem needs a solver: pip install quadprog")
    at_least_one(patterns_per_experience=patterns_per_experience)
    not_negative(memory_strength=memory_strength)
    return Recipe([GEMPlugin(patterns_per_experience, memory_strength)])


def agem(
    *, seed: int, patterns_per_experience: int = 40, sample_size: int = 64
) -> Recipe:
    """AGEMPlugin; its memory grows by patterns_per_experience without a limit."""
    from avalanche.training.plugins import AGEMPlugin

    at_least_one(
        patterns_per_experience=patterns_per_experience, sample_size=sample_size
    )

    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        parts = len(part_sizes(options, benchmark))
        if parts > sample_size:
            raise UserError(
                f"upstream-agem: sample_size={sample_size} is shared between all "
                f"{parts} (sub-)experiences and leaves no row for each: use "
                f"--set sample_size={parts} or more"
            )
        return benchmark

    return Recipe([AGEMPlugin(patterns_per_experience, sample_size)], prepare=prepare)


def der(
    *,
    seed: int,
    mem_size: Count = 200,
    batch_size_mem: int | None = None,
    alpha: float = 0.1,
    beta: float = 0.5,
) -> Recipe:
    """DER, with beta above 0 DER++; logits are those of the end of an experience."""
    from avalanche.training.supervised import DER

    at_least_one(mem_size=mem_size, batch_size_mem=batch_size_mem)
    not_negative(alpha=alpha, beta=beta)
    fits = memory_fits(mem_size, batch_size_mem)

    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        one_head("der", benchmark)
        if options.head == "seen":
            raise UserError(
                "upstream-der keeps logits, which --head seen sets to -1000 for classes "
                "not yet seen: use --head all"
            )
        return with_task_zero(fits(options, benchmark))

    return Recipe(
        strategy=partial(
            DER,
            mem_size=mem_size,
            batch_size_mem=batch_size_mem,
            alpha=alpha,
            beta=beta,
        ),
        prepare=prepare,
    )


def gss(*, seed: int, mem_size: Count = 200, mem_strength: int = 5) -> Recipe:
    """GSS_greedyPlugin; adds gradients of single rows of the batch to each update."""
    from avalanche.training.plugins import GSS_greedyPlugin

    at_least_one(mem_size=mem_size, mem_strength=mem_strength)
    plugins: list[Any] = []

    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        one_head("gss", benchmark)
        sizes = part_sizes(options, benchmark)
        batch = min(options.batch_size, max(sizes))
        needed = batch + (GSS_REPLAY if len(sizes) > 1 else 0) + 1
        if mem_size < needed:
            raise UserError(
                f"upstream-gss: it replays {GSS_REPLAY} rows with each batch of "
                f"{batch}, and mem_size={mem_size} must be larger than both "
                f"together: use --set mem_size={needed} or more"
            )
        filled = sizes[0] * options.passes
        if options.iterations is not None:
            filled = batch * options.iterations
        if filled < needed:
            raise UserError(
                f"upstream-gss: the first (sub-)experience fills {filled} rows of the "
                f"memory, fewer than the {needed} it needs: use larger ones, or train "
                "longer"
            )
        plugins.append(
            GSS_greedyPlugin(mem_size, mem_strength, list(benchmark.task.shape))
        )
        return with_task_zero(benchmark)

    return Recipe(plugins, prepare=prepare)


def mir(
    *, seed: int, mem_size: Count = 200, batch_size_mem: int = 10, subsample: int = 200
) -> Recipe:
    """MIRPlugin; labels of an experience's last batch are not replayed in the next."""
    from avalanche.training.plugins import MIRPlugin

    at_least_one(mem_size=mem_size, batch_size_mem=batch_size_mem)
    for name, size in (("mem_size", mem_size), ("subsample", subsample)):
        if size <= batch_size_mem:
            raise ValueError(
                f"{name}={size} must be larger than batch_size_mem={batch_size_mem}, "
                "or it never replays"
            )

    def prepare(options: "Run", benchmark: "Benchmark") -> "Benchmark":
        return with_task_zero(benchmark)

    return Recipe([MIRPlugin(batch_size_mem, mem_size, subsample)], prepare=prepare)


def mer(
    *,
    seed: int,
    mem_size: Count = 200,
    batch_size_mem: int = 10,
    n_inner_steps: int = 5,
    beta: float = 0.1,
    gamma: float = 0.1,
) -> Recipe:
    """MER, an optimizer step for each row; memory filled at the end of experiences."""
    from avalanche.training.supervised.mer import MER

    at_least_one(
        mem_size=mem_size, batch_size_mem=batch_size_mem, n_inner_steps=n_inner_steps
    )
    not_negative(beta=beta, gamma=gamma)
    options = dict(
        mem_size=mem_size,
        batch_size_mem=batch_size_mem,
        n_inner_steps=n_inner_steps,
        beta=beta,
        gamma=gamma,
    )
    fits = memory_fits(mem_size, batch_size_mem)
    return Recipe(
        strategy=partial(MER, **options),
        prepare=lambda options, benchmark: with_task_zero(fits(options, benchmark)),
    )


UPSTREAM: dict[str, Callable[..., Recipe]] = {
    "upstream-replay": replay,
    "upstream-reservoir-replay": reservoir_replay,
    "upstream-ewc": ewc,
    "upstream-si": si,
    "upstream-gem": gem,
    "upstream-agem": agem,
    "upstream-der": der,
    "upstream-gss": gss,
    "upstream-mir": mir,
    "upstream-mer": mer,
}
"""Name → function of the method's options, as in :mod:`experiments.methods`."""
