"""Labelled data from every kind of source: names, splits, labels, and what is refused."""

import io
import warnings
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from PIL import Image

from hfvision.data.datasets.classification import class_weights, load_image_dataset


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value % 256, value // 256, 7)).save(file, "PNG")
    return file.getvalue()


def make(
    labels: list, feature: object = None, *, first: int = 0, image: str = "image", label: str = "label"
) -> Dataset:
    """A split of images that all differ, with these labels."""
    images = [{"bytes": png(first + number), "path": None} for number in range(len(labels))]
    feature = feature or ClassLabel(names=["cat", "dog", "fox"])
    return Dataset.from_dict(
        {image: images, label: labels}, features=Features({image: datasets.Image(), label: feature})
    )


def write_folders(root: Path, counts: dict[str, int], suffix: str = ".png") -> Path:
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for image in range(count):
            (root / name / f"{image}{suffix}").write_bytes(png(100 * number + image))
    return root


def write_parquet(path: Path, split: Dataset) -> Path:
    path.parent.mkdir(exist_ok=True)
    table = split.flatten_indices().data.table
    with pq.ParquetWriter(path, table.schema) as writer:
        if len(split):
            writer.write_table(table)
    return path


def pixels(split) -> list[tuple[int, ...]]:
    return [row["image"].convert("RGB").getpixel((0, 0)) for row in split]


def test_sample_set():
    data = load_image_dataset("fashion_mnist")
    assert {name: len(split) for name, split in data.items()} == {"train": 5400, "validation": 600, "test": 1000}
    assert all(split.column_names == ["image", "label"] for split in data.values())
    assert data["train"].features["label"].names[9] == "Ankle boot"
    assert np.bincount(data["validation"]["label"]).tolist() == [60] * 10


def test_class_folders(tmp_path):
    write_folders(tmp_path / "pets", {"dog": 5, "cat": 10, ".git": 3})
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / "cat" / ".hidden.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"hidden folders: 1 \(\.git\); hidden files: 1 .*\.txt files"):
        data = load_image_dataset(str(tmp_path / "pets"), validation=0.2)
    assert data["train"].features["label"].names == ["cat", "dog"]
    assert {name: np.bincount(split["label"]).tolist() for name, split in data.items()} == {
        "train": [8, 4],
        "validation": [2, 1],
    }


@pytest.mark.parametrize("name", ["validation", "val", "valid", "dev", "Val"])
def test_folders_of_splits_keep_their_validation_split(tmp_path, name):
    write_folders(tmp_path, {"train/cat": 3, "train/dog": 3, f"{name}/cat": 2, f"{name}/dog": 1, "test/dog": 4})
    data = load_image_dataset(tmp_path)
    assert {name: len(split) for name, split in data.items()} == {"train": 6, "validation": 3, "test": 4}
    assert data["test"]["label"][:] == [1] * 4


def test_folder_names_with_pattern_characters_and_class_folders_named_as_splits(tmp_path):
    write_folders(tmp_path / "my [1] pets*", {"dev": 3, "test": 3})
    data = load_image_dataset(tmp_path / "my [1] pets*", validation=0)
    assert data["train"].features["label"].names == ["dev", "test"]
    assert list(data) == ["train"]


def test_parquet_file_and_folders(tmp_path):
    split = make([0, 1, 2] * 4)
    one = write_parquet(tmp_path / "one" / "birds.parquet", split)
    for source in (one, one.parent):
        assert len(load_image_dataset(source, validation=0)["train"]) == 12
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test", "validation"):
        write_parquet(tmp_path / "more" / f"{name}.parquet", split)
    data = load_image_dataset(tmp_path / "more")
    assert {name: len(split) for name, split in data.items()} == {"train": 24, "validation": 12, "test": 12}
    write_parquet(tmp_path / "more" / "extra.parquet", split)
    with pytest.raises(ValueError, match=r"extra\.parquet\? Name them"):
        load_image_dataset(tmp_path / "more")


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_to_disk(tmp_path, streaming):
    DatasetDict(train=make([0, 1] * 5), dev=make([1, 0])).save_to_disk(tmp_path / "both")
    make([0, 1] * 5).save_to_disk(tmp_path / "one")
    data = load_image_dataset(tmp_path / "both", streaming=streaming)
    assert {name: len(list(split)) for name, split in data.items()} == {"train": 10, "validation": 2}
    data = load_image_dataset(tmp_path / "one", validation=0, streaming=streaming)
    assert {name: len(list(split)) for name, split in data.items()} == {"train": 10}


