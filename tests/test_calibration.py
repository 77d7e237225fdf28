import math

import pytest
import torch

from hfvision.metrics.calibration import expected_calibration_error, negative_log_likelihood, reliability


def logits_of(*confidences):
    """Logits of two classes whose first has the given probability, at least one half."""
    return torch.tensor([[p, 1 - p] for p in confidences], dtype=torch.float64).log()


def test_bins_hold_counts_and_means():
    bins = reliability(logits_of(0.61, 0.69, 0.75, 0.95), torch.tensor([0, 1, 0, 0]), bins=10)
    assert bins.images.tolist() == [0, 0, 0, 0, 0, 0, 2, 1, 0, 1]
    assert bins.images.dtype == torch.int64
    assert bins.confidence.tolist() == pytest.approx([0] * 6 + [0.65, 0.75, 0, 0.95])
    assert bins.accuracy.tolist() == [0] * 6 + [0.5, 1, 0, 1]


def test_calibration_error_by_hand():
    logits, labels = logits_of(0.61, 0.69, 0.75, 0.95), torch.tensor([0, 1, 0, 0])
    by_hand = (2 * abs(0.5 - 0.65) + abs(1 - 0.75) + abs(1 - 0.95)) / 4
    assert expected_calibration_error(logits, labels, bins=10) == pytest.approx(by_hand)


def test_calibration_error_equals_a_loop_over_images():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(400, 7, generator=generator)
    labels = torch.randint(7, (400,), generator=generator)
    confidence, predicted = logits.double().softmax(1).max(1)
    total = 0.0
    for number in range(15):
        inside = [i for i in range(400) if number / 15 < confidence[i] <= (number + 1) / 15]
        if inside:
            right = sum(int(predicted[i] == labels[i]) for i in inside) / len(inside)
            total += len(inside) / 400 * abs(right - confidence[inside].mean().item())
    assert expected_calibration_error(logits, labels) == pytest.approx(total)


@pytest.mark.parametrize(("label", "error"), [(0, 0.0), (1, 1.0)])
def test_sure_and_always_right_or_wrong(label, error):
    logits = torch.tensor([[200.0, 0.0]]).expand(8, 2)
    assert expected_calibration_error(logits, torch.full((8,), label)) == pytest.approx(error)


def test_a_border_counts_for_the_lower_bin():
    assert reliability(logits_of(0.5), torch.tensor([0]), bins=2).images.tolist() == [1, 0]
    assert reliability(torch.tensor([[math.inf, 0.0]]).nan_to_num(posinf=1e4), torch.tensor([0])).images[-1] == 1


def test_log_likelihood_by_hand():
    logits = logits_of(0.8, 0.6)
    expected = -(math.log(0.8) + math.log(0.4)) / 2
    assert negative_log_likelihood(logits, torch.tensor([0, 1])) == pytest.approx(expected)
    assert negative_log_likelihood(torch.zeros(3, 10), torch.tensor([0, 4, 9])) == pytest.approx(math.log(10))
    assert negative_log_likelihood(torch.tensor([[1e4, 0.0]]), torch.tensor([1])) == pytest.approx(1e4)


@pytest.mark.parametrize("metric", [negative_log_likelihood, expected_calibration_error, reliability])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.rand(2, 3), torch.tensor([0, 3]), "do not fit logits of 3 classes"),
        (torch.rand(2, 3), torch.tensor([-1, 0]), "do not fit"),
        (torch.rand(2), torch.tensor([0, 1]), r"\(2, C\)"),
        (torch.rand(3, 3), torch.tensor([0, 1]), "For 2 labels"),
        (torch.rand(0, 3), torch.tensor([], dtype=torch.long), "one or more"),
        (torch.full((1, 3), float("nan")), torch.tensor([0]), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(metric, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(logits, labels)


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="at least one bin, got 0"):
        reliability(torch.rand(2, 3), torch.tensor([0, 1]), bins=0)
