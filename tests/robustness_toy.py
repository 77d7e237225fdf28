"""A standard and a hardened classifier of small grey images, each trained for a few seconds, for the tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor, sample_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.robustness.attacks.gradient import pgd
from hfvision.robustness.attacks.threat import PixelClassifier

PROCESSOR = ImageClassificationProcessor(
    size={"height": 14, "width": 14}, num_channels=1, image_mean=[0.5], image_std=[0.5]
)
SPLITS = sample_dataset("fashion_mnist")
NAMES = SPLITS["test"].features["label"].names
TEST = prepare_images(SPLITS["test"].select(range(300)), PROCESSOR, num_proc=1)
EPSILON = 0.1


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, a training ends at the same weights on any number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
@one_thread()
def trained(hardened: bool = False) -> CNNForImageClassification:
    """The hardened one by one random step of FGSM an image (Wong et al. 2020, "Fast is better than free")."""
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    config = CNNConfig(stage_widths=[[[16]], [[32]]], stage_strides=[2, 2], downsample="pool_last", num_channels=1)
    config.update(labels)
    model = CNNForImageClassification(config)
    victim = PixelClassifier.from_processor(model, PROCESSOR)
    data = prepare_images(SPLITS["train"].select(range(2000)), PROCESSOR, num_proc=1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, 120)
    for epoch in range(3):
        for rows in torch.randperm(2000, generator=torch.Generator().manual_seed(epoch)).split(50):
            images, targets = data.images[rows] / 255, data.labels[rows]
            if hardened:
                options = {"steps": 1, "step_size": EPSILON, "until_fooled": False, "seed": epoch}
                images = pgd(victim, images, targets, EPSILON, **options)
            model.train()
            cross_entropy(victim(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval()


class Disguised(nn.Module):
    """A classifier with its pixel values or logits changed on the way."""

    def __init__(self, model: nn.Module, before=lambda values: values, after=lambda logits: logits):
        super().__init__()
        self.model, self.before, self.after = model, before, after
        self.config = model.config

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.after(self.model(pixel_values=self.before(pixel_values)).logits))


def rounded(values: torch.Tensor) -> torch.Tensor:
    """Pixel values of 16 levels; the gradient is zero everywhere."""
    return (values * 8).round() / 8


def rounded_as_trained(values: torch.Tensor) -> torch.Tensor:
    """Pixel values of 8 bits, with the gradient going straight through."""
    return values + ((values * 127.5).round() / 127.5 - values).detach()
