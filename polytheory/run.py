"""The driver: owns the loop, the budget, checkpoints, history and progress of any algorithm on any access."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from polytheory import checkpoints
from polytheory._show import compact
from polytheory._trees import layout, pack, unpack
from polytheory.access import Grant, Meter, check_grants
from polytheory.algorithm import Algorithm, Info
from polytheory.checkpoints import Checkpoint, Every
from polytheory.errors import CheckpointError, OutOfMemoryError, RunError, SettingError, StorageError, is_out_of_memory
from polytheory.history import History, HistoryFile
from polytheory.processes import ALONE, Alone
from polytheory.progress import Progress
from polytheory.streams import subseed

Callback = Callable[[Any, Info, int], Any]
"""``callback(state, info, step)`` after each step, with the step counted from 0.

``info`` is what the history keeps of the step. Returning True stops the run.
"""

Watcher = Callable[[Any, Info, int], Mapping[str, Any] | None]
"""``watcher(state, info, step)`` after each step; what it returns is added to ``info`` and to the history."""


class Status(StrEnum):
    """Why a run ended."""

    DONE = "done"  # the algorithm certified its result
    STEPS = "steps"  # the budget of steps is spent
    EPISODES = "episodes"  # the budget of episodes is spent
    CALLBACK = "callback"  # a callback returned True
    INTERRUPTED = "interrupted"  # Ctrl-C


@dataclass(frozen=True, eq=False)
class Run:
    """What a run leaves behind.

    Fields:
        state: the algorithm's last state.
        policy: the policy that the guarantee speaks of: a `Policy`, or what else the access plays.
        history: everything that the steps reported, and ``meter/episodes``, ``meter/transitions``, ``meter/backups``.
        meter: what was asked of the access, [replicas] each.
        status: why the run ended.
        steps: steps completed, counted from 0 also after a resume.
    """

    state: Any
    policy: Any
    history: History
    meter: Meter
    status: Status
    steps: int

    __repr__ = compact


def run(
    algorithm: Algorithm,
    access: Any,
    *,
    steps: int | None = None,
    episodes: int | None = None,
    callbacks: Sequence[Callback] = (),
    watchers: Sequence[Watcher] = (),
    seed: int = 0,
    replica: int = 0,
    checkpoint: str | Path | None = None,
    every: str | int = "30s",
    resume: bool | str | Path | None = None,
    history: bool = True,
    progress: bool | None = None,
) -> Run:
    """Drive an algorithm until it is done, a budget is spent, a callback stops it, or Ctrl-C.

    Ctrl-C finishes the step, saves and returns; a second one interrupts at once. With torch loaded, its global
    generator is re-keyed from (seed, step) before each step, so that dropout and the like are the same after a resume.

    Args:
        algorithm: what to run; its requirements are checked against the access before anything else.
        access: what it may ask.
        steps: total number of steps, counted from 0 also after a resume.
        episodes: no step starts once any replica has used this many episodes since step 0.
        callbacks: called after each step, see `Callback`.
        watchers: called before them, see `Watcher`.
        seed: of every random number.
        replica: which replica's random numbers an access of one replica uses.
        checkpoint: folder to save to; a run that finds its own checkpoint there continues from it.
        every: how often to save: "30s", "5m", "100 steps", or a number of steps. The end of the run is always saved.
        resume: None continues if ``checkpoint`` holds one; True insists on it; False insists on an empty folder; a path
            continues from that checkpoint.
        history: False keeps none, for long runs that a callback looks at.
        progress: None shows a bar on a terminal; True also prints plain lines when piped; False is silent.

    Raises:
        AccessError: the access does not grant what the algorithm requires.
        SettingError: nothing bounds the run, or an option is out of range.
        CheckpointError: the checkpoint is damaged, belongs to another run, or the state cannot be saved.
        RunError: the run cannot go on (`DivergedError`, `OutOfMemoryError`, `StorageError`, ...). What was saved stays, the
            message names it, and the history on disk goes up to the failure.
    """
    name = type(algorithm).__name__
    check_grants(algorithm.requires, access.grants, name, type(access).__name__)
    steps, episodes = _budget("steps", steps), _budget("episodes", episodes)
    ends = Grant.MODEL in algorithm.requires or getattr(algorithm, "ends", False)  # planners, and searches that say so
    if steps is None and episodes is None and not ends:
        raise SettingError(f"{name} learns and is never done by itself; pass steps=... or episodes=...")
    interval = Every.parse(every)
    identity = _identity(algorithm, access, seed, replica)

    _rekey(seed, "init", 0)
    state = algorithm.init(access, seed, replica) if replica else algorithm.init(access, seed)
    ranks: Alone = getattr(algorithm, "processes", ALONE)
    store = _Store(checkpoint, identity, layout({"state": state, "access": access}, ""), ranks)
    start = _Start.fresh(state, access)
    with ranks.together():
        found = _find(checkpoint, resume)
        if found is not None:
            found.check_identity(identity)
            start = _Start.resumed(found, state, access)
    if not ranks.same(start.step):
        raise CheckpointError(
            f"the processes find different checkpoints in {checkpoint}; it must be one folder for all"
        )
    with ranks.together():
        store.open(found, start.history)

    with (
        _held_back_interrupt() as interrupted,
        store.told(algorithm, start.history),
        Progress(name, steps, progress if ranks.first else False) as shown,
    ):
        step, state, status = _loop(
            algorithm,
            access,
            start,
            store,
            interval,
            steps,
            episodes,
            callbacks,
            watchers,
            seed,
            history,
            interrupted,
            shown,
        )
        store.save(step, state, access, start, status)
        shown.finish(step, status)
    return Run(state, algorithm.policy(state), start.history, access.meter, status, step)


def _loop(
    algorithm, access, start, store, interval, steps, episodes, callbacks, watchers, seed, history, interrupted, shown
):
    """Steps until something says stop; returns (steps completed, state, status)."""
    state, step, saved_at = start.state, start.step, time.monotonic()
    stopped = start.status == Status.CALLBACK and bool(callbacks)  # the same command again has nothing left to do
    while True:
        pressed, due, stopped = store.ranks.agree(
            bool(interrupted), step > start.step and _due(interval, step, saved_at), stopped
        )
        if algorithm.done(state):
            return step, state, Status.DONE
        if stopped:
            return step, state, Status.CALLBACK
        if steps is not None and step >= steps:
            return step, state, Status.STEPS
        if episodes is not None and int((access.meter.episodes - start.episodes_before).max()) >= episodes:
            return step, state, Status.EPISODES
        if pressed:
            return step, state, Status.INTERRUPTED
        if due:
            store.save(step, state, access, start, None)
            saved_at = time.monotonic()
        _rekey(seed, "step", step)
        state, info = algorithm.step(state, access)
        row = {**info, **{f"meter/{x}": getattr(access.meter, x) for x in _METERED}}
        try:
            for watcher in watchers:
                row |= watcher(state, row, step) or {}
            for callback in callbacks:  # each sees every step, also when an earlier one stops the run
                answer = callback(state, row, step)
                stopped |= isinstance(answer, bool | np.bool_) and bool(answer)
        finally:
            if history:
                start.history.log(step, row)
        step += 1
        shown.update(step)


_METERED = ("episodes", "transitions", "backups")


@dataclass(eq=False)
class _Start:
    """Where the loop begins."""

    step: int
    state: Any
    history: History
    episodes_before: np.ndarray
    status: str | None = None

    @classmethod
    def fresh(cls, state: Any, access: Any) -> _Start:
        return cls(0, state, History(access.meter.replicas), access.meter.episodes.copy())

    @classmethod
    def resumed(cls, found: Checkpoint, state: Any, access: Any) -> _Start:
        manifest = found.manifest
        history = HistoryFile(found.folder.parent).read(manifest["history"], access.meter.replicas)
        tree = unpack(found.packed, {"state": state, "access": access}, name="")
        before = np.array(manifest["episodes_before"], dtype=np.int64)
        return cls(manifest["step"], tree["state"], history, before, manifest["status"])


class _Store:
    """The checkpoint folder of a run; does nothing when there is none."""

    def __init__(self, folder: str | Path | None, identity: dict[str, Any], known: dict[str, type], ranks: Alone):
        self.folder = None if folder is None else Path(folder)
        self.ranks = ranks
        self.identity, self.known = identity, known
        self.saved_step = -1

    def open(self, found: Checkpoint | None, history: History) -> None:
        """Make the folder ready to go on from ``found``."""
        if self.folder is None:
            return
        own = found is not None and found.folder.parent.resolve() == self.folder.resolve()
        self.saved_step = found.manifest["step"] if found is not None and own else -1
        if not self.ranks.first:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = HistoryFile(self.folder)
            if found is not None and own:
                checkpoints.publish(self.folder, found.folder.name)
                self.file.adopt(found.manifest["history"], history)
            else:
                self.file.restart()
        except OSError as error:
            raise CheckpointError(f"cannot use {self.folder} for checkpoints: {error.strerror or error}") from error

    @contextmanager
    def told(self, algorithm: Any, history: History):
        """Failures inside write the history through to the disk, and say which checkpoint is kept."""
        try:
            yield
        except Exception as error:
            if self.folder is not None and self.ranks.first:
                with contextlib.suppress(StorageError):  # the first failure is the one to tell
                    self.file.append(history)
            if isinstance(error, RunError):
                raise type(error)(f"{error}; {self.kept()}") from error
            if is_out_of_memory(error):
                advice = getattr(algorithm, "memory_advice", "take smaller batches")
                what = str(error).strip().partition("\n")[0] or type(error).__name__
                raise OutOfMemoryError(f"out of memory: {what}; {advice}; {self.kept()}") from error
            raise

    def kept(self) -> str:
        """What of the run survives a failure."""
        if self.folder is None:
            return "nothing was saved, as no checkpoint folder was given"
        if self.saved_step < 0:
            return f"no step had been saved to {self.folder} yet"
        kept = self.folder / f"step-{self.saved_step:012d}"
        return f"kept: {kept}, from which the same call goes on (a changed setting needs a folder of its own)"

    def save(self, step: int, state: Any, access: Any, start: _Start, status: Status | None) -> None:
        """Save after ``step`` steps; ``status`` is None while the run goes on."""
        if self.folder is None or step == self.saved_step:
            return
        tree = {"state": state, "access": access}
        manifest = {"identity": self.identity, "status": status, "episodes_before": start.episodes_before.tolist()}
        with self.ranks.together():
            if self.ranks.first:
                manifest["history"] = self.file.append(start.history)
        with self.ranks.together():
            if self.ranks.first:
                checkpoints.save(self.folder, step, tree, manifest, self.known)
            else:
                pack(tree, known=self.known, name="")  # what is split over the processes is put together by all
        self.saved_step = step


def _find(checkpoint: str | Path | None, resume: bool | str | Path | None) -> Checkpoint | None:
    """The checkpoint to go on from, if any."""
    if isinstance(resume, str | Path):
        own = None if checkpoint is None else Path(checkpoint)
        inside = own is not None and own.resolve() in (Path(resume).resolve(), Path(resume).resolve().parent)
        if own is not None and not inside and checkpoints.holds_checkpoint(own):
            return checkpoints.load(own)  # this very command was killed before: its own progress comes first
        return checkpoints.load(Path(resume))
    if checkpoint is None:
        if resume is not None:
            raise SettingError(f"resume = {resume} says nothing without checkpoint=DIR; pass the folder as resume=DIR")
        return None
    folder = Path(checkpoint)
    if resume is False:
        if folder.exists() and any(folder.iterdir()):
            raise CheckpointError(f"{folder} is not empty, and resume=False starts afresh; use an empty folder")
        return None
    return checkpoints.load(folder) if resume or checkpoints.holds_checkpoint(folder) else None


def _identity(algorithm: Any, access: Any, seed: int, replica: int) -> dict[str, Any]:
    kind = type(algorithm)
    return {
        "algorithm": f"{kind.__module__}.{kind.__qualname__}",
        "setting": checkpoints.describe(algorithm),
        "world": {"access": type(access).__name__, "replicas": str(access.meter.replicas)}
        | checkpoints.describe(access.spec),
        "seed": seed,
        "replica": replica,
    }


def _budget(name: str, x: Any) -> int | None:
    if x is None:
        return None
    if isinstance(x, bool) or not isinstance(x, int | np.integer) or x < 0:
        raise SettingError(f"{name} = {x!r}; a budget is an integer >= 0, or None for no limit")
    return int(x)


def _due(interval: Every, step: int, saved_at: float) -> bool:
    if interval.steps is not None:
        return step % interval.steps == 0
    return interval.seconds is not None and time.monotonic() - saved_at >= interval.seconds


def _rekey(seed: int, purpose: str, step: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        key = subseed(seed, f"torch/{purpose}", step)
        # without an accelerator torch.manual_seed would file the seed for devices that never come, with a stack trace each
        (torch.manual_seed if torch.accelerator.is_available() else torch.default_generator.manual_seed)(key)


@contextmanager
def _held_back_interrupt():
    """Yields a list that stays empty until Ctrl-C; the second Ctrl-C acts as usual."""
    pressed: list[int] = []
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or usual in (None, signal.SIG_IGN):
        yield pressed
        return

    def hold(signum: int, frame: Any) -> None:
        pressed.append(signum)
        signal.signal(signal.SIGINT, usual)
        print("interrupted: finishing this step (once more to stop at once)", file=sys.stderr)

    signal.signal(signal.SIGINT, hold)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)