def test_hub(hub, tmp_path):
    data = DatasetDict(train=make([0, 1] * 10), test=make([1, 0]))
    data.push_to_hub("tester/pets")
    for name in ("small", "large"):
        data.push_to_hub("tester/both", config_name=name)
    loaded = load_image_dataset("tester/pets")
    assert {name: len(split) for name, split in loaded.items()} == {"train": 18, "validation": 2, "test": 2}
    assert len(load_image_dataset("tester/both:small", validation=0)["train"]) == 20
    stream = load_image_dataset("tester/pets", streaming=True, validation=0.3)
    assert sorted(pixels(stream["train"]) + pixels(stream["validation"])) == sorted(pixels(data["train"]))
    with pytest.raises(ValueError, match=r"Config name is missing.*small"):
        load_image_dataset("tester/both")
    with pytest.raises(ValueError, match="'huge' not found"):
        load_image_dataset("tester/both:huge")
    with pytest.raises(FileNotFoundError, match="tester/nothing cannot be read from the Hub"):
        load_image_dataset("tester/nothing")
    with pytest.raises(FileNotFoundError, match=r"no file or folder nothing, and no sample set.*fashion_mnist"):
        load_image_dataset("nothing")


@pytest.mark.parametrize(
    ("storage", "as_stored"),
    [
        (pa.binary(), lambda path: path.read_bytes()),
        (pa.large_binary(), lambda path: path.read_bytes()),
        (pa.string(), str),
        (pa.large_string(), str),
        (
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            lambda path: {"bytes": path.read_bytes(), "path": None},
        ),
    ],
)
def test_images_as_bytes_and_paths(tmp_path, storage, as_stored):
    files = sorted(write_folders(tmp_path / "all", {"a": 4}).glob("*/*"))
    column = pa.array([as_stored(path) for path in files], storage)
    pq.write_table(pa.table({"img": column, "category": ["x", "y", "x", "y"]}), tmp_path / "train.parquet")
    train = load_image_dataset(tmp_path / "train.parquet", validation=0)["train"]
    assert train.column_names == ["image", "label"]
    assert pixels(train) == [(number, 0, 7) for number in range(4)]


@pytest.mark.parametrize("kind", ["string", "large_string"])
def test_text_labels_become_sorted_classes_in_all_splits(tmp_path, kind):
    DatasetDict(
        train=make(["fox", "cat", "dog"], Value(kind), image="photo", label="class"),
        test=make(["dog", "cat"], Value(kind), image="photo", label="class"),
    ).save_to_disk(tmp_path)
    data = load_image_dataset(tmp_path, validation=0)
    assert data["train"].features["label"] == data["test"].features["label"] == ClassLabel(names=["cat", "dog", "fox"])
    assert (data["train"]["label"][:], data["test"]["label"][:]) == ([2, 0, 1], [1, 0])


@pytest.mark.parametrize("kind", ["int64", "uint8"])
def test_numbers_become_classes(tmp_path, kind):
    path = write_parquet(tmp_path / "train.parquet", make([2, 0, 1, 10, *range(3, 10)], Value(kind), label="y"))
    train = load_image_dataset(path, validation=0)["train"]
    assert train.features["label"].names == [str(number) for number in range(11)]
    assert train["label"][:4] == [2, 0, 1, 10]


