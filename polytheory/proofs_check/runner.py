"""Check claims, break them on purpose, and compare the rooms step by step."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory.access.defaults import default_access
from polytheory.catalog import find
from polytheory.errors import UnknownNameError, require
from polytheory.proofs_check._rooms import Room, Trace
from polytheory.proofs_check.claims import ROOMS, Break, Claim, Demo, Margin, claims_of

EXAMPLES = {"verify": 8, "test": 16, "full": 40}  # generated instances of a claim


@dataclass(frozen=True)
class MutantResult:
    """Whether a claim rejected one deliberate error, and how."""

    name: str
    caught: bool
    how: str


@dataclass(frozen=True)
class ClaimResult:
    """A claim in one room: its worst margin over all instances, and the mutants it was shown."""

    claim: str
    method: str
    room: str
    level: str
    source: str
    statement: str
    instances: int
    margin: float | None
    tolerance: float | None
    holds: bool
    seconds: float
    mutants: list[MutantResult] = field(default_factory=list)
    error: str | None = None

    @property
    def passed(self) -> bool:
        """The claim holds and every mutant shown was caught."""
        return self.holds and all(m.caught for m in self.mutants)


@dataclass(frozen=True)
class LockstepResult:
    """Largest relative difference between the rooms, and the field where it occurred."""

    error: float
    tolerance: float
    steps: int
    replicas: int
    fields: tuple[str, ...]
    worst: str

    @property
    def holds(self) -> bool:
        """The error is within the tolerance (NaN is not)."""
        return bool(self.error <= self.tolerance)


def load_method(method: str) -> Any:
    """Import and return the claims module of a method. Raises `UnknownNameError` with the nearest name."""
    entry = find(method)
    return importlib.import_module(f"polytheory.proofs_check.{entry.family}.{method.replace('-', '_')}")


def demos_of(method: str) -> tuple[Demo, ...]:
    """What `polytheory verify` solves for a method."""
    return tuple(load_method(method).DEMOS)


def find_claim(method: str, name: str) -> Claim:
    """One claim by name. Raises `UnknownNameError`."""
    load_method(method)
    by_name = {c.name: c for c in claims_of(method)}
    if name not in by_name:
        raise UnknownNameError(f"claim of {method}", name, by_name)
    return by_name[name]


def instances_of(c: Claim, examples: int) -> list[Any]:
    """The worked instances, then ``examples`` generated ones (the same ones every time)."""
    found = list(c.worked())
    if c.generated is not None and examples > 0:
        found += draw(c.generated(), examples)
    return found or [None]


def draw(strategy: Any, n: int) -> list[Any]:
    """``n`` (or fewer, when the space is smaller) examples of a Hypothesis strategy, derandomised, without shrinking."""
    hypothesis = require("hypothesis", "conform")
    found: list[Any] = []

    @hypothesis.settings(
        max_examples=n, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(strategy)
    def collect(example: Any) -> None:
        found.append(example)

    collect()
    return found


def check_method(
    method: str,
    *,
    mutants: bool = True,
    effort: str = "full",
    rooms: Sequence[str] = ROOMS,
    only: Sequence[str] | None = None,
) -> list[ClaimResult]:
    """Check the claims of a method in the given rooms.

    Args:
        mutants: also show each claim its mutants (a claim that misses one has not ``passed``).
        effort: "verify" takes fewer generated instances than "full", never fewer mutants.
        only: names of claims; default all.
    """
    load_method(method)
    chosen = [find_claim(method, name) for name in only] if only is not None else claims_of(method)
    examples = EXAMPLES[effort]
    results = []
    for c in chosen:
        instances = instances_of(c, examples)
        results += [check_claim(c, room, instances, mutants=mutants) for room in c.rooms if room in rooms]
    return results


def check_claim(c: Claim, room: str, instances: Sequence[Any], *, mutants: bool = True) -> ClaimResult:
    """One claim in one room on given instances."""
    family, start = find(c.method).family, time.perf_counter()
    margin, error = None, None
    try:
        made = Room(room, family, c.method)
        margin = Margin.worst([c.check(instance, made) for instance in instances])
    except Exception as problem:  # any crash is a claim that does not hold; the report names it
        error = f"{type(problem).__name__}: {problem}"
    shown = [show_mutant(c, room, b, instances) for b in c.breaks_in(room)] if mutants else []
    return ClaimResult(
        claim=c.name, method=c.method, room=room, level=c.level.name, source=c.source, statement=c.statement,
        instances=len(instances), margin=None if margin is None else _finite(margin.slack),
        tolerance=None if margin is None else _finite(margin.tolerance),
        holds=margin is not None and margin.holds, seconds=time.perf_counter() - start, mutants=shown, error=error,
    )  # fmt: skip


def show_mutant(c: Claim, room: str, broken: Break, instances: Sequence[Any]) -> MutantResult:
    """Run the claim on a broken copy of the code until one instance rejects it.

    Only a margin below minus the tolerance, or an error type that the claim declares, counts as caught.
    """
    family, crashed = find(c.method).family, ""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            made = Room(room, family, c.method, broken)
        except Exception as problem:
            return MutantResult(broken.name, False, f"could not be made: {type(problem).__name__}: {problem}")
        for i, instance in enumerate(instances):
            try:
                margin = c.check(instance, made)
            except c.catches as refusal:
                return MutantResult(broken.name, True, f"{type(refusal).__name__} on instance {i}")
            except Exception as problem:
                crashed = f"crashed on instance {i}: {type(problem).__name__}: {problem}"
                continue
            if margin.slack < -margin.tolerance:
                return MutantResult(
                    broken.name, True, f"margin {margin.slack:.3g} < -{margin.tolerance:.3g} on instance {i}"
                )
    return MutantResult(broken.name, False, crashed or f"survived {len(instances)} instances")


def lockstep(method: str, demo: Demo) -> LockstepResult:
    """Run a demonstration in both rooms on the same random numbers and compare every common state and history field.

    The difference of a field is ``max |a - b| / (1 + max |a|)``; fields of whole numbers must agree exactly.
    """
    family = find(method).family
    traces: dict[str, Trace] = {}
    for name in ROOMS:
        room = Room(name, family, method)
        access = access_for(demo)
        settings = demo.settings_for(room, access._model)
        traces[name] = room.run(demo.algorithm, access, steps=demo.lockstep_steps, n=demo.lockstep_replicas, **settings)
    a, b = traces["reference"], traces["scaled"]
    differences = {}
    for kind, left, right in (("state", a.state, b.state), ("history", a.history, b.history)):
        for name in sorted(left.keys() & right.keys()):
            differences[f"{kind}.{name}"] = difference(left[name], right[name])
    worst = max(differences, key=lambda k: differences[k], default="")
    error = differences.get(worst, np.inf)
    return LockstepResult(
        float(error), demo.lockstep_tolerance, demo.lockstep_steps, demo.lockstep_replicas, tuple(differences), worst
    )


def access_for(demo: Demo) -> Any:
    """The access of a demonstration, on its environment."""
    from polytheory.models import make

    return default_access(demo.access, make(demo.environment, **demo.options))


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Relative difference of two fields; infinite for other shapes, unequal integers, or NaN on one side only."""
    if a.shape != b.shape:
        return np.inf
    if not a.size:
        return 0.0
    if a.dtype.kind in "biu" and b.dtype.kind in "biu":
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a.astype(float), b.astype(float)
    special = ~np.isfinite(a) | ~np.isfinite(b)
    if not np.array_equal(np.where(special, a, 0), np.where(special, b, 0), equal_nan=True):
        return np.inf
    a, b = np.where(special, 0, a), np.where(special, 0, b)
    return float(np.max(np.abs(a - b)) / (1 + np.max(np.abs(a))))


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None
