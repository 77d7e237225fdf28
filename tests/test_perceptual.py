import io

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import gaussian_blur, pil_to_tensor

from hfvision.data.datasets.samples import sample_photos
from hfvision.metrics.perceptual import feature_distance
from hfvision.tasks.super_resolution.perceptual import PerceptualLoss, perceptual_distance


@pytest.fixture(scope="module")
def photo():
    image = Image.open(sample_photos()["astronaut"]).convert("RGB")
    return pil_to_tensor(image)[None, :, :192, :192].float() / 255


def noisy(image, sigma):
    return (image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def through_jpeg(image, quality):
    buffer = io.BytesIO()
    pixels = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return pil_to_tensor(Image.open(buffer))[None].float() / 255


def test_distance_grows_with_blur_noise_and_compression(photo):
    assert perceptual_distance(photo, photo).item() == 0
    for damage, grades in (
        (lambda x, s: gaussian_blur(x, [21, 21], [s, s]), (0.5, 1.0, 2.0, 4.0)),
        (noisy, (0.01, 0.03, 0.1)),
        (through_jpeg, (90, 50, 20, 5)),
    ):
        distances = [perceptual_distance(damage(photo, grade), photo).item() for grade in grades]
        assert distances == sorted(distances), distances
        assert distances[0] > 0


def test_distance_takes_batches_grey_images_and_borders(photo):
    pair = torch.cat([photo, noisy(photo, 0.1)])
    distances = perceptual_distance(pair, photo.expand(2, -1, -1, -1))
    assert distances.shape == (2,)
    assert distances[0] < 1e-6 < distances[1]
    grey = photo.mean(1, keepdim=True)
    assert perceptual_distance(noisy(grey, 0.1), grey).item() > 0
    framed = photo.clone()
    framed[..., :4, :] = 0
    assert perceptual_distance(framed, photo, crop=4).item() == 0


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 63), "one shape"),
        (torch.rand(1, 3, 64, 64) * 255, torch.rand(1, 3, 64, 64), r"\[0, 1\]"),
        (torch.rand(1, 3, 31, 64), torch.rand(1, 3, 31, 64), "32 pixels"),
    ],
)
def test_distance_refuses_what_cannot_be_compared(prediction, target, message):
    with pytest.raises(ValueError, match=message):
        perceptual_distance(prediction, target)


def test_feature_distance_is_that_of_unit_vectors():
    a = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    b = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1)
    torch.testing.assert_close(feature_distance([a, a], [b, 2 * a]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="stages"):
        feature_distance([], [])
    with pytest.raises(ValueError, match="shapes"):
        feature_distance([a], [torch.zeros(1, 3, 1, 1)])


def test_loss_has_a_gradient_for_the_restored_image_only(photo):
    loss = PerceptualLoss.from_pretrained("cnn-cifar10-small")
    restored, target = noisy(photo, 0.05).requires_grad_(), photo.clone().requires_grad_()
    loss(restored, target).backward()
    assert restored.grad.abs().sum() > 0
    assert restored.grad.isfinite().all()
    assert target.grad is None
