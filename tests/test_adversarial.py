"""Adversarial training: what attacks leave alone, what the losses are, and that it hardens."""

import json
import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from training_toy import attack_toy, fresh_model

from hfvision import CNNConfig, CNNForImageClassification
from hfvision.cli.main import main
from hfvision.data.datasets.classification import load_image_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.hub.loading import load_model
from hfvision.robustness.adversarial import Adversary, has_collapsed, mart_loss, trades_loss
from hfvision.robustness.attacks.gradient import pgd
from hfvision.robustness.awp import PerturbedWeights
from hfvision.tasks.classification.config import ClassifierTrainingConfig
from hfvision.tasks.classification.evaluate import predict_logits
from hfvision.tasks.classification.train import make_adversary

NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
METHODS = ["pgd", "trades", "mart", "fast", "rs_fgsm"]


def some_images(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    return images, torch.arange(count) % 2, torch.arange(count) * 7919


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", METHODS)
def test_attacked_images_stay_in_the_ball_and_nothing_else_changes(method, norm):
    if norm == "l2" and method in ("fast", "rs_fgsm"):
        pytest.skip("one-step methods are for linf")
    images, labels, keys = some_images()
    model = fresh_model(dropout=0.3).train()
    model.cnn.encoder.stages[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    adversary = Adversary(method, NORMALIZE, epsilon=0.1, norm=norm, steps=3)
    attacked = adversary.attack(model, images, labels, keys)
    radius = 0.3 if method == "fast" else 0.1  # its noise of twice the radius is not projected
    length = (attacked - images).flatten(1).norm(p=math.inf if norm == "linf" else 2, dim=1)
    assert (length <= radius + 1e-6).all()
    assert (length > 0.02).all()
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    assert not attacked.requires_grad
    assert modes == [module.training for module in model.modules()]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("method", METHODS)
def test_without_batch_normalisation_an_attack_does_not_depend_on_the_batch(method):
    images, labels, keys = some_images()
    model = fresh_model(norm="none").train()
    adversary = Adversary(method, NORMALIZE, epsilon=0.1, steps=3)
    together = adversary.attack(model, images, labels, keys)
    parts = [adversary.attack(model, images[part], labels[part], keys[part]) for part in (slice(5), slice(5, 12))]
    assert (torch.cat(parts) - together).abs().max() < 1e-5
    assert (adversary.attack(model, images, labels, keys + 1) - together).abs().max() > 0.001


def test_the_attack_raises_the_loss_that_is_learned():
    images, labels, keys = some_images(64)
    model = fresh_model()

    def loss(points: torch.Tensor) -> float:
        with torch.no_grad():
            return cross_entropy(model.train()(NORMALIZE(points)).logits, labels).item()

    clean = loss(images)
    one, many = (
        loss(Adversary(method, NORMALIZE, epsilon=0.05).attack(model, images, labels, keys))
        for method in ("rs_fgsm", "pgd")
    )
    assert clean + 0.05 < one <= many + 1e-3


def test_trades_and_mart_are_their_equations():
    generator = torch.Generator().manual_seed(1)
    clean, attacked = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0])
    p, q = clean.double().softmax(1), attacked.double().softmax(1)
    divergences = (p * (p / q).log()).sum(1)
    expected = -p[range(5), labels].log().mean() + 6 * divergences.mean()
    assert trades_loss(clean, attacked, lambda logits: cross_entropy(logits, labels), 6.0).item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    wrong = torch.stack([max(row[k] for k in range(4) if k != y) for row, y in zip(q, labels.tolist(), strict=True)])
    boosted = -q[range(5), labels].log() - (1.0001 - wrong).log()
    expected = (boosted + 5 * divergences * (1 - p[range(5), labels])).mean()
    assert mart_loss(clean, attacked, labels, 5.0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_perturbed_weights_are_the_worst_nearby_and_gradients_reach_the_model():
    images, labels, _ = some_images()
    model = fresh_model(dropout=0.3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(net) -> torch.Tensor:
        torch.manual_seed(3)
        return cross_entropy(net(pixel_values=NORMALIZE(images)).logits, labels)

    perturbed = PerturbedWeights(model, loss, gamma=0.05)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for name, weight in perturbed.weights.items():
        change = (weight - model.get_parameter(name)).norm() / model.get_parameter(name).norm()
        assert change.item() == pytest.approx(0.05, rel=1e-3), name
    worse = loss(perturbed)
    assert worse.item() > loss(model).item() + 0.01
    worse.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with torch.no_grad():
        for name, weight in perturbed.weights.items():
            model.get_parameter(name).copy_(weight.detach())
    loss(model).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradients[name], parameter.grad, atol=1e-6), name


@pytest.mark.parametrize(
    ("method", "changes"), [("fast", {"ema": 0.9, "corruptions": 0.5}), ("mart", {"awp": 0.01}), ("trades", {})]
)
def test_resume_is_exact_to_the_bit(method, changes, tmp_path, monkeypatch):
    settings = {"normalization": "batch", "checkpoint_minutes": 0, **changes}
    whole = attack_toy(method, 16, **settings)
    attack, calls = Adversary.attack, 0

    def interrupted(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return attack(self, *arguments)

    monkeypatch.setattr(Adversary, "attack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attack_toy(method, 16, out=tmp_path, **settings)
    resumed = attack_toy(method, 16, out=tmp_path, resume=True, **settings)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_collapse_is_half_of_the_best_lost():
    scores = [0.2, 0.4, 0.21, 0.19]
    history = [{"validation_robust_accuracy": score} for score in scores]
    assert [has_collapsed(history[:end]) for end in range(5)] == [False, False, False, False, True]


@pytest.fixture(scope="module")
def hardened(tmp_path_factory):
    """A network trained on clothes as usual, and one on attacked ones, with the same command otherwise."""
    folders = []
    for extra in ([], ["--adversarial", "fast", "--epsilon", "0.1", "--robust-images", "50"]):
        folder = tmp_path_factory.mktemp("hardened") / "model"
        command = ["train", "classifier", "--data", "fashion_mnist", "--model", "cnn:tiny", "--num-channels", "1"]
        command += ["--image-size", "28", "--augment", "none"]
        command += ["--epochs", "2", "--batch-size", "50", "--optimizer", "nmuon", "--learning-rate", "0.02"]
        assert main([*command, "--out", str(folder), *extra]) == 0
        folders.append(folder)
    return folders


def test_hardening_raises_robust_accuracy_by_a_third_of_all_images(hardened):
    accuracies = []
    for folder in hardened:
        model, processor = load_model(str(folder), "image-classification")
        images = prepare_images(load_image_dataset("fashion_mnist")["test"].select(range(300)), processor)
        values = []
        for attack in (None, lambda *given: pgd(*given, epsilon=0.1, steps=20)):
            logits, labels = predict_logits(model, images, Normalize.from_processor(processor), attack=attack)
            values.append((logits.argmax(1) == labels).float().mean().item())
        accuracies.append(values)
    (clean, broken), (hardened_clean, robust) = accuracies
    assert broken < 0.1
    assert robust > broken + 0.33
    assert hardened_clean > clean - 0.25


def test_the_record_says_how_robust_each_epoch_was(hardened):
    history = json.loads((hardened[1] / "metrics.json").read_text())
    assert all(0 <= entry["validation_robust_accuracy"] < entry["validation_accuracy"] for entry in history)
    assert all("attacked_accuracy" in entry for entry in history)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adversarial": "pgd", "epsilon": "8"}, "8 of 255 grey levels are 8/255"),
        ({"adversarial": "pgd", "epsilon": "3%"}, "must be a number or a fraction as 8/255, got '3%'"),
        ({"adversarial": "pgd", "epsilon": "0"}, "leaves nothing to train against"),
        ({"adversarial": "fast", "norm": "l2"}, "is for norm=linf"),
        ({"adversarial": "pgd", "attack_steps": 0}, "attack_steps must be at least 1, got 0"),
        ({"adversarial": "pgd", "attack_step_size": -1.0}, "attack_step_size must be above 0"),
        ({"adversarial": "pgd", "adversarial_weight": 3.0}, "is for trades and mart"),
        ({"adversarial": "trades", "adversarial_weight": -3.0}, "must not be negative"),
        ({"adversarial": "trades", "teacher": "cnn-cifar10"}, "has a loss of its own"),
        ({"adversarial": "mart", "mixup": 0.2}, "images of one class each"),
        ({"adversarial": "fast", "awp": 1.0}, "awp must be at least 0 and below 1"),
        ({"adversarial": "fast", "robust_images": 0}, "robust_images must be at least 1"),
        ({"awp": 0.01}, "need adversarial"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        ClassifierTrainingConfig(data="photos", **options)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 8 / 255), ("l2", 0.5)])
def test_epsilon_suits_the_norm_where_it_is_not_given(norm, epsilon):
    config = ClassifierTrainingConfig(data="photos", adversarial="pgd", norm=norm)
    assert make_adversary(config, NORMALIZE).epsilon == pytest.approx(epsilon)


def test_frozen_statistics_stay_frozen_under_attack():
    """As those of a backbone under adapters."""
    torch.manual_seed(0)
    model = CNNForImageClassification(CNNConfig.from_preset("tiny", num_labels=2)).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images, labels, keys = some_images()
    adversary = Adversary("pgd", NORMALIZE, epsilon=0.1, steps=3)
    together = adversary.attack(model, images, labels, keys)
    alone = torch.cat(
        [adversary.attack(model, images[n : n + 1], labels[n : n + 1], keys[n : n + 1]) for n in range(12)]
    )
    assert (alone != together).float().mean() < 0.01, "running statistics do not depend on the batch"
