"""`pipeline("image-super-resolution", model=...)`: photographs in, larger photographs out, in tiles without seams.

Tiles overlap by the network's receptive radius, so that every pixel that is kept has seen all that it depends on, and
padding is the network's own at the borders of the image alone. In the layout channels_last oneDNN adds the products
of a convolution in one order whatever the size of the image, so in fp32 on a CPU tiles give the bits of the whole.
GELU and SiLU are excepted: PyTorch rounds their last bit otherwise at the ends of each thread's share (1e-7).
"""

from base64 import b64decode
from collections.abc import Callable, Iterator
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch.nn.functional import pad
from transformers import Pipeline
from transformers.utils import logging

from .configuration_srgan import FEW_VALUES
from .image_processing_srgan import SRGANImageProcessor

# Of the formats that Pillow reads and that hold photographs.
SUFFIXES = {
    *(
        ".apng",
        ".avif",
        ".avifs",
        ".bmp",
        ".dib",
        ".gif",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpc",
        ".jpe",
        ".jpeg",
        ".jpf",
    ),
    *(".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
}
CPU_TILE, GPU_TILE = 256, 1024
CPU_BYTES = 400_000_000
SHORTEST_BASE64 = 40  # characters: no image file is of fewer than 30 bytes

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
    radius = receptive_radius(config)
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
        strip, left = None, 0
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


class SuperResolutionPipeline(Pipeline):
    """Upscales an image, a list of images, or the images of a folder, in tiles as memory asks for.

    An image is a path, a URL, a data URL, base64, bytes, a PIL image, or a NumPy array (H, W) or (H, W, C) of uint8,
    or of uint16 where it is grey. Grey stays grey, 16-bit grey stays 16-bit, transparency goes through the network
    too, the ICC profile is kept, EXIF orientation is applied; of an animation the first frame is taken. The result is
    exactly `scale` times as wide and high. Colour of 16 bits is refused, as Pillow would cut it to 8.

    ```python
    >>> upscale = pipeline("image-super-resolution", model="user/model", trust_remote_code=True)
    >>> upscale("photo.jpg").size
    ```
    """

    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_processor = False

    def __call__(self, images: str | Path | bytes | np.ndarray | Image.Image | list[Any], **kwargs: Any) -> Any:
        """
        Args:
            images: an image (see the class), a folder, or a list or dataset of images.
            batch_size: images of one size are computed together, up to this number.
            tile: side of the tiles in pixels of the input; automatic where not given.
            timeout: seconds to wait for the server of an image that is given by its URL; without, forever.

        Returns:
            A PIL image, or a list of them in the order of the list or of the sorted folder.
        """
        if isinstance(images, str | Path) and Path(images).is_dir():
            folder, files = images, sorted(Path(images).iterdir())
            images = [path for path in files if path.suffix.lower() in SUFFIXES]
            if not images:
                raise ValueError(f"There are no images in {folder}.")
            if others := [path.name for path in files if path not in images]:
                logger.warning(f"Left out of {folder}, by their suffixes: {', '.join(others)}.")
        if isinstance(images, Path):
            images = str(images)
        return super().__call__(images, **kwargs)

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        self.model.write_model_card(working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def _sanitize_parameters(self, tile=None, timeout=None, **kwargs):
        if kwargs:
            raise TypeError(f"The image-super-resolution pipeline takes no argument called {next(iter(kwargs))!r}.")
        return {} if timeout is None else {"timeout": timeout}, {} if tile is None else {"tile": tile}, {}

    def preprocess(self, image, timeout=None):
        image = open_image(image, timeout)
        pixel_values = self.image_processor(image, return_tensors="pt")["pixel_values"]
        alpha = SRGANImageProcessor.alpha(image)
        if alpha is not None:
            alpha_values = self.image_processor(alpha, return_tensors="pt")["pixel_values"]
            pixel_values = torch.cat([pixel_values, alpha_values])
        return {"pixel_values": pixel_values, "image": image}

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Images differ in size: batches are made here, of neighbours that agree."""
        if batch_size == 1:
            return super().get_iterator(inputs, num_workers, 1, preprocess_params, forward_params, postprocess_params)
        return self._batches(inputs, batch_size, preprocess_params, forward_params)

    def _batches(self, inputs, batch_size, preprocess_params, forward_params):
        waiting = []
        for item in (self.preprocess(image, **preprocess_params) for image in inputs):
            same = not waiting or item["pixel_values"].shape[1:] == waiting[0]["pixel_values"].shape[1:]
            if len(waiting) == batch_size or not same:
                yield from self._run_batch(waiting, forward_params)
                waiting = []
            waiting.append(item)
        yield from self._run_batch(waiting, forward_params)

    def _run_batch(self, items, forward_params):
        counts = [len(item["pixel_values"]) for item in items]
        pixel_values = torch.cat([item["pixel_values"] for item in items])
        outputs = self.forward({"pixel_values": pixel_values}, **forward_params)
        for item, reconstruction in zip(items, outputs["reconstruction"].split(counts), strict=True):
            yield self.postprocess({"reconstruction": reconstruction, "image": item["image"]})

    def _forward(self, model_inputs, tile=None):
        pixel_values, config = model_inputs["pixel_values"], self.model.config
        radius = receptive_radius(config)
        if tile is None and radius is not None:
            tile = automatic_tile(self.model, len(pixel_values))
        strips = upscale_strips(
            GuardedNetwork(self.model),
            lambda rows, columns: pixel_values[..., rows, columns],
            pixel_values.shape[2:],
            config.scale,
            radius,
            tile or max(pixel_values.shape[2:]),
            cell_side(config),
        )
        return {"reconstruction": torch.cat(list(strips), 2), "image": model_inputs.get("image")}

    def postprocess(self, model_outputs):
        image, reconstruction = model_outputs["image"], model_outputs["reconstruction"]
        result = self.image_processor.post_process_super_resolution(reconstruction[:1], [image])[0]
        if len(reconstruction) == 2:
            alpha = [SRGANImageProcessor.alpha(image)]
            result.putalpha(self.image_processor.post_process_super_resolution(reconstruction[1:], alpha)[0])
        if image.info.get("icc_profile") and image.mode != "CMYK":
            result.info["icc_profile"] = image.info["icc_profile"]
        return result


def open_image(source: str | Path | bytes | np.ndarray | Image.Image, timeout: float | None = None) -> Image.Image:
    """The image, loaded, in its own mode: `transformers.image_utils.load_image` would make it RGB of 8 bits.

    Args:
        source: see [`SuperResolutionPipeline`].
        timeout: seconds to wait for the server of a URL.

    Raises:
        ConnectionError: if a URL cannot be fetched.
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as an image, or holds colours of 16 bits.
    """
    if isinstance(source, np.ndarray):
        return from_array(source)
    if isinstance(source, Image.Image) and not is_deep(source):
        return source
    name = str(source) if isinstance(source, str | Path) and len(str(source)) < 300 else "The image"
    try:
        image = source if isinstance(source, Image.Image) else Image.open(fetch(source, timeout))
        deep = is_deep(image)
        image.load()
    except (ConnectionError, FileNotFoundError):
        raise
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an image: {error}") from None
    if deep:
        raise ValueError(f"{name} has colours of 16 bits, which Pillow cuts to 8: `hfvision upscale` keeps them.")
    return image


def fetch(source: str | Path | bytes, timeout: float | None) -> str | Path | BytesIO:
    """The path of a file, or the content of what is no file."""
    if isinstance(source, bytes):
        return BytesIO(source)
    text = str(source)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    elif text.startswith(("http://", "https://")):
        try:
            with urlopen(Request(text, headers={"User-Agent": "transformers"}), timeout=timeout) as answer:
                return BytesIO(answer.read())
        except OSError as error:
            raise ConnectionError(f"{text} cannot be fetched: {getattr(error, 'reason', error)}") from None
    elif len(text) < 1000 and Path(text).exists():
        return source
    try:
        if len(text) >= SHORTEST_BASE64:
            return BytesIO(b64decode(text, validate=True))
    except ValueError:
        pass
    raise FileNotFoundError(f"There is no file {text[:300]}, and it is neither a URL nor base64.")


def from_array(array: np.ndarray) -> Image.Image:
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if not (array.dtype == np.uint8 and array.ndim in (2, 3)) and not (array.dtype == np.uint16 and grey):
        raise ValueError(
            "An array must be (height, width, channels) or (height, width), of uint8 or, where it is grey, of uint16; "
            f"got {array.shape} of {array.dtype}."
        )
    try:
        return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)
    except TypeError:
        raise ValueError(f"An array of {array.shape[2]} channels is no image.") from None


def is_deep(image: Image.Image) -> bool:
    """Whether a file just opened holds colour, or transparent grey, of more bits than the 8 that Pillow loads."""
    if image.mode.startswith(("I", "F")) or not getattr(image, "tile", None):
        return False
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (8,))) > 8
    arguments = image.tile[0].args
    raw = arguments if isinstance(arguments, str) else arguments and arguments[0]
    if image.format == "PPM":
        return not isinstance(arguments, str) and arguments[-1] > 255
    return image.format == "PNG" and ";16" in str(raw)


__all__ = ["SuperResolutionPipeline"]
