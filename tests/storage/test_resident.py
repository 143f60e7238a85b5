"""avalanche_ext/storage/resident.py: rows equal those of reading the data set."""

import gc
import weakref
from collections import Counter, OrderedDict, UserDict
from collections.abc import Mapping

import pytest
import torch
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    DataAttribute,
    TransformGroups,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from torch.utils.data import (
    ConcatDataset,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
)
from torchvision import transforms as v1

from avalanche_ext.storage.leaf import NotResident
from avalanche_ext.storage.resident import (
    ItemSource,
    LeafStores,
    RowSource,
    row_source,
)
from avalanche_ext.storage.transforms import to_image

PIXELS = torch.randint(
    0, 256, (9, 1, 6, 6), generator=torch.Generator().manual_seed(1)
).to(torch.uint8)


class Images(Dataset):
    """Images with integer labels; counts how often each is read."""

    def __init__(self, transform=None):
        self.read = Counter()
        self.transform = transform

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        self.read[index] += 1
        image = to_image(PIXELS[index])
        return (image if self.transform is None else self.transform(image)), index % 3


class Dictionaries(Dataset):
    def __init__(self, kind=dict):
        self.kind = kind

    def __len__(self):
        return len(PIXELS)

    def __getitem__(self, index):
        more = self.kind({"number": float(index)})
        return self.kind({"pixels": PIXELS[index], "more": more}), index % 3


def as_avalanche(leaf, transform=None, tasks=None, **options):
    n = len(leaf)
    attributes = [DataAttribute([i % 3 for i in range(n)], "targets")]
    if tasks is not None:
        attributes.append(TaskLabels(tasks))
    groups = TransformGroups({"train": transform, "eval": None}) if transform else None
    return make_avalanche_dataset(
        leaf, data_attributes=attributes, transform_groups=groups, **options
    )


def tensors():
    return TensorDataset(PIXELS.float(), torch.arange(len(PIXELS)) % 3)


DATASETS = {
    "tensors": lambda: as_avalanche(tensors()),
    "tasks": lambda: as_avalanche(tensors(), tasks=list(range(9))),
    "one task": lambda: as_avalanche(tensors(), tasks=[4] * 9),
    "images": lambda: as_avalanche(Images(), v1.ToTensor()),
    "leaf transform": lambda: as_avalanche(Images(v1.ToTensor())),
    "subset": lambda: as_avalanche(Images(), v1.ToTensor()).subset([7, 0, 3]),
    "subset of subset": lambda: as_avalanche(Images(), v1.ToTensor())
    .subset([7, 0, 3, 3, 8])
    .subset([4, 1, 0]),
    "subset with tasks": lambda: as_avalanche(tensors(), tasks=list(range(9))).subset(
        [5, 2, 6]
    ),
    "concatenation": lambda: as_avalanche(tensors()).concat(as_avalanche(tensors())),
    "subsets together": lambda: as_avalanche(tensors())
    .subset([8, 1])
    .concat(as_avalanche(tensors()).subset([0, 5, 2])),
    "frozen": lambda: AvalancheDataset(
        [as_avalanche(Images(), v1.ToTensor()).freeze_transforms()],
        transform_groups=TransformGroups({"train": v1.Normalize((0.2,), (0.5,))}),
    ),
    "two levels": lambda: AvalancheDataset(
        [as_avalanche(Images(), v1.ToTensor()).subset([6, 4, 1])],
        transform_groups=TransformGroups({"train": v1.Normalize((0.2,), (0.5,))}),
    ),
    "dictionaries": lambda: as_avalanche(Dictionaries()),
    "ordered": lambda: as_avalanche(Dictionaries(OrderedDict)),
    "mappings with methods": lambda: as_avalanche(Dictionaries(UserDict)),
    "mappings together": lambda: as_avalanche(Dictionaries(UserDict))
    .subset([8, 1])
    .concat(as_avalanche(Dictionaries(UserDict)).subset([0, 5, 2])),
}


def equal(one, other):
    if isinstance(one, Mapping):
        return (
            type(one) is type(other)
            and one.keys() == other.keys()
            and all(equal(one[k], other[k]) for k in one)
        )
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("name", DATASETS)
def test_rows_equal_the_items_of_the_dataset(name):
    dataset = DATASETS[name]()
    source = RowSource(dataset)
    assert len(source) == len(dataset)
    for position in (torch.arange(len(dataset)), torch.tensor([1, 0, 1])):
        x, *others = source.read(position)
        if source.transform is not None:
            x = source.transform(x)
        expected = default_collate([dataset[i] for i in position.tolist()])
        assert equal(x, expected[0])
        assert len(others) == len(expected) - 1
        for column, item in zip(others, expected[1:], strict=True):
            assert equal(column, item)
    assert torch.equal(source.targets, default_collate([y for _, y, *_ in dataset]))


@pytest.mark.parametrize("name", DATASETS)
def test_columns_hold_the_same_rows(name):
    dataset = DATASETS[name]()
    source = RowSource(dataset)
    leaf, index, own = source.columns()
    everything = torch.arange(len(dataset))
    rows = everything if index is None else index
    expected = source.read(everything)
    for column, values in zip(leaf, expected, strict=False):
        if isinstance(column, torch.Tensor):
            assert torch.equal(column[rows], values)
    for column, values in zip(own, expected[len(leaf) :], strict=True):
        assert torch.equal(column, values)


