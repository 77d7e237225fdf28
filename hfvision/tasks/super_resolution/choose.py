"""Which network suits a photograph: one for clean images, or one for compressed and noisy ones, and how much of it."""

from dataclasses import dataclass
from typing import Literal

from ...hub.checkpoints import list_checkpoints
from .quality import SourceQuality

Kind = Literal["photo", "clean", "gan"]
# Of several shipped checkpoints of a kind and scale the first that is there.
NETWORKS: dict[Kind, dict[int, tuple[str, ...]]] = {
    "photo": {2: ("sr-photo-x2",), 4: ("sr-photo-x4",)},
    "clean": {2: ("sr-light-x2", "sr-tiny-x2"), 3: ("sr-light-x3",), 4: ("sr-light-x4",)},
    "gan": {4: ("sr-photo-gan-x4", "sr-gan-x4")},
}
# The clean network that a photo network was trained from, and blends with.
PARTNERS = {"sr-photo-x2": "sr-tiny-x2", "sr-photo-x4": "sr-light-x4"}
NOISY = 4.0  # levels of 8 bit; fine texture alone reaches 4 in one photograph of twenty
BLOCKY = 1.15  # clean photographs stay below
# Share of the photo network by the least JPEG quality that it is for: the best of 0, 0.25, 0.5, 0.75 and 1 in PSNR,
# but for some photo network in every lossy file.
SHARES = {95: 0.25, 85: 0.5, 60: 0.75, 0: 1.0}
UNKNOWN_SHARE = 0.75  # of lossy files whose quality is not known, and of images with block edges


@dataclass(frozen=True)
class Choice:
    """A kind of network, the share of the photo network in it (0 to 1), and the reason in words."""

    kind: Kind
    denoise: float
    reason: str


def shipped_upscalers(kind: Kind = "clean") -> dict[int, str]:
    """The shipped checkpoint of this kind for each scale that has one."""
    there = list_checkpoints()
    found = {scale: [name for name in names if name in there] for scale, names in NETWORKS[kind].items()}
    return {scale: names[0] for scale, names in found.items() if names}


def choose(quality: SourceQuality) -> Choice:
    """The network for an image of this quality: `photo` for lossy files, and for others if they are noisy or show the
    block edges of an earlier compression; else `clean`."""
    noisy = quality.noise >= NOISY
    if quality.lossy:
        share = UNKNOWN_SHARE
        stored = quality.format or "lossy"
        if quality.jpeg_quality is not None:
            share = next(share for least, share in SHARES.items() if quality.jpeg_quality >= least)
            stored += f" of quality {quality.jpeg_quality}"
        return Choice("photo", 1.0 if noisy else share, stored + (f", noise {quality.noise:.1f}" if noisy else ""))
    stored = f"lossless {quality.format}" if quality.lossy is False else quality.format or "pixels"
    if noisy:
        return Choice("photo", 1.0, f"{stored}, noise {quality.noise:.1f} of 255")
    if quality.blockiness >= BLOCKY:
        return Choice("photo", UNKNOWN_SHARE, f"{stored} with block edges of an earlier compression")
    return Choice("clean", 0.0, f"{stored} without noise")
