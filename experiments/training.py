"""Train and evaluate one seed."""

import dataclasses
import gc
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from avalanche.training.determinism.rng_manager import RNGManager
from avalanche.training.supervised import Naive
from torch.utils.data import DataLoader

from avalanche_ext.plugins import ResidentDataPlugin
from avalanche_ext.plugins.divergence import TrainingDiverged
from avalanche_ext.plugins.importance import ImportancePlugin
from experiments import benchmarks, iterations, memory_sample, peak_memory, store
from experiments.benchmarks import Benchmark
from experiments.criterion import cross_entropy
from experiments.errors import Diverged, UserError
from experiments.from_memory import accuracy_from_memory
from experiments.job import Job
from experiments.loggers import open_loggers
from experiments.measures import Measures
from experiments.methods import build
from experiments.models import MODELS
from experiments.options import Run
from experiments.progress import ProgressPlugin, rate_to_try
from experiments.recipe import Recipe
from experiments.rows import hold_out
from experiments.upstream_limits import quiet

ALLOCATION = ("allocate memory", "out of memory", "Storage size calculation overflow")
"""What torch says, as a plain RuntimeError, where memory is not to be had."""
OVERFLOW = "without overflow"
"""The same where a Python number is too large for a tensor's."""


class Trainer(Naive):
    """Plain training, whose batches of several tasks are plain shuffles.

    Upstream balances each batch by task and repeats rows of smaller tasks, so that an
    epoch of joint training would be no pass over the data.
    """

    def make_train_dataloader(self, shuffle: bool = True, **kwargs: Any) -> None:
        """The loader of an experience."""
        if len(getattr(self.experience, "task_labels", ())) > 1:
            self.dataloader = DataLoader(
                self.adapted_dataset, batch_size=self.train_mb_size, shuffle=shuffle
            )
        else:
            super().make_train_dataloader(shuffle=shuffle, **kwargs)


