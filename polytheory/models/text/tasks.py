"""Small text tasks whose answers a program can verify, with demonstrations for a warm start.

A task draws rows (dicts of strings with a ``prompt``) from uniforms of `polytheory.streams`, so that a data set is named
by (task, split, seed) and row i never depends on how many rows are asked for. A reward is an ordinary function
``reward(completions, **columns) -> scores``, the same shape as a user's own.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.text import verifiers
from polytheory.streams import uniforms

Row = dict[str, str]
Reward = Callable[..., list[float]]

ASK, TELL = "Q", "="  # a prompt is Q<problem>=, the completion is the answer
HELD_OUT = 10  # one prompt in so many, by its checksum, is never trained on
DRAWS = 24  # uniforms that a row may use


@dataclass(frozen=True)
class TextTask:
    """A task with an exact verifier.

    Fields:
        name: as in `task`.
        problem: from uniforms [DRAWS] in [0, 1) to the row's columns, ``prompt`` among them.
        reward: ``reward(completions, **columns)``, 1.0 for a right completion and 0.0 for any other.
        demonstrations: ways to answer a row, by name: what the warm start imitates.
        length: longest completion in characters, the end-of-text token not counted.
        title: one sentence for readers.
        imitate: the demonstrations of a warm start, in turn.
        sft_steps, steps: supervised and reinforcement-learning steps that the tiny model gets by default.
    """

    name: str
    title: str
    problem: Callable[[Float[np.ndarray, " k"]], Row]
    reward: Reward
    demonstrations: Mapping[str, Callable[[Row], str]]
    length: int
    imitate: tuple[str, ...] = ("right",)
    sft_steps: int = 120
    steps: int = 60

    def rows(self, n: int, *, split: str = "train", seed: int = 0) -> dict[str, list[str]]:
        """``n`` rows of a split as columns; no prompt of "held-out" ever occurs in "train".

        Raises `SettingError` for n < 1, or when the task has too few different prompts; `UnknownNameError` for a split.
        """
        if split not in ("train", "held-out"):
            raise UnknownNameError("split", split, ("train", "held-out"))
        if n < 1:
            raise SettingError(f"n = {n}; ask for at least one row")
        found: list[Row] = []
        block = 8 + n + n // 4 if split == "train" else 2 * HELD_OUT * n
        for start in range(0, 64 * block, block):
            draws = uniforms(seed, f"task/{self.name}", 0, np.arange(start, start + block), DRAWS)
            for row in map(self.problem, draws):
                held = zlib.crc32(row["prompt"].encode()) % HELD_OUT == 0
                if held == (split == "held-out"):
                    found.append(row)
                if len(found) == n:
                    return {name: [r[name] for r in found] for name in found[0]}
        raise SettingError(f"task {self.name!r} has too few different prompts for {n} rows of {split!r}; ask for fewer")

    def demonstrate(self, rows: Mapping[str, Sequence[str]], ways: Sequence[str]) -> list[str]:
        """A demonstration of every row; row i shows ``ways[i % len(ways)]``. Raises `UnknownNameError`."""
        for way in ways:
            if way not in self.demonstrations:
                raise UnknownNameError("demonstration", way, self.demonstrations)
        names = list(rows)
        every = [dict(zip(names, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        return [self.demonstrations[ways[i % len(ways)]](row) for i, row in enumerate(every)]


def task(name: str) -> TextTask:
    """A task by name. Raises `UnknownNameError` with the nearest name."""
    if name not in _TASKS:
        raise UnknownNameError("task", name, _TASKS)
    return _TASKS[name]


def names() -> tuple[str, ...]:
    """Names that `task` knows."""
    return tuple(_TASKS)


def _digits(u: Float[np.ndarray, " k"], n: int) -> str:
    return "".join(str(int(10 * x)) for x in u[:n])


def _ask(problem: str) -> str:
    return ASK + problem + TELL


def _given(row: Row) -> str:
    return row["prompt"][len(ASK) : -len(TELL)]


def _right(row: Row) -> str:
    return row["answer"]


def _string_task(name: str, title: str, answer: Callable[[str], str], n: int = 6, **settings: Any) -> TextTask:
    def problem(u: Float[np.ndarray, " k"]) -> Row:
        given = _digits(u, n)
        return {"prompt": _ask(given), "answer": answer(given)}

    others = {
        "copy": _given,
        "reverse": lambda row: _given(row)[::-1],
        "ascending": lambda row: _sorted(_given(row)),
        "descending": lambda row: "".join(sorted(_given(row), reverse=True)),
    }
    return TextTask(name, title, problem, verifiers.exact_match, {"right": _right, **others}, n, **settings)


def _sorted(given: str) -> str:
    return "".join(sorted(given))


def _modular_addition(u: Float[np.ndarray, " k"]) -> Row:
    a, b = int(97 * u[0]), int(97 * u[1])
    return {"prompt": _ask(f"{a:02d}+{b:02d}%97"), "answer": f"{(a + b) % 97:02d}"}


def _addition(u: Float[np.ndarray, " k"]) -> Row:
    a, b = int(1000 * u[0]), int(1000 * u[1])
    return {"prompt": _ask(f"{a:03d}+{b:03d}"), "answer": f"{a + b:04d}"}


def _countdown(u: Float[np.ndarray, " k"]) -> Row:
    """Three numbers and a target that an expression of them reaches."""
    numbers = [1 + int(9 * x) for x in u[:3]]
    text = str(numbers[0])
    for x, y in zip(numbers[1:], u[3:5], strict=True):
        text = f"({text}{'+-*'[int(3 * y)]}{x})"
    text = text[1:-1]
    target = verifiers.evaluate(text)
    given = ",".join(map(str, numbers))
    return {"prompt": _ask(f"{given}:{target}"), "answer": text, "numbers": given, "target": str(target)}


def _brackets(u: Float[np.ndarray, " k"]) -> Row:
    """An unfinished bracket sequence; the completion closes it."""
    stack: list[str] = []
    text = ""
    for open_more, kind in zip(u[:8], u[8:16], strict=True):
        if not stack or open_more < 0.6:
            pair = ("()", "[]", "{}")[int(3 * kind)]
            text, stack = text + pair[0], [*stack, pair[1]]
        else:
            text += stack.pop()
    return {"prompt": _ask(text), "answer": "".join(reversed(stack))}


_TASKS = {
    t.name: t
    for t in (
        _string_task("copy", "repeat six digits", lambda x: x, imitate=("copy", "reverse", "ascending")),
        _string_task("reverse", "write six digits backwards", lambda x: x[::-1], imitate=("reverse", "copy", "ascending")),
        _string_task("sort", "sort six digits", _sorted, imitate=("ascending", "descending", "copy")),
        # demonstrations that are all right, and too few to learn from: here it is the skill that improves
        _string_task("sort-skill", "sort six digits, shown a little", _sorted, sft_steps=40, steps=400),
        TextTask(
            "modular-addition", "add two numbers modulo 97", _modular_addition, verifiers.exact_match, {"right": _right}, 2
        ),
        TextTask("addition", "add two numbers of three digits", _addition, verifiers.exact_match, {"right": _right}, 4),
        TextTask(
            "countdown", "reach a target with three numbers", _countdown, verifiers.countdown, {"right": _right}, 9
        ),
        TextTask(
            "brackets", "close the open brackets", _brackets, verifiers.balanced, {"right": _right}, 8
        ),
    )
}  # fmt: skip
