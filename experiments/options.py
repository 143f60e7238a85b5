"""The command line: each dataclass is a command, each field an option."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from experiments.errors import UserError, unknown
from experiments.loggers import LOGGERS
from experiments.loggers import check as check_loggers
from experiments.methods import METHODS
from experiments.models import HIDDEN, INITS, MODELS, default_init
from experiments.pixel_maps import Pixels
from experiments.sources import source

SCENARIOS = {
    "class": "one head over all classes; which task a sample is of is unknown",
    "domain": "labels from zero in each experience, one head, no task labels",
    "task": "labels from zero in each experience, a head for each, task labels given",
}
HEADS = ("all", "seen")
ANGLES = ("random", "rising")
OPTIMIZERS = ("sgd", "adam")
DEVICES = ("auto", "cpu", "cuda")
PROGRESS = ("auto", "on", "off")
LAST_SEED = 2**32 - 1
"""NumPy's generator takes no larger one."""
LARGEST_INT = 2**63 - 1
"""PyTorch's sizes are 64 bits."""
MOST = {"experiences": 10_000, "threads": 1_024}
"""Counts that a slip of the keyboard would make a machine choke on."""
COUNTS = (
    "experiences",
    "stream_size",
    "seeds",
    "epochs",
    "iterations",
    "batch_size",
    "eval_batch_size",
    "threads",
)
"""Options that must be 1 or more."""


def _one_of(names: Iterable[str]) -> object:
    return arg(metavar="{" + ",".join(names) + "}")


def _some_of(names: Iterable[str]) -> object:
    choice = "{" + ",".join(names) + "}"
    return arg(metavar=f"{choice} [{choice} ...]")


def _number(kind: str) -> object:
    return arg(metavar=kind)


