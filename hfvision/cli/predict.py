"""Commands that run a model on images and videos."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jsonargparse.typing import PositiveInt

from ..hub.checkpoints import DEFAULT_CLASSIFIER
from ..utils.console import each, json_array, logger, output, to_json
from ..utils.files import check_folder, distinct_targets
from .arguments import (
    MODEL_HELP,
    add_force,
    add_json,
    add_output_dir,
    add_trust,
    as_path,
    check_images,
    check_model,
    refuse_picture,
)
from .commands import Command

CLASSIFIER_HELP = f"{MODEL_HELP} (default: {DEFAULT_CLASSIFIER}, 1,000 ImageNet classes)"
EXAMPLES = {
    "classify": """examples:
  hfvision classify photo.jpg
  hfvision classify photos/ --model google/vit-base-patch16-224 --top 3 --json""",
    "segment": """examples:
  hfvision segment photo.jpg --model runs/cells
  hfvision segment photos/ --model user/my-segmenter --overlay --output-dir masks/""",
    "explain": """examples:
  hfvision explain photo.jpg --output-dir why.png
  hfvision explain photo.jpg --model runs/photos --label cat --layer cnn.encoder.stages.1 --output-dir why.png""",
    "video_summarize": """examples:
  hfvision video summarize clip.mp4 --output-dir summary/
  hfvision video summarize clip.mp4 --model user/my-vit --top 5 --output-dir summary/""",
}


def classify(args: argparse.Namespace) -> None:
    check_images(args.images)
    check_model(args.model)
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
        labels = [(model.config.id2label or {})[index] for index in indices.tolist()]
        return dict(zip(labels, [round(p, 4) for p in probabilities.tolist()], strict=True))

    show: Any = json_array() if args.json else nullcontext()
    with show as add:
        for path, scores in each(images, scores_of, Path, "classified"):
            low = is_low(next(iter(scores.values())), threshold)
            if args.json:
                add({"image": str(path), "scores": scores, "low_confidence": low})
            else:
                lines = [f"  {score:7.2%}  {label}" for label, score in scores.items()]
                lines += [f"  {low_confidence_note(threshold)}"] if low and threshold else []
                output("\n".join([str(path), *lines]))


def segment(args: argparse.Namespace) -> None:
    check_images(args.images)
    check_model(args.model)
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

    show: Any = json_array() if args.json else nullcontext()
    with show as add:
        for (path, target), shares in each(pairs, work, lambda pair: pair[0], "segmented"):
            if args.json:
                add({"image": str(path), "out": str(target), "shares": shares})
            else:
                named = ", ".join(f"{name} {share:.1%}" for name, share in shares.items() if share)
                output(f"{path} → {target}: {named}")


def explain(args: argparse.Namespace) -> None:
    refuse_picture(args)
    check_images([args.image])
    check_model(args.model)
    from ..data.io.images import read_image
    from ..hub.loading import load_model
    from ..inspection.explain import explain_image
    from ..tasks.classification.confidence import is_low, low_confidence_note, recorded_threshold
    from ..utils.plots import side_by_side

    image = read_image(args.image)
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    options = {"label": args.label, "method": args.method, "layer": args.layer}
    found = explain_image(image, model, processor, **options)
    says = f"{found.label} {found.probability:.1%}"
    side_by_side({args.image.name: image, f"{says}, {found.method}": found.overlay}, args.out)
    threshold = recorded_threshold(args.model)
    low = args.label is None and is_low(found.probability, threshold)
    result = {"image": str(args.image), "label": found.label, "probability": round(found.probability, 4)}
    result |= {"method": found.method, "low_confidence": low, "out": str(args.out)}
    if args.json:
        output(to_json(result))
        return
    output(f"{args.image}: {says}; {found.method} heat map: {args.out}")
    if low and threshold:
        output(low_confidence_note(threshold))


def video_summarize(args: argparse.Namespace) -> None:
    check_images([args.video])
    check_model(args.model)
    from ..tasks.video.summarize import format_summary, summarize_video

    options = ("top", "threshold", "batch_size", "force", "trust_remote_code")
    out = args.out or args.video.with_name(f"{args.video.stem}_summary")
    record = summarize_video(args.video, out, args.model, **{name: getattr(args, name) for name in options})
    output(to_json(record) if args.json else format_summary(record))
    if record["problem"]:
        logger.warning(record["problem"])
    logger.info(f"Summary, contact sheet and timeline written to {out}")


def add_commands(commands: Command) -> None:
    add_classify(commands)
    add_segment(commands)
    add_explain(commands)
    add_video_summarize(commands.add_group("video", "Analyze a video."))


def add_classify(commands: Command) -> None:
    command = commands.add(classify, "Classify images.", EXAMPLES["classify"])
    command.add_argument("images", nargs="+", type=as_path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", metavar="MODEL", default=DEFAULT_CLASSIFIER, help=CLASSIFIER_HELP)
    command.add_argument("--top", type=PositiveInt, metavar="N", default=5, help="labels per image (default: 5)")
    add_json(command)
    add_trust(command)


def add_segment(commands: Command) -> None:
    command = commands.add(segment, "Segment images: predict the class of each pixel.", EXAMPLES["segment"])
    command.add_argument("images", nargs="+", type=as_path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", metavar="MODEL", required=True, help=MODEL_HELP)
    command.add_argument("--overlay", action="store_true", help="write the image with its classes in color")
    command.add_argument(
        "--tile",
        type=PositiveInt,
        metavar="N",
        default=1024,
        help="tile size in pixels, for large images (default: 1024)",
    )
    add_output_dir(command, "output folder for the masks (default: next to the images)")
    add_force(command, "masks")
    add_json(command)
    add_trust(command)


def add_explain(commands: Command) -> None:
    command = commands.add(
        explain, "Show which image regions a classifier's prediction is based on.", EXAMPLES["explain"]
    )
    command.add_argument("image", type=as_path, metavar="IMAGE", help="image file")
    command.add_argument("--model", metavar="MODEL", default=DEFAULT_CLASSIFIER, help=CLASSIFIER_HELP)
    command.add_argument("--label", metavar="NAME", help="class to explain (default: the predicted class)")
    command.add_argument(
        "--method",
        choices=["grad_cam", "rollout"],
        help="Grad-CAM, or attention rollout for vision transformers (default: by architecture)",
    )
    command.add_argument("--layer", metavar="NAME", help="layer for Grad-CAM (default: the last feature map)")
    command.add_argument(
        "--out", type=as_path, metavar="FILE", default=Path("explanation.png"), help="(default: explanation.png)"
    )
    add_force(command, "picture")
    add_json(command)
    add_trust(command)


def add_video_summarize(tasks: Command) -> None:
    command = tasks.add(
        video_summarize,
        "Detect the shots of a video: contact sheet, timeline, and labels for each shot.",
        EXAMPLES["video_summarize"],
        "summarize",
    )
    command.add_argument("video", type=as_path, metavar="FILE", help="video file")
    command.add_argument(
        "--model", metavar="MODEL", default=DEFAULT_CLASSIFIER, help=f"classifier or image encoder: {CLASSIFIER_HELP}"
    )
    command.add_argument("--top", type=PositiveInt, metavar="N", default=3, help="labels per shot (default: 3)")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        default=0.2,
        help="shot boundary threshold; lower finds more cuts (default: 0.2)",
    )
    command.add_argument(
        "--batch-size", type=PositiveInt, metavar="N", default=32, help="frames per batch (default: 32)"
    )
    add_output_dir(command, "output folder (default: next to the video)")
    add_force(command, "summary")
    add_json(command)
    add_trust(command)
