"""Studies: cells, keys, seeds, and every way to write one wrongly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from polytheory.errors import PolytheoryError
from polytheory.lab import Study
from polytheory.lab.sweeps import Environment, Method
from polytheory.lab.sweeps.cells import SCALED_BLOCK, Job, blocks, missing

TOML = """
name = "river"
seeds = 20
episodes = [100, 1000]
measure = ["regret"]

[[method]]
name = "optimistic-actor-critic"
algorithm = "Nora"
settings = { episodes = "budget", bonus_scale = [0.3, 1.0] }

[[method]]
name = "optimistic-actor-critic"
algorithm = "Ucbvi"
measure = ["switches"]

[[environment]]
name = "riverswim"
options = { horizon = [5, 10] }

[estimate]
slope = 0.5

[small]
seeds = 2
episodes = 10
[[small.environment]]
name = "chain"
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    return path


def test_a_file_says_what_python_says(path):
    read = Study.read(path)
    assert read == Study(
        name="river",
        methods=[
            Method("optimistic-actor-critic", "Nora", {"episodes": "budget", "bonus_scale": [0.3, 1.0]}),
            Method("optimistic-actor-critic", "Ucbvi", measure=["switches"]),
        ],
        environments=[Environment("riverswim", {"horizon": [5, 10]})],
        seeds=20, episodes=[100, 1000], measure=["regret"], extra={"estimate": {"slope": 0.5}},
    )  # fmt: skip
    cells = read.cells()
    assert len(cells) == 2 * 2 * 2 + 2 * 2
    assert [c.columns for c in cells[:2]] == [
        {"method": "optimistic-actor-critic", "algorithm": "Nora", "environment": "riverswim", "env.horizon": h,
         "algo.episodes": 100, "algo.bonus_scale": 0.3, "budget": 100, "room": "scaled"}
        for h in (5, 10)
    ]  # fmt: skip
    assert cells[-1].measure == ("regret", "switches")


def test_the_small_form_replaces_keys(path):
    small = Study.read(path, small=True)
    assert (small.seeds, small.episodes, small.name) == (2, 10, "river")
    assert [e.name for e in small.environments] == ["chain"]
    assert len(small.cells()) == 3
    assert Study.read(path).seeds == 20


