"""Claims about nature's problem in one row: the closed forms are the programs that define them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.robust.instances import (
    CONIC,
    EXACT,
    Row,
    conic_minimum,
    divergence_of,
    interval_program,
    l1_program,
    rows,
    transport_program,
    worked_rows,
)

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

LP = 1e-8  # HiGHS: feasibility tolerance 1e-9 on numbers of size at most 10


def scaled_radius(part: str, factor: float) -> Wrap:
    """The commonest error of the subject: a radius in other units."""
    return Wrap(
        f"{part}_radius_times_{factor:g}",
        part=part,
        by=lambda f: lambda z, p, radius, **k: f(z, p, factor * radius, **k),
    )


def cost_of(row: Row) -> np.ndarray:
    """Outcomes on a line."""
    place = np.arange(len(row.z))
    return np.abs(place[:, None] - place[None, :]).astype(float)


@claim(
    method="robust-dp",
    source="iyengar2005, Lemma 4.3; ho2018",
    level=Level.CERTIFICATE,
    statement="the worst law of an L1 ball, over all outcomes or over the nominal support, solves its linear program",
    worked=worked_rows,
    generated=rows,
    breaks=[
        scaled_radius("worst_l1", 2.0),
        Wrap("support_ignored", part="receivers", by=lambda f: lambda z, p, support: f(z, p, "full")),
        Line(
            "worst_first",
            room="reference",
            module="polyhedral",
            old="np.argsort(-z, axis=-1",
            new="np.argsort(z, axis=-1",
        ),
        Line(
            "worst_first_in_torch",
            room="scaled",
            module="polyhedral",
            old="z.sort(dim=-1, descending=True",
            new="z.sort(dim=-1",
        ),
    ],
)
def l1_is_its_linear_program(row: Row, room: Room) -> Margin:
    found = [room.parts.worst_l1(row.z, row.p, row.radius, support=x).value for x in ("full", "nominal")]
    return Margin.equal(found, [l1_program(row), l1_program(row, "nominal")], LP)


@claim(
    method="robust-dp",
    source="iyengar2005, sec. 4",
    level=Level.CERTIFICATE,
    statement="filling up from the worst outcome solves the linear program of an interval set and of an L-infinity ball",
    worked=worked_rows,
    generated=rows,
    breaks=[
        scaled_radius("worst_linf", 0.5),
        Wrap("best_first", part="worst_interval", by=lambda f: lambda z, low, high: f(-z, low, high)),
        Line(
            "no_lower_end",
            room="reference",
            module="polyhedral",
            old="left = 1 - low.sum",
            new="left = 1 - 0 * low.sum",
        ),
        Line(
            "no_lower_end_in_torch",
            room="scaled",
            module="polyhedral",
            old="left = 1 - low.sum",
            new="left = 1 - 0 * low.sum",
        ),
    ],
)
def interval_is_its_linear_program(row: Row, room: Room) -> Margin:
    low, high = np.maximum(row.p - row.radius, 0), np.minimum(row.p + row.radius, 1)
    found = [
        room.parts.worst_linf(row.z, row.p, row.radius).value,
        room.parts.worst_interval(row.z, low / 2, high).value,
    ]
    return Margin.equal(found, [interval_program(row, low, high), interval_program(row, low / 2, high)], LP)


@claim(
    method="robust-dp",
    source="folklore; derived",
    level=Level.CERTIFICATE,
    statement="mixing the two best plans around the dual price solves the transport program of a Wasserstein ball",
    worked=worked_rows,
    generated=rows,
    breaks=[
        Wrap(
            "half_the_budget", part="worst_transport", by=lambda f: lambda z, p, cost, radius: f(z, p, cost, radius / 2)
        ),
        Wrap("other_metric", part="worst_transport", by=lambda f: lambda z, p, cost, radius: f(z, p, cost**2, radius)),
        Line(
            "budget_not_spent",
            room="reference",
            module="polyhedral",
            old="share = 0.0 if spent[1]",
            new="share = 0.0 if True or spent[1]",
        ),
        Line(
            "budget_not_spent_in_torch",
            room="scaled",
            module="polyhedral",
            old="torch.where(enough, 0.0, share)",
            new="0 * share",
        ),
    ],
)
def transport_is_its_linear_program(row: Row, room: Room) -> Margin:
    found = room.parts.worst_transport(row.z, row.p, cost_of(row), row.radius)
    return Margin.equal(found.value, np.asarray(transport_program(row, cost_of(row))), LP)


@claim(
    method="robust-dp",
    source="nilim2005, sec. 4; iyengar2005, Lemma 4.1, 4.2",
    level=Level.CERTIFICATE,
    statement="worst laws of balls of relative entropy (both ways round) and chi-square solve their conic programs",
    worked=lambda: [row for row in worked_rows() if row.radius > 0],
    breaks=[
        Wrap(
            "entropy_reversed",
            part="worst_kl",
            by=lambda f: lambda z, p, radius: f.__globals__["worst_reverse_kl"](z, p, radius),
        ),
        scaled_radius("worst_kl", 2.0),
        scaled_radius("worst_chi2", 2.0),
        scaled_radius("worst_reverse_kl", 0.5),
        Wrap("largest_for_smallest", part="lowest", by=lambda f: lambda z, p: (0 * f(z, p)[0], f(z, p)[1])),
    ],
)
def divergence_balls_are_their_programs(row: Row, room: Room) -> Margin:
    names = {"kl": "worst_kl", "chi2": "worst_chi2", "reverse-kl": "worst_reverse_kl"}
    found = [getattr(room.parts, part)(row.z, row.p, row.radius).value for part in names.values()]
    return Margin.equal(found, [conic_minimum(row, name) for name in names], CONIC)


@claim(
    method="robust-dp",
    source="derived from Fenchel duality",
    level=Level.CERTIFICATE,
    statement="penalised worst cases solve their conic programs",
    worked=lambda: [row for row in worked_rows() if row.radius > 0],
    breaks=[
        Wrap("strength_halved", part="penalised_tv", by=lambda f: lambda z, p, strength: f(z, p, strength / 2)),
        Wrap("strength_halved_kl", part="penalised_kl", by=lambda f: lambda z, p, strength: f(z, p, strength / 2)),
        Wrap("strength_halved_chi2", part="penalised_chi2", by=lambda f: lambda z, p, strength: f(z, p, strength / 2)),
    ],
)
def penalties_are_their_programs(row: Row, room: Room) -> Margin:
    strength = 2 * row.radius
    found = [getattr(room.parts, f"penalised_{name}")(row.z, row.p, strength).value for name in ("tv", "kl", "chi2")]
    return Margin.equal(found, [conic_minimum(row, name, strength=strength) for name in ("tv", "kl", "chi2")], CONIC)


BALLS = {
    "l1": "worst_l1", "linf": "worst_linf", "kl": "worst_kl", "chi2": "worst_chi2", "reverse-kl": "worst_reverse_kl",
}  # fmt: skip


def _keep_law(part: str) -> Wrap:
    return Wrap(
        f"{part}_gives_the_nominal_law",
        part=part,
        by=lambda f: lambda z, p, radius, **k: f(z, p, radius, **k)._replace(law=p),
    )


@claim(
    method="robust-dp",
    source="definition",
    level=Level.CERTIFICATE,
    statement="the law that is returned lies in the ball and attains the value, and the dual gap is rounding",
    worked=worked_rows,
    generated=rows,
    breaks=[
        _keep_law("worst_kl"),
        _keep_law("worst_l1"),
        *(scaled_radius(part, 1.5) for part in BALLS.values()),
        Line(
            "stays_in_the_bracket",
            room="reference",
            module="divergences",
            old="return np.where(wanted, low, 0.0)",
            new="return np.where(wanted, 1.5 * low, 0.0)",
        ),
    ],
)
def laws_lie_in_the_ball_and_attain_the_value(row: Row, room: Room) -> Margin:
    margins = []
    size = 1 + float(np.abs(row.z).max())
    for name, part in BALLS.items():
        worst: Any = getattr(room.parts, part)(row.z, row.p, row.radius)
        law = np.asarray(worst.law)
        away = divergence_of(name, law, row.p)
        margins.append(Margin.equal(law.sum(), np.asarray(1.0), EXACT))
        margins.append(Margin.at_most(away, row.radius, 1e-9))  # the search ends where f turns by one rounding
        margins.append(Margin.equal(law @ row.z, np.asarray(worst.value), 1e-9 * size))
        margins.append(Margin.at_most(worst.gap, 0.0, 1e-9 * size))
    return Margin.worst(margins)


@claim(
    method="robust-dp",
    source="Pinsker; KL <= log(1 + chi2)",
    level=Level.PROPERTY,
    statement="worst cases fall with the radius; a KL ball lies in the TV ball of radius sqrt(rho/2), a chi-square "
    "ball in the KL ball of radius log(1 + rho); radius 0 is the nominal mean",
    worked=worked_rows,
    generated=rows,
    breaks=[
        Wrap("wider_kl", part="worst_kl", by=lambda f: lambda z, p, radius: f(z, p, 4 * radius)),
        Wrap("wider_chi2", part="worst_chi2", by=lambda f: lambda z, p, radius: f(z, p, 4 * radius)),
        Wrap("never_zero", part="worst_l1", by=lambda f: lambda z, p, radius, **k: f(z, p, max(radius, 0.3), **k)),
        Wrap("radius_from_above", part="worst_linf", by=lambda f: lambda z, p, radius: f(z, p, 1 - radius)),
    ],
)
def radii_are_ordered(row: Row, room: Room) -> Margin:
    rho, mean = row.radius, float(row.p @ row.z)

    def value(part: str, radius: float) -> float:
        return float(getattr(room.parts, part)(row.z, row.p, radius).value)

    margins = [Margin.equal(value(part, 0.0), np.asarray(mean), 1e-9) for part in BALLS.values()]
    margins += [Margin.at_most(value(part, rho), value(part, rho / 2), 1e-9) for part in BALLS.values()]
    margins.append(Margin.at_most(value("worst_l1", min(2.0, 2 * np.sqrt(rho / 2))), value("worst_kl", rho), 1e-9))
    margins.append(Margin.at_most(value("worst_kl", np.log1p(rho)), value("worst_chi2", rho), 1e-9))
    return Margin.worst(margins)