def test_images_stay_bytes_and_are_read_once():
    leaf = Images()
    stores = LeafStores()
    dataset = as_avalanche(leaf, v1.ToTensor())
    first = stores.source(dataset.subset([0, 1, 2]), remember=True)
    assert first.columns()[0][0].dtype == torch.uint8
    leaf.read.clear()
    for rows in ([0, 1, 2], [2, 5], [5, 0]):
        stores.source(dataset.subset(rows), remember=True).columns()
    del leaf.read[0]  # row 0 also serves as the example
    assert leaf.read == {5: 1}


def test_a_tensor_dataset_is_not_copied():
    leaf = tensors()
    columns, index, _ = RowSource(as_avalanche(leaf).subset([3, 1])).columns()
    assert columns[0] is leaf.tensors[0]
    assert index.tolist() == [3, 1]
    assert RowSource(as_avalanche(leaf)).bytes_needed == 0


def test_sources_are_remembered_up_to_a_number():
    stores = LeafStores(keep=3)
    dataset = as_avalanche(tensors())
    assert stores.source(dataset.train(), remember=True) is stores.source(
        dataset.train(), remember=True
    )
    for i in range(8):
        stores.source(dataset.subset([i]), remember=True)
    assert len(stores._sources) == 3


def test_train_and_eval_groups_are_kept_apart():
    dataset = as_avalanche(
        TensorDataset(PIXELS.float(), torch.zeros(9, dtype=torch.long)),
        v1.Normalize((0.2,), (0.5,)),
    )
    stores = LeafStores()
    train, evaluation = stores.source(dataset.train(), remember=True), stores.source(
        dataset.eval(), remember=True
    )
    assert train.transform is not None
    assert evaluation.transform is None
    assert train.columns()[0][0] is evaluation.columns()[0][0]


class Ragged(Images):
    def __getitem__(self, index):
        return torch.zeros(1 + index % 2), 0


class Strings(Images):
    def __getitem__(self, index):
        return torch.zeros(1), "label"


def random_leaf():
    return Images(v1.Compose([v1.RandomCrop(3), v1.ToTensor()]))


class Arrays(Images):
    def __getitem__(self, index):
        return PIXELS[index].permute(1, 2, 0).numpy(), index % 3


REFUSED = {
    "random leaf of a subset": (
        lambda: as_avalanche(Subset(random_leaf(), range(9))),
        "may be random",
    ),
    "random leaf of a concatenation": (
        lambda: as_avalanche(ConcatDataset([random_leaf(), random_leaf()])),
        "may be random",
    ),
    "random steps on arrays": (
        lambda: as_avalanche(Arrays(), v1.Compose([v1.ToTensor(), v1.RandomCrop(3)])),
        "its inputs are ndarray and its transforms may be random",
    ),
    "ragged": (lambda: as_avalanche(Ragged()), "do not stack to tensors"),
    "strings": (lambda: as_avalanche(Strings()), "more than tensors, numbers and mapp"),
    "random leaf": (
        lambda: as_avalanche(Images(v1.Compose([v1.RandomCrop(3), v1.ToTensor()]))),
        "may be random: give it to the benchmark",
    ),
    "collate": (
        lambda: as_avalanche(tensors(), collate_fn=list),
        "a collate function of its own",
    ),
    "different transforms": (
        lambda: as_avalanche(tensors(), v1.Normalize((0.2,), (0.5,))).concat(
            as_avalanche(tensors())
        ),
        "different transforms",
    ),
    "different shapes": (
        lambda: as_avalanche(tensors()).concat(
            as_avalanche(TensorDataset(torch.zeros(2, 5), torch.zeros(2)))
        ),
        "differ in form",
    ),
    "empty": (lambda: as_avalanche(tensors()).subset([]), "empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name):
    make, reason = REFUSED[name]
    with pytest.raises(NotResident, match=reason):
        RowSource(make()).columns()


def test_data_that_nobody_holds_are_let_go():
    stores, held = LeafStores(), []
    for _ in range(5):
        leaf = Images()
        held.append(weakref.ref(leaf))
        stores.source(as_avalanche(leaf, v1.ToTensor()), remember=False).columns()
        assert len(stores._stores) == 1
        del leaf
        gc.collect()
    assert not any(leaf() for leaf in held)
    assert not stores._stores


@pytest.mark.parametrize("name", ["random leaf", "collate", "different transforms"])
def test_refused_data_are_read_item_by_item(name):
    dataset = REFUSED[name][0]()
    source = row_source(dataset)
    assert isinstance(source, ItemSource)
    assert len(source) == len(dataset)
    torch.manual_seed(0)
    x, y = source.read(torch.tensor([4, 1]))
    torch.manual_seed(0)
    expected = default_collate([dataset[4], dataset[1]])
    assert torch.equal(x, expected[0])
    assert torch.equal(y, expected[1])
    assert source.targets.tolist() == [i % 3 for i in range(9)] * (len(dataset) // 9)


def test_refusing_draws_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(NotResident):
        RowSource(as_avalanche(random_leaf()))
    assert torch.rand(1) == expected


def test_rows_are_copied_to_another_device_once():
    meta = torch.device("meta")  # a device that every machine has
    source = RowSource(as_avalanche(tensors(), tasks=[4] * 9).subset([7, 0, 3]))
    assert not source.is_on(meta)
    leaf, index, own = source.columns(meta)
    assert index is None
    assert {column.device for column in (*leaf, *own)} == {meta}
    assert [len(column) for column in (*leaf, *own)] == [3, 3, 3]
    again, _, _ = source.columns(meta)
    assert [id(c) for c in again] == [id(c) for c in leaf]
    assert source.is_on(meta)
    assert source.columns()[0][0].device.type == "cpu"
