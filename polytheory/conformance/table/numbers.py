"""Computing the rows' numbers, keeping them as JSON, and holding them against formulas and against each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from polytheory.conformance.contract import Batch, Refused
from polytheory.conformance.table.batches import named
from polytheory.conformance.table.formulas import FORMULAS, UNIT, Numbers
from polytheory.conformance.table.rows import Row
from polytheory.conformance.table.rows_trl import ROWS as TRL
from polytheory.conformance.table.rows_verl import ROWS as VERL
from polytheory.errors import PolytheoryError

ROWS: dict[str, tuple[Row, ...]] = {"trl": TRL, "verl": VERL}
VERSIONS = {"trl": "1.16.0", "verl": "0.9.1"}
# numbers of one framework on two machines: sums of at most 24 terms of size at most 10, each rounded a few times
REPEAT = 1e4 * UNIT


class TableError(PolytheoryError):
    """A number of the table is not what it is said to be."""


@dataclass(frozen=True)
class Verdict:
    """Whether a row equals its formula, ``equal`` "yes", "gradient" (alone), "no" or "none" (it has no numbers), and by how
    much not."""

    equal: str
    difference: float = 0.0


def compute(row: Row, function: Callable[..., torch.Tensor] | None = None) -> Numbers | str:
    """The numbers of one row by the framework's own code (or by ``function`` instead of the adapter), or why there are none."""
    call = function or getattr(import_module(f"polytheory.conformance.adapters.{row.framework}"), row.call)
    batch = named(row.batch).fresh(("log_probs",))
    try:
        if row.micro_batches == 1:
            result = call(batch, **row.settings)
        else:
            counts = {"counts": batch.counts}
            result = sum(call(part, **counts, **row.settings) for part in split(batch, row.micro_batches))
    except Refused as refusal:
        return f"refused: {refusal.reason}"
    except ArithmeticError as error:
        return f"raises {type(error).__name__}: {error}"
    assert isinstance(result, torch.Tensor)
    if result.ndim:
        return Numbers(values=result.detach().double().numpy())
    (gradient,) = torch.autograd.grad(result, batch.log_probs, allow_unused=True)
    gradient = torch.zeros_like(batch.log_probs) if gradient is None else gradient
    return Numbers(float(result.detach()), gradient.double().numpy())


def split(batch: Batch, parts: int) -> list[Batch]:
    """The rows in equally many consecutive parts; gradients reach the batch. Pairs are left out."""
    size = len(batch.mask) // parts
    slices = [slice(i * size, (i + 1) * size) for i in range(parts)]
    none = torch.zeros(0, 2, dtype=torch.int64)
    return [
        replace(batch, **{name: x[rows] for name, x in batch.columns().items() if name != "pairs"}, pairs=none)
        for rows in slices
    ]


def verdict(row: Row, own: Numbers | str, rows: Mapping[str, Numbers | str]) -> Verdict | None:
    """A row against its formula; None where there is none. ``rows`` are the framework's, for formula "unsplit".

    Raises `TableError` for a difference without a reason and for a reason without a difference.
    """
    if isinstance(own, str):
        return Verdict("none")
    if not row.formula:
        return None
    if row.formula == "unsplit":
        whole = rows[replace(row, micro_batches=1).name]
        assert isinstance(whole, Numbers)
        paper, rounding = whole, REPEAT
    else:
        paper, rounding = FORMULAS[row.formula].numbers(named(row.batch))
    if own.values is not None:
        gaps = (distance(own.values, _like(paper.values, own.values, named(row.batch))),)
    else:
        gaps = (distance(own.gradient, paper.gradient), distance(own.loss, paper.loss))
    equal, state = max(gaps) <= rounding, "gradient" if own.values is None and gaps[0] <= rounding else "no"
    if equal and row.reason:
        raise TableError(f"{row.framework}: {row.name} equals its formula, yet a reason is given why not: {row.reason}")
    if not equal and not row.reason:
        raise TableError(f"{row.framework}: {row.name} is off by {max(gaps):.2g}, and no reason is given")
    return Verdict("yes" if equal else state, max(gaps))


