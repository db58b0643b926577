"""Keeps Model Garden's packages from importing every model and task when one module is asked for.

`official.vision` imports all of its tasks, and those import tensorflow_text, tensorflow_datasets
and matplotlib, which takes as long as a third of TensorFlow's own import. `make_lazy` lets such a
package import its content only when somebody asks for it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from typing_extensions import override


def make_lazy(packages: Mapping[str, Mapping[str, str]]) -> None:
    """Makes packages lazy that nobody has imported yet; later calls add to earlier ones.

    A lazy package looks like the real one to whoever imports it: a name that it does not have yet
    is looked for among `names`, then among its modules, and then its own `__init__` runs.

    Args:
        packages: Names of packages, each with names that its `__init__` would define and the module
            (inside the package) that holds them, so that `__init__` need not run for these.
    """
    sys.meta_path.insert(0, _Finder(packages))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, packages: Mapping[str, Mapping[str, str]]) -> None:
        self._packages = packages

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self._packages[fullname])
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader, names: Mapping[str, str]) -> None:
        self._real, self._names = real, names

    @override
    def exec_module(self, module: ModuleType) -> None:
        def find(name: str) -> object:
            """Finds what the package does not hold yet (PEP 562)."""
            if name.startswith("__"):
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            if name in self._names:
                home = importlib.import_module(f"{module.__name__}.{self._names[name]}")
                return getattr(home, name)
            try:
                return importlib.import_module(f"{module.__name__}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{module.__name__}.{name}":
                    raise
            del module.__dict__["__getattr__"]
            self._real.exec_module(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = find
