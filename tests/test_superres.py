import json
import shutil
from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate.utils import DistributedType
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import mse_loss
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from transformers import pipeline

from hfvision import (
    SRGANConfig,
    SRGANDiscriminator,
    SRGANForImageSuperResolution,
    SuperResTrainingConfig,
    checkpoint,
    read_image,
    sample_photos,
)
from hfvision.cli.main import main
from hfvision.data.datasets.photos import load_photos
from hfvision.data.transforms.crops import RandomCrops, turned, turned_back
from hfvision.data.transforms.resize import downscale
from hfvision.engine.config import LoopConfig
from hfvision.engine.loop import Trainer
from hfvision.engine.network import Network
from hfvision.publishing.cards.write import card_files
from hfvision.tasks.super_resolution.blend import blend
from hfvision.tasks.super_resolution.gan import DiscriminatorLoss, discriminator_loss, generator_loss, r1_penalty
from hfvision.tasks.super_resolution.losses import SuperResolutionLoss, grid_loss, pixel_loss
from hfvision.tasks.super_resolution.train import load_generator, save_upscaler, split_photographs, train_superres

TINY = "{hidden_size: 8, block_widths: [[8]], discriminator_width: 4}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Small parts of the photographs of the package, in a folder."""
    folder = tmp_path_factory.mktemp("photos")
    for name, path in sample_photos().items():
        photo = read_image(path).convert("RGB")
        photo.crop((60, 60, 252, 204)).save(folder / f"{name}.png")
    return folder


def settings(photos, out, **changes):
    options = {
        "data": [str(photos)],
        "model": "fast-tiny",
        "model_fields": TINY,
        "scale": 2,
        "epochs": 2,
        "steps_per_epoch": 4,
        "batch_size": 4,
        "crop": 16,
        "mixed_precision": "no",
        "out": out,
    }
    return SuperResTrainingConfig(**options | changes)


GAN = {"gan": "relativistic", "r1": 0.1, "perceptual": "cnn-cifar10", "degradation": "photo"}


@pytest.fixture(scope="module")
def gan_run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gan"
    return train_superres(settings(photos, out, checkpoint_minutes=0, keep_checkpoints=20, **GAN)), out


def test_what_is_trained_is_folded_and_works_in_the_pipeline(photos, tmp_path):
    record = train_superres(settings(photos, tmp_path / "run", pixel_loss="charbonnier"))
    model = SRGANForImageSuperResolution.from_pretrained(tmp_path / "run")
    assert model.config.fused
    assert record["training"]["parameters"] == model.num_parameters()
    photo = read_image(photos / "cat.png")
    upscale = pipeline("image-super-resolution", model=str(tmp_path / "run"), trust_remote_code=True)
    assert upscale(photo).size == (2 * photo.width, 2 * photo.height)
    saved = json.loads((tmp_path / "run" / "record.json").read_text())["training"]
    assert [entry["epoch"] for entry in saved["history"]] == [1, 2]
    assert saved["data"]["photographs"] + saved["data"]["validation_photographs"] == len(sample_photos())
    for name in ("samples.png", "curve.png"):
        assert Image.open(tmp_path / "run" / name).width > 200


def test_no_copy_of_a_photograph_set_aside_is_trained_on(photos, tmp_path):
    for path in photos.iterdir():
        shutil.copy(path, tmp_path / f"copy of {path.name}")
    config = settings(photos, tmp_path / "run", data=[str(photos), str(tmp_path)], validation=0.2)
    left, held_out = split_photographs(config, 32)
    contents = [{photo.tobytes() for photo in part} for part in (left, held_out)]
    assert not contents[0] & contents[1]
    assert len(contents[0] | contents[1]) == len(sample_photos())
    twice = [str(photos / "cat.png"), str(tmp_path / "copy of cat.png")]
    with pytest.raises(ValueError, match="1 photograph of at least 32×32 pixels is too few to set some aside"):
        split_photographs(settings(photos, tmp_path / "run", data=twice), 32)


def test_the_best_epoch_by_psnr_is_kept(photos, tmp_path):
    changes = {"learning_rate": 0.03, "warmup": 0.0, "schedule": "constant", "epochs": 4, "ema": 0}
    record = train_superres(settings(photos, tmp_path / "run", **changes))
    scores = [entry["validation_psnr"] for entry in record["training"]["history"]]
    assert scores[-1] < max(scores), "at this rate the last epoch is not the best"
    changes = {"model": str(tmp_path / "run"), "model_fields": None, "epochs": 1, "learning_rate": 1e-12, "ema": 0}
    again = train_superres(settings(photos, tmp_path / "again", **changes))
    assert again["training"]["history"][0]["validation_psnr"] == pytest.approx(max(scores), abs=1e-3)


