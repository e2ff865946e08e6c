"""Small jobs on a few worker processes, each on one thread."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def each(work: Callable[..., Any], jobs: Sequence[tuple], workers: int) -> Iterator[tuple[int, Any]]:
    """``(i, work(*jobs[i]))`` as they end, started in the order given; ``work`` is a module-level function.

    A worker that dies (out of memory, say) yields the error as the result of the jobs it took along, instead of a
    result. One worker means this process: nothing is started.
    """
    if workers == 1 or len(jobs) <= 1:
        _one_thread()  # elsewhere the libraries read it from the environment as they load
        for i, job in enumerate(jobs):
            yield i, work(*job)
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read by the numerical libraries of the workers as they load
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=_start)
    try:
        pending = {pool.submit(work, *job): i for i, job in enumerate(jobs)}
        while pending:
            ended, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in ended:
                i = pending.pop(future)
                try:
                    yield i, future.result()
                except BrokenProcessPool as error:
                    yield i, error
    finally:
        _stop(pool)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def complete(
    work: Callable[..., Any],
    jobs: dict[str, tuple],
    path: Path,
    about: dict[str, Any],
    workers: int,
    fresh: bool = False,
) -> dict[str, Any]:
    """Results by key, for figures that take minutes: what the JSON file at ``path`` has already is not run again.

    Args:
        work, workers: as for `each`; results must be JSON values.
        jobs: arguments of each result.
        path: written after every result, whole or not at all. about: settings that are the same for all; a file with others
            counts for nothing.
        fresh: run everything again.
    """
    from polytheory.lab.records import write_atomically  # not at the top: workers import this module

    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not fresh else {}
    done = {k: x for k, x in kept.get("cells", {}).items() if k in jobs} if kept.get("about") == about else {}
    missing = [key for key in jobs if key not in done]
    for i, found in each(work, [jobs[key] for key in missing], workers):
        if isinstance(found, Exception):
            raise found
        done[missing[i]] = found
        print(missing[i], flush=True)
        text = json.dumps({"about": about, "cells": {key: done[key] for key in jobs if key in done}}, indent=1)
        write_atomically(path, text + "\n")
    return {key: done[key] for key in jobs}


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # the parent was killed: nobody waits for results


def _one_thread() -> None:
    # two torch threads on two shared cores are far slower than one; without torch there is nothing to set
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    interrupted = sys.exc_info()[0] is not None
    running = list((pool._processes or {}).values())
    pool.shutdown(wait=not interrupted, cancel_futures=True)
    if interrupted:
        for process in running:
            process.terminate()
