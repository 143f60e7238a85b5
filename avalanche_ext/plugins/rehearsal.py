"""Rehearsal: memory rows join every minibatch."""

import warnings
from contextlib import suppress
from typing import Any, Literal, get_args

import torch
from avalanche.training.plugins import SupervisedPlugin
from torch import Tensor

from avalanche_ext.arguments import check_choice, whole_number
from avalanche_ext.plugins.company import (
    check_company,
    check_loader,
    is_alone,
    tell_idle,
    tell_reuse,
)
from avalanche_ext.plugins.memory_loss import (
    LossWeights,
    MemoryLoss,
    check_weights,
    own_criterion,
    weights_of,
)
from avalanche_ext.plugins.step_scores import StepScores
from avalanche_ext.settings import TellsSettings, settings_of
from avalanche_ext.storage.buffer import MultiStrategyBuffer
from avalanche_ext.storage.items import check_task_item, has_task_items, item_names
from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.rehearsed import RehearsedBatch
from avalanche_ext.storage.resident import RowSource
from avalanche_ext.storage.rows import Rows, each
from avalanche_ext.storage.transforms import BatchTransform

Feed = Literal["first_epoch", "every_epoch", "experience"]
TrainMetrics = Literal["all", "current"]


class RehearsalPlugin(SupervisedPlugin[Any], TellsSettings):
    """Mixes rows of a memory into every minibatch and feeds the memory.

    Before the forward pass ``batch_size_mem`` rows are drawn and appended to the
    current ones; the strategy's own criterion then sees both, so the loss is its mean
    over all ``b + m`` rows. With ``loss_weights = (c, r)`` it is
    ``c · L(current rows) + r · L(memory rows)`` instead. After the step the current
    rows are offered to the memory, each once (in the first epoch) by default, so this
    works on online streams without task boundaries.

    Where the data are resident (:class:`~avalanche_ext.ResidentDataPlugin`) the memory
    keeps rows from before the batch transform, which is applied anew when they are
    replayed, as long as there is one transform for all; otherwise it keeps what the
    loader gives.

    All items of a minibatch are kept and replayed, ``[x, y, …]``; the last one is the
    task label where the experience's data set has task labels, as for Avalanche.

    Several of these go together, in any order: each feeds its own memory with the
    current rows alone, and ``c`` of ``loss_weights`` (one plugin may have them) weighs
    the mean over all rows but those of this plugin's memory.

    :param buffer: the memory.
    :param batch_size_mem: rows replayed with each minibatch; 0 feeds the memory only.
    :param feed: ``"first_epoch"`` and ``"every_epoch"`` offer the rows of each
        minibatch; ``"experience"`` offers the whole experience at its end, so that the
        first one is trained without replay.
    :param loss_weights: weights of the current and the memory rows' losses, or a
        function of the number of experiences met (1, 2, …) that returns them; ``None``
        is one mean over all rows.
    :param transform: makes the model's input of stored rows, for instance to augment
        them anew; by default what made the minibatch.
    :param train_metrics: whether training metrics see all rows, as upstream's do, or
        the current ones.
    :raises TypeError: for anything but a memory, or a transform that is no function.
    :raises ValueError: for a replay batch larger than the memory, or no number of rows;
        for weights that are not two numbers of 0 or more, or an unknown name.
    """

    def __init__(
        self,
        buffer: MultiStrategyBuffer,
        batch_size_mem: int = 10,
        *,
        feed: Feed = "first_epoch",
        loss_weights: LossWeights | None = None,
        transform: BatchTransform | None = None,
        train_metrics: TrainMetrics = "all",
    ) -> None:
        self._settings = settings_of(locals(), but=("buffer",))
        super().__init__()
        if not isinstance(buffer, MultiStrategyBuffer):
            raise TypeError(
                f"RehearsalPlugin needs a MultiStrategyBuffer, got {buffer!r}: "
                "give MultiStrategyBuffer(500), for a memory of 500 rows"
            )
        batch_size_mem = whole_number("batch_size_mem", batch_size_mem, "rows", least=0)
        if batch_size_mem > buffer.max_size and not buffer.grows:
            raise ValueError(
                f"batch_size_mem={batch_size_mem} must lie in 0 … {buffer.max_size}, "
                "the size of the memory: replay fewer rows or keep more"
            )
        check_choice("feed", feed, get_args(Feed))
        check_weights(loss_weights)
        if transform is not None and not callable(transform):
            raise TypeError(
                f"transform must be a function of a batch of rows, or None, got "
                f"{transform!r}"
            )
        check_choice("train_metrics", train_metrics, get_args(TrainMetrics))
        self.buffer = buffer
        self.batch_size_mem = batch_size_mem
        self.feed = feed
        self.loss_weights = loss_weights
        self.transform = transform
        self.train_metrics = train_metrics
        self.replayed = 0
        """Number of rows replayed so far."""
        self._mask = torch.zeros(0, dtype=torch.bool)
        self._incoming: list[Any] = []  # the minibatch of current rows
        self._rows: Rows = self._mask  # of them, as the memory keeps them
        self._weights: tuple[float, float] | None = None
        self._criterion: Any = None
        self._told = False  # that the weights have no effect
        self._tasks = False  # whether the last item of a minibatch is the task label
        self._layout, self._part = [0, 0], 1  # of the minibatch, and which part is ours
        self._device = self._mask.device
        self._mask_of: Any = (0, 0, 0, self._device)
        self._follows = False  # whether another rehearsal plugin comes before
        self._batches = 0  # minibatches of this experience
        self._scores = StepScores(buffer)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(batch_size_mem={self.batch_size_mem}, "
            f"feed={self.feed!r}, replayed={self.replayed}, buffer={self.buffer!r})"
        )

    @property
    def mask(self) -> Tensor:
        """Of the rows of the minibatch: which came from this plugin's memory."""
        start, stop = self._span
        made_of = start, stop, sum(self._layout), self._device
        if self._mask_of != made_of:
            row = torch.arange(sum(self._layout), device=self._device)
            self._mask, self._mask_of = (row >= start) & (row < stop), made_of
        return self._mask

    @property
    def _span(self) -> tuple[int, int]:
        """Where this plugin's memory rows begin and end in the minibatch."""
        start = sum(self._layout[: self._part])
        return start, start + self._layout[self._part]

    # Replay

    def before_training(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Look at what else is in the strategy, and whose the memory was."""
        rehearsals = [p for p in strategy.plugins if isinstance(p, RehearsalPlugin)]
        check_company(rehearsals, strategy)
        self._follows = self in rehearsals[1:]
        tell_reuse(self.buffer, strategy)
        tell_idle(self.buffer)

    def before_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Settle the loss weights of this experience."""
        self._drop_step(strategy)
        self._batches = 0
        self._tasks = has_task_items(getattr(strategy.experience, "dataset", None))
        if self.buffer.form.unknown and self.transform is None:
            with suppress(NotResident):
                source = RowSource(strategy.experience.dataset.train())
                self.buffer.form.settle(source.transform, self.buffer.table)
        self._weights = weights_of(self.loss_weights, strategy)
        self._scores.experience_begins(strategy)

    def before_training_epoch(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse a loader that mixes in memory rows of its own."""
        check_loader(strategy.dataloader)

    def before_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Append memory rows to the minibatch."""
        batch = self._rehearsed(strategy)
        incoming = self._incoming = batch.incoming
        self._rows = incoming[0]
        raw = self.transform is not None
        if not raw and self.feed != "experience":
            made_by = getattr(incoming, "transform", None)
            raw = self.buffer.form.settle(made_by, self.buffer.table) == "before"
        if raw:
            self._rows = getattr(incoming, "raw", incoming[0])
        if not self._batches and self._tasks:
            check_task_item(incoming)
        self._batches += 1
        wanted = min(self.batch_size_mem, len(self.buffer))
        memory, drawn = None, None
        self.buffer.scorer.meet(strategy.model, own_criterion(strategy))
        if wanted:
            drawn = self.buffer.draw(wanted)
            wanted = len(drawn.index)
            transform = self.transform or self.buffer.form.transform
            memory = self._rows_at(drawn.index, len(batch), transform, batch[1].device)
        self._layout, self._part = batch.layout, len(batch.layout)
        self._device = batch[1].device
        batch.append_rows(memory)
        self.replayed += wanted
        self._scores.begin(
            strategy,
            None if drawn is None else drawn.index,
            sum(batch.layout),
            self._feeds(strategy),
        )
        if drawn is not None and self.weighs_losses:
            # Also of a template that does not call before_backward.
            self._criterion = own_criterion(strategy)
            weights = drawn.weight if self.buffer.weighs else None
            strategy._criterion = MemoryLoss(
                self._criterion, self._span, self._weights, weights
            )

    def _rehearsed(self, strategy: Any) -> RehearsedBatch:
        """The minibatch, with what rehearsal plugins before this one have added."""
        batch = strategy.mbatch
        if not isinstance(batch, RehearsedBatch):
            if self._follows:
                raise ValueError(
                    f"a plugin between two rehearsal plugins put a {type(batch).__name__} "
                    "in place of strategy.mbatch, so that current and memory rows cannot "
                    "be told apart: put it before or after both, or change items in place"
                )
            batch = strategy.mbatch = RehearsedBatch(batch)
        return batch

    def before_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Evaluate by the strategy's own criterion."""
        self._drop_step(strategy)

    def _drop_step(self, strategy: Any) -> None:
        """Take away what a step leaves that was cut short."""
        strategy._criterion = own_criterion(strategy)
        self._scores.end()

    def after_forward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Note the outputs, where rows are scored."""
        self._scores.forwarded(strategy)

    def before_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Give the strategy its criterion back; say so when it was not used."""
        if self._criterion is None:
            return
        weighted, strategy._criterion = strategy._criterion, self._criterion
        self._criterion = None
        if not self._told and not getattr(weighted, "called", True):
            self._told = True
            weights, without = self._weighed_by
            warnings.warn(
                f"{weights} have no effect: {type(strategy).__name__}.criterion() "
                "does not call self._criterion, whose loss they weigh: call it there "
                f"with all rows, or {without}",
                stacklevel=2,
            )

    @property
    def _weighed_by(self) -> tuple[str, str]:
        """What weighs losses, and how to do without."""
        weights, without = [], []
        if self.loss_weights is not None:
            weights.append("loss_weights")
            without.append("leave out loss_weights and weigh by plugin.mask")
        if self.buffer.weighs:
            weights.append("the importance weights of sampling 'priority'")
            without.append("sample by Priority(beta=0), which has none")
        return " and ".join(weights), " and ".join(without)

    def after_backward(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Stop watching the model."""
        self._scores.end()

    @property
    def weighs_losses(self) -> bool:
        """Whether losses are weighed: by group, or by importance of a memory row."""
        return self.loss_weights is not None or self.buffer.weighs

    def _rows_at(
        self,
        index: Tensor,
        items: int,
        transform: BatchTransform | None,
        device: torch.device,
    ) -> list[Rows]:
        """Memory rows as the items of a minibatch: ``x, y, …, task``."""
        names = item_names(items, self._tasks)
        table = self.buffer.table
        try:
            rows = table.gather(index, names)
        except KeyError:
            missing = sorted(set(names) - set(table.columns))
            raise ValueError(
                f"the minibatch has {items} items and the memory's rows lack {missing}: "
                "one memory serves streams of one form (task labels always or never)"
            ) from None
        if table.device != device:
            rows = {name: rows[name].to(device) for name in names}
        if transform is not None:
            rows["x"] = each(lambda x: x.to(device), transform(rows["x"]))
        return [rows[name] for name in names]

    # Feeding

    def after_training_iteration(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Offer the current rows to the memory."""
        scored = self._scores.take(
            strategy.mbatch, self._tasks, self._layout[0], self._span[0]
        )
        if self._feeds(strategy):
            names = item_names(len(self._incoming), self._tasks)
            items = dict(zip(names, self._incoming, strict=True))
            extra = {n: v for n, v in items.items() if n.startswith("item")}
            self.buffer.offer(self._rows, items["y"], items.get("task"), extra, scored)
        if self.train_metrics == "current" and strategy.mb_output is not None:
            strategy.mbatch = self._incoming
            strategy.mb_output = strategy.mb_output[: len(self._incoming[1])]
        self._incoming, self._rows = [], self._mask

    def _feeds(self, strategy: Any) -> bool:
        """Whether the current rows of this epoch are offered one minibatch at a time."""
        if self.feed == "first_epoch":
            return bool(strategy.clock.train_exp_epochs == 0)
        return self.feed == "every_epoch"

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """Offer the whole experience where asked to; say so when nothing happened."""
        met = self._batches or not len(strategy.dataloader)
        if self.batch_size_mem and not self.replayed and not met:
            warnings.warn(
                f"{type(strategy).__name__} never calls before_forward, so no memory "
                "row is replayed: use a template with the full set of callbacks",
                stacklevel=2,
            )
        if self.feed == "experience":
            self.buffer.post_adapt(strategy, strategy.experience)
        self._scores.experience_ends(strategy)
        if self.feed == "experience":
            wanted = self.batch_size_mem and self._batches
            if wanted and not self.replayed and is_alone(strategy.experience):
                warnings.warn(
                    "no memory row was replayed: feed='experience' offers an experience "
                    "at its end, and this stream has no other: feed='first_epoch' "
                    "replays within it",
                    stacklevel=2,
                )
