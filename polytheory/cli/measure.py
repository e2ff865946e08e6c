"""``polytheory measure --env NAME --class NAME``: what a policy class costs an agnostic learner, exactly."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("measure")(measure)


def measure(
    env: Annotated[str, typer.Option(help="Name of an environment, such as layered-two-state.")],
    policies: Annotated[str, typer.Option("--class", help="Name of a policy class, such as one-ton.")],
    env_set: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the environment.")] = None,
    class_set: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the class.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Layers to unroll a model that is not layered.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the spanning capacity, sunflower number, coverage coefficients and completeness error of a class."""
    from polytheory.cli._build import make_model, parse_pairs
    from polytheory.cli._output import print_json, print_table
    from polytheory.models.layered import layers_of, unrolled
    from polytheory.policy_classes import make_class
    from polytheory.reference.exploration.measures import measures

    model = make_model(env, parse_pairs(env_set or (), "--env-set"))
    if horizon is not None:
        model = unrolled(model, horizon=horizon)
    made = make_class(policies, layers_of(model), **parse_pairs(class_set or (), "--class-set"))
    found = measures(model, made)
    if json:
        print_json({"environment": env, "class": made.name, **{m.name: m.value for m in found}})
        return
    rows = [(m.name, _text(m.value), m.meaning) for m in found]
    print_table(("measure", "value", ""), rows, title=f"{made.name} on {model.name}")


def _text(x: object) -> str:
    if x is None:
        return "too large to compute"
    return f"{x:.6g}" if isinstance(x, float) else str(x)
