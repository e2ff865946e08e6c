"""From what a user names to candidates: ``package.module:name``, ``path/to/file.py:name``, a function, or a `Candidate`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polytheory.conformance import targets
from polytheory.conformance.contract import Candidate
from polytheory.errors import PolytheoryError, SettingError, UnknownNameError

FIELDS = ("against", "settings", "deviations", "arguments")


def candidates(
    impl: Any,
    against: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    deviations: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> tuple[Candidate, ...]:
    """The candidates that ``impl`` names, complete and checked.

    Args:
        impl: a function; a `Candidate`; a sequence of these; or text, ``package.module:name`` or ``path/to/file.py:name``,
            for any of them (the current folder is importable).
        against, settings, deviations, arguments: as in `Candidate`; they go before what the function or its module says.

    What is not given here is taken from attributes of the function (``f.against = "grpo"``) or from
    ``CONFORMANCE = {"f": {"against": ..., "settings": {...}, "deviations": {...}}}`` of its module.

    Raises `SettingError` for what cannot be loaded, `UnknownNameError` for a target or setting that does not exist.
    """
    found, label = (loaded(impl), impl) if isinstance(impl, str) else (impl, "")
    many = list(found) if isinstance(found, Sequence) else [found]
    if not many:
        raise SettingError(f"{label or 'the sequence'} is empty; it must hold candidates")
    given = {"against": against, "settings": settings, "deviations": deviations, "arguments": arguments}
    complete = tuple(_complete(x, label, {k: v for k, v in given.items() if v is not None}) for x in many)
    for candidate in complete:
        targets.of(candidate)
    return complete


def _complete(x: Any, label: str, given: Mapping[str, Any]) -> Candidate:
    if isinstance(x, Candidate):
        own = {name: getattr(x, name) for name in FIELDS}
        name, function = x.name, x.function
    elif callable(x):
        name, function = label or getattr(x, "__name__", type(x).__name__), x
        own = {**_declared(x), **{f: getattr(x, f) for f in FIELDS if hasattr(x, f)}}
    else:
        raise SettingError(
            f"{label or 'the candidate'} is a {type(x).__name__}; expected f(batch, **settings) or a Candidate"
        )
    merged = {**own, **given}
    merged["settings"] = {**_mapping(own, "settings", name), **_mapping(given, "settings", name)}
    if not isinstance(merged.get("against"), str):
        raise SettingError(
            f"{name} does not say what it is held against; pass against= (or --against), one of {', '.join(targets.names())}"
        )
    deviations = _mapping(merged, "deviations", name)
    arguments = None if merged.get("arguments") is None else _mapping(merged, "arguments", name)
    return Candidate(name, function, merged["against"], merged["settings"], deviations, arguments)


def _declared(function: Any) -> dict[str, Any]:
    """What the function's module says of it in CONFORMANCE."""
    table = getattr(sys.modules.get(getattr(function, "__module__", "") or ""), "CONFORMANCE", {})
    if not isinstance(table, Mapping):
        raise SettingError(f"CONFORMANCE is a {type(table).__name__}; expected a dict from function names to dicts")
    own = table.get(getattr(function, "__name__", ""), {})
    if not isinstance(own, Mapping):
        raise SettingError(f"CONFORMANCE[{function.__name__!r}] is a {type(own).__name__}; expected a dict")
    for key in own:
        if key not in FIELDS:
            raise UnknownNameError(f"key of CONFORMANCE[{function.__name__!r}]", str(key), FIELDS)
    return dict(own)


def _mapping(of: Mapping[str, Any], key: str, name: str) -> dict[str, Any]:
    x = of.get(key, {})
    if not isinstance(x, Mapping):
        raise SettingError(f"{key} of {name} are a {type(x).__name__}; expected a dict")
    return dict(x)


def loaded(spec: str) -> Any:
    """The object that ``module:name`` or ``file.py:name`` names."""
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise SettingError(f"{spec!r} names no function; write package.module:function or path/to/file.py:function")
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            public = [x for x in vars(found) if not x.startswith("_")] if hasattr(found, "__dict__") else []
            near = difflib.get_close_matches(part, public, n=1)
            raise SettingError(f"{place} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        found = getattr(found, part)
    return found


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise SettingError(
                f"there is no module {error.name!r} here or installed; a file is named path/to/file.py"
            ) from error
        raise SettingError(f"{name} imports {error.name!r}, which is not installed") from error
    except PolytheoryError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _file(path: Path) -> Any:
    if not path.is_file():
        raise SettingError(f"there is no file {path}")
    name = f"{path.stem}_{hashlib.sha1(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except PolytheoryError:
        raise
    except (Exception, SystemExit) as error:
        raise _failed(str(path), error) from error
    return module


def _failed(what: str, error: BaseException) -> SettingError:
    return SettingError(f"{what} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}")
