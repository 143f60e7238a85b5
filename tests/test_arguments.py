"""avalanche_ext/arguments.py: what cannot be meant is refused at once, in one line."""

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import Accuracy
from avalanche.training.supervised import Naive

from avalanche_ext import (
    EvaluationRecord,
    ExemplarTable,
    LeanEvaluationPlugin,
    MultiStrategyBuffer,
    RehearsalPlugin,
    ResidentDataPlugin,
    ScaleToUnit,
    accuracy_metrics,
    backward_transfer_metrics,
    checkpoint,
    class_balanced_replay,
    er_ring,
    fast_reservoir_sampling,
    forgetting_metrics,
    memory_health_metrics,
    memory_metrics,
    reservoir_replay,
    task_masked_accuracy_metrics,
)
from avalanche_ext.arguments import check_flag, is_number, whole_number
from avalanche_ext.metrics import MemoryComposition


def memory(**options):
    return MultiStrategyBuffer(20, **options)


def plugin(**options):
    return RehearsalPlugin(memory(), **{"batch_size_mem": 4, **options})


def saved(next_experience):
    model = torch.nn.Linear(1, 1)
    idle = Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1))
    checkpoint.save(idle, "never-written", next_experience=next_experience)


NAN, TENSOR = float("nan"), torch.tensor(3)
NOT_WHOLE = [2.5, 4.0, True, "200", NAN, [3], TENSOR, -1]
NO_NUMBER = ["1GB", True, NAN, [3], TENSOR, -1]
NO_FLAG = ["no", 2, None, TENSOR]
NO_RECORD = ["record", 0, EvaluationRecord]
NO_DEVICE = ["gpu", 2.5, True, "cuda:99"]
NO_BUFFER = [3, None, [], plugin()]
HELPERS = [
    accuracy_metrics,
    task_masked_accuracy_metrics,
    forgetting_metrics,
    backward_transfer_metrics,
]
CASES = {
    "n must be a whole number of rows, at least 1": {
        reservoir_replay: [0, None, *NOT_WHOLE],
        class_balanced_replay: [0, None, *NOT_WHOLE],
        er_ring: [0, *NOT_WHOLE],
    },
    "batch_size_mem must be a whole number of rows, at least 0": {
        lambda v: plugin(batch_size_mem=v): [None, *NOT_WHOLE],
        lambda v: er_ring(9, batch_size_mem=v): [None, *NOT_WHOLE],
    },
    "max_size must be a whole number of rows, at least 1": {
        MultiStrategyBuffer: [0, *NOT_WHOLE],
        lambda v: memory().resize(None, v): [0, None, *NOT_WHOLE],
    },
    "per_class must be a whole number of rows, at least 1": {
        lambda v: er_ring(per_class=v): [0, *NOT_WHOLE],
        lambda v: er_ring(9, per_class=v): [0, *NOT_WHOLE],
        lambda v: memory(admission="ring", per_class=v): [0, *NOT_WHOLE],
    },
    "capacity must be a whole number of rows, at least 1": {
        ExemplarTable: [0, None, *NOT_WHOLE],
    },
    "k must be a whole number of elements, at least 1": {
        lambda v: fast_reservoir_sampling("abc", v): [0, None, *NOT_WHOLE],
    },
    "next_experience must be a whole number of experiences, at least 0": {
        saved: NOT_WHOLE,
    },
    "seed must be a whole number from -2**63 to 2**64 - 1, or None": {
        lambda v: memory(seed=v): [*NOT_WHOLE[:-1], 2**64],
        lambda v: reservoir_replay(seed=v): [*NOT_WHOLE[:-1], 2**64],
        lambda v: fast_reservoir_sampling("abc", 2, seed=v): [*NOT_WHOLE[:-1], 2**64],
    },
    "max_bytes must be a number of bytes, 0 or more": {
        lambda v: ResidentDataPlugin(max_bytes=v): NO_NUMBER,
    },
    "maximum must be a number above 0": {
        ScaleToUnit: [0, None, float("inf"), *NO_NUMBER],
    },
    "loss_weights must be two numbers of 0 or more": {
        lambda v: plugin(loss_weights=v): [0, "ab", 2.5, True, [1], (1, 2, 3)],
        lambda v: plugin(loss_weights=(1, v)): [None, float("inf"), *NO_NUMBER],
    },
    "transform must be a function": {lambda v: plugin(transform=v): [3, "flip", True]},
    "unknown feed": {lambda v: plugin(feed=v): ["often", None, [1]]},
    "unknown train_metrics": {lambda v: plugin(train_metrics=v): ["some", None, [1]]},
    "unknown admission": {lambda v: memory(admission=v): ["fifo", None, [1]]},
    "unknown sampling": {lambda v: memory(sampling=v): ["fifo", None, [1]]},
    "cannot be used here": {
        lambda v: ExemplarTable(3, device=v): NO_DEVICE,
        lambda v: memory(device=v): NO_DEVICE,
        lambda v: er_ring(9, device=v): NO_DEVICE,
    },
    "directory must be a path or None": {
        lambda v: ExemplarTable(3, directory=v): [3, True, ["rows"]],
        lambda v: memory(directory=v): [3, True, ["rows"]],
    },
    "stream must be the name of a stream": {
        lambda v: EvaluationRecord(stream=v): [0, True, ["test"]],
    },
    "task_masked must be True or False": {
        lambda v: EvaluationRecord(task_masked=v): NO_FLAG,
    },
    "experience must be True or False": {
        lambda v, make=make: make(experience=v): NO_FLAG for make in HELPERS
    },
    "stream must be True or False": {
        lambda v, make=make: make(stream=v): NO_FLAG for make in HELPERS
    },
    "record must be an EvaluationRecord": {
        lambda v, make=make: make(record=v): NO_RECORD for make in HELPERS
    },
    "unknown definition of forgetting": {
        lambda v: forgetting_metrics(definition=v): ["last", None, 3],
    },
    "a memory's composition needs a buffer": {
        memory_metrics: NO_BUFFER,
        MemoryComposition: NO_BUFFER,
    },
    "the health of a memory is that of a MultiStrategyBuffer": {
        memory_health_metrics: NO_BUFFER,
    },
    "RehearsalPlugin needs a MultiStrategyBuffer": {RehearsalPlugin: NO_BUFFER},
    "metrics must be plugin metrics or lists of them": {
        LeanEvaluationPlugin: [3, None, "a", [1], Accuracy(), MemoryComposition],
    },
    "loggers must be of Avalanche's BaseLogger": {
        lambda v: LeanEvaluationPlugin(loggers=v): [3, True, "c", [1]],
    },
}


