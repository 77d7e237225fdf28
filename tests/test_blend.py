import pytest
import torch
from torch.nn.functional import mse_loss
from torchvision.transforms.v2.functional import pil_to_tensor

from hfvision import SRGANConfig, SRGANForImageSuperResolution, checkpoint, read_image, sample_photos
from hfvision.cli.main import main
from hfvision.data.transforms.resize import downscale, modcrop
from hfvision.tasks.super_resolution.blend import blend


def network(seed: int, **fields) -> SRGANForImageSuperResolution:
    torch.manual_seed(seed)
    model = SRGANForImageSuperResolution(SRGANConfig.from_preset("fast-tiny", scale=2, hidden_size=8, **fields))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@torch.inference_mode()
def test_the_ends_are_the_two_networks_and_the_middle_is_between():
    first, second, small = network(0), network(1), torch.rand(1, 3, 8, 8)
    images = [blend(first, second, alpha)(small).reconstruction for alpha in (0.0, 0.5, 1.0)]
    assert torch.allclose(images[0], first(small).reconstruction, atol=1e-5)
    assert torch.allclose(images[2], second(small).reconstruction, atol=1e-5)
    assert not torch.allclose(images[1], images[0], atol=1e-3)
    assert not first.config.fused, "the networks given are left as they were"
    tail = [blend(first, second, alpha).generator.upsampler[0].weight for alpha in (0.0, 0.25, 1.0)]
    assert torch.allclose(tail[1], 0.75 * tail[0] + 0.25 * tail[2])


@torch.inference_mode()
def test_blocks_that_one_network_lacks_add_nothing_there():
    fields = {"block_residual": True, "trunk_residual": True}
    short, small = network(0, block_widths=[[8]], **fields), torch.rand(1, 3, 8, 8)
    long = network(1, block_widths=[[8], [6], [8, 8]], **fields)
    for first, second in ((short, long), (long, short)):
        ends = [blend(first, second, alpha)(small).reconstruction for alpha in (0.0, 1.0)]
        assert torch.allclose(ends[0], first(small).reconstruction, atol=1e-5)
        assert torch.allclose(ends[1], second(small).reconstruction, atol=1e-5)
    between = blend(short, long, 0.25).generator.blocks[1].layers
    whole = long.fuse().generator.blocks[1].layers
    assert torch.equal(between[0].weight, whole[0].weight)
    assert torch.allclose(between[2].weight, 0.25 * whole[2].weight)
    with pytest.raises(ValueError, match="differ in architecture"):
        blend(short, network(1, block_widths=[[6], [8]], **fields), 0.5)


def test_networks_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in architecture"):
        blend(network(0), network(0, block_widths=[[8]]), 0.5)
    with pytest.raises(ValueError, match="differ in architecture"):
        blend(network(0), network(0, skip="none"), 0.5)
    with pytest.raises(ValueError, match=r"alpha must be from 0 to 1, got 1\.5"):
        blend(network(0), network(1), 1.5)


@torch.inference_mode()
def test_the_shipped_gan_sharpens_by_degrees_from_the_weights_for_psnr():
    photo = modcrop(pil_to_tensor(read_image(sample_photos()["astronaut"]))[None].float() / 255, 4)
    ends = [SRGANForImageSuperResolution.from_pretrained(checkpoint(name)) for name in ("sr-light-x4", "sr-gan-x4")]
    images = [blend(*ends, alpha).reconstruct(downscale(photo, 4)) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0)]
    errors = [mse_loss(image, photo) for image in images]
    contrasts = [image.diff(dim=-1).abs().mean() for image in images]
    assert errors == sorted(errors)
    assert contrasts == sorted(contrasts)


def test_the_command_writes_a_model_that_upscales(tmp_path, capsys):
    out = tmp_path / "between"
    assert main(["blend", "sr-tiny-x2", "sr-tiny-x2", "--alpha", "0.3", "--out", str(out)]) == 0
    model = SRGANForImageSuperResolution.from_pretrained(out)
    same = SRGANForImageSuperResolution.from_pretrained(checkpoint("sr-tiny-x2"))
    small = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(model(small).reconstruction, same(small).reconstruction, atol=1e-6)
    assert main(["blend", "sr-tiny-x2", "sr-tiny-x2", "--out", str(out)]) == 2
    assert "holds a model already" in capsys.readouterr().err
