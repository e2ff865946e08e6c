"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def print_json(x: Any) -> None:
    """Print as JSON; NaN and infinite numbers become null, arrays lists."""
    print(json.dumps(plain(x), indent=2, allow_nan=False, ensure_ascii=False))


def plain(x: Any) -> Any:
    """JSON-able copy: arrays as lists, numbers that are not finite as None, unknown objects by their text."""
    if isinstance(x, Mapping):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, np.ndarray):
        return plain(x.tolist())
    if isinstance(x, list | tuple | set | frozenset):
        return [plain(value) for value in x]
    if isinstance(x, np.generic):
        return plain(x.item())
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    return x if x is None or isinstance(x, bool | int | str) else str(x)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Print a table; as wide as the terminal, or as its content when piped."""
    from rich.console import Console
    from rich.table import Table

    style: dict[str, Any] = {"title_justify": "left", "box": None, "header_style": "bold", "pad_edge": False}
    table = Table(*columns, title=title, show_header=any(columns), **style)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    wide = None if sys.stdout.isatty() else 10_000  # a pipe has no edge to wrap at
    Console(highlight=False, markup=False, width=wide).print(table)
