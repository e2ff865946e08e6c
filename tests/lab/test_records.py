"""Results survive the disk, and files appear whole."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from verifications import EVIL, curve, demo_record, verification

from polytheory.errors import SettingError
from polytheory.lab.records import dump, load, write_atomically


def test_what_is_loaded_is_what_was_dumped(tmp_path):
    path = tmp_path / "verify.json"
    found = verification(title=EVIL)
    path.write_text(dump(found), encoding="utf-8")
    assert load(path) == found
    assert load(path).methods[0].demos[0].curve.series[0].y[2] is None


def test_numbers_that_are_not_finite_become_null():
    bad = demo_record(value=math.nan, bound=math.inf, curve=curve(title="x"))
    text = dump(replace(verification(), methods=[replace(verification().methods[0], demos=[bad])]))
    plain = json.loads(text, parse_constant=pytest.fail)
    demo = plain["methods"][0]["demos"][0]
    assert demo["value"] is None
    assert demo["bound"] is None


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "verify.json"
    whole = dump(verification())
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(SettingError, match="polytheory verify"):
        load(path)
    path.write_text(whole.replace('"claim"', '"clam"'), encoding="utf-8")
    with pytest.raises(SettingError, match="polytheory verify"):
        load(path)


def test_a_write_replaces_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "page.html"
    write_atomically(path, "first")
    write_atomically(path, "second")
    assert path.read_text() == "second"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]  # nothing is left beside it
    with pytest.raises(SettingError, match=r"page\.html"):
        write_atomically(path / "below-a-file.html", "third")
    with pytest.raises(UnicodeEncodeError):  # fails half-way: the old text stays
        write_atomically(path, "x" * 100_000 + "\ud800")
    assert path.read_text() == "second"
