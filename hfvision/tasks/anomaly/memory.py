"""Features of normal images, whitened and thinned out, that others are compared with."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

COMPARED = 4000  # layouts at most whose differences the whitening is computed from
RANK = 256  # dimensions at most of a whitened layout
SIMILAR = 3  # nearest layouts, whose differences from one are what varies between normal images of a kind
PATCH_SHRINKAGE, LAYOUT_SHRINKAGE = 0.05, 0.02  # of the variances, towards their mean
PROJECTED = 64  # dimensions in which the coreset is chosen (Johnson-Lindenstrauss)


class Memory(NamedTuple):
    """Features of normal images, whitened: `mean` float32 (C,), `projection` (C, R), `bank` (M, R).

    `unit`: whitened features are compared by their direction alone, as vectors of length 1.
    """

    mean: Tensor
    projection: Tensor
    bank: Tensor
    unit: bool

    @classmethod
    def of_patches(cls, features: Tensor, size: int, seed: int) -> "Memory":
        """Of features (N, C), `size` of which are kept; their covariance is brought to the identity."""
        mean = features.mean(0)
        variances, directions = torch.linalg.eigh(torch.cov((features - mean).T))
        return cls.fit(features, mean, directions * inverse_root(variances, PATCH_SHRINKAGE), size, seed, unit=False)

    @classmethod
    def of_layouts(cls, features: Tensor, size: int, seed: int) -> "Memory":
        """Of features (N, C) of different images, `size` of which are kept.

        The covariance of the differences between similar images is brought to the identity: what varies from one
        normal image to another of its kind counts less than what does not.
        """
        mean = features.mean(0)
        centered = features - mean
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            _, deviations, basis = torch.pca_lowrank(centered, min(RANK, *centered.shape), center=False, niter=3)
        some = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))[:COMPARED]
        reduced = centered[some] @ basis
        similar = nearest_others(normalize(reduced / deviations.clamp_min(1e-6 * deviations[0]), dim=1))
        differences = (reduced[:, None] - reduced[similar]).flatten(0, 1)
        variances, directions = torch.linalg.eigh(differences.T @ differences / len(differences))
        projection = basis @ (directions * inverse_root(variances, LAYOUT_SHRINKAGE))
        return cls.fit(features, mean, projection, size, seed, unit=True)

    @classmethod
    def fit(cls, features: Tensor, mean: Tensor, projection: Tensor, size: int, seed: int, *, unit: bool) -> "Memory":
        """Of features (N, C), a coreset of `size`."""
        whole = cls(mean, projection, features.new_empty(0), unit)
        bank = whole.embed(features)
        return whole._replace(bank=bank[greedy_coreset(bank, size, seed)].half().float())  # as it is saved

    def embed(self, features: Tensor) -> Tensor:
        """Features (..., C) as they are compared, (..., R)."""
        embedded = (features - self.mean) @ self.projection
        return normalize(embedded, dim=-1) if self.unit else embedded


def inverse_root(variances: Tensor, shrinkage: float) -> Tensor:
    """1 / √v of each variance v, shrunk towards their mean."""
    return (variances.clamp_min(0) + shrinkage * variances.mean()).clamp_min(1e-12).rsqrt()


def nearest_others(features: Tensor) -> Tensor:
    """The numbers (N, k) of the nearest other features, of features (N, C)."""
    found = []
    for rows in torch.arange(len(features)).split(1000):
        distances = torch.cdist(features[rows], features)
        distances[torch.arange(len(rows)), rows] = torch.inf
        found.append(distances.topk(SIMILAR, largest=False).indices)
    return torch.cat(found)


def greedy_coreset(features: Tensor, size: int, seed: int) -> Tensor:
    """The numbers of `size` features that lie far from each other: each next one is the farthest from all before it.

    Algorithm 1 of PatchCore (after Sener and Savarese 2018, arXiv:1708.00489), in a random projection.

    Args:
        features: float (N, C).
        size: how many; all of them where there are no more.
        seed: of the projection and the first feature.
    """
    if size >= len(features):
        return torch.arange(len(features))
    generator = torch.Generator().manual_seed(seed)
    if features.shape[1] > PROJECTED:
        features = features @ torch.randn(features.shape[1], PROJECTED, generator=generator) / math.sqrt(PROJECTED)
    squares = features.square().sum(1)
    chosen = [int(torch.randint(len(features), (), generator=generator))]
    distances = torch.full((len(features),), torch.inf)
    while len(chosen) < size:
        last = chosen[-1]
        distances = torch.minimum(distances, squares + squares[last] - 2 * (features @ features[last]))
        chosen.append(int(distances.argmax()))
    return torch.tensor(chosen)
