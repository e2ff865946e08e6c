"""Distributional dynamic programming with a stock: the best law of the return of a known finite MDP [pires2025].

Setting: `TabularMDP` with a horizon or discounted; an objective of `polytheory.models.objectives` judges the law of stock +
return. Small models also in Fractions, with all atoms, and with vector rewards.

Key equation: ``eta*(s, c) = law of R + gamma G'``, ``G' ~ eta*(S', (c + R) / gamma)``, for the action whose
``K(law of c + G)`` is best.

Guarantee: for objectives indifferent to mixtures and to gamma (and Lipschitz, without a horizon) no policy, however much it
remembers, does better. `plan` returns policy, law and value; `check_objective` searches for counterexamples to a condition.

Methods: `DistributionalValueIteration`, `DistributionalPolicyIteration` on grids; `exact.value_iteration` and
`exact.policy_iteration` on the stocks that are reached.

References: see `polytheory.models.objectives`.
"""

from polytheory.models.laws import Law as Law
from polytheory.models.laws import cramer as cramer
from polytheory.models.laws import delta as delta
from polytheory.models.laws import histogram as histogram
from polytheory.models.laws import law as law
from polytheory.models.laws import lower_mean as lower_mean
from polytheory.models.laws import mix as mix
from polytheory.models.laws import push as push
from polytheory.models.laws import quantile as quantile
from polytheory.models.laws import wasserstein as wasserstein
from polytheory.models.return_law import return_law as return_law
from polytheory.reference.distributional.conditions import Counterexample as Counterexample
from polytheory.reference.distributional.conditions import check_objective as check_objective
from polytheory.reference.distributional.conditions import conditions as conditions
from polytheory.reference.distributional.exact import Solution as Solution
from polytheory.reference.distributional.exact import evaluation as evaluation
from polytheory.reference.distributional.exact import policy_iteration as policy_iteration
from polytheory.reference.distributional.exact import value_iteration as value_iteration
from polytheory.reference.distributional.mixture import MixturePolicy as MixturePolicy
from polytheory.reference.distributional.mixture import saddle_point as saddle_point
from polytheory.reference.distributional.plan import Plan as Plan
from polytheory.reference.distributional.plan import plan as plan
from polytheory.reference.distributional.policy import StockPolicy as StockPolicy
from polytheory.reference.distributional.policy_iteration import (
    DistributionalPolicyIteration as DistributionalPolicyIteration,
)
from polytheory.reference.distributional.representations import action_values as action_values
from polytheory.reference.distributional.representations import backup as backup
from polytheory.reference.distributional.representations import best_actions as best_actions
from polytheory.reference.distributional.representations import categorical_projection as categorical_projection
from polytheory.reference.distributional.representations import chosen as chosen
from polytheory.reference.distributional.representations import nearest as nearest
from polytheory.reference.distributional.representations import next_stock as next_stock
from polytheory.reference.distributional.representations import quantile_projection as quantile_projection
from polytheory.reference.distributional.sweeps import StockState as StockState
from polytheory.reference.distributional.value_iteration import (
    DistributionalValueIteration as DistributionalValueIteration,
)
