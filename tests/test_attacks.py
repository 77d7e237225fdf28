"""Attacks: where their samples lie, what they find, what they leave behind, and what they refuse."""

import copy
import warnings
from functools import partial

import foolbox
import pytest
import torch
from robustness_toy import one_thread
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification

from hfvision import CNNConfig, CNNForImageClassification, ImageClassificationProcessor, add_lora, sample_dataset
from hfvision.data.datasets.prepare import prepare_images
from hfvision.data.transforms.normalize import Normalize
from hfvision.robustness.attacks.apgd import apgd, checkpoints, dlr
from hfvision.robustness.attacks.gradient import Goal, fgsm, margin, pgd
from hfvision.robustness.attacks.square import bump, square
from hfvision.robustness.attacks.threat import PixelClassifier
from hfvision.robustness.attacks.worst_case import worst_case

PROCESSOR = ImageClassificationProcessor(
    size={"height": 28, "width": 28}, num_channels=1, image_mean=[0.5], image_std=[0.5]
)
ATTACKS = {
    "fgsm": fgsm,
    "pgd": pgd,
    "pgd from the image": partial(pgd, random_start=False, loss="margin"),
    "pgd twice": partial(pgd, steps=3, restarts=2),
    "pgd to the end": partial(pgd, steps=4, until_fooled=False),
    "apgd": partial(apgd, steps=8, restarts=2),
    "apgd dlr": partial(apgd, steps=8, loss="dlr"),
    "apgd targeted_dlr": partial(apgd, steps=6, loss="targeted_dlr", target_classes=3),
    "square": partial(square, queries=30),
}
SMALL = {
    "apgd_ce": partial(apgd, steps=10),
    "apgd_targeted_dlr": partial(apgd, steps=10, loss="targeted_dlr", target_classes=3),
    "square": partial(square, queries=50),
}


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    prepared = prepare_images(sample_dataset()["test"].select(range(200)), PROCESSOR, num_proc=1)
    return prepared.images.float() / 255, prepared.labels


@pytest.fixture(scope="module")
@one_thread()
def model() -> PixelClassifier:
    """Trained for a moment, so that most images are right."""
    torch.manual_seed(0)
    sizes = {"image_size": 28, "stage_widths": [[[16]], [[32]]], "stage_strides": [2, 2], "pool_size": None}
    network = CNNForImageClassification(CNNConfig(num_channels=1, num_labels=10, **sizes))
    classifier = PixelClassifier.from_processor(network, PROCESSOR)
    prepared = prepare_images(sample_dataset()["train"].select(range(1600)), PROCESSOR, num_proc=1)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=128)
    network.train()
    for epoch in range(4):
        for rows in torch.randperm(1600, generator=torch.Generator().manual_seed(epoch)).split(50):
            cross_entropy(classifier(prepared.images[rows]), prepared.labels[rows]).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return classifier.eval()


@pytest.fixture(scope="module")
def few(data) -> tuple[torch.Tensor, torch.Tensor]:
    return data[0][:32], data[1][:32]


@torch.no_grad()
def right(model, images, labels) -> torch.Tensor:
    return model(images).argmax(1) == labels


def accuracy(model, images, labels) -> float:
    return right(model, images, labels).float().mean().item()


def distances(points, images, norm) -> torch.Tensor:
    return torch.linalg.vector_norm((points - images).double().flatten(1), torch.inf if norm == "linf" else 2, dim=1)


class Linear(nn.Module):
    """Logits of pixels by a fixed matrix, for any image size."""

    def __init__(self, classes: int = 5, pixels: int = 3 * 8 * 8):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, pixels, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        return images.flatten(1) @ self.weight.T


class Altered(nn.Module):
    """Another model with its logits changed."""

    def __init__(self, model, change):
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images):
        return self.change(self.model(images))


def toy_images(count: int = 6, shape=(3, 8, 8), seed: int = 0) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


