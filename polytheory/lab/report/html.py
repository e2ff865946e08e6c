"""HTML and SVG by function calls: text is escaped by construction."""

from __future__ import annotations

from html import escape
from typing import Any

_VOID = {"meta", "br", "hr", "img", "link"}


class Safe(str):
    """Text that is markup already; everything else is escaped when it is put into an element."""

    __slots__ = ()


def el(name: str, /, *children: Any, **attributes: Any) -> Safe:
    """An element. Children are `Safe` markup, text (escaped), or None (left out).

    Attribute names lose a trailing underscore and have the others turned into hyphens (``class_``, ``data_state``);
    None leaves an attribute out.
    """
    text = "".join(f' {_name(key)}="{escape(_text(value))}"' for key, value in attributes.items() if value is not None)
    if name in _VOID:
        return Safe(f"<{name}{text}>")
    return Safe(f"<{name}{text}>{join(*children)}</{name}>")


def join(*children: Any) -> Safe:
    """Children one after the other."""
    return Safe("".join(c if isinstance(c, Safe) else escape(_text(c)) for c in children if c is not None))


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _text(x: Any) -> str:
    return f"{x:.6g}" if isinstance(x, float) else str(x)
