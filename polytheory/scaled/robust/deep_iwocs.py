"""Deep incremental worst-case search: the search of `iwocs` with learned critics and a searched worst world [zouitine2024].

Setting: a family of simulated worlds, one for each point of a box of parameters, of which nature picks one and keeps it.
Update: train an off-policy agent in the newest world; act on the least expectation of all agents so far; search the box
for the world that is worst for that policy; add it. Stop when the agents' expectation at the start and the return in the
worst world found meet, when that world was trained in before, or when the worlds allowed are used up.

Neither side is a certificate: critics are learned, returns are sampled, and a search may miss the worst world. Physical
families are not rectangular either, so that exact versions of both sides would bracket the best deterministic policy only.

References: [zouitine2024] Zouitine, Geist and Rachelson, Solving robust MDPs as a sequence of static RL problems,
arXiv:2410.06212, section 5 and appendices F to H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant, Key
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.scaled.robust.deep_adversary import CmaEs, Grid, SearchState, inside
from polytheory.scaled.robust.deep_candidate import Candidate
from polytheory.scaled.robust.deep_dqn import Dqn
from polytheory.scaled.robust.deep_learners import Agent, OffPolicy
from polytheory.scaled.robust.deep_sac import Sac
from polytheory.streams import subseed, uniforms

ADVERSARIES = ("cma", "grid")
NEAR = 0.02  # worlds nearer than this share of the box are one world


@dataclass(eq=False)
class DeepIwocsState:
    """State of the search.

    Fields:
        phase: "default" (training on the whole box), "train" (in the newest world), "search" or "ended".
        worlds: [k, p] parameters of the worlds trained in, the nominal one first.
        inner: state of the learner. agents: one for each world that is learned. thresholds: theirs.
        default: the agent trained on the whole box; empty without one.
        adversary: state of the search for the worst world. tried: [trials, p + 1] worst world and fresh value by threshold.
        value: return of the newest candidate in the worst world found, on fresh episodes; ``error`` its standard error.
        lower: the largest such value, of the candidate with the first ``best`` agents. upper: smallest expectation.
        status: "running", "met" (``|upper - lower| <= tol``), "stuck" or "worlds" (used up).
        seed: of the run. t: steps.
    """

    phase: str
    worlds: Float[np.ndarray, "k p"]
    inner: Any
    agents: tuple[Agent, ...]
    thresholds: tuple[float, ...]
    default: Agent
    adversary: SearchState
    tried: Float[np.ndarray, "trials p1"]
    value: float
    error: float
    lower: float
    upper: float
    best: int
    status: str
    seed: int
    t: int


@dataclass(frozen=True)
class DeepIwocs:
    """Deep incremental worst-case search over `access.worlds.Worlds`; one learner.

    One step is one iteration of the learner or one generation of the adversary.

    Fields:
        learner: an off-policy learner; None takes `Dqn` where actions are counted and `Sac` where they are numbers.
        training: settings of that learner, by name.
        worlds: trained in at most, >= 1 (paper: 3 to 4).
        adversary: "cma", or "grid" (the paper's IWOCS*).
        generations, population: of the former (paper: 6 and 100). resolution: points a dimension of the latter.
        episodes: for the value of one world. fresh: episodes of the re-evaluation in the worst one and of the starts.
        thresholds: candidates for the largest prediction error at which an agent is trusted, ascending (paper: ten in
            [0.1, 1]); with infinity alone every agent is trusted always, and nobody is trained on the whole box.
        tol: wanted ``|upper - lower|``, >= 0, in units of the discounted return.

    Raises `SettingError`, `UnknownNameError`.
    """

    learner: Any = None
    training: Any = field(default_factory=dict)
    worlds: int = 3
    adversary: str = "cma"
    generations: int = 6
    population: int = 16
    resolution: int = 9
    episodes: int = 8
    fresh: int = 64
    thresholds: tuple[float, ...] = (float("inf"),)
    tol: float = 0.0

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    ends: ClassVar[bool] = True  # by itself, without a budget

    def __post_init__(self) -> None:
        for name in ("worlds", "episodes", "fresh"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} = {getattr(self, name)}; it must be at least 1")
        rho = tuple(float(x) for x in self.thresholds)
        if not rho or list(rho) != sorted(set(rho)) or not rho[0] > 0 or not self.tol >= 0:
            raise SettingError(f"thresholds = {rho} must be positive and ascending, and tol = {self.tol} at least 0")
        object.__setattr__(self, "thresholds", rho)
        if self.adversary not in ADVERSARIES:
            raise UnknownNameError("adversary", self.adversary, ADVERSARIES)
        self.search()

    def search(self) -> CmaEs | Grid:
        """The adversary."""
        return CmaEs(self.generations, self.population) if self.adversary == "cma" else Grid(self.resolution)

    def learner_for(self, access: Any) -> Any:
        """The learner, with a one-step model where thresholds need one."""
        if self.learner is not None:
            return self.learner
        made = learner_of(access, self.training)
        return replace(made, dynamics=True) if self.thresholds[0] < float("inf") else made

    def init(self, access: Any, seed: int, replica: int = 0) -> DeepIwocsState:
        """Nothing learned yet."""
        p = len(access.nominal)
        seed = subseed(seed, "deep-iwocs", replica)
        phase = "default" if self.thresholds[0] < float("inf") else "train"
        return DeepIwocsState(
            phase, np.array(access.nominal, dtype=float)[None], self._fresh_learner(access, seed, 0), (), (), {},
            self.search().init(p), np.zeros((0, p + 1)), -np.inf, 0.0, -np.inf, np.inf, 0, "running", seed, 0,
        )  # fmt: skip

    def _fresh_learner(self, access: Any, seed: int, i: int) -> Any:
        return self.learner_for(access).init(access, subseed(seed, "deep-iwocs/learner", i))

    def step(self, state: DeepIwocsState, access: Any) -> tuple[DeepIwocsState, Info]:
        """Learn for one iteration, or search for one generation."""
        more: Mapping[str, Any] = {}
        if state.phase in ("default", "train"):
            more = self._train(state, access)
        elif state.phase == "search":
            self._search(state, access)
        state.t += 1
        facts = {"agents": len(state.agents), "value": state.value, "lower": state.lower, "upper": state.upper}
        return state, {**more, **facts}

    def _train(self, state: DeepIwocsState, access: Any) -> Mapping[str, Any]:
        learner = self.learner_for(access)
        where = access if state.phase == "default" else access.at(state.worlds[-1])
        state.inner, info = learner.step(state.inner, where)
        if learner.done(state.inner):
            agent = learner.agent(state.inner)
            if state.phase == "default":
                state.default, state.phase = agent, "train"
                state.inner = self._fresh_learner(access, state.seed, 1)
            else:
                state.agents, state.phase = (*state.agents, agent), "search"
        return info

    def _search(self, state: DeepIwocsState, access: Any) -> None:
        search, p = self.search(), len(access.nominal)
        trial = len(state.tried)
        candidate = self.candidate(state, access, self.thresholds[trial])
        rows, columns = search.draws(p)
        u = uniforms(state.seed, "deep-iwocs/ask", state.t, np.arange(rows, dtype=np.int64), columns)
        x = search.ask(state.adversary, u)
        key = Key(state.seed, "deep-iwocs/search", state.t)
        f = access.returns(candidate, in_box(access, inside(x)), key, self.episodes).mean(-1)
        state.adversary = search.tell(state.adversary, x, f)
        if not search.done(state.adversary):
            return
        world = in_box(access, state.adversary.x[None])
        key = Key(state.seed, "deep-iwocs/fresh", len(state.agents))
        fresh = access.returns(candidate, world, key, self.fresh)[0]
        error = float(fresh.std() / np.sqrt(len(fresh)))
        if not trial or fresh.mean() >= state.tried[:, -1].max():  # ties take the larger threshold
            state.error = error
        state.tried = np.concatenate([state.tried, np.append(world[0], fresh.mean())[None]])
        state.adversary = search.init(p)
        if len(state.tried) == len(self.thresholds):
            self._conclude(state, access)

    def _conclude(self, state: DeepIwocsState, access: Any) -> None:
        """Choose the newest agent's threshold; stop, or go on in the worst world found for it."""
        *_, pick = np.flatnonzero(state.tried[:, -1] == state.tried[:, -1].max())
        world, state.value = state.tried[pick, :-1], float(state.tried[pick, -1])
        state.thresholds = (*state.thresholds, self.thresholds[pick])
        if state.value > state.lower:
            state.lower, state.best = state.value, len(state.agents)
        rows = np.arange(self.fresh, dtype=np.int64)
        starts = access.starts(Key(state.seed, "deep-iwocs/fresh", len(state.agents)), rows)
        state.upper = min(state.upper, expectation(self.candidate(state, access, None), starts))
        state.tried = state.tried[:0]
        state.status = verdict(state, world, access, self)
        if state.status != "running":
            state.phase = "ended"
            return
        state.worlds, state.phase = np.concatenate([state.worlds, world[None]]), "train"
        state.inner = self._fresh_learner(access, state.seed, 1 + len(state.agents))

    def candidate(self, state: DeepIwocsState, access: Any, newest: float | None) -> Candidate:
        """The policy of all agents; ``newest`` is the last one's threshold while that is being chosen."""
        rho = state.thresholds if newest is None else (*state.thresholds, newest)
        return Candidate(self.learner_for(access), state.agents, rho, state.default)

    def policy(self, state: DeepIwocsState) -> Any:
        """The candidate with the largest value in its worst world; before there is one, what the learner has."""
        n, learner = state.best, self.learner or _OF_KIND["actor" in state.inner.theta](**self.training)
        if not n:
            return learner.policy(state.inner)
        return Candidate(learner, state.agents[:n], state.thresholds[:n], state.default)

    def done(self, state: DeepIwocsState) -> bool:
        """True when the search has ended; ``status`` says how."""
        return state.status != "running"


@dataclass(frozen=True)
class DeepTraining:
    """What the search is compared with: one agent, trained in the nominal world or in worlds drawn from the whole box.

    Fields: ``domain`` "nominal" or "box" (domain randomisation); ``training`` settings of `Dqn` or `Sac`.
    """

    domain: str = "nominal"
    training: Any = field(default_factory=dict)

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE})
    ends: ClassVar[bool] = True
    ends: ClassVar[bool] = True  # by itself, without a budget

    def __post_init__(self) -> None:
        if self.domain not in ("nominal", "box"):
            raise UnknownNameError("domain", self.domain, ("nominal", "box"))

    def init(self, access: Any, seed: int, replica: int = 0) -> Any:
        """Nothing learned yet."""
        return learner_of(access, self.training).init(access, seed, replica)

    def step(self, state: Any, access: Any) -> tuple[Any, Info]:
        """One iteration of the learner."""
        where = access if self.domain == "box" else access.at(access.nominal)
        return learner_of(access, self.training).step(state, where)

    def policy(self, state: Any) -> Any:
        """The greedy policy."""
        return _OF_KIND["actor" in state.theta](**self.training).policy(state)

    def done(self, state: Any) -> bool:
        """True after the learner's iterations."""
        return _OF_KIND["actor" in state.theta](**self.training).done(state)