@dataclass(frozen=True)
class List:
    """Say which benchmarks, scenarios, methods, tables, bench cases and models exist."""


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

    Results go to OUT/BENCHMARK-METHOD-SCENARIO/seed-S/; the name of the folder goes on
    with -NAME=VALUE for each option that is not at its default. The same command again
    runs the seeds that are missing and no others.
    """

    benchmark: Annotated[Positional[str], arg(metavar="BENCHMARK")]
    """A name of the command list, or NAME for your own arrays in DATA_ROOT/NAME.npz
    (x_train, y_train, x_test, y_test)."""
    method: Annotated[Positional[str], arg(metavar="METHOD")]
    """How to learn: see the command list."""
    scenario: Annotated[str | None, _one_of(SCENARIOS)] = None
    """What the learner is told: class-, domain- or task-incremental (none: domain for
    permuted-mnist and rotated-mnist, class otherwise)."""
    task_labels: bool = False
    """Rows carry the number of their experience where there is one head, too: memories
    by class keep (experience, class). The model is not told."""
    head: Annotated[str, _one_of(HEADS)] = "all"
    """Class scenario: outputs of all classes from the start, or of those seen so far."""
    experiences: Annotated[int | None, _number("INT")] = None
    """Number of experiences (none: 20 of permuted-mnist and rotated-mnist, 10 of
    split-cifar100, 5 otherwise); where classes are split, it must divide their number."""
    angles: Annotated[str, _one_of(ANGLES)] = "random"
    """Of rotated-mnist: each drawn from [0°, 180°), or rising: from [0°, 180°) cut into
    as many parts as experiences, the first part for the first one."""
    samples: tuple[int, ...] = ()
    """Training rows of each experience, drawn by the seed: one number for all, or one
    for each; all rows by default."""
    label_noise: float = 0.0
    """Share of training labels replaced by another class of the same experience."""
    validation: float = 0.0
    """Share of the training rows of each class that is evaluated in place of the test
    rows, and not trained on."""
    stream_size: Annotated[int | None, _number("INT")] = None
    """Online: training data arrive in sub-experiences of this many rows."""
    seeds: int = 3
    """Number of runs, each with a seed of its own."""
    first_seed: int = 0
    """The seeds are FIRST_SEED, FIRST_SEED + 1, …"""
    epochs: Annotated[int | None, _number("INT")] = None
    """Passes over each experience (none: 20 for split-digits, 1 otherwise and online)."""
    iterations: Annotated[int | None, _number("INT")] = None
    """Training iterations of each experience, instead of epochs: epochs repeat and the
    last is cut. Joint training takes as many as all experiences together."""
    batch_size: int = 10
    """Rows of the current experience in a training batch."""
    eval_batch_size: int = 256
    """Rows in an evaluation batch."""
    model: Annotated[str, _one_of(MODELS)] = "mlp"
    """The network."""
    hidden: Annotated[tuple[int, ...] | None, _number("[INT [INT ...]]")] = None
    """Widths of its fully connected hidden layers (none: 100 100 for mlp, 100 for cnn;
    resnet18 has none)."""
    init: Annotated[str | None, _one_of(INITS)] = None
    """Weights of its linear layers: Xavier-uniform with zero biases, the same with an
    output layer of zeros, truncated normal of sd 0.1 with biases of 0.1, or PyTorch's
    own as everything else (none: xavier for mlp, default otherwise)."""
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "sgd"
    """The optimizer, the same over all experiences."""
    reset_optimizer: bool = False
    """Empty the optimizer's state (momentum, moments) before each experience."""
    lr: float = 0.1
    """Learning rate."""
    momentum: float = 0.0
    """Momentum of sgd."""
    loss_scale: float = 1.0
    """What the loss, the mean cross-entropy, is multiplied by."""
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
    """On stderr, a bar, and a line for each seed that ended; auto has lines for each
    experience instead of the bar where there is no terminal; off has none of them."""
    loggers: Annotated[tuple[str, ...], _some_of(LOGGERS)] = ()
    """Loggers of Avalanche, which write to SEED/logs while a seed is trained."""
    out: Path = Path("runs")
    """Folder of the results."""
    overwrite: bool = False
    """Run again what is there already, and replace it."""

    @property
    def form(self) -> str:
        """The scenario with its default filled in."""
        return self.scenario or source(self.benchmark).scenario

    @property
    def passes(self) -> int:
        """The number of epochs with its default filled in."""
        if self.epochs is not None:
            return self.epochs
        return source(self.benchmark).epochs if self.stream_size is None else 1

    @property
    def parts(self) -> int:
        """The number of experiences with its default filled in."""
        if self.experiences is not None:
            return self.experiences
        return source(self.benchmark).experiences

    @property
    def pixels(self) -> Pixels:
        """What experiences do to their images."""
        moved = source(self.benchmark).pixels
        return "rising" if self.angles == "rising" else moved

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of hidden layers with their default filled in."""
        return HIDDEN[self.model] if self.hidden is None else self.hidden

    @property
    def weights(self) -> str:
        """The initial weights with their default filled in."""
        return default_init(self.model) if self.init is None else self.init

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
            ("scenario", (None, *SCENARIOS)),
            ("model", MODELS),
            ("init", (None, *INITS)),
            ("head", HEADS),
            ("angles", ANGLES),
            ("optimizer", OPTIMIZERS),
            ("device", DEVICES),
            ("progress", PROGRESS),
        ):
            if getattr(self, kind) not in allowed:
                raise unknown(kind, getattr(self, kind), filter(None, allowed))
        check_loggers(self.loggers)
        for name in COUNTS:
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MOST.get(name, LARGEST_INT):
                raise _refused(name, value, _from_one(name))
        for name in ("hidden", "samples"):
            values = getattr(self, name) or ()
            if any(not 1 <= value <= LARGEST_INT for value in values):
                told = " ".join(map(str, values))
                kind = "widths" if name == "hidden" else "numbers"
                raise _refused(name, told, f"{kind} of {_from_one(name)}")
        for name in ("label_noise", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise _refused(name, getattr(self, name), "0 or more and below 1")
        if not 0 <= self.first_seed <= LAST_SEED + 1 - self.seeds:
            told = f"0 or more, and no seed above {LAST_SEED}"
            raise _refused("first_seed", self.first_seed, told)
        for name in ("lr", "loss_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise _refused(name, getattr(self, name), "a number above 0")
        if not 0 <= self.momentum < 1:
            raise _refused("momentum", self.momentum, "0 or more and below 1")
        if self.momentum and self.optimizer != "sgd":
            raise UserError(
                f"--momentum {self.momentum} belongs to sgd: leave it out, or use "
                "--optimizer sgd"
            )
        self._check_together()

    def _check_together(self) -> None:
        """Refuse options that contradict each other."""
        if self.iterations is not None:
            for name in ("epochs", "stream_size"):
                if getattr(self, name) is not None:
                    other = f"--{name.replace('_', '-')} {getattr(self, name)}"
                    raise UserError(
                        f"--iterations {self.iterations} and {other} both say how long "
                        "to train: leave one out"
                    )
        if self.head == "seen" and self.form != "class":
            raise UserError(
                f"--head seen with --scenario {self.form}: all outputs are of "
                "classes seen from the first experience on; leave it out, or use "
                "--scenario class"
            )
        if self.angles != "random" and source(self.benchmark).pixels != "rotated":
            raise UserError(
                f"--angles {self.angles}: {self.benchmark} rotates nothing; leave it "
                "out, or use rotated-mnist"
            )
        if self.hidden and not HIDDEN[self.model]:
            widths = " ".join(map(str, self.hidden))
            raise UserError(
                f"--hidden {widths}: {self.model} has no layers of that kind; leave it "
                "out, or use --model mlp or cnn"
            )


def _from_one(name: str) -> str:
    most = MOST.get(name)
    return f"1 to {most}" if most else "1 or more, below 2**63"


def _refused(name: str, value: object, allowed: str) -> UserError:
    return UserError(f"--{name.replace('_', '-')} {value}: use {allowed}")
