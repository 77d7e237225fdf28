"""How good a model is."""

import argparse
import sys
from pathlib import Path

from ..utils.console import to_json
from ..utils.files import check_report
from .arguments import (
    MODEL_HELP,
    TRUST_HELP,
    add_command,
    add_data_options,
    add_group,
    add_report_options,
    chosen_split,
    columns_of,
    labelled_split,
    positive,
    validation_options,
)

EXAMPLES = {
    "evaluate_classifier": """examples:
  hfvision evaluate classifier runs/photos --data photos/ --split validation
  hfvision evaluate classifier user/my-vit --data user/my-photos --split validation --tta flip --out runs/evaluation
  accelerate launch -m hfvision evaluate classifier runs/photos --data photos/ --split validation""",
    "evaluate_binary": """examples:
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --out report/
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --validation-group patient
  hfvision evaluate binary user/xrays --data xrays/ --positive PNEUMONIA --threshold 0.3""",
    "evaluate_segmenter": """examples:
  hfvision evaluate segmenter runs/cells --data cells/ --split validation
  hfvision evaluate segmenter runs/cells --data user/my-cells --by kind --tta turn --out report/""",
    "evaluate_robustness": """examples:
  hfvision evaluate robustness runs/photos --data photos/ --split validation -n 200 --attack pgd
  hfvision evaluate robustness user/hardened --data user/photos --compare user/standard --out runs/robustness
  hfvision evaluate robustness runs/photos --data photos/ --split validation --norm l2 --out runs/l2 --resume""",
    "evaluate_superres": """examples:
  hfvision evaluate superres sr-tiny-x2 --data photos/
  hfvision evaluate superres runs/upscaler user/other --data Set5/ Set14/ --out report/""",
}


