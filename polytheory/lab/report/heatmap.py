"""Values and policy of a grid as SVG: colour and number for the value, arrows for the policy."""

from __future__ import annotations

from polytheory.lab.records import GridValues
from polytheory.lab.report.html import Safe, el
from polytheory.lab.report.scales import Number

CELL = 52
# viridis at nine equal steps: even in lightness, so that it reads in grey and by every eye
STOPS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
DIRECTIONS = {"←": (-1, 0), "→": (1, 0), "↑": (0, -1), "↓": (0, 1)}
FAINT = 0.05  # actions less likely than this are not drawn


def figure(grid: GridValues, what: str) -> Safe:
    """The grid with title, colour bar and caption."""
    low, high = min(grid.values), max(grid.values)
    pointed = all(arrow in DIRECTIONS for arrow in grid.arrows)
    how = (
        "its actions as arrows, longer when more likely"
        if pointed
        else "the likeliest actions with their probabilities"
    )
    return el(
        "figure",
        el("h4", f"Value and policy: {what}"),
        el("div", _drawing(grid, low, high, what), class_="scroll", tabindex=0),
        _bar(low, high),
        el(
            "figcaption",
            f"Each cell shows a state's exact value under the policy found and {how}. "
            f"◤: episodes start here. ■: an episode ends here{' (★: with a reward)' if any(grid.goals) else ''}.",
        ),
    )


def colour(share: Number) -> str:
    """Colour at a share in [0, 1] of the scale, as #rrggbb."""
    at = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    i = min(int(at), len(STOPS) - 2)
    pair = [[int(stop[k : k + 2], 16) for k in (0, 2, 4)] for stop in STOPS[i : i + 2]]
    return "#" + "".join(f"{round(a + (at - i) * (b - a)):02x}" for a, b in zip(*pair, strict=True))


def ink(background: str) -> str:
    """Black or white, whichever has the higher contrast ratio on the background (WCAG 2)."""
    light = luminance(background)
    return "#000000" if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else "#ffffff"


def luminance(rgb: str) -> float:
    """Relative luminance of #rrggbb."""
    parts = [int(rgb[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _drawing(grid: GridValues, low: Number, high: Number, what: str) -> Safe:
    cells = [_cell(grid, s, low, high) for s in range(grid.rows * grid.columns)]
    width, height = grid.columns * CELL, grid.rows * CELL
    text = f"{what}: values from {low:.4g} to {high:.4g} on a grid of {grid.rows} rows and {grid.columns} columns"
    return el(
        "svg", el("title", text), *cells, viewBox=f"0 0 {width} {height}", role="img", aria_label=text, class_="grid",
        style=f"min-width:{grid.columns * 36}px;max-width:{grid.columns * 96}px",
    )  # fmt: skip


def _cell(grid: GridValues, s: int, low: Number, high: Number) -> Safe:
    row, column = divmod(s, grid.columns)
    x, y, v = column * CELL, row * CELL, grid.values[s]
    fill = colour((v - low) / (high - low)) if high > low else colour(0.5)
    pen = ink(fill)
    parts = [
        el("title", _words(grid, s)),
        el("rect", x=x, y=y, width=CELL, height=CELL, fill=fill, data_state=s, data_value=repr(v), class_="cell"),
    ]
    if grid.ends[s]:
        mark = "★" if grid.goals[s] else "■"
        parts.append(el("text", mark, x=x + CELL / 2, y=y + CELL / 2 + 7, fill=pen, text_anchor="middle", font_size=20))
    else:
        parts.append(el("text", _short(v), x=x + CELL / 2, y=y + 15, fill=pen, text_anchor="middle", font_size=12))
        draw = _arrows if all(arrow in DIRECTIONS for arrow in grid.arrows) else _named
        parts += draw(grid, s, x + CELL / 2, y + CELL / 2 + 8, pen)
    if grid.starts[s]:
        parts.append(el("path", d=f"M{x + 2} {y + 2}h9l-9 9z", fill=pen, class_="start"))
    return el("g", *parts)


def _arrows(grid: GridValues, s: int, x: Number, y: Number, pen: str) -> list[Safe]:
    parts = []
    for arrow, p in zip(grid.arrows, grid.policy[s], strict=True):
        if p < FAINT:
            continue
        dx, dy = DIRECTIONS[arrow]
        size = 5 + 9 * p
        tip_x, tip_y = x + dx * size, y + dy * size
        back_x, back_y = tip_x - dx * 5, tip_y - dy * 5
        head = f"{tip_x:g},{tip_y:g} {back_x - dy * 3.4:g},{back_y + dx * 3.4:g} {back_x + dy * 3.4:g},{back_y - dx * 3.4:g}"
        tail = 9 if p > 0.9 else 0  # a sure action crosses the middle; several start there
        parts.append(
            el("line", x1=x - dx * tail, y1=y - dy * tail, x2=back_x, y2=back_y, stroke=pen, stroke_width=1.0 + 1.4 * p)
        )
        parts.append(el("polygon", points=head, fill=pen))
    return parts


def _named(grid: GridValues, s: int, x: Number, y: Number, pen: str) -> list[Safe]:
    """The two likeliest actions by name, for actions that point nowhere."""
    likely = sorted(zip(grid.policy[s], grid.arrows, strict=True), key=lambda pair: -pair[0])[:2]
    lines = [f"{name} {p:.0%}" for p, name in likely if p >= FAINT]
    return [
        el("text", text, x=x, y=y - 1 + 13 * i, fill=pen, text_anchor="middle", font_size=11)
        for i, text in enumerate(lines)
    ]


def _words(grid: GridValues, s: int) -> str:
    likely = [f"{arrow} {p:.2g}" for arrow, p in zip(grid.arrows, grid.policy[s], strict=True) if p >= 0.005]
    policy = "an episode ends here" if grid.ends[s] else "policy " + ", ".join(likely)
    return f"state {s}: value {grid.values[s]:.6g}; {policy}"


def _short(v: Number) -> str:
    text = f"{v:.3f}" if abs(v) < 1 else f"{v:.3g}" if abs(v) < 1000 else f"{v:.1e}"
    return "0.000" if text == "-0.000" else text.replace("-", "\u2212")


def _bar(low: Number, high: Number) -> Safe:
    gradient = ", ".join(f"#{stop}" for stop in STOPS)
    return el(
        "div", el("span", _short(low)), el("i", style=f"background:linear-gradient(to right, {gradient})"),
        el("span", _short(high)), class_="bar", aria_hidden="true",
    )  # fmt: skip
