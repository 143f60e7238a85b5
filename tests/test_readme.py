"""README.md: its examples run, and its figures are those of the result files."""

import re
from pathlib import Path

import pytest

from experiments import readme

README = (Path(__file__).parent.parent / "README.md").read_text()


EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_examples_run(capsys, tmp_path):
    names = {"path": tmp_path / "run.ckpt"}
    for code in EXAMPLES:
        exec(compile(code, "README.md", "exec"), names)
    matrices = [eval(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(matrix) for matrix in matrices] == [2, 4]  # the last trains on
    assert min(matrices[0][-1]) > 0.5
    assert names["path"].exists()


def test_figures_are_those_of_the_result_files():
    assert readme.filled(README) == README


def test_a_missing_part_is_told():
    with pytest.raises(ValueError, match="no part between marks 'results'"):
        readme.filled(README.replace("<!-- results -->", ""))


def test_results_come_between_their_marks(monkeypatch):
    monkeypatch.setattr(readme, "results_blocks", lambda: r"a \1 table")
    made = readme.filled(README)
    assert "<!-- results -->\na \\1 table\n<!-- end of results -->" in made
    assert (
        made.partition("<!-- results -->")[0] == README.partition("<!-- results -->")[0]
    )
