"""The pieces in which a run is trained: experiences, or sub-experiences of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.benchmarks import Benchmark
    from experiments.options import Run


def part_sizes(options: "Run", benchmark: "Benchmark") -> list[int]:
    """Rows of each, in the order of training."""
    sizes = []
    for experience in benchmark.train:
        rows = len(experience.dataset)
        size = options.stream_size or rows
        sizes += [min(size, rows - start) for start in range(0, rows, size)]
    return sizes
