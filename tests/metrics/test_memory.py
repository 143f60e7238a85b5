"""avalanche_ext/metrics/memory.py with a memory that is a list."""

from collections import Counter

import dill
import pytest

from avalanche_ext.metrics import memory_metrics
from avalanche_ext.plugins import reservoir_replay


class ListMemory:
    def __init__(self, max_size, labels=()):
        self.max_size = max_size
        self.labels = list(labels)

    def __len__(self):
        return len(self.labels)

    def class_counts(self):
        return dict(Counter(self.labels))


def test_values_names_and_history(lab):
    bm = lab.build("class")
    memory = ListMemory(8)
    (metric,) = metrics = memory_metrics(memory)
    strategy = lab.naive(metrics)
    assert metric.result() is None
    strategy.eval(bm.test_stream)
    strategy.train(bm.train_stream[0])
    memory.labels = [4, 1, 4]
    strategy.eval(bm.test_stream)
    strategy.train(bm.train_stream[1])
    memory.labels = [4, 0, 5, 5]
    strategy.eval(bm.test_stream)
    memory.labels = [4, 0, 5, 0]
    strategy.eval(bm.test_stream)
    assert metric.history == [{}, {1: 1, 4: 2}, {0: 1, 4: 1, 5: 2}, {0: 2, 4: 1, 5: 1}]
    assert metric.experiences == [None, 0, 1, 1]
    assert metric.by_experience == {0: {1: 1, 4: 2}, 1: {0: 2, 4: 1, 5: 1}}
    assert metric.result() == metric.history[-1]
    assert dict(strategy.evaluator.get_all_metrics()) == {
        "MemoryFill/eval_phase": ([0, 4, 8, 8], [0, 3 / 8, 0.5, 0.5]),
        "MemoryRows_Class001/eval_phase": ([4], [1]),
        "MemoryRows_Class004/eval_phase": ([4, 8, 8], [2, 1, 1]),
        "MemoryRows_Class000/eval_phase": ([8, 8], [1, 2]),
        "MemoryRows_Class005/eval_phase": ([8, 8], [2, 1]),
    }
    metric.reset()
    assert metric.history == metric.experiences == []
    assert len(memory) == 4


@pytest.mark.parametrize("boundaries", [False, True])
def test_an_online_stream_emits_once_for_each_evaluation(lab, boundaries):
    bm = lab.build("class")
    plugin = reservoir_replay(n=12, batch_size_mem=5, seed=0)
    (metric,) = metrics = memory_metrics(plugin.buffer)
    strategy = lab.naive(metrics, plugins=[plugin])
    for experience in bm.train_stream:
        for sub in lab.subexperiences(experience, 10, boundaries):
            strategy.train(sub)
        strategy.eval(bm.test_stream)
        assert metric.history[-1] == plugin.buffer.class_counts()
    assert metric.experiences == [0, 1, 2]
    assert [sum(counts.values()) for counts in metric.history] == [12, 12, 12]
    assert set(metric.history[0]) <= {4, 1}


@pytest.mark.parametrize("scenario", ["task", "task-global"])
def test_a_class_is_a_label_of_a_task_where_task_labels_are_stored(lab, scenario):
    """Against a count of the rows, one by one."""
    bm = lab.build(scenario)
    plugin = reservoir_replay(n=12, batch_size_mem=5, seed=0)
    (metric,) = metrics = memory_metrics(plugin.buffer)
    strategy = lab.naive(metrics, scenario, plugins=[plugin])
    expected = []
    for experience in bm.train_stream:
        strategy.train(experience)
        strategy.eval(bm.test_stream)
        rows = plugin.buffer.sample(12)
        expected.append(
            Counter(zip(rows["task"].tolist(), rows["y"].tolist(), strict=True))
        )
    assert metric.history == expected
    assert metric.by_experience == dict(enumerate(expected))
    assert {task for task, _ in metric.history[-1]} == {0, 1, 2}
    emitted = strategy.evaluator.get_last_metrics()
    for (task, label), count in expected[-1].items():
        name = f"MemoryRows_Task{task:03}_Class{label:03}/eval_phase"
        assert emitted[name] == count


def test_a_memory_of_size_zero_is_empty(lab):
    strategy = lab.naive(memory_metrics(ListMemory(0)))
    strategy.eval(lab.build("class").test_stream)
    assert strategy.evaluator.get_last_metrics() == {"MemoryFill/eval_phase": 0.0}


def test_pickles():
    (metric,) = memory_metrics(ListMemory(3, [1, 1]))
    metric.history.append({1: 2})
    metric.experiences.append(0)
    assert dill.loads(dill.dumps(metric)).by_experience == {0: {1: 2}}


def test_what_is_no_memory_is_refused():
    with pytest.raises(TypeError, match=r"list has no class_counts, max_size"):
        memory_metrics([])
