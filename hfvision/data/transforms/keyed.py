"""Random numbers that belong to an image instead of to a moment.

Each image has a key, an int64, and every number drawn for it is a hash of that key. What is drawn so does not depend
on which images share a batch, on workers, processes or devices, or on where a run was resumed. The hash is the
finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # the increment of SplitMix64, as a signed 64-bit number


def scramble(x: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of int64 whose every output bit depends on every input bit; any shape."""
    x = (x ^ shift_right(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ shift_right(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ shift_right(x, 31)


def shift_right(x: Tensor, bits: int) -> Tensor:
    """Shifts zeros in from the left, where `>>` repeats the sign of an int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def image_keys(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """The keys of images in one epoch of a run.

    Args:
        seed: of the run, any int that fits 64 bits.
        epoch: epoch or copy, 0 or more.
        indices: int64 (N,), the images' places in their data set.

    Returns:
        Int64 (N,) on the device of `indices`.
    """
    start = scramble(torch.tensor(seed, device=indices.device) + GOLDEN)
    return scramble(scramble(start + epoch) + indices)


def fresh_keys(count: int) -> Tensor:
    """Int64 (count,): keys drawn from torch's global generator, other ones at each call."""
    return torch.randint(-(2**63), 2**63 - 1, (count,))


def uniform(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform random numbers of each key.

    Args:
        keys: int64 (N,).
        count: how many numbers a key; the first ones are the same for every count.
        stream: numbers of different streams are independent; 0 or more.

    Returns:
        Float32 (N, count) in [0, 1), multiples of 2^-24, on the device of `keys`.
    """
    counters = torch.arange(1, count + 1, device=keys.device) + (stream << 32)
    return shift_right(scramble(keys[:, None] + counters * GOLDEN), 40).float() / 2**24


def normal(keys: Tensor, count: int, stream: int = 0) -> Tensor:
    """Standard normal random numbers of each key, float32 (N, count), finite; arguments as for [`uniform`]."""
    return torch.special.ndtri(uniform(keys, count, stream).clamp_min(2.0**-25))
