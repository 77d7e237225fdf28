"""Folders of images as people have them: every file is read, or named with the reason why it is not."""

import io
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.describe import describe_dataset
from hfvision.data.datasets.photos import load_photos
from hfvision.data.datasets.prepare import encoded
from hfvision.data.datasets.segmentation import load_mask_dataset
from hfvision.data.io.images import FORMATS, HEIF_SUFFIXES, IMAGE_SUFFIXES
from hfvision.data.io.tree import find_images


def shade(value: int) -> Image.Image:
    return Image.new("RGB", (16, 16), (value, 255 - value, 40))


def write(root: Path, *names: str) -> Path:
    """Images at these names, each of its own shade: 0, 8, 16, ….."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        file = io.BytesIO()
        suffix = Path(name).suffix.lower()
        shade(8 * number).save(file, Image.registered_extensions().get(suffix, "PNG"))
        (root / name).write_bytes(file.getvalue())
    return root


def classes(*names: str, count: int = 3, suffix: str = ".png") -> list[str]:
    return [f"{name}/{number}{suffix}" for name in names for number in range(count)]


def load(root: Path, **options):
    """The data without a validation part, and what the warnings say."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        data = load_image_dataset(root, **{"validation": 0} | options)
    return data, " ".join(str(warning.message) for warning in said)


def counts(split) -> dict[str, int]:
    names = split.features["label"].names
    return dict(zip(names, np.bincount(split["label"][:], minlength=len(names)).tolist(), strict=True))


def test_the_suffixes_are_those_of_the_formats_that_are_read():
    known = Image.registered_extensions()
    assert {suffix for suffix, kind in known.items() if kind in FORMATS} - HEIF_SUFFIXES == (
        IMAGE_SUFFIXES - HEIF_SUFFIXES - {".mpo"}
    )


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".jpe", ".jp2", ".ppm", ".PNG", ".mpo", ".apng", ".webp"])
def test_class_of_any_format_that_is_read(tmp_path, suffix):
    write(tmp_path, *classes("cat"), *classes("fox", suffix=suffix))
    data, said = load(tmp_path)
    assert counts(data["train"]) == {"cat": 3, "fox": 3}
    assert said == ""
    assert abs(data["train"][3]["image"].convert("RGB").getpixel((8, 8))[0] - 24) <= 12


def test_heif_is_read_with_its_plugin(tmp_path):
    pytest.importorskip("pillow_heif")
    write(tmp_path, *classes("cat"), *classes("fox", suffix=".heic"))
    data, said = load(tmp_path)
    assert (counts(data["train"]), said) == ({"cat": 3, "fox": 3}, "")
    assert abs(data["train"][3]["image"].getpixel((8, 8))[0] - 24) <= 12


