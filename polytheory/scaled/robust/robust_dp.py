"""Robust dynamic programming in torch: all (s, a) and all replicas at once, dense or sparse, float64 or float32, any device.

The theorems and the papers stand in `polytheory.reference.robust.robust_dp`; the parts have the same names here.
"""

from polytheory.scaled.robust.backward_induction import RobustBackwardInduction as RobustBackwardInduction
from polytheory.scaled.robust.bellman import Sweep as Sweep
from polytheory.scaled.robust.bellman import robust_policy_sweep as robust_policy_sweep
from polytheory.scaled.robust.bellman import robust_sweep as robust_sweep
from polytheory.scaled.robust.bellman import worst_case as worst_case
from polytheory.scaled.robust.certificate import RobustPolicies as RobustPolicies
from polytheory.scaled.robust.certificate import RobustState as RobustState
from polytheory.scaled.robust.divergences import penalised_chi2 as penalised_chi2
from polytheory.scaled.robust.divergences import penalised_kl as penalised_kl
from polytheory.scaled.robust.divergences import penalised_tv as penalised_tv
from polytheory.scaled.robust.divergences import worst_chi2 as worst_chi2
from polytheory.scaled.robust.divergences import worst_kl as worst_kl
from polytheory.scaled.robust.divergences import worst_reverse_kl as worst_reverse_kl
from polytheory.scaled.robust.policy_iteration import RobustPolicyIteration as RobustPolicyIteration
from polytheory.scaled.robust.polyhedral import Worst as Worst
from polytheory.scaled.robust.polyhedral import worst_contamination as worst_contamination
from polytheory.scaled.robust.polyhedral import worst_interval as worst_interval
from polytheory.scaled.robust.polyhedral import worst_l1 as worst_l1
from polytheory.scaled.robust.polyhedral import worst_linf as worst_linf
from polytheory.scaled.robust.polyhedral import worst_scenario as worst_scenario
from polytheory.scaled.robust.polyhedral import worst_transport as worst_transport
from polytheory.scaled.robust.problem import discounted_values as discounted_values
from polytheory.scaled.robust.problem import problems as problems
from polytheory.scaled.robust.shared_budget import Game as Game
from polytheory.scaled.robust.shared_budget import shared_budget as shared_budget
from polytheory.scaled.robust.value_iteration import RobustValueIteration as RobustValueIteration
