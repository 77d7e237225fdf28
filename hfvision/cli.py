"""The `hfvision` command: one small function a subcommand."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

EXAMPLES = {
    "classify": """examples:
  hfvision classify cat.jpg --model runs/quickstart/classifier
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
    "blend": """example:
  hfvision blend sr-light-x4 sr-gan-x4 --alpha 0.6 --out runs/between
  hfvision upscale photo.jpg --model runs/between""",
    "info": """examples:
  hfvision info --list
  hfvision info runs/quickstart/classifier
  hfvision info sr-tiny-x2 --graph graph.md
  hfvision info user/my-vit --size 384 --graph graph.svg --backward""",
    "train": """example:
  hfvision train classifier --data photos/ --model cnn:resnet18 --out runs/photos
  hfvision train superres --data photos/ --model fast-light --scale 4 --out runs/upscaler
  hfvision train segmenter --data cells/ --classes background nucleus --turn true --out runs/cells
  hfvision train superres --help""",
    "evaluate_classifier": """examples:
  hfvision evaluate classifier runs/photos --data photos/ --split validation
  hfvision evaluate classifier user/my-vit --data user/my-photos --split validation --tta flip --out runs/evaluation
  accelerate launch -m hfvision evaluate classifier runs/photos --data photos/ --split validation""",
    "evaluate_binary": """examples:
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --out report/
  hfvision evaluate binary runs/xrays --data xrays/ --positive PNEUMONIA --validation-group patient
  hfvision evaluate binary user/xrays --data xrays/ --positive PNEUMONIA --threshold 0.3""",
    "calibrate": """examples:
  hfvision calibrate runs/photos --data photos/ --out runs/photos-calibrated
  hfvision calibrate runs/xrays --data xrays/ --validation-group patient --out runs/xrays-calibrated""",
    "explain": """examples:
  hfvision explain photo.jpg --model runs/photos --out why.png
  hfvision explain photo.jpg --model runs/photos --label cat --layer cnn.encoder.stages.1 --out why.png""",
    "evaluate_robustness": """examples:
  hfvision evaluate robustness runs/photos --data photos/ --split validation -n 200 --attack pgd
  hfvision evaluate robustness user/hardened --data user/photos --compare user/standard --out runs/robustness
  hfvision evaluate robustness runs/photos --data photos/ --split validation --norm l2 --out runs/l2 --resume""",
    "evaluate_segmenter": """examples:
  hfvision evaluate segmenter runs/cells --data cells/ --split validation
  hfvision evaluate segmenter runs/cells --data user/my-cells --by kind --tta turn --out report/""",
    "segment": """examples:
  hfvision segment photo.jpg --model runs/cells
  hfvision segment photos/ --model user/my-segmenter --overlay --out masks/""",
    "evaluate_superres": """examples:
  hfvision evaluate superres sr-tiny-x2 --data photos/
  hfvision evaluate superres runs/upscaler user/other --data Set5/ Set14/ --out report/""",
    "show_augment": """examples:
  hfvision show-augment photos/ --augment strong
  hfvision show-augment cat.jpg dog.jpg --augment classic --copies 4 --out augment.png""",
    "card": """examples:
  hfvision card runs/photos
  hfvision card runs/photos --licence cc-by-4.0 --data-name "Photos of our garden" --data-licence "our own"
  hfvision card runs/photos --hide-paths""",
    "push": """examples:
  hfvision push runs/photos user/photos
  hfvision push runs/photos user/photos --private --with-space
  hfvision push runs/photos user/photos --create-pr""",
    "quantize": """examples:
  hfvision quantize runs/photos --calibration photos/ --out runs/photos-int8
  hfvision quantize sr-tiny-x2 --calibration my-photographs/ --out runs/upscaler-int8
  hfvision quantize runs/photos --method quanto --bits 4 --out runs/photos-int4""",
    "prune": """examples:
  hfvision prune runs/photos --data photos/ --target-params 0.19 --epochs 20 --out runs/small
  hfvision prune user/my-vit --data photos/ --target-macs 0.5 --rounds 2 --out runs/small
  hfvision prune sr-tiny-x2 --data my-photographs/ --target-macs 0.7 --out runs/fast
  hfvision prune runs/photos --help""",
    "distill": """examples:
  hfvision distill runs/photos cnn:tiny --data photos/ --epochs 30 --out runs/student
  hfvision distill runs/upscaler fast-tiny --data my-photographs/ --scale 2 --out runs/student
  hfvision distill runs/photos cnn:tiny --help""",
    "benchmark": """examples:
  hfvision benchmark cnn-cifar10 runs/small runs/photos-int8 --data photos/ --split validation
  hfvision benchmark sr-tiny-x2 runs/upscaler-int8 --data Set5/ --batch 1 --out report/""",
    "detect_fit": """example:
  hfvision train superres --data normal/ --model fast-light --scale 4 --crop 8 --turn false --out runs/pixels
  hfvision train superres --data normal/ --model runs/pixels --crop 8 --turn false --gan vanilla --out runs/gan
  hfvision detect fit runs/gan --normal other-normal/""",
    "detect_anomalies": """example:
  hfvision detect anomalies photo.jpg camera/ --model runs/gan --out anomalies/""",
    "quickstart": """example:
  hfvision quickstart --out runs/quickstart""",
    "demo": """examples:
  hfvision demo
  hfvision demo --model runs/photos user/upscaler
  hfvision demo --host 0.0.0.0 --port 8080 --auth ada:secret""",
}


