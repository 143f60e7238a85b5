"""README.md: its examples run, and its figures are those of the result files."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from experiments import readme
from experiments.__main__ import Asked
from experiments.methods import METHODS
from experiments.study.plan import Plan

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
    assert names["learner"].plugins[0].replayed > 0
    assert len(names["learner"].model.classifiers) == 2


def test_every_method_and_command_is_named():
    experiments = README.partition("\n## Experiments\n")[2].partition("\n## ")[0]
    for method in METHODS:
        assert f"`{method}`" in experiments, method
    for command in (kind.__name__.lower() for kind in get_args(Asked)):
        assert f"python -m experiments {command}" in experiments, command


def test_figures_are_those_of_the_result_files():
    assert readme.filled(README) == README


def test_the_page_of_the_studies_is_made_of_their_results():
    assert (readme.STUDIES / "README.md").read_text() == readme.studies_page()


def test_a_study_has_a_row_for_each_arm_that_all_streams_have(tmp_path, monkeypatch):
    plan = {
        "streams": {"even": {"label": "Even", "options": {}}, "odd": {"options": {}}},
        "arms": {"a": {"label": "A", "method": "naive"}, "b": {"method": "naive"}},
    }
    monkeypatch.setattr(readme.plans, "read", lambda name: Plan(name, plan))
    seeds = {"0": {"accuracy": 0.5}, "1": {"accuracy": 0.7}}
    results = {"even": {"a": seeds, "b": seeds}, "odd": {"a": seeds}}
    (tmp_path / "s-confirmation.json").write_text(json.dumps({"results": results}))
    monkeypatch.setattr(readme, "STUDIES", tmp_path)
    assert readme.study_rows("s", ["a", "b"]).splitlines() == [
        "| memory | Even | odd |",
        "| --- | --- | --- |",
        "| A | 60.00 ± 14.14 | 60.00 ± 14.14 |",
    ]


def test_a_case_of_the_bench_is_that_measured_last(tmp_path, monkeypatch):
    def written(name, created, **medians):
        ratios = {
            case: {"ours / bare": {"median": median, "low": 1, "high": 2}}
            for case, median in medians.items()
        }
        cases = {c: {"rows": {"row": {"ratios": r}}} for c, r in ratios.items()}
        content = {"created": f"2026-01-0{created}", "cases": cases}
        (tmp_path / name).write_text(json.dumps(content))

    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    written("bench-a.json", 2, draw=1.25)
    written("bench.json", 1, draw=1.5, evaluation=1.75)
    assert readme.bench_rows().splitlines()[2:] == [
        "| evaluation, row | 1.75 (1.00–2.00) | – | – |",
        "| draw, row | 1.25 (1.00–2.00) | – | – |",
    ]
    written("bench-b.json", 3, draw=1.9)
    assert "| draw, row | 1.90 " in readme.bench_rows()


def test_ratios_to_other_things_have_a_table_of_their_own(tmp_path, monkeypatch):
    spread = {"median": 2.0, "low": 1, "high": 3}
    rows = {
        "a": {"ratios": {"ours / bare": spread, "upstream / ours": spread}},
        "b": {"ratios": {"ours / one plain pass": spread}},
    }
    content = {"created": "2026-01-01", "cases": {"gradient-norms": {"rows": rows}}}
    (tmp_path / "bench.json").write_text(json.dumps(content))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert readme.bench_rows().splitlines()[2:] == [
        "| gradient-norms, a | 2.00 (1.00–3.00) | 2.00 (1.00–3.00) | – |",
        "",
        "| work | compared with | ours / it |",
        "|---|---|---|",
        "| gradient-norms, b | one plain pass | 2.00 (1.00–3.00) |",
    ]


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
