"""Images with masks: where they are found, what their values mean, what is refused, and that crops stay aligned."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from hfvision import MaskAugmentation, load_mask_dataset
from hfvision.data.datasets.mask_crops import MaskedCrops
from hfvision.data.datasets.segmentation import MaskedImages, name_classes, read_mask, show_mask
from hfvision.metrics.overlap import overlap


def picture(size=(12, 10), seed=0, value=None):
    """An image whose red channel says where its mask is 1."""
    rng = np.random.default_rng(seed)
    mask = rng.random((size[1], size[0])) < 0.4
    pixels = np.stack([mask * 255, *rng.integers(0, 255, (2, size[1], size[0]))], -1).astype(np.uint8)
    return Image.fromarray(pixels), Image.fromarray((mask * (value or 255)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    for part in ("images", "masks"):
        (tmp_path / "cells" / part).mkdir(parents=True)
    for number in range(6):
        image, mask = picture((12 + number, 10), number)
        image.save(tmp_path / "cells" / "images" / f"{number}.webp", lossless=True)
        mask.save(tmp_path / "cells" / "masks" / f"{number}.png")
    return tmp_path / "cells"


def read(folder, **options):
    splits = load_mask_dataset(folder, **options)
    return {name: MaskedImages(split) for name, split in splits.items()}


def test_two_folders_are_paired_by_name_and_split_by_the_seed(folder):
    images = read(folder, validation=0.3)
    assert {name: len(part) for name, part in images.items()} == {"train": 4, "validation": 2}
    assert name_classes(images) == ["background", "foreground"]
    for part in images.values():
        for pixels, mask in part:
            assert pixels.shape[1:] == mask.shape
            assert torch.equal(pixels[0] == 255, mask == 1)
    again = load_mask_dataset(folder, validation=0.3)["validation"][:]["image"]
    assert again == load_mask_dataset(folder, validation=0.3)["validation"][:]["image"]
    assert again != load_mask_dataset(folder, validation=0.3, seed=1)["validation"][:]["image"]


def test_folders_of_splits_need_no_other_validation(folder, tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split).symlink_to(folder)
    assert {name: len(part) for name, part in read(tmp_path / "data").items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }


def parquet(path, rows, names=("image", "mask")):
    features = datasets.Features(**{name: datasets.Image() for name in names}, kind=datasets.Value("string"))
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def test_parquet_columns_are_found_and_others_kept_and_groups_not_split(tmp_path):
    rows = []
    for number in range(8):
        image, mask = picture(seed=number)
        rows.append({"img": image, "annotation": mask, "kind": "abc"[number % 3]})
    parquet(tmp_path / "train.parquet", rows, ("img", "annotation"))
    splits = load_mask_dataset(tmp_path, validation=0.2, validation_group="kind")
    assert splits["train"].column_names == ["image", "mask", "kind"]
    assert not set(splits["train"]["kind"][:]) & set(splits["validation"]["kind"][:])
    with pytest.raises(ValueError, match="no column 'patient'; there are: image, mask, kind"):
        load_mask_dataset(tmp_path, validation_group="patient")
    with pytest.raises(ValueError, match="no column 'segm'"):
        load_mask_dataset(tmp_path, mask_column="segm")
    parquet(tmp_path / "train.parquet", [{"a": picture()[0], "b": picture()[1], "kind": "x"}] * 3, ("a", "b"))
    with pytest.raises(ValueError, match="No column is known as the mask: choose with --mask-column one of a, b"):
        load_mask_dataset(tmp_path)
    assert len(load_mask_dataset(tmp_path, mask_column="b")["train"]) == 2


def test_hub_data_set(hub, tmp_path):
    rows = [dict(zip(("image", "mask"), picture(seed=i), strict=True), kind="x") for i in range(4)]
    parquet(tmp_path / "train.parquet", rows)
    from huggingface_hub import HfApi

    HfApi().create_repo("ada/cells", repo_type="dataset")
    HfApi().upload_file(
        path_or_fileobj=tmp_path / "train.parquet",
        path_in_repo="data/train-00000-of-00001.parquet",
        repo_id="ada/cells",
        repo_type="dataset",
    )
    assert {name: len(part) for name, part in load_mask_dataset("ada/cells", validation=0.25).items()} == {
        "train": 3,
        "validation": 1,
    }


def test_what_is_missing_is_said_in_a_sentence(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder nowhere"):
        load_mask_dataset("nowhere")
    (folder / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"images/3\.webp has no mask of the same name beside it\.$"):
        load_mask_dataset(folder)
    (folder / "images" / "3.webp").unlink()
    (folder / "images" / "2.webp").unlink()
    with pytest.raises(ValueError, match=r"masks/2\.png has no image of the same name"):
        load_mask_dataset(folder)
    for file in (folder / "masks").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"masks holds no masks\. Put images into .*/images and masks"):
        load_mask_dataset(folder)
    (folder / "masks").rmdir()
    with pytest.raises(ValueError, match="has no folder of masks"):
        load_mask_dataset(folder)


def test_pairs_of_different_sizes_and_damaged_files_are_refused(folder):
    Image.new("L", (3, 4)).save(folder / "masks" / "2.png")
    with pytest.raises(ValueError, match=r"mask of row 2 of train \(.*2\.webp\) has 3×4 pixels and its image 14×10"):
        read(folder, validation=0)
    (folder / "masks" / "2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"The mask of row 2 of train .*cannot be read: .*not an image"):
        read(folder, validation=0)


def test_values_are_classes_by_number_by_palette_or_black_and_white(tmp_path):
    def stored(image):
        image.save(tmp_path / "mask.png")
        return read_mask((tmp_path / "mask.png").read_bytes())

    values = np.array([[0, 1], [2, 255]], np.uint8)
    grey = Image.fromarray(values)
    assert np.array_equal(stored(grey), values)
    assert np.array_equal(stored(grey.convert("RGB")), values)
    assert np.array_equal(stored(Image.fromarray(values.astype(np.uint16))), values)
    assert np.array_equal(
        stored(show_mask(torch.tensor([[0, 1], [2, 1]]), [(0, 0, 0), (9, 8, 7), (1, 2, 3)])), [[0, 1], [2, 1]]
    )
    assert np.array_equal(stored(Image.fromarray(values > 1)), [[0, 0], [1, 1]])
    with pytest.raises(ValueError, match="it has colours"):
        stored(Image.new("RGB", (2, 2), "red"))
    with pytest.raises(ValueError, match="values must be 0 to 255, got 0 to 700"):
        stored(Image.fromarray(np.array([[0, 700]], np.uint16)))


def with_values(folder, *values):
    for number, value in enumerate(values):
        mask = np.zeros((10, 12 + number), np.uint8)
        mask[:2] = value
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    for number in range(len(values), 6):
        Image.new("L", (12 + number, 10)).save(folder / "masks" / f"{number}.png")
    return read(folder, validation=0)


def test_classes_are_named_and_values_out_of_range_refused(folder):
    assert name_classes(with_values(folder, 1, 2, 255)) == ["0", "1", "2"]
    images = with_values(folder, 1, 255)
    assert name_classes(images, ["sky", "sea", "ship"]) == ["sky", "sea", "ship"]
    assert set(images["train"].values) == {0, 1, 255}
    assert images["train"][1][1].max() == 255, "does not count"
    with pytest.raises(ValueError, match=r"row 1 of train .* has the value 7: with 3 classes, masks hold 0 to 2"):
        name_classes(with_values(folder, 1, 7), ["sky", "sea", "ship"])
    with pytest.raises(ValueError, match=r"values 0, 1, 9, but none has 2: .*name all classes with --classes"):
        name_classes(with_values(folder, 1, 9))
    with pytest.raises(ValueError, match="two classes or more"):
        name_classes(with_values(folder))


def test_images_beyond_the_memory_limit_are_read_again_and_the_same(folder):
    rows = load_mask_dataset(folder, validation=0)["train"]
    all_held, none_held = MaskedImages(rows), MaskedImages(rows, memory_limit=0)
    assert (len(all_held.held), len(none_held.held)) == (6, 0)
    for (a, b), (c, d) in zip(all_held, none_held, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    assert MaskedImages(rows, num_channels=1)[0][0].shape == (1, 10, 12)


def smooth_pair():
    """A disc that is red, on blue, off the centre: after any turn and zoom, red pixels are those of the mask."""
    y, x = torch.meshgrid(torch.arange(80), torch.arange(100), indexing="ij")
    mask = ((y - 30) ** 2 + (x - 60) ** 2 < 18**2).to(torch.uint8)
    return torch.stack([mask * 255, mask * 0, 255 - mask * 255]), mask


@pytest.mark.parametrize(
    "augmentation",
    [
        MaskAugmentation(flip=False, turn=False, zoom=0, light=0, colour=0),
        MaskAugmentation(flip=True, turn=True, zoom=0, light=0, colour=0),
        MaskAugmentation(flip=True, turn=True, rotation=180, zoom=1, light=0, colour=0),
    ],
)
def test_image_and_mask_stay_aligned_under_augmentation(augmentation):
    crops = MaskedCrops([smooth_pair()], 32, augmentation, count=40)
    inside = 0
    for item in crops:
        image, labels = item["images"].float(), item["labels"]
        assert image.shape == (3, 32, 32)
        assert labels.shape == (32, 32)
        counts = labels != 255
        red = (image[0] > image[2])[counts].long()
        agree = (red == labels[counts]).float().mean() if counts.any() else 1
        assert agree > 0.97, "only pixels on the disc's edge may differ"
        assert (image[:, ~counts] < 128).all(), "what does not count is what lies beyond the image"
        inside += int((labels == 1).any())
    assert inside > 8, "the disc must be seen for the test to mean something"
    assert len({int(item["labels"].sum()) for item in crops}) > 10


def test_small_images_are_padded_with_pixels_that_do_not_count():
    image, mask = torch.full((3, 10, 12), 9, dtype=torch.uint8), torch.ones(10, 12, dtype=torch.uint8)
    item = MaskedCrops([(image, mask)], 32, MaskAugmentation(zoom=0, light=0, colour=0))[0]
    assert (item["labels"] == 1).sum() == 120
    assert (item["labels"] == 255).sum() == 32 * 32 - 120
    assert torch.equal(item["images"][0] == 9, item["labels"] == 1)


def test_crops_depend_on_seed_epoch_and_index_alone():
    def crop(seed=0, epoch=0, index=0):
        crops = MaskedCrops([smooth_pair()], 32, MaskAugmentation(), count=9, seed=seed)
        crops.set_epoch(epoch)
        return crops[index]["images"]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = crop()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, crop())
    for other in (crop(seed=1), crop(epoch=1), crop(index=1)):
        assert not torch.equal(first, other)


def test_the_edge_of_an_image_is_learned_too():
    """Crops that are cut to size after a rotation would otherwise never show the image's corner."""
    mask = torch.zeros(64, 64, dtype=torch.uint8)
    mask[:2, :2] = 1
    crops = MaskedCrops([(mask.expand(3, -1, -1), mask)], 48, MaskAugmentation(zoom=0.5, rotation=30), count=150)
    assert sum(int(overlap(item["labels"], item["labels"], 2)[1, 2] > 0) for item in crops) > 5


def test_augmentation_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match=r"zoom must be from 0 \(off\) to 3, got 4"):
        MaskAugmentation(zoom=4)