def test_without_the_plugin_heif_is_refused_with_the_line_that_installs_it(tmp_path):
    write(tmp_path / "class", *classes("cat", "dog"))
    (tmp_path / "class/emu").mkdir()
    write(tmp_path / "some", *classes("cat", "dog"))
    for path in (tmp_path / "class/emu/0.heic", tmp_path / "some/cat/9.heic"):
        path.write_bytes(b"\0\0\0\x18ftypheic")
    code = """
import sys, warnings
sys.modules["pillow_heif"] = None
from hfvision.data.io.images import read_image
from hfvision.data.datasets.classification import load_image_dataset
for path in ("class", "some"):
    try:
        print(len(load_image_dataset(path, validation=0)["train"]))
    except ValueError as error:
        print(error)
try:
    read_image("some/cat/9.heic")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    refused, read, single = done.stdout.splitlines()
    assert "class/emu has no image that can be read" in refused
    assert read == "6"
    assert ".heic files, which pip install 'hfvision[heif]' makes readable: 1 (cat/9.heic)" in done.stderr
    assert "pip install 'hfvision[heif]'" in refused
    assert "pip install 'hfvision[heif]'" in single


def test_what_is_no_image_is_named_and_adds_none(tmp_path):
    write(tmp_path, *classes("cat", "dog"), "cat/__1.png", "__old/1.png", ".git/1.png")
    with zipfile.ZipFile(tmp_path / "cat/cat.zip", "w") as archive:
        archive.write(tmp_path / "cat/0.png", "cat/0.png")
        archive.write(tmp_path / "dog/0.png", "dogs/0.png")
    (tmp_path / "dog/.DS_Store").write_bytes(b"")
    (tmp_path / "dog/.1.png").write_bytes(b"")
    (tmp_path / "dog/2.jxl").write_bytes(b"")
    (tmp_path / "dog/3.psd").write_bytes(b"")
    (tmp_path / "dog/4.psd").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    data, said = load(tmp_path)
    assert counts(data["train"]) == {"__old": 1, "cat": 4, "dog": 3}
    for part in (
        ".zip files, which are not read as images: 1 (cat/cat.zip)",
        ".jxl files, which are not read as images: 1 (dog/2.jxl)",
        ".psd files, which are not read as images: 2 (such as dog/3.psd)",
        "hidden folders: 1 (.git)",
        "hidden files: 1 (dog/.1.png)",
        "broken links: 1 (dog/gone.png)",
        "folders without images: 1 (empty)",
    ):
        assert part in said
    assert "DS_Store" not in said


def test_a_class_of_a_format_that_is_not_read_is_refused(tmp_path):
    write(tmp_path, *classes("cat", "dog"))
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox/1.jxl").write_bytes(b"\xff\x0a")
    with pytest.raises(ValueError, match=r"fox has no image that can be read: .*jxl.*: 1"):
        load_image_dataset(tmp_path)


def test_links_are_followed_but_not_round_and_round(tmp_path):
    write(tmp_path / "far", "1.png", "2.png")
    write(tmp_path / "data", *classes("cat"))
    (tmp_path / "data/dog").symlink_to(tmp_path / "far")
    (tmp_path / "data/cat/link.png").symlink_to(tmp_path / "far/1.png")
    (tmp_path / "data/cat/up").symlink_to(tmp_path / "data")
    data, said = load(tmp_path / "data")
    assert counts(data["train"]) == {"cat": 4, "dog": 2}
    assert "links to a folder above them: 1 (cat/up)" in said


def test_folders_that_may_not_be_read_are_refused(tmp_path, monkeypatch):
    """The superuser reads every folder: here the system refuses one, as it does to others."""
    write(tmp_path, *classes("cat", "dog"), "dog/deep/1.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"These folders may not be read, permission denied: .*dog/deep\."):
        load_image_dataset(tmp_path)
    assert tmp_path / "dog" / "deep" in find_images(tmp_path)
    with pytest.raises(ValueError, match=r"deep may not be read: permission denied"):
        find_images(tmp_path / "dog" / "deep")


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (("test/1.png", "test/2.png"), "images of test without class folders: 2"),
        (("test/unknown/1.png",), "images of test in the folder unknown, which is no class of train: 1"),
        ((), "folders without images: 1 (test)"),
    ],
)
def test_a_test_folder_without_labels_is_left_out(tmp_path, test, message):
    write(tmp_path, *classes("train/cat", "train/dog"), *test)
    (tmp_path / "test").mkdir(exist_ok=True)
    data, said = load(tmp_path)
    assert list(data) == ["train"]
    assert message in said


@pytest.mark.parametrize("name", ["eval", "Evaluation", "valid", "testing"])
def test_names_of_splits(tmp_path, name):
    write(tmp_path, *classes("training/cat", "training/dog"), *classes(f"{name}/dog", count=2))
    data, _ = load(tmp_path)
    other = "test" if name == "testing" else "validation"
    assert {split: counts(rows) for split, rows in data.items()} == {
        "train": {"cat": 3, "dog": 3},
        other: {"cat": 0, "dog": 2},
    }


def test_classes_called_train_and_test_beside_others(tmp_path):
    write(tmp_path, *classes("train", "test", "plane"))
    data, said = load(tmp_path)
    assert (counts(data["train"]), said) == ({"plane": 3, "test": 3, "train": 3}, "")


def test_images_in_folders_inside_class_folders_are_of_the_class(tmp_path):
    write(tmp_path, *classes("cat/old/grey", "cat/young", "dog"))
    data, said = load(tmp_path)
    assert (counts(data["train"]), said) == ({"cat": 6, "dog": 3}, "")


ODD = ["a::b", "50%", "c#1", "line\nbreak", "ä b", "[x]*", "http:", "{y}"]


def test_names_of_any_characters(tmp_path):
    write(tmp_path, *classes(*ODD), *(f"plain/{name}{name}.png" for name in ODD))
    latin = os.fsdecode("caf\xe9".encode("latin-1"))
    write(tmp_path, f"{latin}/{latin}.png")
    data, said = load(tmp_path)
    train = data["train"]
    assert said == ""
    assert counts(train) == dict.fromkeys(ODD, 3) | {"plain": len(ODD), "caf\\xe9": 1}
    raw = train.cast_column("image", ImageFeature(decode=False))
    for row, stored in zip(train, raw, strict=True):
        assert Image.open(io.BytesIO(encoded(stored["image"]))).getpixel((0, 0)) == row["image"].getpixel((0, 0))
    assert "caf\\xe9 (1)" in describe_dataset(str(tmp_path), data)
    assert "line\\nbreak (3)" in describe_dataset(str(tmp_path), data)


def metadata(root: Path, rows: list[dict], kind: str) -> None:
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    else:
        (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_without_labels_adds_columns_to_class_folders(tmp_path, kind):
    names = classes("cat", "dog", count=4)
    write(tmp_path, *names)
    metadata(tmp_path, [{"file_name": name, "owner": f"o{number % 4}"} for number, name in enumerate(names)], kind)
    data, said = load(tmp_path, validation=0.25, validation_group="owner")
    assert (said, data["train"].features["label"].names) == ("", ["cat", "dog"])
    assert not set(data["train"]["group"]) & set(data["validation"]["group"])


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_gives_the_labels_of_images_without_class_folders(tmp_path, kind):
    write(tmp_path, "train/a.png", "train/b.png", "train/c.png", "train/d.png", "test/e.png")
    metadata(tmp_path / "train", [{"file_name": f"{n}.png", "label": 10 if n == "a" else 20} for n in "abc"], kind)
    data, said = load(tmp_path)
    assert counts(data["train"]) == {"10": 1, "20": 2}
    assert "images that the metadata does not name: 1 (train/d.png)" in said
    assert "images of test without class folders: 1" in said
    metadata(tmp_path / "train", [{"file_name": f"{n}.png", "text": n} for n in "abc"], kind)
    with pytest.raises(ValueError, match="No column is known as the label: choose with --label-column one of"):
        load_image_dataset(tmp_path)
    metadata(tmp_path / "train", [{"file_name": "x.png", "label": 1}], kind)
    with pytest.raises(ValueError, match=r"names the image .*x\.png, which is not there"):
        load_image_dataset(tmp_path)


def csv(root: Path, text: str, encoding: str = "utf-8") -> Path:
    write(root, *(f"i/{number}.png" for number in range(4)))
    (root / "metadata.csv").write_bytes(text.encode(encoding))
    return root


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("001", "010"), ["001", "010"]),
        (("7", "10"), ["7", "10"]),
        (("2024-01-05", "2024-02-01"), ["2024-01-05", "2024-02-01"]),
        (("NA", "null"), ["NA", "null"]),
        (("a\u2028b", "c"), ["a\u2028b", "c"]),
    ],
)
def test_labels_of_a_table_keep_their_spelling(tmp_path, names, found):
    rows = [f"i\\{number}.png,{names[number % 2]}" for number in range(4)]  # as Windows writes paths
    data, said = load(csv(tmp_path, "\ufefffile_name,label\r\n" + "\r\n".join(rows)))
    assert (said, data["train"].features["label"].names) == ("", found)


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("file_name,label\ni/0.png,a\ni/1.png,b\ni/0.png,b\n", "utf-8", r"names the image .*0\.png twice"),
        ("file_name,label\ni/0.png,a\ni/1.png,\ni/2.png,b\n", "utf-8", "1 images of the split train have no label"),
        ("file_name;label\ni/0.png;a\n", "utf-8", "without a column file_name; the columns are: file_name;label: 1"),
        ("filename,label\ni/0.png,a\n", "utf-8", "without a column file_name; the columns are: filename, label: 1"),
        ("file_name,label\ni/0.png,café\n", "latin-1", r"metadata\.csv is no UTF-8 text: save it as UTF-8"),
        ("file_name,label\ni/0.png,a\n", "utf-16", r"metadata\.csv is no UTF-8 text: save it as UTF-8"),
        ("", "utf-8", r"metadata\.csv cannot be read: Empty CSV file"),
    ],
)
def test_tables_that_would_give_wrong_labels_are_refused(tmp_path, text, encoding, message):
    with pytest.raises(ValueError, match=message):
        load_image_dataset(csv(tmp_path, text, encoding))


def test_tables_that_contradict_each_other_are_refused(tmp_path):
    csv(tmp_path, "file_name,label\ni/0.png,a\ni/1.png,b\n")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "i/0.png", "label": "c"}\n')
    with pytest.raises(ValueError, match=r"0\.png twice, with different values"):
        load_image_dataset(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "i/2.png", "label": "c"}\nno JSON\n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl cannot be read"):
        load_image_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["data/train/a/1.png", "data/train/b/1.png"], r"All images lie in the one folder .*data: .*splits, name it"),
        (
            ["training_set/a/1.png", "training_set/b/1.png", "test_set/a/1.png", "test_set/b/1.png"],
            "look like splits",
        ),
        (["train/1.png", "train/2.png"], r"no class folders to train on.*metadata\.csv"),
        (
            ["images/1.png", "images/2.png"],
            r"of one class, 'images': .*class's name.*\.csv files.*: 1 \(labels",
        ),
    ],
)
def test_layouts_that_would_give_wrong_classes_are_refused_with_what_to_do(tmp_path, names, message):
    write(tmp_path, *names)
    (tmp_path / "labels.csv").write_text("file,label\n")
    with pytest.raises(ValueError, match=message):
        load_image_dataset(tmp_path)


def test_unlabelled_validation_images_are_left_out(tmp_path):
    write(tmp_path, *classes("train/a/images", "train/b/images"), "val/images/1.png", "test/images/1.png")
    data, said = load(tmp_path, validation=0.3)
    assert {name: sum(counts(split).values()) for name, split in data.items()} == {"train": 4, "validation": 2}
    assert "images of validation in the folder images, which is no class of train: 1 (val/images/1.png)" in said


def test_thumbnails_of_file_servers_are_no_images_of_a_class(tmp_path):
    write(tmp_path, *classes("a", "b"), "a/@eaDir/0.png/SYNOPHOTO_THUMB.jpg", "b/$RECYCLE.BIN/1.png")
    data, said = load(tmp_path)
    assert counts(data["train"]) == {"a": 3, "b": 3}
    assert "hidden folders: 2 (such as a/@eaDir)" in said


def test_classes_that_differ_in_case_or_composition_are_named(tmp_path):
    data, said = load(write(tmp_path, *classes("Cat", "cat", "caf\u00e9", "cafe\u0301")))
    assert len(counts(data["train"])) == 4
    assert "'Cat' and 'cat' are two classes" in said
    assert said.count("two classes") == 2


def test_parquet_files_in_folders_of_splits(tmp_path):
    for split in ("train", "Test"):
        (tmp_path / split).mkdir()
        rows = {"image": [shade(40 * n) for n in range(4)], "label": ["a", "b"] * 2}
        features = Features({"image": ImageFeature(), "label": Value("string")})
        Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / split / "0000.parquet"))
    data, said = load(tmp_path)
    assert (said, {name: len(split) for name, split in data.items()}) == ("", {"train": 4, "test": 4})
    (tmp_path / "train").rename(tmp_path / "default")
    (tmp_path / "Test").rename(tmp_path / "other")
    with pytest.raises(ValueError, match=r"Parquet files are read from the folder that is named.*parquet files.*: 2"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        ("int64", [1, 2, 3, 1, 2, 3], ["1", "2", "3"]),
        ("int64", [7, 10, 1000, 7], ["7", "10", "1000"]),
        ("uint8", [5, 9], ["5", "9"]),
        ("bool", [True, False, True], ["false", "true"]),
        ("float64", [1.0, 3.0, 1.0], ["1", "3"]),
    ],
)
def test_numbers_and_booleans_are_classes_in_their_order(tmp_path, kind, labels, names):
    features = Features(image=ImageFeature(), label=Value(kind))
    images = [shade(8 * number) for number in range(len(labels))]
    Dataset.from_dict({"image": images, "label": labels}, features=features).to_parquet(tmp_path / "train.parquet")
    train = load_image_dataset(tmp_path, validation=0)["train"]
    assert train.features["label"].names == names
    wanted = [str(value).lower() if kind == "bool" else str(int(value)) for value in labels]
    assert [names[label] for label in train["label"]] == wanted


def test_a_test_split_without_labels_in_a_table_is_left_out(tmp_path):
    images = [shade(8 * number) for number in range(4)]
    features = Features(image=ImageFeature(), label=Value("int64"))
    Dataset.from_dict({"image": images, "label": [0, 1] * 2}, features=features).to_parquet(tmp_path / "train.parquet")
    for rows in ({"image": images, "label": [-1] * 4}, {"image": images}):
        kinds = Features({name: features[name] for name in rows})
        Dataset.from_dict(rows, features=kinds).to_parquet(tmp_path / "test.parquet")
        data, said = load(tmp_path)
        assert (list(data), said) == (["train"], "The split test has no labels and is left out.")


def test_one_image_a_class_cannot_be_split(tmp_path):
    write(tmp_path, *classes("a", "b", count=1))
    with pytest.raises(ValueError, match=r"validation split would be empty.*--validation 0"):
        load_image_dataset(tmp_path)
    assert counts(load(tmp_path)[0]["train"]) == {"a": 1, "b": 1}


def test_images_beside_parquet_files_are_named(tmp_path):
    features = Features(image=ImageFeature(), label=Value("int64"))
    rows = {"image": [shade(0), shade(9)], "label": [0, 1]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    write(tmp_path, "cat/1.png")
    assert "1 image files beside them are left out, the first cat/1.png" in load(tmp_path)[1]


def test_description_of_a_data_set(tmp_path):
    write(tmp_path, *classes("train/cat", "train/dog"), *classes("val/dog", count=2))
    Image.new("L", (40, 20)).save(tmp_path / "train/dog/3.png")
    data, _ = load(tmp_path)
    assert describe_dataset("pets", data).splitlines() == [
        "Data pets: images from 16×16 to 40×20 pixels",
        "  train: 7 images of 2 classes: cat (3), dog (4)",
        "  validation: 2 images of 1 class: dog (2)",
    ]


def test_photographs_and_masks_name_what_they_leave_out(tmp_path):
    write(tmp_path / "photos", "1.png", "a/2.avif")
    (tmp_path / "photos/b.xcf").write_bytes(b"gimp xcf v011")
    with pytest.warns(UserWarning, match=r"b\.xcf \(\.xcf files, which are not read as images\)"):
        assert len(load_photos([tmp_path / "photos"])) == 2
    write(tmp_path / "masks", "train/images/1.jp2", "train/images/2.png", "test/images/3.png", "extra/4.png")
    for number in (1, 2):
        (tmp_path / "masks/train/masks").mkdir(exist_ok=True)
        Image.new("L", (16, 16), number - 1).save(tmp_path / f"masks/train/masks/{number}.png")
    with pytest.warns(UserWarning, match="Left out of") as said:
        splits = load_mask_dataset(tmp_path / "masks", validation=0)
    assert {name: len(split) for name, split in splits.items()} == {"train": 2}
    assert "images of test without masks: 1 (test/images/3.png); images in other folders: 1 (extra/4.png)" in str(
        said[0].message
    )


def test_a_class_that_a_terminal_would_obey_is_refused(tmp_path):
    write(tmp_path, *classes("cat", "a\x1b[2J"))
    with pytest.raises(ValueError, match=r"The class 'a\\x1b\[2J' has control characters in its name: rename it\."):
        load_image_dataset(tmp_path)
