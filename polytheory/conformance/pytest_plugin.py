"""The kit in pytest: a decorator, and the options of ``pytest --pyargs polytheory.conformance --impl module:function``.

pytest loads this module in every run where polytheory is installed, so that it imports nothing heavy, and adds its options
only to runs that name ``polytheory.conformance``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

PACKAGE = "polytheory.conformance"
USAGE = f"usage: pytest --pyargs {PACKAGE} --impl package.module:function [--against TARGET]"


class PytestCheck:
    """A bound check as a parameter of a test; calling it reports in pytest's words.

    A failure or a stale deviation fails, a declared deviation that occurs is an expected failure with its reason. So is the
    refusal of one kind of batch; a candidate that refuses ordinary batches fails, since nothing could be checked.
    """

    def __init__(self, bound: Any):
        self.bound = bound

    @property
    def name(self) -> str:
        """Name of the check."""
        return self.bound.name

    def __call__(self) -> Any:
        __tracebackhide__ = True
        from polytheory.conformance.kit import DEVIATION, REFUSED, explain

        finding = self.bound.run()
        if finding.status == DEVIATION:
            pytest.xfail(f"declared deviation: {finding.reason}")
        if finding.status == REFUSED:
            if self.name == "value":
                pytest.fail(f"refused, nothing can be checked: {finding.reason}", pytrace=False)
            pytest.xfail(f"refused: {finding.reason}")
        if not finding.ok:
            pytest.fail(explain(self.bound.case, finding), pytrace=False)
        return finding


def parametrize_with_checks(
    candidates: Sequence[Any], *, against: str | None = None, settings: Any = None, examples: int | None = None
) -> Any:
    """Parametrise a test with every check of every candidate; the test's argument is ``check``, to be called.

    Args:
        candidates: functions, `Candidate` objects or ``"module:function"`` texts.
        against, settings: for those that do not say it themselves; see `loading.candidates`.
        examples: batches tried by each check; None takes the kit's number.

    Raises `SettingError`, `UnknownNameError` for candidates that cannot be loaded or held against that.

    Example::

        @parametrize_with_checks([my_grpo_loss], against="grpo", settings={"beta": 0.0})
        def test_my_loss(check):
            check()
    """
    from polytheory.conformance.kit import EXAMPLES, checks_for

    bound = checks_for(list(candidates), against, settings=settings, examples=examples or EXAMPLES)
    return pytest.mark.parametrize("check", [pytest.param(PytestCheck(b), id=repr(b)) for b in bound])


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options to a run that names the package."""
    config: Any = pluginmanager.get_plugin("pytestconfig")
    if not any(PACKAGE in str(word) for word in config.invocation_params.args):
        return
    group = parser.getgroup("polytheory", "polytheory conformance")
    group.addoption("--impl", dest="conform_impl", metavar="MODULE:NAME", help="the function or Candidate to check")
    group.addoption("--against", dest="conform_against", metavar="TARGET", help="what to hold it against")


def pytest_configure(config: pytest.Config) -> None:
    """Load the candidate named by ``--impl``; one line for every way it can fail."""
    if not hasattr(config.option, "conform_impl"):
        return
    if not config.option.conform_impl:
        raise pytest.UsageError(USAGE)
    from polytheory.errors import PolytheoryError

    try:
        from polytheory.conformance.kit import checks_for

        config.stash[_BOUND] = checks_for(config.option.conform_impl, config.option.conform_against)
    except PolytheoryError as error:
        raise pytest.UsageError(str(error)) from error


_BOUND = pytest.StashKey[list[Any]]()


def bound_checks(config: pytest.Config) -> list[PytestCheck]:
    """The checks of ``--impl``. Raises `pytest.UsageError` where there is none."""
    if _BOUND not in config.stash:
        raise pytest.UsageError(USAGE)
    return [PytestCheck(bound) for bound in config.stash[_BOUND]]