def test_preparation_is_cached(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", make(["b", "a"] * 10, Value("string")))
    first, again = (load_image_dataset(path) for _ in range(2))
    for name in ("train", "validation"):
        assert first[name]._fingerprint == again[name]._fingerprint
        assert first[name].cache_files == again[name].cache_files


def test_validation_is_a_part_of_each_class_and_depends_on_the_seed_alone(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", make([0] * 40 + [1] * 20 + [2] * 4))
    one, again, other = (load_image_dataset(path, validation=0.25, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(one["validation"]["label"]).tolist() == [10, 5, 1]
    assert sorted(pixels(one["train"]) + pixels(one["validation"])) == sorted({(n, 0, 7) for n in range(64)})
    assert pixels(one["validation"]) == pixels(again["validation"]) != pixels(other["validation"])


def test_small_classes_stay_in_train_and_are_named(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", make([0] * 10 + [1] + [2] * 2))
    with pytest.warns(UserWarning, match="no image of dog:"):
        data = load_image_dataset(path)
    assert np.bincount(data["train"]["label"]).tolist() == [9, 1, 1]
    assert np.bincount(data["validation"]["label"]).tolist() == [1, 0, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(load_image_dataset(path, validation=0)) == ["train"]


def test_columns_that_cannot_be_told(tmp_path):
    split = make([0, 1] * 3)
    split = split.add_column("coarse", split["label"][:]).cast_column("coarse", ClassLabel(num_classes=3))
    path = write_parquet(
        tmp_path / "train.parquet",
        concatenate_datasets([split, make([0] * 6, image="mask").select_columns("mask")], axis=1),
    )
    with pytest.raises(ValueError, match="--image-column one of image, mask"):
        load_image_dataset(path)
    with pytest.raises(ValueError, match="--label-column one of label, coarse"):
        load_image_dataset(path, image_column="image")
    with pytest.raises(ValueError, match="no column 'x'; there are: image, label, coarse, mask"):
        load_image_dataset(path, image_column="x")
    with pytest.raises(ValueError, match="'coarse' holds no images"):
        load_image_dataset(path, image_column="coarse", label_column="label")
    data = load_image_dataset(path, image_column="mask", label_column="coarse", validation=0)
    assert data["train"].column_names == ["image", "label"]
    assert data["train"].features["label"].num_classes == 3
    other = write_parquet(
        tmp_path / "other.parquet", make([0, 1], image="a", label="b").cast_column("b", Value("int64"))
    )
    with pytest.raises(ValueError, match="No column is known as the label: choose with --label-column one of a, b"):
        load_image_dataset(other)


INTS, TEXT, PETS = Value("int64"), Value("string"), ClassLabel(names=["cat", "dog"])


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (make([0, 1, -1], INTS), None, r"0 or more, but the split train has -1: leave out"),
        (make([0, 1, -1]), None, r"0 to 2, but the split train has -1"),
        (make([0, 1, None]), None, r"1 images of the split train have no label, the first in row 2"),
        (make(["a", None], TEXT), None, r"no label, the first in row 1"),
        (make([0.5, 1.0], Value("float32")), None, r"text or whole numbers, got Value\('float32'\)"),
        (make([[0], [1]], datasets.List(INTS)), None, r"text or whole numbers"),
        (make([1, 1]), None, r"one class, 'dog'"),
        (make(["a", "a"], TEXT), None, r"one class, 'a'"),
        (make([0, 1]), make([0, 2]), r"test has the class 'fox', of which train has no image"),
        (make(["a", "b"], TEXT), make(["c"], TEXT), r"test has the class 'c'"),
        (make([0, 1], INTS), make([2], INTS), r"test has the class 2, of which train has no image"),
        (make([0, 1]), make([0, 1], ClassLabel(names=["dog", "cat", "fox"])), r"train and test differ"),
        (make([0, 1], PETS), make([0, 1], INTS), r"train and test differ"),
        (make([0, 1]), make([0], label="other"), r"split test has no column 'label'; it has: image, other"),
        (make([]), make([0]), r"\"train\" corresponds to no data"),
        (make([0, 1]), make([]), r"\"test\" corresponds to no data"),
    ],
)
def test_labels_that_are_refused(tmp_path, train, test, message):
    for name, split in {"train": train, "test": test}.items():
        if split is not None:
            write_parquet(tmp_path / f"{name}.parquet", split)
    with pytest.raises(ValueError, match=message):
        load_image_dataset(tmp_path)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "holds no images and no parquet files. Put each image"),
        ({"cat": 0}, "holds no images"),
        ({".": 2}, "lies in no class folder. Put each image"),
        ({"cat/train": 2, "cat/test": 1, "dog/train": 2}, "splits lie inside of class folders. Put them first"),
        ({"pets/cat": 2, "pets/dog": 2}, "All images lie in the one folder .*pets: if the folders in it"),
        ({"val/cat": 2, "val/dog": 2, "test/cat": 1}, "folders test, val, but no class folders to train on"),
        ({"train": 2, "test": 2}, "folders test, train, but no class folders to train on"),
        ({"train/cat": 2, "train/dog": 2, "val/cat": 1, "dev/cat": 1}, "two folders of one split: valid|two folders"),
        ({"train/cat": 2, "train/dog": 2, "more/cat": 1}, "splits and others, more"),
        ({"cat": 2}, "one class, 'cat'"),
    ],
)
def test_folders_that_are_refused(tmp_path, counts, message):
    (tmp_path / "x").mkdir()
    for name, count in counts.items():
        (tmp_path / "x" / name).mkdir(parents=True, exist_ok=True)
        for image in range(count):
            (tmp_path / "x" / name / f"{image}.png").write_bytes(png(image))
    with pytest.raises(ValueError, match=message):
        load_image_dataset(tmp_path / "x")


def test_sources_that_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 this is none")
    for name, message in {
        "a.csv": "is no parquet file",
        "b.parquet": "b.parquet cannot be read as a data set",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_image_dataset(tmp_path / name)
    DatasetDict(first=make([0, 1]), second=make([0, 1])).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="no split train; it has first, second"):
        load_image_dataset(tmp_path / "saved")
    for part in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            load_image_dataset("fashion_mnist", validation=part)


def test_a_stream_is_split_by_its_images_alone(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", make([0] * 100 + [1] * 100))
    turned = write_parquet(tmp_path / "other.parquet", make([0] * 100 + [1] * 100).select(range(199, -1, -1)))
    one, other = (load_image_dataset(p, streaming=True, validation=0.3) for p in (path, turned))
    chosen = pixels(one["validation"])
    assert 40 < len(chosen) < 80
    assert not set(chosen) & set(pixels(one["train"]))
    assert len(chosen) + len(pixels(one["train"])) == 200
    assert sorted(pixels(other["validation"])) == sorted(chosen)
    assert sorted(pixels(load_image_dataset(path, streaming=True, seed=1)["validation"])) != sorted(chosen)
    assert one["train"].features == Features(image=datasets.Image(), label=ClassLabel(names=["cat", "dog", "fox"]))


def test_streams_of_class_folders_and_without_names(tmp_path):
    write_folders(tmp_path / "pets", {"dog": 5, "cat": 5})
    rows = list(load_image_dataset(tmp_path / "pets", streaming=True, validation=0)["train"])
    assert sorted(row["label"] for row in rows) == [0] * 5 + [1] * 5
    path = write_parquet(tmp_path / "train.parquet", make(["a", "b"], TEXT))
    with pytest.raises(ValueError, match="stream needs a ClassLabel"):
        load_image_dataset(path, streaming=True)


def test_class_weights_are_the_inverse_frequency():
    labels = torch.tensor([0, 0, 0, 2])
    weights = class_weights(labels, 4)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx([4 / 6, 0, 2, 0])
    assert weights[labels].mean().item() == pytest.approx(1)


def patients(counts: dict[str, tuple[int, ...]]) -> Dataset:
    """A split of patients who each have one class of images: for each class their numbers of images."""
    labels, names = [], []
    for number, (label, sizes) in enumerate(counts.items()):
        for patient, size in enumerate(sizes):
            labels += [number] * size
            names += [f"{label}{patient}"] * size
    return make(labels, ClassLabel(names=list(counts))).add_column("patient", names)


def groups_of(split: Dataset) -> set[str]:
    return set(split["group"])


def test_validation_in_whole_groups(tmp_path):
    sizes = tuple(1 + number % 5 for number in range(100))
    split = patients({"well": sizes, "ill": sizes[::3]})
    write_parquet(tmp_path / "train.parquet", split)
    data = load_image_dataset(tmp_path, validation=0.2, validation_group="patient")
    assert not groups_of(data["train"]) & groups_of(data["validation"])
    assert groups_of(data["train"]) | groups_of(data["validation"]) == set(split["patient"])
    every = np.bincount(split["label"])
    assert np.abs(np.bincount(data["validation"]["label"]) / every - 0.2).max() < 0.02
    again = load_image_dataset(tmp_path, validation=0.2, validation_group="patient")
    assert groups_of(again["validation"]) == groups_of(data["validation"])
    other = load_image_dataset(tmp_path, validation=0.2, validation_group="patient", seed=1)
    assert groups_of(other["validation"]) != groups_of(data["validation"])


def test_classes_of_few_groups_are_on_both_sides(tmp_path):
    split = patients({"many": (3,) * 40, "two": (30, 10), "three": (9, 9, 9)})
    write_parquet(tmp_path / "train.parquet", split)
    data = load_image_dataset(tmp_path, validation=0.1, validation_group="patient")
    assert set(data["validation"]["label"]) == set(data["train"]["label"]) == {0, 1, 2}
    assert not groups_of(data["train"]) & groups_of(data["validation"])


def test_a_class_of_one_group_is_trained_on_and_said(tmp_path):
    write_parquet(tmp_path / "train.parquet", patients({"well": (2,) * 10, "ill": (9,)}))
    with pytest.warns(UserWarning, match="no image of ill: there is only one group"):
        data = load_image_dataset(tmp_path, validation_group="patient")
    assert set(data["train"]["label"]) == {0, 1}


def test_groups_on_both_sides_of_given_splits_are_said(tmp_path):
    split = patients({"well": (2, 2, 2), "ill": (2, 2, 2)})
    write_parquet(tmp_path / "train.parquet", split)
    write_parquet(tmp_path / "test.parquet", split.select([0, 5, 6]))
    with pytest.warns(UserWarning, match="3 values of patient are in both train and test"):
        load_image_dataset(tmp_path, validation_group="patient")


@pytest.mark.parametrize(
    ("column", "message"),
    [("object", "no column 'object'; there are: image, label, patient"), ("label", "cannot group them")],
)
def test_groups_that_cannot_be(tmp_path, column, message):
    write_parquet(tmp_path / "train.parquet", patients({"well": (2, 2), "ill": (2, 2)}))
    with pytest.raises(ValueError, match=message):
        load_image_dataset(tmp_path, validation_group=column)


def test_missing_and_single_groups_are_refused(tmp_path):
    split = patients({"well": (2, 2), "ill": (2, 2)}).remove_columns("patient")
    write_parquet(tmp_path / "train.parquet", split.add_column("patient", ["a", None, *"bcdefg"]))
    with pytest.raises(ValueError, match="1 images of the split train have no patient, the first in row 1"):
        load_image_dataset(tmp_path, validation_group="patient")
    write_parquet(tmp_path / "train.parquet", split.add_column("patient", ["a"] * 8))
    with pytest.raises(ValueError, match="one group, 'a'"):
        load_image_dataset(tmp_path, validation_group="patient")


def test_a_stream_sets_whole_groups_aside(tmp_path):
    write_parquet(tmp_path / "train.parquet", patients({"well": (3,) * 30, "ill": (3,) * 30}))
    data = load_image_dataset(tmp_path, validation=0.3, validation_group="patient", streaming=True)
    sides = [[row["group"] for row in data[name]] for name in ("train", "validation")]
    assert sum(map(len, sides)) == 180
    assert 20 < len(sides[1]) < 100
    assert not set(sides[0]) & set(sides[1])
