"""What a model is for: classes, masks and larger images, and what is in it."""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from ..hub.checkpoints import DEFAULT_CLASSIFIER
from ..utils.console import each, json_array, say, to_json
from ..utils.files import atomic_model_folder, check_file, check_folder, check_model_folder, distinct_targets
from .arguments import MODEL_HELP, TRUST_HELP, add_command, add_group, box, positive, refuse_picture

CLASSIFIER_HELP = f"{MODEL_HELP}; default {DEFAULT_CLASSIFIER}, which knows the 1,000 classes of ImageNet"
EXAMPLES = {
    "classify": """examples:
  hfvision classify photo.jpg
  hfvision classify photos/ --model google/vit-base-patch16-224 --top 3 --json""",
    "upscale": """examples:
  hfvision upscale photo.jpg
  hfvision upscale photo.jpg --fit 3840x2160 --out large.jpg
  hfvision upscale film.mp4 --scale 4 --out large.mp4
  hfvision upscale photos/ --model user/my-upscaler --out large/ --resume
  accelerate launch -m hfvision upscale photos/ --out large/""",
    "video_summarize": """examples:
  hfvision video summarize clip.mp4 --out summary/
  hfvision video summarize clip.mp4 --model user/my-vit --top 5 --out summary/""",
    "segment": """examples:
  hfvision segment photo.jpg --model runs/cells
  hfvision segment photos/ --model user/my-segmenter --overlay --out masks/""",
    "blend": """example:
  hfvision blend sr-light-x4 sr-gan-x4 --alpha 0.6 --out runs/between
  hfvision upscale photo.jpg --model runs/between""",
    "info": """examples:
  hfvision info --list
  hfvision info runs/quickstart/classifier
  hfvision info sr-tiny-x2 --graph graph.md
  hfvision info user/my-vit --size 384 --graph graph.svg --backward""",
    "explain": """examples:
  hfvision explain photo.jpg --out why.png
  hfvision explain photo.jpg --model runs/photos --label cat --layer cnn.encoder.stages.1 --out why.png""",
}


def classify(args: argparse.Namespace) -> None:
    import torch

    from ..data.io.images import read_image
    from ..data.io.tree import find_images
    from ..hub.loading import load_model
    from ..tasks.classification.confidence import is_low, low_confidence_note, recorded_threshold

    images = [path for source in args.images for path in find_images(source)]
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    threshold = recorded_threshold(args.model)

    def scores_of(path: Path) -> dict[str, float]:
        with torch.inference_mode():
            inputs = processor(read_image(path), return_tensors="pt").to(model.device, model.dtype)
            logits = model(**inputs).logits[0].float()
        if not logits.isfinite().all():
            raise FloatingPointError(f"{args.model} gives logits that are not finite: its weights are damaged.")
        probabilities, indices = logits.softmax(-1).topk(min(args.top, len(logits)))
        labels = [model.config.id2label[index] for index in indices.tolist()]
        return dict(zip(labels, [round(p, 4) for p in probabilities.tolist()], strict=True))

    with json_array() if args.json else nullcontext() as add:
        for path, scores in each(images, scores_of, Path, "classified"):
            low = is_low(next(iter(scores.values())), threshold)
            if args.json:
                add({"image": str(path), "scores": scores, "low_confidence": low})
            else:
                lines = [f"  {score:7.2%}  {label}" for label, score in scores.items()]
                lines += [f"  {low_confidence_note(threshold)}"] if low else []
                say("\n".join([str(path), *lines]))


def upscale(args: argparse.Namespace) -> None:
    import torch
    from accelerate import Accelerator

    from ..data.io.encoding import VideoEncoding
    from ..tasks.super_resolution.batch import share_of, upscale_files
    from ..tasks.super_resolution.files import output_paths
    from ..tasks.super_resolution.upscale import Upscaling

    accelerator = Accelerator(cpu=not torch.accelerator.is_available())  # or processes on CPUs do not see each other
    options = ("model", "scale", "outscale", "fit", "tile", "dtype", "trust_remote_code")
    encoding = VideoEncoding(args.codec, args.crf, args.preset)
    values = {name: getattr(args, name) for name in options}
    if args.out is not None:
        check_folder(args.out if len(args.images) > 1 or args.images[0].is_dir() else args.out.parent)
    upscaling = Upscaling(**values, device=accelerator.device, encoding=encoding)
    pairs = output_paths(args.images, args.out, upscaling.label())
    in_folder = args.out is not None and pairs[0][1] != args.out
    if args.resume and not in_folder:
        raise ValueError("--resume needs --out, the folder of the results to go on with.")
    for folder in {target.parent for _, target in pairs}:
        check_folder(folder)
    accelerator.wait_for_everyone()  # until all have listed the same files, and none of the results
    rank = accelerator.process_index
    manifest = args.out / f"upscale-{rank}.jsonl" if in_folder else None
    share = share_of(pairs, rank, accelerator.num_processes)
    upscale_files(share, upscaling, manifest=manifest, resume=args.resume, force=args.force)


