"""Image processor of the segmenters, CNN and ViT: images keep their size, logits become classes."""

import torch
from torch.nn.functional import interpolate

from .image_processing_classification import ImageClassificationProcessor


class ImageSegmentationProcessor(ImageClassificationProcessor):
    """Brings images of any kind to `pixel_values` as [`ImageClassificationProcessor`] does, in their own size.

    Images of one size become float32 (N, num_channels, height, width); for images of several sizes call it once a
    size, and leave `batch_size` of the pipeline `image-segmentation` at 1: it stacks the images of a batch.
    `do_resize=True` with `size` brings all to one size, for batches too; masks come back in each image's own size.
    """

    do_resize = False

    def post_process_semantic_segmentation(
        self, outputs, target_sizes: list[tuple[int, int]] | None = None
    ) -> list[torch.Tensor]:
        """The class of each pixel, of each image: int64 (height, width).

        Args:
            outputs: of a segmenter, with `logits` (N, num_labels, h, w).
            target_sizes: height and width that each image had; the logits' where not given. Logits of another size
                are interpolated bilinearly.

        Raises:
            ValueError: for another number of sizes than of images.
        """
        logits = outputs.logits.float()
        if target_sizes is None:
            return list(logits.argmax(1))
        if len(target_sizes) != len(logits):
            raise ValueError(f"target_sizes must have one size for each of {len(logits)} images: {target_sizes}.")
        masks = []
        for image_logits, size in zip(logits, target_sizes, strict=True):
            size = tuple(int(side) for side in size)
            if tuple(image_logits.shape[-2:]) != size:
                image_logits = interpolate(image_logits[None], size=size, mode="bilinear", align_corners=False)[0]
            masks.append(image_logits.argmax(0))
        return masks


__all__ = ["ImageSegmentationProcessor"]