@pytest.mark.parametrize("words", CASES)
def test_one_line_says_what_is_wrong(words):
    for make, values in CASES[words].items():
        for value in values:
            with pytest.raises((TypeError, ValueError)) as error:
                make(value)
            said = str(error.value)
            assert words in said
            assert "\n" not in said
            inner = value[0] if isinstance(value, list) and value else value
            named = (repr(value), repr(inner), type(value).__name__)
            assert any(name in said for name in named), said


def test_what_is_meant_is_taken():
    assert (
        reservoir_replay(np.int64(30), batch_size_mem=np.int32(7)).buffer.max_size == 30
    )
    assert type(memory(seed=np.uint8(3)).max_size) is int
    assert MultiStrategyBuffer(np.int16(5)).table.capacity == 5
    assert ScaleToUnit(np.float32(15))(torch.tensor(3)) == torch.tensor(3) / 15
    for limit in (None, 0, 1e9, np.int64(10), float("inf")):
        ResidentDataPlugin(max_bytes=limit)
    assert fast_reservoir_sampling("abc", 2, seed=-1) == fast_reservoir_sampling(
        "abc", 2, seed=np.int64(-1)
    )
    with pytest.raises(ValueError, match="er_ring needs n, the rows of the memory, or"):
        er_ring()


def test_the_checks_themselves():
    assert whole_number("n", np.int8(3), "rows", least=3) == 3
    assert type(whole_number("n", np.int8(3), "rows", least=3)) is int
    with pytest.raises(
        ValueError, match=r"^n must be a whole number of rows, at least 4"
    ):
        whole_number("n", 3, "rows", least=4)
    assert [is_number(v) for v in (1, 1.5, np.float32(2), True, "1", None)] == [
        *[True] * 3,
        *[False] * 3,
    ]
    check_flag("on", False)
    with pytest.raises(ValueError, match="on must be True or False, got 0"):
        check_flag("on", 0)
