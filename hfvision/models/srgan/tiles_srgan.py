"""Upscaling in tiles of bounded memory that give the bits of the whole image.

Tiles overlap by the network's receptive radius, so that every pixel that is kept has seen all that it depends on, and
padding is the network's own at the borders of the image alone. In the layout channels_last oneDNN adds the products
of a convolution in one order whatever the size of the image, so in fp32 on a CPU tiles give the bits of the whole.
GELU and SiLU are excepted: PyTorch rounds their last bit otherwise at the ends of each thread's share (1e-7).
"""

from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.utils import logging

CPU_TILE, GPU_TILE = 256, 1024
CPU_BYTES = 400_000_000
FEW_VALUES = 20_480  # on one thread PyTorch computes convolutions of so few values another way than of more

logger = logging.get_logger(__name__)


def receptive_radius(config: Any) -> int | None:
    """How many pixels of the input, in each direction, a cell of `pixel_unshuffle` pixels depends on at most.

    None for a configuration of another family, whose network must see the image whole.
    """
    if not hasattr(config, "block_widths"):
        return None
    radius = config.head_kernel_size // 2 + sum(len(widths) + 1 for widths in config.block_widths)
    radius += config.trunk_residual
    if config.upsampler == "stepwise":
        radius += {2: 1, 3: 1, 4: 2}[config.scale] + ceil(config.tail_kernel_size // 2 / config.scale)
    else:
        radius += config.tail_kernel_size // 2
    return max(radius * cell_side(config), 2)  # of the bicubic skip


def cell_side(config: Any) -> int:
    """The side in pixels of the cells that the input is divided into, at whose borders alone tiles may begin."""
    return getattr(config, "pixel_unshuffle", 1)


def automatic_tile(model: Any, batch: int = 1) -> int:
    """The side of square tiles, in pixels of the input: large beside the overlap, small beside the memory.

    On a CPU no larger than its caches like, and of at most 400 MB; on a GPU of at most half of its free memory.
    """
    config, device = model.config, torch.device(getattr(model, "device", "cpu"))
    radius = receptive_radius(config) or 0
    width = max([config.hidden_size, *(w for widths in config.block_widths for w in widths)])
    last = config.hidden_size if config.upsampler == "stepwise" else config.num_channels
    bytes_per_pixel = batch * 4 * (3 * width // cell_side(config) ** 2 + 3 * last * config.scale**2)
    if device.type == "cuda":
        memory, largest = torch.cuda.mem_get_info(device)[0] // 2, GPU_TILE
    else:
        memory, largest = CPU_BYTES, max(CPU_TILE, 12 * radius)
    return max(min(largest, int((memory / bytes_per_pixel) ** 0.5)), smallest_tile(radius))


def smallest_tile(radius: int) -> int:
    return 2 * radius + 16


def window_at(first: int, length: int, tile: int, radius: int) -> tuple[int, int]:
    """Where the window of `tile` pixels starts that gives the output from pixel `first` on, and where that ends.

    All windows are of one length and inside the image; the last one ends at its border.
    """
    start = min(max(first - radius, 0), length - tile)
    return start, length if start + tile == length else start + tile - radius


def round_up(length: int, cell: int) -> int:
    """The least multiple of `cell` that is at least `length`."""
    return length + -length % cell


def shape_of_tiles(size: tuple[int, int], tile: int, radius: int, cell: int = 1) -> tuple[int, int]:
    """Height and width of all tiles of an image of this height and width: the least multiples of `cell` that need no
    more tiles than squares of side `tile`, of more than `FEW_VALUES` pixels."""

    def balanced(length: int) -> int:
        if tile >= length:
            return length
        tiles = ceil((length - 2 * radius) / (tile - 2 * radius))
        return round_up(ceil((length - 2 * radius) / tiles) + 2 * radius, cell)

    wide = max(balanced(size[1]), min(size[1], round_up(FEW_VALUES // size[0] + 1, cell)))
    return max(balanced(size[0]), min(size[0], round_up(FEW_VALUES // wide + 1, cell))), wide


def extend(
    window: Callable[[slice, slice], torch.Tensor], size: tuple[int, int]
) -> Callable[[slice, slice], torch.Tensor]:
    """`window` for slices that may reach beyond an image of this height and width, whose border is repeated there."""

    def extended(rows: slice, columns: slice) -> torch.Tensor:
        below, right = max(rows.stop - size[0], 0), max(columns.stop - size[1], 0)
        return pad(window(rows, columns), (0, right, 0, below), mode="replicate")

    return extended


def upscale_strips(
    run: Callable[[torch.Tensor], torch.Tensor],
    window: Callable[[slice, slice], torch.Tensor],
    size: tuple[int, int],
    scale: int,
    radius: int | None,
    tile: int,
    cell: int = 1,
) -> Iterator[torch.Tensor]:
    """The upscaled image from top to bottom, in strips of the height of a tile.

    Args:
        run: the network: (N, C, h, w) to (N, C, h·scale, w·scale).
        window: gives the part (N, C, h, w) of the input at these rows and columns.
        size: height and width of the input.
        radius: see [`receptive_radius`]; None computes the image whole.
        tile: side of the tiles in pixels of the input; halved as often as memory does not suffice. An image of at
            most `FEW_VALUES` pixels is computed whole.
        cell: see [`cell_side`].

    Yields:
        float (N, C, rows, W·scale) on the CPU.

    Raises:
        ValueError: if a tile is no larger than its overlap.
    """
    window = extend(window, size) if cell > 1 else window
    whole, size = size, (round_up(size[0], cell), round_up(size[1], cell))
    height, width = size
    tile = round_up(tile, cell)
    if radius is None or tile >= max(size):
        tile, radius = max(size), radius or 0
    elif tile <= 2 * radius:
        raise ValueError(f"Tiles of {tile} pixels are all overlap: this network needs at least {2 * radius + 1}.")
    first = 0
    while first < height:
        tall, wide = shape_of_tiles(size, tile, radius, cell)
        top, bottom = window_at(first, height, tall, radius)
        strip: Any = None
        left = 0
        try:
            while left < width:
                start, right = window_at(left, width, wide, radius)
                output = run(window(slice(top, top + tall), slice(start, start + wide)))
                if strip is None:
                    strip = output.new_empty(*output.shape[:2], (bottom - first) * scale, width * scale, device="cpu")
                rows = slice((first - top) * scale, (bottom - top) * scale)
                strip[..., left * scale : right * scale] = output[
                    ..., rows, (left - start) * scale : (right - start) * scale
                ]
                left = right
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or radius == 0 or tile == smallest_tile(radius):
                raise
            tile = max(round_up(min(tile, max(size)) // 2, cell), smallest_tile(radius))
            logger.warning(f"Memory does not suffice: going on with tiles of {tile}×{tile} pixels.")
            continue
        yield strip[..., : (whole[0] - first) * scale, : whole[1] * scale]
        first = bottom


def out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "allocate memory" in str(error) or "out of memory" in str(error)


def reconstruct(model: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """What `model` makes of `pixel_values`, in the fastest way that its class knows."""
    if hasattr(type(model), "reconstruct"):
        return model.reconstruct(pixel_values)
    return model(pixel_values=pixel_values).reconstruction


class GuardedNetwork:
    """A network as a function of `pixel_values` (N, C, h, w), float in [0, 1], to finite float32 (N, C, H, W).

    Half precision (`dtype`) is by autocast, so that the final addition is in fp32. Where it overflows, fp32 is used
    from then on.

    Args:
        model: has `config.scale` and gives an output with `reconstruction` when it is called with `pixel_values`.
        dtype: `torch.bfloat16`, `torch.float16`, or `torch.float32` for the model's own.

    Raises:
        FloatingPointError: on a call, if the result is not finite in fp32 either.
    """

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32):
        self.model = model
        self.device = torch.device(getattr(model, "device", "cpu"))
        self.dtype = dtype if isinstance(model, torch.nn.Module) else torch.float32

    @torch.inference_mode()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # contiguous() leaves one channel as it is.
        values = torch.empty_like(pixel_values, device=self.device, memory_format=torch.channels_last)
        values.copy_(pixel_values)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = reconstruct(self.model, values).float()
        if torch.isfinite(output).all():
            return output
        if self.dtype == torch.float32:
            raise FloatingPointError("The network gives values that are no numbers: its weights are damaged.")
        logger.warning(f"{self.dtype} overflows in this network: going on in fp32.")
        self.dtype = torch.float32
        return self(pixel_values)
