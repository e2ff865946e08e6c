"""``polytheory run METHOD --env NAME``: one run of one method."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run_method)


def run_method(
    method: Annotated[str, typer.Argument(help="Name of a method; see `polytheory list`.")],
    env: Annotated[
        str,
        typer.Option(help="An environment, such as frozenlake; a system, such as cartpole; or gymnasium:CartPole-v1."),
    ],
    env_set: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the environment.")] = None,
    algorithm: Annotated[str | None, typer.Option(help="Class, where the method has several.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Hyper-parameter.")] = None,
    steps: Annotated[int | None, typer.Option(help="Total number of steps, also after a resume.")] = None,
    episodes: Annotated[int | None, typer.Option(help="No step starts past this many episodes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random number.")] = 0,
    room: Annotated[str, typer.Option(help="reference or scaled.")] = "reference",
    replicas: Annotated[int, typer.Option(help="Independent copies at once (scaled).")] = 1,
    checkpoint: Annotated[str | None, typer.Option(help="Folder to save to and to continue from.")] = None,
    every: Annotated[str, typer.Option(help="How often to save: 30s, 5m, '100 steps'.")] = "30s",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a method on an environment. Typed again after a kill, it continues from its checkpoint."""
    import numpy as np

    from polytheory.access.defaults import default_access
    from polytheory.catalog import find
    from polytheory.cli._build import algorithm_class, make_algorithm, make_model, parse_pairs, policy_values
    from polytheory.cli._gymnasium import is_gymnasium, make_envs
    from polytheory.cli._laws import facts_of_law
    from polytheory.cli._worlds import facts_of, make_worlds
    from polytheory.errors import SettingError
    from polytheory.run import run

    entry = find(method)
    if replicas < 1 or (replicas > 1 and room == "reference"):
        raise SettingError(f"--replicas {replicas}: the reference runs 1; use --room scaled for more, and at least 1")
    cls = algorithm_class(entry, algorithm, room)
    options, physical = parse_pairs(env_set or (), "--env-set"), entry.access_of(cls.__name__) == "Worlds"
    outside, single = is_gymnasium(env, cls), getattr(cls, "single", physical)
    if single and replicas > 1:
        raise SettingError(f"--replicas {replicas}: {cls.__name__} is one learner; run it again with another --seed")
    model: Any = None if physical or outside else make_model(env, options)
    made = make_algorithm(cls, parse_pairs(setting or (), "--set"), model)
    access = (
        make_worlds(env, options) if physical
        else make_envs(env, options) if outside
        else default_access(entry.access_of(cls.__name__), model)
    )  # fmt: skip
    if room == "scaled":
        import torch

        torch.set_num_threads(1)  # the tensors are small: more threads only wait for each other
        access = access if model is None else access.replicate(replicas)
    end = run(
        made, access, steps=steps, episodes=episodes, seed=seed, checkpoint=checkpoint, every=every, progress=True
    )
    facts = {
        "method": entry.name,
        "algorithm": cls.__name__,
        "room": room,
        "environment": env,
        "seed": seed,
        "replicas": replicas,
        "status": str(end.status),
        "steps": end.steps,
        **{name: end.meter.total(name) for name in end.meter.NAMES},
        **(
            facts_of(end, access)
            if physical
            else facts_of_law(end, made, access, model)
            if single
            else {"value": np.array(policy_values(end.policy, model, replicas, room))}
        ),
        "last": {name: end.history.last(name) for name in end.history.names if not name.startswith("meter/")},
    }
    _print(facts, json)
    if end.status == "interrupted":
        raise typer.Exit(130)


def _print(facts: dict[str, Any], json: bool) -> None:
    from polytheory.cli._output import plain, print_json, print_table

    if json:
        last = {name: _alone(x) for name, x in facts["last"].items()}
        print_json({**facts, "last": last, "value": _alone(facts["value"])})
        return
    rows = [(name, plain(value)) for name, value in facts.items() if name not in ("last", "value")]
    rows += [(f"last {name}", _spread(x)) for name, x in facts["last"].items()]
    print_table(("", ""), [*rows, ("value of the policy", _spread(facts["value"]))])


def _alone(x: Any) -> Any:
    return x[0] if len(x) == 1 else x


def _spread(x: Any) -> str:
    return f"{x.mean():.6g}" + ("" if x.min() == x.max() else f" (mean of {len(x)}; {x.min():.6g} to {x.max():.6g})")
