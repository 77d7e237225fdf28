"""Commands of super-resolution."""

import argparse
from typing import Any

from jsonargparse.typing import PositiveInt

from ..utils.console import output
from ..utils.files import atomic_model_folder, check_folder, check_model_folder
from .arguments import MODEL_HELP, add_force, add_output_dir, add_trust, as_path, box, check_images, check_model
from .commands import Command

EXAMPLES = {
    "upscale": """examples:
  hfvision upscale photo.jpg
  hfvision upscale photo.jpg --scale 4 --denoise 0.5
  hfvision upscale photo.jpg --fit 3840x2160 --output-dir large.jpg
  hfvision upscale film.mp4 --scale 4 --output-dir large.mp4
  hfvision upscale photos/ --model user/my-upscaler --output-dir large/ --resume
  accelerate launch -m hfvision upscale photos/ --output-dir large/""",
    "blend": """example:
  hfvision blend sr-light-x4 sr-gan-x4 --alpha 0.6 --output-dir runs/between
  hfvision upscale photo.jpg --model runs/between""",
}


def upscale(args: argparse.Namespace) -> None:
    check_images(args.images)
    if args.model is not None:
        check_model(args.model)
    import torch
    from accelerate import Accelerator

    from ..data.io.encoding import VideoEncoding
    from ..tasks.super_resolution.batch import share_of, upscale_files
    from ..tasks.super_resolution.files import output_paths
    from ..tasks.super_resolution.upscale import Upscaling

    accelerator = Accelerator(cpu=not torch.accelerator.is_available())  # or processes on CPUs do not see each other
    options = ("model", "kind", "denoise", "scale", "outscale", "fit", "tile", "dtype", "trust_remote_code")
    encoding = VideoEncoding(args.codec, args.crf, args.preset)
    values = {name: getattr(args, name) for name in options}
    if args.out is not None:
        check_folder(args.out if len(args.images) > 1 or args.images[0].is_dir() else args.out.parent)
    upscaling = Upscaling(**values, device=accelerator.device, encoding=encoding)
    pairs = output_paths(args.images, args.out, upscaling.label())
    in_folder = args.out is not None and pairs[0][1] != args.out
    if args.resume and not in_folder:
        raise ValueError("--resume needs --output-dir, the folder of the interrupted run.")
    for folder in {target.parent for _, target in pairs}:
        check_folder(folder)
    accelerator.wait_for_everyone()  # until all have listed the same files, and none of the results
    rank = accelerator.process_index
    manifest = args.out / f"upscale-{rank}.jsonl" if args.out is not None and in_folder else None
    share = share_of(pairs, rank, accelerator.num_processes)
    upscale_files(share, upscaling, manifest=manifest, resume=args.resume, force=args.force)


def blend(args: argparse.Namespace) -> None:
    check_model(args.first)
    check_model(args.second)
    check_model_folder(args.out, force=args.force)
    from ..hub.loading import load_model
    from ..tasks.super_resolution.blend import blend as blend_networks

    task = "image-super-resolution"
    first: Any
    second: Any
    (first, processor), (second, _) = (load_model(name, task) for name in (args.first, args.second))
    with atomic_model_folder(args.out) as folder:
        blend_networks(first, second, args.alpha).save_pretrained(folder)
        processor.save_pretrained(folder)
    output(f"{1 - args.alpha:.0%} of {args.first} and {args.alpha:.0%} of {args.second}: {args.out}")


def add_commands(commands: Command) -> None:
    add_upscale(commands)
    add_blend(commands)


def add_upscale(commands: Command) -> None:
    command = commands.add(upscale, "Upscale photographs and videos.", EXAMPLES["upscale"])
    command.add_argument("images", nargs="+", type=as_path, metavar="FILE", help="image, video or folder")
    command.add_argument("--model", metavar="MODEL", help=f"{MODEL_HELP} (default: the shipped one for the scale)")
    command.add_argument(
        "--kind",
        choices=["auto", "photo", "clean", "gan"],
        default="auto",
        help="kind of shipped model: photo for compressed or noisy images, clean for others, gan for sharper results "
        "with invented detail (default: auto, photo or clean by the file)",
    )
    command.add_argument(
        "--denoise",
        type=float,
        metavar="X",
        help="strength of denoising and artifact removal, 0 to 1 (default: by the file)",
    )
    command.add_argument("--scale", type=int, choices=[2, 3, 4], help="scale of the shipped model (default: 2)")
    command.add_argument("--outscale", type=float, metavar="X", help="final scale of the output, such as 2.5")
    command.add_argument("--fit", type=box, metavar="WxH", help="largest size that fits, such as 3840x2160")
    command.add_argument("--tile", type=PositiveInt, metavar="N", help="tile size in pixels (default: by free memory)")
    command.add_argument(
        "--dtype",
        choices=["auto", "fp32", "bf16", "fp16"],
        default="auto",
        help="precision (default: auto, half precision where the hardware is fast at it, fp32 for 16-bit images)",
    )
    video = command.add_argument_group("video")
    video.add_argument(
        "--codec",
        metavar="NAME",
        help="h264, hevc, av1, vp9, prores or ffv1 (default: h264; vp9 in .webm; one with alpha if needed)",
    )
    video.add_argument("--crf", type=int, metavar="N", help="quality, lower is better (default: 18 for h264)")
    video.add_argument("--preset", metavar="NAME", help="encoder speed, such as slow (default: medium)")
    add_output_dir(command, "output folder, or output file for a single input (default: next to the input)")
    command.add_argument("--resume", action="store_true", help="resume an interrupted run in the output folder")
    add_force(command, "results")
    add_trust(command)


def add_blend(commands: Command) -> None:
    command = commands.add(
        blend,
        "Interpolate the weights of two upscalers, such as a PSNR-trained one and the GAN fine-tuned from it.",
        EXAMPLES["blend"],
    )
    command.add_argument("first", metavar="A", help=MODEL_HELP)
    command.add_argument("second", metavar="B", help="model of the same architecture, fine-tuned from A")
    command.add_argument("--alpha", type=float, metavar="X", default=0.5, help="weight of B, 0 to 1 (default: 0.5)")
    add_output_dir(command, "output folder for the model", required=True)
    add_force(command, "model")
