# %% [markdown]
# # When a theorem's assumption breaks
#
# A theorem is a promise with conditions. Code usually keeps the promise in its name and forgets the conditions. Here
# is one that is easy to break without noticing, what the numbers then say, and how a check with a deliberate error
# in it finds out.

# %%
import matplotlib.pyplot as plt
import numpy as np

from polytheory.conformance import grade
from polytheory.errors import NotStochasticError
from polytheory.models import TabularMDP
from polytheory.proofs_check.claims import Room, Wrap
from polytheory.proofs_check.runner import find_claim, instances_of
from polytheory.reference.planning.bellman import greedy_backup, midpoint_correction, span_bound, sup_norm_bound

# %% [markdown]
# ## The theorem
#
# Value iteration can stop early. With $d = Tv - v$, MacQueen's interval says that for all states
# $$Tv + \tfrac{\gamma}{1-\gamma} \min d \;\le\; V^* \;\le\; Tv + \tfrac{\gamma}{1-\gamma} \max d,$$
# so that the middle of the interval is off by at most half its width. If $d$ is the same everywhere, we are done at
# once.
#
# The proof adds a constant to $v$ and uses $T(v + c) = Tv + \gamma c$: a constant is a constant for every mean.
# **Condition: the probabilities of every row sum to 1.**
#
# ## Breaking it
#
# Someone models "the episode ends with probability 0.1" by letting rows sum to 0.9: one state, staying pays 1.

# %%
gamma, stay = 0.9, 0.9
P, r = np.array([[[stay]]]), np.array([[1.0]])
v_star = 1 / (1 - gamma * stay)  # 1 / 0.19 = 5.263
v_old = np.zeros(1)
v_new = greedy_backup(P, r, v_old, gamma=gamma)
middle, half = midpoint_correction(v_old, v_new, gamma), span_bound(v_old, v_new, gamma)
print(f"true value {v_star:.4f}; MacQueen's middle {middle[0]:.4f}, said to be off by at most {half:.4f}")
assert half == 0.0

# %% [markdown]
# After one sweep the interval has width zero: "solved, with no error at all", and the answer, 10, is wrong by almost
# 5. With one state $d$ is always the same everywhere. The formula is right, its condition is not met.
#
# With more states it does not look that absurd, which is worse. Rows of a random model with 20 states, leaking 2 %:


# %%
def sweeps(leak, number=60):
    """(certified, true) errors of span and sup stop, sweep by sweep."""
    rng = np.random.default_rng(0)
    P = (1 - leak) * rng.dirichlet(np.ones(20), size=(20, 3))
    r, v, v_star = rng.uniform(size=(20, 3)), np.zeros(20), np.zeros(20)
    for _ in range(2000):  # 0.9^2000 is nothing
        v_star = greedy_backup(P, r, v_star, gamma=gamma)
    out = []
    for _ in range(number):
        new = greedy_backup(P, r, v, gamma=gamma)
        span_error = np.max(np.abs(midpoint_correction(v, new, gamma) - v_star))
        out.append((span_bound(v, new, gamma), span_error, sup_norm_bound(v, new, gamma), np.max(np.abs(new - v_star))))
        v = new
    return np.maximum(np.array(out), 1e-14)  # rounding


sound, leaky = sweeps(0.0), sweeps(0.02)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), sharey=True)
for place, x, title in ((axes[0], sound, "rows sum to 1"), (axes[1], leaky, "rows sum to 0.98")):
    n = np.arange(1, len(x) + 1)
    place.semilogy(n, x[:, 0], label="span: certified")
    place.semilogy(n, x[:, 1], "--", label="span: true error")
    place.semilogy(n, x[:, 2], label="contraction: certified")
    place.semilogy(n, x[:, 3], "--", label="contraction: true error")
    place.set(xlabel="sweeps", title=title, ylim=(1e-14, 30))
