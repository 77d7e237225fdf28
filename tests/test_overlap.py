import math

import pytest
import torch

from hfvision.metrics.evaluate_metrics import Dice, IoU
from hfvision.metrics.overlap import dice, iou, overlap

TRUE = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 255]])
FOUND = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])


def test_dice_and_iou_of_a_case_counted_by_hand():
    counts = overlap(FOUND, TRUE, 3)
    assert counts.tolist() == [[3, 4, 4], [2, 3, 3], [0, 0, 0]]
    assert dice(counts)[:2].tolist() == [3 / 4, 2 / 3]
    assert iou(counts)[:2].tolist() == [3 / 5, 2 / 4]
    assert dice(counts)[2].isnan()
    assert iou(counts)[2].isnan()


def test_counts_add_up_over_images():
    halves = overlap(FOUND[:1], TRUE[:1], 2) + overlap(FOUND[1:], TRUE[1:], 2)
    assert torch.equal(halves, overlap(FOUND, TRUE, 2))


def test_dice_agrees_with_scikit_learn_f1_and_iou_with_jaccard():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 4, (2, 500), generator=generator)
    counts = overlap(a, b, 4)
    expected = [metrics.f1_score(b, a, average=None), metrics.jaccard_score(b, a, average=None)]
    for ours, theirs in zip((dice(counts), iou(counts)), expected, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs))


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="must agree in shape"):
        overlap(FOUND, TRUE[:1], 2)
    with pytest.raises(ValueError, match="whole numbers"):
        overlap(FOUND.float(), TRUE, 2)
    with pytest.raises(ValueError, match="true mask has values out of 0 to 1"):
        overlap(FOUND, TRUE * 2, 2)
    assert overlap(FOUND, torch.full_like(TRUE, 255), 2).sum() == 0


def test_as_metrics_of_evaluate_over_masks_of_different_sizes():
    predictions, references = [FOUND.tolist(), [[0]]], [TRUE.tolist(), [[0]]]
    found = Dice().compute(predictions=predictions, references=references, num_classes=2)
    assert found["dice"] == pytest.approx([(3 / 4 + 1) / 2, 2 / 3])
    assert found["dice_pooled"] == pytest.approx([8 / 10, 2 / 3])
    found = IoU().compute(predictions=predictions, references=references, num_classes=3)
    assert found["iou"][:2] == pytest.approx([(3 / 5 + 1) / 2, 2 / 4])
    assert math.isnan(found["iou"][2])
