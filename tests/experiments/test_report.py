"""experiments/report.py and its figures: a page from invented results."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from invented_runs import joint, page_of

from experiments import figures
from experiments.finished_run import load_run


def test_page_stands_alone(make_run):
    page, text = page_of(make_run(seeds=range(3)))
    assert text.lstrip().startswith("<!DOCTYPE html>")
    # Neither an address of the web, nor a file beside the page, nor a script.
    assert not re.search(r"(https?:)?//\w", text)
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not {"script", "link", "iframe", "img"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))


def test_page_has_every_section(make_run):
    page, _ = page_of(make_run(seeds=(0, 1)))
    for part in (
        "naive on split-digits",
        "class-incremental",
        "Accuracy matrix",
        "Accuracy of each experience over time",
        "Forgetting of each experience",
        "Memory composition by class",
        "Accuracy matrix with the task known",
        "python -m experiments run split-digits naive",
        "0123abc",
        "[100, 100]",
    ):
        assert part in page.text
    assert page.tags.count("details") == 2
    assert page.tags.count("figure") == 5


def test_mean_and_sd_equal_hand_calculation(make_run):
    page, _ = page_of(make_run(seeds=(0, 1, 2)))
    # Accuracies 0.70, 0.69333…, 0.68666…: mean 69.333, sd 0.02 / 3 = 0.667 points.
    # Forgetting .25, .27, .29: mean 27, sd 2. Seconds 12, 13, 14: mean 13, sd 1.
    mean = next(row for row in page.rows if row[:1] == ["mean ± sd"])
    assert mean[1] == "69.33 ± 0.67"
    assert mean[3] == "27.00 ± 2.00"
    assert mean[4] == "−27.00 ± 2.00"
    assert mean[5] == "13.00 ± 1.00"
    seeds = [row for row in page.rows if row[0] in ("0", "1", "2")]
    assert [row[1] for row in seeds] == ["70.00", "69.33", "68.67"]
    assert "69.33 ± 0.67 %" in page.text  # the headline


def test_one_seed_has_no_spread(make_run):
    page, _ = page_of(make_run())
    assert "±" not in page.text
    assert "70.00 %" in page.text
    assert "seed 0" in page.text


def test_seeds_are_in_numeric_order_and_missing_ones_named(make_run):
    directory = make_run(seeds=(10, 9, 2))
    (directory / "seed-11").mkdir()
    (directory / "seed-11" / "config.json").write_text("half wri")
    assert load_run(directory).seeds == [2, 9, 10]
    page, _ = page_of(directory)
    assert "3 seeds: 2, 9, 10" in page.text
    assert "not counted: seed-11" in page.text


def test_joint_has_one_row_no_forgetting_no_memory(make_run):
    page, _ = page_of(make_run("split-digits-joint-class", (0, 1), **joint()))
    assert "trained once" in page.text
    assert "Forgetting is undefined" in page.text
    assert "keeps no memory" in page.text
    mean = next(row for row in page.rows if row[:1] == ["mean ± sd"])
    assert mean[1] == "96.00 ± 0.00"
    assert mean[3:5] == ["–", "–"]
    assert "nan" not in page.text.lower()
    assert page.tags.count("figure") == 2  # the task-known matrix is the same


def test_nulls_are_dashes_and_leave_the_others_mean(make_run):
    directory = make_run(seeds=(0, 1))
    path = directory / "seed-1" / "result.json"
    result = json.loads(path.read_text())
    result["backward_transfer"] = None
    result["accuracy_matrix"][0][1:] = [None, None]
    path.write_text(json.dumps(result))
    page, _ = page_of(directory)
    mean = next(row for row in page.rows if row[:1] == ["mean ± sd"])
    assert mean[4] == "−25.00"
    assert next(row for row in page.rows if row[0] == "1")[4] == "–"
    assert "nan" not in page.text.lower()


def test_a_memory_is_shown_with_its_images(make_run):
    reading = {
        "rows": 20,
        "stale": 0.0,
        "scores": {"<loss>": list(range(7))},
        "ages": list(range(7)),
        "uses": list(range(7)),
        "never_drawn": 0.125,
        "effective_sample_size": 7.5,
    }
    directory = make_run(seeds=(0, 1), memory_health=[reading] * 3)
    columns = ("slot", "label", "task", "age", "uses")
    np.savez(
        directory / "seed-0" / "memory.npz",
        **dict.fromkeys(columns, np.zeros(3, dtype=int)),
        **{"class": np.array(["<4>", "5", "5"]), "stored": 20},
        image=np.zeros((3, 1, 4, 4), dtype=np.uint8),
    )
    page, text = page_of(directory)
    for part in (
        "Scores of the rows in memory",
        "<loss>",
        "effective sample size",
        "12.5 % of the rows had never been drawn",
        "the scores of 0.0 % were not known",
        "3 of 20 rows of the final memory of seed 0, drawn at random",
        "the oldest first",
    ):
        assert part in page.text
    rows = [row for row in page.rows if row[0] in ("<4>", "5")]
    assert rows == [["5", "2", "0", "0", ""], ["<4>", "1", "0", "0", ""]]
    assert page.tags.count("img") == 2
    assert not re.search(r"(https?:)?//\w", re.sub('base64,[^"]*', "", text))
    assert all(a.startswith(("#", "data:image/png;")) for a in page.addresses)
    assert len(page.ids) == len(set(page.ids))


def test_future_experiences_may_be_untested(make_run):
    matrix = [[0.9, None, None], [0.6, 0.8, None], [0.5, 0.7, 0.9]]
    page, _ = page_of(make_run(accuracy_matrix=matrix))
    assert "Dotted" not in page.text
    assert "transfer." not in page.text


def test_text_is_escaped(make_run):
    evil = "<script>alert('&')</script>"
    one = make_run("one", method=evil, benchmark='"><b>', scenario="<i>")
    memory = [{"<u>": 3}, {"<u>": 3}, {"<u>": 3}]
    two = make_run("two", method="_<s>", memory_composition=memory)
    page, text = page_of(one, two)
    assert not {"script", "i", "u", "s"} & set(page.tags)
    assert "&lt;script&gt;" in text
    assert evil in page.text
    assert "<u>" in page.text  # the legend inside a figure


def test_several_runs_are_compared(make_run):
    runs = [
        make_run("split-digits-naive-class", (0, 1, 2)),
        make_run("split-digits-joint-class", **joint()),
    ]
    page, _ = page_of(*runs)
    assert "Comparison of 2 runs" in page.text
    assert page.text.count("split-digits, class-incremental. Mean") == 2
    head, naive, level = page.rows[:3]
    assert head[:2] == ["run", "seeds"]
    assert naive[:3] == ["naive", "3", "69.33 ± 0.67"]
    assert level[:3] == ["joint", "1", "96.00"]
    assert {"run-1-1", "run-1-2"} <= set(page.ids)
    assert {"#run-1-1", "#run-1-2"} <= set(page.addresses)
    assert len(page.ids) == len(set(page.ids))


def test_runs_of_several_scenarios_are_compared_each_with_its_own(make_run):
    runs = [
        make_run(f"{method}-{scenario}", method=method, scenario=scenario)
        for method in ("naive", "er-ring")
        for scenario in ("class", "task")
    ]
    alone = make_run("domain", scenario="domain")
    page, _ = page_of(*runs, alone)
    tables = [i for i, row in enumerate(page.rows) if row[:1] == ["run"]]
    assert [page.rows[i][1] for i in tables] == ["seeds"] * 3
    assert [row[0] for row in page.rows[: tables[-1] + 2]] == [
        *("run", "naive", "er-ring"),
        *("run", "naive", "er-ring"),
        *("run", "naive"),
    ]
    for scenario, times in (("class", 2), ("task", 2), ("domain", 1)):
        told = f"split-digits, {scenario}-incremental. Mean"
        assert page.text.count(told) == times  # the table, and a figure of several
    assert {"run-1-2", "run-2-1", "run-3-1"} <= set(page.ids)
    places = [one for one in page.ids if one.startswith("run-")]
    assert len(places) == len(set(places)) == 5


def test_a_directory_named_twice_counts_once(make_run):
    directory = make_run()
    page, _ = page_of(directory, directory / ".." / directory.name)
    assert "Comparison" not in page.text


def test_average_over_time_counts_experiences_seen(make_run):
    mean, sd = load_run(make_run(seeds=(0, 1))).average_over_time()
    np.testing.assert_allclose(mean, [0.9, (0.7 + 0.71) / 2, (2.1 + 2.08) / 6])
    np.testing.assert_allclose(sd[1], 0.01 / np.sqrt(2))
    level, _ = load_run(make_run("joint", **joint())).average_over_time()
    np.testing.assert_allclose(level, [0.96])


def test_seeds_configured_otherwise_are_named(make_run):
    directory = make_run(seeds=(0, 1, 2))
    path = directory / "seed-2" / "config.json"
    config = json.loads(path.read_text())
    config["versions"]["torch"] = "2.15.0"
    config["options"]["seeds"] = 9  # how many were asked for changes no result
    path.write_text(json.dumps(config))
    page, _ = page_of(directory)
    assert "not configured alike: torch = 2.15.0 with seed 2." in page.text


def test_page_without_configuration(make_run):
    page, _ = page_of(make_run(config=False))
    assert "No config.json" in page.text


def test_same_results_make_the_same_page(make_run):
    runs = [make_run(seeds=(0, 1)), make_run("other", method="other")]
    assert page_of(*runs)[1] == page_of(*runs)[1]


def test_many_experiences(make_run):
    count = 12
    matrix = np.tril(np.full((count, count), 0.5)).tolist()
    page, _ = page_of(
        make_run(
            accuracy_matrix=matrix,
            accuracy_matrix_task_known=matrix,
            forgetting=[-0.1] * (count - 1) + [None],
            memory_composition=[{str(c): 2 for c in range(2 * count)}] * count,
            classes=[[2 * i, 2 * i + 1] for i in range(count)],
        )
    )
    assert "experience 11" in page.text  # a panel each
    assert "−10" in page.text


def test_matrix_too_large_for_numbers_is_a_picture():
    assert figures.accuracy_matrix(np.full((3, 3), 0.77)).count(">77.0<") == 9
    large = figures.accuracy_matrix(np.full((40, 40), 0.77))
    assert ">77" not in large
    assert "data:image/png;base64," in large


def test_diagonal_is_outlined_where_there_is_one():
    square, row = np.full((3, 3), 0.25), np.full((1, 3), 0.25)
    outline = "fill: none; stroke: #ffffff"
    assert figures.accuracy_matrix(square).count(outline) == 3
    assert figures.accuracy_matrix(row).count(outline) == 0


def test_written_numbers():
    assert figures.written(-0.004, 2) == "0.00"
    assert figures.written(-1.25, 1) == "−1.2"
    assert figures.written(float("nan"), 1) == "–"


def test_figures_need_no_display_and_no_pyplot():
    program = (
        "import sys, experiments.report; print('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "False", done.stderr
