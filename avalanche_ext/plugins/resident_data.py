"""Training and test data held as tensors, batches gathered by index."""

import warnings
from typing import Any
from weakref import ReferenceType, ref

import psutil
import torch
from avalanche.training.plugins import SupervisedPlugin

from avalanche_ext.arguments import is_number
from avalanche_ext.settings import TellsSettings, settings_of
from avalanche_ext.storage.batches import IndexOrder, ResidentLoader
from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.resident import LeafStores, RowSource

_SHARE_OF_FREE = 0.8  # memory to leave for everything else: a fifth of what is free


class ResidentDataPlugin(SupervisedPlugin[Any], TellsSettings):
    """Replaces the loaders of Avalanche by gathers from tensors.

    Each row is read from its data set once, before its transforms (8-bit images stay
    ``uint8``). A batch is one gather and one transform on the strategy's device.
    Transforms that do the same each time run once, or on whole batches; others run on
    each sample of each batch (:mod:`avalanche_ext.storage.transforms` says which).
    Samples and their order are those of Avalanche's own loader for the same seed, in
    training and evaluation.

    What cannot be held as tensors (rows of different shapes, a data set with random
    transforms of its own, a collate function, too little memory) is left to
    Avalanche's loader, with a warning that says why. A data set whose rows change
    from one reading to the next must not be given to this plugin.

    Add it after any plugin that makes a loader of its own.

    :param max_bytes: how much memory all copies together may take, on the host and on
        the device each; ``None``: 80 % of what is free. Rows of a ``TensorDataset`` are
        no copies on the host, those of a data set that is gone are let go.
    :raises ValueError: for a limit that is no number of 0 or more.
    """

    def __init__(self, *, max_bytes: float | None = None) -> None:
        self._settings = settings_of(locals())
        super().__init__()
        if max_bytes is not None and not (is_number(max_bytes) and max_bytes >= 0):
            raise ValueError(
                "max_bytes must be a number of bytes, 0 or more, or None for 80 % of what "
                f"is free, got {max_bytes!r}: 1e9 is a gigabyte"
            )
        self.max_bytes = max_bytes
        self._stores = LeafStores()
        self._refused: set[str] = set()
        self._loaders: list[ReferenceType[ResidentLoader]] = []  # those in use
        self._exchanged = False  # whether the loader of this phase is ours

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Exchange the training loader."""
        self._exchange(strategy, remember=False)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """See whether a plugin further down the list has put its own loader there."""
        if self._exchanged and not isinstance(strategy.dataloader, ResidentLoader):
            self._refuse(
                strategy,
                f"a plugin that comes later made a {type(strategy.dataloader).__name__}"
                ": put ResidentDataPlugin after it",
            )

    def before_eval_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Exchange the evaluation loader."""
        self._exchange(strategy, remember=True)

    def _exchange(self, strategy: Any, remember: bool) -> None:
        self._exchanged = False
        try:
            order = IndexOrder(strategy.dataloader)
            dataset = order.datasets[0]
            for further in order.datasets[1:]:
                dataset = dataset.concat(further)
            source = self._stores.source(dataset, remember=remember)
            device = self._place(source, strategy.device)
            strategy.dataloader = loader = ResidentLoader(source, order, device)
            self._loaders = [r for r in self._loaders if r() is not None]
            self._loaders.append(ref(loader))
            self._exchanged = True
        except NotResident as reason:
            self._refuse(strategy, str(reason))

    def _place(self, source: RowSource, device: torch.device) -> torch.device:
        """Where the rows fit: the device, else the host."""
        needed = source.bytes_needed
        if needed:  # on the host, whatever the device: rows are read there
            left = self._left(psutil.virtual_memory().available, torch.device("cpu"))
            if needed > left:
                raise NotResident(
                    f"it takes {needed / 1e6:.1f} MB and {left / 1e6:.1f} MB may be used"
                )
        if device.type != "cuda":
            return torch.device("cpu")
        if not source.is_on(device):
            free = torch.cuda.mem_get_info(device)[0]
            if source.bytes > self._left(free, device):
                return torch.device("cpu")
        return device

    def _left(self, free: int, device: torch.device) -> float:
        """Bytes that further copies may take."""
        if self.max_bytes is None:
            return free * _SHARE_OF_FREE
        return max(0, self.max_bytes - self._held(device))

    def _held(self, device: torch.device) -> int:
        """Bytes that copies take on a device."""
        loaders = [loader for r in self._loaders if (loader := r()) is not None]
        if device.type == "cpu":
            joined = (
                x.source for x in loaders if x.device == device and x.source.copies
            )
            return self._stores.bytes_held + sum(source.bytes for source in joined)
        sources = {*self._stores.sources, *(loader.source for loader in loaders)}
        return sum(source.bytes for source in sources if source.is_on(device))

    def _refuse(self, strategy: Any, reason: str) -> None:
        if reason not in self._refused:
            self._refused.add(reason)
            phase = "training" if strategy.is_training else "evaluation"
            warnings.warn(
                f"the {phase} data stay with Avalanche's loader: {reason}",
                stacklevel=2,
            )

    def __getstate__(self) -> dict[str, Any]:
        """Without the data: they are read again after loading."""
        return {**self.__dict__, "_stores": LeafStores(), "_loaders": []}
