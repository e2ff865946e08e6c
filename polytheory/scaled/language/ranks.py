"""Several processes that train one model: who takes which rows, and how columns, gradients and errors come together.

Started by ``torchrun`` or ``accelerate launch``, every process runs the same program. Groups of completions are dealt to the
processes and keep their global row ids, so that W processes draw the very completions that one process draws. What needs
the whole batch (advantages, filters, memories, counts) works on gathered columns, the same in every process; then each takes
the backward pass of its own micro-batches with the global counts, and gradients are summed. So loss and gradient are those
of one process, up to the order of sums.
"""

from __future__ import annotations

import builtins
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed

from polytheory import errors
from polytheory.errors import ProcessError, SettingError
from polytheory.processes import Alone

Columns = dict[str, Any]
Piece = TypeVar("Piece")


class Ranks(Alone):
    """The processes of a run as one of them sees them; with ``world`` 1 everything stays as it is.

    Fields: ``rank`` in [0, world); ``device`` of this process; ``sharded`` True where weights, gradients and optimiser state
    are split over the processes (FSDP2) instead of copied to each.
    """

    def __init__(self, rank: int = 0, world: int = 1, device: str = "cpu", *, sharded: bool = False):
        self.rank, self.world, self.device = rank, world, torch.device(device)
        self.sharded = sharded and world > 1

    def share(self, n: int) -> range:
        """Which of ``n`` units in a row are this process's own; the shares follow each other and differ by at most one."""
        return range(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def dealt(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, bool]]:
        """This process's pieces, dealt in turn, each with True; all processes get the same number.

        One that has too few takes the first piece of all with False: it goes through the same forward and backward passes,
        which sharded weights need, and must add nothing.
        """
        for i in range(self.rank, -(-len(pieces) // self.world) * self.world, self.world):
            yield (pieces[i], True) if i < len(pieces) else (pieces[0], False)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """Sum over the processes, in place."""
        if self.world > 1:
            self._collect(distributed.all_reduce, x)
        return x

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, True where it is True in any process."""
        if self.world == 1:
            return flags
        return tuple(x > 0 for x in self.sum(torch.tensor(flags, dtype=torch.int64, device=self.device)).tolist())

    def same(self, value: int) -> bool:
        """True when every process has this value."""
        if self.world == 1:
            return True
        return len(set(self._texts(str(value)))) == 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """All leave the block together, and an error inside one process is an error of all."""
        own = None
        try:
            yield
        except Exception as error:
            own = error
        if not self.agree(own is not None)[0]:
            return
        if own is None:
            raise _error(next(text for text in self._texts("") if text))
        if self.world > 1:
            self._texts(json.dumps([type(own).__name__, str(own)]))
        raise own

    def gather(self, columns: Columns, rows: range, n: int) -> Columns:
        """Columns of all ``n`` rows from those of every process's own ``rows``; 2-d columns are padded to one width.

        Prompts are padded on the left, as everywhere, the rest on the right.
        """
        if self.world == 1:
            return columns
        wide = [name for name, x in columns.items() if x.ndim == 2]
        widths = torch.tensor([columns[name].shape[1] for name in wide], device=self.device)
        self._collect(distributed.all_reduce, widths, op=distributed.ReduceOp.MAX)
        width = dict(zip(wide, widths.tolist(), strict=True))
        out = {}
        for name, x in columns.items():
            x = padded(x, width[name], left=name.startswith("prompt")) if name in width else x
            whole = torch.zeros(
                n, *x.shape[1:], dtype=torch.uint8 if x.dtype == torch.bool else x.dtype, device=x.device
            )
            whole[rows.start : rows.stop] = x[: len(rows)]
            out[name] = self.sum(whole).to(x.dtype)
        return out

    @contextmanager
    def counted(self, meter: Any, counts: bool = True) -> Iterator[None]:
        """What the processes ask inside counts once for all of them; ``counts`` False where this one only keeps pace."""
        before = meter.state_dict()
        yield
        if self.world > 1:
            after = meter.state_dict()
            more = np.stack([(after[name] - x) * counts for name, x in before.items()])
            added = self.sum(torch.as_tensor(more, device=self.device)).cpu().numpy()
            meter.load_state_dict({name: x + y for (name, x), y in zip(before.items(), added, strict=True)})

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Add up the gradients of all processes; those of sharded weights were added up as they were made.

        A parameter without a gradient in every process keeps none, so that an optimiser leaves it alone as it would in one
        process.
        """
        own = [p for p in parameters if p.requires_grad and not hasattr(p, "full_tensor")]
        if self.world == 1 or not own:
            return
        have = self.sum(torch.tensor([p.grad is not None for p in own], dtype=torch.int64, device=self.device))
        for p, n in zip(own, have.tolist(), strict=True):
            if n:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                self.sum(p.grad)

    def leave(self) -> None:
        """Wait for the others and end the process group; the program goes on alone."""
        global _RANKS
        _RANKS = None
        if self.world > 1:
            self._collect(distributed.barrier)
            distributed.destroy_process_group()

    def _texts(self, own: str) -> list[str]:
        """What every process said; bytes travel, never objects."""
        said = own.encode()
        lengths = torch.zeros(self.world, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(said)
        width = int(self.sum(lengths).max())
        rows = torch.zeros(self.world, width, dtype=torch.uint8, device=self.device)
        rows[self.rank, : len(said)] = torch.tensor(list(said), dtype=torch.uint8)
        whole = self.sum(rows).cpu().numpy()
        return [row[:n].tobytes().decode() for row, n in zip(whole, lengths.tolist(), strict=True)]

    def _collect(self, operation: Any, *args: Any, **options: Any) -> None:
        with heard(self):
            operation(*args, **options)


_RANKS: Ranks | None = None


def join(device: str = "", *, shard: bool = False) -> Ranks:
    """Meet the other processes that a launcher started with this one; the second call changes nothing.

    Args:
        device: "cpu", "cuda", or "" for a GPU where there is one; a process takes the GPU of its local rank.
        shard: split the weights (FSDP2); ``accelerate launch --use_fsdp`` asks for it too.

    Raises `SettingError` for plugins of accelerate that are not followed here.
    """
    global _RANKS
    if _RANKS is not None:
        return _RANKS
    env, cuda = os.environ, device.startswith("cuda") or (not device and torch.cuda.is_available())
    world = int(env.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks(device=device or ("cuda" if cuda else "cpu"))
    for name, text in _REFUSED.items():
        if env.get(name, "false").lower() not in ("false", "no", "0", ""):
            raise SettingError(f"{name} = {env[name]}; {text}")
    fsdp = env.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")
    if fsdp and env.get("FSDP_VERSION", "1") != "2":
        raise SettingError(
            f"fsdp_version = {env.get('FSDP_VERSION', '1')}; weights are sharded with version 2 only, set it to 2"
        )
    place = f"cuda:{int(env.get('LOCAL_RANK', '0'))}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(place)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")
    _RANKS = Ranks(distributed.get_rank(), world, place, sharded=shard or fsdp)
    return _RANKS


_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "weights are split with FSDP2 here: launch with --use_fsdp --fsdp_version 2, or without both",
    "ACCELERATE_USE_MEGATRON_LM": "weights are split with FSDP2 here: launch with --use_fsdp --fsdp_version 2",
    "ACCELERATE_MIXED_PRECISION": "the recipe says the precision: launch with --mixed_precision no and set dtype = 'bfloat16'",
}


def current() -> Ranks:
    """The processes that `join` met, or this one alone.

    Raises `SettingError` when a launcher started several and they did not join: each would train a model of its own.
    """
    if _RANKS is not None:
        return _RANKS
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and "LOCAL_RANK" in os.environ:
        raise SettingError(
            f"this is one of {world} processes that do not know each other; call polytheory.scaled.language.ranks.join() first"
        )
    return Ranks()


def speaks(text: str) -> bool:
    """True in the first process that asks with this text: the one to print an error that several have."""
    if not distributed.is_initialized():
        return os.environ.get("RANK", "0") == "0" or "LOCAL_RANK" not in os.environ
    try:
        return distributed.distributed_c10d._get_default_store().add(f"polytheory/said/{text}", 1) == 1
    except RuntimeError:  # whoever held the store is gone
        return True


@contextmanager
def heard(ranks: Ranks) -> Iterator[None]:
    """The end of another process, which breaks whatever waits for it, as one `ProcessError`."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if ranks.world > 1 and any(word in text for word in ("gloo", "NCCL", "Connection", "Timed out", "timed out")):
            what = text.strip().partition("\n")[0][:200]
            raise ProcessError(
                f"another of the {ranks.world} processes has stopped, its message says why ({what})"
            ) from error
        raise


def padded(x: torch.Tensor, width: int, *, left: bool) -> torch.Tensor:
    """Columns [n, w] as [n, width], zeros before or behind."""
    more = width - x.shape[1]
    return torch.nn.functional.pad(x, (more, 0) if left else (0, more)) if more else x


def _error(said: str) -> Exception:
    """The error of another process: one of Python's or ours with its text, else a `ProcessError` that names it."""
    name, text = json.loads(said)
    kind = getattr(errors, name, None) or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        error = kind.__new__(kind, text)  # some of ours are made from other arguments than their text
        if str(error) == text:
            return error
    return ProcessError(f"another process stopped: {name}: {text}")
