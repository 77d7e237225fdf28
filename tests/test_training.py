"""The training loop: it learns, repeats itself from the seed, and stops before it spoils a model."""

import pytest
import torch
from torch.utils.data import Dataset

from hfvision import CNNConfig, CNNForImageClassification
from hfvision.training.loop import LoopConfig, train


class BrightOrDark(Dataset):
    """Noise around one of two grey levels; the label says which."""

    def __init__(self, bad_item: int | None = None):
        noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        self.labels = torch.arange(64) % 2
        self.pixel_values = noise + self.labels.view(-1, 1, 1, 1) * 2 - 1
        if bad_item is not None:
            self.pixel_values[bad_item] = torch.nan

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"pixel_values": self.pixel_values[index], "labels": self.labels[index]}


def fresh_model() -> CNNForImageClassification:
    torch.manual_seed(0)
    config = CNNConfig(stage_widths=[[[8]]], stage_strides=[2], downsample="pool_last", num_labels=2)
    return CNNForImageClassification(config)


def compute_loss(model, batch):
    return model(**batch).loss


def test_it_learns_and_leaves_a_float32_model_in_evaluation_mode():
    model, data = fresh_model(), BrightOrDark()
    history = train(model, data, compute_loss, LoopConfig(epochs=6, batch_size=16, learning_rate=0.02))
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert not model.training
    with torch.no_grad():
        logits = model(data.pixel_values).logits
    assert logits.dtype == model.dtype == torch.float32
    assert (logits.argmax(-1) == data.labels).float().mean() > 0.95


def test_the_seed_decides_everything():
    weights = []
    for seed in (3, 3, 4):
        model = fresh_model()
        train(model, BrightOrDark(), compute_loss, LoopConfig(epochs=2, batch_size=16, seed=seed))
        weights.append(model.classifier.weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_loss_that_is_not_finite_stops_before_the_step():
    model = fresh_model()
    with pytest.raises(FloatingPointError, match="The loss is nan in epoch 1"):
        train(model, BrightOrDark(bad_item=5), compute_loss, LoopConfig(epochs=1, batch_size=16))
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("batch_size", [16, 32, 64])
def test_runs_of_a_few_steps(batch_size):
    history = train(fresh_model(), BrightOrDark(), compute_loss, LoopConfig(epochs=1, batch_size=batch_size))
    assert len(history) == 1


@pytest.mark.parametrize("field", ["epochs", "batch_size", "learning_rate"])
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(ValueError, match=f"{field} must be above 0, got 0"):
        LoopConfig(**{field: 0})
