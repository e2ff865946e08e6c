"""Tracing: the numbers are those of a calculator, and the run is the same as without."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from polytheory import lab, models
from polytheory.access import KnownModel, Online
from polytheory.catalog import methods
from polytheory.errors import NotStochasticError, SettingError
from polytheory.lab.tracing.tables import MOST_ROWS
from polytheory.proofs_check.claims import Room
from polytheory.proofs_check.runner import access_for, demos_of
from polytheory.reference.exploration.optimistic_actor_critic import Nora, Ucbvi
from polytheory.reference.planning.planning import PolicyIteration, ValueIteration
from polytheory.reference.policy_gradient.n_pg_igt import NPgIgt
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.reference.posttraining.grpo import Grpo
from polytheory.reference.robust.robust_dp import RobustValueIteration
from polytheory.run import run

TWO = models.make("two-state")  # P(.|0,0) = .9 .1, (0,1) .2 .8, (1,0) .7 .3, (1,1) .1 .9; r = .1 0 .5 1; gamma = .8
STAGED = models.make("two-state", horizon=2, gamma=1.0)
TOKENS = models.make("token-mdp")
ROUNDING = 1e-14  # a few dozen operations on numbers below 10, at 1e-16 each


def learner(**more):
    return NPgIgt(policy=TabularSoftmax.zeros(2, 2), truncation=4, **more)


def language(**more):
    return Grpo(policy=TabularSoftmax.zeros(TOKENS.S, TOKENS.A), group_size=3, **more)


def rows_of(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [line.replace("│", " ").split() for line in text.splitlines() if re.match(r"\s*\d+(\s+\d+)* │", line)]


# ---- by hand -----------------------------------------------------------------------------------------------------------


def test_a_backup_by_hand():
    found = lab.trace(ValueIteration(stop="sup"), KnownModel(TWO), steps=2)
    # first sweep from v = 0: q = r, so v = (.1, 1). Second: .1 + .8 (.9 * .1 + .1 * 1) = .252 and so on
    by_hand = [[0.252, 0.656], [0.796, 1.728]]
    np.testing.assert_allclose(found.find("q_values", step=2)["q_values"], by_hand, rtol=0, atol=ROUNDING)
    text = found.text()
    second = text.partition("step 2")[2]
    assert "0.1 + 0.8*(0.9*0.1 + 0.1*1)  0.252" in second
    assert re.search(r"0 \+ 0\.8\*\(0\.2\*0\.1 \+ 0\.8\*1\)  0\.656 +\*", second)
    assert re.search(r"1 \+ 0\.8\*\(0\.1\*0\.1 \+ 0\.9\*1\)  1\.728 +\*", second)
    # the sup stop promises .8 / (1 - .8) * max |v_2 - v_1| = 4 * .728 (in state 1)
    assert re.search(r"sup_norm_bound = 2\.912", second)
    assert "v = [0.656, 1.728]" in second


def test_a_printed_row_adds_up():
    """Whoever types a printed row into a calculator gets the printed q: the numbers shown are the numbers used."""
    text = lab.trace(ValueIteration(), KnownModel(models.make("frozenlake", gamma=0.9)), after=7).text()
    rows = re.findall(r"│ +(\S.*\))  +([\d.]+)", text)
    assert len(rows) == MOST_ROWS
    for formula, q in rows:
        # six digits are printed of at most five numbers below 1
        assert abs(eval(formula) - float(q)) <= 5 * 5e-7


def test_a_robust_backup_by_hand():
    found = lab.trace(RobustValueIteration("tv:0.1"), KnownModel(TWO), steps=2)
    # first sweep: q = r, MacQueen's shift is .8 (.1 + 1) / (2 * .2) = 2.2, so v = (2.3, 3.2) and outcomes .8 v = (1.84, 2.56).
    # nature moves .1 from the better next state 1 to state 0: (.2, .8) -> (.3, .7), worth .3 * 1.84 + .7 * 2.56 = 2.344
    sweep = found.find("robust_sweep", step=2)
    by_hand = [[0.1 + 1.84, 2.344], [0.5 + 0.8 * 1.84 + 0.2 * 2.56, 1 + 0.2 * 1.84 + 0.8 * 2.56]]
    np.testing.assert_allclose(sweep["q"], by_hand, rtol=0, atol=ROUNDING)
    line = next(x for x in found.text().partition("step 2")[2].splitlines() if x.strip().startswith("0  1 │"))
    for cell in (
        "[1.84, 2.56]",
        "[0.2, 0.8]",
        "2.416",
        "[0.3, 0.7]",
        "2.344",
    ):  # nominal: .2 * 1.84 + .8 * 2.56 = 2.416
        assert cell in line


def test_counts_bonus_and_critic_by_hand():
    found = lab.trace(Ucbvi(episodes=1000), Online(STAGED))
    episode = found.find("rollouts")
    (s0, s1), (a0, a1), (r0, r1) = (episode[x][0] for x in ("states", "actions", "rewards"))
    assert found.find("add_episodes")["n"].sum() == 2
    # in practice the bonus is .2 * (stages left) / sqrt(n), n = 1; a pair never met is worth all that is left: 2, then 1.
    # last stage: r + .2. First stage: r + the value of the next state, which some unseen action makes 1, + .4, at most 2
    critic = found.find("critic")
    expected = np.array([np.full((2, 2), 2.0), np.full((2, 2), 1.0)])
    expected[1, s1, a1] = min(r1 + 0.2, 1)
    expected[0, s0, a0] = min(r0 + 1 + 0.4, 2)
    np.testing.assert_allclose(critic["critic"], expected, rtol=0, atol=ROUNDING)
    rows = rows_of(found.text().partition("critic:")[2])
    assert rows[2 * s0 + a0][-1] == f"{expected[0, s0, a0]:g}"


def test_switch_and_optimistic_critic_by_hand():
    found = lab.trace(Nora(episodes=1000), Online(STAGED))
    # Lambda = 1 + n on the diagonal. After one episode one entry of each stage is 2: both determinants have doubled
    np.testing.assert_allclose(found.find("switch_due")["now"], np.log([2, 2]), rtol=0, atol=ROUNDING)
    text = found.text()
    assert re.search(r"0 │ +0\.693147 +0 +2 +yes", text)
    assert found.steps[0]["switches"] == 1
    # radius .2 * 2 = .4. Last stage: a pair met once has mean r / 2 and width 1 / sqrt(2), one never met 0 and 1
    episode = found.find("rollouts")
    (_, s), (_, a), (_, r) = (episode[x][0] for x in ("states", "actions", "rewards"))
    f = np.full((2, 2), 0.4)
    f[s, a] = r / 2 + 0.4 / np.sqrt(2)
    np.testing.assert_allclose(found.find("optimistic_critic")["optimistic_critic"][1], f, rtol=0, atol=ROUNDING)
    (row,) = [x for x in rows_of(text.partition("optimistic_critic:")[2]) if x[:4] == ["1", str(s), str(a), "1"]]
    assert row[-5:] == [f"{x:.6g}" for x in (r, r / 2, np.sqrt(1 / 2), 0.4 / np.sqrt(2), f[s, a])]


def test_a_policy_gradient_by_hand():
    found = lab.trace(learner(gamma0=0.1), Online(TWO))
    traj = found.find("rollouts")
    weights = found.find("rewards_to_go")["rewards_to_go"][0]
    discounted = [0.8**t * r for t, r in enumerate(traj["rewards"][0])]
    np.testing.assert_allclose(weights, [sum(discounted[t:]) for t in range(4)], rtol=0, atol=ROUNDING)
    # at theta = 0 both actions have probability 1/2, so the score is +-1/2: half the weights of the steps in that state
    g = np.zeros((2, 2))
    for s, a, w in zip(traj["states"][0], traj["actions"][0], weights, strict=True):
        g[s, a] += w / 2
        g[s, 1 - a] -= w / 2
    np.testing.assert_allclose(found.find("score_sum")["score_sum"], [g.ravel()], rtol=0, atol=ROUNDING)
    step = found.find("normalised_step")
    np.testing.assert_allclose(step["norm"], np.sqrt((g**2).sum()), rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(
        found.steps[0]["theta"], 0.1 * (g / np.sqrt((g**2).sum())).ravel(), rtol=0, atol=ROUNDING
    )


def test_a_language_model_objective_by_hand():
    found = lab.trace(language(), Online(TOKENS))
    score = found.find("rollouts")["rewards"].sum(axis=1)
    assert sorted(score) == [0, 0, 1]  # else the numbers below are of another seed
    # scores 1, 0, 0: less the mean 2/3, -1/3, -1/3; deviation sqrt((4/9 + 1/9 + 1/9) / 2) = sqrt(1/3), plus 1e-4
    a = np.where(score == 1, 2 / 3, -1 / 3) / (np.sqrt(1 / 3) + 1e-4)
    np.testing.assert_allclose(found.find("group_advantages")["advantages"], a, rtol=0, atol=ROUNDING)
    # on policy every ratio is 1: a token's loss is -A, its weight 1 / (length * 3), its slope the product
    mask = found.find("rollouts")["mask"]
    weight = mask / mask.sum(axis=1, keepdims=True) / 3
    np.testing.assert_allclose(found.find("ppo_clip")["value"], np.where(mask, -a[:, None], 0), rtol=0, atol=ROUNDING)
    slope = found.find("evaluate")["evaluate[1].log_probs"]
    np.testing.assert_allclose(slope, -a[:, None] * weight, rtol=0, atol=ROUNDING)
    text = found.text()
    for name in ("log_probs_old", "ratio", "ppo_clip", "kl_k3 (times 0.04)", "weight", "slope in log_probs"):
        assert name in text
    assert f"{-a.max():.6g}" in text


# ---- the run is the same ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "access"),
    [
        (PolicyIteration(), KnownModel(TWO)),
        (Nora(episodes=50), Online(STAGED)),
        (learner(), Online(TWO)),
        (language(updates=2), Online(TOKENS)),
    ],
    ids=["planning", "exploration", "policy gradient", "language"],
)
def test_tracing_does_not_change_the_run(made, access):
    traced, plain = access.fresh(), access.fresh()
    found = lab.trace(made, traced, steps=2, after=1, seed=3).run
    end = run(made, plain, steps=3, seed=3, progress=False)
    assert found.status == end.status
    assert traced.meter.state_dict() == plain.meter.state_dict()
    for name, x in vars(end.state).items():
        np.testing.assert_array_equal(vars(found.state)[name], x)
    for name in end.history.names:
        np.testing.assert_array_equal(found.history.column(name), end.history.column(name))


def test_the_listener_leaves_when_the_run_does():
    class Broken(ValueIteration):
        def step(self, state, access):
            raise NotStochasticError("on purpose")

    Broken.__module__ = ValueIteration.__module__
    before = sys.getprofile()
    with pytest.raises(NotStochasticError):
        lab.trace(Broken(), KnownModel(TWO))
    assert sys.getprofile() is before


def test_later_steps_are_those_of_the_longer_trace():
    whole = lab.trace(learner(), Online(TWO), steps=4)
    late = lab.trace(learner(), Online(TWO), steps=2, after=2)
    assert late.first == 3
    np.testing.assert_array_equal(late.steps[0]["theta"], whole.steps[2]["theta"])
    assert [c.part for c in late.steps[1].walk()] == [c.part for c in whole.steps[3].walk()]


# ---- every method -------------------------------------------------------------------------------------------------------

DEMOS = [(entry, k, demo) for entry in methods() for k, demo in enumerate(demos_of(entry.name))]


@pytest.mark.parametrize(("entry", "k", "demo"), DEMOS, ids=[f"{e.name}-{k}" for e, k, _ in DEMOS])
def test_every_method_is_readable(entry, k, demo):
    access = access_for(demo)
    room = Room("reference", entry.family, entry.name)
    found = lab.trace(room.make(demo.algorithm, **demo.settings_for(room, access._model)), access, steps=2)
    text = found.text()
    assert text.count("\nstep ") == len(found.steps) >= 1
    assert all(call.calls for call in found.steps), "a step without a single named part tells nothing"
    assert " at 0x" not in text, "an object without a name"
    assert "nothing changed" not in text.partition("step 2")[0]
    # quantities have names, and a page of text has readers: tables are cut, lines are not endless
    assert max(len(line) for line in text.splitlines()) <= 200
    assert len(text.splitlines()) / len(found.steps) <= 700
    assert all(
        set(c) >= {"part", "about", "arguments", "result", "calls"} for row in found.plain() for c in row["calls"]
    )


# ---- what is asked for --------------------------------------------------------------------------------------------------


def test_only_one_state():
    found = lab.trace(ValueIteration(), KnownModel(models.make("frozenlake", gamma=0.9)), steps=2)
    rows = [row for row in rows_of(found.text(state=14)) if len(row) > 3]
    assert rows
    assert {row[0] for row in rows} == {"14"}
    with pytest.raises(SettingError, match="state = 16; the states are 0 to 15"):
        found.text(state=16)


def test_long_tables_tell_only_what_is_new():
    lake = models.make("frozenlake", gamma=0.9)
    text = lab.trace(ValueIteration(), KnownModel(lake)).text()
    # from v = 0 only the moves into the goal are worth anything: from state 14, right, down, and up by slipping (1/3 each)
    backup = text.partition("q_values")[2].partition("certify")[0]
    assert [row[:2] for row in rows_of(backup)] == [["14", "1"], ["14", "2"], ["14", "3"]]
    assert "(61 rows without news)" in backup


def test_wrong_wishes_are_refused():
    with pytest.raises(SettingError, match="record at least 1 step"):
        lab.trace(ValueIteration(), KnownModel(TWO), steps=0)
    found = lab.trace(ValueIteration(), KnownModel(TWO))
    with pytest.raises(SettingError, match="no call of 'bonus' in recorded step 1; there are certify"):
        found.find("bonus")
    from polytheory.scaled.planning.planning import ValueIteration as Scaled

    with pytest.raises(SettingError, match="not of the reference"):
        lab.trace(Scaled(), KnownModel(TWO).replicate(2))
