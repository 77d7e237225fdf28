"""Libraries that are installed only where an extra asks for them."""

import importlib
from types import ModuleType


def optional(name: str, extra: str) -> ModuleType:
    """An installed module; ImportError with the line that installs it where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} is not installed: pip install 'hfvision[{extra}]'") from error
