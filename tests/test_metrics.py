import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hfvision.metrics.accuracy import accuracy, wilson_interval
from hfvision.metrics.calibration import expected_calibration_error, negative_log_likelihood
from hfvision.metrics.psnr import psnr, rgb_to_y
from hfvision.metrics.ssim import ssim


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 24, 31, generator=generator, dtype=torch.float64)
    return (target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64)).clamp(0, 1), target


def luma(image, crop=0):
    """(3, H, W) to the 0..255 luma of scikit-image, cropped."""
    y = rgb2ycbcr(image.permute(1, 2, 0).numpy())[..., 0]
    return y[crop : y.shape[0] - crop, crop : y.shape[1] - crop]


def skimage_ssim(a, b, **options):
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, **options
    )


def test_luma_is_bt601(pair):
    np.testing.assert_allclose(255 * rgb_to_y(pair[0])[0, 0], luma(pair[0][0]), atol=1e-9)


@pytest.mark.parametrize("crop", [0, 3])
def test_psnr_on_luma_agrees_with_scikit_image(pair, crop):
    expected = [
        peak_signal_noise_ratio(luma(b, crop), luma(a, crop), data_range=255) for a, b in zip(*pair, strict=True)
    ]
    np.testing.assert_allclose(psnr(*pair, crop=crop), expected, rtol=1e-9)


def test_psnr_on_rgb_agrees_with_scikit_image(pair):
    expected = [peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(psnr(*pair, y_channel=False), expected, rtol=1e-9)


def test_psnr_of_a_known_error():
    assert psnr(torch.full((1, 1, 4, 4), 0.6), torch.full((1, 1, 4, 4), 0.5)).item() == pytest.approx(20, abs=1e-5)


def test_grey_stays_grey():
    grey = torch.rand(1, 1, 12, 12)
    assert psnr(grey, grey * 0.5).item() == psnr(grey, grey * 0.5, y_channel=False).item()


@pytest.mark.parametrize("crop", [0, 3])
def test_ssim_on_luma_agrees_with_scikit_image(pair, crop):
    expected = [skimage_ssim(luma(a, crop), luma(b, crop)) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(ssim(*pair, crop=crop), expected, rtol=1e-9)


def test_ssim_on_rgb_agrees_with_scikit_image(pair):
    expected = [skimage_ssim(255 * a.numpy(), 255 * b.numpy(), channel_axis=0) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(ssim(*pair, y_channel=False), expected, rtol=1e-9)


def test_identical_images(pair):
    assert torch.isposinf(psnr(pair[1], pair[1])).all()
    torch.testing.assert_close(ssim(pair[1], pair[1]), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[..., :-1], "shape"),
        (lambda x: x[0], "shape"),
        (lambda x: x + 0.002, r"\[0, 1\]"),
        (lambda x: x * 255, r"\[0, 1\]"),
        (lambda x: torch.full_like(x, float("nan")), r"\[0, 1\]"),
        (lambda x: (x * 255).byte(), "divide by 255"),
    ],
)
def test_bad_images_are_refused(metric, change, message):
    target = torch.ones(1, 3, 16, 16)
    with pytest.raises(ValueError, match=message):
        metric(change(target), target)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_a_crop_that_leaves_too_little_is_refused(metric):
    with pytest.raises(ValueError, match="crop=8"):
        metric(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16), crop=8)


def test_ssim_refuses_images_below_its_window():
    with pytest.raises(ValueError, match="11×11"):
        ssim(torch.rand(1, 1, 10, 20), torch.rand(1, 1, 10, 20))


