"""Case ``k-center``: rows that cover others, against the distances alone."""

import torch
from torch import Tensor

from avalanche_ext.storage.coreset import k_center
from experiments.bench.timing import Observe, stopwatch
from experiments.bench.workload import Row, Workload


def rows(work: Workload) -> list[Row]:
    """The chosen rows of a matrix of features."""
    n, width, k = work.sizes.covered
    features = torch.randn(n, width, generator=torch.Generator().manual_seed(0))

    def ours() -> Observe:
        return stopwatch(lambda: lambda: len(k_center(features, k, start=0)) // k, 1.0)

    def distances() -> Observe:
        def go() -> int:
            for center in range(k):
                _distances(features, center)
            return 1

        return stopwatch(lambda: go, 1.0)

    label = f"{k:,} of {n:,} rows with {width} features"
    return [Row(label, {"ours": ours, "distances alone": distances})]


def _distances(features: Tensor, center: int, block: int = 1024) -> None:
    """The squared distances of all rows to one, in blocks that stay in the cache."""
    for some in features.split(block):
        (some - features[center]).square().sum(1)
