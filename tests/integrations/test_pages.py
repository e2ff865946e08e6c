"""The how-to pages say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from page_scripts import page_script

from polytheory.errors import MissingExtraError, SettingError, UnknownNameError
from polytheory.integrations.parts import all_parts, check_settings, named, refuse_given, short_names
from polytheory.integrations.trl import carried as trl
from polytheory.integrations.verl import carried as verl
from polytheory.integrations.verl import register
from polytheory.parts import Kind

DOCS = Path(__file__).parents[2] / "docs"


def _tables():
    tables = page_script("make_tables")
    return tables


@pytest.mark.parametrize("page", ["trl.md", "verl.md"])
def test_the_table_of_the_page_is_the_codes(page):
    path = DOCS / "integrations" / page
    assert _tables().with_carried(path) == path.read_text(encoding="utf-8"), "run: python docs/make_tables.py"


@pytest.mark.parametrize("table", [trl.table, verl.table])
def test_every_advantage_and_loss_is_in_the_table_and_every_refusal_has_a_reason(table):
    rows = table()
    assert {row.part for row in rows} == {*all_parts().names(Kind.ADVANTAGE), *all_parts().names(Kind.LOSS)}
    for row in rows:
        assert row.carried or row.note
        assert "\n" not in row.note
        assert "there is no column" not in row.note  # a reason, not a default


def test_short_names_lead_to_parts():
    assert named(Kind.ADVANTAGE, "rloo") is named(Kind.ADVANTAGE, "rloo_advantages")
    assert named(Kind.LOSS, "grpo").name == "ppo_clip"
    assert set(short_names(Kind.LOSS).values()) == set(all_parts().names(Kind.LOSS))
    with pytest.raises(UnknownNameError, match="did you mean 'gspo'"):
        named(Kind.LOSS, "gpso")


def test_settings_are_checked_by_name():
    assert check_settings(named(Kind.LOSS, "gspo"), {"eps_low": 0.1}) == {"eps_low": 0.1}
    with pytest.raises(UnknownNameError, match="unknown setting of gspo 'epslow'; did you mean 'eps_low'"):
        check_settings(named(Kind.LOSS, "gspo"), {"epslow": 0.1})
    refuse_given("X", {"beta": (0.0, 0.0, "move it")})
    with pytest.raises(SettingError, match=r"X's beta = 0\.1 would be ignored here; leave it out and move it"):
        refuse_given("X", {"beta": (0.1, 0.0, "move it")})


def test_without_verl_the_table_is_there_and_registering_says_what_to_install():
    if importlib.util.find_spec("verl") is None:
        with pytest.raises(MissingExtraError, match="verl"):
            register()
    else:
        register()
