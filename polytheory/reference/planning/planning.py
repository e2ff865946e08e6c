"""Exact planning: the optimal value and policy of a known finite MDP, with a certified error.

Setting: `TabularMDP`, discounted without end (``0 <= gamma < 1``) or with a finite horizon; transitions dense or CSR.

Key equation: ``V*(s) = max_a r(s, a) + gamma * sum_y P(y | s, a) V*(y)``.

Guarantee: every solver is an `Algorithm` whose state carries ``bound``, a certified ``max |v - V*|`` that includes what
floating point may have added; its policy loses at most ``2 * bound`` in any state.

Methods: `ValueIteration`, `ModifiedPolicyIteration`, `PolicyIteration`, `InexactPolicyIteration`, `LinearProgram`,
`BackwardInduction`; `solve` picks one. `evaluate`, `return_of` and `discounted_occupancy` are the exact oracles of a
given policy. The named formulas stand in `bellman`.

References:
    [bellman1957] Dynamic Programming. [howard1960] Dynamic Programming and Markov Processes.
    [macqueen1966] A modified dynamic programming method for Markovian decision problems, J. Math. Anal. Appl. 14.
    [puterman1978] Puterman and Shin, Modified policy iteration algorithms for discounted Markov decision problems,
    Management Science 24. [puterman2005] Markov Decision Processes, Wiley. [higham2002] Accuracy and Stability of
    Numerical Algorithms, SIAM. [gargiani2024] Gargiani, Sieber, Balta, Liao-McPherson and Lygeros, Inexact policy
    iteration methods for large-scale Markov decision processes, arXiv:2404.06136.
"""

from polytheory.reference.planning.backward_induction import BackwardInduction as BackwardInduction
from polytheory.reference.planning.backward_induction import StagedState as StagedState
from polytheory.reference.planning.bellman import bellman_residual as bellman_residual
from polytheory.reference.planning.bellman import discounted as discounted
from polytheory.reference.planning.bellman import greedy_actions as greedy_actions
from polytheory.reference.planning.bellman import greedy_backup as greedy_backup
from polytheory.reference.planning.bellman import half_width as half_width
from polytheory.reference.planning.bellman import midpoint_correction as midpoint_correction
from polytheory.reference.planning.bellman import midpoint_shift as midpoint_shift
from polytheory.reference.planning.bellman import policy_backup as policy_backup
from polytheory.reference.planning.bellman import q_values as q_values
from polytheory.reference.planning.bellman import residual_bound as residual_bound
from polytheory.reference.planning.bellman import restrict as restrict
from polytheory.reference.planning.bellman import rounding_bound as rounding_bound
from polytheory.reference.planning.bellman import span as span
from polytheory.reference.planning.bellman import span_bound as span_bound
from polytheory.reference.planning.bellman import sup_norm_bound as sup_norm_bound
from polytheory.reference.planning.bellman import sweep_rounding as sweep_rounding
from polytheory.reference.planning.certificate import PlanningState as PlanningState
from polytheory.reference.planning.evaluation import Evaluation as Evaluation
from polytheory.reference.planning.evaluation import discounted_occupancy as discounted_occupancy
from polytheory.reference.planning.evaluation import evaluate as evaluate
from polytheory.reference.planning.evaluation import return_of as return_of
from polytheory.reference.planning.inexact_policy_iteration import InexactPolicyIteration as InexactPolicyIteration
from polytheory.reference.planning.linear_program import LinearProgram as LinearProgram
from polytheory.reference.planning.linear_program import ProgramState as ProgramState
from polytheory.reference.planning.modified_policy_iteration import ModifiedPolicyIteration as ModifiedPolicyIteration
from polytheory.reference.planning.modified_policy_iteration import partial_evaluation as partial_evaluation
from polytheory.reference.planning.policy_iteration import PolicyIteration as PolicyIteration
from polytheory.reference.planning.policy_iteration import PolicyState as PolicyState
from polytheory.reference.planning.rational import exact_optimum as exact_optimum
from polytheory.reference.planning.solve import Solution as Solution
from polytheory.reference.planning.solve import solve as solve
from polytheory.reference.planning.value_iteration import ValueIteration as ValueIteration
