"""How many training iterations an experience takes, and the plugin that sees to it."""

from typing import Any

from avalanche.training.plugins import SupervisedPlugin

from experiments.benchmarks import Benchmark
from experiments.options import Run
from experiments.parts import part_sizes


class IterationLimit(SupervisedPlugin):
    """Trains each experience for a number of iterations instead of epochs.

    Epochs repeat, each in an order of its own, and the last is cut.

    :param iterations: of each experience.
    """

    def __init__(self, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self._left = 0

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Make room for as many epochs as that takes."""
        self._left = self.iterations
        strategy.train_epochs = -(-self.iterations // len(strategy.dataloader))

    def after_training_iteration(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Stop after the last one."""
        self._left -= 1
        if not self._left:
            strategy.stop_training()


def limit(options: Run, benchmark: Benchmark) -> int | None:
    """Iterations of each training experience; ``None`` where epochs are counted.

    The single experience of joint training takes as many as all it replaces.
    """
    if options.iterations is None:
        return None
    return options.iterations * len(benchmark.test) // len(benchmark.train)


def expected(options: Run, benchmark: Benchmark) -> int:
    """Training iterations of the whole run."""
    each = limit(options, benchmark)
    if each is not None:
        return each * len(benchmark.train)
    batches = [
        -(-size // options.batch_size) for size in part_sizes(options, benchmark)
    ]
    return sum(batches) * options.passes
