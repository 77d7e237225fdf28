"""Registers the model families with transformers as soon as transformers' Auto classes are imported, not before.

`import hfvision` takes milliseconds and the Auto classes take seconds, so `register_families` waits for them: a meta
path finder counts the imports of transformers and of this package that are under way, and registers when the outermost
one has ended, since modules of both import the Auto classes half-way through.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGES = ("transformers", __name__.partition(".")[0])
AWAITED = "transformers.models.auto.configuration_auto"


class RegisteringLoader(Loader):
    """The loader of a module, which registers the families after the outermost import."""

    def __init__(self, loader: Loader, finder: "RegisteringFinder"):
        self.loader = loader
        self.finder = finder

    def __getattr__(self, name: str) -> object:  # get_source, get_filename, … as the loader has them
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.finder.depth += 1
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.depth -= 1
        if self.finder.depth == 0 and AWAITED in sys.modules:
            self.finder.register()


class RegisteringFinder(MetaPathFinder):
    """Finds the modules of both packages until the families are registered."""

    depth = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = RegisteringLoader(spec.loader, self)
        return spec

    def register(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            from .registry import register_families

            register_families()


def register_when_needed() -> None:
    """Register the families now if transformers' Auto classes are imported already, else as soon as they are."""
    if AWAITED in sys.modules:
        from .registry import register_families

        register_families()
    else:
        sys.meta_path.insert(0, RegisteringFinder())
