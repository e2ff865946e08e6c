"""Put one deliberate error into a fresh execution of a method's modules, leaving the real ones untouched."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from polytheory.errors import SettingError
from polytheory.proofs_check.claims import Break, Line, Setting, Wrap


def load(room: str, family: str, method: str, broken: Break | None = None) -> ModuleType:
    """The module of a method in a room; with a break, a fresh copy of its family that contains the break.

    Raises `SettingError` when the text of a `Line` does not occur exactly once, or the part of a `Wrap` does not exist.
    """
    package = f"polytheory.{room}.{family}"
    stem = method.replace("-", "_")
    pristine = importlib.import_module(f"{package}.{stem}")
    if broken is None or isinstance(broken, Setting):
        return pristine
    return _fresh(package, f"{package}.{stem}", _target_of(pristine, broken), broken)


def check_fits(room: str, family: str, method: str, broken: Break) -> None:
    """Raise `SettingError` unless the break is one of the code as it stands; nothing is executed, so it is cheap."""
    if isinstance(broken, Setting):
        return
    target = _target_of(importlib.import_module(f"polytheory.{room}.{family}.{method.replace('-', '_')}"), broken)
    found = importlib.util.find_spec(target)
    if found is None or found.origin is None:
        raise SettingError(f"break {broken.name!r}: there is no module {target}")
    if isinstance(broken, Line):
        _broken_text(Path(found.origin).read_text(encoding="utf-8"), broken, target)


def _target_of(pristine: ModuleType, broken: Line | Wrap) -> str:
    """The module that a break changes."""
    package = pristine.__name__.rpartition(".")[0]
    if isinstance(broken, Line):
        return f"{package}.{broken.module}" if broken.module else pristine.__name__
    target = _home_of(pristine, broken)
    if not target.startswith(package):
        raise SettingError(f"break {broken.name!r}: part {broken.part!r} lives outside of {package}")
    return target


def _broken_text(text: str, broken: Line, module: str) -> str:
    if text.count(broken.old) != 1:
        raise SettingError(
            f"break {broken.name!r}: the text {broken.old!r} occurs {text.count(broken.old)} times in {module}; it must "
            "occur exactly once"
        )
    return text.replace(broken.old, broken.new)


def _home_of(module: ModuleType, broken: Wrap) -> str:
    name = broken.part.split(".")[0]
    candidates = [module, *(m for n, m in sorted(sys.modules.items()) if n.startswith(module.__package__ or ""))]
    for candidate in candidates:
        part = getattr(candidate, name, None)
        if part is not None:
            return getattr(part, "__module__", candidate.__name__)
    raise SettingError(f"break {broken.name!r}: no part {name!r} in {module.__name__} or beside it")


def _fresh(package: str, wanted: str, target: str, broken: Line | Wrap) -> ModuleType:
    parent_name, _, family = package.rpartition(".")
    parent = sys.modules[parent_name]
    kept = {n: m for n, m in sys.modules.items() if n == package or n.startswith(package + ".")}
    kept_attribute = getattr(parent, family)
    for name in kept:
        del sys.modules[name]
    finder = _Finder(package, target, broken)
    sys.meta_path.insert(0, finder)
    try:
        module = importlib.import_module(wanted)
        importlib.import_module(target)
        if not finder.applied:
            raise SettingError(f"break {broken.name!r} was not applied: {target} was not loaded")
        module.__dict__["__siblings__"] = {
            n: m for n, m in sys.modules.items() if n == package or n.startswith(package + ".")
        }
        return module
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if n == package or n.startswith(package + ".")]:
            del sys.modules[name]
        sys.modules.update(kept)
        setattr(parent, family, kept_attribute)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads a package from source, with the break put into one of its modules."""

    def __init__(self, package: str, target: str, broken: Line | Wrap):
        self.package, self.target, self.broken, self.applied = package, target, broken, False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.package and not fullname.startswith(self.package + "."):
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path)
        if found is None or found.origin is None:
            return found
        return importlib.util.spec_from_file_location(
            fullname, found.origin, loader=_Source(self, found.origin),
            submodule_search_locations=found.submodule_search_locations,
        )  # fmt: skip


class _Source(importlib.abc.Loader):
    def __init__(self, finder: _Finder, path: str):
        self.finder, self.path = finder, path

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        broken, hit = self.finder.broken, module.__name__ == self.finder.target
        text = Path(self.path).read_text(encoding="utf-8")
        if hit and isinstance(broken, Line):
            text = _broken_text(text, broken, module.__name__)
        exec(_compiled(text, self.path), module.__dict__)
        if hit and isinstance(broken, Wrap):
            _replace(module, broken.part, broken.by)
        self.finder.applied |= hit


@lru_cache(maxsize=512)
def _compiled(text: str, path: str) -> CodeType:
    return compile(text, path, "exec", dont_inherit=True)


def _replace(module: ModuleType, part: str, by: Callable[[Any], Any]) -> None:
    *owners, name = part.split(".")
    owner: Any = module
    for step in owners:
        owner = getattr(owner, step)
    setattr(owner, name, by(getattr(owner, name)))
    registry = getattr(module, "PARTS", None)
    if registry is not None and not owners:  # a recipe finds its parts by name
        registry.replace_function(name, getattr(owner, name))
