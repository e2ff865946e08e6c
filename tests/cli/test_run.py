"""``run``: from words to a run, and back to a table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polytheory import models
from polytheory.cli._build import parse_pairs
from polytheory.cli.main import call
from polytheory.errors import SettingError
from polytheory.reference.planning.planning import solve


def facts_of(capsys, words: str) -> dict:
    assert call([*words.split(), "--json"]) == 0
    return json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize("algorithm", ["ValueIteration", "PolicyIteration", "LinearProgram"])
def test_planning_finds_the_optimum(capsys, algorithm):
    facts = facts_of(capsys, f"run planning --env two-state --algorithm {algorithm} --set tol=1e-9")
    assert (facts["status"], facts["algorithm"]) == ("done", algorithm)
    # by hand: action 1 everywhere is worth 90/23; a certified value within tol buys a policy within 2 tol of it
    assert abs(facts["value"] - 90 / 23) <= 2e-9


def test_learning_improves_on_the_uniform_policy(capsys):
    command = "run n-pg-igt --env two-state --set truncation=30 --set gamma0=0.5 --seed 1"
    start, end = (facts_of(capsys, f"{command} --steps {n}") for n in (0, 80))
    model = models.make("two-state")
    best = float(model.mu @ solve(model).v)
    assert start["value"] < end["value"] <= best + 1e-9
    assert end["status"] == "steps"
    assert end["episodes"] >= 80


def test_both_rooms_agree(capsys):
    words = "run n-pg-igt --env two-state --set truncation=20 --set gamma0=0.5 --steps 10"
    one = facts_of(capsys, words)
    many = facts_of(capsys, f"{words} --room scaled --replicas 3")
    assert len(many["value"]) == 3
    np.testing.assert_allclose(many["value"][0], one["value"], rtol=1e-12)
    assert many["episodes"] == 3 * one["episodes"]


def test_the_same_command_again_continues(capsys, tmp_path):
    words = f"run harpg --env two-state --set truncation=10 --set gamma0=0.5 --checkpoint {tmp_path}"
    facts_of(capsys, f"{words} --steps 3")
    resumed = facts_of(capsys, f"{words} --steps 6")
    whole = facts_of(capsys, words.replace(f"--checkpoint {tmp_path}", "--steps 6"))
    assert resumed == whole


def test_a_table_for_people(capsys):
    assert call(["run", "planning", "--env", "two-state"]) == 0
    out, err = capsys.readouterr()
    assert "status               done" in out
    assert "value of the policy" in out
    assert "ended: done" in err  # plain lines when piped


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--env frozenlak", "unknown environment 'frozenlak'; did you mean 'frozenlake'?"),
        ("--env two-state --set toll=1", "unknown setting of ValueIteration 'toll'; did you mean 'tol'?"),
        ("--env two-state --set tol=small", "tol = 'small' must be a number"),
        ("--env two-state --set tol=true", "tol = True must be a number"),
        ("--env two-state --set tol", "expected key=value"),
        ("--env two-state --set tol=1 --set tol=2", "given twice"),
        ("--env two-state --set tol=-1", "tol = -1"),
        ("--env two-state --env-set colour=red", "colour"),
        ("--env two-state --env-set gamma=high", "gamma = 'high' must be a number"),
        ("--env two-state --algorithm ValueIter", "did you mean 'ValueIteration'?"),
        ("--env two-state --room scald", "unknown room 'scald'; did you mean 'scaled'?"),
        ("--env two-state --replicas 4", "use --room scaled"),
        ("--env two-state --room scaled --replicas 0", "at least 1"),
        (
            "--env two-state --room scaled --algorithm LinearProgram",
            "the scaled room has no LinearProgram; it has Value",
        ),
        ("--env two-state --steps -1", "steps = -1"),
        ("--env two-state --every never", "every = 'never'"),
    ],
)
def test_bad_input(capsys, words, expected):
    assert call(f"run planning {words}".split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--env two-state --steps 3", "NPgIgt needs truncation; give it with --set truncation=..."),
        ("--env two-state --set truncation=5 --set gamma0=0.5", "pass steps=... or episodes=..."),
    ],
)
def test_what_a_learner_needs(capsys, words, expected):
    assert call(f"run n-pg-igt {words}".split()) == 2
    assert expected in capsys.readouterr().err


LOCK = "run optimistic-actor-critic --env baited-lock --env-set H=3 --episodes 20 --json --algorithm"


@pytest.mark.parametrize("algorithm", ["NoraHybrid", "Noah"])
@pytest.mark.parametrize("room", ["reference", "scaled"])
def test_learners_start_from_offline_data(capsys, algorithm, room):
    switches = []
    for words in ("Nora", f"{algorithm} --set offline=half-optimal:60"):
        assert call(f"{LOCK} {words} --room {room}".split()) == 0
        switches.append(json.loads(capsys.readouterr().out)["last"]["switches"])
    assert switches[1] < switches[0]  # what 60 episodes have shown does not double soon


def test_offline_data_come_from_a_file(capsys, tmp_path):
    from polytheory.episodes import write_episodes
    from polytheory.models import make
    from polytheory.reference.exploration.behaviours import behaviour_episodes

    facts = []
    for source in ("half-optimal:60", tmp_path / "lock.npz", tmp_path / "lock.parquet"):
        if not isinstance(source, str):
            write_episodes(source, behaviour_episodes(make("baited-lock", H=3), "half-optimal", 60))
        assert call(f"{LOCK} NoraHybrid --set offline={source}".split()) == 0
        facts.append(json.loads(capsys.readouterr().out))
    assert facts[0] == facts[1] == facts[2]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("NoraHybrid", "--set offline=half-optimal:100"),
        ("NoraHybrid --set offline=optimal", "give a file that ends in .npz or .parquet, or behaviour:episodes"),
        ("Noah --set offline=60", "behaviour:episodes such as half-optimal:100"),
        ("Noah --set offline=best:60", "unknown behaviour 'best'"),
        ("Noah --set offline=optimal:0", "0 offline episodes; at least 1"),
        ("Noah --set offline=nowhere.npz", "nowhere.npz is no file"),
    ],
)
def test_offline_data_that_are_none(capsys, words, expected):
    assert call(f"{LOCK} {words}".split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


def test_values_of_pairs():
    words = ["a=1", "b=0.5", "c=true", "d=none", "e=text", "f=[1, 2]", "some-name=1e-3"]
    assert parse_pairs(words, "--set") == {
        "a": 1, "b": 0.5, "c": True, "d": None, "e": "text", "f": [1, 2], "some_name": 1e-3
    }  # fmt: skip
    with pytest.raises(SettingError, match="expected key=value"):
        parse_pairs(["=1"], "--set")


DEEP = "run iwocs --room scaled --algorithm DeepIwocs --env pendulum --env-set truncation=4"
FEW = '--set training={"iterations":1,"updates":2,"batch":4,"hidden":4} --set generations=1 --set population=4 --set worlds=2'


def test_a_search_over_physical_worlds(capsys, tmp_path):
    words = f"{DEEP} --env-set mass=[0.5,2] {FEW} --checkpoint {tmp_path} --json".split()
    assert call(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["status"], first["ended"] in ("met", "stuck", "worlds")) == ("done", True)
    assert first["worlds"][0] == [1.0]
    assert len(first["value"]) == 5
    assert first["worst"] == min(first["value"])
    assert call(words) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("run iwocs --algorithm DeepIwocs --env pendulum", "the reference room has no DeepIwocs; it has Iwocs"),
        (f"{DEEP} --replicas 2", "run it again with another --seed"),
        (DEEP.replace("pendulum", "pendulm"), "did you mean 'pendulum'?"),
        (f"{DEEP} --env-set mas=[1,2]", "unknown constant of pendulum 'mas'; did you mean 'mass'?"),
        (f"{DEEP} --env-set mass=2", "give the two ends"),
        (f"{DEEP} --env-set gamma=high", "gamma = 'high'; it must be a number"),
        (f"{DEEP} --set adversary=cmaes", "unknown adversary 'cmaes'; did you mean 'cma'?"),
        (f'{DEEP} --set training={{"update":2}}', "unknown setting of Sac 'update'; did you mean 'updates'?"),
        (f"{DEEP} --set training=3", "give settings by name"),
    ],
)
def test_bad_input_for_physical_worlds(capsys, words, expected):
    assert call(words.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


STOCK = "run distributional-dp --room scaled --algorithm StockQuantileAgent"
TINY = "--set updates=2 --set batch=4 --set minibatch=8 --set width=8 --steps 2"
LAKE = "--env gymnasium:FrozenLake-v1 --env-set horizon=4 --env-set gamma=1 --env-set reward_range=[0,1] --env-set n_envs=128"


@pytest.mark.parametrize("env", ["--env wager", LAKE])
def test_a_stock_conditioned_agent(capsys, tmp_path, env):
    words = f"{STOCK} {env} {TINY} --set objective=cvar:0.5 --checkpoint {tmp_path} --json".split()
    assert call(words) == 0
    out, err = capsys.readouterr()
    first = json.loads(out)
    assert "step 2/2" in err
    assert (first["status"], first["objective"], first["episodes"]) == ("steps", "cvar:0.5", 8)
    if env == LAKE:  # a return is 0 or 1: the worst half averages at most what all do
        assert 0 <= first["low"] + 1e-12 <= first["value"] + 2e-12 <= first["mean"] + 3e-12
        assert first["held-out episodes"] == 500
    else:
        assert 27 / 8 <= first["value"] <= 5.5  # the risk-neutral policy, and the optimum for this share
    assert call(words) == 0
    assert json.loads(capsys.readouterr().out) == first


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "run distributional-dp --algorithm StockQuantileAgent --env wager",
            "the reference room has no StockQuantileAgent",
        ),
        (f"{STOCK} --env wager --replicas 2", "run it again with another --seed"),
        (f"{STOCK} --env wager", "pass steps=... or episodes=..."),
        (f"{STOCK} --env wager --set objective=cvar:2", "tau = 2.0; the share of returns"),
        (f"{STOCK} --env wager --set objective=median", "unknown objective 'median'"),
        (f"{STOCK} --env wager --set objective=quantile:0.5", "not indifferent to mixtures"),
        (f"{STOCK} --env wager --env-set gamma=0.5 --set objective=entropic:1", "not indifferent to gamma"),
        (f"{STOCK} --env wager --set bins=1", "bins = 1; take at least 2"),
        (f"{STOCK} --env wager --set stock_range=[5,5]", "stock_range = [5, 5]; give two finite numbers"),
        (
            f"{STOCK} --env gymnasium:CartPole-v1 --env-set reward_range=[1]",
            "reward_range = [1]; it must be two numbers",
        ),
        (f"{STOCK} --env gymnasium:FrozenLake --env-set horizon=4", "unknown Gymnasium environment 'FrozenLake'"),
        (f"{STOCK} --env gymnasium:CartPole-v1", "does not bound its rewards; give stock_range"),
        (f"{STOCK} --env gymnasium:CartPole-v1 --env-set horizon=900", "at most CartPole-v1's limit 500"),
        (f"{STOCK} --env gymnasium:CartPole-v1 --env-set wind=2", "does not take these options"),
        (f"{STOCK} --env gymnasium:CartPole-v1 --env-set gamma=one", "gamma = 'one'; it must be a number"),
        (f"{STOCK} --env gymnasium:Pendulum-v1", "only Discrete(n) starting at 0"),
        ("run harpg --env gymnasium:CartPole-v1", "plays models whose states can be counted"),
    ],
)
def test_bad_input_for_the_agent(capsys, words, expected):
    assert call([*words.split(), *(() if words.endswith("wager") else ("--steps", "1"))]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err