def test_a_gan_resumes_to_the_bit_in_the_middle_of_an_epoch(photos, gan_run, tmp_path):
    record, out = gan_run
    shutil.copytree(out, tmp_path / "cut")
    for folder in sorted((tmp_path / "cut" / "checkpoints").iterdir())[2:]:
        shutil.rmtree(folder)
    again = train_superres(
        settings(photos, tmp_path / "cut", resume=True, checkpoint_minutes=0, keep_checkpoints=20, **GAN)
    )
    for name in ("model.safetensors", "discriminator/model.safetensors"):
        whole, resumed = load_file(out / name), load_file(tmp_path / "cut" / name)
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for entry, other in zip(record["training"]["history"], again["training"]["history"], strict=True):
        names = [name for name in entry if name not in ("seconds", "images_per_second")]
        assert {"loss", "pixels", "features", "fooled", "discriminator_loss", "validation_psnr"} <= set(names)
        assert [entry[name] for name in names] == [other[name] for name in names]


def test_a_training_on_degraded_photographs_is_validated_on_three_kinds_of_them(gan_run):
    record = gan_run[0]["training"]
    for figures, name in ((record["history"][-1], "validation_psnr"), (record, "bicubic_psnr")):
        parts = [figures[f"{name}_{kind}"] for kind in ("bicubic", "mild", "strong")]
        assert parts == sorted(parts, reverse=True)
        assert figures[name] == pytest.approx(sum(parts) / 3)


def test_the_discriminator_is_saved_beside_a_gans_generator(gan_run):
    _, out = gan_run
    discriminator = SRGANDiscriminator.from_pretrained(out / "discriminator")
    assert discriminator(torch.rand(1, 3, 16, 16)).logits.shape == (1, 1, 16, 16)
    files = {path.name for path in max((out / "checkpoints").iterdir()).iterdir()}
    assert {"discriminator_model.safetensors", "discriminator_optimizer.safetensors"} <= files


def test_crops_are_turned_or_left_upright():
    ramp = Image.linear_gradient("L").resize((16, 16))
    original = pil_to_tensor(ramp)
    crops = {turn: RandomCrops([ramp], 16, 40, num_channels=1, turn=turn) for turn in (False, True)}
    upright, turned = ([each[i]["labels"] for i in range(40)] for each in crops.values())
    assert all(torch.equal(crop, original) for crop in upright)
    assert 4 < sum(torch.equal(crop, original) for crop in turned) < 20


