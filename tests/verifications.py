"""A hand-made verification with hostile texts, and claims to plant."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from polytheory.lab.records import (
    Curve,
    DemoRecord,
    GridValues,
    Level,
    Lockstep,
    MethodRecord,
    Series,
    Verification,
)
from polytheory.proofs_check import claims
from polytheory.proofs_check.claims import Claim, Demo, Margin, Wrap
from polytheory.proofs_check.runner import ClaimResult, MutantResult, load_method

EVIL = "<script>alert('x')</script>&\""
VALUES = [0.1, 1 / 3, -0.25, 0.0, 1e-17, 12345.678901234567]


# ---- records by hand -------------------------------------------------------------------------------------------------


def claim_result(claim: str = "holds", room: str = "reference", **changes) -> ClaimResult:
    known = {
        "claim": claim,
        "method": "planning",
        "room": room,
        "level": "PROPERTY",
        "source": "puterman2005",
        "statement": "a sentence",
        "instances": 3,
        "margin": 0.5,
        "tolerance": 1e-12,
        "holds": True,
        "seconds": 0.25,
        "mutants": [MutantResult("drop_gamma", True, "margin -1 < -1e-12 on instance 0")],
    }
    return ClaimResult(**{**known, **changes})


def grid_values(values=tuple(VALUES)) -> GridValues:
    policy = [
        [0.7, 0.3, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.25] * 4,
        [0.0, 1.0, 0.0, 0.0],
        [0.25] * 4,
    ]
    return GridValues(
        rows=2, columns=3, values=[float(x) for x in values], policy=policy, arrows=["←", "↓", "→", "↑"],
        ends=[False] * 5 + [True], goals=[False] * 5 + [True], starts=[True] + [False] * 5,
    )  # fmt: skip


def curve(**changes) -> Curve:
    known = {
        "title": "Error",
        "x_label": "sweeps",
        "y_label": "error",
        "series": [Series("bound", [1.0, 2.0, 3.0, 4.0], [1.0, 0.1, None, 0.001])],
        "levels": [Level("optimum", 0.5)],
        "log_y": True,
    }
    return Curve(**{**known, **changes})


def demo_record(**changes) -> DemoRecord:
    known = {
        "environment": "gridworld",
        "model": "grid",
        "S": 6,
        "A": 4,
        "gamma": 0.9,
        "horizon": None,
        "algorithm": "ValueIteration",
        "access": "KnownModel",
        "settings": {"tol": "1e-06"},
        "steps": 9,
        "status": "done",
        "value": 1.0,
        "optimum": 1.0,
        "bound": 1e-7,
        "episodes": 10,
        "transitions": 200,
        "backups": 216,
        "curve": curve(),
        "grid": grid_values(),
        "lockstep": Lockstep(1e-15, 1e-11, 5, 3, ["state.v"], "state.v", True),
        "seconds": 0.5,
    }
    return DemoRecord(**{**known, **changes})


def verification(**changes) -> Verification:
    known = {
        "method": "planning",
        "title": "Planning",
        "paper": "A paper",
        "url": "https://example.org/a?b=1&c=2",
        "claims": [claim_result(), claim_result(room="scaled")],
        "demos": [demo_record()],
        "seconds": 1.5,
    }
    record = MethodRecord(**{**known, **changes})
    return Verification([record], {"python": "3.11"}, 2.0, "2026-01-01T00:00:00+00:00")


# ---- claims to plant -------------------------------------------------------------------------------------------------

P, r, v = np.array([[[0.9, 0.1]], [[0.7, 0.3]]]), np.array([[0.1], [0.5]]), np.array([1.0, 2.0])


def true_claim(instance, room):
    """The Bellman backup against explicit sums over successors."""
    q = room.parts.q_values(P, r, v, gamma=0.8)
    expected = [[r[s, 0] + 0.8 * sum(P[s, 0, y] * v[y] for y in range(2))] for s in range(2)]
    return Margin.equal(q, expected, 1e-14)


def false_claim(instance, room):
    """Never holds."""
    return Margin(-1.0, 0.0)


def crashing_claim(instance, room):
    """Always crashes, over two lines."""
    raise RuntimeError("the planted\ncrash")


def nan_claim(instance, room):
    """A margin that is no number."""
    return Margin(float("nan"), 1.0)


SIGN = Wrap("sign", "q_values", lambda f: lambda *a, **k: -f(*a, **k))
NOTHING = Wrap("nothing", "q_values", lambda f: lambda *a, **k: f(*a, **k))
HALF = Wrap("half", "q_values", lambda f: (lambda *a, **k: -f(*a, **k)) if ".reference." in f.__module__ else f)
SMALL = Demo(
    "gridworld", "ValueIteration", options={"rows": 2, "columns": 3}, access="KnownModel", lockstep_steps=3
)  # fmt: skip


def planted(monkeypatch, *checks, breaks=(SIGN,), demos=(SMALL,), method="planning", **changes) -> None:
    """Put these claims and demonstrations in the place of a method's own."""
    known = {
        "method": method,
        "source": "a test",
        "level": claims.Level.PROPERTY,
        "statement": "planted",
        "breaks": breaks,
        "rooms": claims.ROOMS,
        "worked": lambda: (),
        "generated": None,
        "catches": (),
    }
    monkeypatch.setattr(load_method(method), "DEMOS", tuple(demos))
    made = {c.__name__: Claim(name=c.__name__, check=c, **{**known, **changes}) for c in checks}
    monkeypatch.setitem(claims._CLAIMS, method, made)


# ---- reading a page --------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed by its own end tag. ``elements`` are (name, attributes, text)."""

    VOID = ("meta", "br", "hr", "img", "link", "input")

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {[self.elements[i][0] for i in self.open]}"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} is given twice"
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.elements[self.open[-1]][0] == tag, f"</{tag}> closes {self.elements[self.open[-1]][0]}"
        self.open.pop()

    def handle_data(self, data):
        for i in self.open:
            self.elements[i][2].append(data)

    def all(self, tag: str, **attributes: str) -> list[tuple[dict[str, str | None], str]]:
        """Attributes and text of every element of that name that has these attributes."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            (have, "".join(text))
            for name, have, text in self.elements
            if name == tag and all(have.get(key) == value for key, value in wanted.items())
        ]

    @property
    def text(self) -> str:
        """All text below the root."""
        return "".join(self.elements[0][2])
