"""Live progress of many jobs on stderr: bars on a terminal, a plain line now and then when piped."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

_EVERY = 5.0  # seconds between plain lines


class JobProgress:
    """Counts the finished jobs of each method; a context manager. Call it with each job that ended."""

    def __init__(self, jobs: Sequence[Any], what: str):
        self.total, self.done, self.what = Counter(job.method for job in jobs), Counter(), what
        self._start = self._last = time.monotonic()
        self._bars: Any = None
        self._ids: dict[str, Any] = {}

    def __enter__(self) -> JobProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._ids = {method: self._bars.add_task(method, total=n) for method, n in self.total.items()}
            self._bars.start()
        else:
            self._say(f"{self.what} {', '.join(self.total)}: {self.total.total()} jobs")
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, job: Any) -> None:
        """One more job has ended."""
        self.done[job.method] += 1
        if self._bars is not None:
            self._bars.advance(self._ids[job.method])
            return
        now = time.monotonic()
        finished = self.done[job.method] == self.total[job.method]
        if finished or now - self._last >= _EVERY:
            self._last = now
            label = f"{job.method} done" if finished else self.what
            self._say(f"{label}: {self.done.total()}/{self.total.total()} jobs, {now - self._start:.0f} s")

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
