"""The rehearsal memory by name, and as a storage policy of Avalanche."""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.benchmarks import OnlineCLExperience
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.training.storage_policy import ExemplarsBuffer
from torch import Tensor

from avalanche_ext.arguments import check_flag, whole_number
from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.settings import TellsSettings, settings_of
from avalanche_ext.storage.admission import AdmissionName, make_admission
from avalanche_ext.storage.criteria import Criterion
from avalanche_ext.storage.idle import idle_criteria, idle_sampling
from avalanche_ext.storage.items import check_task_item, has_task_items, item_names
from avalanche_ext.storage.memory import Memory
from avalanche_ext.storage.resident import RowSource, row_source
from avalanche_ext.storage.rows import Rows, take
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.score_admission import Balance
from avalanche_ext.storage.scored import Counters
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.scores import Scores
from avalanche_ext.storage.seeds import given_or_derived
from avalanche_ext.storage.stored_dataset import stored_dataset
from avalanche_ext.storage.stored_form import StoredForm
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.transforms import BatchTransform
from avalanche_ext.storage.value import Value

_COMPARED_AT_ONCE = 256  # rows of an experience, by an admission by value


class MultiStrategyBuffer(Memory, ExemplarsBuffer, TellsSettings):
    """A rehearsal memory whose admission and sampling are chosen separately, by criteria
    where that is wanted.

    It serves twice: as an online memory (:meth:`add` a batch, :meth:`sample` rows) and
    as a storage policy of Avalanche (``ReplayPlugin(storage_policy=buffer)``), which
    feeds whole experiences through :meth:`post_adapt` and reads :attr:`buffer`.

    Rows keep the dtype and shape in which they come; the cost of adding a batch does
    not depend on the capacity. The same seed and the same stream give the same
    memory and the same draws, bit for bit.

    >>> memory = MultiStrategyBuffer(100, admission="reservoir", seed=0)
    >>> _ = memory.add(torch.rand(32, 1, 8, 8), torch.arange(32) % 10)
    >>> rows = memory.sample(4)
    >>> rows["x"].shape, rows["y"].shape
    (torch.Size([4, 1, 8, 8]), torch.Size([4]))

    Scores that a sampling or an admission needs are found when a row is kept, of rows
    drawn every ``refresh_every`` steps, and of all rows at the end of an experience (of
    an online stream: where its boundaries are known). In a training step of
    :class:`~avalanche_ext.RehearsalPlugin` they come from the step's own passes. Without a
    model they are stale, and found when a draw or an admission asks for them; no score is
    found that nobody asks for.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> memory = MultiStrategyBuffer(50, criteria=["loss"], sampling="mixed", seed=0)
    >>> _ = memory.add(torch.rand(32, 1, 8, 8), torch.arange(32) % 10, model=model)
    >>> memory.sample(4)["score_loss"].shape, memory.sample(4, "uniform")["x"].shape
    (torch.Size([4]), torch.Size([4, 1, 8, 8]))

    :param max_size: the largest number of rows; ``None``, with ``per_class``, lets it
        grow by ``per_class`` rows with each class that is met.
    :param criteria: of the mixed score, by name
        (:data:`~avalanche_ext.storage.criteria.CRITERIA`) or as objects
        (:class:`~avalanche_ext.storage.criteria.Criterion`). Sampling ``"priority"``
        draws by the one that is given, or by the mixed score of several. ``None``: the
        mixed score is that of ``"forgetting"``, and ``"priority"`` draws by the loss.
    :param weights: of the mixed score, by criterion's name; 1 where none is given.
    :param admission: what to keep: ``"reservoir"``, ``"ring"``, ``"class_balanced"``,
        ``"herding"`` or ``"score"`` (see
        :func:`~avalanche_ext.storage.admission.make_admission`). Where task labels are
        given, a class is a label of a task.
    :param sampling: what to replay: ``"uniform"``, ``"mixed"``, a criterion's name,
        ``"priority"`` or ``"coreset"``, or such an object (see
        :func:`~avalanche_ext.storage.sampling.make_sampling`); without replacement.
    :param temperature: of a sampling by the softmax of normalised scores: the best row is
        ``exp(1 / temperature)`` times as probable as the worst.
    :param w_age: of admission ``"score"``: how much the oldest row loses, where the best
        has a mixed score of 1; see :class:`~avalanche_ext.storage.value.Value`.
    :param w_use: of admission ``"score"``: how much the row drawn most often gains.
    :param balance: of admission ``"score"``: ``"class"`` takes from the largest class,
        ``"none"`` from all.
    :param refresh_every: training steps from one refresh of the rows drawn to the next;
        0: never.
    :param refresh_at_end: whether all rows are scored at the end of an experience.
    :param loss: of each row; ``None``: the strategy's criterion, and cross-entropy
        outside strategies.
    :param layer: whose input features are; ``None``: the last one with parameters.
    :param per_class: rows a class, for ``"ring"``; ``None`` shares ``max_size``.
    :param device: where rows live; ``None`` is the host.
    :param directory: a folder for a memory-mapped table, when rows exceed RAM.
    :param seed: ``None`` derives one from torch's global generator.
    :raises ValueError: for a size below 1, a name or device that does not exist, weights
        that are negative or all 0, a temperature that is not above 0, ``w_age`` or
        ``w_use`` of another admission than ``"score"``, or anything of another kind.
    """

    def __init__(
        self,
        max_size: int | None,
        *,
        criteria: Sequence[str | Criterion] | None = None,
        weights: Mapping[str, float] | None = None,
        admission: AdmissionName = "reservoir",
        sampling: str | Sampling = "uniform",
        temperature: float | None = None,
        w_age: float = 0.0,
        w_use: float = 0.0,
        balance: Balance = "class",
        refresh_every: int = 1,
        refresh_at_end: bool = True,
        loss: Loss | None = None,
        layer: str | None = None,
        per_class: int | None = None,
        device: torch.device | str | None = None,
        directory: str | Path | None = None,
        seed: int | None = None,
    ) -> None:
        self._settings = settings_of(locals(), but=("device", "directory", "seed"))
        policy = make_admission(admission, per_class, balance)
        value = Value(w_age, w_use)
        if not policy.needs_values:
            value.refuse(policy.name)
        size = per_class if max_size is None else max_size
        if size is None:
            raise ValueError(
                "max_size=None needs the rows a class, per_class=…, of admission "
                "'ring': give them, or a size"
            )
        size = whole_number("max_size", size, "rows", least=1)
        seed = given_or_derived(seed)
        table = ExemplarTable(
            size, device="cpu" if device is None else device, directory=directory
        )
        self.form = StoredForm()
        """Whether rows are kept from before their batch transform or from after."""
        scores = Scores(
            table, criteria, weights, counters=Counters(), seed=seed ^ 0x5C0BE
        )
        ExemplarsBuffer.__init__(self, size)
        Memory.__init__(
            self,
            policy,
            sampling=scores.sampling(sampling, temperature),
            scorer=Scorer(scores, loss=loss, layer=layer, call=self.form.call),
            value=value,
            grow_by=per_class if max_size is None else None,
            seed=seed,
        )
        self.admission = admission
        self.refresh_every = whole_number(
            "refresh_every", refresh_every, "steps", least=0
        )
        check_flag("refresh_at_end", refresh_at_end)
        self.refresh_at_end = refresh_at_end
        self._per_class = per_class
        self._balance = balance if admission == "score" else None
        self._tensor_targets = True
        default = criteria is None and set((weights or {}).values()) <= {1}
        self._chosen = () if default else tuple(scores.mixed.weights)
        self._told = False  # that the sampling has no effect

    def __repr__(self) -> str:
        per_class = "" if self._per_class is None else f"per_class={self._per_class}, "
        return (
            f"{type(self).__name__}(max_size={self.max_size}, "
            f"admission={self.admission!r}, {per_class}sampling={self.sampling!r}, "
            f"stored={len(self)}, seen={self.seen})"
        )

    @property
    def transform(self) -> BatchTransform | None:
        """What makes the model's input of the rows; ``None``: they are it."""
        return self.form.transform

    @transform.setter
    def transform(self, transform: BatchTransform | None) -> None:
        self.form.transform = transform

    # As a storage policy of Avalanche

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
        groups: Sequence[Hashable] = range(len(source))
        if self._policy.needs_groups:
            groups = self._classes(source.targets, source.tasks)
        self.meet(agent)
        self._refresh_before(exp)
        kept = False
        if not self._policy.needs_values and not self._policy.needs_vectors:
            kept = bool(self._admit(groups, read))
        else:
            if isinstance(source, RowSource):
                source.need()
            for start in range(0, len(source), _COMPARED_AT_ONCE):
                some = groups[start : start + _COMPARED_AT_ONCE]
                rows = read(torch.arange(start, start + len(some)))
                kept |= bool(self._admit(some, partial(_rows_at, rows)))
        if kept:
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

    @property
    def idle_criteria(self) -> str | None:
        """What to say of criteria that were given and that nothing reads, if so."""
        if self._policy.needs_values:
            return None
        sampling = self._drawing.sampling
        return idle_criteria(self._chosen, self._scores, sampling, self.admission)

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

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        return {
            **super().state_dict(),
            **self.form.state_dict(),
            "admission": self.admission,
            "per_class": self._per_class,
            "balance": self._balance,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict`` of a memory with the same admission.

        :raises ValueError: for the state of another admission, or of other criteria.
        """
        if state["admission"] != self.admission:
            raise ValueError(
                f"the state is of a memory with admission {state['admission']!r}, "
                f"this one has {self.admission!r}: make it with the same admission"
            )
        if state["per_class"] != self._per_class:
            raise ValueError(
                f"the state is of a memory with per_class={state['per_class']}, this one "
                f"has {self._per_class}: make it with the same"
            )
        if state.get("balance") != self._balance:
            raise ValueError(
                f"the state is of a memory with balance={state.get('balance')!r}, this "
                f"one has {self._balance!r}: make it with the same"
            )
        super().load_state_dict(state)
        self.form.load_state_dict(state)


def _rows_at(rows: dict[str, Rows], position: Tensor) -> dict[str, Rows]:
    return {name: take(column, position) for name, column in rows.items()}
