"""Distributional dynamic programming with a stock, in torch; the reference states the theorems.

Planning on grids: `DistributionalValueIteration`, `DistributionalPolicyIteration`. From episodes:
`StockQuantileAgent`.

References: [pires2025] as in the reference.
"""

from polytheory.scaled.distributional.deep import StockQuantileAgent as StockQuantileAgent
from polytheory.scaled.distributional.policy import StockPolicy as StockPolicy
from polytheory.scaled.distributional.policy_iteration import (
    DistributionalPolicyIteration as DistributionalPolicyIteration,
)
from polytheory.scaled.distributional.representations import action_values as action_values
from polytheory.scaled.distributional.representations import backup as backup
from polytheory.scaled.distributional.representations import best_actions as best_actions
from polytheory.scaled.distributional.representations import categorical_projection as categorical_projection
from polytheory.scaled.distributional.representations import chosen as chosen
from polytheory.scaled.distributional.representations import nearest as nearest
from polytheory.scaled.distributional.representations import next_stock as next_stock
from polytheory.scaled.distributional.representations import quantile_projection as quantile_projection
from polytheory.scaled.distributional.sweeps import StockState as StockState
from polytheory.scaled.distributional.value_iteration import (
    DistributionalValueIteration as DistributionalValueIteration,
)
