"""Parts that read better in a form of their own than as columns of what went in and came out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polytheory.lab.tracing.recorder import Call
from polytheory.lab.tracing.tables import INLINE, Rows, number, vector

View = Callable[[Call], list[Rows] | None]
"""Rows to show in place of a call and all below it; None where the call does not have what it needs."""


def backup(call: Call) -> list[Rows] | None:
    """One Bellman backup: every row of P with the values it meets, to be added up by hand."""
    P, r, v, gamma, q = (call[name] for name in ("P", "r", "v", "gamma", "q_values"))
    P = np.reshape(P, (*r.shape, len(v)))
    axes = ("S", "A")[: r.ndim]
    columns = {"r + gamma * sum of P v": _each(r.shape, lambda at: _formula(r[at], gamma, P[at], v)), "q": q}
    if r.ndim == 2:
        columns["greedy"] = _stars(q)
    return [Rows(axes, columns, q != 0)]


def robust_backup(call: Call) -> list[Rows] | None:
    """One robust backup: the nominal law, nature's law, what each is worth, and the gap of the certificate."""
    fixed, z, p = (call.find("outcomes")[f"outcomes[{i}]"] for i in range(3))
    q, law = call["q"], call["kernel"]
    columns = {
        "outcomes": _each(q.shape, lambda at: vector(z[at])), "nominal law": _each(q.shape, lambda at: vector(p[at])),
        "nominal q": fixed + (p * z).sum(-1), "worst law": _each(q.shape, lambda at: vector(law[at])), "worst q": q,
    }  # fmt: skip
    inner = [c for c in call.walk() if any(x.name == "gap" and np.shape(x.value) == q.shape for x in c.result)]
    if inner:
        columns["gap"] = inner[-1]["gap"]
    columns["plays"] = call["policy"]
    return [Rows(("S", "A"), columns, q != 0)]


def critic(call: Call) -> list[Rows] | None:
    """An optimistic critic, backward over the stages: what was counted, the mean, the bonus, and their clipped sum."""
    known = {"estimate", "bonus", "next_value", "hoeffding_bonus", "next_variance", "bernstein_bonus"}
    if not any(c.part.endswith("bonus") for c in call.calls) or any(
        c.calls and c.part not in known for c in call.calls
    ):
        return None  # a critic of another kind is told by its own parts
    f = call.result[0].value
    pieces: dict[str, Any] = {}
    names = {
        "estimate": {"sums": "sums", "estimate[0]": "mean", "estimate[1]": "width"}, "bonus": {"bonus": "bonus"},
        "hoeffding_bonus": {"hoeffding_bonus": "bonus before its factor"}, "next_variance": {"next_variance": "variance"},
        "bernstein_bonus": {"bernstein_bonus": "bonus before its factor"},
    }  # fmt: skip
    for part, told in names.items():
        calls = [c for c in call.calls if c.part == part]
        if len(calls) == len(f):  # one for each stage, the last stage first
            pieces |= {label: np.stack([c[name] for c in reversed(calls)]) for name, label in told.items()}
    given = {q.name.rpartition(".")[2].rpartition("[")[2].rstrip("]"): q.value for q in call.arguments}
    n, N = (given.get(name, given.get(place)) for name, place in (("n", "0"), ("N", "1")))
    if n is None or N is None or f.shape != n.shape:
        return None
    after = np.append(f.max(-1)[1:], np.zeros((1, f.shape[1])), axis=0)
    texts = {"n": n, "into": _each(f.shape, lambda at: vector(N[at]))}
    if not any(c.part == "next_value" for c in call.calls):
        texts["max f there"] = _each(f.shape, lambda at: vector(after[at[0]]))
    return [Rows(("H", "S", "A"), texts | pieces | {"f": f}, n > 0)]


def counts(call: Call) -> list[Rows] | None:
    """What has been seen: visits, where they led, and sums of rewards; pairs that were never met are left out."""
    n, N, R = call["n"], call["N"], call["R"]
    return [Rows(("H", "S", "A"), {"n": n, "into": _each(n.shape, lambda at: vector(N[at])), "R": R, "mask": n > 0})]


def switch(call: Call) -> list[Rows] | None:
    """The switch test: by what factor the determinant of every stage has grown since the last switch."""
    now, before = call["now"], call["before"]
    grown = now - before
    columns = {
        "log det now": now,
        "at the last switch": before,
        "factor": np.exp(grown),
        "doubled": grown >= np.log(2) - 1e-9,
    }
    return [Rows(("H",), columns)]


