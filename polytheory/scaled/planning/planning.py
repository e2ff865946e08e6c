"""Exact planning in torch: many replicas, many models of one shape, large sparse models; CPU or GPU, float64 or float32.

The same solvers, part names and state fields as `polytheory.reference.planning.planning`, which states the theorems.
"""

from polytheory.scaled.planning.backward_induction import BackwardInduction as BackwardInduction
from polytheory.scaled.planning.backward_induction import StagedState as StagedState
from polytheory.scaled.planning.bellman import bellman_residual as bellman_residual
from polytheory.scaled.planning.bellman import greedy_actions as greedy_actions
from polytheory.scaled.planning.bellman import greedy_backup as greedy_backup
from polytheory.scaled.planning.bellman import half_width as half_width
from polytheory.scaled.planning.bellman import midpoint_correction as midpoint_correction
from polytheory.scaled.planning.bellman import midpoint_shift as midpoint_shift
from polytheory.scaled.planning.bellman import policy_backup as policy_backup
from polytheory.scaled.planning.bellman import q_values as q_values
from polytheory.scaled.planning.bellman import residual_bound as residual_bound
from polytheory.scaled.planning.bellman import rounding_bound as rounding_bound
from polytheory.scaled.planning.bellman import span as span
from polytheory.scaled.planning.bellman import span_bound as span_bound
from polytheory.scaled.planning.bellman import sup_norm_bound as sup_norm_bound
from polytheory.scaled.planning.bellman import sweep_rounding as sweep_rounding
from polytheory.scaled.planning.certificate import GreedyPolicies as GreedyPolicies
from polytheory.scaled.planning.certificate import PlanningState as PlanningState
from polytheory.scaled.planning.many_models import ManyModels as ManyModels
from polytheory.scaled.planning.modified_policy_iteration import ModifiedPolicyIteration as ModifiedPolicyIteration
from polytheory.scaled.planning.modified_policy_iteration import partial_evaluation as partial_evaluation
from polytheory.scaled.planning.policy_iteration import PolicyIteration as PolicyIteration
from polytheory.scaled.planning.policy_iteration import PolicyState as PolicyState
from polytheory.scaled.planning.sparse import SparseSolution as SparseSolution
from polytheory.scaled.planning.sparse import solve_sparse as solve_sparse
from polytheory.scaled.planning.tensors import restrict as restrict
from polytheory.scaled.planning.value_iteration import ValueIteration as ValueIteration
