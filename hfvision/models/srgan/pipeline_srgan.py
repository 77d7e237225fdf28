"""`pipeline("image-super-resolution", model=...)`: photographs in, larger photographs out."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from transformers import Pipeline

from .image_processing_srgan import SRGANImageProcessor

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class SuperResolutionPipeline(Pipeline):
    """Upscales an image, a list of images, or the images of a folder.

    An image is a path or a PIL image. Grey stays grey, 16-bit grey stays 16-bit, transparency goes through the network
    too, the ICC profile is kept, EXIF orientation is applied; of an animation the first frame is taken. The result is
    exactly `scale` times as wide and high.

    ```python
    >>> upscale = pipeline("image-super-resolution", model="user/model", trust_remote_code=True)
    >>> upscale("photo.jpg").size
    ```
    """

    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_processor = False

    def __call__(self, images: str | Path | Image.Image | list[Any], **kwargs: Any) -> Any:
        """
        Args:
            images: an image (path or PIL image), a folder, or a list or dataset of images.
            batch_size: images of one size are computed together, up to this number.

        Returns:
            A PIL image, or a list of them in the order of the list or of the sorted folder.
        """
        if isinstance(images, str | Path) and Path(images).is_dir():
            folder, images = images, sorted(p for p in Path(images).iterdir() if p.suffix.lower() in SUFFIXES)
            if not images:
                raise ValueError(f"There are no images in {folder}.")
        if isinstance(images, Path):
            images = str(images)
        return super().__call__(images, **kwargs)

    def _upload_modified_files(self, working_dir, repo_id, *args, **kwargs):
        self.model.write_model_card(working_dir, repo_id)
        return super()._upload_modified_files(working_dir, repo_id, *args, **kwargs)

    def _sanitize_parameters(self, **kwargs):
        if kwargs:
            raise TypeError(f"The image-super-resolution pipeline takes no argument called {next(iter(kwargs))!r}.")
        return {}, {}, {}

    def preprocess(self, image):
        image = open_image(image)
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
        return self._batches(inputs, batch_size)

    def _batches(self, inputs, batch_size):
        waiting = []
        for item in map(self.preprocess, inputs):
            same = not waiting or item["pixel_values"].shape[1:] == waiting[0]["pixel_values"].shape[1:]
            if len(waiting) == batch_size or not same:
                yield from self._run_batch(waiting)
                waiting = []
            waiting.append(item)
        yield from self._run_batch(waiting)

    def _run_batch(self, items):
        counts = [len(item["pixel_values"]) for item in items]
        outputs = self.forward({"pixel_values": torch.cat([item["pixel_values"] for item in items])})
        for item, reconstruction in zip(items, outputs["reconstruction"].split(counts), strict=True):
            yield self.postprocess({"reconstruction": reconstruction, "image": item["image"]})

    def _forward(self, model_inputs):
        outputs = self.model(pixel_values=model_inputs["pixel_values"])
        return {"reconstruction": outputs.reconstruction, "image": model_inputs.get("image")}

    def postprocess(self, model_outputs):
        image, reconstruction = model_outputs["image"], model_outputs["reconstruction"]
        result = self.image_processor.post_process_super_resolution(reconstruction[:1], [image])[0]
        if len(reconstruction) == 2:
            result.putalpha(self.image_processor.post_process_super_resolution(reconstruction[1:])[0].convert("L"))
        if image.info.get("icc_profile") and image.mode != "CMYK":
            result.info["icc_profile"] = image.info["icc_profile"]
        return result


def open_image(image: str | Path | Image.Image) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    try:
        image = Image.open(image)
        image.load()
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {image}.") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{getattr(image, 'filename', image)} cannot be read as an image: {error}") from None
    return image


__all__ = ["SuperResolutionPipeline"]
