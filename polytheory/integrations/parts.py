"""The parts of the scaled room as other trainers see them: which fit into a hook, and why the others do not."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from polytheory.errors import SettingError, UnknownNameError
from polytheory.parts import Kind, Part, Registry


@dataclass(frozen=True)
class Carried:
    """One row of a table of what a trainer carries.

    Fields: ``name`` in the trainer; ``part`` of ours; ``kind`` "advantage" or "loss"; ``carried``; ``note`` how to use it, or
    why it is refused.
    """

    name: str
    part: str
    kind: str
    carried: bool
    note: str


@cache
def all_parts() -> Registry:
    """The registry of the scaled room with every module of the family imported."""
    family = importlib.import_module("polytheory.scaled.posttraining")
    for module in pkgutil.iter_modules(family.__path__):
        importlib.import_module(f"{family.__name__}.{module.name}")
    return importlib.import_module("polytheory.scaled.posttraining.base").PARTS


def settings_of(part: Part) -> tuple[str, ...]:
    """Names of a part's settings."""
    return tuple(p.name for p in inspect.signature(part.function).parameters.values() if p.kind == p.KEYWORD_ONLY)


def has_memory(part: Part) -> bool:
    """True where the part is called with a state that it updates."""
    return "state" in inspect.signature(part.function).parameters


def check_settings(part: Part, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as keyword arguments. Raises `UnknownNameError` for one that the part does not have."""
    allowed = settings_of(part)
    for name in settings:
        if name not in allowed:
            raise UnknownNameError(f"setting of {part.name}", name, allowed or ("(none)",))
    return dict(settings)


def why_not(part: Part, given: Collection[str], reasons: Mapping[str, str], memory: str | None) -> str | None:
    """Why a hook that gives the columns ``given`` cannot carry a part, or None where it can.

    Args:
        reasons: for each column that is not given, what to say of it.
        memory: what to say of a part that keeps a memory; None where the hook keeps one.
    """
    found = [memory] if memory and has_memory(part) else []
    found += [reasons.get(c, f"there is no column {c!r}") for c in part.reads if c not in given]
    return "; ".join(dict.fromkeys(found)) or None


def short_names(kind: Kind) -> dict[str, str]:
    """What the parts of a kind are called by users: without ``_advantages``; and ``grpo`` for those of GRPO."""
    names = {part.removesuffix("_advantages"): part for part in all_parts().names(kind)}
    return {**names, "grpo": {Kind.ADVANTAGE: "group_advantages", Kind.LOSS: "ppo_clip"}[kind]}


def named(kind: Kind, name: str) -> Part:
    """The advantage or loss of that short or full name. Raises `UnknownNameError`."""
    names = short_names(kind)
    full = names.get(name, name)
    if full not in names.values():
        raise UnknownNameError(str(kind), name, [*names, *names.values()])
    return all_parts()[full]


def refuse_given(trainer: str, given: Mapping[str, tuple[Any, Any, str]]) -> None:
    """Raise `SettingError` for a setting of the trainer that is not at its default and would be ignored.

    Args:
        given: setting -> (value, default, where it belongs instead).
    """
    for name, (value, default, instead) in given.items():
        if value != default:
            raise SettingError(f"{trainer}'s {name} = {value!r} would be ignored here; leave it out and {instead}")


def page(rows: Iterable[Carried]) -> str:
    """A Markdown table."""
    lines = ["| name | part | kind | carried | note |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| `{r.name}` | `{r.part}` | {r.kind} | {'yes' if r.carried else '**no**'} | {r.note} |" for r in rows]
    return "\n".join(lines)
