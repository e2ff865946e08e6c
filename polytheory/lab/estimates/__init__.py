"""Estimates: N(eps) with censored runs, exponents with intervals and checks, comparisons with error levels."""

from polytheory.lab.estimates.bands import Band as Band
from polytheory.lab.estimates.bands import band as band
from polytheory.lab.estimates.bands import regret as regret
from polytheory.lab.estimates.comparison import Comparison as Comparison
from polytheory.lab.estimates.comparison import Estimate as Estimate
from polytheory.lab.estimates.comparison import compare as compare
from polytheory.lab.estimates.comparison import interquartile_mean as interquartile_mean
from polytheory.lab.estimates.exponents import Exponent as Exponent
from polytheory.lab.estimates.exponents import fit as fit
from polytheory.lab.estimates.exponents import pure_error_test as pure_error_test
from polytheory.lab.estimates.logs import Logs as Logs
from polytheory.lab.estimates.logs import mean_logs as mean_logs
from polytheory.lab.estimates.logs import passage_logs as passage_logs
from polytheory.lab.estimates.objectives import Judged as Judged
from polytheory.lab.estimates.objectives import held_out_returns as held_out_returns
from polytheory.lab.estimates.objectives import judged as judged
from polytheory.lab.estimates.passage import Passages as Passages
from polytheory.lab.estimates.passage import passages as passages
from polytheory.lab.estimates.sequential import Verdict as Verdict
from polytheory.lab.estimates.sequential import decide as decide
from polytheory.lab.estimates.survival import Survival as Survival
from polytheory.lab.estimates.survival import kaplan_meier as kaplan_meier
