import hashlib

import numpy as np
import pytest

from hfvision.data.datasets.samples import SAMPLES, sample_dataset, sample_photos


@pytest.fixture(scope="module")
def fashion():
    return sample_dataset()


def pixel_hashes(split):
    return {hashlib.sha256(image.tobytes()).hexdigest() for image in split["image"]}


@pytest.mark.parametrize(("split", "per_class"), [("train", 600), ("test", 100)])
def test_fashion_mnist_is_balanced_and_its_images_are_all_different(fashion, split, per_class):
    data = fashion[split]
    assert np.bincount(data["label"]).tolist() == [per_class] * 10
    assert {(image.size, image.mode) for image in data["image"]} == {((28, 28), "L")}
    assert len(pixel_hashes(data)) == len(data)


def test_train_and_test_share_no_picture(fashion):
    assert not pixel_hashes(fashion["train"]) & pixel_hashes(fashion["test"])


def test_classes_have_names_and_come_mixed(fashion):
    assert fashion["train"].features["label"].names[:2] == ["T-shirt/top", "Trouser"]
    assert len(set(fashion["train"]["label"][:100])) == 10


def test_shipped_files_are_small_and_carry_their_terms():
    assert sum(file.stat().st_size for file in (SAMPLES / "fashion_mnist").glob("*.parquet")) <= 3_000_000
    assert "2017 Zalando SE" in (SAMPLES / "fashion_mnist" / "LICENSE").read_text()
    assert sum(path.stat().st_size for path in sample_photos().values()) <= 2_200_000
    sources = (SAMPLES / "photos" / "SOURCES.txt").read_text()
    assert all(path.name in sources for path in sample_photos().values())


def test_every_photo_in_the_folder_has_a_name():
    shipped = {path for path in (SAMPLES / "photos").iterdir() if path.name != "SOURCES.txt"}
    assert set(sample_photos().values()) == shipped


def test_unknown_sample_set_lists_what_there_is():
    with pytest.raises(ValueError, match=r"mnist3.*fashion_mnist"):
        sample_dataset("mnist3")
