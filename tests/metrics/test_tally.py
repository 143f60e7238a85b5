"""avalanche_ext/metrics/tally.py against a loop over samples."""

from types import SimpleNamespace

import pytest
import torch

from avalanche_ext.metrics.tally import Tally


def experience(classes):
    return SimpleNamespace(classes_in_this_experience=classes)


def by_hand(batches, classes):
    right = masked = 0
    for output, target in batches:
        for scores, y in zip(output.tolist(), target.tolist(), strict=True):
            right += max(range(len(scores)), key=scores.__getitem__) == y
            known = [c for c in sorted(classes) if c < len(scores)]
            masked += max(known, key=scores.__getitem__) == y
    return right, masked


@pytest.mark.parametrize("classes", [[2, 3], {7, 0, 4}, range(10), [1], [8, 9, 12]])
def test_counts_equal_a_loop_over_samples(classes):
    generator = torch.Generator().manual_seed(0)
    some = torch.tensor(sorted(classes))
    batches = []
    for rows in (256, 256, 9):
        picks = torch.randint(len(some), (rows,), generator=generator)
        batches.append((torch.randn(rows, 10, generator=generator), some[picks]))
    tally = Tally(experience(classes), task_masked=True)
    for output, target in batches:
        tally.add(output, target)
    assert tally.read() == by_hand(batches, classes)
    assert tally.total == 521


def test_ties_go_to_the_first_class():
    tally = Tally(experience([3, 1]), task_masked=True)
    tally.add(torch.zeros(4, 5), torch.tensor([0, 1, 3, 1]))
    assert tally.read() == (1, 2)


def test_one_hot_targets():
    tally = Tally(experience([0, 1]), task_masked=True)
    output = torch.tensor([[0.1, 0.3, 0.9], [0.8, 0.1, 0.2]])
    tally.add(output, torch.tensor([[0, 1, 0], [1, 0, 0]]))
    assert tally.read() == (1, 2)


def test_outputs_may_grow_between_minibatches():
    tally = Tally(experience([1, 4]), task_masked=True)
    tally.add(torch.tensor([[0.5, 0.2]]), torch.tensor([1]))
    tally.add(torch.tensor([[0.9, 0.2, 0.1, 0.1, 0.3]]), torch.tensor([4]))
    assert tally.read() == (0, 2)


def test_without_the_mask_no_classes_are_needed():
    tally = Tally(SimpleNamespace(), task_masked=False)
    assert tally.read() is None
    tally.add(torch.eye(3), torch.tensor([0, 1, 1]))
    assert tally.read() == (2, None)


def test_inputs_are_left_alone_and_batches_do_not_share_counts():
    output, target = torch.eye(3), torch.tensor([0, 1, 2])
    tally = Tally(experience([0, 1, 2]), task_masked=True)
    for _ in range(3):
        tally.add(output, target)
    assert tally.read() == (9, 9)
    assert torch.equal(output, torch.eye(3))


def test_classes_from_the_targets_of_the_dataset():
    data = SimpleNamespace(targets=torch.tensor([5, 2, 5]))
    tally = Tally(SimpleNamespace(dataset=data), task_masked=True)
    tally.add(torch.tensor([[9.0, 0, 1, 0, 0, 0]]), torch.tensor([2]))
    assert tally.read() == (0, 1)


def test_unknown_classes_are_refused_with_the_remedy():
    unknown = SimpleNamespace(
        dataset=[],
        current_experience=4,
        origin_stream=SimpleNamespace(name="test"),
    )
    with pytest.raises(ValueError, match=r"experience 4 of stream 'test'.*targets"):
        Tally(unknown, task_masked=True)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.zeros(4), torch.zeros(4)),
        (torch.zeros(4, 2, 2), torch.zeros(4)),
        (torch.zeros(4, 2), torch.zeros(1)),
    ],
)
def test_other_shapes_are_refused(output, target):
    tally = Tally(SimpleNamespace(), task_masked=False)
    with pytest.raises(ValueError, match=r"shape \(rows, classes\)"):
        tally.add(output, target)
