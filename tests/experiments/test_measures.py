"""experiments/measures.py: the classes of a memory under the data set's own names."""

import json
import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from avalanche_ext import MultiStrategyBuffer
from experiments.measures import Measures

SPLIT = [[5, 7], [1, 3]]  # classes of each experience
PERMUTED = [[5, 7], [5, 7]]


def measured(scenario, classes, task_labels, rows, **options):
    """Measures that have read a memory of ``(task, label)`` rows."""
    memory = MultiStrategyBuffer(20, seed=0, **options)
    benchmark = SimpleNamespace(scenario=scenario, classes=classes)
    measures = Measures(benchmark, memory)
    task, label = torch.tensor(rows).T
    memory.add(torch.zeros(len(rows), 1), label, task if task_labels else None)
    for metric in measures.evaluator.metrics:
        if str(metric).startswith("Memory"):
            experience = SimpleNamespace(current_experience=0)
            metric.before_training_exp(SimpleNamespace(experience=experience))
            clock = SimpleNamespace(train_iterations=0)
            metric.before_eval(SimpleNamespace(clock=clock))
    return measures, memory


def composition(*arguments):
    """What is reported of a memory, which its rows say, too."""
    measures, _ = measured(*arguments)
    (counts,) = measures._composition()
    assert dict(Counter(measures.memory_rows(None)["class"].tolist())) == counts
    return [counts]


FROM_ZERO = [(0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (1, 1), (1, 1)]
GOING_ON = [(0, 0), (0, 1), (0, 1), (1, 2), (1, 3), (1, 3), (1, 3)]

AGAIN = ["5 of task 0", "7 of task 0", "5 of task 1", "7 of task 1"]


@pytest.mark.parametrize(
    ("scenario", "classes", "task_labels", "rows", "names"),
    [
        ("class", SPLIT, False, GOING_ON, ["5", "7", "1", "3"]),
        ("class", SPLIT, True, GOING_ON, ["5", "7", "1", "3"]),
        ("task", SPLIT, True, FROM_ZERO, ["5", "7", "1", "3"]),
        ("domain", SPLIT, True, FROM_ZERO, ["5", "7", "1", "3"]),
        ("class", PERMUTED, False, GOING_ON, AGAIN),
        ("task", PERMUTED, True, FROM_ZERO, AGAIN),
        ("domain", PERMUTED, True, FROM_ZERO, AGAIN),
    ],
)
def test_a_class_of_a_task_has_a_name_of_its_own(
    scenario, classes, task_labels, rows, names
):
    counted = composition(scenario, classes, task_labels, rows)
    assert counted == [dict(zip(names, [1, 2, 1, 3], strict=True))]


@pytest.mark.parametrize(
    ("classes", "names"),
    [(SPLIT, ["label 0", "label 1"]), (PERMUTED, ["5", "7"])],
)
def test_without_tasks_rows_tell_only_their_label(classes, names):
    counted = composition("domain", classes, False, FROM_ZERO)
    assert counted == [dict(zip(names, [2, 5], strict=True))]


def test_the_health_of_a_memory_is_json():
    """Quantiles as they were read; an infinite score is null."""
    options = {"sampling": "diversity", "criteria": ("diversity",)}
    measures, memory = measured("class", SPLIT, False, [(0, 0)], **options)
    memory.refresh(torch.nn.Linear(1, 4))  # a single row is far from all others
    assert memory.known_scores()["diversity"].tolist() == [math.inf]
    measures._health.before_eval(
        SimpleNamespace(clock=SimpleNamespace(train_iterations=0))
    )
    (health,) = json.loads(json.dumps(measures._readings(), allow_nan=False))
    assert health == {
        "rows": 1,
        "stale": 0,
        "scores": {"diversity": [None] * 7, "mixed": [1] * 7},
        "ages": [0] * 7,
        "uses": [0] * 7,
        "never_drawn": 1,
        "effective_sample_size": 1,
    }


def test_without_a_memory_there_is_none_to_report():
    measures = Measures(SimpleNamespace(scenario="class", classes=SPLIT))
    assert measures._composition() == measures._readings() == []
    assert measures.memory_rows(255) is None
