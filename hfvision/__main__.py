"""`python -m hfvision`."""

import sys

from .cli import main

sys.exit(main())
