"""Several worlds under one meter: domain sets, robust search over models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from polytheory.access._grants import Grant, Meter
from polytheory.errors import SettingError

A = TypeVar("A", bound=Any)


class Family(Generic[A]):
    """A sequence of accesses that share one meter; what all of them grant is granted.

    Raises `SettingError` when empty or when numbers of replicas differ.
    """

    def __init__(self, members: Sequence[A]):
        if not members:
            raise SettingError("a family of worlds needs at least one member")
        if len({m.replicas for m in members}) != 1:
            raise SettingError("the members of a family must have the same number of replicas")
        self.members = tuple(members)
        self.replicas = members[0].replicas
        self.meter = Meter(self.replicas)
        for member in self.members:
            member.meter = self.meter
        self.grants: frozenset[Grant] = frozenset.intersection(*(frozenset(m.grants) for m in members))
        self.spec = self.members[0].spec

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, i: int) -> A:
        return self.members[i]

    def __iter__(self) -> Iterator[A]:
        return iter(self.members)

    def state_dict(self) -> dict[str, Any]:
        """State of every member, for checkpoints."""
        return {str(i): m.state_dict() for i, m in enumerate(self.members)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` saved."""
        for i, member in enumerate(self.members):
            member.load_state_dict(state[str(i)])