def episodes(call: Call) -> list[Rows] | None:
    """Sampled episodes, step by step."""
    names = {"states": "state", "actions": "action", "rewards": "reward", "log_probs_sampler": "log prob"}
    found = {label: call[name] for name, label in names.items()}
    found["probability"] = np.exp(found["log prob"])
    return [Rows(("n", "t"), found | {"mask": call["mask"]})]


def objective(call: Call) -> list[Rows] | None:
    """The losses of completions, token by token: what each read, made of it, and weighs in the total."""
    from polytheory.parts import Kind
    from polytheory.reference.posttraining.base import PARTS

    columns = {q.name.removeprefix("columns."): q.value for q in call.arguments if q.axes}
    mask = columns["mask"]
    losses = [c for c in call.calls if c.part in PARTS.names(Kind.LOSS)]
    reads = [name for name in columns if any(name in PARTS[c.part].reads for c in losses)]
    found = {name: columns[name] for name in ("actions", *reads) if name != "mask"}
    taken = [c.result[0].value for c in call.calls if c.part == "weights"]
    settings = {q.name: q.value for q in call.arguments if not q.axes}
    factor = {x: settings.get(name.replace(".part", ".weight"), 1.0) for name, x in settings.items() if ".part" in name}
    alike = all(_same(x, taken[0]) for x in taken)
    for i, c in enumerate(losses):
        own = {q.name: q.value for q in c.inside if q.axes and q.name != "value" and q.value.dtype.kind in "fb"}
        found |= {name: x for name, x in own.items() if not any(x is y or _same(x, y) for y in found.values())}
        label = c.part if factor.get(c.part, 1.0) == 1.0 else f"{c.part} (times {number(factor[c.part])})"
        found[label] = c["value"]
        if i < len(taken) and not alike:
            found[f"weight of {c.part}"] = taken[i]
    found |= {"weight": taken[0]} if taken and alike else {}
    found |= {f"slope in {q.name.rpartition('.')[2]}": q.value for q in call.result if q.axes}
    rows = []
    for shape, axes in ((mask.shape, ("n", "t")), (mask.shape[:1], ("n",))):
        own = {name: x for name, x in found.items() if np.shape(x) == shape}
        rows += [Rows(axes, own | ({"mask": mask} if len(axes) == 2 else {}))] if own else []
    other = {name: x for name, x in found.items() if np.shape(x) not in (mask.shape, mask.shape[:1])}
    length = max((len(x) for name, x in other.items() if x.ndim == 1), default=0)
    own = {name: x for name, x in other.items() if x.ndim == 1 and len(x) == length}
    if "pairs" in columns and len(columns["pairs"]) == length:
        own = {"pair": _each((length,), lambda at: vector(columns["pairs"][at]))} | own
    return [*rows, *([Rows(("m",), own)] if own else [])]


def scores(call: Call) -> list[Rows] | None:
    """The weighted sum of scores of every row, in the states that it met; None where parameters are no table."""
    (out,) = call.result
    met = out.value.reshape(*out.value.shape[:-1], -1) if len(out.axes) == 3 else None
    if met is None:
        return None
    across = {f"action {a}": out.value[..., a] for a in range(out.value.shape[-1])}
    return [Rows(("n", "S"), across | {"mask": met.any(-1)})]


VIEWS: dict[str, View] = {
    "q_values": backup, "robust_sweep": robust_backup, "robust_policy_sweep": robust_backup, "optimistic_critic": critic,
    "critic": critic, "switch_due": switch, "rollouts": episodes, "add_episodes": counts,
    "evaluate": objective, "score_sum": scores, "hvp_sum": scores,
}  # fmt: skip


def view(call: Call) -> list[Rows] | None:
    """The call in its own form; None when it has none, or lacks what that needs."""
    try:
        return VIEWS[call.part](call) if call.part in VIEWS else None
    except KeyError:
        return None


def _formula(r: float, gamma: float, p: np.ndarray, v: np.ndarray) -> str:
    kept = np.flatnonzero(p)
    terms = [f"{number(p[y])}*{number(v[y])}" for y in kept[:INLINE]] + (["..."] if len(kept) > INLINE else [])
    return f"{number(r)} + {number(gamma)}*({' + '.join(terms)})"


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    return x.shape == np.shape(y) and bool(np.array_equal(x, y))


def _stars(q: np.ndarray) -> np.ndarray:
    best = np.arange(q.shape[-1]) == q.argmax(-1)[..., None]
    return np.where(best, "*", "").astype(object)


def _each(shape: tuple[int, ...], text: Callable[[Any], str]) -> np.ndarray:
    out = np.empty(shape, dtype=object)
    for at in np.ndindex(shape):
        out[at] = text(at)
    return out
