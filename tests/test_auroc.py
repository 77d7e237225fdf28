"""The area under the ROC curve, its interval, thresholds and their errors, and abstention."""

import math

import pytest
import torch

from hfvision.metrics.abstention import area_under_risk_coverage, risk_coverage
from hfvision.metrics.accuracy import wilson_interval
from hfvision.metrics.auroc import auroc, auroc_interval, operating_point, roc_curve, share_interval, youden_threshold

SCORES = torch.tensor([0.1, 0.4, 0.35, 0.8])
LABELS = torch.tensor([0, 0, 1, 1])


def noisy(count: int, apart: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return torch.randn(count, generator=generator) + apart * labels, labels


def test_curve_by_hand():
    curve = roc_curve(SCORES, LABELS)
    assert curve.threshold.tolist() == pytest.approx([math.inf, 0.8, 0.4, 0.35, 0.1])
    assert curve.sensitivity.tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve.false_alarms.tolist() == [0, 0, 0.5, 0.5, 1]
    assert auroc(SCORES, LABELS) == 0.75


def test_area_counts_pairs_and_ties_half():
    scores, labels = noisy(200, 0.7)
    scores = (2 * scores).round()
    pairs = [0.5 * (p == n) + (p > n) for p in scores[labels == 1].tolist() for n in scores[labels == 0].tolist()]
    assert auroc(scores, labels) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc(-scores, labels) == pytest.approx(1 - sum(pairs) / len(pairs))
    assert auroc(torch.zeros(200), labels) == 0.5


def test_interval_holds_the_truth_about_as_often_as_it_says():
    truth = 0.5 * (1 + math.erf(1.2 / 2))  # of two unit normals 1.2 apart
    inside = 0
    for seed in range(200):
        low, high = auroc_interval(*noisy(120, 1.2, seed))
        inside += low < truth < high
    assert 0.9 <= inside / 200 <= 0.99


def test_interval_of_copies_is_that_of_the_groups():
    scores, labels = noisy(60, 1.0)
    one = auroc_interval(scores, labels)
    copies = [values.repeat_interleave(5) for values in (scores, labels)]
    groups = [f"patient {number // 5}" for number in range(300)]
    assert auroc_interval(*copies, groups=groups) == pytest.approx(one, abs=1e-9)
    low, high = auroc_interval(*copies)
    assert high - low < 0.6 * (one[1] - one[0])


def test_interval_of_classes_that_are_apart():
    low, high = auroc_interval(torch.arange(20.0), (torch.arange(20) >= 8).long())
    assert (low, high) == pytest.approx(wilson_interval(1.0, 8))


def test_threshold_of_youden():
    assert youden_threshold(torch.tensor([0.0, 1.0, 4.0, 6.0]), torch.tensor([0, 0, 1, 1])) == 2.5
    assert youden_threshold(SCORES, LABELS) == pytest.approx((0.35 + 0.1) / 2)  # of equals the most sensitive
    scores, labels = noisy(300, 1.5)
    best = youden_threshold(scores, labels)

    def index(threshold: float) -> float:
        point = operating_point(scores, labels, threshold)
        return point["sensitivity"] + point["specificity"]

    assert index(best) == pytest.approx(max(index(score) for score in scores.tolist()))


def test_operating_point_by_hand():
    point = operating_point(torch.tensor([0.9, 0.5, 0.4, 0.6, 0.2]), torch.tensor([1, 1, 1, 0, 0]), 0.5)
    assert point["sensitivity"] == pytest.approx(2 / 3)
    assert point["specificity"] == 0.5
    assert point["accuracy"] == pytest.approx(3 / 5)
    assert point["sensitivity_interval"] == pytest.approx(wilson_interval(2 / 3, 3))
    counts = ("true_positives", "false_negatives", "true_negatives", "false_positives")
    assert [point[name] for name in counts] == [2, 1, 1, 1]


def test_images_of_one_group_are_worth_one():
    hits = torch.tensor([True] * 8 + [False] * 2)
    copies, groups = hits.repeat_interleave(6), [number // 6 for number in range(60)]
    low, high = share_interval(copies, groups)
    alone = wilson_interval(0.8, 10)
    assert (low, high) == pytest.approx(alone)
    narrow = share_interval(copies)
    assert narrow == pytest.approx(wilson_interval(0.8, 60))
    assert low < narrow[0] < narrow[1] < high


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "both classes"),
        ([0.1, 0.2], [0, 2], "0 or 1, got 2"),
        ([0.1, 0.2], [0, 1, 1], "alike"),
        ([0.1, math.nan], [0, 1], "NaN"),
    ],
)
def test_what_is_no_two_classes_is_refused(scores, labels, message):
    for function in (auroc, roc_curve, auroc_interval, youden_threshold):
        with pytest.raises(ValueError, match=message):
            function(torch.tensor(scores), torch.tensor(labels))


def test_another_number_of_groups_is_refused():
    with pytest.raises(ValueError, match="each of the 4 scores, got 2"):
        auroc_interval(SCORES, LABELS, groups=["a", "b"])


def test_abstention_by_hand():
    curve = risk_coverage(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([True, True, False, True]))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.risk.tolist() == pytest.approx([0, 0, 1 / 3, 1 / 4])
    assert area_under_risk_coverage(torch.tensor([0.9, 0.8]), torch.tensor([False, True])) == 0.75


def test_equally_sure_answers_share_their_mistakes():
    for order in ([True, False], [False, True]):
        assert risk_coverage(torch.zeros(2), torch.tensor(order)).risk.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="alike"):
        risk_coverage(torch.zeros(2), torch.tensor([True]))
