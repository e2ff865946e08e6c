# %% [markdown]
# # A backup you can check by hand
#
# Two states, two actions, a discount of 0.8. Everything below fits on a sheet of paper, and every number that the
# library prints can be checked with a pocket calculator.

# %%
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from polytheory import lab, models
from polytheory.access import KnownModel
from polytheory.conformance import grade
from polytheory.reference.planning.planning import ValueIteration

model = models.make("two-state")
for s in range(2):
    for a in range(2):
        print(f"in state {s}, action {a} pays {model.r[s, a]:.1f} and leads to 0 or 1 with {model.P[s, a]}")

# %% [markdown]
# ## The backup
#
# What is an action worth, if from the next state on we earn $v$? Its reward, and the discounted mean of $v$ over
# where it leads:
#
# $$q(s, a) = r(s, a) + \gamma \sum_y P(y \mid s, a)\, v(y), \qquad (Tv)(s) = \max_a q(s, a).$$
#
# Start with $v = (0, 0)$. Then $q = r$ and $Tv = (0.1, 1)$. The second backup starts from there; in state 0, action
# 1: $0 + 0.8 \cdot (0.2 \cdot 0.1 + 0.8 \cdot 1) = 0.656$. Before you read on, work out the other three.

# %%
found = lab.trace(ValueIteration(stop="sup"), KnownModel(model), steps=2)
print(found.text().partition("step 2")[2])

# %% [markdown]
# The greedy action of state 0 changed between the two sweeps: at first 0.1 now beat nothing, then the way to state 1
# was worth more.
#
# ## How far from the truth?
#
# Nobody knows $V^*$ while sweeping. But $T$ brings any two functions closer by $\gamma$, and this alone certifies
#
# $$\max |v_{n+1} - V^*| \le \frac{\gamma}{1 - \gamma} \max |v_{n+1} - v_n|.$$
#
# After the second sweep: $\frac{0.8}{0.2} \cdot \max(0.656 - 0.1,\ 1.728 - 1) = 4 \cdot 0.728 = 2.912$, as printed
# above.
#
# Here the truth is known: action 1 is best in both states, and two linear equations give $V^* = (80/23,\ 105/23)$.

# %%
g, half = Fraction(4, 5), Fraction(1, 10)
# v0 = g (2/10 v0 + 8/10 v1),  v1 = 1 + g (1/10 v0 + 9/10 v1), by Cramer's rule
a, b, c, d = 1 - 2 * half * g, -8 * half * g, -half * g, 1 - 9 * half * g
v_star = [-b / (a * d - b * c), a / (a * d - b * c)]
print("V* =", *v_star)
assert v_star == [Fraction(80, 23), Fraction(105, 23)]

# %%
steps = lab.trace(ValueIteration(tol=1e-6, stop="sup"), KnownModel(model), steps=40).steps
error = [np.max(np.abs(step["v"] - np.array(v_star, dtype=float))) for step in steps]
bound = [step["bound"] for step in steps]
assert all(e <= b for e, b in zip(error, bound, strict=True))
span = [step["bound"] for step in lab.trace(ValueIteration(tol=1e-12, stop="span"), KnownModel(model), steps=40).steps]

figure, axes = plt.subplots(figsize=(6, 3.2))
n = np.arange(1, len(steps) + 1)
axes.semilogy(n, bound, label="certified bound")
axes.semilogy(n, error, "--", label="true error")
axes.semilogy(n, error[0] * 0.8 ** (n - 1.0), "k:", label="$0.8^n$")
axes.semilogy(np.arange(1, len(span) + 1), span, "o-", ms=3, label="certified, span stop")
axes.set(xlabel="sweeps n", ylabel="max |v - V*|", title="The bound is honest, and falls at the rate of the theorem")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Bound, error and $0.8^n$ lie on each other: the theorem is tight here. The fourth line is the same sweep with
# another stopping rule, MacQueen's, which looks at how *unequal* the changes are and shifts the value to the middle:
# the two actions 1 lead to nearly the same next states, so a dozen sweeps give ten digits. What that rule asks for
# in return is the subject of the third notebook.
#
# ## Exercises
#
# 1. Write the backup. Arguments and result are NumPy arrays: `P [S, A, S]`, `r [S, A]`, `v [S]`.


# %%
def my_backup(P, r, v, gamma):
    return np.max(r + P @ v, axis=1)  # something is missing


print(grade(my_backup, "bellman-backup"))

# %% [markdown]
# 2. Write the certified error. Which factor makes the difference between "little has changed" and "little is wrong"?


# %%
def my_bound(v_old, v_new, gamma):
    return np.max(np.abs(v_new - v_old))


print(grade(my_bound, "certified-error"))

# %% [markdown]
# 3. On paper: for which $\gamma$ does action 0 become best in state 0? (Action 1 stays best in state 1.) Check with
#    `polytheory trace planning --env two-state --env-set gamma=...`.