def test_accuracy_of_logits():
    logits = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    labels = torch.tensor([1, 2, 2, 2])
    assert [accuracy(logits, labels, top_k=k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_accuracy_of_labels():
    assert accuracy(torch.tensor([3, 1, 2]), torch.tensor([3, 1, 1])) == pytest.approx(2 / 3)


def test_equal_logits_do_not_count_as_right():
    assert accuracy(torch.zeros(4, 10), torch.tensor([0, 3, 5, 9])) == 0.25


@pytest.mark.parametrize(
    ("predictions", "labels", "top_k", "message"),
    [
        (torch.rand(2, 3), torch.tensor([0, 3]), 1, "do not fit logits of 3 classes"),
        (torch.rand(2, 3), torch.tensor([0, -1]), 1, "do not fit"),
        (torch.rand(2, 3), torch.tensor([0, 1, 1]), 1, "For 3 labels"),
        (torch.rand(2, 3), torch.tensor([0.0, 1.0]), 1, "integers"),
        (torch.rand(0, 3), torch.tensor([], dtype=torch.long), 1, "one or more"),
        (torch.rand(2, 3), torch.tensor([0, 1]), 4, "top_k"),
        (torch.tensor([0, 1]), torch.tensor([0, 1]), 5, "top_k=5"),
        (torch.rand(2), torch.tensor([0, 1]), 1, "must be integers"),
        (torch.full((2, 3), float("nan")), torch.tensor([0, 1]), 1, "NaN"),
    ],
)
def test_accuracy_refuses_what_does_not_fit(predictions, labels, top_k, message):
    with pytest.raises(ValueError, match=message):
        accuracy(predictions, labels, top_k=top_k)


def test_interval_of_wilson():
    """Its ends are where |share - p| = z·sqrt(p(1 - p)/images)."""
    for share, images in ((0.9, 1000), (0.0, 10), (1.0, 10), (0.3, 7)):
        z = 1.959964
        a, b, c = 1 + z**2 / images, -(2 * share + z**2 / images), share**2
        roots = [(-b + sign * (b**2 - 4 * a * c) ** 0.5) / (2 * a) for sign in (-1, 1)]
        assert wilson_interval(share, images) == pytest.approx(roots, abs=1e-6)


def test_functions_do_not_import_evaluate():
    modules = ", ".join(
        f"hfvision.metrics.{name}" for name in ("accuracy", "auroc", "calibration", "confusion", "psnr", "ssim")
    )
    code = f"import sys, {modules}; print('evaluate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def metrics(tmp_path):
    from hfvision.metrics import evaluate_metrics

    names = ("PSNR", "SSIM", "Accuracy", "AUROC", "CalibrationError", "NegativeLogLikelihood", "ConfusionMatrix")
    return {name: getattr(evaluate_metrics, name)(cache_dir=str(tmp_path)) for name in names}


def test_image_metrics_average_over_batches_and_sizes(metrics, pair):
    small = [x[:, :, :16, :16] for x in pair]
    for name, function in (("PSNR", psnr), ("SSIM", ssim)):
        metrics[name].add_batch(predictions=pair[0], references=pair[1])
        metrics[name].add(prediction=small[0][0], reference=small[1][0])
        expected = torch.cat([function(*pair, crop=2), function(small[0][:1], small[1][:1], crop=2)]).mean().item()
        assert metrics[name].compute(crop=2)[name.lower()] == pytest.approx(expected, rel=1e-4)


def test_accuracy_metric_takes_logits_and_labels(metrics):
    logits, labels = torch.eye(10)[:4], torch.tensor([0, 1, 2, 9])
    assert metrics["Accuracy"].compute(predictions=logits, references=labels) == {
        "accuracy": 0.75,
        "top5_accuracy": 0.75,
    }
    assert metrics["Accuracy"].compute(predictions=[1, 2], references=[1, 1]) == {"accuracy": 0.5}


def test_auroc_metric_takes_scores(metrics):
    metrics["AUROC"].add_batch(predictions=[0.1, 0.4], references=[0, 0])
    metrics["AUROC"].add_batch(predictions=[0.35, 0.8], references=[1, 1])
    assert metrics["AUROC"].compute() == {"auroc": 0.75}


def test_calibration_metrics_take_logits_in_batches(metrics):
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]]), torch.tensor([0, 0, 1])
    for name, key, function in (
        ("CalibrationError", "ece", expected_calibration_error),
        ("NegativeLogLikelihood", "nll", negative_log_likelihood),
    ):
        metrics[name].add_batch(predictions=logits[:2], references=labels[:2])
        metrics[name].add_batch(predictions=logits[2:], references=labels[2:])
        assert metrics[name].compute() == {key: pytest.approx(function(logits, labels))}
    expected = expected_calibration_error(logits, labels, bins=2)
    assert metrics["CalibrationError"].compute(predictions=logits, references=labels, bins=2)["ece"] == expected


def test_confusion_metric_takes_labels(metrics):
    assert metrics["ConfusionMatrix"].compute(predictions=[0, 1, 1], references=[0, 1, 0], num_classes=2) == {
        "confusion_matrix": [[1, 1], [0, 1]],
        "precision": [1, 0.5],
        "recall": [0.5, 1],
        "f1": [pytest.approx(2 / 3)] * 2,
    }