def distance(a: Any, b: Any) -> float:
    """Largest absolute difference of two numbers or arrays; infinite where one is not a number."""
    gap = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))


def _like(values: Any, other: np.ndarray, batch: Batch) -> np.ndarray:
    """Advantages of completions as those of their tokens, where ``other`` are of tokens."""
    if values.ndim == other.ndim:
        return values
    return np.where(batch.mask.numpy(), values[:, None], 0.0)


def all_numbers(framework: str, rows: Iterable[Row] | None = None) -> dict[str, Numbers | str]:
    """The numbers of every row of a framework, by the framework. Needs it installed in the version of the table."""
    found = metadata.version(framework)
    if found != VERSIONS[framework]:
        raise TableError(f"the table is about {framework} {VERSIONS[framework]}; installed is {found}")
    torch.manual_seed(0)
    return {row.name: compute(row) for row in {row.name: row for row in rows or ROWS[framework]}.values()}


def path(framework: str, folder: Path) -> Path:
    """Where a framework's numbers are kept."""
    return folder / f"{framework}-{VERSIONS[framework]}.json"


def write(framework: str, rows: Mapping[str, Numbers | str], folder: Path) -> None:
    """Keep the numbers as JSON, every digit."""
    data = {"framework": framework, "version": VERSIONS[framework], "rows": {k: to_json(x) for k, x in rows.items()}}
    text = json.dumps(data, indent=None, separators=(",", ":"), allow_nan=False)
    path(framework, folder).write_text(text.replace('"rows":{', '"rows":{\n').replace('},"', '},\n"') + "\n", "utf-8")


def read(framework: str, folder: Path) -> dict[str, Numbers | str]:
    """The kept numbers. Raises `TableError` unless they are of this version and of exactly the table's rows."""
    data = json.loads(path(framework, folder).read_text("utf-8"))
    names = list(dict.fromkeys(row.name for row in ROWS[framework]))
    if data["version"] != VERSIONS[framework] or list(data["rows"]) != names:
        changed = set(names) ^ set(data["rows"])
        raise TableError(
            f"{path(framework, folder).name} is of other rows or another version ({sorted(changed)[:3]}); write it anew"
        )
    return {name: from_json(x) for name, x in data["rows"].items()}


def to_json(numbers: Numbers | str) -> dict[str, Any]:
    """One row's numbers as lists."""
    if isinstance(numbers, str):
        return {"none": numbers}
    if numbers.values is not None:
        return {"values": numbers.values.tolist()}
    assert numbers.gradient is not None
    return {"loss": numbers.loss, "gradient_norm": numbers.gradient_norm, "gradient": numbers.gradient.tolist()}


def from_json(data: Mapping[str, Any]) -> Numbers | str:
    """The way back."""
    if "none" in data:
        return data["none"]
    if "values" in data:
        return Numbers(values=np.array(data["values"]))
    return Numbers(data["loss"], np.array(data["gradient"]))


def differences(kept: Mapping[str, Numbers | str], now: Mapping[str, Numbers | str]) -> list[str]:
    """The rows whose numbers are not those that were kept, one line each."""
    lines = []
    for name, new in now.items():
        old = kept[name]
        if isinstance(old, str) or isinstance(new, str):
            if old != new:
                lines.append(f"{name}: {_what(old)} became {_what(new)}")
            continue
        fields = [k for k in ("loss", "gradient", "values") if getattr(new, k) is not None]
        gaps = [distance(getattr(old, k), getattr(new, k)) for k in fields]
        size = max(1.0, *(distance(getattr(old, k), 0.0) for k in fields))
        if max(gaps) > REPEAT * size:
            lines.append(f"{name}: off by {max(gaps):.3g}")
    return lines


def _what(numbers: Numbers | str) -> str:
    return numbers if isinstance(numbers, str) else "numbers"
