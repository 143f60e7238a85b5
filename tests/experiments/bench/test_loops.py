"""experiments/bench/loops.py: the bare loops do what they stand for."""

import pytest
import torch

from experiments.bench import loops, strategies


class TestBareLoops:
    @pytest.mark.parametrize("batch", [7, 40])
    def test_the_reservoir_keeps_every_row_equally_often(self, batch):
        torch.manual_seed(0)
        kept = torch.zeros(40)
        for seed in range(2000):
            memory = loops.ReservoirMemory(10, seed)
            rows = torch.arange(40)
            for some in rows.split(batch):
                memory.add(some[:, None], some)
            assert len(memory) == len(set(memory.y.tolist())) == 10
            assert torch.equal(memory.x[:, 0], memory.y)
            kept[memory.y] += 1
        # 2000 draws of probability 1/4: five standard deviations are 97.
        assert (kept - 500).abs().max() < 97

    def test_the_ring_keeps_the_last_rows_of_each_class(self):
        memory = loops.RingMemory(4, classes=2)
        rows = torch.arange(14)
        for some in rows.split(5):
            memory.add(some, some % 2)
        assert sorted(memory.x.tolist()) == [10, 11, 12, 13]

    @pytest.mark.parametrize("stored", [50, 5000])
    def test_draws_are_distinct_rows(self, stored):
        memory = loops.ReservoirMemory(stored)
        rows = torch.arange(stored)
        memory.add(rows, rows)
        x, y = memory.draw(20)
        assert len(set(x.tolist())) == 20
        assert torch.equal(x, y)

    def test_evaluation_counts_right_answers(self):
        x = torch.eye(3)
        parts = [(x, torch.tensor([0, 1, 0])), (x, torch.tensor([0, 1, 2]))]
        assert loops.evaluate(torch.nn.Identity(), parts, 2) == pytest.approx(
            [2 / 3, 1]
        )

    def test_training_replays_and_steps_once_a_batch(self, tiny):
        x, y = strategies.tensors(tiny, 0, 30, floats=True)
        model = strategies.network((8,))
        rows = []
        model.register_forward_hook(lambda m, i, out: rows.append(len(out)))
        memory = loops.ReservoirMemory(20)
        batches = torch.arange(30).split(10)
        optimizer = strategies.descent(model)
        assert loops.train(model, optimizer, x, y, batches, memory, 10) == 3
        assert rows == [10, 20, 20]
        assert memory.seen == 30
