"""Grading a function of NumPy arrays: right, or wrong on this small instance, and wrong in which known way.

An exercise knows the reference's answer, instances from small to large, and the mistakes that people make. A wrong function is
shown the first instance on which it is wrong; where one of the mistakes gives the same numbers on every instance, it is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from polytheory.errors import UnknownNameError

Instance = dict[str, Any]
_UNIT = 2.0**-53
ROUNDINGS = 1e6  # a generous number of operations; the mistakes are off by much more


@dataclass(frozen=True, eq=False)
class Exercise:
    """A function to be written.

    Fields:
        name; question: what the function returns, in one line; signature: its arguments by name.
        right: the reference's answer.
        instances: makes the instances, small ones first; the first is a worked example.
        mistakes: by what they are, functions that make them.
    """

    name: str
    question: str
    signature: str
    right: Callable[..., Any]
    instances: Callable[[], Iterator[Instance]]
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Verdict:
    """What came of it; true when right, and prints as the message.

    Fields: ``exercise`` its name; ``passed``; ``message``; ``mistake`` the known mistake that was made, or ""; ``instance`` the
    smallest instance found on which the function is wrong, ``expected`` and ``got`` there.
    """

    exercise: str
    passed: bool
    message: str
    mistake: str = ""
    instance: Instance | None = None
    expected: Any = None
    got: Any = None

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return self.message


def grade(function: Any, name: str) -> Verdict:
    """Hold a function against an exercise.

    Args:
        function: a function of NumPy arrays, or where it stands: "package.module:function" or "path/to/file.py:function".
        name: of the exercise, see `names`.

    Raises `UnknownNameError` for an exercise that does not exist, `SettingError` for a function that cannot be loaded.
    """
    if isinstance(function, str):
        from polytheory.conformance.loading import loaded

        function = loaded(function)
    asked = exercise(name)
    instances = list(asked.instances())
    for number, instance in enumerate(instances, 1):
        expected = np.asarray(asked.right(**deepcopy(instance)), dtype=float)
        given = deepcopy(instance)
        problem, got = _problem(function, given, instance, expected)
        if problem:
            mistake = _mistake(function, asked, instances)
            known = (
                f"\n{mistake[0].upper()}{mistake[1:]}? That gives your numbers on every instance." if mistake else ""
            )
            message = f"{name}: not yet. {problem}{known}\nInstance {number} of {len(instances)}:\n{_told(instance)}"
            return Verdict(name, False, message, mistake, instance, expected, got)
    message = f"{name}: right. {len(instances)} instances, equal to the reference up to rounding."
    return Verdict(name, True, message)


@cache
def _all() -> dict[str, Exercise]:
    from polytheory.conformance.exercises import language, planning, sampling

    return {x.name: x for module in (planning, sampling, language) for x in module.EXERCISES}


def exercise(name: str) -> Exercise:
    """The exercise of that name. Raises `UnknownNameError` with the nearest name."""
    if name not in _all():
        raise UnknownNameError("exercise", name, _all())
    return _all()[name]


def names() -> tuple[str, ...]:
    """Names of all exercises."""
    return tuple(_all())


def _problem(function: Any, given: Instance, instance: Instance, expected: np.ndarray) -> tuple[str, Any]:
    """What is wrong with the answer ("" for nothing), and the answer."""
    try:
        got = function(**given)
    except Exception as error:  # whatever a learner's function raises is an answer to be told
        return f"Your function raised {type(error).__name__}: {' '.join(str(error).split())}", None
    for key, x in given.items():
        if isinstance(x, np.ndarray) and not np.array_equal(x, instance[key]):
            return f"Your function changed its argument {key}; work on a copy.", got
    try:
        answer = np.asarray(got)
        answer = answer.astype(float, casting="safe" if answer.dtype.kind != "i" else "unsafe")
    except (TypeError, ValueError):
        return f"Your function returned {type(got).__name__}; numbers were expected.", got
    if answer.shape != expected.shape:
        return f"The shape is {list(answer.shape)}, it should be {list(expected.shape)}.", got
    off = _off(answer, expected)
    if not off.any():
        return "", got
    at = tuple(int(i) for i in np.argwhere(off)[0])
    where = f"[{', '.join(map(str, at))}]" if at else ""
    return f"answer{where} is {answer[at]:.10g}, it should be {expected[at]:.10g}.", got


def _off(answer: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Entries that differ by more than rounding; no reference answers NaN, some mistakes do."""
    scale = 1 + np.abs(expected)
    near = np.abs(answer - expected) <= ROUNDINGS * _UNIT * scale
    return np.asarray(~(near | (answer == expected) | (np.isnan(answer) & np.isnan(expected))))


def _mistake(function: Any, asked: Exercise, instances: list[Instance]) -> str:
    """The mistake that gives the same numbers on all instances, or ""."""
    for told, wrong in asked.mistakes.items():
        if all(_agrees(function, wrong, instance) for instance in instances):
            return told
    return ""


def _agrees(function: Any, wrong: Any, instance: Instance) -> bool:
    with np.errstate(all="ignore"):
        same = np.asarray(wrong(**deepcopy(instance)), dtype=float)
        return not _problem(function, deepcopy(instance), instance, same)[0]


def _told(instance: Instance) -> str:
    lines = []
    for name, x in instance.items():
        text = np.array2string(x, separator=", ", precision=6) if isinstance(x, np.ndarray) else repr(x)
        lines.append(f"  {name} = " + text.replace("\n", "\n" + " " * (len(name) + 5)))
    return "\n".join(lines)
