"""What ``pytest --pyargs polytheory.conformance --impl module:function`` collects: one test for each check."""

from __future__ import annotations

from typing import Any

import pytest

from polytheory.conformance.pytest_plugin import bound_checks


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One parameter for each check."""
    checks = bound_checks(metafunc.config)
    metafunc.parametrize("check", checks, ids=[repr(check.bound) for check in checks])


def test_conformance(check: Any) -> None:
    """The check passes, or fails as declared."""
    check()