# Where samples lie


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.002), ("linf", 0.1), ("linf", 1), ("l2", 0.05), ("l2", 3)])
def test_samples_are_in_the_ball_and_pixels(model, few, name, norm, epsilon):
    images, labels = few
    points = ATTACKS[name](model, images, labels, epsilon, norm=norm)
    assert points.shape == images.shape
    assert points.dtype == torch.float32
    assert not points.requires_grad
    assert points.min() >= 0
    assert points.max() <= 1
    assert distances(points, images, norm).max() <= epsilon * (1 + 1e-6) + 1e-7
    assert accuracy(model, points, labels) <= accuracy(model, images, labels)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_ball_of_radius_0_is_the_image(model, few, name, norm):
    images, labels = few
    assert torch.equal(ATTACKS[name](model, images, labels, 0, norm=norm), images)


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"pgd to the end"}))
def test_images_that_are_wrong_already_stay_as_they_are(model, few, name):
    images, labels = few
    wrong = ~right(model, images, labels)
    assert wrong.any()
    points = ATTACKS[name](model, images, labels, 0.05)
    assert torch.equal(points[wrong], images[wrong])


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 5, 9), (2, 12, 7), (3, 1, 1)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_takes_images_of_any_shape(shape, norm):
    images = toy_images(shape=shape)
    model = Linear(pixels=images[0].numel())
    labels = model(images).argmax(1)
    points = square(model, images, labels, 0.2, norm=norm, queries=60)
    assert points.isfinite().all()
    assert distances(points, images, norm).max() <= 0.2 + 1e-6


def test_no_images_give_no_samples(model):
    nothing = torch.zeros(0, 1, 28, 28), torch.zeros(0, dtype=torch.int64)
    for attack in ATTACKS.values():
        assert attack(model, *nothing, 0.1).shape == (0, 1, 28, 28)
    assert worst_case(model, *nothing, 0.1).robust.shape == (0,)


def test_epsilon_may_be_a_fraction(model, few):
    assert torch.equal(fgsm(model, *few, "8/255"), fgsm(model, *few, 8 / 255))
    torch.testing.assert_close(distances(fgsm(model, *few, "8/255"), few[0], "linf").max().item(), 8 / 255)


# What they find


@pytest.mark.parametrize("epsilon", [2 / 255, 6 / 255])
@pytest.mark.parametrize(
    ("norm", "steps", "theirs"),
    [
        ("linf", 1, foolbox.attacks.FGSM()),
        ("l2", 1, foolbox.attacks.FGM()),
        ("linf", 10, foolbox.attacks.LinfPGD(rel_stepsize=0.25, steps=10)),
        ("l2", 10, foolbox.attacks.L2PGD(rel_stepsize=0.25, steps=10)),
    ],
)
def test_success_is_foolbox_s_at_the_same_budget(model, data, epsilon, norm, steps, theirs):
    images, labels = data
    epsilon = epsilon if norm == "linf" else 20 * epsilon
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = foolbox.PyTorchModel(copy.deepcopy(model), bounds=(0, 1), device="cpu")
    _, _, fooled = theirs(wrapped, images, labels, epsilons=epsilon)
    points = fgsm(model, images, labels, epsilon, norm=norm)
    if steps > 1:
        points = pgd(model, images, labels, epsilon, norm=norm, steps=steps, step_size=epsilon / 4)
    ours = (~right(model, points, labels)).sum().item()
    assert 0.2 < ours / len(labels) < 0.98
    assert abs(ours - fooled.sum().item()) <= len(labels) // 100


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 4 / 255), ("l2", 0.4)])
def test_more_work_finds_more(model, data, norm, epsilon):
    images, labels = data
    left = {
        "nothing": images,
        "fgsm": fgsm(model, images, labels, epsilon, norm=norm),
        "pgd": pgd(model, images, labels, epsilon, norm=norm, steps=20),
        "apgd": apgd(model, images, labels, epsilon, norm=norm, steps=20),
        "targeted": apgd(model, images, labels, epsilon, norm=norm, steps=20, loss="targeted_dlr"),
    }
    left = {name: accuracy(model, points, labels) for name, points in left.items()}
    assert left["nothing"] > 0.7
    assert left["targeted"] <= left["apgd"] <= left["pgd"] <= left["fgsm"] < left["nothing"]


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 24 / 255), ("l2", 2.0)])
def test_square_needs_only_scores(model, data, norm, epsilon):
    images, labels = data[0][:100], data[1][:100]
    detached = Altered(model, torch.Tensor.detach)
    clean = accuracy(model, images, labels)
    few_queries, more_queries = (
        accuracy(model, square(detached, images, labels, epsilon, norm=norm, queries=queries), labels)
        for queries in (20, 500)
    )
    assert more_queries < few_queries < clean
    assert more_queries < 0.5 * clean


