"""Cards, the Hub, and the page in a browser."""

import argparse
import ipaddress
import sys
from pathlib import Path

from .arguments import add_command, positive, user_and_password

EXAMPLES = {
    "card": """examples:
  hfvision card runs/photos
  hfvision card runs/photos --licence cc-by-4.0 --data-name "Photos of our garden" --data-licence "our own"
  hfvision card runs/photos --hide-paths""",
    "push": """examples:
  hfvision push runs/photos user/photos
  hfvision push runs/photos user/photos --private --with-space
  hfvision push runs/photos user/photos --create-pr

Sign in first: `hf auth login`, or HF_TOKEN. A new repository is public unless --private is given. Refused, before
anything is sent: tokens and passwords, absolute paths (`hfvision card MODEL_DIR --hide-paths` shortens them), symbolic
links, pickles under any name. Checkpoints of a training are not sent; metadata is taken off pictures.""",
    "demo": """examples:
  hfvision demo
  hfvision demo --model runs/photos user/upscaler
  hfvision demo --host 0.0.0.0 --port 8080 --auth ada:secret
  hfvision demo --host 0.0.0.0 --auth ada:secret --allowed-hosts vision.example.com""",
}

OPEN_TO_ALL = """hfvision: warning: whoever reaches this machine {} can use the demo, without a password: run its \
models, keep its processor busy and store images here for half an hour. --auth USER:PASSWORD asks for a password; \
leave out --host and --share to serve this machine only."""


def card(args: argparse.Namespace) -> None:
    from ..publishing.cards.write import record_about, write_card
    from ..publishing.generated import is_generated

    if not args.folder.is_dir():
        raise FileNotFoundError(f"There is no folder {args.folder} with a model.")
    old = args.folder / "README.md"
    if old.is_file() and not is_generated(old.read_text(encoding="utf-8")) and not args.force:
        raise ValueError(f"Somebody wrote {old}: use --force to replace it.")
    data = {"name": args.data_name, "license": args.data_licence}
    record_about(args.folder, license=args.licence, data=data, hide=args.hide_paths)
    for path in write_card(args.folder):
        print(path)


def push(args: argparse.Namespace) -> None:
    from ..publishing.push import push_folder

    options = {name: getattr(args, name) for name in ("revision", "create_pr", "with_space")}
    pushed = push_folder(args.folder, args.repo_id, private=args.private or None, **options)
    for what, where in pushed.items():
        print(f"{what:8}{where.url}  {'commit' if where.new else 'no change since commit'} {where.commit[:8]}")


def demo(args: argparse.Namespace) -> None:
    from ..demo.scratch import remove_when_stopped

    remove_when_stopped()  # before the models are loaded, which takes a while
    try:
        from ..demo.app import build, launch, launch_options
    except ImportError as error:
        raise ImportError(f"{error.name} is not installed: pip install 'hfvision[demo]'") from error

    if args.auth is None and (args.share or not is_loopback(args.host)):
        print(OPEN_TO_ALL.format("over the internet" if args.share else "over the network"), file=sys.stderr)
    options = {"server_name": args.host, "server_port": args.port, "share": args.share, "auth": args.auth}
    launch(build(args.model), **launch_options(args.allowed_hosts, args.host) | options)


def is_loopback(host: str) -> bool:
    """Whether a server on this address answers this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        card,
        "Write a model's card from what was recorded when it was trained and evaluated.",
        EXAMPLES["card"],
    )
    command.add_argument("folder", type=Path, metavar="MODEL_DIR", help="folder of the model and its records")
    command.add_argument("--licence", help="of the weights, as the Hub calls it: apache-2.0, cc-by-4.0 …")
    command.add_argument("--data-name", help="what the training data is called")
    command.add_argument("--data-licence", help="licence of the training data")
    command.add_argument(
        "--hide-paths", action="store_true", help="cut absolute paths in the records to the last part"
    )
    command.add_argument("--force", action="store_true", help="replace a card that somebody wrote")

    command = add_command(
        commands, push, "Push a model with its processor, code and card to the Hub, in one commit.", EXAMPLES["push"]
    )
    command.add_argument("folder", type=Path, metavar="MODEL_DIR", help="folder of the model and its records")
    command.add_argument("repo_id", metavar="USER/NAME", help="repository, made where it is missing")
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to push to, made where it is missing")
    command.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    command.add_argument("--with-space", action="store_true", help="also push a Space that serves the model")

    command = add_command(
        commands,
        demo,
        "Open a page to classify, upscale, attack and look inside, with the models of the package.",
        EXAMPLES["demo"],
    )
    command.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODEL",
        help="more to choose from: Hub ids, folders",
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1, this machine)")
    command.add_argument("--port", type=positive, help="port (default: the first free one from 7860 on)")
    command.add_argument("--share", action="store_true", help="make a public link through Gradio's server")
    command.add_argument(
        "--auth", type=user_and_password, metavar="USER:PASSWORD", help="require this user name and password"
    )
    command.add_argument(
        "--allowed-hosts",
        nargs="+",
        default=[],
        metavar="NAME",
        help="host names in the address of the page, besides IP addresses and this machine's own: the name of a "
        "reverse proxy, or *.example.com (other names are refused: this keeps foreign pages from reaching the demo "
        "through your browser)",
    )
