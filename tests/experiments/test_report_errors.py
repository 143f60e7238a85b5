"""experiments/report.py: runs that no page can be made of."""

import json
import re

import pytest
from full_disk import full_disk
from invented_runs import page_of

from experiments.errors import UserError
from experiments.report import write_report


def refused(directory, *parts):
    output = directory.parent / "refused.html"
    everything = "".join(f"(?=.*{re.escape(part)})" for part in parts)
    with pytest.raises(UserError, match=f"^{everything}.*$"):  # "." is no line break
        write_report([directory], output)
    assert not output.exists()


def test_a_full_disk_leaves_the_page_that_was_there(make_run):
    directory = make_run("one")
    output = directory / "report.html"
    output.write_text("before")
    with full_disk(1000), pytest.raises(OSError, match="large"):
        write_report([directory], output)
    assert output.read_text() == "before"
    assert not [path for path in directory.iterdir() if path.suffix == ".part"]


def test_directory_without_results(make_run, tmp_path):
    expected = ("seed-<s>/result.json", "python -m experiments run")
    refused(tmp_path / "absent", str(tmp_path / "absent"), *expected)
    (tmp_path / "empty" / "seed-0").mkdir(parents=True)
    refused(tmp_path / "empty", str(tmp_path / "empty"), *expected)
    run = make_run()
    refused(run / "seed-0", "one seed of a run")
    refused(run.parent, "holds several runs; name them, as in", f"{run.parent}/*")


@pytest.mark.parametrize("name", ["result.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "cannot be read (Expecting"),
        ("[]", "format"),
        ('{"format": 2}', "format 2, not 1"),
        ("{}", "None"),
    ],
)
def test_unreadable_file_is_named(make_run, name, content, part):
    directory = make_run()
    (directory / "seed-0" / name).write_text(content)
    refused(directory, str(directory / "seed-0" / name), part)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"average_accuracy": "high"}, "average_accuracy is not a number"),
        ({"forgetting": 0.5}, "forgetting is not a list"),
        ({"accuracy_matrix": [[0.5], [0.5, 0.5]]}, "accuracy_matrix is not a matrix"),
        ({"accuracy_matrix": []}, "accuracy_matrix is not a matrix"),
        ({"method": "other"}, "method 'other'"),
        ({"accuracy_matrix": [[0.5]]}, "shape (1, 1)"),
        ({"memory_composition": []}, "memory_composition"),
    ],
)
def test_result_that_does_not_fit_is_named(make_run, fields, part):
    directory = make_run()
    make_run(seeds=(1,), **fields)
    refused(directory, str(directory / "seed-1" / "result.json"), part)


def test_an_unknown_peak_of_memory_is_left_out(make_run):
    directory = make_run()
    make_run(seeds=(1,), peak_memory_mb=None)
    page, _ = page_of(directory)
    assert ["1", "–"] in [[row[0], row[-2]] for row in page.rows if len(row) > 8]
    assert [row for row in page.rows if row[0] == "peak memory"] == []
    page_of(make_run("all", peak_memory_mb=None))


def test_result_that_lacks_a_field_is_named(make_run):
    directory = make_run()
    path = directory / "seed-0" / "result.json"
    result = json.loads(path.read_text())
    del result["forgetting"], result["iterations"]
    path.write_text(json.dumps(result))
    refused(directory, str(path), "lacks forgetting, iterations")


def test_no_directory_and_no_file_to_write(make_run, tmp_path):
    with pytest.raises(UserError, match="no run directory given"):
        write_report([], tmp_path / "page.html")
    with pytest.raises(UserError, match=r"is a directory; name a file"):
        write_report([make_run()], tmp_path)
