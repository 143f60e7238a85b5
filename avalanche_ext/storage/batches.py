"""Batches gathered from resident rows, in the order of Avalanche's own loaders."""

from collections.abc import Iterator
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import (
    MultiDatasetDataLoader,
    MultiDatasetSampler,
)
from avalanche.distributed.distributed_helper import DistributedHelper
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.resident import RowSource
from avalanche_ext.storage.rows import Rows, each, leaves, part, take
from avalanche_ext.storage.transforms import BatchTransform

_BLOCK_BYTES = 2**18  # gathered and transformed at a time: a block stays in cache
_SHUFFLE = torch.Generator()  # seeded anew for each order: making one costs as much


class ResidentBatch(list[Any]):
    """A minibatch ``[x, y, …]`` that remembers the rows its ``x`` was made of.

    :param columns: what the strategy sees.
    :param raw: the rows of ``x`` from before the batch transform.
    :param transform: what makes ``x`` of them; ``None`` when they are ``x``.
    """

    def __init__(
        self, columns: list[Any], raw: Rows, transform: BatchTransform | None
    ) -> None:
        super().__init__(columns)
        self.raw = raw
        self.transform = transform


class IndexOrder:
    """Positions of the batches of an epoch, as a loader of Avalanche would have them.

    Iterating draws from torch's global generator what that loader draws, so the same
    seed gives the same order and leaves the generator in the same state.

    :param loader: a ``DataLoader`` or one of Avalanche's loaders.
    :raises NotResident: for a loader whose order is not known.
    """

    def __init__(self, loader: Any) -> None:
        if DistributedHelper.is_distributed:
            raise NotResident("training is distributed")
        self.loader = loader
        if isinstance(loader, MultiDatasetDataLoader):
            self.datasets = loader.datasets
            arguments = loader.loader_kwargs
            _refuse_collation(arguments.get("collate_fn"), loader.datasets[0])
            single = len(loader.datasets) == 1 and not loader.never_ending
            self._simple = single and not {
                "sampler",
                "batch_sampler",
                "generator",
            } & set(arguments)
            self._batch_size = loader.batch_sizes[0]
            self._shuffle = bool(arguments.get("shuffle", False))
            self._drop_last = bool(arguments.get("drop_last", False))
        elif type(loader) is DataLoader and loader.batch_size is not None:
            self.datasets = [loader.dataset]
            _refuse_collation(loader.collate_fn, loader.dataset)
            sampler = loader.sampler
            self._shuffle = isinstance(sampler, RandomSampler)
            self._simple = (
                type(sampler) in (RandomSampler, SequentialSampler)
                and loader.generator is None
                and getattr(sampler, "generator", None) is None
                and not getattr(sampler, "replacement", False)
                and getattr(sampler, "_num_samples", None) is None
            )
            self._batch_size = loader.batch_size
            self._drop_last = loader.drop_last
        else:
            raise NotResident(f"its loader is a {type(loader).__name__}")

    def __len__(self) -> int:
        return len(self.loader)

    def regular(self, n: int) -> tuple[Tensor | None, int] | None:
        """The order of ``n`` rows (``None``: ascending) and the batch size.

        ``None`` when batches are not consecutive parts of one order.
        """
        if not self._simple:
            return None
        _draw_seed()  # the seed of workers
        order = None
        if self._shuffle:
            order = torch.randperm(n, generator=_SHUFFLE.manual_seed(_draw_seed()))
        if self._drop_last:
            n -= n % self._batch_size
            order = torch.arange(n) if order is None else order[:n]
        return order, self._batch_size

    def irregular(self) -> Iterator[Tensor]:
        """The positions of one batch after the other, as the loader's sampler says."""
        loader = self.loader
        if isinstance(loader, MultiDatasetDataLoader):
            _draw_seed(loader.loader_kwargs.get("generator"))
            batches: Any = MultiDatasetSampler(
                loader.datasets,
                loader._create_samplers(
                    loader.datasets,
                    loader.batch_sizes,
                    loader.distributed_sampling,
                    loader.loader_kwargs,
                ),
                termination_dataset_idx=loader.termination_dataset,
                oversample_small_datasets=loader.oversample_small_datasets,
                never_ending=loader.never_ending,
            )
        else:
            _draw_seed(loader.generator)
            batches = loader.batch_sampler
        for batch in batches:
            yield torch.as_tensor(batch)


def _refuse_collation(collate: Any, dataset: Any) -> None:
    if collate not in (None, default_collate, getattr(dataset, "collate_fn", None)):
        raise NotResident("its loader has a collate function of its own")


def _draw_seed(generator: torch.Generator | None = None) -> int:
    """What a ``DataLoader`` draws for its workers, and a ``RandomSampler`` for itself."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


class ResidentLoader:
    """A loader of :class:`ResidentBatch` from a row source.

    :param source: the rows.
    :param order: the positions of each batch.
    :param device: where the batches should be.
    """

    def __init__(
        self, source: RowSource, order: IndexOrder, device: torch.device
    ) -> None:
        self.order = order
        self.source = source
        self.transform = source.transform
        self._ahead = source.repeatable
        self._leaf, self._index, self._own = source.columns(device)
        self.device = device
        self._length = len(source)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[ResidentBatch]:
        regular = self.order.regular(self._length)
        if regular is None:
            for position in self.order.irregular():
                yield from self._block(position, len(position))
            return
        order, size = regular
        rows = self._rows_ahead(size)
        n = self._length if order is None else len(order)
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            if order is None:
                yield from self._block(range(start, stop), size)
            else:
                yield from self._block(order[start:stop], size)

    def _rows_ahead(self, size: int) -> int:
        """How many rows to gather at a time, a multiple of the batch size."""
        if not self._ahead:
            return size
        row = sum(leaf[:1].numel() * 4 for _, leaf in leaves(self._leaf[0]))
        return max(1, _BLOCK_BYTES // max(1, row * size)) * size

    def _block(self, position: Tensor | range, size: int) -> Iterator[ResidentBatch]:
        """The batches of ``size`` rows at consecutive ``position``."""
        if isinstance(position, range):
            start, stop = position.start, position.stop
            own: list[Rows] = [part(c, start, stop) for c in self._own]
            if self._index is None:
                leaf = [part(c, start, stop) for c in self._leaf]
                if self.transform is None:  # a plugin may write to its batch
                    leaf[0] = each(torch.clone, leaf[0])
            else:
                leaf = [take(c, self._index[start:stop]) for c in self._leaf]
            length = stop - start
        else:
            rows = position if self._index is None else self._index[position]
            rows, position = rows.to(self.device), position.to(self.device)
            leaf = [take(c, rows) for c in self._leaf]
            own = [take(c, position) for c in self._own]
            length = len(rows)
        raw, *others = leaf
        x = raw if self.transform is None else self.transform(raw)
        columns = [x, *others, *own]
        if length <= size:
            yield ResidentBatch(columns, raw, self.transform)
            return
        for start in range(0, length, size):
            stop = min(start + size, length)
            yield ResidentBatch(
                [part(column, start, stop) for column in columns],
                part(raw, start, stop),
                self.transform,
            )
