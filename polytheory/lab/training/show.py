"""A training to look at: a live table on the terminal, and a page with curves and completions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from polytheory.lab.training.recipe import Recipe
from polytheory.lab.training.train import Trained

SHOWN = (
    ("reward", "reward", "{:.3f}"), ("length", "completions/mean_length", "{:.1f}"),
    ("no signal", "frac_reward_zero_std", "{:.0%}"), ("loss", "loss", "{:+.4f}"), ("gradient", "grad_norm", "{:.3f}"),
    ("mismatch", "mismatch/max", "{:.1e}"),
)  # fmt: skip
DESIGNED = (  # beside these, with a teacher
    ("true score", "true_score", "{:.3f}"), ("agreement", "upper/agreement", "{:.0%}"), ("kl", "kl", "{:.3f}"),
)  # fmt: skip
END = 40  # characters of a completion shown from either end
LINES = 12  # rows of the table: about as many steps are shown


def _brief(text: str) -> str:
    """A text in one line; of a long one its two ends, since answers tend to stand last."""
    line = " ".join(text.split())
    return line if len(line) <= 2 * END else f"{line[:END]} ... {line[-END:]}"


class Live:
    """Shows steps as rows of a table: redrawn on a terminal, about `LINES` plain lines in all when piped."""

    def __init__(self, recipe: Recipe, *, silent: bool = False):
        self.steps, self.silent = recipe.output.steps, silent
        self.shown = SHOWN + (DESIGNED if recipe.design.teacher else ())
        self.title = f"{recipe.method} on {recipe.problem.task or recipe.problem.data}"
        self._rows: list[tuple[str, ...]] = []
        self._live: Any = None

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()

    def say(self, text: str) -> None:
        """One line of news."""
        self._stop()
        if not self.silent:
            print(text, file=sys.stderr, flush=True)

    def step(self, state: Any, info: Mapping[str, Any], step: int) -> None:
        """A callback of `polytheory.run.run`."""
        if self.silent:
            return
        cells = tuple(form.format(float(info[name])) if name in info else "" for _, name, form in self.shown)
        self._rows.append((f"{step + 1}/{self.steps}", *cells))
        if sys.stderr.isatty():
            self._draw()
            return
        if len(self._rows) == 1:
            print(f"{'step':>8}" + "".join(f"{name:>11}" for name, *_ in self.shown), file=sys.stderr)
        if step % max(1, self.steps // LINES) == 0 or step + 1 == self.steps:
            print(f"{step + 1:>8}" + "".join(f"{cell:>11}" for cell in cells), file=sys.stderr, flush=True)

    def samples(self, trained: Trained) -> None:
        """The same prompts before and after."""
        from rich.console import Console
        from rich.table import Table

        table = Table("prompt", "before", "", "after", "", box=None, header_style="bold", title=None)
        for (prompt, old, was), (_, new, now) in zip(trained.before.samples, trained.after.samples, strict=True):
            table.add_row(_brief(prompt), _brief(old), f"{was:g}", _brief(new), f"{now:g}")
        Console(highlight=False, markup=False).print(table)

    def _draw(self) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive
        from rich.table import Table

        table = Table("step", *(name for name, *_ in self.shown), title=self.title, box=None, header_style="bold")
        for column in table.columns:
            column.justify = "right"
        every = max(1, len(self._rows) // LINES)
        kept = [row for i, row in enumerate(self._rows) if i % every == 0 or i == len(self._rows) - 1]
        for row in kept:
            table.add_row(*row)
        if self._live is None:
            self._live = RichLive(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        self._live.update(table, refresh=True)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
