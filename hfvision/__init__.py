"""hfvision: image models the Hugging Face way, from training to serving.

Importing this package registers its model families with transformers' Auto classes and the task
`image-super-resolution` with its pipelines. Everything else is imported when it is first used: `__init__.pyi` lists
the public names.
"""

import lazy_loader

from .models.registry import register_families

__version__ = "0.1.0"

__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_families()
