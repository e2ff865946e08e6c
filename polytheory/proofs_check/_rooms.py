"""One way to call both rooms: NumPy arrays in, NumPy arrays out, `[n, ...]` over replicas."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from polytheory.errors import SettingError
from polytheory.proofs_check._mutants import load
from polytheory.proofs_check.claims import Break, Setting

MAX_STEPS = 1_000_000  # of a run until done: reached only by a method that never certifies


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """What a run left behind.

    Fields: ``state`` final fields by name, arrays [n, ...]; ``history`` info by name, arrays [steps, n]; ``policies``
    one per replica in the reference, one batched in the scaled room; ``raw`` the state objects; ``episodes`` and
    ``transitions`` totals over replicas.
    """

    state: dict[str, np.ndarray]
    history: dict[str, np.ndarray]
    policies: list[Any]
    raw: list[Any]
    steps: int
    episodes: int
    transitions: int


class Room:
    """The reference or the scaled version of a method, possibly with one break in it.

    Attributes: ``name`` "reference" or "scaled"; ``parts`` the named parts, called with NumPy arrays in both rooms.
    """

    def __init__(self, name: str, family: str, method: str, broken: Break | None = None):
        self.name, self.family, self.method = name, family, method
        self.module: ModuleType = load(name, family, method, broken)
        self._settings = broken.fields if isinstance(broken, Setting) else {}
        self.parts = _Parts(self)
        self._found: dict[str, Any] = {}  # parts by name: looking for one goes through all loaded modules

    def part(self, name: str) -> Any:
        """The object of that name in the method's module or a sibling, as it is (no conversion)."""
        if name not in self._found:
            self._found[name] = self._find(name)
        return self._found[name]

    def _find(self, name: str) -> Any:
        siblings = self.module.__dict__.get("__siblings__")
        if siblings is None:
            package = f"polytheory.{self.name}.{self.family}."
            siblings = {n: m for n, m in sys.modules.items() if n.startswith(package)}
        for module in (self.module, *(siblings[n] for n in sorted(siblings))):
            if hasattr(module, name):
                return getattr(module, name)
        raise SettingError(f"the {self.name} room of {self.method} has no part {name!r}")

    def call(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``f`` with arrays converted to the room's kind, and its result back to NumPy."""
        out = f(*self.inward(args), **self.inward(kwargs))
        return outward(out)

    def inward(self, x: Any) -> Any:
        """NumPy arrays as torch tensors in the scaled room; containers and `Trajectories` entry by entry."""
        return x if self.name == "reference" else _convert(x, _to_torch)

    def batch(self, x: Any) -> np.ndarray:
        """One parameter vector as this room keeps it: [d] in the reference, [1, d] in the scaled room."""
        x = np.asarray(x)
        return x if self.name == "reference" else x[None]

    def make(self, algorithm: str, **settings: Any) -> Any:
        """The algorithm of that class name in this room, with the break's hyper-parameters put in where they exist."""
        cls = self.part(algorithm)
        known = {f.name for f in dataclasses.fields(cls)}
        override = {k: v for k, v in self._settings.items() if k in known}
        if self._settings and not override:
            raise SettingError(f"{algorithm} has no hyper-parameter among {sorted(self._settings)}")
        return cls(**{**settings, **override})

    def run(
        self, algorithm: str, access: Any, *, steps: int | None = None, n: int = 1, seed: int = 0, **settings: Any
    ) -> Trace:
        """Run n replicas for ``steps`` steps (None: until done); the access is copied with its meter at zero."""
        made = self.make(algorithm, **settings)
        if self.name == "reference":
            return _joined([_drive(made, access.fresh(), steps, seed, replica=i) for i in range(n)])
        return _joined([_drive(made, access.replicate(n), steps, seed, replica=None)])


class _Parts:
    def __init__(self, room: Room):
        self._room = room

    def __getattr__(self, name: str) -> Callable[..., Any]:
        part = self._room.part(name)
        return lambda *args, **kwargs: self._room.call(part, *args, **kwargs)


def _drive(made: Any, access: Any, steps: int | None, seed: int, replica: int | None) -> tuple[Any, ...]:
    state = made.init(access, seed) if replica is None else made.init(access, seed, replica)
    infos: list[Mapping[str, Any]] = []
    limit = MAX_STEPS if steps is None else steps
    while len(infos) < limit and not (steps is None and made.done(state)):
        state, info = made.step(state, access)
        infos.append({k: outward(v) for k, v in info.items()})
    return state, infos, made.policy(state), access, 1 if replica is not None else access.replicas


def _joined(runs: list[tuple[Any, ...]]) -> Trace:
    states = [_fields(state, n) for state, _, _, _, n in runs]
    common = [name for name in states[0] if all(name in s for s in states)]
    state = {}
    for name in common:
        parts = [s[name] for s in states]
        if len({p.shape[1:] for p in parts}) == 1:
            state[name] = np.concatenate(parts)
    steps = max(len(infos) for _, infos, _, _, _ in runs)
    names = runs[0][1][0].keys() if steps else ()
    history = {}
    for name in names:
        rows = [[_lead(info[name], n) for info in infos] for _, infos, _, _, n in runs]
        if all(np.ndim(x) == 1 for row in rows for x in row) and len({len(row) for row in rows}) == 1:
            history[name] = np.concatenate([np.stack(row) for row in rows], axis=1)
    total = {k: sum(access.meter.total(k) for _, _, _, access, _ in runs) for k in ("episodes", "transitions")}
    return Trace(state, history, [p for _, _, p, _, _ in runs], [s for s, _, _, _, _ in runs], steps, **total)


def _fields(state: Any, n: int) -> dict[str, np.ndarray]:
    """Array and number fields of a state as [n, ...]; a reference state (n = 1) gets a leading axis."""
    out = {}
    for f in dataclasses.fields(state):
        value = getattr(state, f.name)
        if isinstance(value, (bool, int, float, np.number)):
            out[f.name] = np.full(n, value)
        elif isinstance(value, np.ndarray):
            out[f.name] = value[None]
        elif _is_tensor(value):
            out[f.name] = outward(value) if value.ndim else np.full(n, outward(value))
    return out


def _lead(x: Any, n: int) -> np.ndarray:
    x = np.asarray(x)
    return np.full(n, x) if x.ndim == 0 else x


def _is_tensor(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def outward(x: Any) -> Any:
    """Torch tensors as NumPy arrays, inside containers and dataclasses too."""
    return _convert(x, lambda t: t.detach().cpu().numpy() if _is_tensor(t) else t)


def _to_torch(x: Any) -> Any:
    import torch
    from scipy import sparse

    if sparse.issparse(x):
        ends, columns = (torch.from_numpy(np.array(part, dtype=np.int64)) for part in (x.indptr, x.indices))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch announces that its CSR support is in beta
            return torch.sparse_csr_tensor(ends, columns, torch.from_numpy(np.array(x.data)), size=x.shape)
    return torch.from_numpy(np.array(x)) if isinstance(x, np.ndarray) and x.dtype != object else x


def _convert(x: Any, leaf: Callable[[Any], Any]) -> Any:
    from polytheory.trajectories import Trajectories

    if isinstance(x, Trajectories):
        return Trajectories(**{f.name: _convert(getattr(x, f.name), leaf) for f in dataclasses.fields(x)})
    if type(x) in (tuple, list):
        return type(x)(_convert(y, leaf) for y in x)
    if type(x) is dict:
        return {k: _convert(v, leaf) for k, v in x.items()}
    return leaf(x)
