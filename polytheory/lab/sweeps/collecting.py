"""The results of a study as one tidy table."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from polytheory.errors import SettingError, require
from polytheory.lab.sweeps.folder import Found, Planned, look, planned, read_plan

if TYPE_CHECKING:
    import polars


class Standing(NamedTuple):
    """How far a study is.

    Fields: ``name``; ``cells`` asked for; ``seeds`` asked for, over all cells; ``missing`` of them; ``damaged`` files, which
    the next run makes again; ``stale`` files of cells that the study no longer asks for.
    """

    name: str
    cells: int
    seeds: int
    missing: int
    damaged: list[Path]
    stale: list[Path]


def standing(folder: str | Path) -> Standing:
    """How far the study in a folder is. Raises `SettingError` when there is none."""
    return _standing(Path(folder))[0]


def collect(folder: str | Path) -> polars.DataFrame:
    """All rows of the study in a folder, tidy: one row for each cell, seed and recorded step.

    Columns: ``study, method, algorithm, environment``, a column ``env.NAME`` or ``algo.NAME`` for each option and setting
    that the study gives, ``budget, room, seed, step``, the meter's ``episodes, transitions, backups`` of the seed up to that
    step, and the measures. A knob or measure that a cell does not have is missing (null) there. Rows are ordered as the
    cells of the study, then by seed and step.

    Warns (`UserWarning`) when seeds are missing or files are damaged, and when files of other cells lie there, which
    are left out. Raises `SettingError` when the folder holds no study or nothing is done yet.
    """
    pl = require("polars", "lab")
    at, cells, found = _standing(Path(folder))
    for text in _complaints(at):
        warnings.warn(f"{folder}: {text}", UserWarning, stacklevel=2)
    parts = [_rows(pl, cell, found) for cell in cells if found.files.get(cell.key)]
    if not parts:
        raise SettingError(f"no cell of the study in {folder} is done; run polytheory sweep first")
    knobs = list(dict.fromkeys(name for cell in cells for name in cell.columns if "." in name))
    mixed = {k for k in knobs if len({_kind(c.columns[k]) for c in cells if c.columns.get(k) is not None}) > 1}
    parts = [x.with_columns(pl.col(k).cast(pl.String) for k in mixed if k in x.columns) for x in parts]
    table = pl.concat(parts, how="diagonal_relaxed").with_columns(study=pl.lit(at.name))
    front = ["study", "method", "algorithm", "environment", *knobs]
    return table.select(*front, pl.exclude(front))


def _rows(pl: Any, cell: Planned, found: Found) -> Any:
    """The rows of a cell, each seed once."""
    frames, seen = [], set()
    for first, count, path in found.files[cell.key]:
        new = [seed for seed in range(first, first + count) if seed not in seen and seed < cell.seeds]
        if new:
            seen.update(new)
            frames.append(pl.read_parquet(path).filter(pl.col("seed").is_in(new)))
    table = pl.concat(frames, how="vertical_relaxed")
    return table.sort("seed", "step", maintain_order=True)


def _standing(folder: Path) -> tuple[Standing, list[Planned], Found]:
    plan = read_plan(folder)
    cells, found = planned(plan), look(folder)
    missing = sum(len(set(range(c.seeds)) - found.seeds(c.key)) for c in cells)
    stale = found.stale(c.key for c in cells)
    at = Standing(plan["study"], len(cells), sum(c.seeds for c in cells), missing, found.damaged, stale)
    return at, cells, found


def _complaints(at: Standing) -> list[str]:
    said = []
    if at.missing:
        said.append(f"{at.missing} of {at.seeds} seeds of {at.cells} cells are missing; the same sweep again runs them")
    if at.damaged:
        said.append(f"{len(at.damaged)} damaged files are left out, such as {at.damaged[0].name}; sweep again")
    if at.stale:
        said.append(
            f"{len(at.stale)} files belong to cells that the study no longer asks for, such as {at.stale[0].name}; "
            "they are left out"
        )
    return said


def _kind(x: Any) -> str:
    return "text" if isinstance(x, str) else "bool" if isinstance(x, bool) else "number"
