"""Publishes every model that has a card under model_cards/, as `hfvision push` does one, and then the demo as a Space.

    python scripts/push_to_hub.py USER --private --with-space

The demo is USER/hfvision, of the files in spaces/vision. An interrupted run goes on with the same command; what has
not changed makes no commit.
"""

import argparse
import sys
from pathlib import Path

from huggingface_hub import HfApi

from hfvision.cli.main import main as hfvision
from hfvision.hub.checkpoints import checkpoint
from hfvision.publishing.push import upload

SPACE = Path(__file__).parents[1] / "spaces" / "vision"
CARDS = Path(__file__).parents[1] / "model_cards"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("user", help="user or organisation on the Hub")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="as of hfvision push: --private, --with-space …")
    args = parser.parse_args()
    names = sorted(path.parent.name for path in CARDS.glob("*/README.md"))
    failed = max(hfvision(["push", checkpoint(name), f"{args.user}/{name}", *args.options]) for name in names)
    if not failed:
        private = "--private" in args.options or None
        space, _ = upload(HfApi(), SPACE, f"{args.user}/hfvision", "Upload Space", kind="space", private=private)
        print(f"space   {space.url}  {'commit' if space.new else 'no change since commit'} {space.commit[:8]}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
