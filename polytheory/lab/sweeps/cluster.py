"""Jobs on the workers of a Ray cluster, which all see the folder."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from polytheory.errors import RunError, require
from polytheory.lab.sweeps.cells import Job
from polytheory.lab.sweeps.remains import died, leftover
from polytheory.lab.sweeps.work import Failure, perform


def on_ray(
    jobs: Sequence[Job], folder: Path, workers: int | None, ended: Callable[[], None]
) -> dict[int, list[Failure]]:
    """The failures of each job, by its number; ``ended`` is called as each ends.

    The cluster is the one that RAY_ADDRESS names, or a local one that ends with the sweep. A worker that dies takes along its
    own job only, which is tried once more.

    Raises `RunError` when the cluster itself is lost.
    """
    ray = require("ray", "ray")
    lost = (require("ray.exceptions", "ray").RaySystemError, ConnectionError)
    folder, ours = folder.resolve(), not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, include_dashboard=False) if "RAY_ADDRESS" not in os.environ else ray.init()
    try:
        return _Tasks(ray, jobs, folder, ended).all(workers or 2 * int(ray.cluster_resources().get("CPU", 1)))
    except lost as error:
        why = str(error).strip().partition("\n")[0]
        raise RunError(
            f"the Ray cluster is lost: {why}; what was finished is kept, the same sweep again goes on"
        ) from error
    finally:
        if ours:
            ray.shutdown()


class _Tasks:
    """Jobs and retries that wait, and those that run."""

    def __init__(self, ray: Any, jobs: Sequence[Job], folder: Path, ended: Callable[[], None]):
        self.ray, self.folder, self.ended = ray, folder, ended
        self.waiting = deque((i, job, False) for i, job in enumerate(jobs))  # the last: whether it is a second try
        self.open = dict.fromkeys(range(len(jobs)), 1)  # tasks that have to end before a job has
        self.failures: dict[int, list[Failure]] = {i: [] for i in self.open}

    def all(self, at_once: int) -> dict[int, list[Failure]]:
        """Run everything, so many tasks at once."""
        task, running = self.ray.remote(max_retries=0)(perform), {}
        while self.waiting or running:
            while self.waiting and len(running) < at_once:
                i, job, second = self.waiting.popleft()
                running[task.remote(job, self.folder)] = i, job, second
            ready, _ = self.ray.wait(list(running), num_returns=1)
            self._take(ready[0], *running.pop(ready[0]))
        return self.failures

    def _take(self, reference: Any, i: int, job: Job, second: bool) -> None:
        try:
            self.failures[i] += self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # the worker could not even begin
            self.failures[i].append(Failure(job, " ".join(str(error.cause or error).split())))
        except self.ray.exceptions.RayError as error:
            if isinstance(error, self.ray.exceptions.RaySystemError):
                raise
            if second:
                self.failures[i].append(died(job, self.folder, error))
            else:
                again = leftover(job, self.folder)
                self.waiting.extend((i, part, True) for part in again)
                self.open[i] += len(again)
        self.open[i] -= 1
        if not self.open[i]:
            self.ended()
