"""`pipeline("image-super-resolution", model=...)`: photographs in, larger photographs out, in tiles without seams."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline
from transformers.utils import logging

from .image_processing_srgan import SRGANImageProcessor
from .image_reading import SUFFIXES, open_image
from .tiles_srgan import GuardedNetwork, automatic_tile, cell_side, receptive_radius, upscale_strips

logger = logging.get_logger(__name__)


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

    image_processor: Any
    model: Any
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

    def preprocess(self, image, timeout=None):  # pyright: ignore[reportIncompatibleMethodOverride] -- as transformers' own
        image = open_image(image, timeout)
        pixel_values = self.image_processor(image, return_tensors="pt")["pixel_values"]
        alpha = SRGANImageProcessor.alpha(image)
        if alpha is not None:
            alpha_values = self.image_processor(alpha, return_tensors="pt")["pixel_values"]
            pixel_values = torch.cat([pixel_values, alpha_values])
        return {"pixel_values": pixel_values, "image": image}

    def get_iterator(  # pyright: ignore[reportIncompatibleMethodOverride] -- as transformers' own
        self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
    ):
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
        outputs: Any = self.forward({"pixel_values": pixel_values}, **forward_params)
        for item, reconstruction in zip(items, outputs["reconstruction"].split(counts), strict=True):
            yield self.postprocess({"reconstruction": reconstruction, "image": item["image"]})

    def _forward(self, model_inputs, tile=None):  # pyright: ignore[reportIncompatibleMethodOverride] -- as transformers' own
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

    def postprocess(self, model_outputs):  # pyright: ignore[reportIncompatibleMethodOverride] -- as transformers' own
        image, reconstruction = model_outputs["image"], model_outputs["reconstruction"]
        result = self.image_processor.post_process_super_resolution(reconstruction[:1], [image])[0]
        if len(reconstruction) == 2:
            alpha = [SRGANImageProcessor.alpha(image)]
            result.putalpha(self.image_processor.post_process_super_resolution(reconstruction[1:], alpha)[0])
        if image.info.get("icc_profile") and image.mode != "CMYK":
            result.info["icc_profile"] = image.info["icc_profile"]
        return result


__all__ = ["SuperResolutionPipeline"]
