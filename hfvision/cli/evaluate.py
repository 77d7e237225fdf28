"""How good a model is."""

import argparse
from typing import Any

from jsonargparse.typing import PositiveInt

from ..robustness.threat_model import DEFAULT_EPSILON, parse_epsilon
from ..utils.console import logger, output, to_json
from ..utils.files import check_report
from ..utils.parser import Parser
from .arguments import (
    MODEL_HELP,
    add_data_options,
    add_force,
    add_json,
    add_output_dir,
    add_report_options,
    add_trust,
    as_path,
    check_data,
    check_images,
    check_model,
    chosen_split,
    columns_of,
    labelled_split,
    validation_options,
)
from .commands import Command

EXAMPLES = {
    "evaluate_classifier": """examples:
  hfvision evaluate classifier runs/photos --data photos/ --split validation
  hfvision evaluate classifier user/my-vit --data user/my-photos --tta flip --output-dir runs/evaluation
  accelerate launch -m hfvision evaluate classifier runs/photos --data photos/ --split validation""",
    "evaluate_binary": """examples:
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --output-dir report/
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --validation-group patient
  hfvision evaluate binary user/xrays --data xrays/ --positive PNEUMONIA --threshold 0.3""",
    "evaluate_segmenter": """examples:
  hfvision evaluate segmenter runs/cells --data cells/ --split validation
  hfvision evaluate segmenter runs/cells --data user/my-cells --by kind --tta turn --output-dir report/""",
    "evaluate_robustness": """examples:
  hfvision evaluate robustness runs/photos --data photos/ --split validation --num-images 200 --attack pgd
  hfvision evaluate robustness user/hardened --data user/photos --compare user/standard --output-dir runs/robustness
  hfvision evaluate robustness runs/photos --data photos/ --norm l2 --output-dir runs/l2 --resume""",
    "evaluate_superres": """examples:
  hfvision evaluate superres sr-tiny-x2 --data photos/
  hfvision evaluate superres runs/upscaler user/other --data Set5/ Set14/ --output-dir report/""",
}


