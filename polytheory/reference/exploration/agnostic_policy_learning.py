"""Agnostic policy learning: find nearly the best policy of a given class, assuming nothing about the world.

Setting: a layered finite-horizon MDP (`polytheory.models.layered`) with returns in [0, 1], and a finite class of policies
(`polytheory.policy_classes`). No value function is modelled, and the class need not contain an optimal policy.

Goal: with probability 1 - delta, ``V(pi_hat) >= max over the class of V(pi) - eps``.

What can be had depends on the access, and each learner says what it needs:

* `TrajectoryTree`: generative model; (2 / eps^2) log(2 N / delta) trees of at most ``sum_h C_h(Pi)`` transitions each, with
  C_h the spanning capacity [kearns1999; jia2023].
* `ImportanceSampling`: episodes; A^H times as many.
* `Popler`: episodes, for sunflower classes; polynomial in the horizon [jia2023].
* `Psdp` [bagnell2003], `Cpi` [kakade2002]: exploratory resets, and a class that contains its greedy improvements.
* `Plhr`: exploratory and local resets, in block MDPs [krishnamurthy2025].

References:
    [kearns1999] Kearns, Mansour and Ng, Approximate planning in large POMDPs via reusable trajectories, NeurIPS 12.
    [kakade2002] Kakade and Langford, Approximately optimal approximate reinforcement learning, ICML.
    [bagnell2003] Bagnell, Kakade, Ng and Schneider, Policy search by dynamic programming, NeurIPS 16.
    [xie2022] Xie, Foster, Bai, Jiang and Kakade, The role of coverage in online reinforcement learning, arXiv:2210.04157.
    [jia2023] Jia, Li, Rakhlin, Sekhari and Srebro, When is agnostic reinforcement learning statistically tractable?,
    NeurIPS 36, arXiv:2310.06113. [krishnamurthy2025] Krishnamurthy, Li and Sekhari, The role of environment access in
    agnostic reinforcement learning, COLT, arXiv:2504.05405.
"""

from polytheory.reference.exploration.coverage import best_reset as best_reset
from polytheory.reference.exploration.coverage import class_values as class_values
from polytheory.reference.exploration.coverage import completeness_error as completeness_error
from polytheory.reference.exploration.coverage import concentrability as concentrability
from polytheory.reference.exploration.coverage import coverability as coverability
from polytheory.reference.exploration.coverage import largest_occupancy as largest_occupancy
from polytheory.reference.exploration.coverage import largest_occupancy_of_all as largest_occupancy_of_all
from polytheory.reference.exploration.coverage import largest_pair_occupancy as largest_pair_occupancy
from polytheory.reference.exploration.coverage import occupancies as occupancies
from polytheory.reference.exploration.coverage import pushforward_concentrability as pushforward_concentrability
from polytheory.reference.exploration.coverage import pushforward_coverability as pushforward_coverability
from polytheory.reference.exploration.coverage import q_values as q_values
from polytheory.reference.exploration.measures import Measure as Measure
from polytheory.reference.exploration.measures import measures as measures
from polytheory.reference.exploration.plhr import Plhr as Plhr
from polytheory.reference.exploration.plhr import PlhrState as PlhrState
from polytheory.reference.exploration.plhr_parts import emulated_values as emulated_values
from polytheory.reference.exploration.plhr_parts import fingerprint_means as fingerprint_means
from polytheory.reference.exploration.plhr_parts import nearest as nearest
from polytheory.reference.exploration.popler import Popler as Popler
from polytheory.reference.exploration.popler import PoplerState as PoplerState
from polytheory.reference.exploration.popler_parts import add_segments as add_segments
from polytheory.reference.exploration.popler_parts import evaluate_nodes as evaluate_nodes
from polytheory.reference.exploration.popler_parts import node_samples as node_samples
from polytheory.reference.exploration.popler_parts import petal_slots as petal_slots
from polytheory.reference.exploration.popler_parts import segment_ends as segment_ends
from polytheory.reference.exploration.popler_parts import segment_rewards as segment_rewards
from polytheory.reference.exploration.popler_parts import segment_weights as segment_weights
from polytheory.reference.exploration.popler_parts import transition_means as transition_means
from polytheory.reference.exploration.popler_parts import visit_probabilities as visit_probabilities
from polytheory.reference.exploration.reset_parts import best_restriction as best_restriction
from polytheory.reference.exploration.reset_parts import cell_means as cell_means
from polytheory.reference.exploration.reset_parts import class_gains as class_gains
from polytheory.reference.exploration.reset_parts import mixed as mixed
from polytheory.reference.exploration.reset_parts import population_cpi_step as population_cpi_step
from polytheory.reference.exploration.reset_parts import population_psdp as population_psdp
from polytheory.reference.exploration.reset_parts import reset_occupancy as reset_occupancy
from polytheory.reference.exploration.reset_parts import reset_value as reset_value
from polytheory.reference.exploration.reset_parts import step_length as step_length
from polytheory.reference.exploration.resets import Cpi as Cpi
from polytheory.reference.exploration.resets import CpiState as CpiState
from polytheory.reference.exploration.resets import Psdp as Psdp
from polytheory.reference.exploration.resets import PsdpState as PsdpState
from polytheory.reference.exploration.selection import ImportanceSampling as ImportanceSampling
from polytheory.reference.exploration.selection import SelectionState as SelectionState
from polytheory.reference.exploration.selection import TrajectoryTree as TrajectoryTree
from polytheory.reference.exploration.selection import hoeffding_radius as hoeffding_radius
from polytheory.reference.exploration.selection import importance_estimates as importance_estimates
from polytheory.reference.exploration.selection import needed_pairs as needed_pairs
from polytheory.reference.exploration.selection import tree_returns as tree_returns
from polytheory.reference.exploration.selection import trees_needed as trees_needed
from polytheory.reference.exploration.spanning import Spanning as Spanning
from polytheory.reference.exploration.spanning import reach_graph as reach_graph
from polytheory.reference.exploration.spanning import spanning_bounds as spanning_bounds
from polytheory.reference.exploration.spanning import spanning_capacity as spanning_capacity
from polytheory.reference.exploration.sunflower import is_petal as is_petal
from polytheory.reference.exploration.sunflower import is_sunflower as is_sunflower
from polytheory.reference.exploration.sunflower import layer_core as layer_core
from polytheory.reference.exploration.sunflower import least_petals as least_petals
from polytheory.reference.exploration.sunflower import sunflower_number as sunflower_number
