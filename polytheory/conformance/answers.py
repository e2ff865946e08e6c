"""What a candidate answers on a batch, and how two answers are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.conformance.contract import Batch, Candidate, Counts, Refused
from polytheory.conformance.targets import COLUMN, Expected, Target
from polytheory.errors import require

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", "scaled")


@dataclass(frozen=True, eq=False)
class Answer:
    """A value, the loss [] or a column [n] or [n, t], and the loss's gradient in each current column, as float64."""

    value: np.ndarray
    gradient: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Mismatch:
    """Where an answer is wrong: which number, what it should be, what it is, and how far off it might have been."""

    what: str
    expected: float | None = None
    got: float | None = None
    tolerance: float | None = None


class Broken(Exception):
    """A candidate raised, or answered something that is no answer; the text says what."""


class NothingToCompare(Exception):
    """A batch on which a check has nothing to say, such as one row for the order of rows."""


@dataclass(frozen=True, eq=False)
class Case:
    """A candidate held against a target under full settings."""

    candidate: Candidate
    target: Target
    settings: Mapping[str, Any]

    @property
    def reads(self) -> frozenset[str]:
        """Columns that the formula reads."""
        return self.target.reads(self.settings)

    def expected(self, batch: Batch) -> Expected:
        """What the formula says."""
        return self.target.expected(batch, self.settings)

    def answer(self, batch: Batch, counts: Counts | None = None) -> Answer:
        """What the candidate says, on a copy of the batch. Raises `Broken`, and `Refused` as the candidate does."""
        return self.answer_in_place(batch.fresh(self.target.now(self.settings)), counts)

    def answer_in_place(self, batch: Batch, counts: Counts | None = None) -> Answer:
        """As `answer`, on a batch whose current columns require grad already."""
        now = {name: batch.columns()[name] for name in self.target.now(self.settings)}
        try:
            out = self.candidate.call(batch, self.settings, counts)
            value = self._checked(out, batch)
            found: tuple[Any, ...] = (None,) * len(now)
            if now and out.requires_grad:
                found = torch.autograd.grad(out.sum(), list(now.values()), allow_unused=True)
        except (Refused, Broken):
            raise
        except Exception as error:
            raise Broken(f"raised {type(error).__name__}: {' '.join(str(error).split())}") from error
        slopes = zip(now.items(), found, strict=True)
        return Answer(value, {name: _numpy(torch.zeros_like(x) if g is None else g) for (name, x), g in slopes})

    def _checked(self, out: Any, batch: Batch) -> np.ndarray:
        """The output as an array. Raises `Broken` unless it is a tensor of an allowed shape."""
        n, t = batch.mask.shape
        allowed = [(n,), (n, t)] if self.target.kind == COLUMN else [()]
        text = " or ".join(str(list(shape)) for shape in allowed)
        if not isinstance(out, torch.Tensor):
            raise Broken(f"returned {type(out).__name__}; expected a torch.Tensor {text}")
        shape = () if out.numel() == 1 and self.target.kind != COLUMN else tuple(out.shape)
        if shape not in allowed or not out.is_floating_point():
            raise Broken(f"returned a {out.dtype} tensor {list(out.shape)}; expected floating point {text}")
        return _numpy(out).reshape(shape)


def difference(
    got: Answer,
    want: Answer | Expected,
    tolerance: float,
    mask: torch.Tensor,
    of: tuple[str, ...] = ("value", "gradient"),
) -> Mismatch | None:
    """The entry that is furthest off, or None when all are within ``tolerance``; columns are compared on trained tokens."""
    if "value" in of:
        a, b, name = np.asarray(got.value), np.asarray(want.value), "loss"
        if a.ndim or b.ndim:
            name = "column"
            if a.ndim != b.ndim:  # one number per row stands for each of its trained tokens
                a, b = (x[:, None] + np.zeros(mask.shape) if x.ndim == 1 else x for x in (a, b))
            if a.ndim == 2:
                a, b = (np.where(mask.numpy(), x, 0.0) for x in (a, b))
        found = _worst(name, a, b, tolerance)
        if found is not None:
            return found
    for name, g in want.gradient.items() if "gradient" in of else ():
        found = _worst(f"gradient of {name}", np.asarray(got.gradient[name]), np.asarray(g), tolerance)
        if found is not None:
            return found
    return None


def _worst(name: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> Mismatch | None:
    if got.shape != want.shape:
        return Mismatch(f"{name}: shape {list(got.shape)}, expected {list(want.shape)}")
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(got - want)
    off = np.where(np.isnan(off), np.inf, off)
    if not off.size or off.max() <= tolerance:
        return None
    where = np.unravel_index(int(off.argmax()), off.shape)
    label = name + (str([int(i) for i in where]) if where else "")
    return Mismatch(label, float(want[where]), float(got[where]), tolerance)


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()
