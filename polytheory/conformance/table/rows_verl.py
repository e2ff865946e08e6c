"""The rows of verl 0.9."""

from __future__ import annotations

from typing import Any

from polytheory.conformance.table.rows import WRONG, Row, verl

EPS = "1e-6 is added to the deviation"
FREE: dict[str, Any] = {"clip_ratio_c": 1e6}  # the dual clip out of the way
MEANS: dict[str, Any] = {"loss_agg_mode": "seq-mean-token-mean"}
# whitening needs two tokens in the batch: with one it raises, whatever the check
WHITE = ("value", "masked_garbage", "padding", "empty_rows", "float32", "inputs_untouched", "repeatable")
BY_TOKEN = "every completion counts once for each of its tokens"
ROWS: tuple[Row, ...] = (
    # vanilla: averages and clips
    verl("policy_loss", "token mean", "clip_ratio_c = 3 by default: a dual clip", loss_mode="vanilla"),
    verl("policy_loss", "dual clip", loss_mode="vanilla"),
    verl("policy_loss", "dual clip, seq mean", loss_mode="vanilla", **MEANS),
    verl("policy_loss", "token mean", loss_mode="vanilla", **FREE),
    verl("policy_loss", "token mean", loss_mode="vanilla", **FREE, parts=2),
    verl("policy_loss", "clip higher", loss_mode="vanilla", **FREE, clip_ratio_high=0.28),
    verl("policy_loss", "seq mean", loss_mode="vanilla", **FREE, **MEANS),
    verl("policy_loss", "seq mean", loss_mode="vanilla", **FREE, **MEANS, parts=2),
    verl("policy_loss", "seq sum", loss_mode="vanilla", **FREE, loss_agg_mode="seq-mean-token-sum"),
    verl("policy_loss", "constant", loss_mode="vanilla", **FREE, loss_agg_mode="seq-mean-token-sum-norm", loss_scale_factor=8),
    verl("policy_loss", "constant", "loss_scale_factor left out is the width of the padded batch, here 4",
         loss_mode="vanilla", **FREE, loss_agg_mode="seq-mean-token-sum-norm",
         fails=(*WRONG, "token_advantages", "padding", "mask_holes", "micro_batches")),
    verl("policy_loss", "token sum", loss_mode="vanilla", **FREE, loss_agg_mode="token-sum"),
    verl("policy_loss", "narrow clip", loss_mode="vanilla", clip_ratio_low=0.1, clip_ratio_high=0.1),
    verl("policy_loss", "narrow clip", "clip_ratio is read only where clip_ratio_low and _high are None, and both are 0.2",
         loss_mode="vanilla", clip_ratio=0.1),
    # other ratios
    verl("policy_loss", "gspo", loss_mode="gspo", **MEANS),
    verl("policy_loss", "gspo, paper", loss_mode="gspo", **MEANS, clip_ratio_low=3e-4, clip_ratio_high=4e-4),
    verl("policy_loss", "gspo", f"the default average is token-mean: {BY_TOKEN}", loss_mode="gspo", fails=WRONG),
    verl("policy_loss", "cispo, 1 ± 0.2", loss_mode="cispo"),
    verl("policy_loss", "cispo", loss_mode="cispo", clip_ratio_low=1.0, clip_ratio_high=4.0),
    verl("policy_loss", "cispo", loss_mode="cispo", clip_ratio_low=1.0, clip_ratio_high=4.0, parts=2),
    verl("policy_loss", "reinforce", loss_mode="gpg"),
    verl("policy_loss", "dro", loss_mode="dro", dro_beta=0.1),
    verl("policy_loss", loss_mode="sapo"),
    verl("policy_loss", loss_mode="geo_mean"),
    verl("policy_loss", "unsplit", "a mean over each micro-batch, and the means are summed (verl issue 7913)",
         loss_mode="geo_mean", parts=2),
    verl("policy_loss", loss_mode="clip_cov"),
    verl("policy_loss", loss_mode="clip_cov", clip_cov_ratio=1.0, clip_cov_lb=0.2),
    verl("policy_loss", loss_mode="kl_cov"),
    verl("policy_loss", loss_mode="kl_cov", kl_cov_ratio=0.3, ppo_kl_coef=1.0),
    verl("policy_loss", loss_mode="dppo_tv"),
    verl("policy_loss", loss_mode="dppo_tv", clip_ratio_low=0.05, clip_ratio_high=0.05),
    verl("policy_loss", loss_mode="dppo_kl"),
    verl("policy_loss", loss_mode="dppo_kl", clip_ratio_low=0.01, clip_ratio_high=0.01),
    verl("policy_loss", on="four times as likely", loss_mode="dppo_tv",
         note="weight 3: ActorConfig's clip_ratio_c = 3 hides the loss's own default of 20"),
    verl("policy_loss", on="four times as likely", loss_mode="dppo_tv", clip_ratio_c=20.0, note="weight 4, the ratio"),
    # KL
    *(verl("kl_loss", "k1", kl_loss_type=name) for name in ("kl", "k1")),
    *(verl("kl_loss", "k2", kl_loss_type=name) for name in ("mse", "k2", "mse+", "k2+")),
    *(verl("kl_loss", "k3", kl_loss_type=name) for name in ("low_var_kl", "k3")),
    *(verl("kl_loss", "k1 with k2", kl_loss_type=name) for name in ("kl+", "k1+")),
    *(verl("kl_loss", "k3 with k2", kl_loss_type=name) for name in ("low_var_kl+", "k3+")),
    verl("kl_loss", "k3", "k3 is clamped at 10, beyond which it has no gradient", on="far from the reference",
         kl_loss_type="k3"),
    verl("kl_loss", kl_loss_type="abs"),
    verl("kl_loss", kl_loss_type="abs+"),
    verl("kl_loss", kl_loss_type="full"),
    verl("policy_loss", "grpo with k3", loss_mode="vanilla", **FREE, **MEANS, use_kl_loss=True, kl_loss_coef=0.1),
    # mismatch of the sampler
    *(verl("policy_loss", f"truncate {unit} 2", loss_mode="vanilla", **FREE, rollout_is=unit)
      for unit in ("token", "sequence")),
    *(verl("policy_loss", f"mask {unit} 2", loss_mode="vanilla", **FREE, rollout_is=unit, rollout_is_threshold="1e-6_2.0")
      for unit in ("token", "sequence")),
    verl("policy_loss", "mask token 2", on="beyond the bound", loss_mode="vanilla", **FREE, rollout_is="token",
         rollout_is_threshold="1e-6_2.0"),
    verl("policy_loss", "sampler ratio", loss_mode="bypass_mode"),
    verl("policy_loss", "sampler reinforce", loss_mode="bypass_mode", loss_type="reinforce", rollout_is="sequence"),
    *(verl("policy_loss", loss_mode="vanilla", rollout_rs=name, rollout_rs_threshold=bound) for name, bound in (
        ("token_k1", "0.8_1.25"), ("token_k2", 0.02), ("token_k3", 0.02), ("seq_sum_k1", "0.8_1.25"), ("seq_sum_k2", 0.1),
        ("seq_sum_k3", 0.1), ("seq_mean_k1", "0.8_1.25"), ("seq_mean_k2", 0.02), ("seq_mean_k3", 0.02),
        ("seq_max_k2", 0.1), ("seq_max_k3", 0.1))),
    # advantages
    verl("advantages", "group scaled", EPS, estimator="grpo"),
    verl("advantages", "not scaled", estimator="grpo", norm_adv_by_std_in_grpo=False),
    verl("advantages", "group scaled", f"{EPS}, and the deviation is of single precision", estimator="grpo_vectorized"),
    verl("advantages", "rloo", estimator="rloo"),
    verl("advantages", "rloo", estimator="rloo_vectorized"),
    verl("advantages", on="one and two", estimator="rloo", note="the group of one keeps its reward"),
    verl("advantages", on="one and two", estimator="rloo_vectorized", note="the group of one gets 0 (verl issue 7793)"),
    verl("advantages", on="one and two", estimator="grpo", note="the group of one keeps its reward"),
    verl("advantages", "reward", estimator="remax"),
    verl("advantages", "gae", "whitened over all tokens", estimator="gae", fails=WHITE),
    verl("advantages", "gae, 0.9 0.95", "whitened over all tokens", estimator="gae", gamma=0.9, lam=0.95, fails=WHITE),
    verl("advantages", "not scaled", "times rows / non-zero rewards", estimator="gpg"),
    verl("advantages", "not scaled", "times rows / non-zero rewards, here 2", on="half right", estimator="gpg"),
    verl("advantages", "not scaled", on="half right shifted", estimator="gpg"),
    verl("advantages", estimator="gdpo", note="GDPO with one reward: scaled by group, then whitened over tokens"),
    verl("advantages", estimator="grpo_passk"),
    verl("advantages", estimator="opo"),
    verl("advantages", estimator="reinforce_plus_plus"),
    verl("advantages", estimator="reinforce_plus_plus_baseline"),
    verl("advantages", estimator="optimal_token_baseline", note="distribution over two words"),
    verl("advantages", estimator="tir_optimal_token_baseline", note="distribution over two words"),
)  # fmt: skip
