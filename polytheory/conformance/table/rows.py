"""What is asked of TRL and verl: settings as their users write them, the formula they are held against, and why they differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Row:
    """One setting of a framework on one batch.

    Fields:
        framework: "trl" or "verl".
        call: function of the framework's adapter.
        settings: given to it.
        formula: what it is held against (a key of ``FORMULAS``), "" where there is no formula of a paper here.
        reason: why it differs, "" where it must not. A reason for a difference that is not there is an error.
        batch: name of the batch.
        micro_batches: parts that the batch is split into, whose losses are summed as the framework's trainer does.
        note: a remark for readers where there is no formula.
        fails: checks of the kit that fail on generated batches for that reason; a row with a reason but none of these is
            no candidate.
    """

    framework: str
    call: str
    settings: dict[str, Any] = field(default_factory=dict)
    formula: str = ""
    reason: str = ""
    batch: str = "small"
    micro_batches: int = 1
    note: str = ""
    fails: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the setting is written: unique in its framework."""
        inside = ", ".join(f"{k}={v!r}" for k, v in self.settings.items())
        tail = f" on {self.batch}" if self.batch != "small" else ""
        parts = f" in {self.micro_batches} micro-batches" if self.micro_batches > 1 else ""
        return f"{self.call}({inside}){parts}{tail}"


WRONG = ("value", "gradient", "on_policy")  # what fails where a formula is another one altogether


def _row(
    framework: str,
    call: str,
    formula: str = "",
    reason: str = "",
    *,
    on: str = "small",
    parts: int = 1,
    note: str = "",
    fails: tuple[str, ...] = (),
    **settings: Any,
) -> Row:
    """A row with the framework's settings as keywords."""
    return Row(framework, call, settings, formula, reason, on, parts, note, fails)


trl, verl = partial(_row, "trl"), partial(_row, "verl")
