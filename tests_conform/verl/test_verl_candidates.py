"""What of verl equals a formula does so on generated batches too, ugly ones included."""

from __future__ import annotations

import pytest

from polytheory.conformance.kit import conform
from polytheory.conformance.table.candidates import VERL


@pytest.mark.parametrize("candidate", VERL, ids=lambda candidate: candidate.name)
def test_candidate_holds_on_generated_batches(candidate):
    (report,) = conform(candidate, examples=12)
    assert [(f.check, f.status, f.reason) for f in report.findings if not f.ok] == []
    assert report.passed
