"""Claims about the deep search: its loop with exact parts, and its adversary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant, Meter
from polytheory.models.ambiguity import Scenarios
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.robust.iwocs_instances import Listed, instances, optimal_action_values
from polytheory.reference.robust.iwocs import Iwocs

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

TOL = 1e-8
SCALED = ("scaled",)


@dataclass(eq=False)
class ListedWorlds:
    """A list of kernels as a family of worlds: the one parameter is the number of the kernel, and returns are exact."""

    listed: Listed
    parameters: Any = None
    meter: Meter = field(default_factory=Meter)
    low: Any = field(default_factory=lambda: np.zeros(1))
    nominal: Any = field(default_factory=lambda: np.zeros(1))
    grants: Any = frozenset({Grant.EPISODE})

    @property
    def high(self) -> Float[np.ndarray, " 1"]:
        """The last kernel."""
        return np.array([len(self.listed.kernels) - 1.0])

    def at(self, parameters: Any) -> ListedWorlds:
        """One kernel."""
        return ListedWorlds(self.listed, parameters, self.meter)

    def starts(self, key: Any, rows: Any) -> Any:
        """Every episode starts in state 0."""
        import torch

        return torch.zeros(len(rows), dtype=torch.int64)

    def returns(self, policy: Any, parameters: Any, key: Any, episodes: int) -> Float[np.ndarray, "m e"]:
        """Values of the start by linear equations."""
        pi = acts(policy, len(self.listed.r))
        states = np.arange(len(pi))
        values = [
            np.linalg.solve(
                np.eye(len(pi)) - 0.9 * self.listed.kernels[round(i)][states, pi], self.listed.r[states, pi]
            )[0]
            for i in parameters[:, 0]
        ]
        return np.repeat(np.array(values)[:, None], episodes, 1)


@dataclass(frozen=True, eq=False)
class ExactLearner:
    """Optimal action values of a kernel by enumeration, in one step."""

    smallest: Any  # the room's rule for several agents

    def init(self, access: Any, seed: int) -> dict[str, Any]:
        """Nothing known."""
        return {}

    def step(self, state: Any, access: ListedWorlds) -> Any:
        """All there is to learn."""
        import torch

        return {"q": torch.from_numpy(optimal_action_values(access.listed, round(access.parameters[0])))}, {}

    def done(self, state: Any) -> bool:
        """After one step."""
        return bool(state)

    def agent(self, state: Any) -> Any:
        """The action values."""
        return state

    def pessimist(self, agents: Any, s: Any, valid: Any) -> Any:
        """Best action of the smallest action values."""
        import torch

        return self.smallest(torch.stack([agent["q"][s] for agent in agents]), valid)


def acts(policy: Any, S: int) -> np.ndarray:
    """Actions of a policy in all states."""
    import torch

    return policy.act(policy.start(S), 0, torch.arange(S), torch.zeros(S, 2)).numpy()


@claim(
    method="iwocs", source="zouitine2024, Algorithm 1 and section 5", level=Level.PROPERTY, rooms=SCALED,
    statement="with an exact solver, exact returns and a grid over a list of kernels the deep search is the exact one: the "
    "same kernels, policies, brackets and verdict, candidate by candidate",
    worked=lambda: instances()[:5],
    breaks=[
        Wrap("newest_agent_only", part="smallest_of_all", by=lambda f: lambda q, valid: f(q[-1:], valid[-1:])),
        Wrap("largest_values", part="smallest_of_all", by=lambda f: lambda q, valid: f(q.amax(0, keepdim=True), valid[:1])),
        Wrap("never_stuck", part="verdict",
             by=lambda f: lambda *given: (lambda x: "running" if x == "stuck" and len(given[0].agents) < 9 else x)(f(*given))),
        Line("first_kept", module="deep_iwocs", old="if state.value > state.lower:", new="if not state.best:"),
        Line("kindest_world", module="deep_adversary", old="i = int(np.argmin(f))", new="i = int(np.argmax(f))"),
    ],
)  # fmt: skip
def deep_loop_is_the_exact_search(listed: Listed, room: Room) -> Margin:
    exact = Iwocs(Scenarios(listed.kernels), worst="static", tol=TOL)
    right, state, access = [], exact.init(listed.access), listed.access
    while not exact.done(state):
        seen = state.iterations
        state, _ = exact.step(state, access)
        if state.iterations > seen:
            right.append([state.lower, state.upper, *state.pi])
    learner = ExactLearner(room.part("smallest_of_all"))
    worlds, limit = ListedWorlds(listed), 9
    deep = room.make(
        "DeepIwocs", learner=learner, adversary="grid", resolution=len(listed.kernels), worlds=limit, tol=TOL, episodes=1,
        fresh=1,
    )  # fmt: skip
    found, now = [], deep.init(worlds, 0)
    while not deep.done(now):
        seen = now.upper, now.lower, len(now.thresholds)
        now, _ = deep.step(now, worlds)
        if len(now.thresholds) > seen[2]:
            pi = acts(deep.candidate(now, worlds, None), len(listed.r))
            found.append([now.lower, now.upper, *pi])
    if len(found) != len(right) or (now.status == "met") != (state.status == "certified"):
        return Margin(-1.0, TOL)
    chosen = listed.kernels[now.worlds[:, 0].round().astype(int)]
    if chosen.shape != state.kernels.shape:
        return Margin(-1.0, TOL)
    # the exact search plans to TOL / 100 and adds what that leaves open to its upper side
    return Margin.worst([Margin.equal(found, right, TOL), Margin.equal(chosen, state.kernels, 0.0)])


@dataclass(frozen=True, eq=False)
class Bowl:
    """``(x - centre)' A (x - centre)`` on the unit square, axes turned by ``angle``, conditioned 1 : ``ratio``."""

    centre: tuple[float, float]
    angle: float
    ratio: float

    def __call__(self, x: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " m"]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        y = (np.clip(x, 0, 1) - self.centre) @ np.array([[c, -s], [s, c]])
        return y[:, 0] ** 2 + self.ratio * y[:, 1] ** 2


@claim(
    method="iwocs", source="hansen2016", level=Level.PROPERTY, rooms=SCALED,
    statement="thirty generations of twelve find a world as bad as the worst of a 41 x 41 grid, inside the box and at a corner",
    worked=lambda: [Bowl((0.31, 0.72), 0.7, 30.0), Bowl((0.83, 0.13), 2.0, 5.0), Bowl((1.3, -0.4), 0.0, 2.0)],
    breaks=[
        Wrap("no_adaptation", part="adapted", by=lambda f: lambda state, x: type(state)(
            **{**vars(state), "generation": state.generation + 1})),
        Line("worst_first", module="deep_adversary", old="np.lexsort((outside, f))", new="np.lexsort((outside, -f))"),
    ],
)  # fmt: skip
def adversary_finds_what_a_grid_finds(bowl: Bowl, room: Room) -> Margin:
    from polytheory.streams import uniforms

    search = room.part("CmaEs")(generations=30, population=12)
    state = search.init(2)
    while not search.done(state):
        rows, columns = search.draws(2)
        x = search.ask(state, uniforms(0, "bowl", state.generation, np.arange(rows), columns))
        state = search.tell(state, x, bowl(x))
    line = np.linspace(0, 1, 41)
    grid = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    return Margin.at_most(state.value, bowl(grid).min(), 0.0)
