"""The cost of upscaling on a CPU: seconds per megapixel of output, and memory."""

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import nn
from transformers.modeling_outputs import ImageSuperResolutionOutput

from .baselines import Dtype, Upscaler, network

SIDE = 512  # of the output
STACKS = (4, 16)  # depths of the plain stacks that are timed beside
MINIMUM_RUNS, MINIMUM_SECONDS = 5, 0.2


@torch.inference_mode()
def cpu_cost(upscaler: Upscaler) -> dict[str, float | None]:
    """Seconds and memory of upscaling colour to 512×512 pixels (510×510 at ×3), on the CPU.

    Returns:
        `cpu_seconds_per_megapixel`: CPU time for 10⁶ pixels of output, on one thread;
        `threaded_cpu_seconds_per_megapixel` and `threaded_seconds_per_megapixel`: CPU and wall time with the default
        number of threads; all medians of at least 5 runs and 0.2 seconds, after a warm-up. `peak_memory_mb`: the
        growth of the process in 10⁶ bytes during one run on one thread, None where Linux does not report it.
    """
    side = SIDE // upscaler.scale
    source = upscaler.prepare(torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)))
    megapixels = (side * upscaler.scale) ** 2 / 1e6
    with number_of_threads(1):
        cpu, _ = median_seconds(upscaler, source)
        memory = peak_memory(upscaler, source)
    threaded_cpu, clock = median_seconds(upscaler, source)
    return {
        "cpu_seconds_per_megapixel": round(cpu / megapixels, 5),
        "threaded_cpu_seconds_per_megapixel": round(threaded_cpu / megapixels, 5),
        "threaded_seconds_per_megapixel": round(clock / megapixels, 5),
        "peak_memory_mb": memory,
    }


def median_seconds(upscaler: Upscaler, source: Any) -> tuple[float, float]:
    """CPU and wall time of one run."""
    upscaler.run(source)
    cpu, clock = [], []
    while len(cpu) < MINIMUM_RUNS or sum(clock) < MINIMUM_SECONDS:
        start = time.process_time(), time.perf_counter()
        upscaler.run(source)
        cpu.append(time.process_time() - start[0])
        clock.append(time.perf_counter() - start[1])
    return statistics.median(cpu), statistics.median(clock)


@contextmanager
def number_of_threads(count: int) -> Iterator[None]:
    """PyTorch, and OpenCV where it is installed, use `count` threads."""
    try:
        import cv2  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        cv2 = None
    before = torch.get_num_threads(), cv2.getNumThreads() if cv2 else 0
    torch.set_num_threads(count)
    if cv2:
        cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        if cv2:
            cv2.setNumThreads(before[1])


class Runs(Protocol):
    """What computes something of an input."""

    @property
    def run(self) -> Callable[[Any], Any]: ...


def peak_memory(upscaler: Runs, source: Any) -> float | None:
    """The largest growth of the process in 10⁶ bytes while it upscales."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = resident("VmRSS")
        upscaler.run(source)
        return round((resident("VmHWM") - before) / 1e6, 1)
    except (OSError, AttributeError):
        return None


def resident(field: str) -> int:
    """Bytes, from a line of /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


class PlainStack(nn.Module):
    """A reference for comparing machines: `depth` 3×3 convolutions of 32 channels with ReLU between one from RGB and
    one to the pixels of the output, all at the size of the input."""

    def __init__(self, depth: int, scale: int):
        super().__init__()
        self.config = SimpleNamespace(scale=scale, num_channels=3)
        layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
        for _ in range(depth):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(32, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, pixel_values: torch.Tensor) -> ImageSuperResolutionOutput:
        return ImageSuperResolutionOutput(reconstruction=self.layers(pixel_values))


def plain_stack(depth: int, scale: int, dtype: Dtype) -> Upscaler:
    """[`PlainStack`] as an upscaler."""
    return network(f"plain stack of {depth} ×{scale}", PlainStack(depth, scale), dtype)