def test_crops_of_most_detail_are_taken():
    noise = torch.randint(0, 256, (1, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    half_flat = to_pil_image(torch.cat([noise, torch.full_like(noise, 128)], 2))
    crops = {n: RandomCrops([half_flat], 16, 64, num_channels=1, candidates=n) for n in (1, 4)}
    flat = {n: sum(int(each[i]["labels"].float().std() == 0) for i in range(64)) for n, each in crops.items()}
    assert flat[1] > 16
    assert flat[4] < 8
    assert torch.equal(crops[4][5]["labels"], crops[4][5]["labels"])


def test_photographs_are_shrunk_before_crops_are_taken():
    ramp = torch.arange(0, 256, 2, dtype=torch.uint8).expand(1, 128, 128)
    photos = [to_pil_image(ramp)]
    crops = RandomCrops(photos, 32, 60, num_channels=1, turn=False, shrink=0.5)
    steps = torch.stack([crops[i]["labels"][0, 16].float().diff()[4:-4].mean() / 2 for i in range(60)])
    assert 1 <= steps.min() < 1.1
    assert 1.9 < steps.max() <= 2
    assert torch.equal(crops[5]["labels"], crops[5]["labels"])
    whole = RandomCrops([to_pil_image(ramp[:, :40, :40])], 32, 60, num_channels=1, turn=False, shrink=0.1)
    assert max(whole[i]["labels"][0, 16].float().diff()[4:-4].mean().item() / 2 for i in range(60)) < 1.3
    plain, never = (RandomCrops(photos, 32, 8, num_channels=1, **shrink) for shrink in ({}, {"shrink": 1.0}))
    assert all(torch.equal(plain[i]["labels"], never[i]["labels"]) for i in range(8))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_grid_of_the_scales_period_is_told_from_texture(scale):
    photo = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    grid = torch.zeros(48, 48)
    grid[::scale] = 0.02
    assert grid_loss(photo, photo, scale) == 0
    assert grid_loss(photo + 0.1, photo, scale) < 1e-6, "a brightness is no grid"
    expected = (grid - grid.mean()).abs().mean()
    assert grid_loss(photo + grid, photo, scale).item() == pytest.approx(expected.item(), rel=1e-4)
    other = torch.zeros(48, 48)
    other[:: scale + 1] = 0.02
    assert grid_loss(photo + other, photo, scale) < 0.3 * expected


def test_the_generators_loss_leaves_no_gradient_in_the_discriminator(photos):
    config = settings(
        photos, photos / "run", gan="vanilla", epochs=1, steps_per_epoch=1, optimizer="momentum", momentum=0.0
    )
    torch.manual_seed(0)
    shape = SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=8, block_widths=[[8]], discriminator_width=4)
    generator, discriminator = SRGANForImageSuperResolution(shape), SRGANDiscriminator(shape)
    crops = RandomCrops(load_photos([photos]), 32, 4)
    batch = {name: torch.stack([crops[i][name] for i in range(4)]) for name in ("labels", "index")}
    labels = batch["labels"].float() / 255

    alone = SRGANDiscriminator(shape).train()
    alone.load_state_dict(discriminator.state_dict())
    with torch.no_grad():
        fake = generator(downscale(labels, 2)).reconstruction
        # the generator's step looks at both, and spectral normalisation counts looks
        alone(fake), alone(labels)
    real, fake = alone(torch.cat([labels, fake])).logits.chunk(2)
    discriminator_loss(real, fake, "vanilla").backward()
    expected = {name: p.detach() - 0.1 * p.grad for name, p in alone.named_parameters()}

    second_loss = DiscriminatorLoss("vanilla")
    loss = SuperResolutionLoss(
        config, 2, lambda: torch.autocast("cpu", enabled=False), None, None, discriminator, second_loss
    )
    loop = LoopConfig(
        epochs=1, batch_size=4, optimizer="momentum", momentum=0.0, weight_decay=0.0, mixed_precision="no", warmup=0
    )
    second = Network(discriminator, second_loss, 0.1)
    Trainer(Network(generator, loss), crops, loop, discriminator=second).fit()
    for name, parameter in discriminator.named_parameters():
        assert torch.allclose(parameter, expected[name], atol=1e-6), name


def test_a_gan_under_deepspeed_is_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.DEEPSPEED)
    with pytest.raises(ValueError, match="DeepSpeed trains one network only: use DDP or FSDP2"):
        Trainer(None, None, LoopConfig(), accelerator=accelerator, discriminator=object())


@pytest.mark.parametrize("kind", ["vanilla", "relativistic"])
def test_gan_losses_pull_scores_apart_and_together(kind):
    real, fake = torch.tensor([[2.0], [1.0]]), torch.tensor([[-1.0], [-2.0]])
    assert discriminator_loss(real, fake, kind) < discriminator_loss(fake, real, kind)
    assert generator_loss(real, fake, kind) > generator_loss(fake, real, kind)
    undecided = torch.zeros(2, 1)
    assert discriminator_loss(undecided, undecided, kind).item() == pytest.approx(2 * 0.6931, abs=1e-3)


def test_r1_is_the_squared_gradient_of_the_scores():
    images = torch.rand(2, 1, 4, 4, requires_grad=True)
    scores = (images * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)).sum((1, 2, 3), keepdim=True)
    assert r1_penalty(scores, images).item() == pytest.approx(16 * (1 + 9) / 2)


def test_pixel_losses():
    images, targets = torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.5])
    assert pixel_loss(images, targets, "l1").item() == pytest.approx(0.25)
    assert pixel_loss(images, targets, "l2").item() == pytest.approx(0.125)
    assert pixel_loss(images, targets, "charbonnier").item() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_luma_counts_what_the_eye_sees_as_brightness(kind):
    black = torch.zeros(1, 3, 4, 4)
    green, blue = (black.clone().index_fill(1, torch.tensor(channel), 0.5) for channel in (1, 2))
    assert pixel_loss(green, black, kind) == pixel_loss(blue, black, kind)
    assert pixel_loss(green, black, kind, 1.0) > 4 * pixel_loss(blue, black, kind, 1.0)
    half = (pixel_loss(green, black, kind) + pixel_loss(green, black, kind, 1.0)) / 2
    assert pixel_loss(green, black, kind, 0.5).item() == pytest.approx(half.item())
    grey = torch.full((1, 1, 4, 4), 0.5)
    assert pixel_loss(grey, 0 * grey, kind, 0.8) == pixel_loss(grey, 0 * grey, kind)


