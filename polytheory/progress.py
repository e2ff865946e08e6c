"""How far a run is: a bar on a terminal, a plain line now and then when piped."""

from __future__ import annotations

import sys
import time
from typing import Any

_BAR_AFTER, _BAR_EVERY, _LINE_EVERY = 0.5, 0.1, 10.0  # seconds


class Progress:
    """Shows steps on stderr.

    Args:
        label: name of what runs.
        total: steps to go in all, or None when unknown.
        show: None shows a bar on a terminal and nothing elsewhere; True also prints plain lines where there is no
            terminal; False is silent.
        unit: what is counted.
    """

    def __init__(self, label: str, total: int | None, show: bool | None, *, unit: str = "step"):
        self.label, self.total, self.unit = label, total, unit
        terminal = sys.stderr.isatty()
        self._mode = "silent" if show is False or (show is None and not terminal) else "bar" if terminal else "lines"
        self._start = time.monotonic()
        self._next = self._start + (_BAR_AFTER if self._mode == "bar" else _LINE_EVERY)
        self._bar: Any = None

    def update(self, step: int) -> None:
        """Report that ``step`` steps are done; cheap enough to call after each."""
        if self._mode == "silent":
            return
        now = time.monotonic()
        if now < self._next:
            return
        if self._mode == "bar":
            self._next = now + _BAR_EVERY
            self._draw(step)
        else:
            self._next = now + _LINE_EVERY
            self._line(step, now, self._left(step, now))

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:  # also after an error: the bar has a thread and hides the cursor
            self._bar[0].stop()

    def finish(self, step: int, status: str) -> None:
        """Show the last step: the bar where it ended, or the last line."""
        if self._bar is not None:
            self._draw(step)
        elif self._mode == "lines":
            self._line(step, time.monotonic(), f", ended: {status}")

    def _line(self, step: int, now: float, more: str = "") -> None:
        of = "" if self.total is None else f"/{self.total}"
        print(f"{self.label}: {self.unit} {step}{of}, {now - self._start:.1f} s{more}", file=sys.stderr, flush=True)

    def _left(self, step: int, now: float) -> str:
        if self.total is None or not step:
            return ""
        return f", about {(now - self._start) * (self.total - step) / step:.0f} s left"

    def _draw(self, step: int) -> None:
        if self._bar is None:  # most runs end before a bar is worth drawing
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            bar = Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            self._bar = (bar, bar.add_task(self.label, total=self.total))
            bar.start()
        bar, task = self._bar
        bar.update(task, completed=step)