_OF_KIND: dict[bool, type[OffPolicy]] = {True: Sac, False: Dqn}  # whether actions are numbers


def learner_of(access: Any, training: Any) -> OffPolicy:
    """`Dqn` or `Sac`, as the actions ask for. Raises `UnknownNameError` for a setting that it does not have."""
    kind = _OF_KIND[access.spec.A is None]
    if not isinstance(training, Mapping):
        raise SettingError(f'training = {training!r}; give settings by name, such as {{"iterations": 10}}')
    known = [f.name for f in fields(kind)]
    for name in training:
        if name not in known:
            raise UnknownNameError(f"setting of {kind.__name__}", name, known)
    return kind(**training)


def in_box(access: Any, x: Float[np.ndarray, "m p"]) -> Float[np.ndarray, "m p"]:
    """Parameters of the points of the unit cube."""
    return access.low + (access.high - access.low) * x


def expectation(candidate: Candidate, starts: Any) -> float:
    """What the agents expect at the start, all of them trusted: the least value of the chosen action, on average."""
    _, value = candidate.learner.pessimist(candidate.agents, starts, candidate.start(len(starts)))
    return float(value.double().mean())


def verdict(state: DeepIwocsState, world: Float[np.ndarray, " p"], access: Any, search: DeepIwocs) -> str:
    """How it goes on after a search that found ``world``: see ``status``."""
    if abs(state.upper - state.lower) <= search.tol:  # learned critics may expect too little as well
        return "met"
    distance = np.abs(state.worlds - world) / np.where(access.high > access.low, access.high - access.low, 1.0)
    if (distance.max(-1) <= NEAR).any():
        return "stuck"
    return "worlds" if len(state.agents) >= search.worlds else "running"
