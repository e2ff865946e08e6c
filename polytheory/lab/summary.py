"""The verdict on one method: its row in the table, and why it fails where it does."""

from __future__ import annotations

from typing import Any

from polytheory.lab.records import DemoRecord, MethodRecord
from polytheory.proofs_check.runner import ClaimResult

ORACLE_TOL = 1e-9  # the optimum of a demonstration is solved to this accuracy


def row_of(record: MethodRecord) -> dict[str, Any]:
    """The row of the table: claims and mutants count once, however many rooms they are checked in."""
    claims = by_claim(record.claims)
    mutants = [found for results in claims.values() for found in by_mutant(results).values()]
    return {
        "method": record.method,
        "claims": len(claims),
        "claims_held": sum(all(r.holds for r in results) for results in claims.values()),
        "mutants": len(mutants),
        "mutants_caught": sum(map(all, mutants)),
        "lockstep_error": lockstep_error(record.demos),
        "episodes": sum(d.episodes for d in record.demos),
        "transitions": sum(d.transitions for d in record.demos),
        "seconds": record.seconds,
        "passed": not failures(record),
    }


def failures(record: MethodRecord) -> list[str]:
    """One sentence for everything that does not hold; empty when all is well."""
    found = [f"{record.method}: {error}" for error in record.errors]
    if not record.claims:
        found.append(f"{record.method}: no claim was checked")
    if not record.demos and not record.errors:
        found.append(f"{record.method}: nothing was solved; its DEMOS are empty")
    for r in record.claims:
        found += claim_failures(r)
    for d in record.demos:
        found += demo_failures(record.method, d)
        step = d.lockstep
        if step is None:
            found.append(f"{record.method}: {d.environment}: reference and scaled were not compared")
        elif not step.holds:
            size = "not comparable" if step.error is None else f"{step.error:.3g}"
            found.append(
                f"{record.method}: {d.environment}: reference and scaled differ in {step.worst or 'every field'}: "
                f"{size} > {step.tolerance:.3g}"
            )
    return found


def demo_failures(method: str, d: DemoRecord) -> list[str]:
    """Where a demonstration contradicts its oracle: a policy above the optimum, or one worse than its certificate allows."""
    slack, found = 2 * ORACLE_TOL * (1 + abs(d.optimum)), []
    if not d.value <= d.optimum + slack:
        found.append(
            f"{method}: {d.environment}: the policy found earns {d.value:.9g}, more than the optimum {d.optimum:.9g}"
        )
    if d.bound is not None and not d.optimum - d.value <= 2 * d.bound + slack:
        found.append(
            f"{method}: {d.environment}: the policy found loses {d.optimum - d.value:.3g}, certified was {2 * d.bound:.3g}"
        )
    return found


def claim_failures(r: ClaimResult) -> list[str]:
    """Why one claim in one room does not pass: it crashed, fails, or missed a mutant."""
    where, found = f"{r.method}: {r.claim} ({r.room})", []
    if r.error is not None:
        found.append(f"{where} crashed: {' '.join(r.error.split())}")
    elif not r.holds:
        found.append(f"{where} does not hold: margin {number(r.margin)} < -{number(r.tolerance)}")
    return found + [f"{where}: mutant {m.name} {' '.join(m.how.split())}" for m in r.mutants if not m.caught]


def by_claim(results: list[ClaimResult]) -> dict[str, list[ClaimResult]]:
    """The results of every claim, one per room."""
    found: dict[str, list[ClaimResult]] = {}
    for r in results:
        found.setdefault(r.claim, []).append(r)
    return found


def by_mutant(results: list[ClaimResult]) -> dict[str, list[bool]]:
    """Whether each mutant of one claim was caught, room by room."""
    found: dict[str, list[bool]] = {}
    for r in results:
        for m in r.mutants:
            found.setdefault(m.name, []).append(m.caught)
    return found


def lockstep_error(demos: list[DemoRecord]) -> float | None:
    """The largest difference between the rooms; None where there is nothing to compare or a comparison failed."""
    errors = [None if d.lockstep is None else d.lockstep.error for d in demos]
    known = [e for e in errors if e is not None]
    return max(known) if known and len(known) == len(errors) else None


def number(x: float | None) -> str:
    """Three digits, or "none"."""
    return "none" if x is None else f"{x:.3g}"
