"""Keyed random numbers: uniform, independent, and functions of nothing but the key."""

import pytest
import torch

from hfvision.data.transforms.keyed import fresh_keys, image_keys, uniform


def test_the_hash_is_splitmix64():
    """Its first two outputs from the state 1234567, as published with the reference implementation."""
    keys = torch.tensor([1234567])
    top_24_bits = [6457827717110365317 >> 40, 3203168211198807973 >> 40]
    assert (uniform(keys, 2) * 2**24).long().tolist() == [top_24_bits]


def test_keys_differ_between_images_epochs_and_seeds():
    indices = torch.arange(2000)
    keys = torch.cat([image_keys(seed, epoch, indices) for seed in range(-2, 3) for epoch in range(5)])
    assert keys.dtype == torch.int64
    assert len(keys.unique()) == len(keys)


def test_a_key_does_not_depend_on_its_company():
    indices = torch.randperm(1000)
    keys = image_keys(3, 7, torch.arange(1000))
    assert torch.equal(image_keys(3, 7, indices), keys[indices])
    whole = uniform(keys, 6, stream=2)
    assert torch.equal(torch.cat([uniform(part, 6, stream=2) for part in keys.split(7)]), whole)
    assert torch.equal(uniform(keys, 4, stream=2), whole[:, :4])


@pytest.mark.parametrize("stream", [0, 5])
def test_numbers_are_uniform_and_independent(stream):
    keys = image_keys(0, 0, torch.arange(20_000))
    u = uniform(keys, 4, stream).double()
    assert 0 <= u.min() < 0.001
    assert 0.999 < u.max() < 1
    counts = torch.histc(u, bins=50, min=0, max=1)
    expected = u.numel() / 50
    assert ((counts - expected) ** 2 / expected).sum() < 85  # chi-squared, 49 degrees of freedom, p = 0.001
    following = uniform(image_keys(0, 1, torch.arange(20_000)), 1, stream)
    table = torch.cat([u, uniform(keys, 1, stream + 1), u[:, :1].roll(1, 0), following], 1).T
    correlation = torch.corrcoef(table) - torch.eye(len(table))
    assert correlation.abs().max() < 0.03


def test_fresh_keys_follow_the_global_generator():
    torch.manual_seed(0)
    first, second = fresh_keys(8), fresh_keys(8)
    torch.manual_seed(0)
    assert torch.equal(fresh_keys(8), first)
    assert len(torch.cat([first, second]).unique()) == 16