axes[0].set(ylabel="max |v - V*|")
axes[0].legend(frameon=False, fontsize=8, loc="center right")
plt.show()
print(f"after 10 sweeps of the leaky model: certified {leaky[9, 0]:.1e}, true {leaky[9, 1]:.2f}")

# %% [markdown]
# On the left both certificates lie above their errors; for six digits the span needs a dozen sweeps where
# contraction needs a hundred and fifty. On the right the span certificate dives through its error, which after ten
# sweeps still is larger than a tenth. The contraction bound survives: its proof needs only that rows sum to *at
# most* 1. Different theorems, different conditions; the faster one asks for more.

# %%
rounding = 1e-12
assert (sound[:, 0] >= sound[:, 1] - rounding).all()
assert (sound[:, 2] >= sound[:, 3] - rounding).all()
assert (leaky[:, 2] >= leaky[:, 3] - rounding).all()
assert leaky[9, 0] < leaky[9, 1] / 1000

# %% [markdown]
# That is why a model is checked once, when it is made, and why the message says what to do:

# %%
try:
    TabularMDP(P, r, np.ones(1), gamma=gamma)
except NotStochasticError as error:
    print(error)

# %% [markdown]
# ## A mutant
#
# Would anybody notice if the code of the bound itself were wrong? The library's claims are executable, and each must
# reject deliberate errors. Take the claim that every certified bound holds, with $V^*$ in exact rational arithmetic
# as judge, and run it on a copy of the code in which the span bound is half of what it should be.

# %%
claim = find_claim("planning", "bound_holds_at_every_sweep")
print(claim.statement)
instances = instances_of(claim, 20)
halved = Wrap("half the span bound", part="span_bound", by=lambda f: lambda *args: 0.5 * f(*args))
slack = {
    "the code": [claim.check(x, Room("reference", "planning", "planning")).slack for x in instances],
    "the mutant": [claim.check(x, Room("reference", "planning", "planning", halved)).slack for x in instances],
}

figure, axes = plt.subplots(figsize=(6.5, 3))
for mark, (name, values) in zip("ox", slack.items(), strict=True):
    axes.plot(values, mark, label=name)
axes.axhline(0, color="k", lw=0.8)
axes.set_yscale("symlog", linthresh=1e-12)
axes.set(xlabel="instance", ylabel="smallest bound - error", title="Below zero a certificate has lied")
axes.legend(frameon=False)
plt.show()
caught = sum(x < 0 for x in slack["the mutant"])
print(f"the code holds on all {len(instances)} instances; the mutant is caught on {caught} of them")
assert min(slack["the code"]) >= 0
assert 0 < caught

# %% [markdown]
# Not on every instance: with no discount or no rewards there is no error, and half of nothing is as good. A single
# example that passes says little about a bound; that is why instances are generated, ugly ones among them.
#
# `polytheory check planning --mutants` runs all claims of the method with all their mutants.
#
# ## Exercises
#
# 1. A cautious planner does not believe its model to the last digit: nature may move probability `radius` (total
#    variation) from `p` to wherever it hurts. What is the smallest mean of `z`? (That is one entry of a robust
#    backup; here too a wrong adversary gives a bound that does not hold.)


# %%
def my_worst_value(z, p, radius):
    return (1 - radius) * p @ z + radius * z.min()


print(grade(my_worst_value, "worst-value"))

# %% [markdown]
# 2. `Psi_t`, what multiplies a score in the policy gradient of a discounted problem. Its theorem has a condition
#    that most code breaks.


# %%
def my_rewards_to_go(rewards, gamma):
    out = np.zeros(len(rewards))
    for t in reversed(range(len(rewards))):
        out[t] = rewards[t] + (gamma * out[t + 1] if t + 1 < len(rewards) else 0)
    return out


print(grade(my_rewards_to_go, "rewards-to-go"))

# %% [markdown]
# 3. On paper: with rows that sum to $1 - \ell$, for which discount $\gamma'$ is the leaky model an ordinary one?
#    (Then MacQueen's interval holds again, with that discount.)
