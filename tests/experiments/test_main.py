"""experiments/__main__.py: commands, start-up, mistakes told in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import _one_line, main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "avalanche", "matplotlib", "sklearn", "scipy")


def python(*words):
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def children_seconds():
    """Of processor time, which a busy machine does not lengthen as it does the clock."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["table", "--help"],
        ["report", "--help"],
        ["list"],
    ],
)
def test_help_and_list_answer_at_once(words):
    start = children_seconds()
    done = python("-m", "experiments", *words)
    assert children_seconds() - start < 1.5
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) > 5


def test_nothing_heavy_is_imported_to_list_or_to_refuse():
    done = python(
        "-c",
        "import sys; from experiments.__main__ import _one_line, main; main(['list']); "
        "main(['run', 'split-digits', 'nothing']); "
        f"print([name for name in {HEAVY} if name in sys.modules])",
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    for word in (
        *("split-digits", "split-mnist", "NAME", "class", "domain", "task", "mlp"),
        *("permuted-mnist", "rotated-mnist", "split-cifar100", "cnn", "resnet18"),
        *("naive", "joint", "cumulative", "reservoir-replay", "er-ring"),
        *("class-balanced-replay", "mem_size=200", "batch_size_mem=10"),
        "permuted at random; domain-incremental unless said",
    ):
        assert word in told


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("run split-digit naive", ["unknown benchmark 'split-digit'", "split-mnist"]),
        ("run split-digits nave", ["unknown method 'nave'", "'naive'?", "er-ring"]),
        ("run split-digits naive --scenario x", ["unknown scenario 'x'", "task"]),
        (
            "run split-digits naive --model cnm",
            ["unknown model 'cnm'", "mlp, cnn, res"],
        ),
        ("run split-digits naive --init he", ["unknown init 'he'", "use xavier, xav"]),
        ("run split-digits naive --angles x", ["unknown angles 'x'", "random, rising"]),
        (
            "run permuted-mnist naive --angles rising",
            ["--angles rising", "permuted-mnist rotates nothing", "use rotated-mnist"],
        ),
        ("run split-digits naive --head x", ["unknown head 'x'", "use all, seen"]),
        ("run split-digits naive --optimizer x", ["unknown optimizer 'x'", "sgd"]),
        ("run split-digits naive --device tpu", ["unknown device 'tpu'", "cpu, cuda"]),
        ("run split-digits naive --progress x", ["unknown progress 'x'", "auto, on"]),
        ("run split-digits naive --seeds 0", ["--seeds 0: use 1 or more"]),
        ("run split-digits naive --epochs 0", ["--epochs 0: use 1 or more"]),
        ("run split-digits naive --stream-size 0", ["--stream-size 0: use 1 or"]),
        ("run split-digits naive --first-seed -1", ["--first-seed -1: use 0 or"]),
        (
            "run split-digits naive --first-seed 99999999999",
            ["--first-seed 99999999999: use 0 or more", "no seed above 4294967295"],
        ),
        (
            "run split-digits naive --first-seed 4294967295 --seeds 2",
            ["--first-seed 4294967295", "no seed above 4294967295"],
        ),
        (
            "run split-digits naive --threads 100000",
            ["--threads 100000: use 1 to 1024"],
        ),
        (
            "run permuted-mnist naive --experiences 99999",
            ["--experiences 99999: use 1 to 10000"],
        ),
        (
            "run split-digits naive --hidden 99999999999999999999",
            ["--hidden 99999999999999999999: use widths of 1 or more, below 2**63"],
        ),
        (
            "run split-digits naive --batch-size 9223372036854775808",
            ["--batch-size 9223372036854775808: use 1 or more, below 2**63"],
        ),
        (
            "run split-digits er-ring --set mem_size=99999999999999999999",
            ["--set mem_size=99999999999999999999: use a whole number below 2**63"],
        ),
        ("run split-digits naive --lr 0", ["--lr 0.0: use a number above 0"]),
        ("run split-digits naive --momentum 1", ["--momentum 1.0", "below 1"]),
        ("run split-digits naive --hidden 5 0", ["--hidden 5 0: use widths of 1"]),
        ("run split-digits naive --samples 5 0", ["--samples 5 0: use numbers of 1"]),
        ("run split-digits naive --samples 9 9", ["--samples 9 9: use one number, or"]),
        (
            "run split-digits naive --samples 9999",
            ["--samples 9999: experience 1 has", "training rows"],
        ),
        ("run split-digits naive --iterations 0", ["--iterations 0: use 1 or more"]),
        (
            "run split-digits naive --iterations 5 --epochs 2",
            ["--iterations 5 and --epochs 2", "leave one out"],
        ),
        (
            "run split-digits naive --iterations 5 --stream-size 2",
            ["--iterations 5 and --stream-size 2", "leave one out"],
        ),
        ("run split-digits naive --label-noise 1", ["--label-noise 1.0: use 0 or"]),
        (
            "run split-digits naive --label-noise .1 --experiences 10",
            ["--label-noise 0.1: an experience of one class", "fewer --experiences"],
        ),
        ("run split-digits naive --validation 1", ["--validation 1.0: use 0 or more"]),
        ("run split-digits naive --validation .001", ["takes 0 of the", "class 0"]),
        (
            "run split-digits naive --head seen --scenario domain",
            ["--head seen with --scenario domain", "--scenario class"],
        ),
        (
            "run split-digits naive --scenario domain --experiences 10",
            ["--scenario domain with --experiences 10", "one class", "1, 2, 5, or"],
        ),
        (
            "run split-digits naive --scenario task --experiences 10",
            ["--scenario task with --experiences 10 leaves one class an experience"],
        ),
        (
            "run split-digits naive --model resnet18 --hidden 50",
            ["--hidden 50: resnet18 has no layers of that kind", "--model mlp or cnn"],
        ),
        (
            "run split-digits naive --optimizer adam --momentum .5",
            ["--momentum 0.5 belongs to sgd"],
        ),
        ("run split-digits naive --experiences 4", ["does not divide", "1, 2, 5, 10"]),
        ("run split-digits naive --set a=1", ["no option 'a'", "it has none"]),
        (
            "run split-digits er-ring --set size=1",
            [
                "--set size=1",
                "er-ring has no option 'size'",
                "mem_size (int from 1 on or none",
            ],
        ),
        (
            "run split-digits er-ring --set mem_size=x",
            ["--set mem_size=x: 'x' is not int"],
        ),
        (
            "run split-digits er-ring --set feed=x",
            ["--set feed=x: 'x' is not first_epoch or every_epoch or experience"],
        ),
        ("run split-digits upstream-ewc --set ewc_lambda=nan", ["use a finite numb"]),
        ("run split-digits upstream-der --set alpha=inf", ["use a finite number"]),
        ("run split-digits er-ring --set", ["--set without a value", "name=value"]),
        (
            "run split-digits er-ring --set --seeds 2",
            ["--set without a value: write --set name=value"],
        ),
        ("table split-mnist-online --cells", ["--cells without a value", "CELL"]),
        ("run split-digits naive --samples", ["--samples without a value"]),
        ("study --arms", ["--arms without a value", "ARM"]),
        ("study --streams", ["--streams without a value", "STREAM"]),
        ("run split-digits naive --samples -5", ["--samples -5: use numbers of 1"]),
        ("run split-digits er-ring --set mem_size", ["has no value", "name=value"]),
        (
            "run split-digits er-ring --set=size=1 --set=mem_size=6",
            ["--set size=1: er-ring has no option 'size'"],
        ),
        (
            "run split-digits er-ring --set mem_size=5 --set mem_size=6",
            ["--set gives 'mem_size' twice"],
        ),
        ("run split-digits naive --seeds five", ["--seeds", "'five'"]),
        ("run split-digits naive --epochs five", ["--epochs", "'five'"]),
        (
            "run split-digits naive --sceario x",
            ["--sceario", "perhaps you meant --scen"],
        ),
        ("run split-digits", ["Missing", "METHOD"]),
        ("rum", ["rum", "list, run,"]),
        ("", ["list, run,"]),
        ("report", ["run"]),
        ("report nowhere", ["nowhere"]),
    ],
)
def test_a_mistake_is_told_in_one_line(line, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("error: ")
    for part in parts:
        assert part in told.err
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_status_2(tmp_path):
    done = python("-m", "experiments", "run", "split-digits", "nothing")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "--set a=1 b=2 --seeds 2 --set c=3 --loggers csv --loggers wandb -- x y",
        "--set=a=1 --loggers=csv --set b=2 --seeds 2 --set=c=3 --loggers wandb -- x y",
    ],
)
def test_repeated_options_of_several_values_add_up(monkeypatch, words):
    asked = []
    monkeypatch.setattr("experiments.runner.run", lambda *words: asked.append(words))
    assert main(["run", *words.split()]) == 0
    ((options, command),) = asked
    assert options.set == ("a=1", "b=2", "c=3")
    assert options.loggers == ("csv", "wandb")
    assert (options.benchmark, options.method, options.seeds) == ("x", "y", 2)
    assert command == f"python -m experiments run {words}"


BOXES = [
    "╭─ Title ───╮\n│ no such │\n│ ─────── │\n│ For help │\n╰────────╯\n",
    " Title   \n ------- \n no such  \n -------\n For help \n          \n",
    "\x1b[31m╭\x1b[0m Title ╮\n\x1b[31m│\x1b[0m \x1b[1mno\x1b[0m such │\n│ ─── │\n╰──╯",
]


@pytest.mark.parametrize("box", BOXES)
def test_the_parsers_message_is_found_in_each_of_its_frames(box):
    assert _one_line(box) == "no such; see python -m experiments --help"


def test_an_interrupted_bench_gives_the_advice_of_no_run(monkeypatch, capsys):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.bench.command.run_bench", interrupted)
    assert main(["bench"]) == 130
    told = capsys.readouterr().err
    assert "the same command" not in told
    assert "the file of --out has the cases that ended" in told


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*words):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.runner.run", interrupted)
    assert main(["run", "x", "y"]) == 130
    assert "the same command" in capsys.readouterr().err
