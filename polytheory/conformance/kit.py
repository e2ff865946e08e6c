"""Running checks: from a candidate to findings, from findings to a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from polytheory.conformance import invariances as invariances  # its checks register on import
from polytheory.conformance import targets
from polytheory.conformance.answers import Broken, Case, Mismatch, NothingToCompare
from polytheory.conformance.batches import batches
from polytheory.conformance.checks import CHECKS, Check, named
from polytheory.conformance.contract import Batch, Candidate, Refused
from polytheory.conformance.loading import candidates
from polytheory.errors import SettingError, require

hypothesis: Any = require("hypothesis", "conform")

PASS, FAIL, DEVIATION, STALE, REFUSED = "pass", "fail", "deviation", "stale", "refused"
EXAMPLES = 40
# Small batches are tried first, so that what fails is small and cheap to shrink: (share of the examples, limits).
SIZES = (
    (0.2, {"max_groups": 1, "max_size": 1, "max_length": 1}),
    (0.3, {"max_groups": 2, "max_size": 2, "max_length": 2}),
    (0.5, {"max_groups": 3, "max_size": 3, "max_length": 4}),
)
_HOW: dict[str, Any] = {
    "database": None,
    "derandomize": True,
    "deadline": None,
}


@dataclass(frozen=True, eq=False)
class Finding:
    """What one check found.

    Fields:
        check, about: its name and what it asks.
        status: "pass"; "fail"; "deviation" (it fails, as declared); "stale" (declared to fail, but it does not); "refused".
        reason: why a deviation was declared, what is stale, or why the candidate refused.
        mismatch: for "fail" and "deviation", the number that is wrong.
        batch: the smallest failing batch that was found.
        extra: what else was varied, by the check's own names.
        seconds: time taken.
    """

    check: str
    about: str
    status: str
    reason: str = ""
    mismatch: Mismatch | None = None
    batch: Batch | None = None
    extra: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Neither "fail" nor "stale"."""
        return self.status not in (FAIL, STALE)

    def row(self) -> dict[str, Any]:
        """As plain data; ``batch`` is what `Batch.from_lists` reads."""
        wrong = {"what": None, "expected": None, "got": None, "tolerance": None}
        if self.mismatch is not None:
            wrong = asdict(self.mismatch)
        batch = None if self.batch is None else self.batch.lists()
        head = {"check": self.check, "status": self.status, "reason": self.reason}
        return {**head, **wrong, "batch": batch, "varied": dict(self.extra or {}), "seconds": self.seconds}


