"""A theorem one can run: claims, the ways to break them, and the demonstrations that `polytheory verify` solves.

A claim is a function ``(instance, room) -> Margin``. It holds when the slack of its inequality is at least minus a
tolerance that is derived from the statement. Every claim lists *breaks*: deliberate errors put into the code under test,
each of which must push the margin below minus the tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.errors import PolytheoryError, SettingError

if TYPE_CHECKING:
    from polytheory.proofs_check._rooms import Room as Room

ROOMS = ("reference", "scaled")


class Level(IntEnum):
    """How strong the evidence is, weakest first."""

    STATISTICAL = 1  # sampled, with a stated error level and fixed seeds
    PROPERTY = 2  # generated instances
    CERTIFICATE = 3  # a primal-dual pair, exact rational or interval arithmetic
    SYMBOLIC = 4  # proved for all values by sympy or z3


@dataclass(frozen=True)
class Margin:
    """Slack of an inequality (or minus the size of a discrepancy) and the tolerance that rounding entitles it to."""

    slack: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """True when ``slack >= -tolerance``; a NaN slack does not hold."""
        return bool(self.slack >= -self.tolerance)

    @classmethod
    def equal(cls, a: Any, b: Any, tolerance: float) -> Margin:
        """Equality up to ``tolerance``: slack is minus the largest absolute difference. Shapes must agree."""
        a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        if a.shape != b.shape:
            raise SettingError(f"Margin.equal compares arrays of one shape; got {list(a.shape)} and {list(b.shape)}")
        return cls(-float(np.max(np.abs(a - b), initial=0.0)), float(tolerance))

    @classmethod
    def at_most(cls, a: Any, b: Any, tolerance: float) -> Margin:
        """``a <= b`` entrywise: slack is the smallest ``b - a``."""
        return cls(float(np.min(np.asarray(b, dtype=float) - np.asarray(a, dtype=float))), float(tolerance))

    @classmethod
    def proved(cls, ok: bool) -> Margin:
        """A yes-or-no result, such as a symbolic proof: slack 0 when proved, -1 when not."""
        return cls(0.0 if ok else -1.0, 0.0)

    @classmethod
    def worst(cls, margins: Sequence[Margin]) -> Margin:
        """The margin that is closest to failing, relative to its tolerance; trivial instances (0 within 0) come last."""
        return min(margins, key=_closeness)


def _closeness(m: Margin) -> tuple[float, float]:
    if not m.holds:
        return -1.0, m.slack + m.tolerance if np.isfinite(m.slack) else -np.inf
    if m.slack == 0 == m.tolerance:
        return 2.0, 0.0
    return (m.slack + m.tolerance) / (abs(m.slack) + m.tolerance), m.slack


@dataclass(frozen=True)
class Line:
    """Replace source text that occurs exactly once in a module of the method's family.

    ``module`` names a sibling module (default: the method's own); ``room`` limits the break to one room.
    """

    name: str
    old: str
    new: str
    module: str | None = None
    room: str | None = None


@dataclass(frozen=True)
class Wrap:
    """Replace a named part ``f`` (or ``Class.method``) by ``by(f)``; the part is found in the module that defines it."""

    name: str
    part: str
    by: Callable[[Callable[..., Any]], Callable[..., Any]]
    room: str | None = None


class Setting:
    """Replace hyper-parameters of every algorithm that the claim makes: ``Setting("no_bonus", bonus_scale=0.0)``."""

    def __init__(self, name: str, *, room: str | None = None, **fields: Any):
        self.name, self.room, self.fields = name, room, fields


Break = Line | Wrap | Setting


@dataclass(frozen=True, eq=False)
class Claim:
    """One statement of a method; made by the `claim` decorator."""

    name: str
    method: str
    source: str
    level: Level
    statement: str
    check: Callable[[Any, Room], Margin]
    breaks: tuple[Break, ...]
    rooms: tuple[str, ...]
    worked: Callable[[], Sequence[Any]]
    generated: Callable[[], Any] | None
    catches: tuple[type[PolytheoryError], ...]

    def breaks_in(self, room: str) -> tuple[Break, ...]:
        """The breaks that apply to one room."""
        return tuple(b for b in self.breaks if b.room in (None, room))


@dataclass(frozen=True, eq=False)
class Demo:
    """A real problem that `polytheory verify` solves with the reference and runs in lock-step.

    Fields:
        environment: name for `polytheory.models.make`; ``options`` go with it.
        algorithm: class name in both rooms.
        settings: hyper-parameters, or a function ``(room, model) -> dict`` where they differ by room (a policy, say).
        steps: steps of the reference run that is shown; None runs until done.
        access: class name in `polytheory.access`.
        lockstep_steps, lockstep_replicas: size of the comparison between the rooms.
        lockstep_tolerance: largest allowed relative difference: float64 rounding times the steps it is carried through.
    """

    environment: str
    algorithm: str
    settings: Mapping[str, Any] | Callable[[Any, Any], Mapping[str, Any]] = field(default_factory=dict)
    steps: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    access: str = "Online"
    lockstep_steps: int = 10
    lockstep_replicas: int = 3
    lockstep_tolerance: float = 1e-11

    def settings_for(self, room: Any, model: Any) -> dict[str, Any]:
        """The hyper-parameters in one room."""
        return dict(self.settings(room, model) if callable(self.settings) else self.settings)


_CLAIMS: dict[str, dict[str, Claim]] = {}


def claim(
    *,
    method: str,
    source: str,
    level: Level,
    statement: str,
    breaks: Sequence[Break],
    rooms: Sequence[str] = ROOMS,
    worked: Callable[[], Sequence[Any]] = lambda: (),
    generated: Callable[[], Any] | None = None,
    catches: Sequence[type[PolytheoryError]] = (),
) -> Callable[[Callable[[Any, Room], Margin]], Callable[[Any, Room], Margin]]:
    """Register a claim.

    Args:
        method: name in the catalog. source: paper and theorem. level: see `Level`. statement: one sentence.
        breaks: mutants that the claim must reject; at least one for every room.
        rooms: where it is checked.
        worked: instances with known numbers, first; a claim without instances gets one instance, None.
        generated: a Hypothesis strategy of further instances. Both are functions, called when needed.
        catches: typed errors that count as rejecting a mutant.

    Raises:
        SettingError: no break for some room, unknown room, or two breaks or claims of one name.
    """

    def register(check: Callable[[Any, Room], Margin]) -> Callable[[Any, Room], Margin]:
        made = Claim(
            check.__name__, method, source, level, statement, check, tuple(breaks), tuple(rooms), worked, generated,
            tuple(catches),
        )  # fmt: skip
        _validate(made)
        known = _CLAIMS.setdefault(method, {})
        other = known.get(made.name)
        if other is not None and other.check.__module__ != check.__module__:
            raise SettingError(f"two claims of {method} are called {made.name!r}; rename one")
        known[made.name] = made
        return check

    return register


def _validate(c: Claim) -> None:
    names = [b.name for b in c.breaks]
    if len(set(names)) != len(names):
        raise SettingError(f"claim {c.name!r}: two breaks share a name in {names}")
    for room in c.rooms:
        if room not in ROOMS:
            raise SettingError(f"claim {c.name!r}: unknown room {room!r}; allowed: {', '.join(ROOMS)}")
        if not c.breaks_in(room):
            raise SettingError(
                f"claim {c.name!r} has no break for the {room} room; a check that cannot fail is no check"
            )


def claims_of(method: str) -> tuple[Claim, ...]:
    """The claims registered for a method (import its claims module first: `runner.load_method`)."""
    return tuple(_CLAIMS.get(method, {}).values())


def __getattr__(name: str) -> Any:
    if name == "Room":  # lazily, so that listing claims does not import the rooms
        from polytheory.proofs_check._rooms import Room

        return Room
    raise AttributeError(name)
