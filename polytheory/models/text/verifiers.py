"""Exact verifiers: rewards ``f(completions, **columns) -> scores`` that need no model.

Each takes the completions and the columns it reads by name, and ignores the others.
"""

from __future__ import annotations

import ast
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_LONGEST = 200  # characters of an expression that anybody will parse


def exact_match(completions: Sequence[str], *, answer: Sequence[str], **_: Any) -> list[float]:
    """1 where the completion is the answer, character for character."""
    return [float(c == a) for c, a in zip(completions, answer, strict=True)]


def in_place(completions: Sequence[str], *, answer: Sequence[str], **_: Any) -> list[float]:
    """Share of characters that stand where the answer has them, of the longer of the two; 1 for the answer alone."""
    pairs = zip(completions, answer, strict=True)
    return [sum(x == y for x, y in zip(c, a, strict=False)) / max(len(c), len(a)) if c or a else 1.0 for c, a in pairs]


def countdown(completions: Sequence[str], *, numbers: Sequence[str], target: Sequence[str], **_: Any) -> list[float]:
    """1 where the completion is an expression in +, -, * that uses each number exactly once and equals the target."""
    return [
        float(_numbers(c) == Counter(n.split(",")) and evaluate(c) == int(t))
        for c, n, t in zip(completions, numbers, target, strict=True)
    ]


def balanced(completions: Sequence[str], *, prompt: Sequence[str], **_: Any) -> list[float]:
    """1 where prompt and completion together are balanced brackets, and the completion only closes."""
    return [float(_closes(p, c)) for p, c in zip(prompt, completions, strict=True)]


def evaluate(text: str) -> int | None:
    """The value of an integer expression in +, -, * and parentheses; None when it is not one."""
    try:
        return _value(ast.parse(text, mode="eval").body) if 0 < len(text) <= _LONGEST else None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _value(node: ast.AST) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("not an integer expression")


def _numbers(text: str) -> Counter[str]:
    return Counter("".join(c if c.isdigit() else " " for c in text).split())


def _closes(prompt: str, completion: str) -> bool:
    stack: list[str] = []
    brackets = [c for c in prompt if c in "()[]{}"]
    if any(c not in _PAIRS for c in completion):
        return False
    for c in [*brackets, *completion]:
        if c not in _PAIRS:
            stack.append(c)
        elif not stack or stack.pop() != _PAIRS[c]:
            return False
    return not stack
