"""The rows of TRL 1.16."""

from __future__ import annotations

from polytheory.conformance.table.rows import WRONG, Row, trl

EPS = "1e-4 is added to the deviation"
ROWS: tuple[Row, ...] = (
    # GRPOTrainer: averages
    trl("grpo_loss", "seq mean", loss_type="grpo"),
    trl("grpo_loss", "seq mean", loss_type="grpo", parts=2),
    trl("grpo_loss", "token mean", loss_type="dapo"),
    trl("grpo_loss", "token mean", loss_type="dapo", parts=2),
    trl("grpo_loss", "clip higher", loss_type="dapo", epsilon_high=0.28),
    trl("grpo_loss", "token mean", loss_type="bnpo"),
    trl("grpo_loss", "token mean", "each micro-batch divides by its own number of tokens", loss_type="bnpo", parts=2),
    trl("grpo_loss", "constant", loss_type="dr_grpo"),
    trl("grpo_loss", "constant", loss_type="dr_grpo", parts=2),
    trl("grpo_loss", "dual clip", loss_type="dapo", delta=3.0),
    trl("grpo_loss", "dual clip, seq mean", loss_type="grpo", delta=3.0),
    # other ratios
    trl("grpo_loss", "gspo", loss_type="grpo", importance_sampling_level="sequence"),
    trl("grpo_loss", "gspo, paper", loss_type="grpo", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4),
    trl("grpo_loss", "gspo", "every completion counts once for each of its tokens (TRL warns)", loss_type="dapo",
        importance_sampling_level="sequence", fails=WRONG),
    trl("grpo_loss", "cispo", loss_type="cispo", epsilon_high=5.0),
    trl("grpo_loss", "cispo", loss_type="cispo", epsilon_high=5.0, parts=2),
    trl("grpo_loss", "cispo, 1 ± 0.2", "the cap is epsilon_high itself, and left out it is epsilon: no weight exceeds 0.2",
        loss_type="cispo", fails=(*WRONG, "token_advantages")),
    trl("grpo_loss", "reinforce", "on policy every weight is 1; the default cap makes it 0.2", on="on policy",
        loss_type="cispo"),
    trl("grpo_loss", loss_type="sapo"),
    trl("grpo_loss", loss_type="luspo", importance_sampling_level="sequence"),
    trl("grpo_loss", "seq sum", loss_type="luspo"),
    trl("grpo_loss", "seq sum", loss_type="luspo", parts=2),
    trl("grpo_loss", loss_type="vespo"),
    trl("grpo_loss", loss_type="grpo", off_policy_mask_threshold=0.02),
    # KL
    trl("grpo_loss", "grpo with rho k3", loss_type="grpo", beta=0.1),
    trl("grpo_loss", "grpo with k3", loss_type="grpo", beta=0.1, use_bias_correction_kl=False),
    trl("grpo_loss", "unbiased kl", "k3 of every token is multiplied by the ratio of the completion, not by its own",
        on="two tokens two ways", loss_type="grpo", importance_sampling_level="sequence", beta=0.1),
    trl("grpo_loss", "unbiased kl", on="two tokens two ways", loss_type="grpo", beta=0.1),
    trl("grpo_loss", "grpo with k3", on="far from the reference", loss_type="grpo", beta=0.1, use_bias_correction_kl=False),
    # mismatch of the sampler
    *(
        trl("grpo_loss", f"{kind} {unit} 3", loss_type="dapo", use_vllm=True, vllm_importance_sampling_mode=f"{unit}_{kind}")
        for unit in ("token", "sequence") for kind in ("truncate", "mask")
    ),
    trl("grpo_loss", "mask token 3", on="beyond the bound", loss_type="dapo", use_vllm=True,
        vllm_importance_sampling_mode="token_mask"),
    # advantages
    trl("grpo_advantages", "group scaled", EPS, scale_rewards="group"),
    trl("grpo_advantages", "batch scaled", EPS, scale_rewards="batch"),
    trl("grpo_advantages", "not scaled", scale_rewards="none"),
    trl("grpo_advantages", multi_objective_aggregation="normalize_then_sum",
        note="GDPO with one reward: scaled by group, then whitened over completions"),
    # RLOOTrainer
    trl("rloo_advantages", "rloo", beta=0.0),
    trl("rloo_advantages", "rloo with kl", beta=0.1),
    trl("rloo_advantages", beta=0.0, normalize_advantages=True, note="RLOO, then whitened over the batch"),
    trl("rloo_loss", "reinforce, seq sum", "the value is -A, not -A log π", on="on policy"),
    trl("rloo_loss", note="PPO clip of the ratio of the whole completion"),
    # DPOTrainer
    trl("dpo_loss", "dpo", loss_type=["sigmoid"]),
    trl("dpo_loss", "dpo", loss_type=["sigmoid"], label_smoothing=0.1),
    trl("dpo_loss", "dpo", loss_type=["sigmoid"], f_divergence_type="reverse_kl"),
    trl("dpo_loss", "ipo", "log ratios are divided by the completion's length before the square", loss_type=["ipo"],
        fails=("value", "gradient")),
    trl("dpo_loss", "ipo", on="half right", loss_type=["ipo"]),
    trl("dpo_loss", "sft", loss_type=["sft"]),
    trl("dpo_loss", "dpo + sft", loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5]),
    trl("dpo_loss", loss_type=["bco_pair"], note="without BCO's shift of the rewards"),
    *(trl("dpo_loss", loss_type=[name]) for name in (
        "hinge", "nca_pair", "sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sigmoid_norm")),
    *(trl("dpo_loss", loss_type=[name], label_smoothing=0.1) for name in ("exo_pair", "robust")),
    *(trl("dpo_loss", loss_type=["sigmoid"], f_divergence_type=name) for name in (
        "forward_kl", "js_divergence", "alpha_divergence")),
    trl("dpo_loss", loss_type=["sigmoid"], ld_alpha=0.5),
)  # fmt: skip
