"""Shots of films that are assembled here: their boundaries are known."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from hfvision import (
    camera_move,
    key_frames,
    read_frames,
    read_image,
    sample_photos,
    shot_boundaries,
    video_features,
    write_frames,
)
from hfvision.hub.loading import load_model
from hfvision.tasks.video.shots import load_encoder, shots_between

av = pytest.importorskip("av")

SIZE = (160, 120)
MOVES = {
    "astronaut": ((0.4, 0.3, 0.9), (0.6, 0.5, 0.6)),
    "coffee": ((0.5, 0.5, 1.0), (0.5, 0.5, 0.7)),
    "rocket": ((0.5, 0.4, 0.7), (0.5, 0.7, 0.7)),
    "cat": ((0.4, 0.5, 0.8), (0.6, 0.5, 0.8)),
    "elephant": ((0.3, 0.5, 0.8), (0.7, 0.5, 0.8)),
    "grapefruit": ((0.5, 0.5, 1.0), (0.5, 0.5, 1.0)),
}


@pytest.fixture(scope="module")
def classifier():
    return load_model("cnn-cifar10", "image-classification")


def shot(name: str, count: int = 25) -> list[np.ndarray]:
    photo = read_image(sample_photos()[name]).convert("RGB")
    return list(camera_move(photo, count, SIZE, *MOVES[name]))


def noise(frames, seed, deviation=4):
    generator = np.random.default_rng(seed)
    return [np.clip(f + generator.normal(0, deviation, f.shape), 0, 255).astype(np.uint8) for f in frames]


def flicker(frames, seed):
    """Light that changes from frame to frame by up to a fifth, and slowly by as much again."""
    generator = np.random.default_rng(seed)
    light = 1 + 0.2 * np.sin(np.arange(len(frames)) / 4) + generator.uniform(-0.2, 0.2, len(frames))
    return [np.clip(f * amount, 0, 255).astype(np.uint8) for f, amount in zip(frames, light, strict=True)]


def shake(frames, seed, most=5):
    moves = np.random.default_rng(seed).integers(-most, most + 1, (len(frames), 2))
    return [np.roll(frame, move, (0, 1)) for frame, move in zip(frames, moves, strict=True)]


def flash(frames, at, length):
    bright = [np.uint8(frame * 0.3 + 175) for frame in frames[at : at + length]]
    return [*frames[:at], *bright, *frames[at + length :]]


def boundaries(path, shots, classifier, **options):
    frames = [frame for frames in shots for frame in frames]
    write_frames(path, frames)
    return shot_boundaries(video_features(path, *classifier), **options)


@pytest.mark.parametrize("model", ["cnn-cifar10", "vit-cifar10"])
def test_cuts_are_found_and_nothing_else(model, tmp_path):
    lengths = {"astronaut": 25, "coffee": 12, "rocket": 40, "cat": 8, "elephant": 30, "grapefruit": 20}
    shots = [noise(shot(name, count), number) for number, (name, count) in enumerate(lengths.items())]
    shots[0], shots[2], shots[4] = flicker(shots[0], 1), shake(shots[2], 2), flash(shots[4], 14, 3)
    found = boundaries(tmp_path / "film.mp4", shots, load_model(model, "image-classification"))
    known = np.cumsum([len(frames) for frames in shots])[:-1].tolist()
    assert len(found) == len(known)
    assert max(abs(a - b) for a, b in zip(found, known, strict=True)) <= 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frames: flicker(frames, 3),
        lambda frames: shake(frames, 4, most=8),
        lambda frames: noise(frames, 5, deviation=20),
        lambda frames: flash(flash(frames, 12, 1), 25, 4),
        lambda frames: [*frames[:20], *[np.full_like(frames[0], 255)] * 3, *frames[20:]],
    ],
    ids=["light", "shaking", "noise", "flashes", "white flash"],
)
def test_what_is_no_cut_is_taken_for_none(spoil, classifier, tmp_path):
    assert boundaries(tmp_path / "film.mp4", [spoil(shot("cat", 40))], classifier) == []


@pytest.mark.parametrize("colour", [0, 255], ids=["black", "white"])
def test_a_fade_is_one_boundary_in_its_middle(colour, classifier, tmp_path):
    shares = np.linspace(0, 1, 8)
    first, second = shot("coffee", 30), shot("rocket", 30)
    for number, share in enumerate(shares):
        first[22 + number] = np.uint8(first[22 + number] * (1 - share) + colour * share)
        second[number] = np.uint8(second[number] * share + colour * (1 - share))
    found = boundaries(tmp_path / "film.mp4", [first, second], classifier)
    assert len(found) == 1
    assert abs(found[0] - 30) <= 2


def test_a_long_pause_is_a_shot_of_its_own(classifier, tmp_path):
    pause = [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * 40
    assert boundaries(tmp_path / "film.mp4", [shot("coffee"), pause, shot("rocket")], classifier) == [25, 65]


def test_a_flash_of_one_colour_behind_a_cut_is_no_fade(classifier, tmp_path):
    second = shot("rocket")
    second[5:8] = [np.full_like(second[0], 240)] * 3
    assert boundaries(tmp_path / "film.mp4", [shot("coffee"), second], classifier) == [25]


def test_the_threshold_says_how_much_is_a_cut(classifier, tmp_path):
    shots = [shot("coffee"), shot("rocket")]
    assert boundaries(tmp_path / "a.mp4", shots, classifier) == [25]
    assert boundaries(tmp_path / "b.mp4", shots, classifier, threshold=1.0) == []
    with pytest.raises(ValueError, match="threshold must be above 0"):
        shot_boundaries(video_features(tmp_path / "a.mp4", *classifier), threshold=0)


def test_a_film_of_one_frame_and_of_two(classifier, tmp_path):
    still = shot("cat", 2)
    assert boundaries(tmp_path / "one.mp4", [still[:1]], classifier) == []
    assert boundaries(tmp_path / "two.mp4", [still], classifier) == []
    video = video_features(tmp_path / "one.mp4", *classifier)
    assert len(video) == 1
    assert key_frames(video, []) == [0]


def test_features_are_those_of_single_frames(classifier, tmp_path):
    frames = shot("cat", 5)
    write_frames(tmp_path / "film.mkv", frames)
    video = video_features(tmp_path / "film.mkv", *classifier, batch_size=2)
    assert video.times.tolist() == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-3)
    assert video.size == SIZE
    assert video.features.float().norm(dim=1).tolist() == pytest.approx([1] * 5, abs=1e-2)
    model, processor = classifier
    inputs = processor([Image.fromarray(pixels) for _, pixels in read_frames(tmp_path / "film.mkv")])
    with torch.inference_mode():
        wanted = model(torch.stack(list(inputs["pixel_values"]))).logits.softmax(-1)
    torch.testing.assert_close(video.probabilities.float(), wanted, atol=2e-3, rtol=0)


def test_an_encoder_without_head_gives_features_and_no_labels(classifier, tmp_path):
    model, processor = classifier
    model.base_model.save_pretrained(tmp_path / "encoder")
    processor.save_pretrained(tmp_path / "encoder")
    shots = [shot("coffee", 12), shot("rocket", 12)]
    write_frames(tmp_path / "film.mp4", [frame for frames in shots for frame in frames])
    video = video_features(tmp_path / "film.mp4", *load_encoder(str(tmp_path / "encoder")))
    assert video.probabilities is None
    assert shot_boundaries(video) == [12]
    wanted = video_features(tmp_path / "film.mp4", model, processor).features
    torch.testing.assert_close(video.features, wanted, atol=1e-3, rtol=0)


def test_key_frames_are_the_most_typical_of_their_shots(classifier, tmp_path):
    odd = flash(shot("cat", 20), 0, 3)
    write_frames(tmp_path / "film.mp4", [*odd, *shot("rocket", 10)])
    video = video_features(tmp_path / "film.mp4", *classifier)
    first, second = key_frames(video, [20])
    assert 3 <= first < 20 <= second < 30
    assert shots_between([20], 30) == [range(20), range(20, 30)]


def test_frames_are_not_held_in_memory(classifier, tmp_path):
    """Forty frames more need less memory than five frames."""
    photo = read_image(sample_photos()["cat"]).convert("RGB")
    peaks = []
    for count in (33, 73):
        write_frames(tmp_path / f"{count}.mp4", camera_move(photo, count, (480, 270)))
        tracemalloc.start()  # it counts numpy's arrays
        video_features(tmp_path / f"{count}.mp4", *classifier)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 5 * 480 * 270 * 3
