"""Errors typed by the broken assumption.

Every message says what arrived, what is allowed and what to try, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PolytheoryError(Exception):
    """Base of every error that polytheory raises on purpose."""


class ModelError(PolytheoryError, ValueError):
    """A model of the world breaks an assumption."""


class NotStochasticError(ModelError):
    """Probabilities are negative, not finite, or do not sum to 1."""


class ShapeError(ModelError):
    """An array has the wrong shape."""


class NonFiniteError(ModelError):
    """A number is NaN or infinite."""


class DiscountError(ModelError):
    """gamma is out of range, or neither a discount nor a horizon bounds the return."""


class EmptyActionSetError(ModelError):
    """There is a state without an action, or no state at all."""


class TerminalError(ModelError):
    """A state marked terminal is not absorbing with reward zero."""


class AccessError(PolytheoryError, PermissionError):
    """A learner asked for something its access does not grant."""


class PolicyError(PolytheoryError, ValueError):
    """A policy is malformed or does not fit the model."""


class SettingError(PolytheoryError, ValueError):
    """A hyper-parameter or option is out of range."""


class ObjectiveError(SettingError):
    """An objective lacks a condition under which the method finds its optimum."""


class UnknownNameError(PolytheoryError, KeyError):
    """A method, environment or option of that name does not exist."""

    def __init__(self, kind: str, name: str, allowed: Iterable[str]):
        self.kind, self.name, self.allowed = kind, name, sorted(allowed)
        near = difflib.get_close_matches(name, self.allowed, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "allowed: " + ", ".join(self.allowed)
        super().__init__(f"unknown {kind} {name!r}; {hint}")

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0])


class RunError(PolytheoryError):
    """A run that was well asked for cannot go on; what it has saved is kept. The command line ends with exit code 1."""


class MismatchError(RunError, ArithmeticError):
    """The sampler's law is not the law that is trained."""


class SamplerError(RunError, RuntimeError):
    """The engine that completes prompts does not answer, or refuses."""


class DivergedError(RunError, ArithmeticError):
    """Training left the finite numbers, or the policy ran away from where it sampled."""


class NoSignalError(RunError):
    """Step after step no reward differs from those it is compared with: there is nothing to learn from."""


class OutOfMemoryError(RunError, MemoryError):
    """The memory of the machine or the accelerator does not suffice."""


class ProcessError(RunError, RuntimeError):
    """Another process of the same run has stopped."""


class ColumnError(PolytheoryError, ValueError):
    """A part reads a column that nobody wrote, or a column has the wrong shape or content."""


class CheckpointError(PolytheoryError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class StorageError(CheckpointError, RunError):
    """The disk refuses to keep what a run has to save."""


class NotSolvedError(PolytheoryError):
    """A certified result was asked for before the certificate held."""


class MissingExtraError(PolytheoryError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str):
        self.package, self.extra = package, extra
        super().__init__(f"this needs {package}, which is not installed; try: pip install 'polytheory[{extra}]'")


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors that Python and torch raise when memory runs out, on the CPU and on accelerators.

    torch's CPU allocator raises a plain RuntimeError, which only its text tells apart.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in text or "can't allocate memory" in text or "out of memory" in text
    )


def require(package: str, extra: str):
    """Import an optional package by dotted name, or raise `MissingExtraError` that names the extra to install."""
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(package, extra) from error