@contextmanager
def _sizes_that_fit() -> Iterator[None]:
    """Tell what no memory can hold as what the user can change."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not any(
            part in text for part in ALLOCATION
        ):
            raise
        raise UserError(
            f"the memory of this machine is too small ({text[:200] or 'no more of it'})"
            ": use a smaller --hidden, --batch-size or --set mem_size"
        ) from error


@contextmanager
def _steps_that_fit(rate: float) -> Iterator[None]:
    """Tell of a step that single precision cannot hold as what the user can change."""
    try:
        yield
    except RuntimeError as error:
        if OVERFLOW not in str(error):
            raise
        raise UserError(
            f"a step is too long to be held in single precision, with learning rate "
            f"{rate:g}: try --lr {rate_to_try(rate):g}, and smaller numbers by --set"
        ) from error


@_sizes_that_fit()
def train_seed(job: Job, seed: int, memory_epochs: int = 0) -> dict[str, Any]:
    """Train on one experience after the other, evaluate all of them after each.

    On a CPU the same job and seed give the same result, bit for bit apart from
    timings and memory, whatever was computed before in this process.

    :param memory_epochs: afterwards, a new model is trained for so many epochs on the
        memory alone; the result then has its ``memory_accuracy``.
    :return: the contents of ``result.json``.
    :raises UserError: where the method's memory cannot serve the benchmark, the loss
        is no number, or this machine's memory does not suffice.
    """
    options = job.options
    peak = peak_memory.follow(job.device)
    recipe = build(options.method, job.method_options, seed)
    benchmark = _benchmark(job, recipe, seed)
    if recipe.prepare is not None:
        benchmark = recipe.prepare(options, benchmark)
    _check_memory(job, recipe, benchmark)
    if memory_epochs and recipe.memory is None:
        raise UserError(
            f"{options.method} has no memory that a model could be trained on alone: "
            "leave out memory_epochs, or use a method that has one"
        )
    _check_loss_weights(job, benchmark)
    with _loggers(job, seed) as loggers, _threads(options.threads):
        RNGManager.set_random_seeds(seed)  # torch, CUDA, numpy and random
        title = f"seed {seed}"
        strategy, measures, progress = set_up(
            options, recipe, benchmark, job.device, title, loggers
        )
        try:
            with _imports_out_of_collections(), quiet(), _steps_that_fit(options.lr):
                spent = train_stream(strategy, benchmark, options, progress)
            worth = {}
            if memory_epochs:
                # With all outputs: no strategy tells it which classes it has seen.
                every = dataclasses.replace(options, head="all")
                alone = _model(every, benchmark).to(job.device)
                worth["memory_accuracy"] = accuracy_from_memory(
                    alone, recipe.memory, benchmark, memory_epochs, seed
                )
        finally:
            progress.close()
    if job.directory is not None:
        rows = measures.memory_rows(job.arrays.maximum)
        memory_sample.leave(store.seed_directory(job.directory, seed), rows)
    return {
        "format": store.FORMAT,
        "benchmark": options.benchmark,
        "method": options.method,
        "scenario": options.form,
        "seed": seed,
        **measures.result(),
        **worth,
        "penalty_health": _penalty_health(recipe),
        "classes": benchmark.classes,
        **spent,
        "peak_memory_mb": peak(),
        "iterations": progress.iterations,
    }


def set_up(
    options: Run,
    recipe: Recipe,
    benchmark: Benchmark,
    device: str,
    title: str,
    loggers: Sequence[Any] = (),
) -> tuple[Any, Measures, ProgressPlugin]:
    """The strategy of a seed, its measures, and the plugin that tells of its progress.

    Weights are drawn from torch's generator.

    :param title: what progress is told under.
    """
    model = _model(options, benchmark)
    for plugin in recipe.plugins:
        if isinstance(plugin, ImportancePlugin):
            _check_selection(plugin, model, options.method)
    more: list[Any] = [ResidentDataPlugin()] if options.in_memory else []
    limit = iterations.limit(options, benchmark)
    if limit is not None:
        more.append(iterations.IterationLimit(limit))
    measures = Measures(benchmark, recipe.memory, loggers)
    expected = iterations.expected(options, benchmark)
    progress = ProgressPlugin(expected, title, options.progress, measures.record)
    strategy = (recipe.strategy or Trainer)(
        model=model,
        optimizer=_optimizer(options, model),
        criterion=cross_entropy(options.loss_scale),
        train_mb_size=options.batch_size,
        train_epochs=options.passes,
        eval_mb_size=options.eval_batch_size,
        device=torch.device(device),
        plugins=[*recipe.plugins, *more, progress],
        evaluator=measures.evaluator,
    )
    return strategy, measures, progress


def _penalty_health(recipe: Recipe) -> dict[str, float | None] | None:
    """Of a method with a penalty, at the end; what is not finite is not known."""
    for plugin in recipe.plugins:
        if isinstance(plugin, ImportancePlugin):
            health = dataclasses.asdict(plugin.health)
            return {
                name: value if value is not None and math.isfinite(value) else None
                for name, value in health.items()
            }
    return None


def _check_selection(plugin: ImportancePlugin, model: Any, method: str) -> None:
    try:
        plugin.selection.of(model)
    except ValueError as error:
        raise UserError(f"{method}: {error}") from error


def _model(options: Run, benchmark: Benchmark) -> Any:
    task = benchmark.task._replace(seen=options.head == "seen")
    return MODELS[options.model](task, options.widths, options.weights)


def _benchmark(job: Job, recipe: Recipe, seed: int) -> Benchmark:
    options = job.options
    return benchmarks.build(
        hold_out(job.arrays, options.validation, seed),
        job.groups,
        options.form,
        recipe.data,
        pixels=options.pixels,
        samples=options.samples,
        label_noise=options.label_noise,
        task_labels=options.task_labels,
        shuffled=recipe.shuffled,
        seed=seed,
    )


def train_stream(
    strategy: Any, benchmark: Benchmark, options: Run, progress: ProgressPlugin
) -> dict[str, float]:
    """All training and evaluation of a run.

    :return: the seconds of each.
    :raises UserError: where the loss or the weights are no numbers.
    """
    training = evaluation = 0.0
    for t, experience in enumerate(benchmark.train):
        progress.begin(t, len(benchmark.train))
        start = _now(strategy.device)
        data = experience
        if options.stream_size is not None:
            order = int(torch.randint(2**31, ()))
            data = benchmarks.online(experience, options.stream_size, order)
        if options.reset_optimizer:
            strategy.optimizer.state.clear()
        try:
            strategy.train(data, eval_streams=[])
        except TrainingDiverged as error:
            raise Diverged(str(error)) from error
        _check_weights(strategy, t)
        middle = _now(strategy.device)
        progress.evaluating()
        strategy.eval(benchmark.test)
        training += middle - start
        evaluation += _now(strategy.device) - middle
    return {"train_seconds": training, "eval_seconds": evaluation}


def _check_weights(strategy: Any, t: int) -> None:
    """The last update of an experience is followed by no loss that would show it."""
    for name, weight in strategy.model.named_parameters():
        if not weight.isfinite().all():
            rate = strategy.optimizer.param_groups[0]["lr"]
            raise Diverged(
                f"the weights {name} are not finite after experience {t + 1}, with "
                f"learning rate {rate:g}: try --lr {rate_to_try(rate):g}"
            )


def _loggers(job: Job, seed: int) -> AbstractContextManager[list[Any]]:
    options = job.options
    directory = job.directory and store.seed_directory(job.directory, seed)
    title = f"{options.benchmark} {options.method} {options.form} seed {seed}"
    return open_loggers(options.loggers, directory, title)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _optimizer(options: Run, model: torch.nn.Module) -> torch.optim.Optimizer:
    if options.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=options.lr)
    return torch.optim.SGD(model.parameters(), lr=options.lr, momentum=options.momentum)


def _check_memory(job: Job, recipe: Recipe, benchmark: Benchmark) -> None:
    options, own = job.options, job.method_options
    classes = benchmark.task.outputs
    if benchmark.task_labels:  # a class is a label of a task
        classes = sum(map(len, benchmark.classes))
    grows = getattr(recipe.memory, "grows", False)
    if recipe.row_per_class and not grows and recipe.memory.max_size < classes:
        raise UserError(
            f"{options.method}: a memory of {recipe.memory.max_size} rows is smaller "
            f"than the {classes} classes of {options.benchmark!r}: use "
            f"--set mem_size={classes} or more"
        )
    per_class = own.get("per_class")
    if per_class is not None and per_class * classes < own["batch_size_mem"]:
        raise UserError(
            f"{options.method}: a memory of per_class={per_class} × {classes} classes is "
            f"smaller than a replay batch of {own['batch_size_mem']}: use "
            f"--set batch_size_mem={per_class * classes} or less"
        )


def _check_loss_weights(job: Job, benchmark: Benchmark) -> None:
    by_experience = job.method_options.get("loss_weights") == "by_experience"
    online = job.options.stream_size is not None
    if by_experience and online and not benchmark.task_labels:
        raise UserError(
            f"{job.options.method}: loss_weights=by_experience needs to know where an "
            "experience begins, which an online stream hides: leave --stream-size out, "
            "or add --task-labels"
        )


@contextmanager
def _imports_out_of_collections() -> Iterator[None]:
    """Keep what imports left out of garbage collections.

    Avalanche and what it imports are so many objects that a full collection takes a
    third of a second, and an online stream causes many.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
