"""The progress bar of a run, and the guard against a loss that is no number."""

import math
from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from tqdm import tqdm

from experiments.errors import UserError
from experiments.options import Run

EVERY = 50
LARGEST = 1e18
"""Of evaluation losses: squares of larger numbers are inf."""


class ProgressPlugin(SupervisedPlugin):
    """Counts iterations, shows them, and ends a run whose loss is nan or inf.

    The loss is looked at in every iteration on a CPU and in every fiftieth, and the
    last of a training, on an accelerator, where looking means waiting for it.

    :param total: iterations expected.
    :param title: what the bar says.
    :param show: ``"on"``, ``"off"``, or ``"auto"`` for a terminal only.
    """

    def __init__(self, total: int, title: str, show: str = "auto") -> None:
        super().__init__()
        self.iterations = 0
        self._in_experience = 0
        self._experience = 0
        self._evaluated: Any = 0.0
        self._bar = tqdm(
            total=total,
            desc=title,
            unit="it",
            leave=False,
            disable={"on": False, "off": True, "auto": None}[show],
        )

    def begin(self, experience: int, of: int) -> None:
        """Training of an experience begins; sub-experiences of it do not count."""
        self._experience, self._in_experience = experience + 1, 0
        self._bar.set_postfix_str(f"experience {experience + 1}/{of}")

    def evaluating(self) -> None:
        """Evaluation begins."""
        self._bar.set_postfix_str("evaluation")

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def after_training_iteration(
        self, strategy: Any, *args: Any, **kwargs: Any
    ) -> None:  # the one callback of an iteration that meta-learning templates have
        self.iterations += 1
        self._in_experience += 1
        if strategy.device.type == "cpu" or self.iterations % EVERY == 0:
            self._guard(strategy)
        self._bar.update()

    def after_training_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        if strategy.device.type != "cpu" and strategy.mbatch is not None:
            self._guard(strategy)

    def before_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._evaluated = 0.0

    def after_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._evaluated = self._evaluated + strategy.loss.abs()

    def after_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """The last update of a training is followed by no other loss."""
        loss = float(self._evaluated)
        if not loss < LARGEST:
            when = f"in the evaluation after experience {self._experience}"
            self._refuse(strategy, loss, when)

    def _guard(self, strategy: Any) -> None:
        loss = strategy.loss.item()
        if not math.isfinite(loss):
            when = "in" if strategy.device.type == "cpu" else "by"
            self._refuse(
                strategy,
                loss,
                f"{when} iteration {self._in_experience} of experience "
                f"{self._experience}",
            )

    def _refuse(self, strategy: Any, loss: float, when: str) -> None:
        rate = strategy.optimizer.param_groups[0]["lr"]
        raise UserError(
            f"the loss is {loss:g} {when}, with learning rate {rate:g}: try --lr "
            f"{rate_to_try(rate):g}, and look at the scale of the inputs"
        )


def rate_to_try(rate: float) -> float:
    """A learning rate to try where a larger one ended in a loss that is no number."""
    return min(rate / 10, Run.lr)  # which is the default
