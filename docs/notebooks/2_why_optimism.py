# %% [markdown]
# # Why optimism, and when it costs
#
# A learner that trusts its averages never learns what it did not try. Optimism in the face of uncertainty adds to
# every average what it may be off by, so that the unknown looks good until it is known. Here is a problem where this
# is everything, and one where it is only a price.

# %%
import matplotlib.pyplot as plt
import numpy as np

from polytheory import models
from polytheory.access import Online
from polytheory.conformance import grade
from polytheory.reference.exploration.optimistic_actor_critic import EpsilonGreedyActorCritic, Ucbvi
from polytheory.reference.planning.planning import return_of, solve
from polytheory.run import run

EPISODES, SEEDS = 150, 3

# %% [markdown]
# ## A river
#
# Four states in a row. Swimming right succeeds about one time in three; only the far right pays well, and the left
# bank pays 0.005 a step at once. In eight steps the other side is reached rarely at first, and the first averages
# say: stay.

# %%
river = models.make("riverswim", S=4, horizon=8)
print(f"best return {river.mu @ solve(river).v[0]:.3f}; staying on the left bank pays {8 * 0.005:.3f}")


def regret_of(learner, model, seed):
    """Sum over episodes of how much the policy that is played falls short of the optimum, exactly."""
    best, gaps = float(model.mu @ solve(model).v[0]), []

    def look(state, info, step):
        gaps.append(best - return_of(model, learner.policy(state)))

    run(learner, Online(model), episodes=EPISODES, seed=seed, callbacks=[look], progress=False)
    return np.cumsum(gaps)


def regret_curve(learner, model):
    """Its mean over seeds."""
    return np.mean([regret_of(learner, model, seed) for seed in range(SEEDS)], axis=0)


learners = {
    "optimistic (UCBVI)": Ucbvi(episodes=EPISODES),
    "three times the bonus": Ucbvi(episodes=EPISODES, bonus_scale=3.0),
    "no bonus": Ucbvi(episodes=EPISODES, bonus_scale=0.0),
    "10 % at random": EpsilonGreedyActorCritic(episodes=EPISODES, epsilon=0.1),
}
on_river = {name: regret_curve(learner, river) for name, learner in learners.items()}

# %% [markdown]
# ## An easy problem
#
# Two states, and every action shows soon all there is to see: rewards differ at once, and both states are met all
# the time.

# %%
easy = models.make("two-state", horizon=4, gamma=1.0)
on_easy = {name: regret_curve(learner, easy) for name, learner in learners.items()}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for place, curves, title in ((axes[0], on_river, "a river"), (axes[1], on_easy, "an easy problem")):
    for name, curve in curves.items():
        place.plot(np.arange(1, len(curve) + 1), curve, label=name)
    place.set(xlabel="episodes", ylabel="regret so far", title=title)
axes[0].legend(frameon=False)
plt.show()
for name in learners:
    print(f"{name:21s} regret on the river {on_river[name][-1]:5.1f}, on the easy problem {on_easy[name][-1]:5.1f}")

# %% [markdown]
# A straight line is a learner that has stopped learning; a curve that bends is one that gets better.
#
# - On the river only the optimist bends soon. "No bonus" was unlucky a few times on the right and believes its
#   averages; it still tries what it *never* met, since such a pair counts as worth the most possible, but one bad
#   look settles the matter. "10 % at random" would have to be random three times in a row in the right direction,
#   again and again.
# - On the easy problem the order turns. Without a bonus little is lost; the bonus makes the learner try again what
#   it has already seen to be worse, and three times the bonus does so far more stubbornly. Random actions cost in
#   every episode, and never stop.
# - Three times the bonus is no better than none on the river, within these 150 episodes: it bends too late. The
#   theorem's constant is larger still: it is made for the worst problem and for a failure probability of 5 %, and
#   its promise begins far to the right of this plot.

# %%
assert on_river["optimistic (UCBVI)"][-1] < 0.7 * on_river["no bonus"][-1]
assert on_easy["no bonus"][-1] < on_easy["optimistic (UCBVI)"][-1] < on_easy["three times the bonus"][-1]

# %% [markdown]
# ## Exercises
#
# 1. One stage of UCBVI: counts `n [S, A]`, transitions `N [S, A, S]`, values of the next stage `v_next [S]`. The
#    bonus is `scale * cap / sqrt(n)`; nothing is worth more than `cap`, and a pair that was never met is worth just
#    that.


# %%
def my_values(r, n, N, v_next, cap, scale):
    m = np.maximum(n, 1)
    return np.minimum(r + N @ v_next / m + scale * cap / np.sqrt(m), cap)


print(grade(my_values, "optimistic-values"))

# %% [markdown]
# 2. NORA refits its critic only when a determinant has doubled. For a table that is the product of all `1 + n`.


# %%
def my_switch_test(now, before):
    return bool((1 + now >= 2 * (1 + before)).any())


print(grade(my_switch_test, "switch-test"))

# %% [markdown]
# 3. Follow an episode with `polytheory trace optimistic-actor-critic --algorithm Ucbvi --env riverswim --env-set S=4
#    --env-set horizon=8 episodes=150 --after 30`. Which pairs are still worth their cap, and which bonus is the
#    largest of the others?