def test_a_folded_network_gets_its_branches_back_with_the_same_output():
    model = load_generator("sr-tiny-x2", {})
    assert not model.config.fused
    small = torch.rand(1, 3, 12, 16)
    with torch.inference_mode():
        expected = SRGANForImageSuperResolution.from_pretrained(checkpoint("sr-tiny-x2"))(small)
        assert torch.allclose(model(small).reconstruction, expected.reconstruction, atol=1e-5)


def test_weights_of_another_scale_are_taken_but_for_the_last_layer():
    model, source = load_generator("sr-tiny-x2", {"scale": 3}), load_generator("sr-tiny-x2", {})
    assert torch.equal(model.generator.head[0].weight, source.generator.head[0].weight)
    small = torch.rand(1, 3, 12, 16)
    with torch.inference_mode():
        upscaled = model(small).reconstruction
    assert upscaled.shape == (1, 3, 36, 48)


@pytest.mark.parametrize("distillation", ["pixels", "features"])
def test_a_student_learns_from_a_teacher(photos, tmp_path, distillation):
    changes = {"teacher": "sr-tiny-x2", "distillation": distillation, "distillation_weight": 1.0}
    record = train_superres(settings(photos, tmp_path, learning_rate=5e-3, steps_per_epoch=32, **changes))
    first, last = record["training"]["history"]
    assert last["loss"] < first["loss"]


def small_photo(photos):
    return downscale(pil_to_tensor(read_image(photos / "cat.png").convert("RGB"))[None].float() / 255, 2)


def shaken_teacher(folder):
    """`sr-tiny-x2` with noise on its weights, also saved as `folder`."""
    torch.manual_seed(0)
    teacher = load_generator("sr-tiny-x2", {})
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    save_upscaler(teacher, folder)
    return teacher


def test_a_student_learns_the_mean_of_what_its_teacher_makes_of_turned_crops(photos, tmp_path):
    def answers(model):
        small = small_photo(photos)
        ways = [(flip, turns) for flip in (False, True) for turns in range(4)]
        with torch.inference_mode():
            return [turned_back(model.reconstruct(turned(small, *way)), *way) for way in ways]

    teacher = shaken_teacher(tmp_path / "teacher")
    changes = {"model": str(tmp_path / "teacher"), "teacher": str(tmp_path / "teacher"), "model_fields": None}
    run = settings(
        photos, tmp_path / "run", **changes, self_ensemble=True, distillation_weight=1.0, steps_per_epoch=32, ema=0.9
    )
    train_superres(run)
    answers_of_teacher = answers(teacher)
    student = answers(SRGANForImageSuperResolution.from_pretrained(tmp_path / "run"))[0]
    mean = torch.stack(answers_of_teacher).mean(0)
    assert mse_loss(student, mean) < 0.5 * mse_loss(answers_of_teacher[0], mean)
    card = card_files(tmp_path / "run")["README.md"]
    assert "outputs for rotated and flipped crops" in " ".join(card.split())


def test_a_gan_learns_from_a_teacher_and_blends_with_what_it_was(photos, tmp_path):
    def distance_from_teacher(model):
        return mse_loss(model.reconstruct(small), teacher.reconstruct(small))

    start, teacher = load_generator("sr-tiny-x2", {}), shaken_teacher(tmp_path / "teacher")
    networks = {"model": "sr-tiny-x2", "teacher": str(tmp_path / "teacher"), "distillation_weight": 1.0}
    gan = {"gan": "relativistic", "model_fields": "{discriminator_width: 8}", "learning_rate": 3e-3, "ema": 0.9}
    train_superres(settings(photos, tmp_path / "run", **networks, **gan, steps_per_epoch=20))
    end = SRGANForImageSuperResolution.from_pretrained(tmp_path / "run")
    small = small_photo(photos)
    with torch.inference_mode():
        before, between, after = map(distance_from_teacher, (start, blend(start, end, 0.5), end))
    assert before > between > after
    assert after < 0.7 * before
    card = " ".join(card_files(tmp_path / "run")["README.md"].split())
    assert "Trained against a discriminator (relativistic)" in card
    assert "It also learned from" in card


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_what_is_turned_can_be_turned_back(flip, turns):
    image = torch.arange(3 * 4 * 6).view(3, 4, 6)
    other = turned(image, flip, turns)
    assert other.shape == (3, 4, 6) if turns % 2 == 0 else (3, 6, 4)
    assert torch.equal(other, image) == (not flip and turns == 0)
    assert torch.equal(turned_back(other, flip, turns), image)


