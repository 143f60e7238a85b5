"""avalanche_ext/metrics/record.py against predictions made sample by sample."""

import io
import weakref

import dill
import pytest
import torch
from avalanche.benchmarks.scenarios.online import split_continuous_linear_decay_stream

from avalanche_ext.metrics import (
    EvaluationRecord,
    accuracy_metrics,
    task_masked_accuracy_metrics,
)
from avalanche_ext.metrics.tally import Tally

CLASSES = [[4, 1], [0, 5], [2, 3]]


class ByHand:
    """Notes the accuracy of each evaluated experience, made sample by sample.

    At the end of each experience, since evaluating the next one may change the
    model: a multi-head model pads every head with zeros up to the largest class.
    """

    def __init__(self, by_hand, classes):
        self.by_hand, self.classes = by_hand, classes
        self.plain, self.masked = [], []

    def before_eval(self, strategy):
        self.plain.append([])
        self.masked.append([])

    def after_eval_exp(self, strategy):
        experience = strategy.experience
        own = self.classes[experience.current_experience]
        self.plain[-1].append(self.by_hand(strategy.model, experience))
        self.masked[-1].append(self.by_hand(strategy.model, experience, own))


def trained_and_evaluated(lab, scenario, feed):
    """A record after a run, and both matrices made by hand along the way.

    ``feed(strategy, experience)`` trains on one experience of the train stream.
    """
    bm = lab.build(scenario)
    record = EvaluationRecord()
    classes = {"domain": [list(range(6))] * 3, "task": [[0, 1]] * 3}
    oracle = ByHand(lab.by_hand, classes.get(scenario, CLASSES))
    strategy = lab.naive([*accuracy_metrics(record=record), oracle], scenario)
    for experience in bm.train_stream:
        feed(strategy, experience)
        strategy.eval(bm.test_stream)
    return record, oracle.plain, oracle.masked


def check(record, plain, masked):
    assert record.accuracy_matrix == plain
    assert record.task_masked_matrix == masked
    assert record.trained == [0, 1, 2]
    assert record.average_accuracy == pytest.approx(sum(plain[2]) / 3)
    lost = [max(plain[0][i], plain[1][i]) - plain[2][i] for i in (0, 1)]
    assert record.forgetting == [*(pytest.approx(f) for f in lost), None]
    assert record.average_forgetting == pytest.approx(sum(lost) / 2)
    gained = [plain[2][i] - plain[i][i] for i in (0, 1)]
    assert record.backward_transfer == pytest.approx(sum(gained) / 2)


@pytest.mark.parametrize(
    "scenario", ["class", "timeline", "domain", "task", "task-global"]
)
def test_batch_stream(lab, scenario):
    record, plain, masked = trained_and_evaluated(
        lab, scenario, lambda strategy, experience: strategy.train(experience)
    )
    check(record, plain, masked)
    if scenario == "domain":
        assert record.task_masked_matrix == record.accuracy_matrix
    if scenario == "class":
        assert record.average_forgetting > 0.2
        assert sum(masked[2]) > sum(plain[2])


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("size", [10, 7], ids=["divides", "does not divide"])
@pytest.mark.parametrize("scenario", ["class", "domain"])
def test_online_stream(lab, scenario, size, boundaries):
    def feed(strategy, experience):
        for sub in lab.subexperiences(experience, size, boundaries):
            strategy.train(sub)

    check(*trained_and_evaluated(lab, scenario, feed))


def test_online_stream_given_whole(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record), eval_every=0)
    for experience in bm.train_stream:
        subs = lab.subexperiences(experience, 20)
        # an evaluation after each sub-experience: the last one counts
        strategy.train(subs, eval_streams=[bm.test_stream])
    assert record.trained == [0, 1, 2]
    now = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    assert record.accuracy_matrix[2] == now
    assert record.average_forgetting > 0.2


def test_nothing_grows_with_the_number_of_subexperiences(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))

    def size_after(experience_size):
        record.reset()
        for sub in lab.subexperiences(bm.train_stream[0], experience_size):
            strategy.train(sub)
        strategy.eval(bm.test_stream)
        return len(dill.dumps(record))

    assert size_after(1) == size_after(20)