def evaluate_classifier(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_data([args.data])
    check_report(args.out, "evaluation.json", "confusion.png", "reliability.png", force=args.force)
    from accelerate import Accelerator

    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.classification.evaluate import evaluate_classifier, format_evaluation
    from ..utils.plots import confusion_picture, reliability_diagram

    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    accelerator = Accelerator()
    with accelerator.main_process_first():
        split = labelled_split(args)
        images = prepare_images(split, processor)
    names = split.features["label"].names
    options = {"batch_size": args.batch_size, "tta": args.tta, "accelerator": accelerator}
    figures = evaluate_classifier(model.float(), images, processor, names=names, **options)
    if not accelerator.is_main_process:
        return
    data = {"source": args.data, "split": args.split, "fingerprint": split._fingerprint}
    record = {"model": args.model, "data": data, "batch_size": args.batch_size} | figures
    output(to_json(record) if args.json else format_evaluation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        confusion_picture(record["confusion_matrix"], names, args.out / "confusion.png")
        reliability_diagram(record["reliability"], args.out / "reliability.png")
        logger.info(f"Results and pictures written to {args.out}")


def evaluate_binary(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_data([args.data])
    check_report(args.out, "binary.json", "roc.png", "abstention.png", "reliability.png", force=args.force)
    from accelerate import Accelerator

    from ..data.datasets.classification import load_image_dataset
    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..hub.records import validation_settings
    from ..tasks.classification.binary import BinaryTest, evaluate_binary, format_binary, write_binary

    if args.split != "test" and args.threshold is None:
        raise ValueError(f"The threshold is chosen on validation images: with --split {args.split} say --threshold.")
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    accelerator = Accelerator()
    with accelerator.main_process_first():
        options = validation_settings(args.model, args.validation, args.validation_group)
        splits: Any = load_image_dataset(args.data, **options, **columns_of(args))
        if missing := {args.split, *(["validation"] if args.threshold is None else [])} - set(splits):
            raise ValueError(f"{args.data} has no split {missing.pop()!r}; it has {', '.join(splits)}.")
        images = prepare_images(splits[args.split], processor)
        validation = prepare_images(splits["validation"], processor) if args.threshold is None else None
    split = splits[args.split]
    groups = split["group"][:] if "group" in split.column_names else None
    figures = evaluate_binary(
        model.float(),
        images,
        processor,
        BinaryTest(args.positive, args.threshold, validation, groups),
        names=split.features["label"].names,
        batch_size=args.batch_size,
        accelerator=accelerator,
    )
    if not accelerator.is_main_process:
        return
    data = {"source": args.data, "split": args.split, "fingerprint": split._fingerprint}
    record = {"model": args.model, "data": data} | figures
    output(to_json(record) if args.json else format_binary(record))
    if args.out is not None:
        write_binary(record, args.out)
        logger.info(f"Results and pictures written to {args.out}")


def evaluate_segmenter(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_data([args.data])
    check_report(args.out, "evaluation.json", "masks.png", force=args.force)
    from accelerate import Accelerator

    from ..data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
    from ..data.transforms.normalize import Normalize
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.segmentation.evaluate import evaluate_segmenter, format_segmentation
    from ..tasks.segmentation.pictures import best_and_worst

    model, processor = load_model(args.model, "image-segmentation", trust_remote_code=args.trust_remote_code)
    accelerator = Accelerator()
    columns = {"image_column": args.image_column, "mask_column": args.mask_column}
    with accelerator.main_process_first():
        splits = load_mask_dataset(args.data, **validation_options(args), **columns)
    split = chosen_split(args, splits)
    images = MaskedImages(split, getattr(model.config, "num_channels", 3))
    names = name_classes({args.split: images}, list((model.config.id2label or {}).values()))
    options = {"by": args.by, "tta": args.tta, "accelerator": accelerator}
    figures = evaluate_segmenter(model.float(), images, processor, **options)
    if not accelerator.is_main_process:
        return
    data = {"source": args.data, "split": args.split, "fingerprint": split._fingerprint}
    record = {"model": args.model, "data": data} | figures
    output(to_json(record) if args.json else format_segmentation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        groups = [str(value) for value in split[args.by][:]] if args.by else None
        shown = (Normalize.from_processor(processor), names, figures["each"], args.out / "masks.png")
        best_and_worst(model, images, *shown, tta=args.tta, groups=groups)
        logger.info(f"Results and pictures written to {args.out}")


def check_robustness(args: argparse.Namespace) -> None:
    """Check models, data and the output folder before anything heavy is imported."""
    for name in filter(None, (args.model, args.compare)):
        check_model(name)
    check_data([args.data])
    parse_epsilon(args.epsilon or DEFAULT_EPSILON[args.norm], args.norm)
    names = ["robustness.json", *(["compared.json"] if args.compare else []), "epsilon.png", "attack.png", "loss.png"]
    if args.out is not None and not (args.force or args.resume) and (args.out / "robustness.json").exists():
        raise ValueError(f"{args.out / 'robustness.json'} exists already: use --resume to continue it, or --force.")
    check_report(args.out, *names, force=args.force or args.resume)
    if args.resume and args.out is None:
        raise ValueError("--resume needs --output-dir, the folder of the interrupted evaluation.")
    if args.compare == args.model:
        raise ValueError(f"--compare {args.compare} is the model itself.")


def evaluate_robustness(args: argparse.Namespace) -> int:
    check_robustness(args)
    import torch
    from accelerate import PartialState

    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..records import write_record
    from ..robustness.evaluate import choose, evaluate_robustness
    from ..robustness.pictures import draw_all
    from ..robustness.summary import compare, format_comparison, format_robustness

    split = labelled_split(args)
    split = split.select(choose(torch.tensor(split["label"][:]), args.n))
    names = split.features["label"].names
    files = {args.model: "robustness.json"} | ({args.compare: "compared.json"} if args.compare else {})
    models, images, records = {}, {}, {}
    for name in files:
        model: Any
        model, processor = load_model(name, "image-classification", trust_remote_code=args.trust_remote_code)
        models[name] = model.float().to(PartialState().device), processor
        images[name] = prepare_images(split, processor)
        if images[name].shape != images[args.model].shape:
            sizes = " and ".join("×".join(map(str, each.shape[1:])) for each in images.values())
            raise ValueError(f"The models take images of {sizes} pixels: they cannot be compared.")
    paths = {name: args.out / file if args.out else None for name, file in files.items()}
    if not args.resume:
        for path in filter(None, paths.values()):
            path.unlink(missing_ok=True)
    for name, path in paths.items():
        try:
            records[name] = evaluate_robustness(
                models[name][0],
                images[name],
                models[name][1],
                epsilon=args.epsilon or DEFAULT_EPSILON[args.norm],
                norm=args.norm,
                attack=args.attack,
                count=args.n,
                batch_size=args.batch_size,
                names=names,
                dtype=torch.bfloat16 if args.dtype == "bf16" else None,
                seed=args.seed,
                path=path,
                resume=args.resume,
                about={"model": name, "data": {"source": args.data, "split": args.split}},
            )
        except KeyboardInterrupt:
            if path:
                logger.info(f"Partial results are in {path}: continue with --resume.")
            raise
    record = records[args.model]
    if args.compare:
        record |= {"compared": {"other": args.compare} | compare(record, records[args.compare])}
    if args.json:
        output(to_json(record))
    else:
        output(format_robustness(record))
        if args.compare:
            output(format_comparison(record["compared"]))
    if args.out is not None:
        write_record(args.out / "robustness.json", record)
        draw_all(models, records, images[args.model], names, args.out)
        logger.info(f"Results and pictures written to {args.out}")
    return int(args.strict and bool(record["masked"]))


def evaluate_superres(args: argparse.Namespace) -> None:
    for name in args.models:
        check_model(name)
    check_images(args.data)
    check_report(args.out, "superres.json", *(f"superres_x{n}.png" for n in (2, 3, 4)), force=args.force)
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.super_resolution.evaluate import evaluate_superres, find_sets
    from ..tasks.super_resolution.report import comparison_picture, format_superres

    sets = find_sets(args.data)
    trust = {"trust_remote_code": args.trust_remote_code}
    models = {name: load_model(name, "image-super-resolution", **trust)[0] for name in args.models}
    record = evaluate_superres(models, sets, dtype=args.dtype)
    output(to_json(record) if args.json else format_superres(record))
    if args.out is not None:
        write_record(args.out / "superres.json", record)
        for scale in {model.config.scale for model in models.values()}:
            comparison_picture(models, sets, record, scale, args.out / f"superres_x{scale}.png")
        logger.info(f"Results and pictures written to {args.out}")


def add_commands(commands: Command) -> None:
    tasks = commands.add_group("evaluate", "Evaluate a model.")
    add_classifier(tasks)
    add_binary(tasks)
    add_segmenter(tasks)
    add_robustness(tasks)
    add_superres(tasks)


def add_classifier(tasks: Command) -> None:
    command = tasks.add(
        evaluate_classifier,
        "Evaluate a classifier: accuracy, calibration, per-class metrics, throughput.",
        EXAMPLES["evaluate_classifier"],
        "classifier",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    add_batch_size(command, 256)
    command.add_argument(
        "--tta",
        choices=["none", "flip", "flip_shift"],
        default="none",
        help="test-time augmentation: average over flips, or flips and shifts (default: none)",
    )
    add_report_options(command, "output folder for evaluation.json, confusion.png and reliability.png")


def add_binary(tasks: Command) -> None:
    command = tasks.add(
        evaluate_binary,
        "Evaluate a binary classifier: ROC curve, AUROC, sensitivity and specificity at a threshold, abstention.",
        EXAMPLES["evaluate_binary"],
        "binary",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    command.add_argument("--positive", required=True, metavar="CLASS", help="name of the positive class")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="decision threshold on the positive class's probability (default: chosen on the validation split)",
    )
    add_batch_size(command, 256)
    add_report_options(command, "output folder for binary.json, roc.png, abstention.png and reliability.png")


def add_segmenter(tasks: Command) -> None:
    command = tasks.add(
        evaluate_segmenter,
        "Evaluate a semantic segmentation model: Dice and IoU per class and per group of images.",
        EXAMPLES["evaluate_segmenter"],
        "segmenter",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command, "images with masks", "mask")
    command.add_argument("--by", metavar="COLUMN", help="also report metrics for each value of this column")
    command.add_argument(
        "--tta",
        choices=["none", "flip", "turn"],
        default="none",
        help="test-time augmentation: average over flips, or all eight flips and rotations (default: none)",
    )
    add_report_options(command, "output folder for evaluation.json and masks.png")


def add_robustness(tasks: Command) -> None:
    command = tasks.add(
        evaluate_robustness,
        "Evaluate a classifier under adversarial attacks and corruptions, and test for gradient masking.",
        EXAMPLES["evaluate_robustness"],
        "robustness",
    )
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    command.add_argument("--norm", choices=["linf", "l2"], default="linf", help="norm of the attack (default: linf)")
    command.add_argument(
        "--epsilon",
        metavar="X",
        help="attack radius for pixels in [0, 1], such as 8/255 or 0.03 (default: 8/255 for linf, 0.5 for l2)",
    )
    command.add_argument(
        "--attack",
        choices=["worst_case", "apgd", "pgd", "fgsm", "square"],
        default="worst_case",
        help="attack; worst_case is the ensemble of APGD-CE, targeted APGD-DLR and Square (default: worst_case)",
    )
    command.add_argument(
        "-n", "--num-images", dest="n", type=PositiveInt, metavar="N", default=1000, help="images (default: 1000)"
    )
    command.add_argument("--compare", metavar="MODEL", help="second model to evaluate and plot alongside")
    add_batch_size(command, 200)
    command.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="precision (default: fp32)")
    command.add_argument("--seed", type=int, metavar="N", default=0, help="random seed (default: 0)")
    add_output_dir(command, "output folder for robustness.json and pictures")
    command.add_argument("--resume", action="store_true", help="resume an interrupted evaluation in the output folder")
    command.add_argument("--strict", action="store_true", help="exit with code 1 if gradient masking is detected")
    add_force(command, "results")
    add_json(command)
    add_trust(command)


def add_superres(tasks: Command) -> None:
    command = tasks.add(
        evaluate_superres,
        "Evaluate super-resolution models: PSNR, SSIM, NIQE, runtime; with bicubic and Lanczos baselines.",
        EXAMPLES["evaluate_superres"],
        "superres",
    )
    command.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--data",
        nargs="+",
        action="extend",
        type=as_path,
        required=True,
        metavar="DIR",
        help="folders of high-resolution images, one test set each",
    )
    command.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="precision (default: fp32)")
    add_report_options(command, "output folder for superres.json and comparison pictures")


def add_batch_size(command: Parser, default: int) -> None:
    command.add_argument(
        "--batch-size", type=PositiveInt, metavar="N", default=default, help=f"images per batch (default: {default})"
    )
