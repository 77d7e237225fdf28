"""How many cuts of assembled clips are found, and how many are found that are none.

    python scripts/benchmark_shots.py --photos PHOTOS --clips 20 --model cnn-cifar10

Each clip has eight shots of 12 to 50 frames, 320×180 pixels, of eight random photographs of the folder, which the
camera pans and zooms over; H.264. Three of five clips are spoilt: light that flickers and drifts by up to 15 %, a
camera that shakes by up to 6 pixels, noise of up to 10 of 255, flashes of one to three frames. One of five has fades
through black of 12 to 28 frames in place of cuts. A boundary is found if one is within two frames of it.
Hardware: one CPU core, about six seconds a clip.
"""

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hfvision import camera_move, read_image, shot_boundaries, video_features, write_frames
from hfvision.data.io.tree import find_images
from hfvision.tasks.video.shots import load_encoder

SIZE, SHOTS = (320, 180), 8


def make_shot(rng: random.Random, path: Path, count: int, spoilt: bool) -> list[np.ndarray]:
    photo = read_image(path).convert("RGB")
    photo.thumbnail((900, 900))
    begin, end = (tuple(rng.uniform(low, high) for low, high in ((0.3, 0.7), (0.3, 0.7), (0.5, 1))) for _ in range(2))
    frames = camera_move(photo, count, SIZE, begin, begin if rng.random() < 0.3 else end)
    generator = np.random.default_rng(rng.randrange(2**30))
    light, shake = (rng.choice(values) if spoilt else 0 for values in ((0, 0, 0.05, 0.15), (0, 0, 2, 6)))
    noise = rng.choice([0, 3, 10]) if spoilt else 2
    flash = range(0)
    if spoilt and rng.random() < 0.4:
        start = rng.randrange(3, count - 6)
        flash = range(start, start + rng.choice([1, 2, 3]))
    made = []
    for number, frame in enumerate(frames):
        pixels = frame * (1 + light * np.sin(number * 0.3)) * generator.uniform(1 - light, 1 + light)
        pixels = np.roll(pixels, generator.integers(-shake, shake + 1, 2), (0, 1))
        pixels = pixels * 0.35 + 165 if number in flash else pixels
        made.append((pixels + generator.normal(0, noise, frame.shape)).clip(0, 255).astype(np.uint8))
    return made


def make_clip(rng: random.Random, photos: list[Path], spoilt: bool, fade: bool) -> tuple[list[np.ndarray], list[int]]:
    """The frames, and which of them begin a shot, or are in the middle of a fade."""
    frames: list[np.ndarray] = []
    boundaries = []
    for path in rng.sample(photos, SHOTS):
        shot = make_shot(rng, path, rng.randrange(40, 70) if fade else rng.randrange(12, 50), spoilt)
        if frames:
            boundaries.append(len(frames))
            length = rng.randrange(6, 15) if fade else 0
            for number in range(length):
                share = number / length
                frames[-1 - number] = np.uint8(frames[-1 - number] * share)
                shot[number] = np.uint8(shot[number] * share)
        frames += shot
    return frames, boundaries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of at least eight photographs")
    parser.add_argument("--clips", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--model", default="cnn-cifar10", help="network (default cnn-cifar10)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    args = parser.parse_args()
    photos = find_images(args.photos)
    if len(photos) < SHOTS:
        raise SystemExit(f"{args.photos} has {len(photos)} photographs: {SHOTS} are needed.")
    model, processor = load_encoder(args.model)
    known = found = false = frames = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in tqdm(range(args.clips), unit="clip"):
            rng = random.Random(f"{args.seed} {number}")
            pixels, boundaries = make_clip(rng, photos, spoilt=number % 5 < 3, fade=number % 5 == 4)
            write_frames(Path(folder) / "clip.mp4", pixels)
            answers = shot_boundaries(video_features(Path(folder) / "clip.mp4", model, processor))
            frames += len(pixels)
            known += len(boundaries)
            found += sum(any(abs(boundary - answer) <= 2 for answer in answers) for boundary in boundaries)
            false += sum(all(abs(boundary - answer) > 2 for boundary in boundaries) for answer in answers)
    print(f"{args.model}: {found} of {known} boundaries found within two frames, {false} false, {frames:,} frames")


if __name__ == "__main__":
    main()
