import pytest
import torch

from hfvision.metrics.confusion import class_scores, confusion_matrix


def test_rows_are_labels_and_columns_predictions():
    labels, predictions = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 0, 2, 1, 1, 2])
    matrix = confusion_matrix(predictions, labels, 4)
    assert matrix.tolist() == [[2, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert matrix.dtype == torch.int64


def test_scores_by_hand():
    scores = class_scores(torch.tensor([[2, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]))
    assert scores.precision.tolist() == [1, 0.5, 0.5, 0]
    assert scores.recall.tolist() == pytest.approx([2 / 3, 1, 0.5, 0])
    assert scores.f1.tolist() == pytest.approx([0.8, 2 / 3, 0.5, 0])


def test_scores_equal_a_count_over_images():
    generator = torch.Generator().manual_seed(0)
    labels, predictions = torch.randint(5, (2, 300), generator=generator)
    scores = class_scores(confusion_matrix(predictions, labels, 5))
    for number in range(5):
        both = ((predictions == number) & (labels == number)).sum().item()
        precision, recall = both / (predictions == number).sum().item(), both / (labels == number).sum().item()
        assert scores.precision[number].item() == pytest.approx(precision)
        assert scores.recall[number].item() == pytest.approx(recall)
        assert scores.f1[number].item() == pytest.approx(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        (torch.tensor([0, 3]), torch.tensor([0, 1]), "Predictions from 0 to 3 do not fit 3 classes"),
        (torch.tensor([0, 1]), torch.tensor([-1, 1]), "Labels from -1 to 1 do not fit"),
        (torch.tensor([0, 1]), torch.tensor([0]), "For 1 labels"),
        (torch.rand(2, 3), torch.tensor([0, 1]), "must be integers"),
        (torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long), "one or more"),
    ],
)
def test_what_does_not_fit_is_refused(predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(predictions, labels, 3)


def test_scores_need_a_square_matrix():
    with pytest.raises(ValueError, match=r"\(C, C\), got \(2, 3\)"):
        class_scores(torch.zeros(2, 3, dtype=torch.long))
