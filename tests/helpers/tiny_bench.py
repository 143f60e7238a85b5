"""So little work that every case of the bench ends in seconds."""

from experiments.bench.workload import Sizes

TINY = Sizes(
    train=150,
    warm=140,
    test=50,
    memory=128,
    stages=(4, 8),
    capacities=(30, 60),
    stored=50,
    offered=2,
    drawn=3,
    experiences=(1, 2),
    scored=20,
    covered=(60, 8, 10),
    run=150,
    rotations=2,
)
