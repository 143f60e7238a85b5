"""Admissions by name: what a memory keeps of the rows that it is offered."""

from typing import Literal, get_args

from avalanche_ext.arguments import check_choice
from avalanche_ext.storage.by_class import ClassBalanced, Ring
from avalanche_ext.storage.herding import Herding
from avalanche_ext.storage.policy import Admission
from avalanche_ext.storage.reservoir import Reservoir
from avalanche_ext.storage.score_admission import Balance, Score

AdmissionName = Literal["reservoir", "ring", "class_balanced", "herding", "score"]
ADMISSIONS: tuple[str, ...] = get_args(AdmissionName)


def make_admission(
    name: str, per_class: int | None = None, balance: Balance = "class"
) -> Admission:
    """The policy of that name: :class:`~avalanche_ext.storage.reservoir.Reservoir`,
    :class:`~avalanche_ext.storage.by_class.Ring`,
    :class:`~avalanche_ext.storage.by_class.ClassBalanced`,
    :class:`~avalanche_ext.storage.herding.Herding` or
    :class:`~avalanche_ext.storage.score_admission.Score`.

    :raises ValueError: for an unknown name, or ``per_class`` or a ``balance`` where it
        has no meaning.
    """
    check_choice("admission", name, ADMISSIONS)
    score = Score(balance)
    if name != "score" and balance != "class":
        raise ValueError(
            f"balance={balance!r} belongs to admission 'score', got {name!r}: leave it out"
        )
    if name == "ring":
        return Ring(per_class)
    if per_class is not None:
        raise ValueError(
            f"per_class={per_class} belongs to admission 'ring', got {name!r}: "
            "leave it out"
        )
    if name == "herding":
        return Herding()
    if name == "score":
        return score
    return Reservoir() if name == "reservoir" else ClassBalanced()
