"""README.md: its examples run, and its figures are those of the result files."""

import json
import re
from pathlib import Path
from statistics import mean, stdev

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


def test_figures_of_the_study_are_those_of_its_results():
    results = json.loads(
        (readme.RESULTS / "studies/replay-confirmation.json").read_text()
    )
    arms = {
        "reservoir": "reservoir, uniform",
        "reservoir-same-time": "reservoir, a third more updates",
        "class-balanced": "class-balanced, uniform",
        "balanced-forgetting": "class-balanced, forgetting",
        "herding-uniform": "herding, uniform",
        "default": "herding, forgetting (the default)",
    }
    for arm, label in arms.items():
        figures = []
        for stream in ("balanced", "imbalanced", "noisy"):
            seeds = results["results"][stream][arm]
            assert len(seeds) == 16
            values = [100 * seed["accuracy"] for seed in seeds.values()]
            figures.append(f"{mean(values):.2f} ± {stdev(values):.2f}")
        assert "| " + " | ".join([label, *figures]) + " |" in README.replace("**", "")


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
