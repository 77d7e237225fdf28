"""A video made larger and understood: PSNR and flicker beside bicubic's, shots, key frames, labels.

    python scripts/application_video.py                                   # a clip that it makes of the sample photos
    python scripts/application_video.py --video flower.mp4 --model sr-light-x2 --out runs/video

The frames of the clip are made smaller, by the model's scale, as the field does it, and made large again by the
network and by MATLAB's bicubic. `--out` then holds `enhanced.mp4`, `comparison.png` (a detail), `record.json`, and in
`summary/` what `hfvision video summarize` writes.

Printed: dB against the original, and flicker: how much the luma of pixels changes from frame to frame, of 255, where
the small clip stands still (metrics/flicker.py says exactly where that is). Less is steadier; the original's own
flicker is that of the camera and the compression.

Hardware: one CPU core; about a second of its time for a frame of 960×540 pixels. `--quick`, 36 frames of 256×144,
takes half a minute.
"""

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, to_pil_image
from tqdm import tqdm

from hfvision import camera_move, read_frames, read_image, sample_photos, summarize_video, write_frames
from hfvision.engine.precision import choose_precision
from hfvision.hub.loading import load_model
from hfvision.records import write_record
from hfvision.tasks.super_resolution.baselines import interpolations, network
from hfvision.tasks.video.flicker import TemporalEvaluation
from hfvision.tasks.video.summarize import format_summary
from hfvision.utils.markdown import markdown_table
from hfvision.utils.plots import side_by_side

# What the camera does: it stands still, pans, or zooms.
MOVES = {
    "coffee": ((0.5, 0.5, 0.9), (0.5, 0.5, 0.9)),
    "elephant": ((0.4, 0.5, 0.8), (0.6, 0.5, 0.8)),
    "cat": ((0.5, 0.5, 0.8), (0.5, 0.5, 0.8)),
    "rocket": ((0.5, 0.4, 0.9), (0.5, 0.6, 0.7)),
    "astronaut": ((0.5, 0.3, 0.7), (0.5, 0.3, 0.7)),
    "grapefruit": ((0.5, 0.5, 1.0), (0.5, 0.5, 0.7)),
}


def make_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A shot of each sample photo, with the noise of a sensor, of a standard deviation of 1 of 255."""
    generator = np.random.default_rng(0)
    shots = [
        camera_move(read_image(sample_photos()[name]).convert("RGB"), frames // len(MOVES), size, *move)
        for name, move in MOVES.items()
    ]
    noisy = (frame + generator.normal(0, 1, frame.shape) for frame in chain(*shots))
    write_frames(path, (frame.round().clip(0, 255).astype(np.uint8) for frame in noisy))


def enhance(source: Path, out: Path, model: str, count: int | None) -> dict[str, Any]:
    """Write `enhanced.mp4` and `comparison.png`; the figures."""
    net, _ = load_model(model, "image-super-resolution")
    dtype = "bf16" if choose_precision("auto") == "bf16" else "fp32"
    evaluation = TemporalEvaluation([interpolations(net.config.scale)[0], network(model, net, dtype)])
    shown: dict[str, Tensor] = {}

    def enhanced() -> Iterator[np.ndarray]:
        frames = (pixels for _, pixels in read_frames(source))
        for images in tqdm(evaluation.run(frames, count), desc="enhancing", unit="frame", total=count):
            if not shown:
                shown.update(images)
            yield np.asarray(to_pil_image(images[model][0]))

    write_frames(out / "enhanced.mp4", enhanced(), rate_of(source))
    # The captions' font has no ×.
    comparison = {name.replace("×", "x"): detail(images) for name, images in shown.items() if name != "small"}
    side_by_side(comparison, out / "comparison.png")
    return {"model": model, "dtype": dtype} | evaluation.record()


def detail(images: Tensor, side: int = 240) -> Any:
    """The middle of a frame, twice as large, pixel for pixel."""
    image = to_pil_image(center_crop(images[0], [min(side, *images.shape[-2:])] * 2))
    return image.resize((2 * image.width, 2 * image.height), 0)


def rate_of(source: Path) -> float:
    """Frames a second, from the first two."""
    times = [time for (time, _), _ in zip(read_frames(source), range(2), strict=False)]
    return 1 / (times[-1] - times[0]) if len(times) > 1 else 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--video", type=Path, help="a clip (default: one made of the sample photos)")
    parser.add_argument("--model", default="sr-light-x2", help="upscaler (default sr-light-x2)")
    parser.add_argument("--classifier", default="cnn-cifar10", help="for the shots (default cnn-cifar10)")
    parser.add_argument("--frames", type=int, help="how many to enhance, from the first (default all)")
    parser.add_argument("--out", type=Path, default=Path("runs/video"), help="folder (default runs/video)")
    parser.add_argument("--quick", action="store_true", help="a small clip and sr-tiny-x2")
    args = parser.parse_args()
    model, frames, size = (args.model, 150, (640, 360)) if not args.quick else ("sr-tiny-x2", 36, (256, 144))
    source = args.video or args.out / "clip.mp4"
    if args.video is None:
        make_clip(source, frames, size)
    summary = summarize_video(source, args.out / "summary", args.classifier, force=True)
    print(format_summary(summary), end="\n\n")
    record = enhance(source, args.out, model, args.frames) | {"video": str(source)}
    write_record(args.out / "record.json", record)
    rows = [
        (name, "" if name == "original" else f"{record['psnr'][name]:.2f}", f"{value:.3f}")
        for name, value in record["flicker"].items()
    ]
    print(markdown_table([f"×{record['scale']}, {record['frames']} frames", "PSNR-Y, dB", "flicker, of 255"], rows))
    print(f"\n{record['static']:.0%} of all pixels stand still; computed in {record['dtype']}; pictures: {args.out}")


if __name__ == "__main__":
    main()
