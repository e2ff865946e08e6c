"""Other places that show a run while it goes: TensorBoard, Weights & Biases, trackio.

Each gets the rows of the history, number for number (TensorBoard keeps float32). A file beside the checkpoints remembers how
far each has come: a run that was killed goes on in the same place, no step stands there twice, and none is missing.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polytheory.errors import SettingError, UnknownNameError, require
from polytheory.history import History
from polytheory.lab.training.monitors import past

MARKS = "reports.json"
WHOLE = "whole"  # beside the files of an offline process that came to its end
EXTRA = "loggers"


class TensorBoard:
    """Event files under ``<output>/tensorboard``, float32, written through after every step."""

    def __init__(self, folder: Path, name: str, run_id: str, config: Mapping[str, Any]):
        require("tensorboard", EXTRA)
        self._writer_of = require("torch.utils.tensorboard", "scaled").SummaryWriter
        self.place, self.config = folder / "tensorboard", config
        self.writer: Any = None

    def open(self, following: int, since: int) -> int:
        """Steps from ``following`` on are sent; those that stand there already do not count any more."""
        self.writer = self._writer_of(str(self.place), purge_step=following)
        if not following:
            rows = "\n".join(f"| {key} | {value} |" for key, value in self.config.items())
            self.writer.add_text("recipe", f"| key | value |\n| --- | --- |\n{rows}", 0)
        return following

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One step."""
        for name, x in values.items():
            self.writer.add_scalar(name, x, step)  # its fast server shows no other kind
        self.writer.flush()

    def close(self, failed: bool) -> None:
        """The end."""
        if self.writer is not None:
            self.writer.close()


class Wandb:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it under ``<output>/wandb`` for `wandb sync`, without a network.

    WANDB_PROJECT and WANDB_ENTITY say where it belongs, by default the project "polytheory".
    """

    def __init__(self, folder: Path, name: str, run_id: str, config: Mapping[str, Any]):
        wandb = require("wandb", EXTRA)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "polytheory"), name=name, id=run_id, resume="allow", dir=str(folder),
                config=dict(config),
            )  # fmt: skip
        except Exception as error:  # no account, no network, a run deleted there: wandb has many errors of its own
            raise SettingError(
                f"report_to = wandb: {_first_line(error)}; run `wandb login`, or set WANDB_MODE=offline"
            ) from error

    def open(self, following: int, since: int) -> int:
        """Its server knows where to go on. Offline, the last steps of a killed process may be lost: what it wrote is put
        aside, and all of it is sent again."""
        if not self.run.offline:
            return self.run.starting_step if self.run.resumed else following
        if since < following:
            mine = Path(self.run.sync_dir).resolve()
            for other in sorted(mine.parent.glob(f"offline-run-*-{self.run.id}")):
                if other != mine and not (other / WHOLE).exists():
                    other.rename(other.with_name(f"killed-{other.name}"))
        return since

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One step, sent at once."""
        self.run.log(dict(values), step=step, commit=True)

    def close(self, failed: bool) -> None:
        """The end, with the exit code."""
        offline, place = self.run.offline, Path(self.run.sync_dir)
        self.run.finish(exit_code=int(failed))
        if offline:
            (place / WHOLE).touch()


class Trackio:
    """A run of trackio; it stays on this machine unless TRACKIO_SPACE_ID says otherwise. TRACKIO_PROJECT names its project,
    by default "polytheory"."""

    def __init__(self, folder: Path, name: str, run_id: str, config: Mapping[str, Any]):
        trackio = require("trackio", EXTRA)
        try:
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "polytheory"), name=f"{name}-{run_id}", resume="allow",
                config=dict(config), embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
        except Exception as error:  # whatever its storage or a space raises
            raise SettingError(f"report_to = trackio: {_first_line(error)}") from error

    def open(self, following: int, since: int) -> int:
        """Its own data say where to go on, where they are on this machine."""
        if since == following or os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
            return following
        storage = require("trackio.sqlite_storage", EXTRA).SQLiteStorage
        last = storage.get_max_step_for_run(self.run.project, self.run.name)
        return 0 if last is None else last + 1

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One step; trackio writes twice a second, which a kill may cut short."""
        self.run.log(dict(values), step=step)

    def close(self, failed: bool) -> None:
        """Wait for what is still to be written."""
        self.run.finish()


REPORTERS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": Wandb, "trackio": Trackio}


class Reports:
    """Several reporters as one watcher of `polytheory.run.run`; a context manager that closes them.

    Args:
        names: of `REPORTERS`, each once.
        folder: of the training; needed where names are given. Its last part names the run.
        config: shown beside the numbers.

    Raises `UnknownNameError`, `MissingExtraError`, `SettingError` before any work.
    """

    def __init__(self, names: Sequence[str], folder: Path | None, config: Mapping[str, Any]):
        for name in names:
            if name not in REPORTERS:
                raise UnknownNameError("place to report_to", name, REPORTERS)
        if names and folder is None:
            raise SettingError(f"report_to = {', '.join(names)} needs a folder for the run; give output")
        self.reporters: dict[str, Any] = {}
        self._begun = False
        if folder is None or not names:
            return
        self.folder = folder
        config = {key: value if isinstance(value, int | float | str) else str(value) for key, value in config.items()}
        # the first step that a place lacks, and that of the process which was last there, while it is there
        self.marks: dict[str, Any] = {"id": uuid.uuid4().hex[:8], "next": {}, "since": {}}
        if (folder / MARKS).exists():
            self.marks = json.loads((folder / MARKS).read_text(encoding="utf-8"))
        for name in dict.fromkeys(names):
            self.reporters[name] = REPORTERS[name](folder, folder.name or "run", self.marks["id"], config)

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, kind: Any, *exc_info: object) -> None:
        for name, reporter in self.reporters.items():
            reporter.close(kind is not None)
            self.marks["since"].pop(name, None)
        if self._begun:
            self._keep()

    def __call__(self, state: Any, info: Mapping[str, Any], step: int) -> None:
        """A watcher: the row that the history gets."""
        if not self.reporters:
            return
        if not self._begun:
            self._begin(step)
        history = History()
        history.log(step, info)
        self._send(step, {name: x for _, _, name, x in history.rows()}, self.reporters)

    def _begin(self, first: int) -> None:
        """Open every place, and send it what it lacks of the steps before this process."""
        self._begun = True
        following, since = self.marks["next"], self.marks["since"]
        for name, reporter in self.reporters.items():
            known = following.setdefault(name, 0)
            following[name] = since[name] = reporter.open(known, since.get(name, known))
        for step, values in past(self.folder / "checkpoints", first):
            self._send(step, values, self.reporters)

    def _send(self, step: int, values: Mapping[str, float | None], to: Mapping[str, Any]) -> None:
        finite = {name: x for name, x in values.items() if x is not None and math.isfinite(x)}
        for name, reporter in to.items():
            if step >= self.marks["next"][name]:
                reporter.log(step, finite)
                self.marks["next"][name] = step + 1
        self._keep()

    def _keep(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temp = self.folder / f"{MARKS}.tmp"
        temp.write_text(json.dumps(self.marks), encoding="utf-8")
        os.replace(temp, self.folder / MARKS)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
