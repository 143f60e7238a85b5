"""avalanche_ext/metrics/forgetting.py against hand-made matrices and upstream."""

import pytest
import torch
from avalanche.evaluation import metrics as upstream

from avalanche_ext.metrics import (
    EvaluationRecord,
    backward_transfer_metrics,
    forgetting_metrics,
)

EXP = "eval_phase/test_stream/Exp"


def run(lab, metrics, scenario="class", size=None, boundaries=False):
    """Emitted curves and the accuracy matrix made by hand."""
    bm = lab.build(scenario)
    strategy = lab.naive(metrics, scenario)
    matrix = []
    for experience in bm.train_stream:
        if size is None:
            strategy.train(experience)
        else:
            for sub in lab.subexperiences(experience, size, boundaries):
                strategy.train(sub)
        strategy.eval(bm.test_stream)
        matrix.append([lab.by_hand(strategy.model, e) for e in bm.test_stream])
    return dict(strategy.evaluator.get_all_metrics()), matrix


def values(curves, name):
    return pytest.approx(curves[name][1])


@pytest.mark.parametrize(
    ("size", "boundaries"), [(None, None), (10, False), (7, False), (7, True)]
)
def test_batch_and_online_streams(lab, size, boundaries):
    metrics = [
        *forgetting_metrics(),
        *forgetting_metrics(definition="first"),
        *backward_transfer_metrics(),
    ]
    curves, a = run(lab, metrics, size=size, boundaries=boundaries)
    most = [
        a[0][0] - a[1][0],
        max(a[0][0], a[1][0]) - a[2][0],
        max(a[0][1], a[1][1]) - a[2][1],
    ]
    first = [a[0][0] - a[1][0], a[0][0] - a[2][0], a[1][1] - a[2][1]]
    assert most[0] > 0.1  # there is something to be seen
    assert values(curves, f"MaxForgetting_Exp/{EXP}000") == most[:2]
    assert values(curves, f"MaxForgetting_Exp/{EXP}001") == most[2:]
    stream = "eval_phase/test_stream"
    mean = [most[0], (most[1] + most[2]) / 2]
    assert values(curves, f"MaxForgetting_Stream/{stream}") == mean
    assert values(curves, f"ExperienceForgetting/{EXP}000") == first[:2]
    assert values(curves, f"ExperienceForgetting/{EXP}001") == first[2:]
    mean = [first[0], (first[1] + first[2]) / 2]
    assert values(curves, f"StreamForgetting/{stream}") == mean
    assert values(curves, f"ExperienceBWT/{EXP}000") == [-f for f in first[:2]]
    assert values(curves, f"ExperienceBWT/{EXP}001") == [-f for f in first[2:]]
    assert values(curves, f"StreamBWT/{stream}") == [-f for f in mean]
    assert not any(f"{EXP}002" in name for name in curves)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_an_online_test_stream_gives_the_values_of_the_whole_one(lab, size):
    """Once for each experience and evaluation, under its name."""

    def emitted(cut):
        bm = lab.build("class")
        metrics = [
            *forgetting_metrics(),
            *forgetting_metrics(definition="first"),
            *backward_transfer_metrics(),
        ]
        strategy = lab.naive(metrics)
        for experience in bm.train_stream:
            torch.manual_seed(5)  # loaders of evaluations draw seeds
            strategy.train(experience)
            strategy.eval(cut(bm.test_stream))
        return strategy.evaluator.get_all_metrics()

    whole = emitted(lambda stream: stream)
    parts = emitted(lambda stream: lab.online(stream, size))
    assert {name.replace("test_online", "test") for name in parts} == set(whole)
    for name, (xs, ys) in parts.items():
        theirs = whole[name.replace("test_online", "test")]
        assert (xs, ys) == (theirs[0], pytest.approx(theirs[1]))


@pytest.mark.parametrize("scenario", ["class", "domain", "task"])
def test_names_and_values_are_upstreams_where_the_definition_is(lab, scenario):
    ours, _ = run(
        lab,
        [*forgetting_metrics(definition="first"), *backward_transfer_metrics()],
        scenario,
    )
    theirs, _ = run(
        lab,
        [
            *upstream.forgetting_metrics(experience=True, stream=True),
            *upstream.bwt_metrics(experience=True, stream=True),
        ],
        scenario,
    )
    assert set(ours) == set(theirs)
    for name, (xs, ys) in theirs.items():
        start = len(xs) - len(ours[name][0])
        assert ours[name][0] == xs[start:]
        assert ours[name][1] == pytest.approx(ys[start:], abs=1e-12)
        # upstream says 0 where there is no past experience yet
        assert ys[:start] in ([], [0])


def test_forgetting_by_max_has_a_name_of_its_own():
    by_max = {str(metric) for metric in forgetting_metrics()}
    theirs = {
        str(metric)
        for metric in upstream.forgetting_metrics(experience=True, stream=True)
    }
    assert not by_max & theirs
    # CSVLogger looks for this beginning
    assert not any(name.startswith("ExperienceForgetting") for name in by_max)


def test_another_stream_does_not_lend_its_values(lab):
    bm = lab.build("class")
    record = EvaluationRecord(stream="test")
    strategy = lab.naive(forgetting_metrics(record=record, experience=False))
    for experience in bm.train_stream[:2]:
        strategy.train(experience)
        strategy.eval(bm.train_stream)
        strategy.eval(bm.test_stream)
    curves = strategy.evaluator.get_all_metrics()
    for stream in ("train", "test"):
        a = record.matrix(stream=stream)
        name = f"MaxForgetting_Stream/eval_phase/{stream}_stream"
        assert values(curves, name) == [a[0][0] - a[1][0]]


def test_options_choose_the_metrics():
    for make in (forgetting_metrics, backward_transfer_metrics):
        assert len(make()) == 2
        assert len(make(stream=False)) == len(make(experience=False)) == 1


def test_an_unknown_definition_is_refused():
    with pytest.raises(ValueError, match=r"'mean'.*'max', 'first'"):
        forgetting_metrics(definition="mean")
