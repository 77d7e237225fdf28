"""Models on several engines side by side: latency, throughput, memory, size, accuracy, agreement with the parent."""

from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from time import perf_counter, process_time
from typing import Any

import torch
from torch import Tensor

from ..hub.files import resolve_model
from ..hub.loading import load_config, load_model
from ..tasks.base import METRICS, Task, task_of
from ..tasks.super_resolution.cost import number_of_threads, peak_memory
from ..utils.console import progress_bar
from ..utils.files import atomic_write
from ..utils.markdown import markdown_table
from ..utils.plots import BLUE, ORANGE
from .engines import ENGINES, Contender, contenders
from .prune import count
from .quantize import packed_bytes

WARMUP = 3
BATCHES = (1, 32)


def benchmark(
    models: Sequence[str],
    *,
    data: str | None = None,
    split: str = "test",
    batches: Sequence[int] = BATCHES,
    engines: Sequence[str] | None = None,
    threads: int = 1,
    rounds: int = 30,
    count: int = 1000,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Measure models on several engines in one run. Contenders take turns, so that what else the machine does meets
    all alike, after three runs that warm up; the first model on PyTorch in fp32 is what all are compared with.

    Args:
        models: Hub ids, folders or shipped checkpoints of one task; the first is the parent.
        data: labelled images as [`load_image_dataset`] takes them, or a folder of photographs.
        split: of labelled images.
        batches: images a call. Classifiers get images of their size, upscalers 64×64 pixels.
        engines: some of `eager`, `bf16`, `compile`, `openvino`, `openvino-bf16`, `onnx`; all where not given.
            Quantized models run on their own.
        threads: of the CPU.
        rounds: how often contenders take turns.
        count: images, at most, for accuracy or PSNR.
        trust_remote_code: run the model code of Hub repositories whose family is not installed here.

    Returns:
        `threads`, `rounds`, `parent`, and `results`, by contender: `model`, `engine`, `bytes`, `macs`, `parameters`;
        `batches`, by size, with `latency_ms` and `cpu_ms` (`median`, `p90`), `images_per_second`, `speedup` over the
        parent by processor time; `peak_memory_mb`, by how much the process grows at its first
        call, of the largest batch, compiling included; and, with data, `top1` or `psnr`
        and `agreement`: the part of answers that are the parent's, or the PSNR between both results.

    Raises:
        FileNotFoundError: if there is no such model or data.
        ValueError: for models of several tasks or sizes, or an unknown engine.
    """
    chosen = tuple(engines or ENGINES)
    if unknown := sorted(set(chosen) - set(ENGINES)):
        raise ValueError(f"There is no engine {unknown[0]!r}: choose of {', '.join(ENGINES)}.")
    if "eager" not in chosen:
        chosen = ("eager", *chosen)
    configs = {name: load_config(name, trust_remote_code=trust_remote_code) for name in models}
    tasks = {name: task_of(config, name, trust_remote_code=trust_remote_code) for name, config in configs.items()}
    task, signatures = tasks[models[0]], {name: tasks[name].signature(config) for name, config in configs.items()}
    if len(set(signatures.values())) > 1:
        raise ValueError(f"The models are for different images or tasks: {', '.join(map(str, signatures.values()))}.")
    shape = signatures[models[0]][2:]
    with number_of_threads(threads), torch.inference_mode():
        loaded = {name: load_model(name, task.pipeline, trust_remote_code=trust_remote_code) for name in models}
        entrants: list[Contender] = []
        for name, (model, _) in loaded.items():
            size = packed_bytes(Path(resolve_model(name)))
            entrants += contenders(name, model.float(), chosen, size)
        results = {entrant.name: facts(entrant, loaded[entrant.model][0]) for entrant in entrants}
        largest = random_images(shape, max(batches))
        for entrant in entrants:
            results[entrant.name]["peak_memory_mb"] = peak_memory(entrant, largest)
        for batch in batches:
            pixels = random_images(shape, batch)
            for name, figures in race(entrants, pixels, rounds).items():
                results[name]["batches"][str(batch)] = figures
        if data is not None:
            for name, figures in measure_quality(entrants, loaded, task, (data, split, count)).items():
                results[name] |= figures
    return {"threads": threads, "rounds": rounds, "parent": entrants[0].name, "results": results}


def random_images(shape: Sequence[int], batch: int) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))


def facts(entrant: Contender, model: Any) -> dict[str, Any]:
    entry = {"model": entrant.model, "engine": entrant.engine, "bytes": entrant.bytes}
    if hasattr(model, "state_dict") and entrant.engine not in ("int8", "quanto"):
        figures = count(type(model), model.config)
        entry |= {"parameters": figures["params"], "macs": figures["macs"]}
    return entry | {"batches": {}}


def race(entrants: Sequence[Contender], pixels: Tensor, rounds: int) -> dict[str, dict[str, Any]]:
    """Times of one call of each, who begins moving on from round to round."""
    times: dict[str, list[tuple[float, float]]] = {entrant.name: [] for entrant in entrants}
    for entrant in entrants:
        for _ in range(WARMUP):
            entrant.run(pixels)
    for number in progress_bar(range(rounds), desc=f"batch {len(pixels)}", leave=False):
        first = number % len(entrants)
        for entrant in [*entrants[first:], *entrants[:first]]:
            clock, cpu = perf_counter(), process_time()
            entrant.run(pixels)
            times[entrant.name].append((1000 * (perf_counter() - clock), 1000 * (process_time() - cpu)))
    figures = {}
    for name, pairs in times.items():
        clock, cpu = (spread(column) for column in zip(*pairs, strict=True))
        figures[name] = {
            "latency_ms": clock,
            "cpu_ms": cpu,
            "images_per_second": round(1000 * len(pixels) / clock["median"], 1),
        }
    parent = figures[entrants[0].name]["cpu_ms"]["median"]
    for entry in figures.values():
        entry["speedup"] = round(parent / max(entry["cpu_ms"]["median"], 1e-6), 3)
    return figures


def spread(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=10, method="inclusive") if len(values) > 1 else list(values) * 9
    return {"median": round(cuts[4], 4), "p90": round(cuts[8], 4)}


def measure_quality(
    entrants: Sequence[Contender], loaded: dict[str, Any], task: Task, source: tuple[str, str, int]
) -> dict[str, dict[str, float]]:
    """The quality of each contender by the task's metric, and its agreement with the first.

    Args:
        loaded: model and image processor, by the name of the model.
        source: of the images: data, split, and how many at most.
    """
    data = task.compression.benchmark(loaded[entrants[0].model][0].config, *source)
    figures, parent_outputs = {}, None
    for entrant in progress_bar(entrants, desc=task.metric.label, leave=False):
        model, processor = loaded[entrant.model]
        outputs, quality = data.measure(entrant.run, model.config, processor)
        parent_outputs = outputs if parent_outputs is None else parent_outputs
        agreement = task.compression.agreement(outputs, parent_outputs)
        figures[entrant.name] = {"images": data.images, task.metric.name: quality, "agreement": agreement}
    return figures


def format_benchmark(record: dict[str, Any]) -> str:
    """The figures as a table for the terminal and for Markdown."""
    sizes = list(next(iter(record["results"].values()))["batches"])
    metric = next((METRICS[key] for key in METRICS if key in record["results"][record["parent"]]), None)
    header = [
        "",
        *(f"{label}, batch {size}" for size in sizes for label in ("ms", "speed-up")),
        "images/s",
        "MB",
        "memory",
    ]
    if metric:
        header += [metric.label, "agreement"]
    rows = []
    for name, entry in record["results"].items():
        row = [name]
        for size in sizes:
            figures = entry["batches"][size]
            row += [f"{figures['latency_ms']['median']:.2f}", f"{figures['speedup']:.2f}"]
        row.append(f"{max(entry['batches'][size]['images_per_second'] for size in sizes):,.0f}")
        row.append("–" if entry["bytes"] is None else f"{entry['bytes'] / 1e6:.2f}")
        row.append("–" if entry["peak_memory_mb"] is None else f"{entry['peak_memory_mb']:.0f} MB")
        if metric and entry.get(metric.name) is None:
            row += ["–", "–"]
        elif metric:
            row += [metric.form.format(entry[metric.name]), metric.agreement_form.format(entry["agreement"])]
        rows.append(row)
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    return (
        f"{markdown_table(header, rows)}\n\nMilliseconds are medians of {record['rounds']} rounds of the clock on "
        f"{threads}; speed-up is over {record['parent']} by processor time."
    )


def tradeoff_picture(record: dict[str, Any], path: Path) -> None:
    """Write a PNG of quality against the time of an image, or, without data, of size against it."""
    from matplotlib.figure import Figure

    results = record["results"]
    quality = next((key for key in METRICS if key in results[record["parent"]]), "bytes")
    size = next(iter(results[record["parent"]]["batches"]))
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    for name, entry in results.items():
        x, y = entry["batches"][size]["cpu_ms"]["median"], entry.get(quality)
        if y is None:
            continue
        axis.scatter(x, y, color=ORANGE if entry["engine"] == "int8" else BLUE, s=36, zorder=3)
        axis.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    label = METRICS[quality].label if quality in METRICS else "bytes of weights"
    axis.set(xscale="log", xlabel=f"CPU milliseconds, batch {size}, {record['threads']} thread(s)", ylabel=label)
    axis.margins(x=0.25)
    axis.grid(alpha=0.25, which="both")
    axis.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)
