"""Prepared images: the very pixels that the processor makes, from memory, from disk and from a stream."""

import io
import pickle

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features
from PIL import Image
from torch.utils.data import DataLoader
from transformers import ViTImageProcessor

from hfvision import ImageClassificationProcessor, read_image
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import BadImageError, IterableImages, LazyImages, MemoryImages, prepare_images

SQUARE = ImageClassificationProcessor(size={"height": 12, "width": 10})


def photo(seed: int = 0, height: int = 15, width: int = 21, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def file(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def every_kind() -> list[bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(np.random.default_rng(5).integers(0, 65536, (15, 21)).astype(np.uint16))
    clear = photo(11).convert("P")
    return [
        file(photo(0)),
        file(photo(1), "JPEG", quality=80),
        file(photo(1, 30, 20), "JPEG", exif=turned),
        file(photo(2).convert("P")),
        file(clear, transparency=3),
        file(photo(3, channels=4)),
        file(photo(4, channels=1)),
        file(photo(4, channels=1).convert("1")),
        file(deep),
        file(photo(10).convert("LA")),
        file(photo(6).convert("CMYK"), "JPEG"),
        file(photo(7, 12, 10)),
        file(photo(8, 1, 2)),
        file(photo(9), "WEBP", lossless=True),
    ]


def make(files: list[bytes | None], labels: list[int] | None = None) -> Dataset:
    images = [data if data is None else {"bytes": data, "path": None} for data in files]
    labels = labels or [number % 2 for number in range(len(files))]
    features = Features(image=datasets.Image(), label=ClassLabel(names=["cat", "dog"]))
    return Dataset.from_dict({"image": images, "label": labels}, features=features, split="train")


def with_bad(count: int, *bad: int) -> Dataset:
    files: list[bytes | None] = [file(photo(number)) for number in range(count)]
    for number, row in enumerate(bad):
        files[row] = [b"no image", files[row][:100], None][number % 3]
    return make(files)


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in ("images", "labels", "index"):
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize(
    "processor",
    [
        SQUARE,
        ImageClassificationProcessor(
            size={"height": 12, "width": 10}, num_channels=1, image_mean=[0.3], image_std=[0.2]
        ),
        ImageClassificationProcessor(size={"shortest_edge": 13}, crop_size=9, do_center_crop=True, resample=3),
        ViTImageProcessor(size={"height": 8, "width": 8}),
    ],
    ids=["ours", "grey", "crop", "vit"],
)
def test_pixels_are_those_that_the_processor_normalises(processor):
    files = every_kind()
    prepared = prepare_images(make(files), processor)
    images = prepared.images
    assert (images.dtype, len(prepared), prepared.shape) == (torch.uint8, len(files), tuple(images.shape[1:]))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (processor.image_mean, processor.image_std))
    for data, got in zip(files, images, strict=True):
        picture = read_image(data)
        if isinstance(processor, ViTImageProcessor):
            if picture.mode not in ("RGB", "L"):
                continue
            picture = picture.convert("RGB")
        expected = processor(picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close((got / 255 - mean) / std, expected, atol=1e-6, rtol=1e-6)


def test_memory_and_disk_give_equal_batches():
    split = make(every_kind())
    memory, lazy = prepare_images(split, SQUARE), prepare_images(split, SQUARE, memory_limit=14 * 3 * 12 * 10 - 1)
    assert (type(memory), type(lazy)) == (MemoryImages, LazyImages)
    assert type(prepare_images(split, SQUARE, memory_limit=14 * 3 * 12 * 10)) is MemoryImages
    assert torch.equal(memory.labels, lazy.labels)
    assert memory.shape == lazy.shape == (3, 12, 10)
    rows = [3, 0, 13, 3]
    assert_equal(memory.__getitems__(rows), lazy.__getitems__(rows))
    assert memory.__getitems__(rows)["index"].tolist() == rows
    assert_equal(memory[2], lazy[2])
    assert memory[2]["images"].shape == (3, 12, 10)
    assert lazy.__getitems__(rows)["read"].all()
    assert_equal(pickle.loads(pickle.dumps(lazy))[5], memory[5])


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    split = make(every_kind())
    memory, lazy = prepare_images(split, SQUARE, num_proc=workers), prepare_images(split, SQUARE, memory_limit=0)
    batches = list(DataLoader(lazy, batch_size=4, num_workers=workers, collate_fn=dict))
    assert [len(batch["labels"]) for batch in batches] == [4, 4, 4, 2]
    for start, batch in zip(range(0, 14, 4), batches, strict=True):
        assert_equal(batch, memory.__getitems__(list(range(start, min(14, start + 4)))))


def test_a_chosen_part_of_a_split():
    split = make(every_kind())
    part = split.select([9, 2])
    both = prepare_images(part, SQUARE), prepare_images(part, SQUARE, memory_limit=0)
    whole = prepare_images(split, SQUARE)
    for prepared in both:
        assert torch.equal(prepared.__getitems__([0, 1])["images"], whole.images[[9, 2]])
        assert prepared.labels.tolist() == [1, 0]


def test_images_in_files(tmp_path):
    for number in range(4):
        (tmp_path / "pets" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / "ab"[number % 2] / f"{number}.png").write_bytes(file(photo(number)))
    train = load_image_dataset(tmp_path / "pets", validation=0)["train"]
    (tmp_path / "pets" / "b" / "1.png").unlink()
    prepared = prepare_images(train, SQUARE, on_bad_image="skip")
    assert prepared.labels.tolist() == [0, 0, 1]
    (reason,) = prepared.bad_images
    assert reason.startswith(f"Row 2 of the split train ({tmp_path / 'pets' / 'b' / '1.png'}) cannot be read: ")


@pytest.mark.parametrize("memory_limit", [0, 2**20])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [(b"no image", "is not an image"), (file(photo(1))[:300], "damaged or cut off"), (None, "no image")],
)
def test_a_bad_image_stops_and_is_named(memory_limit, bad, reason):
    files = [file(photo(number)) for number in range(6)]
    files[4] = bad
    with pytest.raises(ValueError, match=rf"^Row 4 of the split train cannot be read: .*{reason}"):
        prepare_images(make(files), SQUARE, memory_limit=memory_limit).__getitems__([0, 4])


def test_a_bad_image_in_a_worker_is_named_without_a_traceback():
    lazy = prepare_images(with_bad(6, 4), SQUARE, memory_limit=0)
    with pytest.raises(BadImageError, match=r"^Row 4 of the split train cannot be read: [^\n]+$"):
        list(DataLoader(lazy, batch_size=3, num_workers=1, collate_fn=dict))
    with pytest.raises(BadImageError, match=r"^Row 4 of the split train cannot be read: [^\n]+$"):
        prepare_images(with_bad(6, 4), SQUARE, num_proc=2)


@pytest.mark.parametrize("num_proc", [None, 2])
def test_bad_images_are_left_out_of_memory(num_proc):
    prepared = prepare_images(with_bad(9, 0, 1, 5), SQUARE, on_bad_image="skip", num_proc=num_proc)
    good = [2, 3, 4, 6, 7, 8]
    assert len(prepared) == 6
    assert prepared.__getitems__(list(range(6)))["index"].tolist() == good
    assert prepared.labels.tolist() == [row % 2 for row in good]
    assert torch.equal(prepared.images, prepare_images(make([file(photo(n)) for n in range(9)]), SQUARE).images[good])
    assert [reason.split(":")[0] for reason in prepared.bad_images] == [
        f"Row {row} of the split train cannot be read" for row in (0, 1, 5)
    ]


def test_the_next_readable_image_takes_the_place_of_a_bad_one():
    split = with_bad(9, 0, 1, 5, 8)
    lazy = prepare_images(split, SQUARE, memory_limit=0, on_bad_image="skip")
    batch = lazy.__getitems__([0, 1, 2, 5, 8])
    assert batch["index"].tolist() == [2, 2, 2, 6, 2]
    assert batch["read"].tolist() == [False, False, True, False, False]
    assert batch["labels"].tolist() == [0, 0, 0, 0, 0]
    assert torch.equal(batch["images"][0], batch["images"][2])


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_no_readable_image(memory_limit):
    with pytest.raises(ValueError, match="None of the 3 images of the split train can be read"):
        prepare_images(with_bad(3, 0, 1, 2), SQUARE, memory_limit=memory_limit, on_bad_image="skip")
    with pytest.raises(ValueError, match="split train has no images"):
        prepare_images(make([file(photo())]).select([]), SQUARE)


@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_processors_that_give_no_one_size_are_refused(memory_limit):
    split = make([file(photo(0, 15, 21)), file(photo(1, 15, 21)), file(photo(2, 15, 30))])
    processor = ImageClassificationProcessor(size={"shortest_edge": 10})
    with pytest.raises(ValueError, match=r"images of 10×14 and 10×20 pixels: set its size"):
        prepare_images(split, processor, memory_limit=memory_limit).__getitems__([0, 1, 2])


def test_streams():
    split = make(every_kind() * 2)
    stream = split.to_iterable_dataset(num_shards=2)
    whole = prepare_images(split, SQUARE)
    memory = prepare_images(stream, SQUARE)
    assert torch.equal(memory.images, whole.images)
    assert torch.equal(memory.labels, whole.labels)
    with pytest.raises(ValueError, match="does not fit into"):
        prepare_images(stream, SQUARE, memory_limit=1000)

    def take(count: int, epoch: int = 0, **options) -> list[dict[str, torch.Tensor]]:
        images = IterableImages(stream, SQUARE, buffer_size=5, **options)
        images.set_epoch(epoch)
        return [item for item, _ in zip(images, range(count), strict=False)]

    def order(items: list[dict[str, torch.Tensor]]) -> list[int]:
        return [int(item["index"]) for item in items]

    items = take(28)
    known = {image.numpy().tobytes(): label for image, label in zip(whole.images, whole.labels.tolist(), strict=True)}
    assert all(known[item["images"].numpy().tobytes()] == int(item["labels"]) for item in items)
    assert len(set(order(items))) == 14
    assert order(take(28)) == order(items)
    assert sorted(order(take(28, epoch=1))) == sorted(order(items))
    assert order(take(28, epoch=1)) != order(items) != order(take(28, seed=1))
    assert sorted(order(take(56))[28:]) == sorted(order(items))
    for processes in (2, 3):
        shares = [take(28 // processes, process_index=rank, num_processes=processes) for rank in range(processes)]
        indices = [index for share in shares for index in order(share)]
        assert max(indices.count(index) for index in indices) <= 2


def test_workers_share_a_stream():
    files = [file(photo(number)) for number in range(12)]
    images = IterableImages(make(files).to_iterable_dataset(num_shards=2), SQUARE)
    loader = DataLoader(images, batch_size=6, num_workers=2)
    batches = [batch for batch, _ in zip(loader, range(2), strict=False)]
    assert len(set(torch.cat([batch["index"] for batch in batches]).tolist())) == 12
    assert batches[0]["images"].shape == (6, 3, 12, 10)


def test_bad_images_and_labels_of_streams():
    stream = with_bad(6, 4).to_iterable_dataset()
    with pytest.raises(BadImageError, match=r"^Image \d of the stream data cannot be read: The image is not an image"):
        list(zip(IterableImages(stream, SQUARE), range(6), strict=False))
    assert len(prepare_images(stream, SQUARE, on_bad_image="skip").bad_images) == 1
    kept = [item for item, _ in zip(IterableImages(stream, SQUARE, on_bad_image="skip"), range(5), strict=False)]
    assert len({int(item["index"]) for item in kept}) == 5
    with pytest.raises(ValueError, match="None of the 2 images"):
        next(iter(IterableImages(with_bad(2, 0, 1).to_iterable_dataset(), SQUARE, on_bad_image="skip")))
    with pytest.raises(ValueError, match="0 to 1, but the stream data has -1"):
        list(
            zip(
                IterableImages(make([file(photo())] * 2, [0, -1]).to_iterable_dataset(), SQUARE),
                range(2),
                strict=False,
            )
        )
