import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor

from hfvision import read_image, sample_photos
from hfvision.metrics.niqe import niqe
from hfvision.metrics.psnr import rgb_to_y

# By basicsr 1.4.2 (`basicsr.metrics.niqe.niqe`) on the 8-bit luma, without 4 pixels at each side.
REFERENCE = {
    "astronaut": 2.9913,
    "cat": 2.6893,
    "coffee": 4.0794,
    "elephant": 4.1282,
    "grapefruit": 3.7121,
    "rocket": 6.7331,
}


def photo(name):
    return pil_to_tensor(read_image(sample_photos()[name]).convert("RGB"))[None].float() / 255


@pytest.mark.parametrize("name", REFERENCE)
def test_agrees_with_basicsr(name):
    assert niqe(photo(name), crop=4).item() == pytest.approx(REFERENCE[name], abs=0.005)


def test_an_image_of_a_batch_counts_as_alone():
    batch = torch.cat([photo("astronaut"), photo("astronaut").flip(3), photo("astronaut").mT])
    together = niqe(batch)
    assert together.shape == (3,)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, torch.cat([niqe(image[None]) for image in batch]), rtol=1e-9, atol=0)


def test_colour_counts_by_its_luma_and_what_is_cropped_does_not_count():
    cat = photo("cat")
    torch.testing.assert_close(niqe(cat), niqe(rgb_to_y(cat.double())))
    framed = torch.nn.functional.pad(cat, (5, 5, 5, 5), value=1.0)
    torch.testing.assert_close(niqe(framed, crop=5), niqe(cat))


@pytest.mark.parametrize("name", ["astronaut", "cat", "coffee"])
def test_blur_and_noise_are_less_natural(name):
    original = photo(name)
    noise = 0.1 * torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    for worse in (gaussian_blur(original, 9, 2.0), (original + noise).clamp(0, 1)):
        assert niqe(worse).item() > niqe(original).item() + 1


def test_flat_images_have_no_naturalness():
    images = torch.cat([torch.full((1, 3, 192, 192), 0.3), photo("astronaut")[..., :192, :192]])
    assert niqe(images).isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("images", "crop", "message"),
    [
        (torch.rand(1, 3, 96, 191), 0, "height 96, width 191"),
        (torch.rand(1, 3, 100, 192), 4, "height 92, width 184 after crop=4"),
        (torch.rand(1, 3, 192, 192) * 255, 0, r"\[0, 1\]"),
        (torch.rand(3, 192, 192), 0, "shape"),
        (torch.rand(1, 2, 192, 192), 0, "1 or 3 channels"),
    ],
)
def test_bad_images_are_refused(images, crop, message):
    with pytest.raises(ValueError, match=message):
        niqe(images, crop=crop)


def test_metric_averages_over_images_of_several_sizes(tmp_path):
    from hfvision.metrics.evaluate_metrics import NIQE

    images = [photo("cat")[..., :200, :300], photo("coffee")[..., :220, :220]]
    metric = NIQE(cache_dir=str(tmp_path))
    for image in images:
        metric.add_batch(predictions=image)
    expected = torch.cat([niqe(image, crop=2) for image in images]).mean().item()
    assert metric.compute(crop=2)["niqe"] == pytest.approx(expected, abs=1e-3)