def test_an_evaluation_again_replaces_the_one_before(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    first, second = bm.train_stream[:2]
    strategy.train(first)
    strategy.eval(bm.test_stream)
    before = record.accuracy_matrix[0]
    strategy.train(first)  # trains on: still the same row
    strategy.eval([bm.test_stream[1], bm.test_stream[0], bm.test_stream[0]])
    strategy.eval(bm.test_stream[0])
    assert record.trained == [0]
    now = [lab.by_hand(strategy.model, e) for e in bm.test_stream[:2]]
    assert record.accuracy_matrix == [[*now, before[2]]]
    strategy.train(second)
    strategy.eval(bm.test_stream[0])
    assert record.accuracy_matrix[1][1:] == [None, None]
    assert record.forgetting[0] == pytest.approx(now[0] - record.accuracy_matrix[1][0])


def test_an_experience_trained_again_later_makes_a_new_row(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    for i in (0, 1, 0):
        strategy.train(bm.train_stream[i])
        strategy.eval(bm.test_stream)
    assert record.trained == [0, 1, 0]
    matrix = record.accuracy_matrix
    assert record.forgetting == [
        None,
        pytest.approx(max(matrix[0][1], matrix[1][1]) - matrix[2][1]),
        None,
    ]


def test_a_training_experience_without_evaluation_has_an_empty_row(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    strategy.train(bm.train_stream)
    assert record.trained == [0, 1, 2]
    assert record.accuracy_matrix == [[], [], []]
    assert record.average_accuracy is None
    strategy.eval(bm.test_stream)
    now = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    assert record.accuracy_matrix == [[None] * 3, [None] * 3, now]
    assert record.forgetting == [None] * 3


def test_evaluations_before_training_are_kept_apart(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    assert record.accuracy_before_training == []
    strategy = lab.naive(accuracy_metrics(record=record))
    strategy.eval(bm.test_stream)
    by_hand = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    assert record.accuracy_before_training == by_hand
    assert record.accuracy_matrix == []
    assert record.forgetting == []
    assert record.average_forgetting is record.average_accuracy is None
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream[0])
    assert record.accuracy_before_training == by_hand
    assert record.accuracy_matrix == [
        [lab.by_hand(strategy.model, bm.test_stream[0]), None, None]
    ]


def test_evaluation_inside_training(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record), eval_every=1, train_epochs=2)
    untrained = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    by_hand = []
    for experience in bm.train_stream:
        strategy.train(experience, eval_streams=[bm.test_stream])
        by_hand.append([lab.by_hand(strategy.model, e) for e in bm.test_stream])
    # Avalanche evaluates before each call of train too: that is the row before.
    assert record.accuracy_before_training == untrained
    assert record.accuracy_matrix == by_hand


def test_streams_do_not_mix(lab):
    bm = lab.build("class")
    record, fixed = EvaluationRecord(), EvaluationRecord(stream="test")
    metrics = [*accuracy_metrics(record=record), *accuracy_metrics(record=fixed)]
    strategy = lab.naive(metrics, eval_every=0)
    strategy.train(bm.train_stream[0])  # evaluates on what it trains on
    strategy.eval(bm.test_stream)
    strategy.train(bm.train_stream[1])
    assert record.evaluated_stream == fixed.evaluated_stream == "train"
    # before training on it, experience 1 of the train stream was evaluated too
    assert None not in record.accuracy_matrix[0]
    assert record.accuracy_matrix[1] == [
        None,
        lab.by_hand(strategy.model, bm.train_stream[1]),
    ]
    assert fixed.accuracy_matrix[1] == [None] * 3
    assert None not in fixed.accuracy_matrix[0]
    assert record.matrix(stream="test") == fixed.accuracy_matrix


def test_an_online_stream_may_be_evaluated_itself(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record), eval_every=0)
    for sub in lab.subexperiences(bm.train_stream[1], 10):
        strategy.train(sub)
    (row,) = record.accuracy_matrix
    assert record.evaluated_stream == "train_online"
    assert row == [None, lab.by_hand(strategy.model, sub)]


@pytest.mark.parametrize("boundaries", [False, True])
@pytest.mark.parametrize("size", [1, 7, 40], ids=["one", "does not divide", "whole"])
@pytest.mark.parametrize("scenario", ["class", "timeline", "domain"])
def test_evaluating_subexperiences_equals_evaluating_whole(
    lab, scenario, size, boundaries
):
    """Also when evaluated again: the second call replaces the first."""
    bm = lab.build(scenario)
    own = [list(range(6))] * 3 if scenario == "domain" else CLASSES
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record), scenario)
    test = lab.online(bm.test_stream, size, boundaries)
    plain, masked = [], []
    for experience in bm.train_stream:
        strategy.train(experience)
        for _ in range(2):
            strategy.eval(test)
        pairs = list(zip(bm.test_stream, own, strict=True))
        plain.append([lab.by_hand(strategy.model, e) for e, _ in pairs])
        masked.append([lab.by_hand(strategy.model, e, c) for e, c in pairs])
        assert record.stream_accuracy.plain == pytest.approx(sum(plain[-1]) / 3)
        assert record.stream_accuracy.task_masked == pytest.approx(sum(masked[-1]) / 3)
    assert record.evaluated_stream == "test_online"
    check(record, plain, masked)