@dataclass(frozen=True, eq=False)
class Report:
    """The findings on one candidate; ``not_checked`` names the checks that cannot be asked of it, with the reason."""

    candidate: Candidate
    settings: Mapping[str, Any]
    findings: tuple[Finding, ...]
    not_checked: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Nothing failed, nothing is stale, and something was checked."""
        return all(f.ok for f in self.findings) and not self.refused

    @property
    def refused(self) -> bool:
        """The candidate refused everything: nothing was checked."""
        return all(f.status == REFUSED for f in self.findings)

    def row(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "candidate": self.candidate.name, "against": self.candidate.against, "settings": dict(self.settings),
            "passed": self.passed, "checks": [f.row() for f in self.findings], "not_checked": dict(self.not_checked),
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class BoundCheck:
    """A check bound to a candidate: `run` returns the finding, calling it raises `AssertionError` where that is not ok.

    Without ``shrink`` the first failing batch will do.
    """

    case: Case
    check: Check
    examples: int = EXAMPLES
    shrink: bool = True

    @property
    def name(self) -> str:
        """Name of the check."""
        return self.check.name

    def __repr__(self) -> str:
        return f"{self.case.candidate.name}-{self.name}"

    def run(self) -> Finding:
        """Try the candidate on up to ``examples`` batches, and shrink the first that fails."""
        start = time.perf_counter()
        mismatch, drawn, refusal = _search(self.case, self.check, self.examples, self.shrink)
        declared = self.case.candidate.deviations.get(self.name)
        seconds = time.perf_counter() - start
        if refusal is not None:
            return Finding(self.name, self.check.about, REFUSED, refusal, seconds=seconds)
        if mismatch is None:
            if declared is None:
                return Finding(self.name, self.check.about, PASS, seconds=seconds)
            reason = f"declared to deviate ({declared}), but passes; remove the declaration"
            return Finding(self.name, self.check.about, STALE, reason, seconds=seconds)
        status = FAIL if declared is None else DEVIATION
        return Finding(self.name, self.check.about, status, declared or "", mismatch, drawn[0], drawn[1], seconds)

    def __call__(self) -> Finding:
        finding = self.run()
        if not finding.ok:
            raise AssertionError(explain(self.case, finding))
        return finding


def checks_for(
    impl: Any,
    against: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    deviations: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    examples: int = EXAMPLES,
) -> list[BoundCheck]:
    """The checks that can be asked of a candidate (or of each of several).

    Args:
        impl, against, settings, deviations, arguments: see `loading.candidates`.
        examples: batches tried by each check, >= 1.

    Raises `SettingError`, `UnknownNameError` for what cannot be loaded, found or set.
    """
    if examples < 1:
        raise SettingError(f"examples = {examples}; each check needs at least one batch")
    found = []
    more = {"settings": settings, "deviations": deviations, "arguments": arguments}
    for candidate in candidates(impl, against, **more):
        case, left_out = _case(candidate)
        found += [BoundCheck(case, check, examples) for check in CHECKS.values() if check.name not in left_out]
    return found


def conform(
    impl: Any,
    against: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    deviations: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    examples: int = EXAMPLES,
    progress: Callable[[BoundCheck], None] = lambda check: None,
) -> list[Report]:
    """Run all checks on one or several candidates; arguments as in `checks_for`. ``progress`` hears of each check done."""
    more: dict[str, Any] = {"settings": settings, "deviations": deviations, "arguments": arguments}
    bound = checks_for(impl, against, examples=examples, **more)
    reports = []
    for candidate in dict.fromkeys(check.case.candidate for check in bound):
        own = [check for check in bound if check.case.candidate is candidate]
        findings = []
        for check in own:
            findings.append(check.run())
            progress(check)
        case, left_out = _case(candidate)
        stale = [_inapplicable(name, left_out[name]) for name in candidate.deviations if name in left_out]
        reports.append(Report(candidate, case.settings, (*findings, *stale), left_out))
    return reports


def explain(case: Case, finding: Finding) -> str:
    """A failure in words: what is wrong, and the smallest batch, in the columns that the formula reads."""
    head = f"{case.candidate.name} against {case.target.name}: {finding.check}: "
    if finding.mismatch is None or finding.batch is None:
        return head + finding.reason
    lines = [head + wrong(finding.mismatch), f"{finding.about} The smallest failing batch:"]
    columns = finding.batch.lists()
    shown = [name for name in columns if name in case.reads]
    lines += [f"  {name} = {columns[name]}" for name in shown]
    if case.settings.get("normalisation") == "constant":
        lines.append(f"  max_length = {columns['max_length']}")
    lines += [f"  {name}: {x}" for name, x in (finding.extra or {}).items()]
    return "\n".join(lines)


def wrong(m: Mismatch) -> str:
    """A mismatch in one line."""
    if m.got is None:
        return m.what
    if m.expected is None:
        return f"{m.what}: {m.got:g}"
    return f"{m.what} is {m.got:.10g}, should be {m.expected:.10g} within {m.tolerance:.1g}"


def _case(candidate: Candidate) -> tuple[Case, dict[str, str]]:
    """The case, and the checks that cannot be asked with the reasons."""
    for name in candidate.deviations:
        named(name)
    case = Case(candidate, *targets.of(candidate))
    reasons = {check.name: check.inapplicable(case) for check in CHECKS.values()}
    return case, {name: reason for name, reason in reasons.items() if reason}


def _inapplicable(name: str, reason: str) -> Finding:
    return Finding(name, named(name).about, STALE, f"declared to deviate, but cannot be asked: {reason}")


def _search(case: Case, check: Check, examples: int, shrink: bool) -> tuple[Mismatch | None, Any, str | None]:
    """The mismatch on the smallest failing batch, that batch with what was varied, and the reason of a refusal."""
    refusal: list[str] = []
    failures: list[tuple[Mismatch, Any]] = []
    compared = False

    def fails(drawn: tuple[Batch, Mapping[str, Any]]) -> bool:
        nonlocal compared
        if refusal:
            return False
        try:
            found = check.run(case, *drawn)
            compared = True
        except NothingToCompare:
            return False
        except Broken as error:
            found = Mismatch(str(error))
        except Refused as error:
            if not failures:  # while shrinking, a batch that is refused is just not a failing one
                refusal.append(error.reason)
            return False
        if found is not None:
            failures[:] = [(found, drawn)]
        return found is not None

    phases = (hypothesis.Phase.generate, hypothesis.Phase.shrink)[: 1 + shrink]
    for share, limits in SIZES:
        how = hypothesis.settings(max_examples=max(1, round(share * examples)), phases=phases, **_HOW)
        try:
            hypothesis.find(_drawn(case, check, limits), fails, settings=how)
        except hypothesis.errors.NoSuchExample:
            continue
        except hypothesis.errors.Flaky:  # it fails only sometimes: the last time counts
            if not failures:
                raise
        if failures or refusal:
            break
    mismatch, drawn = failures[0] if failures else (None, None)
    if not (failures or refusal or compared):
        refusal.append(f"none of {examples} batches was one to compare on; allow more examples")
    return mismatch, drawn, refusal[0] if refusal else None


def _drawn(case: Case, check: Check, limits: Mapping[str, int]) -> Any:
    """A strategy of batches with what else varies."""
    st = hypothesis.strategies
    ordinary = batches(reads=case.reads, ugly=check.ugly, least_rows=check.rows, **limits)
    return ordinary.flatmap(lambda batch: st.tuples(st.just(batch), check.vary(batch)))
