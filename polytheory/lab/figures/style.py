"""The house style, and files that do not change unless the numbers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polytheory.errors import SettingError, require

# Okabe and Ito's, darkened where they would vanish on white; every line has a mark of its own beside its colour
COLOURS = ("#0072b2", "#c04a00", "#00785a", "#9c4a7d", "#8a6d00", "#56b4e9", "#555555")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
THEOREM = "#1b1f24"
FORMATS = (".svg", ".pdf", ".png")

RC = {
    "font.size": 9.0, "axes.titlesize": 10.0, "axes.titlelocation": "left", "legend.fontsize": 8.0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#d8dee4", "grid.linewidth": 0.6, "axes.edgecolor": "#57606a", "axes.linewidth": 0.8,
    "lines.linewidth": 1.6, "lines.markersize": 4.0, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "polytheory", "pdf.fonttype": 42,
}  # fmt: skip


def house() -> Any:
    """A context in which matplotlib has the house style and nothing of the user's own. Raises `MissingExtraError`."""
    matplotlib = require("matplotlib", "lab")
    return matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC, "backend": "agg"})


def blank(*, width: float = 5.6, height: float = 3.6) -> Any:
    """An empty figure in inches, free of pyplot's global state. Call it within `house`."""
    return require("matplotlib.figure", "lab").Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> Path:
    """Write an SVG, PDF or PNG without dates; call it within `house`. Raises `SettingError` for another ending."""
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise SettingError(f"{path.name}: a figure is written as {', '.join(FORMATS)}")
    clean = {".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=clean.get(ending, {"Software": None}), dpi=150)
    return path
