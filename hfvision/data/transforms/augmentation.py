"""How training images are augmented: settings and presets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied; 0 or False is off. Numbers are drawn uniformly and anew for each image.

    Attributes:
        crop_padding: the image moves by up to this share of its sides, in whole pixels; what comes in is mirrored.
        flip: mirrored left to right, one image of two.
        rotation: degrees to either side, about the centre.
        shift: share of width and height, in any direction.
        shear: radians to either side, horizontally.
        zoom: width and height each become up to this share smaller or larger.
        resized_crop: a part of at least this share of the area, of an aspect ratio from 3:4 to 4:3, fills the image
            (Szegedy et al. 2015, "Going deeper with convolutions"); sides longer than the image are cut to it.
        randaugment: operations an image (Cubuk et al. 2020, "RandAugment"), of magnitude 9 of 30.
        trivial_augment: one operation of any magnitude (Müller and Hutter 2021, "TrivialAugment").
        erasing: probability that a rectangle of 2% to 33% of the area gets the image's mean colour (Zhong et al.
            2020, "Random erasing data augmentation").
        mixup: alpha of the Beta distribution (Zhang et al. 2018, "mixup: beyond empirical risk minimization").
        cutmix: the same (Yun et al. 2019, "CutMix"). With both, each batch gets one of them.
        light: brightness, and contrast about the image's mean, are each multiplied or divided by up to 1 + `light`.

    Raises:
        ValueError: for a value out of range, or RandAugment and TrivialAugment together.
    """

    crop_padding: float = 0
    flip: bool = False
    rotation: float = 0
    shift: float = 0
    shear: float = 0
    zoom: float = 0
    resized_crop: float = 0
    randaugment: int = 0
    trivial_augment: bool = False
    erasing: float = 0
    mixup: float = 0
    cutmix: float = 0
    light: float = 0

    def __post_init__(self):
        highest = {"crop_padding": 0.5, "rotation": 180, "shift": 1, "shear": 1, "zoom": 0.9, "resized_crop": 1}
        highest |= {"randaugment": 14, "erasing": 1, "mixup": 100, "cutmix": 100, "light": 3}
        for name, high in highest.items():
            value = getattr(self, name)
            if not 0 <= value <= high:
                raise ValueError(f"{name} must be from 0 (off) to {high}, got {value}.")
        if self.randaugment != int(self.randaugment):
            raise ValueError(f"randaugment must be a whole number of operations, got {self.randaugment}.")
        if self.randaugment and self.trivial_augment:
            raise ValueError("randaugment and trivial_augment are alternatives: choose one.")


# `classic` is the textbook's set, the usual arguments of Keras' ImageDataGenerator. Its shear_range of 0.2 was meant
# in radians; newer versions read it as degrees, which is nothing.
PRESETS = {
    "none": Augmentation(),
    "classic": Augmentation(rotation=40, shift=0.2, shear=0.2, zoom=0.2, flip=True),
    "strong": Augmentation(crop_padding=1 / 8, flip=True, erasing=0.25),
    # For what a mirror or a quarter turn makes into something else: signs, digits, letters.
    "upright": Augmentation(rotation=12, shift=0.1, shear=0.15, zoom=0.2, light=1),
    # For photographs of a few hundred pixels; images come in the network's size already, so smaller parts would blur.
    "imagenet": Augmentation(resized_crop=0.25, flip=True),
}


@dataclass(frozen=True)
class MaskAugmentation:
    """How training crops are varied, image and mask alike; 0 or False is off. Numbers are drawn anew for each crop.

    Attributes:
        flip: mirrored left to right, one crop of two.
        turn: mirrored top to bottom, and turned by a quarter, one crop of two each; for what has no upright.
        rotation: degrees to either side.
        zoom: shown from 1 / (1 + `zoom`) to 1 + `zoom` times as large.
        light: brightness and contrast of the image are each multiplied by 1 / (1 + `light`) to 1 + `light`.
        colour: its saturation changes by up to this share, its hue by a quarter of it (of a full turn).

    Raises:
        ValueError: for a value out of range.
    """

    flip: bool = True
    turn: bool = False
    rotation: float = 0
    zoom: float = 0.25
    light: float = 0.25
    colour: float = 0.2

    def __post_init__(self):
        for name, high in {"rotation": 180, "zoom": 3, "light": 3, "colour": 1}.items():
            if not 0 <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from 0 (off) to {high}, got {getattr(self, name)}.")
