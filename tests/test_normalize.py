import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from transformers import EfficientNetImageProcessor, ViTImageProcessor

from hfvision import ImageClassificationProcessor
from hfvision.data.transforms.normalize import Normalize

SIZE = {"height": 16, "width": 16}
PROCESSORS = {
    "imagenet": ImageClassificationProcessor(size=SIZE),
    "grey": ImageClassificationProcessor(size=SIZE, num_channels=1, image_mean=[0.2860], image_std=[0.3530]),
    "vit": ViTImageProcessor(size=SIZE, image_mean=[0.1, 0.2, 0.9], image_std=[0.3, 0.2, 0.1]),
    "rescaled alone": ViTImageProcessor(size=SIZE, do_normalize=False),
    "normalised alone": ViTImageProcessor(size=SIZE, do_rescale=False, image_mean=[120.0] * 3, image_std=[60.0] * 3),
    "normalised twice": EfficientNetImageProcessor(size=SIZE, do_center_crop=False, include_top=True),
}


@pytest.fixture
def images():
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [to_pil_image(image) for image in pixels]


@pytest.mark.parametrize("name", PROCESSORS)
def test_equals_what_the_processor_does(name, images):
    processor = PROCESSORS[name]
    if name == "grey":
        images = [image.convert("L") for image in images]
    expected = processor(images, return_tensors="pt")["pixel_values"]
    pixels = torch.stack([pil_to_tensor(image) for image in images])
    normalize = Normalize.from_processor(processor)
    torch.testing.assert_close(normalize(pixels), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normalize(pixels.float() / 255), expected, rtol=1e-6, atol=1e-6)
    assert normalize(pixels.double() / 255).dtype == torch.float32


def test_says_mean_and_std():
    normalize = Normalize.from_processor(ViTImageProcessor(image_mean=[0.1, 0.2, 0.9], image_std=[0.3, 0.2, 0.1]))
    assert normalize.mean == pytest.approx((0.1, 0.2, 0.9), rel=1e-6)
    assert normalize.std == pytest.approx((0.3, 0.2, 0.1), rel=1e-6)


def test_is_differentiable():
    images = torch.rand(1, 3, 4, 4, requires_grad=True)
    Normalize((0.5, 0.5, 0.5), (0.5, 0.25, 0.1))(images).sum().backward()
    assert images.grad[0, :, 0, 0].tolist() == pytest.approx([2, 4, 10])


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5, 0.5)), ((), ()), ((0.5,), (0.0,))])
def test_refuses_numbers_that_do_not_fit(mean, std):
    with pytest.raises(ValueError, match="mean and std"):
        Normalize(mean, std)


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 8, 8), (1, 4, 8, 8)])
def test_refuses_other_channels(shape):
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        Normalize((0.5,) * 3, (0.5,) * 3)(torch.zeros(shape, dtype=torch.uint8))


def test_refuses_a_processor_that_loses_everything():
    class Blank(ImageClassificationProcessor):
        def _preprocess(self, images, **kwargs):
            return super()._preprocess([torch.zeros_like(image) for image in images], **kwargs)

    with pytest.raises(ValueError, match="Blank makes black and white the same"):
        Normalize.from_processor(Blank())
