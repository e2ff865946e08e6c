"""Claims of GRPO's driver: N-PG-IGT and HARPG as updates of a composition, by enumeration and step by step; micro-batches."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Room, Wrap, claim
from polytheory.proofs_check.posttraining.probe import EXACT, Probe, Scripted, probes, toy, with_theta

STEP = 1e-4  # of central differences: errors of order STEP^2 and rounding / STEP
DIFFERENCE = "self.difference(method, state, access)"
COUNTS = "max_length=longest, counts=counts"
SETTINGS = {"advantage": "rloo", "surrogate": "reinforce", "normalisation": "seq_sum", "beta": 0.0}


def _line(name: str, old: str, new: str, room: str = "reference") -> Line:
    return Line(name, module="updates", room=room, old=old, new=new)


def _driver(name: str, old: str, new: str, room: str = "reference") -> Line:
    return Line(name, module="composition", room=room, old=old, new=new)


def _flat(probe: Probe, logits: np.ndarray) -> np.ndarray:
    """Logits [C, V] as the policy's parameters: the end state has logits too."""
    return np.vstack([logits, np.zeros(probe.lm.V)]).ravel()


def _grpo(probe: Probe, room: Room, size: int, **settings: Any) -> Any:
    policy = room.part("TabularSoftmax")
    start = room.inward(room.batch(_flat(probe, probe.theta)))
    return room.make("Grpo", policy=policy(start, probe.lm.C + 1, probe.lm.V), group_size=size, **SETTINGS, **settings)


def _hvp(probe: Probe, room: Room, columns: dict[str, Any], u: np.ndarray) -> np.ndarray:
    """The room's Hessian-vector product of the mean loss of these rows, as logits [C, V]."""
    method, theta, along = _grpo(probe, room, 2), _flat(probe, probe.theta), _flat(probe, u)
    columns = {name: columns[name] for name in ("states", "actions", "mask", "advantages")}
    f = room.part("loss_hvp")
    if room.name == "reference":
        found = f(method, columns, theta, along)
    else:
        found = f(method, [room.inward(columns)], *(room.inward(x[None]) for x in (theta, along)))[0].numpy()
    return np.asarray(found).reshape(probe.lm.C + 1, probe.lm.V)[:-1]


def _ratio(f: Any, sign: float) -> Any:
    """The surrogate with an outer product of the given sign (0: none)."""

    def broken(log_probs: Any, advantages: Any) -> Any:
        l = log_probs.sum(1)
        gap = l - l.detach()
        return -(advantages * (gap if sign == 0 else sign * (sign * gap).exp())).mean()

    return broken


def _means_first(f: Any) -> Any:
    """A product of batch means in place of the mean of products."""

    def broken(log_probs: Any, advantages: Any) -> Any:
        gap = log_probs.sum(1) - log_probs.sum(1).detach()
        return -(advantages * gap).mean() - (advantages * gap).mean() * gap.mean()

    return broken


@claim(
    method="grpo", source="fatkhullin2023, Section 4.2; shen2019, eq. 10", level=Level.PROPERTY,
    statement="the mean over all completions of A_i (hess l_i + grad l_i grad l_i^T) u is the Hessian of the expected score "
    "times u, with and without a baseline",
    worked=lambda: [(toy("ones"), 0), (toy("odd"), 1)],
    generated=lambda: _with_seed(probes(max_length=2)),
    breaks=[
        _line("outer_product_upside_down", "weights, u) + outer", "weights, u) - outer"),
        _line("no_outer_product", "weights, u) + outer", "weights, u)"),
        _line("product_of_means", "outer = along[:, None] *", "outer = along.mean() *"),
        Wrap("ratio_upside_down", part="ratio_surrogate", room="scaled", by=lambda f: _ratio(f, -1.0)),
        Wrap("score_alone", part="ratio_surrogate", room="scaled", by=lambda f: _ratio(f, 0.0)),
        Wrap("means_first", part="ratio_surrogate", room="scaled", by=_means_first),
    ],
)  # fmt: skip
def hessian_of_the_expected_score(instance: tuple[Probe, int], room: Room) -> Margin:
    probe, seed = instance
    u = np.random.default_rng(seed).normal(size=probe.theta.shape)
    ends = [with_theta(probe, probe.theta + s * STEP * u).gradient for s in (1.0, -1.0)]
    expected = -(ends[0] - ends[1]) / (2 * STEP)
    # third derivatives of an expected score along u are at most about 30 |u|^3 max |R| here
    size = 1 + float(np.abs(probe.reward).max())
    tolerance = 30 * size * float(1 + np.linalg.norm(u)) ** 3 * STEP**2 + 1e-11 * size / STEP
    columns, margins = probe.columns(), []
    for baseline in (0.0, 1.5):
        weights = probe.lm.N * probe.p * (probe.reward - baseline)
        margins.append(Margin.equal(_hvp(probe, room, {**columns, "advantages": weights}, u), expected, tolerance))
    return Margin.worst(margins)


