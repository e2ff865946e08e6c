"""A study from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.sweeps.study import Study, is_names

LISTS = {"method": "methods", "environment": "environments"}  # [[method]] in the file, methods= in Python
EXTRA = ("estimate", "figure")  # tables of other parts of the laboratory
SMALL = "small"


def read(path: str | Path, *, small: bool = False) -> Study:
    """The study of a TOML file; ``small`` puts the keys of its table ``[small]`` over the others.

    Without a key ``name`` the study is called as its file. Raises `SettingError` for a file that is no such TOML, and
    `UnknownNameError` for a key that does not exist.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}; pass the path of a study's TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no TOML: {error}") from error
    over = table.pop(SMALL, None)
    if small and over is None:
        raise SettingError(f"{path} has no table [small]; add one with the keys that are smaller")
    for part, where in ((table, ""), (over or {}, f" in [{SMALL}]")):
        _check(part, where)
    return _study({"name": path.stem, **table, **(over or {} if small else {})})


def _check(table: Any, where: str) -> None:
    if not isinstance(table, Mapping):
        raise SettingError(f"small = {table!r}; it is a table: [small] with keys below it")
    known = [f.name for f in fields(Study) if f.name not in (*LISTS.values(), "extra")]
    for name in table:
        if name not in (*known, *LISTS, *EXTRA):
            raise UnknownNameError(f"key of a study{where}", name, [*known, *LISTS, *EXTRA])
    for name in LISTS:
        if not isinstance(table.get(name, []), list):
            raise SettingError(f"{name}{where} is no list; write [[{name}]] with name = ... below it")
    for name, value in table.items():
        if name in _KINDS and not _KINDS[name][1](value):
            raise SettingError(f"{name}{where} = {value!r}; {_KINDS[name][0]} is needed")


def _is_whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool)


def _is_budget(x: Any) -> bool:
    return all(map(_is_whole, x)) if isinstance(x, list) else _is_whole(x)


_WHOLE, _BUDGET, _TEXT = "a whole number", "a whole number, or a list of them", "text"
_KINDS: dict[str, tuple[str, Any]] = {
    **dict.fromkeys(("seeds", "seed", "block", "density"), (_WHOLE, _is_whole)),
    **dict.fromkeys(("steps", "episodes"), (_BUDGET, _is_budget)),
    **dict.fromkeys(("name", "room"), (_TEXT, lambda x: isinstance(x, str))),
    "measure": ("a list of names", is_names),
}


def _study(table: dict[str, Any]) -> Study:
    extra = {name: table.pop(name) for name in EXTRA if name in table}
    for name, field in LISTS.items():
        table[field] = table.pop(name, [])
    return Study(**table, extra=extra)
