"""Checks of gradient masking: honest models pass, robust or not, and models that hide their gradients do not."""

import pytest
import torch
from robustness_toy import EPSILON, PROCESSOR, TEST, Disguised, rounded, rounded_as_trained, trained

from hfvision.robustness.attacks.threat import PixelClassifier
from hfvision.robustness.masking import MEASURES, beats, check_masking, judge_masking

IMAGES, LABELS = TEST.images[:100] / 255, TEST.labels[:100]


def suspicious(model, norm="linf", epsilon=EPSILON) -> set[str]:
    state = torch.get_rng_state()
    checks = check_masking(PixelClassifier.from_processor(model, PROCESSOR), IMAGES, LABELS, epsilon, norm=norm)
    assert torch.equal(torch.get_rng_state(), state)
    assert [check.name for check in checks] == [
        "large_epsilon",
        "black_box",
        "more_steps",
        "one_step",
        "loss_along_gradient",
    ]
    for check in checks:
        assert check.sentence.endswith(".")
        assert check.figures["images"] == checks[0].figures["images"] > 25
    return {check.name for check in checks if not check.passes}


@pytest.mark.parametrize(
    ("hardened", "norm", "epsilon"), [(False, "linf", EPSILON), (True, "linf", EPSILON), (True, "l2", 0.7)]
)
def test_honest_models_pass(hardened, norm, epsilon):
    assert suspicious(trained(hardened), norm, epsilon) == set()


def test_an_honest_model_that_rounds_its_input_passes():
    assert suspicious(Disguised(trained(), before=rounded_as_trained)) == set()


def test_huge_logits_are_masking():
    found = suspicious(Disguised(trained(), after=lambda logits: logits * 1e4))
    assert {"black_box", "loss_along_gradient"} <= found


def test_rounding_without_gradient_is_masking():
    assert {"large_epsilon", "black_box", "loss_along_gradient"} <= suspicious(Disguised(trained(), before=rounded))


def measured(images: int, **shares: float) -> dict[str, torch.Tensor]:
    """What the measures of an honest model give, but for `shares` of images that are still right."""
    honest = {"clean": 1, "one_step": 0.3, "few_steps": 0.1, "many_steps": 0.1, "black_box": 0.2}
    honest |= {"large_epsilon": 0, "loss_rises": 1} | shares
    return {name: torch.arange(images) < round(share * images) for name, share in honest.items()}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("large_epsilon", {"large_epsilon": 0.12}),
        ("black_box", {"black_box": 0.05}),
        ("more_steps", {"few_steps": 0.05}),
        ("more_steps", {"few_steps": 0.3}),
        ("one_step", {"one_step": 0.05}),
        ("loss_along_gradient", {"loss_rises": 0.8}),
    ],
)
def test_each_sign_counts_where_the_sample_shows_it(name, shares):
    assert set(measured(1)) == set(MEASURES)
    for images, expected in ((20, []), (400, [name])):
        assert [check.name for check in judge_masking(measured(images, **shares)) if not check.passes] == expected


def test_a_weaker_attack_beats_a_stronger_one_only_beyond_chance():
    strong = torch.arange(1000) < 500
    assert not beats(strong, strong)
    assert not beats(strong.roll(20), strong)
    assert not beats(torch.arange(1000) < 510, strong)
    assert not beats(torch.arange(1000) < 490, strong)  # significant, but a single image in a hundred
    assert beats(torch.arange(1000) < 485, strong)
    assert not beats(torch.arange(20) < 6, torch.arange(20) < 10)


def test_too_few_right_images_are_refused():
    with pytest.raises(ValueError, match="19 of 40 images right"):
        judge_masking(measured(40, clean=19 / 40))