@pytest.mark.parametrize(
    ("attack", "share"),
    [
        (pgd, 0.9),
        (partial(pgd, loss="margin"), 0.9),
        (partial(apgd, steps=20), 0.9),
        (partial(apgd, steps=20, loss="dlr"), 0.9),
        (partial(apgd, steps=20, loss="targeted_dlr"), 0.9),
        (partial(square, queries=500), 0.5),
    ],
)
def test_targets_are_reached(model, few, attack, share):
    images, labels = few
    targets = (labels + 3) % 10
    points = attack(model, images, labels, 72 / 255, targets=targets)
    assert accuracy(model, images, targets) < 0.2
    assert accuracy(model, points, targets) >= share


def test_pgd_to_the_end_gives_the_highest_loss(model, few):
    images, labels = few

    def loss(points):
        with torch.no_grad():
            return cross_entropy(model(points), labels, reduction="none")

    first = loss(pgd(model, images, labels, 0.05, random_start=False))
    highest = loss(pgd(model, images, labels, 0.05, random_start=False, until_fooled=False))
    assert (highest >= loss(images)).all()
    assert highest.mean() > 2 * first.mean()


def test_pgd_returns_the_best_point_it_has_seen(few):
    images = toy_images()
    model = Linear()
    labels = model(images).argmax(1)
    # Steps far too long: the walk jumps from one corner to the other, and still no result is worse than the start.
    points = pgd(model, images, labels, 1e-4, step_size=1.0, random_start=False)
    with torch.no_grad():
        before, after = (cross_entropy(model(x), labels, reduction="none") for x in (images, points))
    assert (after >= before).all()


def test_every_sample_is_one_that_the_model_was_asked_about(model, few):
    images, labels = few
    for attack in ATTACKS.values():
        asked = []
        hook = model.register_forward_pre_hook(lambda _, inputs, asked=asked: asked.append(inputs[0].detach().clone()))
        points = attack(model, images, labels, 0.02)
        hook.remove()
        asked = {tuple(image.flatten().tolist()) for image in torch.cat(asked)}
        assert all(tuple(point.flatten().tolist()) in asked for point in points)


@pytest.mark.parametrize(
    ("attack", "most"),
    [
        (fgsm, 2),
        (partial(pgd, steps=7), 9),
        (partial(apgd, steps=7), 9),
        (partial(apgd, steps=7, loss="targeted_dlr", target_classes=2), 17),
        (partial(square, queries=7), 8),
    ],
)
def test_the_model_is_not_asked_more_often_than_stated(model, few, attack, most):
    images, labels = few
    sizes = []
    hook = model.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    points = attack(model, images, labels, 0.004)
    hook.remove()
    standing = right(model, points, labels).sum().item()
    assert standing > 0
    assert len(sizes) == most
    assert sizes[0] == len(images)
    assert sizes[-1] < len(images)
    assert sizes[-1] >= standing


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_have_no_ratio_of_logits(classes):
    images = toy_images(20)
    model = Linear(classes)
    labels = model(images).argmax(1)
    for loss in ("dlr", "targeted_dlr"):
        with pytest.warns(UserWarning, match=rf"has {classes} classes .* margin of logits"):
            points = apgd(model, images, labels, 0.2, steps=10, loss=loss)
        assert accuracy(model, points, labels) == 0


def test_losses_are_the_papers():
    logits = torch.tensor([[4.0, 1.0, 3.0, -2.0, 0.0]])
    label, target = torch.tensor([0]), torch.tensor([1])
    # -(z_y - max z_i) / (z_1 - z_3) and -(z_y - z_t) / (z_1 - (z_3 + z_4) / 2)
    torch.testing.assert_close(dlr(logits, Goal(label)), torch.tensor([-(4 - 3) / (4 - 1.0)]))
    torch.testing.assert_close(dlr(logits, Goal(label, target)), torch.tensor([-(4 - 1) / (4 - 0.5)]))
    torch.testing.assert_close(dlr(100 * logits, Goal(label)), dlr(logits, Goal(label)))
    torch.testing.assert_close(margin(logits, Goal(label)), torch.tensor([-1.0]))
    torch.testing.assert_close(margin(logits, Goal(label, target)), torch.tensor([-3.0]))
    torch.testing.assert_close(margin(logits, Goal(label, target, targeted=True)), torch.tensor([-3.0]))
    torch.testing.assert_close(margin(logits, Goal(target)), torch.tensor([3.0]))


