"""What a dying process leaves of a job, and how a death is told."""

from __future__ import annotations

import re
from pathlib import Path

from polytheory.lab.sweeps.cells import Job, missing
from polytheory.lab.sweeps.folder import look, note
from polytheory.lab.sweeps.work import Failure


def leftover(job: Job, folder: Path) -> list[Job]:
    """The pieces of a job that are not on file, to be tried one by one: the one that kills takes no other along."""
    done = look(folder, job.cell.key).seeds(job.cell.key)
    return [piece for part in missing(job.cell, job.seeds, done) for piece in part.pieces]


def died(job: Job, folder: Path, error: BaseException) -> Failure:
    """A job whose process died twice, with what is known of the death."""
    text = " ".join(str(error).split())
    codes = re.search(r"exit codes of the workers are \{(.*?)\}", text)
    how = codes.group(1) if codes else text.partition(".")[0]
    hint = "; out of memory?" if "SIGKILL" in how or "OutOfMemory" in type(error).__name__ else ""
    why = f"its process died twice: {how or type(error).__name__}{hint}"
    return Failure(job, why, note(folder, job, f"{why}\n\n{type(error).__name__}: {error}\n"))
