"""``python -m experiments COMMAND``: list, run, table, study, report, bench."""

import contextlib
import io
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from experiments.bench.command import Bench
from experiments.errors import UserError
from experiments.options import List, Report, Run
from experiments.study.command import Study
from experiments.table.command import Table

PROGRAM = "python -m experiments"
GO_ON = {
    **dict.fromkeys(
        ("run", "table", "study"),
        ": the same command, without --overwrite, runs what is missing",
    ),
    "bench": ": the file of --out has the cases that ended, if any; name the others "
    "and another file to measure them",
}
"""What to do after an interruption, by command."""
Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[Table, tyro.conf.subcommand("table")]
    | Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    :param arguments: the words after the program's name; None takes them from
        ``sys.argv``.
    :return: the exit status: 0, or 2 for a mistake of the user's, told in one line on
        stderr.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(_parse(words), words)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        advice = GO_ON.get(words[0], "") if words else ""
        print(f"interrupted{advice}", file=sys.stderr)
        return 130
    return 0


def _dispatch(
    command: List | Run | Table | Study | Report | Bench, words: Sequence[str]
) -> None:
    if isinstance(command, List):
        from experiments.listing import listing

        print(listing())
    elif isinstance(command, Run):
        from experiments.runner import run

        run(command, shlex.join([*PROGRAM.split(), *words]))
    elif isinstance(command, Table):
        from experiments.table.command import run_table

        run_table(command, shlex.join([*PROGRAM.split(), *words]))
    elif isinstance(command, Study):
        from experiments.study.command import run_study

        run_study(command, shlex.join([*PROGRAM.split(), *words]))
    elif isinstance(command, Bench):
        from experiments.bench.command import run_bench

        run_bench(command)
    else:
        from experiments.runner import write_page

        print(write_page(command.runs, command.output))


def _parse(words: Sequence[str]) -> List | Run | Table | Study | Report | Bench:
    """The command as a dataclass; help goes to stdout and ends the program."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                Command,
                prog=PROGRAM,
                description="Continual-learning benchmarks: train, evaluate, report.",
                args=_joined(words),
            )
    except SystemExit as end:
        if not end.code:
            raise
    raise UserError(_one_line(told.getvalue()))


def _joined(words: Sequence[str]) -> list[str]:
    """Gather repeated ``--set``: the parser would keep the last one only.

    :raises UserError: for one that nothing follows, which the parser would ignore.
    """
    kept: list[str] = []
    settings: list[str] = []
    place = None
    inside = False
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        if word == "--set":
            if following.startswith("-"):
                raise UserError("--set without a value: write --set name=value")
            inside, place = True, len(kept) if place is None else place
        elif inside and not word.startswith("-"):
            settings.append(word)
        else:
            inside = False
            kept.append(word)
    if settings:
        kept[place:place] = ["--set", *settings]
    return kept


def _one_line(box: str) -> str:
    """The message of the parser's box, without title, colour, frame and help text."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip("│| ") for line in plain.splitlines()[1:]]
    rule = [not line.strip("─-╰╯") for line in lines]  # or the end of a paragraph
    begin = rule.index(False)
    message = " ".join(lines[begin : rule.index(True, begin)]).rstrip(".")
    for title in ("Perhaps you meant:", "Available subcommands:"):
        for i, line in enumerate(lines):
            if line.startswith(title):
                hint = line.removeprefix(title).strip() or lines[i + 1]
                message += f" ({title.lower().rstrip(':')} {hint})"
    return f"{message}; see {PROGRAM} --help"


if __name__ == "__main__":
    sys.exit(main())