def _with_seed(strategy: Any) -> Any:
    from hypothesis import strategies as st

    return st.tuples(strategy, st.integers(0, 99))


@dataclass(frozen=True, eq=False)
class Script:
    """What is sampled at each call of the access: lists of completions by index; the gamma of the steps."""

    probe: Probe
    calls: tuple[tuple[int, ...], ...]
    gamma0: float = 0.3


class _Recorder:
    """Hands out one list of completions per call, and notes the logits that were to sample them."""

    def __init__(self, script: Script, room: Room):
        self.script, self.room, self.replicas = script, room, 1
        self.spec = SimpleNamespace(horizon=script.probe.lm.T, gamma=1.0, name="recorded")
        self.logits: list[np.ndarray] = []

    def rollouts(self, policy: Any, requests: Any, key: Any) -> Any:
        lm = self.script.probe.lm
        self.logits.append(np.asarray(policy.theta, dtype=float).reshape(lm.C + 1, lm.V)[:-1].copy())
        rows = self.script.calls[len(self.logits) - 1]
        return self.room.inward(Scripted(self.script.probe, [rows]).rollouts(policy, requests, key))


def _recorded(script: Script, room: Room, update: str, steps: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Logits that sampled, call by call; logits before and after every step."""
    probe, access = script.probe, _Recorder(script, room)
    method = _grpo(probe, room, len(script.calls[0]), update=room.part(update)(gamma0=script.gamma0))
    state, found = method.init(access, 0), [probe.theta]
    for _ in range(steps):
        state, _ = method.step(state, access)
        found.append(np.asarray(state.theta, dtype=float).reshape(probe.lm.C + 1, probe.lm.V)[:-1].copy())
    return access.logits, found


def _loss_gradient(probe: Probe, logits: np.ndarray, rows: tuple[int, ...]) -> np.ndarray:
    """``-(1/G) sum_i (R_i - mean of the others) grad log pi(y_i)`` from whole-sequence scores."""
    scores, R = probe.lm.scores(logits), probe.reward[list(rows)]
    a = [r - np.delete(R, i).mean() for i, r in enumerate(R)]
    return -np.sum([x * scores[y] for x, y in zip(a, rows, strict=True)], axis=0) / len(rows)


def _loss_hessian(probe: Probe, logits: np.ndarray, rows: tuple[int, ...], u: np.ndarray) -> np.ndarray:
    """The estimate on these rows, the curvature of log pi by central differences of scores."""
    scores, R = probe.lm.scores(logits), probe.reward[list(rows)]
    bend = (probe.lm.scores(logits + STEP * u) - probe.lm.scores(logits - STEP * u)) / (2 * STEP)
    a = [r - np.delete(R, i).mean() for i, r in enumerate(R)]
    terms = [x * (bend[y] + scores[y] * (scores[y] * u).sum()) for x, y in zip(a, rows, strict=True)]
    return -np.sum(terms, axis=0) / len(rows)


def _scripts() -> Any:
    from hypothesis import strategies as st

    def make(probe: Probe, seed: int) -> Script:
        rng = np.random.default_rng(seed)
        return Script(probe, tuple(tuple(int(y) for y in rng.integers(0, probe.lm.N, 3)) for _ in range(5)))

    return st.builds(make, probes(max_length=2), st.integers(0, 99))


def _worked() -> list[Script]:
    return [Script(toy("ones"), ((0, 4, 9), (2, 13, 5), (14, 1, 7), (3, 12, 6), (8, 10, 11)))]


@claim(
    method="grpo", source="fatkhullin2023, Algorithm 1", level=Level.PROPERTY,
    statement="N-PG-IGT as an update samples and differentiates at theta + (1 - eta) / eta (theta - theta_prev), averages with "
    "eta_t = (2 / (t + 2))^(4/5) and makes steps of length gamma_0 2 / (t + 2)",
    worked=_worked, generated=_scripts,
    breaks=[
        _line("samples_where_it_stands", 'lookahead(state.theta, own["previous"], eta)', "state.theta"),
        _line("looks_back", 'lookahead(state.theta, own["previous"], eta)', 'lookahead(own["previous"], state.theta, eta)'),
        _line("weights_exchanged", "else momentum(d, g, eta)", "else momentum(d, g, 1 - eta)"),
        _line("ascends", "normalised_step(theta, -d, gamma)", "normalised_step(theta, d, gamma)"),
        _line("differentiates_where_it_stands", "method.gradient(columns, ahead)", "method.gradient(columns, theta)"),
        _line("scaled_samples_where_it_stands", "lookahead(state.theta, previous, eta)", "state.theta", "scaled"),
        _line("scaled_weights_exchanged", "else momentum(d, g, eta)", "else momentum(d, g, 1 - eta)", "scaled"),
        _line("scaled_ascends", "normalised_step(theta, -d, gamma)", "normalised_step(theta, d, gamma)", "scaled"),
        _line("scaled_differentiates_where_it_stands", "gradient(collected[1], ahead)", "gradient(collected[1], state.theta)",
              "scaled"),
    ],
)  # fmt: skip
def n_pg_igt_as_an_update(script: Script, room: Room) -> Margin:
    probe, steps = script.probe, 4
    sampled, found = _recorded(script, room, "NPgIgt", steps)
    theta = previous = probe.theta
    d, margins = np.zeros_like(theta), []
    for t in range(steps):
        x = 2 / (t + 2)
        eta = x**0.8
        ahead = theta / eta + (1 - 1 / eta) * previous
        g = _loss_gradient(probe, ahead, script.calls[t])
        d = (1 - eta) * d + eta * g
        norm = np.sqrt((d**2).sum())
        previous, theta = theta, theta - script.gamma0 * x * d / norm if norm > 0 else theta
        # the direction d / |d| magnifies the rounding of d
        slack = 1e3 * EXACT * (1 + 1 / norm if norm > 0 else 1.0)
        if 0 < norm < 1e-6:
            break
        margins += [Margin.equal(sampled[t], ahead, slack), Margin.equal(found[t + 1], theta, slack)]
    return Margin.worst(margins) if margins else Margin(0.0, EXACT)


@claim(
    method="grpo", source="fatkhullin2023, Algorithm 2", level=Level.PROPERTY,
    statement="HARPG as an update samples its second batch on the segment between the last two parameters and adds the Hessian "
    "there times their difference to the old direction",
    worked=_worked, generated=_scripts,
    breaks=[
        _line("second_batch_where_it_stands", "interpolate(state.theta, previous, q)", "state.theta"),
        _line("beyond_the_segment", "interpolate(state.theta, previous, q)", "interpolate(state.theta, previous, 1 + q)"),
        _line("difference_forgotten", f"{DIFFERENCE}, g", f"0 * {DIFFERENCE}, g"),
        _line("difference_upside_down", f"{DIFFERENCE}, g", f"-{DIFFERENCE}, g"),
        _line("ascends", "plain_step(theta, -d, gamma)", "plain_step(theta, d, gamma)"),
        _line("scaled_second_batch_where_it_stands", "interpolate(state.theta, previous, q)", "state.theta", "scaled"),
        _line("scaled_difference_upside_down", f"{DIFFERENCE}, g", f"-{DIFFERENCE}, g", "scaled"),
        _line("scaled_ascends", "plain_step(theta, -d, gamma)", "plain_step(theta, d, gamma)", "scaled"),
    ],
)  # fmt: skip
def harpg_as_an_update(script: Script, room: Room) -> Margin:
    probe, steps = script.probe, 3
    sampled, found = _recorded(script, room, "Harpg", steps)
    theta = previous = probe.theta
    d, margins, call = np.zeros_like(theta), [], 0
    for t in range(steps):
        x = 2 / (t + 2)
        margins.append(Margin.equal(sampled[call], theta, 1e3 * EXACT))
        g = _loss_gradient(probe, theta, script.calls[call])
        call += 1
        if t:
            between, u = sampled[call], theta - previous
            length = float((u**2).sum())
            q = float(((between - previous) * u).sum()) / length if length else 0.0
            margins += [Margin(min(q, 1 - q), 1e3 * EXACT), Margin.equal(between, previous + q * u, 1e3 * EXACT)]
            if length:  # a uniform q hits an end with probability 2^-53
                margins.append(Margin(min(q, 1 - q) - 1e-9, 0.0))
            d = d + _loss_hessian(probe, between, script.calls[call], u)
            call += 1
        d = (1 - x) * d + x * g
        previous, theta = theta, theta - script.gamma0 * x**0.5 * d
        # curvature by central differences: errors of order STEP^2 and rounding / STEP
        margins.append(Margin.equal(found[t + 1], theta, 1e-6 * (1 + float(np.abs(probe.reward).max()))))
    return Margin.worst(margins)


def _groups_of_two() -> list[tuple[Probe, tuple[int, ...]]]:
    # completions of 1, 2 and 3 tokens, so that the pieces have unequal numbers of tokens
    return [(toy("ones"), (0, 4, 9, 2, 13, 14)), (toy("odd"), (0, 1, 8, 3))]


@claim(
    method="grpo", source="yu2025, Section 3.3 (mean over all tokens)", level=Level.PROPERTY,
    statement="the gradient accumulated over micro-batches of whole groups is that of the mean over all tokens of the batch, "
    "for every size of the micro-batches",
    worked=_groups_of_two, generated=lambda: _batches_of_groups(),
    breaks=[
        _driver("local_counts", COUNTS, COUNTS.rpartition(",")[0]),
        _driver("last_piece_alone", "gradient + policy.score_sum", "policy.score_sum"),
        _driver("scaled_local_counts", COUNTS, COUNTS.rpartition(",")[0], "scaled"),
        _driver("scaled_last_piece_alone", "gradient + slope", "slope", "scaled"),
    ],
)  # fmt: skip
def micro_batches_add_up(instance: tuple[Probe, tuple[int, ...]], room: Room) -> Margin:
    probe, rows = instance
    scores, R = probe.lm.scores(probe.theta), probe.reward[list(rows)]
    others = R.reshape(-1, 2)[:, ::-1].ravel()
    tokens = int(probe.lm.lengths[list(rows)].sum())
    expected = sum((r - o) * scores[y] for r, o, y in zip(R, others, rows, strict=True)) / tokens
    margins = []
    for size in (None, 1, 4):
        access = _Recorder(Script(probe, (rows,)), room)
        policy = room.part("TabularSoftmax")(
            room.inward(room.batch(_flat(probe, probe.theta))), probe.lm.C + 1, probe.lm.V
        )
        settings = {**SETTINGS, "normalisation": "token_mean", "prompts": len(rows) // 2, "group_size": 2}
        made = room.make("Grpo", policy=policy, step_size=1.0, micro_batch_size=size, **settings)
        end, _ = made.step(made.init(access, 0), access)
        moved = np.asarray(end.theta, dtype=float).reshape(probe.lm.C + 1, probe.lm.V)[:-1] - probe.theta
        margins.append(Margin.equal(moved, expected, 10 * EXACT * (1 + float(np.abs(probe.theta).max()))))
    return Margin.worst(margins)


def _batches_of_groups() -> Any:
    from hypothesis import strategies as st

    def make(probe: Probe, seed: int, groups: int) -> tuple[Probe, tuple[int, ...]]:
        return probe, tuple(np.random.default_rng(seed).integers(0, probe.lm.N, 2 * groups).tolist())

    return st.builds(make, probes(), st.integers(0, 99), st.integers(2, 4))