def test_a_part_of_an_online_stream_evaluated_again_replaces(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    subs = list(lab.online(bm.test_stream, 10))
    strategy.train(bm.train_stream[0])
    strategy.eval(subs)
    strategy.eval([subs[5], subs[4]])
    (row,) = record.accuracy_matrix
    now = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    some = [lab.by_hand(strategy.model, e) for e in subs[4:6]]
    assert row == [now[0], pytest.approx(sum(some) / 2), now[2]]
    assert record.experience_accuracy.plain == some[0]


def test_subexperiences_that_blend_experiences(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    stream = split_continuous_linear_decay_stream(
        bm.train_stream, 10, iters_per_virtual_epoch=4, beta=4, shuffle=True
    )
    for k, sub in enumerate(stream):
        strategy.train(sub)
        if k in (5, 11):
            strategy.eval(bm.test_stream)
    assert record.trained == [None, None]
    assert record.accuracy_matrix[1] == [
        lab.by_hand(strategy.model, e) for e in bm.test_stream
    ]
    assert record.average_accuracy is not None
    assert record.average_forgetting is None


def test_every_minibatch_is_counted_once_by_however_many_metrics(lab, monkeypatch):
    bm = lab.build("class")
    counted, add = [], Tally.add

    def counting(tally, output, target):
        counted.append(len(output))
        add(tally, output, target)

    monkeypatch.setattr(Tally, "add", counting)
    record = EvaluationRecord()
    metrics = []
    for _ in range(3):
        metrics += accuracy_metrics(record=record)
        metrics += task_masked_accuracy_metrics(record=record)
    strategy = lab.naive(metrics)
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    assert counted == [7, 7, 7, 7, 7, 5] * 3


class ReusesItsOutput(torch.nn.Linear):
    """Writes each evaluated output of the same shape into the same tensor."""

    output = None

    def forward(self, x):
        output = super().forward(x)
        if self.training:
            return output
        if self.output is None or len(self.output) != len(output):
            self.output = torch.empty_like(output)
        return self.output.copy_(output)


def test_a_model_may_reuse_its_output(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    strategy.model = ReusesItsOutput(8, 6)
    strategy.eval(bm.test_stream)
    assert record.accuracy_before_training == [
        lab.by_hand(strategy.model, e) for e in bm.test_stream
    ]


class Spy:
    """Holds on to the outputs weakly."""

    def __init__(self):
        self.outputs = []

    def after_eval_iteration(self, strategy):
        self.outputs.append(weakref.ref(strategy.mb_output))


def test_no_output_outlives_the_evaluation(lab):
    bm = lab.build("class")
    spy = Spy()
    strategy = lab.naive([*accuracy_metrics(), spy])
    strategy.train(bm.train_stream[0])
    strategy.eval(bm.test_stream)
    assert len(spy.outputs) == 18
    assert [output() for output in spy.outputs] == [None] * 18


def test_an_interrupted_evaluation_leaves_nothing_behind(lab):
    bm = lab.build("class")
    record = EvaluationRecord()

    class Stops:
        def after_eval_iteration(self, strategy):
            raise KeyboardInterrupt

    metrics = accuracy_metrics(record=record)
    strategy = lab.naive(metrics)
    strategy.evaluator.metrics.append(Stops())
    with pytest.raises(KeyboardInterrupt):
        strategy.eval(bm.test_stream)
    strategy.evaluator.metrics.pop()
    strategy.eval(bm.test_stream)
    by_hand = [lab.by_hand(strategy.model, e) for e in bm.test_stream]
    assert record.accuracy_before_training == by_hand
    assert record.stream_accuracy.plain == pytest.approx(sum(by_hand) / 3)


def test_round_trips(lab):
    bm = lab.build("class")
    record = EvaluationRecord()
    strategy = lab.naive(accuracy_metrics(record=record))
    strategy.eval(bm.test_stream)
    for experience in bm.train_stream[:2]:
        strategy.train(experience)
        strategy.eval(bm.test_stream)
    file = io.BytesIO()
    torch.save(record.state_dict(), file)
    file.seek(0)
    loaded = EvaluationRecord()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    pickled = dill.loads(dill.dumps(record))
    for copy in (loaded, pickled):
        assert copy.state_dict() == record.state_dict()
        assert copy.accuracy_matrix == record.accuracy_matrix
        assert copy.task_masked_matrix == record.task_masked_matrix
        assert copy.accuracy_before_training == record.accuracy_before_training
        assert copy.forgetting == record.forgetting


def test_a_record_without_the_mask_says_so():
    record = EvaluationRecord(task_masked=False)
    with pytest.raises(ValueError, match=r"task_masked=False"):
        _ = record.task_masked_matrix