def video_summarize(args: argparse.Namespace) -> None:
    from ..tasks.video.summarize import format_summary, summarize_video

    options = ("top", "threshold", "batch_size", "force", "trust_remote_code")
    out = args.out or args.video.with_name(f"{args.video.stem}_summary")
    record = summarize_video(args.video, out, args.model, **{name: getattr(args, name) for name in options})
    print(to_json(record) if args.json else format_summary(record))
    if record["problem"]:
        print(f"hfvision: warning: {record['problem']}", file=sys.stderr)
    print(f"Summary, contact sheet and timeline written to {out}", file=sys.stderr)


def segment(args: argparse.Namespace) -> None:
    from ..data.io.tree import find_images
    from ..hub.loading import load_model
    from ..tasks.segmentation.predict import segment_file

    found, seen = [], set()
    for source in args.images:
        for path in find_images(source):
            if path.absolute() in seen:
                continue
            seen.add(path.absolute())
            inside = path.relative_to(source).parent if source.is_dir() else Path()
            folder = args.out / inside if args.out else path.parent
            found.append((path, folder, f"_{'overlay' if args.overlay else 'mask'}.png"))
    pairs = list(zip((path for path, *_ in found), distinct_targets(found), strict=True))
    for folder in {target.parent for _, target in pairs}:
        check_folder(folder)
    for _, target in pairs:
        if target.exists() and not args.force:
            raise ValueError(f"{target} exists already: use --force to replace it.")
    model, processor = load_model(args.model, "image-segmentation", trust_remote_code=args.trust_remote_code)

    def work(pair: tuple[Path, Path]) -> dict[str, float]:
        return segment_file(*pair, model, processor, as_overlay=args.overlay, tile=args.tile)

    with json_array() if args.json else nullcontext() as add:
        for (path, target), shares in each(pairs, work, lambda pair: pair[0], "segmented"):
            if args.json:
                add({"image": str(path), "out": str(target), "shares": shares})
            else:
                named = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
                say(f"{path} → {target}: {named}")


def blend(args: argparse.Namespace) -> None:
    from ..hub.loading import load_model
    from ..tasks.super_resolution.blend import blend as blend_networks

    check_model_folder(args.out, force=args.force)
    task = "image-super-resolution"
    (first, processor), (second, _) = (load_model(name, task) for name in (args.first, args.second))
    with atomic_model_folder(args.out) as folder:
        blend_networks(first, second, args.alpha).save_pretrained(folder)
        processor.save_pretrained(folder)
    print(f"{1 - args.alpha:.0%} of {args.first} and {args.alpha:.0%} of {args.second}: {args.out}")


def info(args: argparse.Namespace) -> None:
    from ..hub.checkpoints import list_checkpoints

    if args.list or args.model is None:
        for name, folder in list_checkpoints().items():
            print(f"{name:24}{folder}")
        if not list_checkpoints():
            print("This version of hfvision carries no checkpoints; train some with: hfvision quickstart")
        return
    import torch

    from ..hub.loading import load_config, load_model
    from ..inspection.graph import computational_graph, to_mermaid, to_svg
    from ..inspection.layers import format_table, summarize
    from ..tasks.base import task_of
    from ..utils.files import write_text

    if args.graph is not None and args.graph.suffix not in (".md", ".svg"):
        raise ValueError(f"--graph {args.graph} must end in .md (Mermaid) or .svg (picture).")
    check_file(args.graph, force=args.force)
    config = load_config(args.model, trust_remote_code=args.trust_remote_code)
    task = task_of(config, f"{args.model} (config.json)", trust_remote_code=args.trust_remote_code)
    model, _ = load_model(args.model, task.pipeline, trust_remote_code=args.trust_remote_code)
    size = args.size or task.example_side(config)
    pixel_values = torch.rand(1, getattr(config, "num_channels", 3), size, size, dtype=model.dtype)
    summary = summarize(model, pixel_values)
    if args.json:
        print(to_json({"config": config.to_diff_dict(), **summary.to_dict()}, default=str))
    else:
        print(f"{type(model).__name__} ({args.model}), input {'×'.join(map(str, pixel_values.shape))}\n")
        print(config.to_json_string())
        print(format_table(summary))
    if args.graph is not None:
        graph = computational_graph(model, pixel_values, backward=args.backward)
        write_text(args.graph, to_svg(graph) if args.graph.suffix == ".svg" else to_mermaid(graph))
        print(f"Computational graph written to {args.graph}", file=sys.stderr)