def classify(args: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from .data.images import find_images, read_image
    from .loading import load_model

    images = [path for source in args.images for path in find_images(source)]
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    results = []
    for path in tqdm(images, unit="image", disable=len(images) < 2):
        with torch.inference_mode():
            logits = model(**processor(read_image(path), return_tensors="pt")).logits[0].float()
        probabilities, indices = logits.softmax(-1).topk(min(args.top, len(logits)))
        labels = [model.config.id2label[index] for index in indices.tolist()]
        scores = dict(zip(labels, [round(p, 4) for p in probabilities.tolist()], strict=True))
        results.append({"image": str(path), "scores": scores})
    if args.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        print(result["image"])
        for label, score in result["scores"].items():
            print(f"  {score:7.2%}  {label}")


def upscale(args: argparse.Namespace) -> None:
    import torch
    from accelerate import Accelerator

    from .batch import share_of, upscale_files
    from .upscale import Upscaling, output_paths

    accelerator = Accelerator(cpu=not torch.accelerator.is_available())  # or processes on CPUs do not see each other
    options = ("model", "scale", "outscale", "fit", "tile", "dtype", "trust_remote_code")
    upscaling = Upscaling(**{name: getattr(args, name) for name in options}, device=accelerator.device)
    pairs = output_paths(args.images, args.out, upscaling.label())
    in_folder = args.out is not None and pairs[0][1] != args.out
    if args.resume and not in_folder:
        raise ValueError("--resume needs --out, the folder of the results to go on with.")
    accelerator.wait_for_everyone()  # until all have listed the same files, and none of the results
    rank = accelerator.process_index
    manifest = args.out / f"upscale-{rank}.jsonl" if in_folder else None
    share = share_of(pairs, rank, accelerator.num_processes)
    upscale_files(share, upscaling, manifest=manifest, resume=args.resume, force=args.force)


def video_summarize(args: argparse.Namespace) -> None:
    from .summarize import format_summary, summarize_video

    options = ("top", "threshold", "batch_size", "force", "trust_remote_code")
    out = args.out or args.video.with_name(f"{args.video.stem}_summary")
    record = summarize_video(args.video, out, args.model, **{name: getattr(args, name) for name in options})
    print(json.dumps(record, indent=2) if args.json else format_summary(record))
    if record["problem"]:
        print(f"hfvision: warning: {record['problem']}", file=sys.stderr)
    print(f"Summary, contact sheet and timeline written to {out}", file=sys.stderr)


def segment(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from .data.images import find_images
    from .loading import load_model
    from .report import refuse_file
    from .segmentation.predict import segment_file

    refuse_file(args.out)
    pairs = []
    for source in args.images:
        for path in find_images(source):
            inside = path.relative_to(source).parent if source.is_dir() else Path()
            folder = args.out / inside if args.out else path.parent
            pairs.append((path, folder / f"{path.stem}_{'overlay' if args.overlay else 'mask'}.png"))
    targets = [target for _, target in pairs]
    if twice := next((target for target in targets if targets.count(target) > 1), None):
        raise ValueError(f"Two images would both become {twice}: give them different names.")
    if there := next((target for target in targets if target.exists() and not args.force), None):
        raise ValueError(f"{there} is there already: use --force to replace it.")
    model, processor = load_model(args.model, "image-segmentation", trust_remote_code=args.trust_remote_code)
    results = []
    for path, target in tqdm(pairs, unit="image", disable=len(pairs) < 2):
        shares = segment_file(path, target, model, processor, as_overlay=args.overlay, tile=args.tile)
        results.append({"image": str(path), "out": str(target), "shares": shares})
    if args.json:
        print(json.dumps(results, indent=2))
        return
    for result in results:
        found = ", ".join(f"{name} {share:.1%}" for name, share in result["shares"].items() if share)
        print(f"{result['image']} → {result['out']}: {found}")


def blend(args: argparse.Namespace) -> None:
    from .blend import blend as blend_networks
    from .loading import load_model
    from .report import folder_written_whole

    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} is there already: choose another --out, or use --force to replace it.")
    task = "image-super-resolution"
    (first, processor), (second, _) = (load_model(name, task) for name in (args.first, args.second))
    with folder_written_whole(args.out) as folder:
        blend_networks(first, second, args.alpha).save_pretrained(folder)
        processor.save_pretrained(folder)
    print(f"{1 - args.alpha:.0%} of {args.first} and {args.alpha:.0%} of {args.second}: {args.out}")


def info(args: argparse.Namespace) -> None:
    from .checkpoints import list_checkpoints

    if args.list or args.model is None:
        for name, folder in list_checkpoints().items():
            print(f"{name:24}{folder}")
        if not list_checkpoints():
            print("This version of hfvision carries no checkpoints; train some with: hfvision quickstart")
        return
    import torch

    from .graph import computational_graph, to_mermaid, to_svg
    from .inspect import format_table, summarize
    from .loading import AUTO_MODELS, load_config, load_model
    from .report import write_text

    if args.graph is not None and args.graph.suffix not in (".md", ".svg"):
        raise ValueError(f"--graph {args.graph} must end in .md (Mermaid) or .svg (picture).")
    config = load_config(args.model, trust_remote_code=args.trust_remote_code)
    tasks = [task for task, auto in AUTO_MODELS.items() if type(config) in auto._model_mapping]
    code = getattr(config, "auto_map", None) or {}
    tasks += [task for task, auto in AUTO_MODELS.items() if auto.__name__ in code]
    if not tasks:
        raise ValueError(f"{args.model} is of type {config.model_type!r}, neither a classifier nor an upscaler.")
    model, _ = load_model(args.model, tasks[0], trust_remote_code=args.trust_remote_code)
    default = 64 if tasks[0] == "image-super-resolution" else getattr(config, "image_size", 224)
    size = args.size or (default if isinstance(default, int) else max(default))
    pixel_values = torch.rand(1, getattr(config, "num_channels", 3), size, size, dtype=model.dtype)
    summary = summarize(model, pixel_values)
    if args.json:
        print(json.dumps({"config": config.to_diff_dict(), **summary.to_dict()}, indent=2, default=str))
    else:
        print(f"{type(model).__name__} ({args.model}), input {'×'.join(map(str, pixel_values.shape))}\n")
        print(config.to_json_string())
        print(format_table(summary))
    if args.graph is not None:
        graph = computational_graph(model, pixel_values, backward=args.backward)
        write_text(args.graph, to_svg(graph) if args.graph.suffix == ".svg" else to_mermaid(graph))
        print(f"Computational graph written to {args.graph}", file=sys.stderr)


def train(args: argparse.Namespace) -> None:
    from .training.options import parse_options

    if args.task == "classifier":
        from .training.classify import ClassifierTrainingConfig as Config
        from .training.classify import train_classifier as run

        what = "an image classifier"
    elif args.task == "segmenter":
        from .training.segment import SegmenterTrainingConfig as Config
        from .training.segment import train_segmenter as run

        what = "a segmenter, which finds the class of each pixel"
    else:
        from .training.superres import SuperResTrainingConfig as Config
        from .training.superres import train_superres as run

        what = "a super-resolution network"
    description = f"Train {what}; the folder --out then loads with from_pretrained and pipeline."
    run(parse_options(Config, args.options, f"hfvision train {args.task}", description))


def refuse_report(args: argparse.Namespace, name: str) -> None:
    """Raise ValueError where `--out` is a file, or holds that report already and `--force` is not given."""
    from .report import refuse_file

    refuse_file(args.out)
    if args.out is not None and (args.out / name).exists() and not args.force:
        raise ValueError(f"{args.out / name} is there already: use --force to replace it.")


def labelled_split(args: argparse.Namespace) -> "Dataset":
    """The part of the data that the options of [`add_data_options`] name, with columns `image` and `label`."""
    from .data.load import load_image_dataset

    splits = load_image_dataset(args.data, **validation_options(args), **columns_of(args))
    return chosen_split(args, splits)


def chosen_split(args: argparse.Namespace, splits: "DatasetDict") -> "Dataset":
    if args.split not in splits:
        raise ValueError(f"{args.data} has no split {args.split!r}: choose --split {' or '.join(splits)}.")
    return splits[args.split]


def evaluate_classifier(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from .data.prepare import prepare_images
    from .loading import load_model
    from .report import confusion_picture, format_evaluation, reliability_diagram, write_record
    from .training.evaluate import evaluate_classifier

    refuse_report(args, "evaluation.json")
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
    print(json.dumps(record, indent=2) if args.json else format_evaluation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        confusion_picture(record["confusion_matrix"], names, args.out / "confusion.png")
        reliability_diagram(record["reliability"], args.out / "reliability.png")
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def columns_of(args: argparse.Namespace) -> dict[str, str | None]:
    return {"image_column": args.image_column, "label_column": args.label_column}


def validation_options(args: argparse.Namespace) -> dict[str, object]:
    """How the validation part is chosen, where it is asked for: as the training of the model did."""
    from .loading import validation_settings

    if args.split != "validation":
        return {"validation": 0 if args.split == "train" else 0.1}
    return validation_settings(args.model, args.validation, args.validation_group)


def evaluate_binary(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from .data.load import load_image_dataset
    from .data.prepare import prepare_images
    from .loading import load_model, validation_settings
    from .training.binary import evaluate_binary, format_binary, write_binary

    refuse_report(args, "binary.json")
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
    figures = evaluate_binary(
        model.float(),
        images,
        processor,
        positive=args.positive,
        names=split.features["label"].names,
        validation=validation,
        threshold=args.threshold,
        groups=split["group"][:] if "group" in split.column_names else None,
        batch_size=args.batch_size,
        accelerator=accelerator,
    )
    if not accelerator.is_main_process:
        return
    data = {"source": args.data, "split": args.split, "fingerprint": split._fingerprint}
    record = {"model": args.model, "data": data} | figures
    print(json.dumps(record, indent=2) if args.json else format_binary(record))
    if args.out is not None:
        write_binary(record, args.out)
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def calibrate(args: argparse.Namespace) -> None:
    from .training.calibrate import calibrate, format_calibration

    record = calibrate(
        args.model,
        args.data,
        args.out,
        validation=args.validation,
        validation_group=args.validation_group,
        force=args.force,
        trust_remote_code=args.trust_remote_code,
        **columns_of(args),
    )
    print(json.dumps(record, indent=2) if args.json else format_calibration(record["calibration"]))
    print(f"model, record and pictures: {args.out}", file=sys.stderr)


def explain(args: argparse.Namespace) -> None:
    from .data.images import read_image
    from .explain import explain_image
    from .loading import load_model
    from .report import side_by_side

    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out {args.out} must end in .png.")
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} is there already: use --force to replace it.")
    image = read_image(args.image)
    model, processor = load_model(args.model, "image-classification", trust_remote_code=args.trust_remote_code)
    options = {"label": args.label, "method": args.method, "layer": args.layer}
    found = explain_image(image, model, processor, **options)
    says = f"{found.label} {found.probability:.1%}"
    side_by_side({args.image.name: image, f"{says}, {found.method}": found.overlay}, args.out)
    print(f"{args.image}: {says}; heat map by {found.method}: {args.out}")


def evaluate_segmenter(args: argparse.Namespace) -> None:
    from accelerate import Accelerator

    from .data.masks import MaskedImages, load_mask_dataset, name_classes
    from .data.normalize import Normalize
    from .loading import load_model
    from .report import write_record
    from .segmentation.evaluate import evaluate_segmenter, format_segmentation
    from .segmentation.pictures import best_and_worst

    refuse_report(args, "evaluation.json")
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
    print(json.dumps(record, indent=2) if args.json else format_segmentation(record))
    if args.out is not None:
        write_record(args.out / "evaluation.json", record)
        groups = [str(value) for value in split[args.by][:]] if args.by else None
        shown = (Normalize.from_processor(processor), names, figures["each"], args.out / "masks.png")
        best_and_worst(model, images, *shown, tta=args.tta, groups=groups)
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def evaluate_robustness(args: argparse.Namespace) -> int:
    import torch
    from accelerate import PartialState

    from .data.prepare import prepare_images
    from .loading import load_model
    from .report import refuse_file, write_record
    from .robustness.evaluate import choose, evaluate_robustness
    from .robustness.pictures import draw_all
    from .robustness.summary import compare, format_comparison, format_robustness
    from .robustness.threat import DEFAULT_EPSILON

    refuse_file(args.out)
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
    for path in filter(None, paths.values()):
        if path.exists() and not (args.resume or args.force):
            raise ValueError(f"{path} is there already: use --resume to go on with it, or --force to replace it.")
        if not args.resume:
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
        print(json.dumps(record, indent=2))
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
    from .loading import load_model
    from .report import write_record
    from .superres.evaluate import evaluate_superres, find_sets
    from .superres.report import comparison_picture, format_superres

    refuse_report(args, "superres.json")
    sets = find_sets(args.data)
    trust = {"trust_remote_code": args.trust_remote_code}
    models = {name: load_model(name, "image-super-resolution", **trust)[0] for name in args.models}
    record = evaluate_superres(models, sets, dtype=args.dtype)
    print(json.dumps(record, indent=2) if args.json else format_superres(record))
    if args.out is not None:
        write_record(args.out / "superres.json", record)
        for scale in {model.config.scale for model in models.values()}:
            comparison_picture(models, sets, record, scale, args.out / f"superres_x{scale}.png")
        print(f"Figures and pictures written to {args.out}", file=sys.stderr)


def show_augment(args: argparse.Namespace) -> None:
    import torch
    from torchvision.transforms.v2.functional import to_pil_image

    from .data.augment import PRESETS, augment_pil
    from .data.keyed import image_keys
    from .report import image_grid

    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out {args.out} must end in .png.")
    if args.out.exists() and not args.force:
        raise ValueError(f"{args.out} is there already: use --force to replace it.")
    images, captions = some_images(args.source, args.images, args.seed)
    rows = []
    for number, image in enumerate(images):
        image.thumbnail((256, 256))
        keys = image_keys(args.seed, number, torch.arange(args.copies))
        copies = augment_pil([image] * args.copies, keys, PRESETS[args.augment])
        rows.append([image, *map(to_pil_image, copies)])
    image_grid(rows, [f"{caption}, augmented: {args.augment}" for caption in captions], args.out)
    print(f"{len(rows)} images with {args.copies} copies each → {args.out}")


def some_images(sources: list[str], count: int, seed: int) -> tuple[list, list[str]]:
    """Images and their names: the first of the given image files, or random ones of a data set with their labels."""
    import torch

    from .data.images import IMAGE_SUFFIXES, read_image, to_rgb

    paths = [Path(source) for source in sources]
    if len(paths) > 1 or paths[0].suffix.lower() in IMAGE_SUFFIXES:
        return [to_rgb(read_image(path)) for path in paths[:count]], [path.name for path in paths[:count]]
    from .data.load import load_image_dataset

    split = load_image_dataset(sources[0])["train"]
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    names = split.features["label"].names
    return [to_rgb(split[i]["image"]) for i in chosen], [names[split[i]["label"]] for i in chosen]


def card(args: argparse.Namespace) -> None:
    from .cards import is_machine_made, record_about, write_card

    if not args.folder.is_dir():
        raise FileNotFoundError(f"There is no folder {args.folder} with a model.")
    old = args.folder / "README.md"
    if old.is_file() and not is_machine_made(old.read_text(encoding="utf-8")) and not args.force:
        raise ValueError(f"Somebody wrote {old}: use --force to replace it.")
    data = {"name": args.data_name, "licence": args.data_licence}
    record_about(args.folder, licence=args.licence, data=data, hide=args.hide_paths)
    for path in write_card(args.folder):
        print(path)


def push(args: argparse.Namespace) -> None:
    from .hub import push_folder

    options = {name: getattr(args, name) for name in ("revision", "create_pr", "with_space")}
    pushed = push_folder(args.folder, args.repo_id, private=args.private or None, **options)
    for what, where in pushed.items():
        print(f"{what:8}{where.url}  {'commit' if where.new else 'no change since commit'} {where.commit[:8]}")


def quantize(args: argparse.Namespace) -> None:
    from .compression.quantize import quantize
    from .compression.recipe import describe

    record = quantize(
        args.model,
        args.out,
        method=args.method,
        calibration=args.calibration,
        images=args.images,
        bits=args.bits,
        max_drop=args.max_drop,
        seed=args.seed,
        force=args.force,
        trust_remote_code=args.trust_remote_code,
    )
    print(
        json.dumps(record["compression"], indent=2) if args.json else f"{describe(record)}\nmodel and card: {args.out}"
    )


def prune(args: argparse.Namespace) -> None:
    from .compression.recipe import describe, prune_and_train, prune_config_of
    from .training.options import parse_options

    config_class = prune_config_of(args.model)
    description = "Cut channels and heads out of a model and train what is left beside its parent."
    words = ["--model", args.model, *args.options]
    config = parse_options(config_class, words, "hfvision prune MODEL", description)
    print(f"{describe(prune_and_train(config))}\nmodel and record: {config.out}")


def distill(args: argparse.Namespace) -> None:
    from .loading import load_config

    superres = hasattr(load_config(args.teacher), "scale")
    words = ["--teacher", args.teacher, "--model", args.student, *args.options]
    train(argparse.Namespace(task="superres" if superres else "classifier", options=words))


def benchmark(args: argparse.Namespace) -> None:
    from .compression.benchmark import benchmark, format_benchmark, tradeoff_picture
    from .report import write_record

    refuse_report(args, "benchmark.json")
    record = benchmark(
        args.models,
        data=args.data,
        split=args.split,
        batches=args.batch,
        engines=args.engines,
        threads=args.threads,
        rounds=args.rounds,
        count=args.n,
        trust_remote_code=args.trust_remote_code,
    )
    print(json.dumps(record, indent=2) if args.json else format_benchmark(record))
    if args.out is not None:
        write_record(args.out / "benchmark.json", record)
        tradeoff_picture(record, args.out / "benchmark.png")
        print(f"Figures and picture written to {args.out}", file=sys.stderr)


def detect_fit(args: argparse.Namespace) -> None:
    from .anomaly import fit_detector, load_networks, save_normality, stack_images, trained_size
    from .data.images import find_images, read_image

    generator, discriminator = load_networks(args.model)
    size = args.size or trained_size(args.model)
    images = [read_image(path) for source in args.normal for path in find_images(source)]
    normal = stack_images(images, size, generator.config.num_channels)
    detector = fit_detector(generator, discriminator, normal, size, args.false_alarms)
    save_normality(detector, args.model)
    known = detector.normality
    print(f"{known.images} normal images, {known.false_alarms:.1%} of them above the threshold {known.threshold:.3f}")


def detect_anomalies(args: argparse.Namespace) -> None:
    from .anomaly import PARTS, heat_picture, load_detector, stack_images
    from .data.images import find_images, read_image
    from .report import refuse_file, written_whole

    refuse_file(args.out)
    detector = load_detector(args.model)
    paths = [path for source in args.images for path in find_images(source)]
    targets = [args.out / f"{path.stem}_anomaly.png" if args.out else None for path in paths]
    if len(set(targets)) < len(targets) and args.out:
        raise ValueError("Two images have the same name: write their heat maps to different folders.")
    for target in targets:
        if target is not None and target.exists() and not args.force:
            raise ValueError(f"{target} is there already: use --force to replace it.")
    results = []
    for path, target in zip(paths, targets, strict=True):
        image = stack_images([read_image(path)], detector.normality.size, detector.generator.config.num_channels)
        found = detector(image)
        parts = {name: round(value, 3) for name, value in zip(PARTS, found.parts[0].tolist(), strict=True)}
        score = round(found.score.item(), 4)
        results.append({"image": str(path), "score": score, "anomalous": found.anomalous.item(), "parts": parts})
        if target is not None:
            with written_whole(target) as temporary:
                heat_picture(image[0], found.heat[0]).save(temporary)
    if args.json:
        print(json.dumps({"threshold": detector.normality.threshold, "results": results}, indent=2))
        return
    print(f"Anomalous above {detector.normality.threshold:.3f}; false alarms: {detector.normality.false_alarms:.1%}")
    for result in results:
        print(f"{result['score']:8.3f}  {'ANOMALOUS' if result['anomalous'] else 'normal':10}{result['image']}")


def quickstart(args: argparse.Namespace) -> None:
    from .quickstart import run_quickstart

    run_quickstart(args.out, seed=args.seed)


def demo(args: argparse.Namespace) -> None:
    try:
        from .demo.app import build, launch_options
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'hfvision[demo]'") from error

    options = {"server_name": args.host, "server_port": args.port, "share": args.share, "auth": args.auth}
    build(args.model).launch(**launch_options() | options)


def user_and_password(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise argparse.ArgumentTypeError("it must be USER:PASSWORD")
    return user, password


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def box(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height as 3840x2160")
    return positive(sides[0]), positive(sides[1])


def add_data_options(command: argparse.ArgumentParser, split: bool = True) -> None:
    command.add_argument("--data", required=True, help="labelled images: see hfvision train classifier --help")
    if split:
        command.add_argument(
            "--split",
            choices=["test", "validation", "train"],
            default="test",
            help="part of the data (default test); data of one split is train",
        )
    command.add_argument("--image-column", help="column of the images, where it is not found by itself")
    command.add_argument("--label-column", help="column of the labels, where it is not found by itself")
    command.add_argument(
        "--validation",
        type=float,
        metavar="PART",
        help="set aside for validation where the data has no such split (default: as the model's training, or 0.1)",
    )
    command.add_argument(
        "--validation-group",
        metavar="COLUMN",
        help="of patients, objects …, all images of one on the same side (default: as the model's training)",
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hfvision", description="Image models the Hugging Face way: train, use and look inside them."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(function, description, commands=commands, name=None):
        command = commands.add_parser(
            name or function.__name__.replace("_", "-"),
            help=description,
            description=description,
            epilog=EXAMPLES[function.__name__],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(function=function)
        return command

    model_help = "Hub id, folder, or name of a shipped checkpoint (see: hfvision info --list)"
    trust_help = "run the model code of a Hub repository whose family is not installed here"

    command = add(classify, "Say what is in images.")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", required=True, help=model_help)
    command.add_argument("--top", type=positive, default=5, help="how many labels to print (default 5)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(upscale, "Make photographs and videos larger.")
    command.add_argument("images", nargs="+", type=Path, metavar="FILE", help="image, video or folder")
    command.add_argument("--model", help=f"{model_help}; default: the shipped one for the wanted size")
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
    command.add_argument("--resume", action="store_true", help="go on with what was interrupted in --out")
    command.add_argument("--force", action="store_true", help="replace results that are there already")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Look into a video."
    tasks = commands.add_parser("video", help=description, description=description)
    tasks = tasks.add_subparsers(title="tasks", required=True, metavar="TASK")
    description = "Find the shots of a video: a contact sheet, a timeline, and labels for each."
    command = add(video_summarize, description, tasks, "summarize")
    command.add_argument("video", type=Path, metavar="FILE", help="video file")
    command.add_argument(
        "--model",
        default="cnn-cifar10",
        help=f"classifier or encoder: {model_help}; default cnn-cifar10, which knows ten kinds of things only",
    )
    command.add_argument("--out", type=Path, help="folder for what it makes (default: beside the video)")
    command.add_argument("--top", type=positive, default=3, help="labels a shot (default 3)")
    command.add_argument(
        "--threshold", type=float, default=0.2, help="lower finds more cuts, higher fewer (default 0.2)"
    )
    command.add_argument("--batch-size", type=positive, default=32, help="frames a step (default 32)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--force", action="store_true", help="replace a summary that is there already")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(segment, "Find the class of each pixel of images.")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", required=True, help=model_help)
    command.add_argument("--overlay", action="store_true", help="write the image with its classes in colour")
    command.add_argument("--tile", type=positive, default=1024, help="side of large images' tiles (default 1024)")
    command.add_argument("--out", type=Path, help="folder for the masks (default: beside the images)")
    command.add_argument("--force", action="store_true", help="replace masks that are there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(blend, "Make an upscaler between two: one trained by pixels, and the GAN trained further from it.")
    command.add_argument("first", metavar="A", help=model_help)
    command.add_argument("second", metavar="B", help="the same architecture, trained further from A")
    command.add_argument("--alpha", type=float, default=0.5, help="share of B, from 0 to 1 (default 0.5)")
    command.add_argument("--out", type=Path, required=True, help="folder for the model")
    command.add_argument("--force", action="store_true", help="replace a model that is there already")

    command = add(info, "Show what a model is made of: layers, multiply-adds, memory, computational graph.")
    command.add_argument("model", nargs="?", metavar="MODEL", help=model_help)
    command.add_argument("--list", action="store_true", help="list the shipped checkpoints")
    command.add_argument("--size", type=positive, help="side of the input image in pixels (default: the model's)")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--graph", type=Path, metavar="FILE", help="write the computational graph to FILE.md or .svg")
    command.add_argument("--backward", action="store_true", help="add the autograd graph to it")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(train, "Train a model on your own data.")
    command.add_argument("task", choices=["classifier", "superres", "segmenter"], help="what to train")
    command.add_argument("options", nargs=argparse.REMAINDER, help="see: hfvision train classifier --help")

    description = "Measure how good a model is."
    tasks = commands.add_parser("evaluate", help=description, description=description)
    tasks = tasks.add_subparsers(title="tasks", required=True, metavar="TASK")
    description = "Measure a classifier on labelled images: accuracy, calibration, each class, speed."
    command = add(evaluate_classifier, description, tasks, "classifier")
    command.add_argument("model", metavar="MODEL", help=model_help)
    add_data_options(command)
    command.add_argument("--batch-size", type=positive, default=256, help="images a step and process (default 256)")
    command.add_argument(
        "--tta",
        choices=["none", "flip", "flip_shift"],
        default="none",
        help="test-time augmentation: mean over mirrored, and moved, images (default none)",
    )
    command.add_argument("--out", type=Path, help="folder for evaluation.json, confusion.png and reliability.png")
    command.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Measure a classifier of two classes as a test: ROC, a threshold and its errors, abstention."
    command = add(evaluate_binary, description, tasks, "binary")
    command.add_argument("model", metavar="MODEL", help=model_help)
    add_data_options(command)
    command.add_argument("--positive", required=True, metavar="CLASS", help="the class that is looked for")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="probability from which on an image is called positive (default: chosen on the validation images)",
    )
    command.add_argument("--batch-size", type=positive, default=256, help="images a step and process (default 256)")
    command.add_argument("--out", type=Path, help="folder for binary.json, roc.png, abstention.png, reliability.png")
    command.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Measure a segmenter on images with masks: Dice and IoU of each class, and of each kind of image."
    command = add(evaluate_segmenter, description, tasks, "segmenter")
    command.add_argument("model", metavar="MODEL", help=model_help)
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
    command.add_argument("--out", type=Path, help="folder for evaluation.json, and masks.png: best, middle and worst")
    command.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Measure what attacks and noise leave of a classifier's accuracy, and whether to believe it."
    command = add(evaluate_robustness, description, tasks, "robustness")
    command.add_argument("model", metavar="MODEL", help=model_help)
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
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Measure super-resolution on photographs: PSNR, SSIM, NIQE and cost, beside bicubic and Lanczos."
    command = add(evaluate_superres, description, tasks, "superres")
    command.add_argument("models", nargs="+", metavar="MODEL", help=model_help)
    command.add_argument("--data", nargs="+", type=Path, required=True, help="folders of photographs: one set each")
    command.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="of the quality (default fp32)")
    command.add_argument("--out", type=Path, help="folder for superres.json and pictures of before and after")
    command.add_argument("--force", action="store_true", help="replace an evaluation that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(calibrate, "Make a classifier as sure as it is right: a temperature, stored in its weights.")
    command.add_argument("model", metavar="MODEL", help=model_help)
    add_data_options(command, split=False)
    command.add_argument("--out", type=Path, required=True, help="folder for the model, its record and pictures")
    command.add_argument("--force", action="store_true", help="replace a model that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(explain, "Draw where in an image a classifier's answer comes from.")
    command.add_argument("image", type=Path, metavar="IMAGE", help="image file")
    command.add_argument("--model", required=True, help=model_help)
    command.add_argument("--label", help="class to explain (default: the likeliest)")
    command.add_argument(
        "--method",
        choices=["grad_cam", "rollout"],
        help="heat by gradients of feature maps, or by attention (default: what fits the model)",
    )
    command.add_argument("--layer", metavar="NAME", help="whose feature maps grad_cam takes (default: the last)")
    command.add_argument("--out", type=Path, default=Path("explanation.png"), help="(default explanation.png)")
    command.add_argument("--force", action="store_true", help="replace a picture that is there already")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(show_augment, "Draw what augmentation makes of images.")
    command.add_argument("source", nargs="+", help="image files, or one data set as of `hfvision train classifier`")
    command.add_argument(
        "--augment",
        choices=["none", "classic", "strong", "upright", "imagenet"],
        default="strong",
        help="preset (default strong)",
    )
    command.add_argument("--out", type=Path, default=Path("augment.png"), help="picture (default augment.png)")
    command.add_argument("--images", type=positive, default=6, help="rows (default 6)")
    command.add_argument("--copies", type=positive, default=8, help="augmented copies of each image (default 8)")
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--force", action="store_true", help="replace a picture that is there already")

    command = add(card, "Write a model's card from what was recorded when it was trained and evaluated.")
    command.add_argument("folder", type=Path, metavar="MODEL_DIR", help="folder of the model and its records")
    command.add_argument("--licence", help="of the weights, as the Hub calls it: apache-2.0, cc-by-4.0 …")
    command.add_argument("--data-name", help="what the training data is called")
    command.add_argument("--data-licence", help="licence of the training data")
    command.add_argument(
        "--hide-paths", action="store_true", help="cut absolute paths in the records to the last part"
    )
    command.add_argument("--force", action="store_true", help="replace a card that somebody wrote")

    command = add(push, "Push a model with its processor, code and card to the Hub, in one commit.")
    command.add_argument("folder", type=Path, metavar="MODEL_DIR", help="folder of the model and its records")
    command.add_argument("repo_id", metavar="USER/NAME", help="repository, made where it is missing")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to push to, made where it is missing")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--with-space", action="store_true", help="also push a Space that serves the model")

    command = add(quantize, "Store a model in fewer bits: smaller, and with OpenVINO much faster on CPUs.")
    command.add_argument("model", metavar="MODEL", help=model_help)
    command.add_argument("--out", type=Path, required=True, help="folder for the quantized model")
    command.add_argument(
        "--method",
        choices=["openvino", "quanto", "onnx", "bf16"],
        default="openvino",
        help="openvino: 8 bits, for CPUs (default); quanto: 8 or 4 bits in PyTorch, on a CPU smaller but slower; "
        "onnx: a float file for other programs; bf16: half the size",
    )
    command.add_argument(
        "--calibration",
        nargs="+",
        metavar="DATA",
        help="images like those to come: labelled ones as of `hfvision train classifier --data`, or photographs",
    )
    command.add_argument("--images", type=positive, default=300, help="how many to calibrate with (default 300)")
    command.add_argument("--bits", type=int, choices=[8, 4], default=8, help="of quanto's linear layers (default 8)")
    command.add_argument(
        "--max-drop", type=float, help="points of top-1, or dB, that openvino may lose: layers go back to float"
    )
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    command.add_argument("--force", action="store_true", help="replace a model that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    command = add(prune, "Cut channels and heads out of a model and train what is left beside its parent.")
    command.add_argument("model", metavar="MODEL", help=model_help)
    command.add_argument("options", nargs=argparse.REMAINDER, help="see: hfvision prune MODEL --help")

    command = add(distill, "Train a small model by the answers of a large one.")
    command.add_argument("teacher", metavar="TEACHER", help=model_help)
    command.add_argument(
        "student", metavar="STUDENT", help="preset, as cnn:tiny or fast-tiny, or a model to go on with"
    )
    command.add_argument("options", nargs=argparse.REMAINDER, help="those of hfvision train")

    command = add(benchmark, "Measure models on several engines side by side: time, memory, size, accuracy.")
    command.add_argument("models", nargs="+", metavar="MODEL", help=f"{model_help}; the first is the parent")
    command.add_argument("--data", help="labelled images, or a folder of photographs, for accuracy and PSNR")
    command.add_argument("--split", choices=["test", "validation", "train"], default="test", help="(default test)")
    command.add_argument("-n", type=positive, default=1000, help="images for accuracy or PSNR (default 1000)")
    command.add_argument("--batch", type=positive, nargs="+", default=[1, 32], help="batch sizes (default 1 32)")
    command.add_argument(
        "--engines",
        nargs="+",
        metavar="ENGINE",
        help="of: eager bf16 compile openvino openvino-bf16 onnx (default all)",
    )
    command.add_argument("--threads", type=positive, default=1, help="CPU threads (default 1)")
    command.add_argument("--rounds", type=positive, default=30, help="times that contenders take turns (default 30)")
    command.add_argument("--out", type=Path, help="folder for benchmark.json and benchmark.png")
    command.add_argument("--force", action="store_true", help="replace a benchmark that is there already")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--trust-remote-code", action="store_true", help=trust_help)

    description = "Find images that are unlike normal ones."
    tasks = commands.add_parser("detect", help=description, description=description)
    tasks = tasks.add_subparsers(title="tasks", required=True, metavar="TASK")
    command = add(detect_fit, "Learn from normal images what is normal to a GAN trained on others.", tasks, "fit")
    command.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder of hfvision train superres --gan …")
    command.add_argument("--normal", nargs="+", type=Path, required=True, help="normal images that it has not seen")
    command.add_argument("--false-alarms", type=float, default=0.05, help="share of normal images (default 0.05)")
    command.add_argument("--size", type=positive, help="side that images are brought to (default: as trained)")
    command = add(detect_anomalies, "Score images, and show where they are unlike normal ones.", tasks, "anomalies")
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image file or folder")
    command.add_argument("--model", type=Path, required=True, help="folder that hfvision detect fit has seen")
    command.add_argument("--out", type=Path, help="folder for the heat maps")
    command.add_argument("--force", action="store_true", help="replace heat maps that are there already")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add(quickstart, "Train, save, reload and upscale on the data in the package, in about two minutes.")
    command.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="folder for what it makes")
    command.add_argument("--seed", type=int, default=0, help="random seed (default 0)")

    command = add(demo, "Open a page to classify, upscale, attack and look inside, with the models of the package.")
    command.add_argument(
        "--model", nargs="+", default=[], metavar="MODEL", help="more to choose from: Hub ids, folders"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1, this machine)")
    command.add_argument("--port", type=positive, help="port (default: the first free one from 7860 on)")
    command.add_argument("--share", action="store_true", help="make a public link through Gradio's server")
    command.add_argument("--auth", type=user_and_password, metavar="USER:PASSWORD", help="ask for these")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 when it went well, 1 where `--strict` says so, 2 for a mistake in the input, which is
    said in one line."""
    args = build_parser().parse_args(argv)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        return args.function(args) or 0
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print(f"hfvision: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hfvision: interrupted", file=sys.stderr)
        return 130
