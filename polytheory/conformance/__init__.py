"""What other code can be checked with: strategies that generate problems, and checks.

``checks_for``, ``conform`` and ``parametrize_with_checks`` hold a loss or an estimator of advantages, a plain function of
tensors, against the project's formulas; `Batch` is what it is given, `Candidate` describes it, `Refused` is how it declines.
These need torch and Hypothesis (extras ``scaled`` and ``conform``) and are loaded when asked for. ``grade`` tells whether a
learner's function of NumPy arrays solves an exercise, and which known mistake it makes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polytheory.conformance.contract import Batch as Batch
    from polytheory.conformance.contract import Candidate as Candidate
    from polytheory.conformance.contract import Refused as Refused
    from polytheory.conformance.exercises import grade as grade
    from polytheory.conformance.kit import Finding as Finding
    from polytheory.conformance.kit import Report as Report
    from polytheory.conformance.kit import checks_for as checks_for
    from polytheory.conformance.kit import conform as conform
    from polytheory.conformance.pytest_plugin import parametrize_with_checks as parametrize_with_checks

_WHERE = {
    "Batch": "contract", "Candidate": "contract", "Refused": "contract", "Finding": "kit", "Report": "kit",
    "checks_for": "kit", "conform": "kit", "grade": "exercises", "parametrize_with_checks": "pytest_plugin",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
