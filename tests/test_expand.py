"""Growing a data set: how many, which, the same again, and from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from hfvision import sample_dataset
from hfvision.data.datasets.expand import expand_dataset
from hfvision.data.transforms.augmentation import PRESETS

STRONG = PRESETS["strong"]


@pytest.fixture(scope="module")
def source() -> datasets.Dataset:
    return sample_dataset()["train"].select(range(40))


def pixels(dataset: datasets.Dataset) -> list[bytes]:
    return [np.asarray(image).tobytes() for image in dataset["image"]]


def cached(dataset: datasets.Dataset) -> set[str]:
    return {file["filename"] for file in dataset.cache_files}


def test_originals_come_first_then_copies_that_all_differ(source):
    expanded = expand_dataset(source, 3, STRONG)
    assert len(expanded) == 120
    assert expanded.features == source.features
    assert pixels(expanded.select(range(40))) == pixels(source)
    assert expanded["label"] == [*source["label"]] * 3
    assert len(set(pixels(expanded))) == 120
    assert {image.size for image in expanded["image"]} == {(28, 28)}
    assert {image.mode for image in expanded["image"]} == {"L"}


@pytest.mark.parametrize(("factor", "count"), [(1, 40), (1.01, 40), (2.5, 100), (8 + 1 / 3, 333)])
def test_a_fractional_factor_gives_the_exact_count(source, factor, count):
    assert len(expand_dataset(source, factor, STRONG)) == count


def test_the_rest_is_chosen_at_random(source):
    labels = source.map(lambda row, i: {"label": int(i >= 20)}, with_indices=True)
    rest = expand_dataset(labels, 1.5, STRONG)["label"][40:]
    assert 3 < sum(rest) < 17


def test_the_same_again_with_any_number_of_processes_and_another_with_another_seed(source):
    one = expand_dataset(source, 2.5, STRONG, seed=1)
    datasets.disable_caching()
    try:
        two = expand_dataset(source, 2.5, STRONG, seed=1, num_proc=2)
    finally:
        datasets.enable_caching()
    assert cached(one).isdisjoint(cached(two))
    assert pixels(two) == pixels(one)
    assert two["label"] == one["label"]
    other = expand_dataset(source, 2.5, STRONG, seed=2)
    assert set(pixels(other)[40:]).isdisjoint(pixels(one)[40:])


def test_a_second_call_reads_the_cache_in_another_process_too(source):
    expanded = expand_dataset(source, 1.5, STRONG, seed=3)
    files = {name: Path(name).stat().st_mtime_ns for name in cached(expanded)}
    code = """
from hfvision import sample_dataset
from hfvision.data.transforms.augmentation import PRESETS
from hfvision.data.datasets.expand import expand_dataset

source = sample_dataset()["train"].select(range(40))
for file in expand_dataset(source, 1.5, PRESETS["strong"], seed=3).cache_files:
    print(file["filename"])
"""
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(files)
    assert {name: Path(name).stat().st_mtime_ns for name in files} == files


def test_torchs_settings_and_generator_are_left_alone(source):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    expand_dataset(source, 2, STRONG, seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_what_cannot_be_expanded_is_refused(source, tmp_path):
    for factor in (0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"factor must be 1 or more, got {factor}"):
            expand_dataset(source, factor, STRONG)
    with pytest.raises(ValueError, match="column `image`"):
        expand_dataset(source.rename_column("image", "picture"), 2, STRONG)
    with pytest.raises(ValueError, match="0 rows"):
        expand_dataset(source.select([]), 2, STRONG)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    rows = {"image": [str(tmp_path / "broken.png")], "label": [0]}
    broken = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    with pytest.raises(ValueError, match=r"broken\.png.* cannot be read"):
        expand_dataset(broken, 2, STRONG)
