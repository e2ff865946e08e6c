"""``polytheory train [RECIPE] key=value ...``: train a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train_model)


def train_model(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A shipped recipe or a TOML file, and keys to change."),
    ] = None,
    task: Annotated[str, typer.Option(metavar="NAME", help="A built-in task: the same as task=NAME.")] = "",
    compare: Annotated[str, typer.Option(metavar="A,B,...", help="Train these recipes side by side.")] = "",
    seeds: Annotated[int, typer.Option(help="With --compare: seeds of each recipe.")] = 1,
    keys: Annotated[bool, typer.Option("--keys", help="Show the recipe's keys and values, and train nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a language model; without a word, a tiny one on an embedded task. Typed again after a kill, it continues."""
    from polytheory.cli._build import parse_pairs
    from polytheory.cli._output import print_json, print_table
    from polytheory.errors import SettingError, require

    require("torch", "scaled")
    require("transformers", "lm")
    from polytheory.lab.training.recipe import read
    from polytheory.lab.training.show import Live
    from polytheory.lab.training.train import train
    from polytheory.scaled.language import ranks as processes

    given = list(words or ()) + ([f"task={task}"] if task else [])
    if compare:
        _compare([name.strip() for name in compare.split(",")], seeds, given, json)
        return
    sources = [word for word in given if "=" not in word]
    if len(sources) > 1:
        raise SettingError(f"two recipes: {sources[0]} and {sources[1]}; give one, and key=value for the rest")
    recipe = read(sources[0] if sources else "grpo", parse_pairs([word for word in given if "=" in word], "key=value:"))
    if keys:
        flat = recipe.flat()
        print_json(flat) if json else print_table(("key", "value"), [(k, str(v)) for k, v in flat.items()])
        return
    folder = Path(recipe.output.output)
    ranks = processes.join(recipe.start.device, shard=recipe.start.shard)
    with Live(recipe, silent=json or not ranks.first) as live:
        trained = train(recipe, output=folder, callbacks=[live.step], say=live.say, progress=False)
    if ranks.first:
        _leave_behind(trained, folder, live, json)
    ranks.leave()
    if trained.run.status == "interrupted":
        raise typer.Exit(130)


def _leave_behind(trained: Any, folder: Path, live: Any, json: bool) -> None:
    """The model, the report and what is printed at the end."""
    from polytheory.cli._output import print_json
    from polytheory.lab.training.models import save_model, save_reward_model
    from polytheory.lab.training.page import write_card, write_page

    recipe = trained.recipe
    save_model(trained, folder / "model")
    save_reward_model(trained, folder / "reward-model")
    write_card(trained, folder / "model")
    page = write_page(trained, folder)
    facts: dict[str, Any] = {
        "recipe": recipe.name, "method": recipe.method, "steps": trained.run.steps, "status": str(trained.run.status),
        "accuracy_before": trained.before.sampled, "accuracy": trained.after.sampled,
        "greedy_before": trained.before.greedy, "greedy": trained.after.greedy,
        "episodes": trained.run.meter.total("episodes"), "model": str(folder / "model"), "report": str(page),
    }  # fmt: skip
    if json:
        print_json(facts)
    else:
        live.samples(trained)
        print(f"model: {folder / 'model'}\nreport: {page}")


def _compare(names: list[str], seeds: int, words: list[str], json: bool) -> None:
    import os
    import sys

    from polytheory.cli._build import parse_pairs
    from polytheory.cli._output import print_json, print_table
    from polytheory.errors import RunError, SettingError
    from polytheory.lab.training import compare as comparison
    from polytheory.lab.training.page import write_comparison

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError(
            "--compare in several processes; it trains one recipe after another, start it without a launcher"
        )
    extra = [word for word in words if "=" not in word]
    if extra:
        raise SettingError(f"{extra[0]} beside --compare {','.join(names)}; name every recipe in --compare")
    changes = parse_pairs(words, "key=value:")
    folder = Path(str(changes.pop("output", "runs/compare")))
    cells = comparison.compare(
        names, seeds, folder=folder, changes=changes, say=lambda text: print(text, file=sys.stderr, flush=True)
    )
    page = write_comparison(cells, folder)
    if json:
        print_json([{k: v for k, v in vars(cell).items() if k != "rewards"} for cell in cells])
    else:
        print_table(("recipe", "before", "after", "likeliest tokens"), comparison.rows(cells))
        print(f"report: {page}")
    if len(cells) < len(names) * seeds:
        raise RunError(
            f"{len(names) * seeds - len(cells)} of {len(names) * seeds} trainings failed, see above; "
            "the same command tries them again"
        )
