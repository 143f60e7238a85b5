"""How a run gets on, and the guard against a loss that is no number."""

import math
import sys
import time
import warnings
from statistics import fmean
from typing import Any

from avalanche.training.plugins import SupervisedPlugin
from tqdm import tqdm

from experiments.errors import Diverged
from experiments.options import Run

EVERY = 50
LARGEST = 1e18
"""Of evaluation losses: squares of larger numbers are inf."""


class ProgressPlugin(SupervisedPlugin):
    """Counts iterations, shows them, and ends a run whose loss is nan or inf.

    Where there is no terminal for a bar, a line tells of each experience that ended. A
    network that gives all test rows the same outputs is warned about: dead units do not
    show in the loss.

    The loss is looked at in every iteration on a CPU and in every fiftieth, and the
    last of a training, on an accelerator, where looking means waiting for it.

    :param total: iterations expected.
    :param title: what the bar says.
    :param show: ``"on"``, ``"off"``, or ``"auto"`` for a bar on a terminal and lines
        elsewhere.
    :param record: of the accuracies that the lines tell.
    """

    def __init__(
        self, total: int, title: str, show: str = "auto", record: Any = None
    ) -> None:
        super().__init__()
        self.iterations = 0
        self._in_experience = 0
        self._experience = self._of = 0
        self._began = 0.0
        self._evaluated: Any = 0.0
        self._first_batch = True  # of a test experience, whose outputs are looked at
        self._alike: Any = True  # whether the rows of such a batch have the same ones
        self._compared = 0
        self._told = False  # that they have
        self._title, self._record = title, record
        self._bar = tqdm(
            total=total,
            desc=title,
            unit="it",
            leave=False,
            disable={"on": False, "off": True, "auto": None}[show],
        )
        self._lines = show == "auto" and self._bar.disable

    def begin(self, experience: int, of: int) -> None:
        """Training of an experience begins; sub-experiences of it do not count."""
        self._experience, self._in_experience, self._of = experience + 1, 0, of
        self._began = time.perf_counter()
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
        self._evaluated, self._alike, self._compared = 0.0, True, 0

    def before_eval_exp(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._first_batch = True

    def after_eval_iteration(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        self._evaluated = self._evaluated + strategy.loss.abs()
        if self._first_batch:
            outputs, self._first_batch = strategy.mb_output, False
            self._alike = self._alike & (outputs == outputs[:1]).all()
            self._compared += len(outputs) - 1

    def after_eval(self, strategy: Any, *args: Any, **kwargs: Any) -> None:
        """The last update of a training is followed by no other loss."""
        loss = float(self._evaluated)
        if not loss < LARGEST:
            when = f"in the evaluation after experience {self._experience}"
            self._refuse(strategy, loss, when)
        if self._compared and self._alike and not self._told:
            self._told = True
            rate = _rate(strategy)
            warnings.warn(
                f"{self._title}: after experience {self._experience} the network gives "
                f"all test rows the same outputs, with learning rate {rate:g}: its "
                f"units are dead; try --lr {rate_to_try(rate):g}, or wider layers",
                stacklevel=2,
            )
        if self._lines:
            self._tell()

    def _tell(self) -> None:
        """A line about the experience that has been trained on and evaluated."""
        accuracies = self._record.accuracy_matrix[-1]
        if self._of > 1:
            accuracies = accuracies[: self._experience]
        seconds = time.perf_counter() - self._began
        print(
            f"{self._title}, experience {self._experience} of {self._of}: accuracy "
            f"{100 * fmean(accuracies):.2f} % over the experiences seen, {seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )

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
        rate = _rate(strategy)
        raise Diverged(
            f"the loss is {loss:g} {when}, with learning rate {rate:g}: try --lr "
            f"{rate_to_try(rate):g}, and look at the scale of the inputs{_or(strategy)}"
        )


def _or(strategy: Any) -> str:
    """What else may have made it diverge."""
    for plugin in getattr(strategy, "plugins", ()):
        if hasattr(plugin, "strength_name"):
            return f", or lower --set {plugin.strength_name}"
    return ""


def _rate(strategy: Any) -> float:
    return float(strategy.optimizer.param_groups[0]["lr"])


def rate_to_try(rate: float) -> float:
    """A learning rate to try where a larger one ended in a loss that is no number."""
    return min(rate / 10, Run.lr)  # which is the default