def explain(args: argparse.Namespace) -> None:
    from ..data.io.images import read_image
    from ..hub.loading import load_model
    from ..inspection.explain import explain_image
    from ..tasks.classification.confidence import is_low, low_confidence_note, recorded_threshold
    from ..utils.plots import side_by_side

    refuse_picture(args)
    image = read_image(args.image)
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    options = {"label": args.label, "method": args.method, "layer": args.layer}
    found = explain_image(image, model, processor, **options)
    says = f"{found.label} {found.probability:.1%}"
    side_by_side({args.image.name: image, f"{says}, {found.method}": found.overlay}, args.out)
    print(f"{args.image}: {says}; heat map by {found.method}: {args.out}")
    threshold = recorded_threshold(args.model)
    if args.label is None and is_low(found.probability, threshold):
        print(low_confidence_note(threshold))


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, classify, "Say what is in images.", EXAMPLES["classify"])
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", default=DEFAULT_CLASSIFIER, help=CLASSIFIER_HELP)
    command.add_argument("--top", type=positive, default=5, help="how many labels to print (default 5)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    command = add_command(commands, upscale, "Make photographs and videos larger.", EXAMPLES["upscale"])
    command.add_argument("images", nargs="+", type=Path, metavar="FILE", help="image, video or folder")
    command.add_argument("--model", help=f"{MODEL_HELP}; default: the shipped one for the wanted size")
    command.add_argument("--scale", type=int, choices=[2, 3, 4], help="of the shipped model (default 2)")
    command.add_argument("--outscale", type=float, help="how many times larger the result is, as 2.5")
    command.add_argument("--fit", type=box, metavar="WxH", help="as large as fits in so many pixels, as 3840x2160")
    command.add_argument("--out", type=Path, help="folder for the results, or a file's name for one image or video")
    command.add_argument("--tile", type=positive, help="side of the tiles in pixels (default: what memory suggests)")
    command.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="of convolutions (default: half precision where it is fast, fp32 for images of 16 bits)",
    )
    command.add_argument(
        "--codec",
        help="of videos: h264, hevc, av1, vp9, prores, ffv1 (default h264; in .webm vp9; what keeps transparency)",
    )
    command.add_argument("--crf", type=int, help="quality of videos, lower is better (default 18 for h264)")
    command.add_argument("--preset", help="speed of the video encoder, as slow (default medium)")
    command.add_argument("--resume", action="store_true", help="go on with what was interrupted in --out")
    command.add_argument("--force", action="store_true", help="replace existing results")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    tasks = add_group(commands, "video", "Look into a video.")
    description = "Find the shots of a video: a contact sheet, a timeline, and labels for each."
    command = add_command(tasks, video_summarize, description, EXAMPLES["video_summarize"], "summarize")
    command.add_argument("video", type=Path, metavar="FILE", help="video file")
    command.add_argument(
        "--model",
        default=DEFAULT_CLASSIFIER,
        help=f"classifier or encoder: {CLASSIFIER_HELP}",
    )
    command.add_argument("--out", type=Path, help="folder for what it makes (default: beside the video)")
    command.add_argument("--top", type=positive, default=3, help="labels a shot (default 3)")
    command.add_argument(
        "--threshold", type=float, default=0.2, help="lower finds more cuts, higher fewer (default 0.2)"
    )
    command.add_argument("--batch-size", type=positive, default=32, help="frames a step (default 32)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--force", action="store_true", help="replace an existing summary")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    command = add_command(commands, segment, "Find the class of each pixel of images.", EXAMPLES["segment"])
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", required=True, help=MODEL_HELP)
    command.add_argument("--overlay", action="store_true", help="write the image with its classes in colour")
    command.add_argument("--tile", type=positive, default=1024, help="side of large images' tiles (default 1024)")
    command.add_argument("--out", type=Path, help="folder for the masks (default: beside the images)")
    command.add_argument("--force", action="store_true", help="replace existing masks")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    command = add_command(
        commands,
        blend,
        "Make an upscaler between two: one trained by pixels, and the GAN trained further from it.",
        EXAMPLES["blend"],
    )
    command.add_argument("first", metavar="A", help=MODEL_HELP)
    command.add_argument("second", metavar="B", help="the same architecture, trained further from A")
    command.add_argument("--alpha", type=float, default=0.5, help="share of B, from 0 to 1 (default 0.5)")
    command.add_argument("--out", type=Path, required=True, help="folder for the model")
    command.add_argument("--force", action="store_true", help="replace an existing model made by hfvision")

    command = add_command(
        commands,
        info,
        "Show what a model is made of: layers, multiply-adds, memory, computational graph.",
        EXAMPLES["info"],
    )
    command.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--list", action="store_true", help="list the shipped checkpoints")
    command.add_argument("--size", type=positive, help="side of the input image in pixels (default: the model's)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--graph", type=Path, metavar="FILE", help="write the computational graph to FILE.md or .svg")
    command.add_argument("--backward", action="store_true", help="add the autograd graph to it")
    command.add_argument("--force", action="store_true", help="replace an existing graph")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    command = add_command(
        commands, explain, "Draw where in an image a classifier's answer comes from.", EXAMPLES["explain"]
    )
    command.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    command.add_argument("--model", default=DEFAULT_CLASSIFIER, help=CLASSIFIER_HELP)
    command.add_argument("--label", help="class to explain (default: the likeliest)")
    command.add_argument(
        "--method",
        choices=["grad_cam", "rollout"],
        help="heat by gradients of feature maps, or by attention (default: what fits the model)",
    )
    command.add_argument("--layer", metavar="NAME", help="whose feature maps grad_cam takes (default: the last)")
    command.add_argument("--out", type=Path, default=Path("explanation.png"), help="(default explanation.png)")
    command.add_argument("--force", action="store_true", help="replace an existing picture")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)
