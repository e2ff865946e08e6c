"""Checks of annotations on some calls: a test checks the first calls of every function, and then one in so many.

jaxtyping and beartype take some 0.1 ms a call, and some ms where a function is defined inside another: in loops over steps
that is most of a test's time. What is wrong in one call of a loop is nearly always wrong in its first.
"""

from __future__ import annotations

import functools
import inspect
from collections import defaultdict
from types import CodeType

import jaxtyping

FIRST, EVERY = 2, 64
_calls: defaultdict[CodeType, int] = defaultdict(int)  # of this test
_checking = jaxtyping.jaxtyped


def begin_test() -> None:
    """Count from 0 again."""
    _calls.clear()


def install() -> None:
    """Put the sample in place of jaxtyping's own decorator, which its import hook looks up by name in every module."""
    jaxtyping.jaxtyped = sampled


def sampled(*, typechecker):
    """As `jaxtyping.jaxtyped`, for some of the calls; what a check needs is made when the first one comes."""

    def decorate(thing):
        if not inspect.isclass(thing):
            return (
                _sampled(thing, typechecker) if inspect.isfunction(thing) else _checking(thing, typechecker=typechecker)
            )
        plain = thing.__init__
        if not hasattr(plain, "sampled"):
            _checking(thing, typechecker=typechecker)
            if thing.__init__ is not plain:  # a dataclass
                thing.__init__ = _sampled(plain, typechecker)
        return thing

    return decorate


def _sampled(function, typechecker):
    code, checked = function.__code__, None

    @functools.wraps(function)
    def call(*args, **kwargs):
        nonlocal checked
        _calls[code] += 1
        if _calls[code] > FIRST and _calls[code] % EVERY:
            return function(*args, **kwargs)
        if checked is None:
            checked = _checking(function, typechecker=typechecker)
        return checked(*args, **kwargs)

    call.sampled = True
    return call
