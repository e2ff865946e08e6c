# %% [markdown]
# # From a two-state MDP to a language model, with one interface
#
# A model is wrapped by an *access*, which is all that a learner may ask; an *algorithm* makes steps; `run` drives
# it. What changes on the way from two states to a transformer is what stands behind the access, not the loop.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from polytheory import models
from polytheory.access import Online
from polytheory.conformance import grade
from polytheory.reference.planning.planning import return_of, solve
from polytheory.run import run

torch.set_num_threads(1)

# %% [markdown]
# ## Two states
#
# Policy gradient with a look-ahead (N-PG-IGT) from the uniform policy. The reference is NumPy, one learner, written
# to be read.

# %%
from polytheory.reference.policy_gradient.n_pg_igt import NPgIgt
from polytheory.reference.policy_gradient.softmax import TabularSoftmax

two = models.make("two-state")
learner = NPgIgt(policy=TabularSoftmax.zeros(two.S, two.A), truncation=30, gamma0=0.5)
one = run(learner, Online(two), steps=60, seed=1, progress=False)
best = float(two.mu @ solve(two).v)
print(f"J* = {best:.4f} (90/23); after 60 episodes J = {return_of(two, one.policy):.4f}")

# %% [markdown]
# The scaled version has the same name and the same fields; its state has a replica axis in front. 256 learners at
# once, and learner 0 is the one above, to the last digits.

# %%
from polytheory.scaled.policy_gradient import n_pg_igt as scaled

many = scaled.NPgIgt(policy=scaled.TabularSoftmax.zeros(two.S, two.A), truncation=30, gamma0=0.5)
end = run(many, Online(two).replicate(256), steps=60, seed=0, progress=False)
again = run(learner, Online(two), steps=60, seed=0, progress=False)
print("parameters of all learners:", list(end.state.theta.shape))
print("learner 0 less the reference:", float(np.abs(end.state.theta[0].numpy() - again.state.theta).max()))
assert np.abs(end.state.theta[0].numpy() - again.state.theta).max() < 1e-12

# %% [markdown]
# ## A language model that can be enumerated
#
# Three tokens, one of them the end, at most three of them: 15 sequences. As a decision problem the state is the
# prefix and the action the next token. A sequence is worth 1 if token 1 occurs in it an odd number of times. Because
# all sequences can be listed, the gradient of the expected reward is a sum, and an estimator can be held against it.

# %%
from polytheory.models.tabular_lm import TabularLM

lm = TabularLM(vocabulary=3, max_length=3)
reward = lm.reward(lambda y: y.count(1) % 2)
logits = np.zeros((lm.C, lm.V))
print(f"{lm.N} sequences, {lm.C} prefixes; a uniform choice of tokens earns {lm.expectation(logits, reward):.4f}")
exact = lm.gradient(logits, reward)

# a group of G = 2 completions, every pair with its probability: REINFORCE with the group's mean as baseline
p, scores = lm.probs(logits), lm.scores(logits)
mean = np.zeros_like(exact)
for i in range(lm.N):
    for j in range(lm.N):
        advantage = reward[i] - (reward[i] + reward[j]) / 2
        mean += p[i] * p[j] * (advantage * scores[i] - advantage * scores[j]) / 2
ratio = (mean * exact).sum() / (exact * exact).sum()
print(f"mean of the estimator over the exact gradient: {ratio:.4f} in every entry")
assert np.abs(mean - exact / 2).max() < 1e-15

# %% [markdown]
# Half of the gradient, in every entry: a mean that contains the completion itself shrinks it by $(G - 1)/G$. The
# direction is right, and the step size hides the factor. Dividing by the group's deviation only stretches it as
# well, as long as rewards are 0 and 1; for other rewards it turns the direction (exercise 4).
#
# The same `run` trains it. `Grpo` is a list of parts; the access samples completions of the tabular model.

# %%
from polytheory.reference.posttraining.grpo import Grpo

tokens = models.make("token-mdp", vocabulary=3, max_length=3)
grpo = Grpo(policy=TabularSoftmax.zeros(tokens.S, tokens.A), group_size=8, prompts=2, step_size=1.0, beta=0.0)
trained = run(grpo, Online(tokens), steps=40, seed=0, progress=False)
curve = trained.history.column("mean_return")[:, 0]

figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(np.arange(1, len(curve) + 1), curve)
axes.set(xlabel="steps", ylabel="mean reward", ylim=(0, 1.05), title="GRPO on 15 sequences")
plt.show()
assert curve[-5:].mean() > curve[:5].mean() + 0.2

# %% [markdown]
# ## A transformer
#
# The same objective on a Llama of a few thousand parameters, made here, which learns to copy digits. The recipe is a
# flat list of keys; the loop behind it is the `run` from above, with checkpoints and a history.

# %%
import tempfile

from polytheory.lab.training.recipe import read
from polytheory.lab.training.train import train

keys = {"task": "copy", "rows": 500, "sft_steps": 9, "steps": 3, "prompts": 8}
with tempfile.TemporaryDirectory() as folder:
    small = train(read("grpo", keys), output=folder, progress=False)
print(f"{small.run.steps} steps, {small.run.meter.total('episodes')} completions; ended by: {small.run.status}")
print("what a step reports:", ", ".join(sorted(x for x in small.run.history.names if "/" not in x)[:6]), "...")

# %% [markdown]
# Three steps show that it runs, not that it learns; `polytheory train --task copy` takes a minute and does.
#
# ## Exercises
#
# 1. The advantage of a group, as GRPO has it: `score [n]`, `group [n]` (ids in any order), `eps` added to the
#    deviation.


# %%
def my_advantage(score, group, eps):
    out = np.zeros(len(score))
    for g in np.unique(group):
        own = score[group == g]
        out[group == g] = (own - own.mean()) / (own.std() + eps)
    return out


print(grade(my_advantage, "group-advantage"))

# %% [markdown]
# 2. The clipped loss of a token.


# %%
def my_loss(ratio, advantage, eps):
    return -np.clip(ratio, 1 - eps, 1 + eps) * advantage


print(grade(my_loss, "clipped-loss"))

# %% [markdown]
# 3. The average over a batch of sequences of unequal lengths. (Two right answers exist in the literature; this asks
#    for GRPO's.)


# %%
def my_average(value, mask):
    return (value * mask).sum() / mask.sum()


print(grade(my_average, "sequence-mean"))

# %% [markdown]
# 4. In the exact sum above, divide the advantage by the deviation of the pair. Is the mean still parallel to the
#    gradient? And when a sequence is worth the *number* of tokens 1 in it?