def test_photographs_are_read_from_folders_and_parquet_files(photos, tmp_path):
    paths = sorted(photos.iterdir())
    table = datasets.Dataset.from_dict({"picture": [str(path) for path in paths]})
    table.cast_column("picture", datasets.Image()).to_parquet(tmp_path / "photos.parquet")
    from_folder, from_table = load_photos([photos]), load_photos([tmp_path / "photos.parquet"])
    assert [photo.tobytes() for photo in from_folder] == [photo.tobytes() for photo in from_table]
    assert len(load_photos([paths[0], photos])) == len(paths) + 1


def test_a_source_that_is_named_twice_is_drawn_from_twice_as_often(tmp_path):
    for name, grey in (("dark", 0), ("bright", 255)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32), (grey,) * 3).save(tmp_path / name / "photo.png")
    photos = load_photos([tmp_path / "dark", tmp_path / "bright", tmp_path / "bright"])
    assert photos[1] is photos[2], "read once"
    crops = RandomCrops(photos, 16, 300)
    share = sum(crops[number]["labels"].float().mean().item() / 255 for number in range(300)) / 300
    assert share == pytest.approx(2 / 3, abs=0.08)


def test_bad_photographs_are_named(photos, tmp_path):
    with pytest.raises(ValueError, match=r"None of the 6 images in .* has 500×500 pixels or more"):
        load_photos([photos], min_side=500)
    (tmp_path / "broken.png").write_bytes((photos / "cat.png").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"broken\.png is damaged or cut off"):
        load_photos([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_photos(["nowhere"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "data must name photographs"),
        (["--data", "x", "x"], "data names x more than once: photographs set aside"),
        (["--data", "x", "--scale", "5"], "scale must be 2, 3 or 4, got 5"),
        (["--data", "x", "--r1", "1"], "belong to the second stage"),
        (["--data", "x", "--perceptual", "cnn-cifar10"], "belong to the second stage"),
        (["--data", "x", "--crop", "4"], "crop must be at least 8"),
        (["--data", "x", "--candidates", "0"], "candidates must be at least 1"),
        (["--data", "x", "--shrink", "0"], "shrink must be above 0 and at most 1, got 0"),
        (["--data", "x", "--luma", "1.5"], "luma must be from 0 to 1"),
        (["--data", "x", "--grid-weight", "-1"], "grid_weight must not be negative"),
        (["--data", "nowhere"], "There is no file or folder nowhere"),
        (["--data", "PHOTOS", "--crop", "400"], "has 800×800 pixels or more"),
        (["--data", "PHOTOS", "--model", "vit-cifar10"], "does not do image-super-resolution"),
        (
            ["--data", "PHOTOS", "--teacher", "sr-tiny-x2", "--scale", "4", "--crop", "8"],
            "The teacher sr-tiny-x2 upscales ×2",
        ),
        (["--data", "x", "--self-ensemble"], "self_ensemble is of a teacher of pixels"),
        (
            ["--data", "x", "--self-ensemble", "--teacher", "sr-tiny-x2", "--distillation", "features"],
            "self_ensemble is of a teacher of pixels",
        ),
        (["--data", "x", "--self-ensemble", "--teacher", "sr-tiny-x2", "--no-turn"], "turn=False rules out"),
        (["--data", "PHOTOS", "--model_fields", "[1]"], "model_fields must be a mapping"),
    ],
)
def test_wrong_options_are_refused_in_one_line(photos, tmp_path, capsys, options, message):
    words = [word.replace("PHOTOS", str(photos)) for word in options]
    if "--scale" not in words:
        words += ["--scale", "2"]
    assert main(["train", "superres", *words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hfvision: error:")
    assert message in error
    assert not (tmp_path / "run" / "model.safetensors").exists()
