"""What a stock-conditioned agent deploys: exactly on a table, from held-out episodes elsewhere."""

from __future__ import annotations

from typing import Any

HELD_OUT = 500  # episodes


def facts_of_law(end: Any, made: Any, access: Any, model: Any) -> dict[str, Any]:
    """The initial stock, and the objective of the deployed returns: of their exact law, or an estimate with its interval."""
    import numpy as np

    from polytheory.lab.estimates.objectives import held_out_returns, judged
    from polytheory.models.objectives import objective
    from polytheory.models.return_law import return_law

    judge = objective(made.objective)
    policy = made.deploy(end.state, judge, access)
    facts = {"objective": str(judge), "initial stock": float(policy.initial[0])}
    if model is not None:
        law = return_law(model, policy.on_arrays())
        return facts | {"mean": float(law.mean), "value": np.array([float(judge.of_return(law.atoms, law.probs))])}
    from polytheory.scaled.distributional.deep import steps_of

    returns = held_out_returns(access, policy, HELD_OUT, steps_of(made, access))
    found = judged(judge, returns)
    return facts | {
        "held-out episodes": HELD_OUT, "mean": float(returns.mean()), "low": found.low, "high": found.high,
        "value": np.array([found.value]),
    }  # fmt: skip
