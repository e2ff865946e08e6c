"""``polytheory trace METHOD --env NAME``: one update at a time, with every quantity."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("trace")(trace_method)


def trace_method(
    method: Annotated[str, typer.Argument(help="Name of a method; see `polytheory list`.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Hyper-parameters.")] = None,
    env: Annotated[str, typer.Option(help="Name of an environment; the smaller, the easier to follow.")] = "two-state",
    env_set: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the environment.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="Class, where the method has several.")] = None,
    steps: Annotated[int, typer.Option(help="Steps to show.")] = 1,
    after: Annotated[int, typer.Option(help="Steps to make before the first one shown.")] = 0,
    state: Annotated[int | None, typer.Option(help="Only the rows of this state.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with every quantity in full.")] = False,
) -> None:
    """Show each step of a method part by part: what goes in and what comes out, to be followed with a pocket calculator.

    The run is the one that `polytheory run` makes with the same settings.
    """
    from polytheory.access.defaults import default_access
    from polytheory.catalog import find
    from polytheory.cli._build import algorithm_class, make_algorithm, make_model, parse_pairs
    from polytheory.cli._output import print_json
    from polytheory.lab.tracing import trace

    entry = find(method)
    cls = algorithm_class(entry, algorithm, "reference")
    model = make_model(env, parse_pairs(env_set or (), "--env-set"))
    made = make_algorithm(cls, parse_pairs(words or (), "setting"), model)
    found = trace(made, default_access(entry.access_of(cls.__name__), model), steps=steps, after=after, seed=seed)
    print_json(found.plain()) if json else print(found.text(state))