def test_step_sizes_are_looked_at_when_the_paper_says():
    assert list(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(checkpoints(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(checkpoints(3)) == [1, 2]


@pytest.mark.parametrize("side", [3, 4, 7])
def test_the_bump_of_square_is_a_hill_over_a_valley(side):
    shape = bump(side, torch.device("cpu"))
    assert shape.shape == (side, side)
    torch.testing.assert_close(shape.norm(), torch.tensor(1.0))
    assert (shape[: side // 2] > 0).all()
    assert (shape[side // 2 :] < 0).all()
    assert shape.argmax() == (side // 4) * side + side // 2


# What they leave behind


def state(module: nn.Module) -> list:
    return [
        [(part, part.training) for part in module.modules()],
        [parameter.requires_grad for parameter in module.parameters()],
        [None if parameter.grad is None else parameter.grad.clone() for parameter in module.parameters()],
        [buffer.clone() for buffer in module.buffers()],
        torch.get_rng_state(),
    ]


def same(before: list, after: list) -> bool:
    modes, wanted, *tensors = zip(before, after, strict=True)
    return (
        modes[0] == modes[1]
        and wanted[0] == wanted[1]
        and all(
            a is b is None or torch.equal(a, b)
            for pair in tensors
            for a, b in (zip(*pair, strict=True) if isinstance(pair[0], list) else [pair])
        )
    )


@pytest.mark.parametrize("name", [*ATTACKS, "worst_case"])
def test_the_model_is_left_as_it_was(model, few, name):
    attack = {**ATTACKS, "worst_case": partial(worst_case, attacks=SMALL)}[name]
    model = copy.deepcopy(model).train()
    model.model.classifier.eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    before = state(model)
    attack(model, *few, 0.05)
    assert same(before, state(model))
    with pytest.raises(ValueError, match="not finite"):
        attack(Altered(model, lambda logits: logits * torch.nan), *few, 0.05)
    assert same(before, state(model))


def test_inputs_are_left_as_they_were(model, few):
    images, labels = few[0].clone(), few[1].clone()
    for attack in ATTACKS.values():
        attack(model, images, labels, 0.1)
    assert torch.equal(images, few[0])
    assert torch.equal(labels, few[1])


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_are_found_where_the_caller_has_none(model, few, context):
    expected = pgd(model, *few, 0.02)
    with context():
        images = few[0] + 0.0
        assert torch.equal(pgd(model, images, few[1], 0.02), expected)


# Random numbers


@pytest.mark.parametrize("name", ["pgd", "apgd", "square"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_seed_gives_the_same_samples_again(model, few, name, norm):
    one, again, other = (ATTACKS[name](model, *few, 0.01, norm=norm, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.01), ("l2", 0.1)])
def test_a_sample_does_not_depend_on_its_batch(name, norm, epsilon):
    # Double precision: rounding, which differs between sizes of batches, must not decide on the sign of a gradient.
    images = toy_images(24)
    model = Altered(Linear().double(), lambda logits: logits.tanh())
    model.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    labels = toy_images(24, (1, 1, 1), seed=1).mul(5).long().flatten()
    rows = torch.tensor([7, 3, 20])
    together, apart = (
        ATTACKS[name](model, x, y, epsilon, norm=norm) for x, y in [(images, labels), (images[rows], labels[rows])]
    )
    torch.testing.assert_close(apart, together[rows], rtol=0, atol=1e-6)


# The worst of several


def test_the_worst_case_is_no_better_than_any_attack(model, data):
    images, labels = data
    calls = []
    attacks = SMALL | {"apgd_ce": partial(apgd, steps=2)}  # which leaves something to those after it
    worst = worst_case(model, images, labels, 4 / 255, attacks=attacks, progress=lambda *call: calls.append(call))
    assert list(worst.by_attack) == list(attacks)
    assert torch.equal(worst.clean, right(model, images, labels))
    assert torch.equal(worst.robust, right(model, worst.images, labels))
    assert torch.equal(worst.robust, worst.by_attack["square"])
    assert distances(worst.images, images, "linf").max() <= 4 / 255 + 1e-7
    before = worst.clean
    for name, attack in attacks.items():
        assert (worst.by_attack[name] <= before).all()
        before = worst.by_attack[name]
        assert worst.robust.sum() <= right(model, attack(model, images, labels, 4 / 255), labels).sum()
    assert 0 < worst.robust.sum() < worst.by_attack["apgd_ce"].sum() < worst.clean.sum()
    assert calls[:2] == [("apgd_ce", done, worst.clean.sum()) for done in (0, worst.clean.sum())]
    left = worst.by_attack["apgd_targeted_dlr"].sum()
    assert calls[-1] == ("square", left, left)


def test_the_worst_case_in_batches(model, few):
    images, labels = few
    calls = []
    options = {"attacks": {"fgsm": fgsm, "square": partial(square, queries=5)}, "norm": "l2"}
    once = worst_case(model, images, labels, 0.2, **options)
    worst = worst_case(
        model, images, labels, 0.2, batch_size=7, progress=lambda *call: calls.append(call[:2]), **options
    )
    assert torch.equal(worst.robust, once.robust)
    assert calls[:3] == [("fgsm", 0), ("fgsm", 7), ("fgsm", 14)]


def test_only_the_model_s_answer_counts_in_the_worst_case(model, few):
    images, labels = few
    idle = worst_case(model, images, labels, 0.1, attacks={"idle": lambda model, images, *_, **__: images})
    assert torch.equal(idle.robust, idle.clean)
    assert torch.equal(idle.images, images)
    for returned, message in [
        (lambda images: images * 0, r"The attack bad went .* and epsilon is 0\.1"),
        (lambda images: images - 0.05, r"The attack bad returned images outside \[0, 1\]"),
        (lambda images: images * torch.nan, r"The attack bad returned images outside \[0, 1\]"),
        (lambda images: images[:2], r"The attack bad must return images like those it got, got \(2, 1, 28, 28\)"),
    ]:
        bad = {"bad": lambda model, images, *_, returned=returned, **__: returned(images)}
        with pytest.raises(ValueError, match=message):
            worst_case(model, images, labels, 0.1, attacks=bad)


# Models of other makes


def make_vit():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return ViTForImageClassification(
        ViTConfig(image_size=32, patch_size=8, num_labels=5, initializer_range=0.3, **sizes)
    )


def make_timm():
    return CNNForImageClassification(CNNConfig(backbone="timm/test_resnet", image_size=32, num_labels=5))


MODELS = {"ViT of transformers": make_vit, "timm": make_timm, "LoRA": lambda: add_lora(make_timm(), rank=2)}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_all_makes_are_attacked(name):
    torch.manual_seed(0)
    model = PixelClassifier(MODELS[name](), Normalize((0.5,) * 3, (0.5,) * 3)).train()
    images = toy_images(8, (3, 32, 32))
    labels = model.eval()(images).argmax(1)
    before = state(model)
    for attack in (pgd, partial(apgd, steps=10, loss="targeted_dlr")):
        assert accuracy(model, attack(model, images, labels, 0.2), labels) <= 0.5
    worst = worst_case(model, images, labels, "2/255", attacks=SMALL)
    assert worst.clean.all()
    assert same(before, state(model))


def test_the_forward_pass_may_be_in_bfloat16(model, data):
    images, labels = data
    half = PixelClassifier(model.model, model.normalize, torch.bfloat16)
    for attack in (pgd, partial(apgd, steps=10)):
        points = attack(half, images, labels, 4 / 255)
        assert points.dtype == torch.float32
        assert distances(points, images, "linf").max() <= 4 / 255 + 1e-7
        expected = accuracy(model, attack(model, images, labels, 4 / 255), labels)
        assert accuracy(half, points, labels) == pytest.approx(expected, abs=0.05)


# What they refuse

IMAGES, LABELS = toy_images(), torch.zeros(6, dtype=torch.int64)
BAD_INPUTS = {
    "normalised": ((IMAGES * 4 - 2, LABELS, 0.1), {}, r"values from -2 to 2, and .* normalized already"),
    "8 bits": ((IMAGES.byte(), LABELS, 0.1), {}, r"got uint8 \(6, 3, 8, 8\): 8-bit pixels are divided by 255"),
    "double": ((IMAGES.double(), LABELS, 0.1), {}, "got float64"),
    "one image": ((IMAGES[0], LABELS, 0.1), {}, r"Expected images float32 \(N, C, H, W\).*got float32 \(3, 8, 8\)"),
    "NaN pixel": ((IMAGES.where(IMAGES < 0.9, torch.nan), LABELS, 0.1), {}, "not a number"),
    "labels float": ((IMAGES, LABELS.float(), 0.1), {}, r"Expected labels int64 \(6,\).*got float32 \(6,\)"),
    "labels short": ((IMAGES, LABELS[:5], 0.1), {}, r"Expected labels int64 \(6,\).*got int64 \(5,\)"),
    "labels high": ((IMAGES, LABELS + 5, 0.1), {}, "label or target 5, and the model has 5 classes"),
    "labels low": ((IMAGES, LABELS - 1, 0.1), {}, "labels must be classes from 0 on, got -1"),
    "targets short": ((IMAGES, LABELS, 0.1), {"targets": LABELS[:2] + 1}, r"Expected targets int64 \(6,\)"),
    "targets high": ((IMAGES, LABELS, 0.1), {"targets": LABELS + 9}, "label or target 9"),
    "targets own": ((IMAGES, LABELS, 0.1), {"targets": LABELS}, "target of image 0 is its own label"),
    "grey levels": ((IMAGES, LABELS, 8), {}, "are 8/255, not 8"),
    "negative": ((IMAGES, LABELS, -0.1), {}, "not negative"),
    "percent": ((IMAGES, LABELS, "3%"), {}, "epsilon must be a number or a fraction as 8/255, got '3%'"),
    "norm": ((IMAGES, LABELS, 0.1), {"norm": "l1"}, "norm must be linf or l2, got 'l1'"),
    "device": ((IMAGES, LABELS.to("meta"), 0.1), {}, "on one device, got cpu, meta"),
}


@pytest.mark.parametrize("attack", [fgsm, pgd, apgd, square])
@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs_are_refused(attack, name):
    inputs, options, message = BAD_INPUTS[name]
    with pytest.raises(ValueError, match=message):
        attack(Linear(), *inputs, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(pgd, steps=0), "steps must be 1 or more, got 0"),
        (partial(pgd, restarts=0), "restarts must be 1 or more"),
        (partial(pgd, restarts=2, random_start=False), "More than one start needs random_start"),
        (partial(pgd, loss="dlr"), "loss must be one of ce, margin, got 'dlr'"),
        (partial(apgd, loss="margin"), "loss must be one of ce, dlr, targeted_dlr, got 'margin'"),
        (partial(apgd, target_classes=0), "target_classes must be 1 or more"),
        (partial(square, queries=0), "queries must be 1 or more"),
        (partial(worst_case, batch_size=0), "batch_size must be 1 or more"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Linear(), IMAGES, LABELS, 0.1)


class Answer(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.give = logits

    def forward(self, images):
        return self.give(images)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda images: Linear()(images).detach(), "carry no gradient .* square works without"),
        (lambda images: Linear()(images) * torch.nan, "logits that are not finite"),
        (lambda images: {"logits": images}, r"Expected logits \(6, classes\) .*got dict: is it a PixelClassifier"),
        (lambda images: images, r"got \(6, 3, 8, 8\): is it a PixelClassifier"),
        (lambda images: (images.flatten(1)[:, :5] * 0).sqrt(), "gradient of the loss is not finite"),
    ],
)
def test_models_that_cannot_be_climbed_are_refused(give, message):
    for attack in (fgsm, pgd, apgd):
        with pytest.raises(ValueError, match=message):
            attack(Answer(give), IMAGES, LABELS, 0.1)
