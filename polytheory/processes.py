"""One run in one process, or in several that take the same steps together.

An algorithm may have a property ``processes``: an object with the methods of `Alone`, which `polytheory.run.run` asks so that
all processes stop and save at the same step, and one of them writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Alone:
    """The only process: nothing to agree on."""

    rank = 0
    world = 1

    @property
    def first(self) -> bool:
        """True in the process that prints and writes."""
        return self.rank == 0

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, True where it is True in any process."""
        return flags

    def same(self, value: int) -> bool:
        """True when every process has this value."""
        return True

    @contextmanager
    def together(self) -> Iterator[None]:
        """All leave the block together, and an error inside one process is an error of all."""
        yield


ALONE = Alone()
