"""A memory of the rows of experiences: a storage policy of Avalanche."""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from avalanche.benchmarks import OnlineCLExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import Tensor

from avalanche_ext.arguments import check_flag
from avalanche_ext.storage.idle import idle_sampling
from avalanche_ext.storage.items import check_task_item, has_task_items, item_names
from avalanche_ext.storage.memory import Memory
from avalanche_ext.storage.policy import Admission
from avalanche_ext.storage.resident import RowSource, row_source
from avalanche_ext.storage.rows import Rows, take
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.stored_dataset import stored_dataset
from avalanche_ext.storage.stored_form import StoredForm
from avalanche_ext.storage.transforms import BatchTransform
from avalanche_ext.storage.value import Value

_COMPARED_AT_ONCE = 256  # rows of an experience


class ExemplarMemory(Memory, ExemplarsBuffer):
    """A :class:`~avalanche_ext.storage.memory.Memory` that knows data sets and transforms.

    :param form: of the rows that are kept; the scorer calls the model with these.
    :param refresh_at_end: whether all rows are scored at the end of an experience.

    The others are the memory's.
    """

    def __init__(
        self,
        policy: Admission,
        *,
        sampling: Sampling,
        scorer: Scorer,
        value: Value,
        form: StoredForm,
        refresh_at_end: bool,
        grow_by: int | None,
        seed: int,
    ) -> None:
        check_flag("refresh_at_end", refresh_at_end)
        ExemplarsBuffer.__init__(self, scorer.scores.table.capacity)
        Memory.__init__(
            self,
            policy,
            sampling=sampling,
            scorer=scorer,
            value=value,
            grow_by=grow_by,
            seed=seed,
        )
        self.form = form
        """Whether rows are kept from before their batch transform or from after."""
        self.refresh_at_end = refresh_at_end
        self._tensor_targets = True
        self._told = False  # that the sampling has no effect

    @property
    def transform(self) -> BatchTransform | None:
        """What makes the model's input of the rows; ``None``: they are it."""
        return self.form.transform

    @transform.setter
    def transform(self, transform: BatchTransform | None) -> None:
        self.form.transform = transform

    @property
    def buffer(self) -> AvalancheDataset:
        """The rows as a dataset of ``[x, y]``, with further items of the experiences
        that they came from, and ``task`` as the last, where stored."""
        if self.form.unknown and self.transform is None:
            raise ValueError(
                "the rows were loaded from a state, which does not hold the transform "
                "that makes the model's input of them: set memory.transform to it"
            )
        return stored_dataset(self.table, self.transform, self._tensor_targets)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Offer every row of an experience, in the order of its dataset.

        Only rows that are kept are read, and before their transforms where those are
        known (see :class:`~avalanche_ext.storage.resident.RowSource`). An admission that
        compares rows (``"herding"``, ``"score"``) reads all, each once; one by value first
        scores the rows stored anew (``refresh_at_end``).

        Where a row cannot be read, none of the experience is kept. Data that can be held
        as tensors are read before an admission compares any of them, so nothing has
        changed. Every other admission has decided: the rows count as seen, and rows stored
        that were to give way to another class have left. Data that cannot be held as
        tensors are compared 256 rows at a time, and scored so in any case: where reading
        or scoring fails then, the batches before stay. Feeding the experience again offers
        what was seen a second time.
        """
        source = row_source(exp.dataset.train())
        tasks = has_task_items(exp.dataset)
        transform = source.transform
        if self.form.settle(transform, self.table) == "before":
            transform = None

        def read(position: Tensor) -> dict[str, Rows]:
            items = source.read(position)
            rows = dict(zip(item_names(len(items), tasks), items, strict=True))
            if transform is not None:
                rows["x"] = transform(rows["x"])
            self.table.check(rows, without=self._facts)
            return rows

        # What does not fit is refused before anything is decided.
        first = read(torch.tensor([0]))
        if tasks:
            check_task_item(list(first.values()))
        compares = self._policy.needs_values or self._policy.needs_vectors
        if compares and isinstance(source, RowSource):
            source.need()
        groups: Sequence[Hashable] = range(len(source))
        if self._policy.needs_groups:
            groups = self._classes(source.targets, source.tasks)
        self.meet(agent)
        self._refresh_before(exp)
        step = _COMPARED_AT_ONCE if compares else len(source)
        for start in range(0, len(source), step):
            some, rows = groups[start : start + step], read
            if compares:
                position = torch.arange(start, start + len(some))
                rows = partial(_rows_at, read(position))
            if self._admit(some, rows):
                self._tensor_targets = source.tensor_targets

    def _refresh_before(self, exp: Any) -> None:
        """Rows of an experience are compared under the model as it is now with those that
        were scored before it; not at each part of an experience that is split online.
        """
        whole = not isinstance(exp, OnlineCLExperience)
        due = self._policy.needs_values and self.refresh_at_end and whole
        if due and self.scorer.has_model:
            self.scorer.refresh()

    def meet(self, agent: Any) -> None:
        """From now on rows are scored with the model and the loss of a trainer."""
        model = getattr(agent, "model", None)
        if model is not None:
            self.scorer.meet(model, getattr(agent, "_criterion", None))

    def update(self, strategy: Any, **kwargs: Any) -> None:
        """:meth:`post_adapt` with the strategy's experience, as Avalanche's plugins call
        it, which draw from :attr:`buffer`: a sampling other than ``"uniform"`` is warned
        of when it was never used."""
        idle = idle_sampling(self._drawing.sampling)
        if idle and len(self) and not self.draws and not self._told:
            self._told = True
            warnings.warn(idle, stacklevel=2)
        self.post_adapt(strategy, strategy.experience)

    def resize(self, strategy: Any, new_size: int) -> None:
        """:meth:`set_size` as Avalanche calls it.

        :param strategy: Avalanche's trainer, not used.
        :raises ValueError: for a size below 1, or below the number of classes for an
            admission by class.
        """
        self.set_size(new_size)

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        return {**super().state_dict(), **self.form.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``; the transform of its rows is met again later."""
        super().load_state_dict(state)
        self.form.load_state_dict(state)


def _rows_at(rows: dict[str, Rows], position: Tensor) -> dict[str, Rows]:
    return {name: take(column, position) for name, column in rows.items()}
