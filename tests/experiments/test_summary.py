"""experiments/summary.py: figures and their alignment."""

from experiments.summary import aligned, mean_with_sd, seed_line, summary_table


def result(seed, accuracy, forgetting=0.1):
    return {
        "seed": seed,
        "average_accuracy": accuracy,
        "average_accuracy_task_known": 1.0,
        "average_forgetting": forgetting,
        "backward_transfer": None,
        "train_seconds": 2.0,
        "eval_seconds": 0.5,
    }


def test_a_row_a_seed_and_their_mean():
    lines = summary_table([result(0, 0.9), result(1, 0.8)]).splitlines()
    assert [line.split()[0] for line in lines] == ["seed", "0", "1", "mean"]
    assert "90.00" in lines[1]
    assert "85.00 ± 7.07" in lines[3]
    assert "10.00 ± 0.00" in lines[3]
    assert "2.00 ± 0.00" in lines[3]
    assert "–" in lines[3]
    ends = {
        line.rindex(word) + len(word)
        for line, word in zip(
            lines, ("accuracy %", "90.00", "80.00", "85.00 ± 7.07"), strict=True
        )
    }
    assert len(ends) == 1


def test_one_seed_has_no_mean():
    lines = summary_table([result(3, 0.9, None)]).splitlines()
    assert len(lines) == 2
    assert lines[1].count("–") == 2


def test_a_seed_that_ended_has_a_line():
    assert seed_line(result(3, 0.91234)) == "seed 3: accuracy 91.23 %, 2.5 s"


def test_a_mean_has_a_spread_from_two_on():
    assert mean_with_sd([]) == "–"
    assert mean_with_sd([80.0]) == "80.00"
    assert mean_with_sd([80.0, 81.0]) == "80.50 ± 0.71"


def test_columns_are_aligned_at_the_side_that_is_asked_for():
    rows = [["a", "bbb", "c"], ["aa", "b", "ccc"]]
    assert aligned(rows) == "a   bbb    c\naa    b  ccc"
    assert aligned(rows, left=(1, 2)) == " a  bbb  c\naa  b    ccc"
