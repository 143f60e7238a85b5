"""The command line: each dataclass is a command, each field an option."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.data import default_epochs
from experiments.errors import UserError, unknown
from experiments.loggers import LOGGERS
from experiments.loggers import check as check_loggers
from experiments.methods import METHODS
from experiments.models import INITS, MODELS

SCENARIOS = {
    "class": "one head over all classes; which task a sample is of is unknown",
    "domain": "labels from zero in each experience, one head, no task labels",
    "task": "labels from zero in each experience, a head for each, task labels given",
}
OPTIMIZERS = ("sgd", "adam")
DEVICES = ("auto", "cpu", "cuda")
PROGRESS = ("auto", "on", "off")
COUNTS = (
    "experiences",
    "stream_size",
    "seeds",
    "epochs",
    "batch_size",
    "eval_batch_size",
    "threads",
)
"""Options that must be 1 or more."""


def _one_of(names: object) -> object:
    return arg(metavar="{" + ",".join(names) + "}")  # type: ignore[arg-type]


def _some_of(names: object) -> object:
    choice = "{" + ",".join(names) + "}"  # type: ignore[arg-type]
    return arg(metavar=f"{choice} [{choice} ...]")


def _number(kind: str) -> object:
    return arg(metavar=kind)


@dataclass(frozen=True)
class List:
    """Say which benchmarks, scenarios, methods and models there are."""


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about runs that have ended."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]")] = ()
    """Run directories, as a run names them at its end."""
    output: Path = Path("report.html")
    """The page to write."""


@dataclass(frozen=True)
class Run:
    """Train a method on a benchmark, evaluate it, write results and a page.

    Results go to OUT/BENCHMARK-METHOD-SCENARIO/seed-S/. The same command again runs
    the seeds that are missing and no others.
    """

    benchmark: Annotated[Positional[str], arg(metavar="BENCHMARK")]
    """split-digits, split-mnist, or NAME for your own arrays in DATA_ROOT/NAME.npz
    (x_train, y_train, x_test, y_test). See the command list."""
    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """How to learn: see the command list."""
    scenario: Annotated[str, _one_of(SCENARIOS)] = "class"
    """What the learner is told: class-, domain- or task-incremental."""
    experiences: int = 5
    """Number of experiences; must divide the number of classes."""
    stream_size: Annotated[int | None, _number("INT")] = None
    """Online: training data arrive in sub-experiences of this many rows."""
    seeds: int = 3
    """Number of runs, each with a seed of its own."""
    first_seed: int = 0
    """The seeds are FIRST_SEED, FIRST_SEED + 1, …"""
    epochs: Annotated[int | None, _number("INT")] = None
    """Passes over each experience (none: 20 for split-digits, 1 otherwise and online)."""
    batch_size: int = 10
    """Rows of the current experience in a training batch."""
    eval_batch_size: int = 256
    """Rows in an evaluation batch."""
    model: Annotated[str, _one_of(MODELS)] = "mlp"
    """The network."""
    hidden: tuple[int, ...] = (100, 100)
    """Widths of its hidden layers."""
    init: Annotated[str, _one_of(INITS)] = "xavier"
    """Xavier-uniform weights with zero biases, or PyTorch's own."""
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "sgd"
    """The optimizer, the same over all experiences."""
    lr: float = 0.1
    """Learning rate."""
    momentum: float = 0.0
    """Momentum of sgd."""
    set: Annotated[tuple[str, ...], arg(metavar="NAME=VALUE [NAME=VALUE ...]")] = ()
    """The method's own options: see the command list."""
    data_root: Path = Path("data")
    """Folder of the data sets."""
    download: bool = False
    """Fetch a public data set that is not there."""
    device: Annotated[str, _one_of(DEVICES)] = "auto"
    """Where to compute; auto is cuda where there is one."""
    threads: int = 1
    """CPU threads. More pay off for large networks only, and may change last bits."""
    resident: bool = True
    """Keep data in memory as tensors instead of loading them sample by sample (never
    for upstream's own methods, so that they cost what they cost there)."""
    progress: Annotated[str, _one_of(PROGRESS)] = "auto"
    """The bar on stderr; auto shows it on a terminal."""
    loggers: Annotated[tuple[str, ...], _some_of(LOGGERS)] = ()
    """Loggers of Avalanche, which write to SEED/logs while a seed is trained."""
    out: Path = Path("runs")
    """Folder of the results."""
    overwrite: bool = False
    """Run again what is there already, and replace it."""

    @property
    def passes(self) -> int:
        """The number of epochs with its default filled in."""
        if self.epochs is not None:
            return self.epochs
        return default_epochs(self.benchmark) if self.stream_size is None else 1

    @property
    def in_memory(self) -> bool:
        """Whether data are kept in memory; the figures are the same either way."""
        return self.resident and not self.method.startswith("upstream-")

    @property
    def seed_list(self) -> list[int]:
        """The seeds asked for."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def check(self) -> None:
        """Refuse what no data set could make right.

        :raises UserError: naming the option, its value and what is allowed.
        """
        for kind, allowed in (
            ("method", METHODS),
            ("scenario", SCENARIOS),
            ("model", MODELS),
            ("init", INITS),
            ("optimizer", OPTIMIZERS),
            ("device", DEVICES),
            ("progress", PROGRESS),
        ):
            if getattr(self, kind) not in allowed:
                raise unknown(kind, getattr(self, kind), allowed)
        check_loggers(self.loggers)
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise _refused(name, value, "1 or more")
        if any(width < 1 for width in self.hidden):
            widths = " ".join(map(str, self.hidden))
            raise _refused("hidden", widths, "widths of 1 or more")
        if self.first_seed < 0:
            raise _refused("first_seed", self.first_seed, "0 or more")
        if not 0 < self.lr < float("inf"):
            raise _refused("lr", self.lr, "a number above 0")
        if not 0 <= self.momentum < 1:
            raise _refused("momentum", self.momentum, "0 or more and below 1")
        if self.momentum and self.optimizer != "sgd":
            raise UserError(
                f"--momentum {self.momentum} belongs to sgd: leave it out, or use "
                "--optimizer sgd"
            )


def _refused(name: str, value: object, allowed: str) -> UserError:
    return UserError(f"--{name.replace('_', '-')} {value}: use {allowed}")
