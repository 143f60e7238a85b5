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
AGAIN = ": the same command, without --overwrite, runs what is missing"
GO_ON = {
    **dict.fromkeys(("run", "table", "study"), AGAIN),
    "bench": ": the file of --out has the cases that ended, if any; name the others "
    "and another file to measure them",
}
"""What to do after an interruption, by command."""
Asked = List | Run | Table | Study | Report | Bench
SEVERAL = {
    "--set": "name=value",
    "--cells": "CELL",
    "--arms": "ARM",
    "--streams": "STREAM",
    "--samples": "INT",
    "--loggers": "NAME",
}
"""Options of several values, and what one looks like. (No --hidden is no hidden layer.)"""
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


def _dispatch(command: Asked, words: Sequence[str]) -> None:
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

        run_study(command)
    elif isinstance(command, Bench):
        from experiments.bench.command import run_bench

        run_bench(command)
    else:
        from experiments.runner import write_page

        print(write_page(command.runs, command.output))


def _parse(words: Sequence[str]) -> Asked:
    """The command as a dataclass; help goes to stdout and ends the program."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            asked: Asked = tyro.cli(
                Command,
                prog=PROGRAM,
                description="Continual-learning benchmarks: train, evaluate, report.",
                args=_joined(words),
            )
            return asked
    except SystemExit as end:
        if not end.code:
            raise
    raise UserError(_one_line(told.getvalue()))


def _joined(words: Sequence[str]) -> list[str]:
    """Gather options of several values: of repeated ones the parser keeps the last.

    :raises UserError: for one that no value follows, which the parser would ignore.
    """
    apart: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        apart += [name, value] if name in SEVERAL and equals else [word]
    kept: list[str] = []
    values: dict[str, list[str]] = {}
    inside = ""
    for word, following in zip(apart, [*apart[1:], "--"], strict=False):
        if word in SEVERAL:
            if following.startswith("--"):
                raise UserError(f"{word} without a value: write {word} {SEVERAL[word]}")
            if word not in values:
                kept.append(word)
            inside = word
            values.setdefault(word, [])
        elif inside and not word.startswith("-"):
            values[inside].append(word)
        else:
            inside = ""
            kept.append(word)
    return [one for word in kept for one in (word, *values.get(word, ()))]


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