def test_the_name_is_the_files_where_none_is_given(path):
    path.write_text(TOML.replace('name = "river"\n', "", 1))
    assert Study.read(path).name == "study"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 20", "seed_count = 20", "unknown key of a study 'seed_count'"),
        ("seeds = 20", "sedes = 20", "unknown key of a study 'sedes'; did you mean 'seeds'?"),
        ("seeds = 2\n", "sedes = 2\n", r"unknown key of a study in \[small\] 'sedes'; did you mean 'seeds'?"),
        ("seeds = 20", "seeds = 0", "seeds = 0; a whole number >= 1"),
        ("seeds = 20", "seeds = true", "seeds = True; a whole number is needed"),
        ("seeds = 20", "seeds = 20\nsteps = 4", "both steps and episodes"),
        ("seeds = 20", 'seeds = 20\nroom = "sclaed"', "unknown room 'sclaed'; did you mean 'scaled'"),
        ("[100, 1000]", "[100, 0]", "budget 0; steps and episodes are whole numbers >= 1"),
        ("[100, 1000]", '"many"', "episodes = 'many'; a whole number, or a list of them"),
        ('"optimistic-actor-critic"\nalgorithm = "Nora"', '"optimistic-actor"', "did you mean 'optimistic-actor-critic'"),
        ('"Nora"', '"Norra"', "unknown algorithm of optimistic-actor-critic 'Norra'; did you mean 'Nora'"),
        ("bonus_scale", "bonus_scael", "unknown setting of Nora 'bonus_scael'; did you mean 'bonus_scale'"),
        ("[0.3, 1.0]", "[]", r"bonus_scale = \[\]; a knob needs at least one value"),
        ("[0.3, 1.0]", "[nan]", "bonus_scale = nan; a finite number"),
        ('"riverswim"', '"riversim"', "unknown environment 'riversim'; did you mean 'riverswim'"),
        ("{ horizon = [5, 10] }", "{ horizn = 5 }", "unknown option of riverswim 'horizn'; did you mean 'horizon'"),
        ("{ horizon = [5, 10] }", "5", "options of the environment riverswim = 5; a table"),
        ("settings =", "setings =", "unknown method key 'setings'; did you mean 'settings'"),
        ('[[environment]]\nname = "riverswim"', "[[environment]]", "environment without a name"),
        ('[[environment]]\nname = "riverswim"\noptions = { horizon = [5, 10] }', "", "has no environments"),
        ("[[method]]", "[method]", "is no TOML"),
        ('measure = ["regret"]', "measure = [1]", r"measure = \[1\]; a list of names is needed"),
        ('name = "river"', 'name = "a/b"', "name = 'a/b'; the name of a study"),
        ("episodes = [100, 1000]", "", "a setting is 'budget', but the study has none"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(path, old, new, message):
    assert old in TOML
    path.write_text(TOML.replace(old, new, 1))
    with pytest.raises(PolytheoryError, match=message) as told:
        Study.read(path).cells()
    assert "\n" not in str(told.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(PolytheoryError, match=r"cannot read .*No such file"):
        Study.read(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PolytheoryError, match="is no TOML"):
        Study.read(tmp_path / "binary.toml")
    (tmp_path / "small.toml").write_text("small = 3")
    with pytest.raises(PolytheoryError, match=r"small = 3; it is a table"):
        Study.read(tmp_path / "small.toml")
    (tmp_path / "large.toml").write_text('[[method]]\nname = "planning"\n[[environment]]\nname = "taxi"')
    with pytest.raises(PolytheoryError, match=r"has no table \[small\]"):
        Study.read(tmp_path / "large.toml", small=True)


def test_seeds_are_a_tree(path):
    study = Study.read(path)
    cells = study.cells()
    roots = [c.seed for c in cells]
    # no two problems share numbers; one problem keeps them in another room, with another budget, with more seeds
    problems = {(c.algorithm, str(c.settings), str(c.options)) for c in cells}
    assert len(set(roots)) == len(problems)
    for change in ({"room": "reference"}, {"seeds": 99}, {"density": 3}, {"measure": ["value"]}, {"block": 7}):
        assert [c.seed for c in replace(study, **change).cells()] == roots
    assert not set(roots) & {c.seed for c in replace(study, seed=1).cells()}
    ucbvi = [c for c in cells if c.algorithm == "Ucbvi"]
    assert len({c.key for c in ucbvi}) == 4
    assert len({c.seed for c in ucbvi}) == 2  # two horizons; two budgets each


def test_the_seed_of_a_cell_is_pinned():
    """A later version of the code draws the same numbers for the same cell."""
    study = Study("x", ["planning"], [{"name": "two-state", "options": {"gamma": 0.9}}], room="reference", seed=7)
    (cell,) = study.cells()
    assert cell.seed == 3357914873605073074


def test_auto_takes_the_scaled_room_where_the_method_has_it(monkeypatch):
    study = Study("x", ["planning", {"name": "planning", "algorithm": "LinearProgram"}], ["two-state"])
    assert [(c.room, c.block) for c in study.cells()] == [("scaled", SCALED_BLOCK), ("reference", 1)]
    with pytest.raises(PolytheoryError, match="the scaled room has no LinearProgram"):
        replace(study, room="scaled").cells()


def test_the_same_cell_twice_is_one():
    assert len(Study("x", ["planning", "planning"], ["two-state"]).cells()) == 1


def test_blocks_and_what_is_missing_of_them():
    (cell,) = Study("x", ["planning"], ["two-state"], seeds=10, block=4).cells()
    assert [list(b) for b in blocks(cell)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(missing(cell, range(4, 8), {5})) == [Job(cell, 4, 1), Job(cell, 6, 2)]
    assert list(missing(cell, range(4, 8), set())) == [Job(cell, 4, 4)]
    assert list(missing(cell, range(4, 8), {4, 5, 6, 7})) == []


def test_titles_are_for_people(path):
    cell = Study.read(path).cells()[0]
    assert cell.title == "Nora on riverswim (episodes=100, bonus_scale=0.3, horizon=5, 100 episodes)"
    assert Job(cell, 0, 1).title.endswith(", seed 0")
    assert Job(cell, 4, 4).title.endswith(", seeds 4 to 7")


def test_unknown_names_of_the_laboratory():
    from polytheory import lab

    with pytest.raises(AttributeError, match="no attribute 'Stduy'"):
        _ = lab.Stduy
