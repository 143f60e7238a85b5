"""The rehearsal memory by name: what its arguments are, and what is made of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from avalanche_ext.arguments import whole_number
from avalanche_ext.gradients import Criterion as Loss
from avalanche_ext.settings import TellsSettings, settings_of
from avalanche_ext.storage.admission import AdmissionName, make_admission
from avalanche_ext.storage.criteria import Criterion
from avalanche_ext.storage.exemplars import ExemplarMemory
from avalanche_ext.storage.idle import idle_criteria
from avalanche_ext.storage.sampling import Sampling
from avalanche_ext.storage.score_admission import Balance
from avalanche_ext.storage.scored import Counters
from avalanche_ext.storage.scorer import Scorer
from avalanche_ext.storage.scores import Scores
from avalanche_ext.storage.seeds import given_or_derived
from avalanche_ext.storage.stored_form import StoredForm
from avalanche_ext.storage.table import ExemplarTable
from avalanche_ext.storage.value import Value


class MultiStrategyBuffer(ExemplarMemory, TellsSettings):
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
        form = StoredForm()
        scores = Scores(
            table, criteria, weights, counters=Counters(), seed=seed ^ 0x5C0BE
        )
        super().__init__(
            policy,
            sampling=scores.sampling(sampling, temperature),
            scorer=Scorer(scores, loss=loss, layer=layer, call=form.call),
            value=value,
            form=form,
            refresh_at_end=refresh_at_end,
            grow_by=per_class if max_size is None else None,
            seed=seed,
        )
        self.admission = admission
        self.refresh_every = whole_number(
            "refresh_every", refresh_every, "steps", least=0
        )
        self._per_class = per_class
        self._balance = balance if admission == "score" else None
        default = criteria is None and set((weights or {}).values()) <= {1}
        self._chosen = () if default else tuple(scores.mixed.weights)

    def __repr__(self) -> str:
        per_class = "" if self._per_class is None else f"per_class={self._per_class}, "
        return (
            f"{type(self).__name__}(max_size={self.max_size}, "
            f"admission={self.admission!r}, {per_class}sampling={self.sampling!r}, "
            f"stored={len(self)}, seen={self.seen})"
        )

    @property
    def idle_criteria(self) -> str | None:
        """What to say of criteria that were given and that nothing reads, if so."""
        if self._policy.needs_values:
            return None
        sampling = self._drawing.sampling
        return idle_criteria(self._chosen, self._scores, sampling, self.admission)

    @property
    def _kind(self) -> dict[str, Any]:
        """What a memory whose state is loaded must have alike."""
        return {
            "admission": self.admission,
            "per_class": self._per_class,
            "balance": self._balance,
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, so that a loaded memory goes on bit for bit."""
        return {**super().state_dict(), **self._kind}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict`` of a memory with the same admission.

        :raises ValueError: for the state of another admission, or of other criteria.
        """
        for name, own in self._kind.items():
            if state.get(name) != own:
                raise ValueError(
                    f"the state is of a memory with {name}={state.get(name)!r}, this one "
                    f"has {own!r}: make it with the same {name}"
                )
        super().load_state_dict(state)
