"""How noisy an image is, and how strongly the block edges of a lossy codec show, without a reference."""

import numpy as np

TILE = (8, 32)  # coefficients a side, at least and at most, of the tiles whose noise is estimated apart
QUIET = 0.1  # quantile of the tiles: noise is everywhere, texture is not
MAD_TO_SIGMA = 0.6745  # median absolute value of a standard normal variable
BLOCK = 8  # pixels a side of the blocks of JPEG


def luma(pixels: np.ndarray) -> np.ndarray:
    """BT.601 luma, float32 (H, W) in levels of 8 bit, of uint8 or uint16 (H, W, C), C of 1 to 4, without alpha."""
    values = pixels.astype(np.float32)
    if pixels.dtype == np.uint16:
        values /= 257
    if pixels.shape[2] < 3:
        return values[..., 0]
    return values[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)


def estimate_noise(pixels: np.ndarray) -> float:
    """Standard deviation of the noise of an image, in levels of 8 bit.

    The median absolute coefficient of the finest diagonal Haar wavelet band over 0.6745 (Donoho and Johnstone 1994,
    doi:10.1093/biomet/81.3.425, section 4.2), for each tile of 64×64 pixels (of a
    quarter of the shorter side in small images); of the tiles the lowest decile, as
    texture too is in that band. Tiles of one color, as of drawings and clipped skies, are left out.

    Args:
        pixels: uint8 or uint16 (H, W, C), C of 1 to 4.

    Returns:
        0.0 for an image without a tile that is not flat.
    """
    y = luma(pixels)
    y = y[: y.shape[0] // 2 * 2, : y.shape[1] // 2 * 2]
    diagonal = np.abs(y[::2, ::2] - y[::2, 1::2] - y[1::2, ::2] + y[1::2, 1::2]) / 2
    tile = min(max(min(diagonal.shape) // 4, TILE[0]), TILE[1])
    height, width = (max(1, side // tile) for side in diagonal.shape)
    tiles = [part for rows in np.array_split(diagonal, height) for part in np.array_split(rows, width, axis=1)]
    medians = [float(np.median(tile)) for tile in tiles if tile.size and tile.max() > 0]
    return float(np.quantile(medians, QUIET)) / MAD_TO_SIGMA if medians else 0.0


def blockiness(pixels: np.ndarray) -> float:
    """How much larger steps between pixels are at the edges of 8×8 blocks than elsewhere: about 1 for an image that
    was never compressed.

    The ratio of the mean absolute second difference across block edges to that across the other columns and rows
    (after Wang, Bovik and Evans 2000, doi:10.1109/ICIP.2000.899622), for the blocks of a JPEG that was not cropped.

    Args:
        pixels: uint8 or uint16 (H, W, C), C of 1 to 4, of at least 17 pixels a side; smaller ones give 1.0.
    """
    y = luma(pixels)
    ratios = []
    for image in (y, y.T):
        if image.shape[1] < 2 * BLOCK + 1:
            return 1.0
        step = np.diff(image, axis=1)
        edge = np.abs(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2).mean(0)  # of the step after pixel 1, 2, …
        at_edge = np.arange(1, len(edge) + 1) % BLOCK == BLOCK - 1
        inside, across = float(edge[~at_edge].mean()), float(edge[at_edge].mean())
        ratios.append((across + 0.05) / (inside + 0.05))
    return sum(ratios) / 2
