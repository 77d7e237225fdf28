"""hfvision: image models the Hugging Face way, from training to serving.

With this package imported, transformers' Auto classes know its model families, and its pipelines the task
`image-super-resolution`. Everything else is imported when it is first used: `__init__.pyi` lists
the public names.
"""

import lazy_loader

from .models.deferred import register_when_needed

__version__ = "0.1.0"

__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_names]


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_when_needed()