def evaluate_classifier(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.classification.evaluate import evaluate_classifier, format_evaluation
    from ..utils.plots import confusion_picture, reliability_diagram

    check_report(args.out, "evaluation.json", "confusion.png", "reliability.png", force=args.force)
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
    print(to_json(record) if args.json else format_evaluation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        confusion_picture(record["confusion_matrix"], names, args.out / "confusion.png")
        reliability_diagram(record["reliability"], args.out / "reliability.png")
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def evaluate_binary(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from ..data.datasets.classification import load_image_dataset
    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..hub.records import validation_settings
    from ..tasks.classification.binary import BinaryTest, evaluate_binary, format_binary, write_binary

    check_report(args.out, "binary.json", "roc.png", "abstention.png", "reliability.png", force=args.force)
    if args.split != "test" and args.threshold is None:
        raise ValueError(f"The threshold is chosen on validation images: with --split {args.split} say --threshold.")
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    accelerator = Accelerator()
    with accelerator.main_process_first():
        options = validation_settings(args.model, args.validation, args.validation_group)
        splits = load_image_dataset(args.data, **options, **columns_of(args))
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
    print(to_json(record) if args.json else format_binary(record))
    if args.out is not None:
        write_binary(record, args.out)
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def evaluate_segmenter(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from ..data.datasets.segmentation import MaskedImages, load_mask_dataset, name_classes
    from ..data.transforms.normalize import Normalize
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.segmentation.evaluate import evaluate_segmenter, format_segmentation
    from ..tasks.segmentation.pictures import best_and_worst

    check_report(args.out, "evaluation.json", "masks.png", force=args.force)
    model, processor = load_model(args.model, "image-segmentation", trust_remote_code=args.trust_remote_code)
    accelerator = Accelerator()
    columns = {"image_column": args.image_column, "mask_column": args.mask_column}
    with accelerator.main_process_first():
        splits = load_mask_dataset(args.data, **validation_options(args), **columns)
    split = chosen_split(args, splits)
    images = MaskedImages(split, getattr(model.config, "num_channels", 3))
    names = name_classes({args.split: images}, list(model.config.id2label.values()))
    options = {"by": args.by, "tta": args.tta, "accelerator": accelerator}
    figures = evaluate_segmenter(model.float(), images, processor, **options)
    if not accelerator.is_main_process:
        return
    data = {"source": args.data, "split": args.split, "fingerprint": split._fingerprint}
    record = {"model": args.model, "data": data} | figures
    print(to_json(record) if args.json else format_segmentation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        groups = [str(value) for value in split[args.by][:]] if args.by else None
        shown = (Normalize.from_processor(processor), names, figures["each"], args.out / "masks.png")
        best_and_worst(model, images, *shown, tta=args.tta, groups=groups)
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def evaluate_robustness(args: argparse.Namespace) -> int:
    import torch
    from accelerate import PartialState

    from ..data.datasets.prepare import prepare_images
    from ..hub.loading import load_model
    from ..records import write_record
    from ..robustness.evaluate import choose, evaluate_robustness
    from ..robustness.pictures import draw_all
    from ..robustness.summary import compare, format_comparison, format_robustness
    from ..robustness.threat_model import DEFAULT_EPSILON

    names = ["robustness.json", *(["compared.json"] if args.compare else []), "epsilon.png", "attack.png", "loss.png"]
    if args.out is not None and not (args.force or args.resume) and (args.out / "robustness.json").exists():
        raise ValueError(f"{args.out / 'robustness.json'} exists already: use --resume to go on with it, or --force.")
    check_report(args.out, *names, force=args.force or args.resume)
    if args.resume and args.out is None:
        raise ValueError("--resume needs --out, the folder of the evaluation to go on with.")
    if args.compare == args.model:
        raise ValueError(f"--compare {args.compare} is the model itself.")
    split = labelled_split(args)
    split = split.select(choose(torch.tensor(split["label"][:]), args.n))
    names = split.features["label"].names
    files = {args.model: "robustness.json"} | ({args.compare: "compared.json"} if args.compare else {})
    models, images, records = {}, {}, {}
    for name in files:
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
                print(f"hfvision: the figures so far are in {path}; --resume goes on with them", file=sys.stderr)
            raise
    record = records[args.model]
    if args.compare:
        record |= {"compared": {"other": args.compare} | compare(record, records[args.compare])}
    if args.json:
        print(to_json(record))
    else:
        print(format_robustness(record))
        if args.compare:
            print(format_comparison(record["compared"]))
    if args.out is not None:
        write_record(args.out / "robustness.json", record)
        draw_all(models, records, images[args.model], names, args.out)
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)
    return int(args.strict and bool(record["masked"]))


def evaluate_superres(args: argparse.Namespace) -> None:
    from ..hub.loading import load_model
    from ..records import write_record
    from ..tasks.super_resolution.evaluate import evaluate_superres, find_sets
    from ..tasks.super_resolution.report import comparison_picture, format_superres

    check_report(args.out, "superres.json", *(f"superres_x{n}.png" for n in (2, 3, 4)), force=args.force)
    sets = find_sets(args.data)
    trust = {"trust_remote_code": args.trust_remote_code}
    models = {name: load_model(name, "image-super-resolution", **trust)[0] for name in args.models}
    record = evaluate_superres(models, sets, dtype=args.dtype)
    print(to_json(record) if args.json else format_superres(record))
    if args.out is not None:
        write_record(args.out / "superres.json", record)
        for scale in {model.config.scale for model in models.values()}:
            comparison_picture(models, sets, record, scale, args.out / f"superres_x{scale}.png")
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def add_commands(commands: argparse._SubParsersAction) -> None:
    tasks = add_group(commands, "evaluate", "Measure how good a model is.")
    description = "Measure a classifier on labelled images: accuracy, calibration, each class, speed."
    command = add_command(tasks, evaluate_classifier, description, EXAMPLES["evaluate_classifier"], "classifier")
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    command.add_argument("--batch-size", type=positive, default=256, help="images a step and process (default 256)")
    command.add_argument(
        "--tta",
        choices=["none", "flip", "flip_shift"],
        default="none",
        help="test-time augmentation: mean over mirrored, and moved, images (default none)",
    )
    add_report_options(command, "folder for evaluation.json, confusion.png and reliability.png")

    description = "Measure a classifier of two classes as a test: ROC, a threshold and its errors, abstention."
    command = add_command(tasks, evaluate_binary, description, EXAMPLES["evaluate_binary"], "binary")
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    command.add_argument("--positive", required=True, metavar="CLASS", help="the class that is looked for")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability from which on an image is called positive (default: chosen on the validation images)",
    )
    command.add_argument("--batch-size", type=positive, default=256, help="images a step and process (default 256)")
    add_report_options(command, "folder for binary.json, roc.png, abstention.png, reliability.png")

    description = "Measure a segmenter on images with masks: Dice and IoU of each class, and of each kind of image."
    command = add_command(tasks, evaluate_segmenter, description, EXAMPLES["evaluate_segmenter"], "segmenter")
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_argument("--data", required=True, help="images and masks, as of `hfvision train segmenter`")
    command.add_argument("--split", choices=["test", "validation", "train"], default="test", help="(default test)")
    command.add_argument("--by", metavar="COLUMN", help="give figures for the images of each of its values, too")
    command.add_argument(
        "--tta",
        choices=["none", "flip", "turn"],
        default="none",
        help="test-time augmentation: mean over mirrored images, or all eight ways they can lie (default none)",
    )
    command.add_argument("--image-column", help="column of the images, where it is not found by itself")
    command.add_argument("--mask-column", help="column of the masks, where it is not found by itself")
    command.add_argument("--validation", type=float, metavar="PART", help="as of the training (default: as it was)")
    command.add_argument("--validation-group", metavar="COLUMN", help="as of the training (default: as it was)")
    add_report_options(command, "folder for evaluation.json, and masks.png: best, middle and worst")

    description = "Measure what attacks and noise leave of a classifier's accuracy, and whether to believe it."
    command = add_command(tasks, evaluate_robustness, description, EXAMPLES["evaluate_robustness"], "robustness")
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_data_options(command)
    command.add_argument("--norm", choices=["linf", "l2"], default="linf", help="of the change (default linf)")
    command.add_argument(
        "--epsilon", help="most change, for pixels in [0, 1], as 8/255 or 0.03 (default 8/255, and 0.5 for l2)"
    )
    command.add_argument(
        "--attack",
        choices=["worst_case", "apgd", "pgd", "fgsm", "square"],
        default="worst_case",
        help="the ensemble of the strongest, or one attack (default worst_case)",
    )
    command.add_argument("-n", type=positive, default=1000, help="how many images (default 1000)")
    command.add_argument("--compare", metavar="MODEL", help="evaluate this one too, and draw both")
    command.add_argument("--batch-size", type=positive, default=200, help="images a step (default 200)")
    command.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of forward passes (default fp32)")
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--out", type=Path, help="folder for robustness.json and pictures")
    command.add_argument("--resume", action="store_true", help="go on with what was interrupted in --out")
    command.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    command.add_argument("--strict", action="store_true", help="exit code 1 if the model masks its gradients")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=TRUST_HELP)

    description = "Measure super-resolution on photographs: PSNR, SSIM, NIQE and cost, beside bicubic and Lanczos."
    command = add_command(tasks, evaluate_superres, description, EXAMPLES["evaluate_superres"], "superres")
    command.add_argument("models", nargs="+", metavar="MODEL", help=MODEL_HELP)
    command.add_argument(
        "--data", nargs="+", action="extend", type=Path, required=True, help="folders of photographs: one set each"
    )
    command.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of the quality (default fp32)")
    add_report_options(command, "folder for superres.json and pictures of before and after")
