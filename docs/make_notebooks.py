"""Notebooks from their scripts: ``python docs/make_notebooks.py [--check] [NAME ...]``.

Every ``docs/notebooks/*.py`` is a script in the percent format, ``# %%`` before code and ``# %% [markdown]`` before text. It
is run cell by cell, and written beside it as a notebook with what was printed and drawn. ``--check`` runs them and writes
nothing: a cell that raises, or a notebook that is not made of its script, is an error.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "notebooks"
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def cells_of(script: str) -> list[tuple[str, str]]:
    """(kind, source) of every cell, kind "code" or "markdown"; what stands before the first mark is no cell."""
    cells: list[tuple[str, list[str]]] = []
    for line in script.splitlines():
        if line.startswith("# %%"):
            cells.append(("markdown" if "[markdown]" in line else "code", []))
        elif cells:
            cells[-1][1].append(line)
    out = []
    for kind, lines in cells:
        text = [line.removeprefix("#").removeprefix(" ") for line in lines] if kind == "markdown" else lines
        out.append((kind, "\n".join(text).strip("\n")))
    return out


def run(cells: list[tuple[str, str]], name: str) -> list[list[dict[str, Any]]]:
    """The outputs of every cell, run one after the other in one scope: printed text and figures."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scope: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for i, (kind, source) in enumerate(cells):
        own: list[dict[str, Any]] = []
        if kind == "code":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(source, f"{name}, cell {i}", "exec", dont_inherit=True), scope)
            if printed.getvalue():
                own.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
            for number in plt.get_fignums():
                figure, png = plt.figure(number), io.BytesIO()
                figure.savefig(png, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})
                data = {"image/png": base64.b64encode(png.getvalue()).decode(), "text/plain": ["<Figure>"]}
                own.append({"output_type": "display_data", "metadata": {}, "data": data})
                plt.close(figure)
        outputs.append(own)
    return outputs


def notebook(cells: list[tuple[str, str]], outputs: list[list[dict[str, Any]]] | None = None) -> dict[str, Any]:
    """The notebook (nbformat 4.5); without outputs as if it had not been run."""
    made: list[dict[str, Any]] = []
    for i, (kind, source) in enumerate(cells):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": _lines(source)}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": outputs[i] if outputs else []}
        made.append(cell)
    return {"cells": made, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}


def same_source(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two notebooks have the same cells, outputs aside."""
    plain = [[(c["cell_type"], "".join(c["source"])) for c in x["cells"]] for x in (a, b)]
    return plain[0] == plain[1]


def scripts(names: list[str]) -> list[Path]:
    """The scripts of these names, or all."""
    found = [HERE / f"{name}.py" for name in names] if names else sorted(HERE.glob("[0-9]*.py"))
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise SystemExit(f"there is no {missing[0]} in {HERE}; there are {', '.join(x.stem for x in scripts([]))}")
    return found


def main() -> int:
    """Run the notebooks; returns 1 when one is not made of its script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="scripts without .py; default: all")
    parser.add_argument("--check", action="store_true", help="run, write nothing, compare")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bad = 0
    for path in scripts(options.names):
        start, cells, target = (
            time.process_time(),
            cells_of(path.read_text(encoding="utf-8")),
            path.with_suffix(".ipynb"),
        )
        outputs = run(cells, path.name)
        if not options.check:
            text = json.dumps(notebook(cells, outputs), indent=1, ensure_ascii=False)
            target.write_text(text + "\n", encoding="utf-8")
        elif not target.is_file() or not same_source(json.loads(target.read_text(encoding="utf-8")), notebook(cells)):
            print(f"{target.name} is not made of {path.name}; run: python docs/make_notebooks.py", file=sys.stderr)
            bad = 1
        print(f"{path.stem}: {len(cells)} cells, {time.process_time() - start:.1f} s CPU")
    return bad


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    raise SystemExit(main())
