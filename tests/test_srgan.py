import pytest
import torch
from model_checks import ModelChecks
from transformers import AutoModel, AutoModelForImageToImage

from hfvision import SRGANConfig, SRGANDiscriminator, SRGANForImageSuperResolution, SRGANModel
from hfvision.models.srgan.configuration_srgan import PRESETS
from hfvision.models.srgan.generator_srgan import InputUpscaler


class GeneratorChecks(ModelChecks):
    model_class = SRGANForImageSuperResolution
    auto_class = AutoModelForImageToImage
    output_name = "reconstruction"

    def inputs(self):
        generator = torch.Generator().manual_seed(1)
        config = self.config()
        shape = (2, config.num_channels, 7, 5)
        return {
            "pixel_values": torch.rand(shape, generator=generator),
            "labels": torch.rand(*shape[:2], 7 * config.scale, 5 * config.scale, generator=generator),
        }

    def test_output_is_exactly_scale_times_the_input(self):
        model, scale = self.model(), self.config().scale
        for size in ((1, 1), (3, 8), (13, 2)):
            output = self.output(model, pixel_values=torch.rand(1, self.config().num_channels, *size))
            assert output.shape[2:] == (size[0] * scale, size[1] * scale)


class TestSRResNet(GeneratorChecks):
    def config(self):
        return SRGANConfig.from_preset("srresnet", scale=4, hidden_size=6, block_widths=[[6], [4]])


class TestFastGenerator(GeneratorChecks):
    def config(self):
        return SRGANConfig.from_preset("fast-light", scale=3, hidden_size=6, block_widths=[[5], [7]], num_channels=1)


class TestPlainStack(GeneratorChecks):
    def config(self):
        return SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=6, block_widths=[[6, 5]], skip="nearest")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_and_fold(name, scale, tmp_path):
    torch.manual_seed(0)
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset(name, scale=scale)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
        pixel_values = torch.rand(1, 3, 6, 6)
        expected = model(pixel_values).reconstruction
        model.save_pretrained(tmp_path)
        reloaded = AutoModelForImageToImage.from_pretrained(tmp_path)
        torch.testing.assert_close(reloaded(pixel_values).reconstruction, expected)
        parameters = reloaded.num_parameters()
        assert (reloaded.fuse()(pixel_values).reconstruction - expected).abs().max() <= 1e-5
        reloaded.save_pretrained(tmp_path)
        fused = AutoModelForImageToImage.from_pretrained(tmp_path)
        assert (fused(pixel_values).reconstruction - expected).abs().max() <= 1e-5
    assert (fused.num_parameters() < parameters) == (model.config.branch_expansion is not None)


def test_sizes_of_the_fast_networks():
    with torch.device("meta"):
        sizes = [
            SRGANForImageSuperResolution(SRGANConfig.from_preset(name, scale=2, fused=True)).num_parameters()
            for name in ("fast-tiny", "fast-light", "fast-quality")
        ]
    assert sizes[0] <= 45_000
    assert sizes[1] <= 350_000
    assert sizes[2] <= 4_000_000


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("mode", ["bicubic", "nearest"])
def test_skip_is_the_named_interpolation(mode, scale):
    image = torch.rand(1, 3, 12, 9)
    upscaled = InputUpscaler(scale, mode)(image)
    if mode == "nearest":
        expected = image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        torch.testing.assert_close(upscaled, expected)
    else:
        # torch's antialiased bicubic has Keys' a = -0.5 too; it treats the borders differently.
        expected = torch.nn.functional.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True)
        inner = slice(3 * scale, -3 * scale)
        torch.testing.assert_close(upscaled[..., inner, inner], expected[..., inner, inner], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["fast-tiny", "fast-light", "fast-quality"])
def test_untrained_fast_network_is_bicubic(name):
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset(name, scale=2)).eval()
    pixel_values = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values).reconstruction, InputUpscaler(2, "bicubic")(pixel_values))


ONE_PASS = "mkldnn::_convolution_pointwise"
needs_one_pass = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


def trained_generator(**fields):
    torch.manual_seed(0)
    config = SRGANConfig(**{"hidden_size": 8, "block_widths": [[8], [12]]} | fields)
    model = SRGANForImageSuperResolution(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand_like(parameter) - 0.5)
    return model


def reconstruct_twice(model, shape):
    """By `forward` and by `reconstruct`, and the names of all that PyTorch computed for the second."""
    pixel_values = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = model(pixel_values).reconstruction
        with torch.profiler.profile() as profile:
            reconstruction = model.reconstruct(pixel_values)
    return expected, reconstruction, {event.name for event in profile.events()}


@needs_one_pass
@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 2, "block_residual": False, "trunk_residual": False},
        {"scale": 3, "hidden_act": "relu", "skip": "none"},
        {"scale": 4, "hidden_act": "leaky_relu", "upsampler": "stepwise"},
        {"scale": 4, "num_channels": 1, "head_kernel_size": 5, "tail_kernel_size": 5},
        {"scale": 2, "skip": "nearest"},
    ],
)
def test_one_pass_has_the_bits_of_forward(fields):
    model = trained_generator(**fields)
    expected, reconstruction, computed = reconstruct_twice(model, (2, model.config.num_channels, 131, 120))
    assert any(ONE_PASS in name for name in computed)
    assert torch.equal(reconstruction, expected)


