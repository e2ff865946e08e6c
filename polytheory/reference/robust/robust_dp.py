"""Robust dynamic programming: the best policy of a known finite MDP against the worst law of an ambiguity set.

Setting: `TabularMDP` with a set of `polytheory.models.ambiguity`: by (s, a), by s with a shared budget, or around the
factors of a linear model; discounted, or with a finite horizon.

Key equation: ``V*(s) = max_d min_q sum_a d_a q_a . (r(s, a, .) + gamma V*)``.

Guarantee: every solver carries ``bound``, a certified ``max |v - V*|`` that includes rounding and the primal-dual gaps
of the inner problems; its policy loses at most ``2 * bound``. `robust_evaluate` returns the value of any policy with
nature's kernel.

Methods: `RobustValueIteration` (with ``order > 1`` modified policy iteration), `RobustPolicyIteration`,
`RobustBackwardInduction`.

References:
    [iyengar2005] Robust dynamic programming, Math. Oper. Res. 30(2). [nilim2005] Nilim and El Ghaoui, Robust control of Markov
    decision processes with uncertain transition matrices, Oper. Res. 53(5). [wiesemann2013] Wiesemann, Kuhn and Rustem, Robust
    Markov decision processes, Math. Oper. Res. 38(1). [kaufman2013] Kaufman and Schaefer, Robust modified policy
    iteration, INFORMS J. Comput. 25(3). [ho2018] Ho, Petrik and Wiesemann, Fast Bellman updates for robust MDPs, ICML
    2018. [ho2021] The same, Partial policy iteration for L1-robust Markov decision processes, JMLR 22(275).
    [puterman2005] Markov Decision Processes, Wiley.
"""

from polytheory.reference.robust.backward_induction import RobustBackwardInduction as RobustBackwardInduction
from polytheory.reference.robust.backward_induction import RobustStagedState as RobustStagedState
from polytheory.reference.robust.bellman import Sweep as Sweep
from polytheory.reference.robust.bellman import discounted_values as discounted_values
from polytheory.reference.robust.bellman import robust_policy_sweep as robust_policy_sweep
from polytheory.reference.robust.bellman import robust_sweep as robust_sweep
from polytheory.reference.robust.bellman import worst_case as worst_case
from polytheory.reference.robust.certificate import RobustState as RobustState
from polytheory.reference.robust.divergences import penalised_chi2 as penalised_chi2
from polytheory.reference.robust.divergences import penalised_kl as penalised_kl
from polytheory.reference.robust.divergences import penalised_tv as penalised_tv
from polytheory.reference.robust.divergences import worst_chi2 as worst_chi2
from polytheory.reference.robust.divergences import worst_kl as worst_kl
from polytheory.reference.robust.divergences import worst_reverse_kl as worst_reverse_kl
from polytheory.reference.robust.evaluation import RobustEvaluation as RobustEvaluation
from polytheory.reference.robust.evaluation import robust_evaluate as robust_evaluate
from polytheory.reference.robust.policy_iteration import RobustPolicyIteration as RobustPolicyIteration
from polytheory.reference.robust.polyhedral import Worst as Worst
from polytheory.reference.robust.polyhedral import worst_contamination as worst_contamination
from polytheory.reference.robust.polyhedral import worst_interval as worst_interval
from polytheory.reference.robust.polyhedral import worst_l1 as worst_l1
from polytheory.reference.robust.polyhedral import worst_linf as worst_linf
from polytheory.reference.robust.polyhedral import worst_scenario as worst_scenario
from polytheory.reference.robust.polyhedral import worst_transport as worst_transport
from polytheory.reference.robust.shared_budget import Game as Game
from polytheory.reference.robust.shared_budget import shared_budget as shared_budget
from polytheory.reference.robust.shared_budget import worst_reply as worst_reply
from polytheory.reference.robust.value_iteration import RobustValueIteration as RobustValueIteration
