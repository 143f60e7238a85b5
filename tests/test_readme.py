"""README.md: its examples run, and its figures are those of the result files."""

import re
from pathlib import Path

import pytest

from experiments import readme

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.parametrize(
    "code",
    re.findall(r"```python\n(.*?)```", README, re.DOTALL),
    ids=["plugin", "loop"],
)
def test_examples_run(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    if "accuracy_matrix" in code:
        matrix = eval(printed)
        assert len(matrix) == 2
        assert min(matrix[-1]) > 0.5


def test_figures_are_those_of_the_result_files():
    assert readme.filled(README) == README