@pytest.mark.parametrize(
    ("fields", "size", "hooked"),
    [
        ({"norm": True}, 130, None),
        ({"hidden_act": "gelu"}, 130, None),
        ({"branch_expansion": 2}, 130, None),
        ({}, 12, None),
        ({}, 130, "generator.head.0"),
        ({}, 130, "generator.blocks.1"),
        ({}, 130, ""),
    ],
)
def test_what_one_pass_cannot_compute_is_forward(fields, size, hooked):
    model, seen = trained_generator(**fields), []
    if hooked is not None:
        model.get_submodule(hooked).register_forward_hook(lambda *values: seen.append(values))
    expected, reconstruction, computed = reconstruct_twice(model, (1, 3, size, size))
    assert not any(ONE_PASS in name for name in computed)
    assert torch.equal(reconstruction, expected)
    assert len(seen) == (0 if hooked is None else 2)


def test_reconstruct_keeps_gradients():
    model = trained_generator()
    model.reconstruct(torch.rand(1, 3, 90, 90)).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_reconstruct_refuses_images_of_other_channels():
    with pytest.raises(ValueError, match=r"pixel_values must have the shape \(batch, 3, height, width\)"):
        trained_generator().reconstruct(torch.rand(1, 1, 90, 90))


@needs_one_pass
def test_one_pass_in_bf16_adds_up_in_fp32():
    model = trained_generator(scale=4)
    pixel_values = torch.rand(1, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact = model(pixel_values).reconstruction
        with torch.autocast("cpu", torch.bfloat16):
            separate, together = model(pixel_values).reconstruction, model.reconstruct(pixel_values)
    assert together.dtype == torch.float32
    assert (together - exact).abs().mean() <= 1.1 * (separate - exact).abs().mean()


@pytest.mark.parametrize("kind", ["unet", "srgan"])
def test_pair_saves_and_each_part_loads_from_it(kind, tmp_path):
    config = SRGANConfig.from_preset("fast-tiny", scale=2, discriminator=kind, discriminator_width=4)
    pair = SRGANModel(config).eval()
    pixel_values, labels = torch.rand(2, 3, 12, 12), torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        outputs = pair(pixel_values, labels)
        pair.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path)(pixel_values, labels)
        for name in ("loss", "reconstruction", "fake_logits", "real_logits"):
            torch.testing.assert_close(outputs[name], again[name])
        generator, report = SRGANForImageSuperResolution.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        torch.testing.assert_close(generator(pixel_values).reconstruction, outputs.reconstruction)
        discriminator, report = SRGANDiscriminator.from_pretrained(tmp_path, output_loading_info=True)
        assert not report["missing_keys"]
        torch.testing.assert_close(discriminator(labels).logits, outputs.real_logits)
    assert outputs.real_logits.shape == ((2, 1, 24, 24) if kind == "unet" else (2, 1))


@pytest.mark.parametrize("kind", ["unet", "srgan"])
def test_discriminator_learns_to_tell_flat_from_noisy(kind):
    torch.manual_seed(1)
    model = SRGANDiscriminator(SRGANConfig(discriminator=kind, discriminator_width=4)).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    labels = torch.tensor([1.0] * 4 + [0.0] * 4)
    for _ in range(25):
        noisy, flat = torch.rand(4, 3, 24, 24), torch.rand(4, 3, 1, 1).expand(4, 3, 24, 24)
        loss = model(torch.cat([noisy, flat]), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.35


@pytest.mark.parametrize(("kind", "sides"), [("unet", [32, 16, 8, 4]), ("srgan", [32, 16, 16, 8, 8, 4, 4, 2])])
def test_discriminator_shows_its_features(kind, sides):
    model = SRGANDiscriminator(SRGANConfig(discriminator=kind, discriminator_width=4)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        shown, plain = model(images, output_hidden_states=True), model(images)
    assert [state.shape[-1] for state in shown.hidden_states] == sides
    assert torch.equal(shown.logits, plain.logits)
    assert plain.hidden_states is None


def test_discriminators_name_what_they_cannot_take():
    for kind, minimum in (("unet", 8), ("srgan", 16)):
        model = SRGANDiscriminator(SRGANConfig(discriminator=kind, discriminator_width=4)).eval()
        model(torch.rand(1, 3, minimum, minimum + 3))
        with pytest.raises(ValueError, match=f"at least {minimum}×{minimum}"):
            model(torch.rand(1, 3, minimum - 1, 32))


def test_paper_discriminator_has_the_papers_size_at_96_pixels():
    model = SRGANDiscriminator(SRGANConfig(discriminator="srgan"))
    assert model.discriminator.classifier[2].in_features == 512 * 6 * 6
    assert model.discriminator.features(torch.rand(1, 3, 96, 96)).shape == (1, 512, 6, 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 5}, "scale"),
        ({"block_widths": []}, "at least one block"),
        ({"tail_kernel_size": 2}, "must be odd"),
        ({"branch_expansion": 0}, "branch_expansion"),
        ({"hiden_size": 8}, "did you mean 'hidden_size'"),
    ],
)
def test_configs_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(Exception, match=message):
        SRGANConfig(**fields)


def test_labels_of_another_size_are_refused():
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset("fast-tiny", scale=2))
    with pytest.raises(ValueError, match="labels must have the shape"):
        model(torch.rand(1, 3, 8, 8), labels=torch.rand(1, 3, 8, 8))


def test_a_discriminator_missing_from_a_file_starts_normalised(tmp_path):
    config = SRGANConfig(scale=2, hidden_size=4, block_widths=[[4]], discriminator_width=4)
    SRGANForImageSuperResolution(config).save_pretrained(tmp_path)
    model = SRGANModel.from_pretrained(tmp_path)
    for conv in (*model.discriminator.down, *model.discriminator.up):
        largest = torch.linalg.matrix_norm(conv.weight.flatten(1), ord=2)
        torch.testing.assert_close(largest, torch.tensor(1.0), atol=0.1, rtol=0)
    outputs = model(torch.rand(1, 3, 16, 16), output_hidden_states=True)
    assert outputs.fake_logits.isfinite().all()
    assert len(outputs.hidden_states) == 2
