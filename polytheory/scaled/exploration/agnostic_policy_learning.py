"""Agnostic policy learning in torch: replicas in lock-step, and classes of up to 10^5 policies.

The same learners, part names and state fields as `polytheory.reference.exploration.agnostic_policy_learning`, which states the
theorems. `language_class` has the form for language models.
"""

from polytheory.scaled.exploration.coverage import best_reset as best_reset
from polytheory.scaled.exploration.coverage import class_values as class_values
from polytheory.scaled.exploration.coverage import concentrability as concentrability
from polytheory.scaled.exploration.coverage import coverability as coverability
from polytheory.scaled.exploration.coverage import largest_occupancy as largest_occupancy
from polytheory.scaled.exploration.coverage import largest_pair_occupancy as largest_pair_occupancy
from polytheory.scaled.exploration.coverage import occupancies as occupancies
from polytheory.scaled.exploration.coverage import pushforward_concentrability as pushforward_concentrability
from polytheory.scaled.exploration.coverage import pushforward_coverability as pushforward_coverability
from polytheory.scaled.exploration.coverage import q_values as q_values
from polytheory.scaled.exploration.plhr import Plhr as Plhr
from polytheory.scaled.exploration.plhr import PlhrState as PlhrState
from polytheory.scaled.exploration.plhr_parts import emulated_values as emulated_values
from polytheory.scaled.exploration.plhr_parts import fingerprint_means as fingerprint_means
from polytheory.scaled.exploration.plhr_parts import nearest as nearest
from polytheory.scaled.exploration.popler import Popler as Popler
from polytheory.scaled.exploration.popler import PoplerState as PoplerState
from polytheory.scaled.exploration.popler_parts import add_segments as add_segments
from polytheory.scaled.exploration.popler_parts import evaluate_nodes as evaluate_nodes
from polytheory.scaled.exploration.popler_parts import node_samples as node_samples
from polytheory.scaled.exploration.popler_parts import petal_slots as petal_slots
from polytheory.scaled.exploration.popler_parts import segment_ends as segment_ends
from polytheory.scaled.exploration.popler_parts import segment_rewards as segment_rewards
from polytheory.scaled.exploration.popler_parts import segment_weights as segment_weights
from polytheory.scaled.exploration.popler_parts import transition_means as transition_means
from polytheory.scaled.exploration.popler_parts import visit_probabilities as visit_probabilities
from polytheory.scaled.exploration.reset_parts import best_restriction as best_restriction
from polytheory.scaled.exploration.reset_parts import cell_means as cell_means
from polytheory.scaled.exploration.reset_parts import class_gains as class_gains
from polytheory.scaled.exploration.reset_parts import mixed as mixed
from polytheory.scaled.exploration.reset_parts import population_cpi_step as population_cpi_step
from polytheory.scaled.exploration.reset_parts import population_psdp as population_psdp
from polytheory.scaled.exploration.reset_parts import reset_occupancy as reset_occupancy
from polytheory.scaled.exploration.reset_parts import reset_value as reset_value
from polytheory.scaled.exploration.reset_parts import step_length as step_length
from polytheory.scaled.exploration.resets import Cpi as Cpi
from polytheory.scaled.exploration.resets import CpiState as CpiState
from polytheory.scaled.exploration.resets import Psdp as Psdp
from polytheory.scaled.exploration.resets import PsdpState as PsdpState
from polytheory.scaled.exploration.selection import ImportanceSampling as ImportanceSampling
from polytheory.scaled.exploration.selection import SelectionState as SelectionState
from polytheory.scaled.exploration.selection import TrajectoryTree as TrajectoryTree
from polytheory.scaled.exploration.selection import hoeffding_radius as hoeffding_radius
from polytheory.scaled.exploration.selection import importance_estimates as importance_estimates
from polytheory.scaled.exploration.selection import needed_pairs as needed_pairs
from polytheory.scaled.exploration.selection import tree_returns as tree_returns
