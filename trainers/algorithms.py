"""The settings of ``trainers.ppo``, and the choices that tell its algorithms from one another.

config = Config(algorithm="grpo", kl_coef=0.01, samples=8)
choices_of(config).aggregate   # 'sequence'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from trainers.curiosity import Settings
from trainers.losses import Aggregation, KlEstimator, PolicyLoss

Algorithm = Literal["ppo", "reinforce", "rloo", "grpo", "dr_grpo", "dapo", "gspo", "cispo"]
Advantage = Literal["gae", "baseline", "leave_one_out", "group", "group_mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the loop; what is left open is as the algorithm has it, and is filled in."""

    algorithm: Algorithm = "ppo"
    """ppo, reinforce, rloo, grpo, dr_grpo, dapo, gspo or cispo: the four choices below, made as published."""
    advantage: Advantage | None = None
    """gae, baseline, leave_one_out, group or group_mean."""
    loss: PolicyLoss | None = None
    """clip, sequence_clip, cispo or reinforce."""
    aggregate: Aggregation | None = None
    """token, sequence or fixed: how token losses are weighed."""
    kl_in: Literal["reward", "loss"] | None = None
    """Where the distance to the reference is charged."""
    kl: KlEstimator | None = None
    """k1, k2 or k3. In the loss, k1 has no gradient on average and is refused."""
    kl_coef: float | None = None
    """Price of a nat."""
    kl_target: float = 0.0
    """Nats a completion to hold by adapting kl_coef (Ziegler et al. 2019); 0 leaves it fixed."""
    kl_horizon: float = 10_000.0
    """Completions over which kl_coef adapts."""

    steps: int = 100
    """Rollouts to learn from."""
    prompts: int = 32
    """Prompts in a rollout."""
    samples: int = 4
    """Completions of a prompt; groups need at least 2."""
    epochs: int = 1
    """Passes over a rollout."""
    minibatches: int = 1
    """Gradient steps in a pass."""
    max_new_tokens: int = 256
    """Longest completion."""
    temperature: float = 1.0
    """Of sampling; log-probabilities are those of the distribution that was drawn from."""
    resample: int | None = None
    """Extra draws, at most, to replace prompts whose completions all score the same (DAPO's dynamic sampling)."""

    learning_rate: float = 1e-6
    """Of the policy (AdamW)."""
    critic_learning_rate: float = 5e-6
    """Of the critic."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rates fall after the warm-up."""
    warmup: float = 0.03
    """Share of the steps in which the learning rates rise."""
    max_grad_norm: float = 1.0
    """Where gradients are clipped; 0 leaves them."""
    weight_decay: float = 0.0
    """AdamW's."""
    adam_epsilon: float = 1e-5
    """AdamW's."""

    gamma: float = 1.0
    """Discount a token."""
    lam: float = 0.95
    """GAE's lambda: 1 trusts returns, 0 the critic."""
    clip_low: float | None = None
    """How far below 1 a probability ratio may fall."""
    clip_high: float | None = None
    """How far above 1 it may rise."""
    value_clip: float = 0.2
    """How far the critic may move in one rollout; 0 does not clip."""
    whiten_advantages: bool | None = None
    """Scale advantages to mean 0 and variance 1 over the tokens of a rollout."""
    entropy_coef: float = 0.0
    """Price paid for entropy."""
    importance_cap: float = 2.0
    """With vLLM: most that a token may weigh for the difference between the two arithmetics (Yao et al. 2025)."""

    scale_rewards: Literal["none", "running"] = "none"
    """running subtracts the mean of all scores so far and divides by their standard deviation."""
    reward_clip: float = 0.0
    """Scores are clipped to plus and minus this; 0 does not clip."""
    missing_eos_penalty: float = 0.0
    """Taken from the score of a completion that was cut off."""
    overlong_buffer: int = 0
    """Last tokens before max_new_tokens over which a penalty rises from 0 to 1 (DAPO, eq. 13); 0 for none."""

    critic: str = ""
    """Checkpoint that the critic starts from: a reward model, or a language model; empty takes the policy."""
    reference: str = ""
    """Checkpoint of the reference; empty freezes a copy of the policy as it starts."""
    curiosity: Settings = field(default_factory=Settings)
    """The bonus of CD-RLHF: eta, kind, top_k, encoder, learning_rate."""

    eval_every: int = 10
    """Steps between evaluations on the held-out prompts; the first and the last step have one too."""
    eval_prompts: int = 128
    """Held-out prompts of an evaluation; 0 evaluates nothing. Where none are given, so many are kept from training."""
    eval_samples: int = 1
    """Completions of each held-out prompt."""
    save_minutes: float = 1.0
    """Minutes between two states to resume from; more where saving would else take over a twentieth of the time."""
    save_every: int = 0
    """Steps between two further states; 0 goes by the clock alone."""

    sampler: Literal["hf", "vllm"] = "hf"
    """What draws the completions."""
    vllm_memory: float = 0.3
    """Share of the GPU's memory that vLLM may take."""
    batch_size: int = 256
    """Completions drawn at once."""
    micro_batch_tokens: int = 4096
    """Most padded tokens in one pass of the model; changes memory and speed, no result."""
    bf16: bool = False
    """Compute in bfloat16; weights, log-probabilities, values and losses stay in float32."""
    gradient_checkpointing: bool = False
    """Trade a second forward for memory."""
    lora_rank: int = 0
    """Train low-rank adapters of policy and critic; the reference is the policy without. 0 trains all weights."""
    lora_alpha: float = 0.0
    """Scale of the adapters; 0 takes twice the rank."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:0."""
    threads: int = 0
    """CPU threads of torch; 0 takes one for models under 10 million weights, else torch's own number."""

    def __post_init__(self) -> None:
        for name in ("steps", "prompts", "samples", "epochs", "minibatches", "max_new_tokens", "eval_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.eval_prompts, self.save_every, self.lora_rank) < 0 or self.eval_every < 1:
            raise ValueError("eval_prompts, save_every and lora_rank must be at least 0, eval_every at least 1")
        if self.save_minutes <= 0:
            raise ValueError(f"save_minutes is {self.save_minutes}; it must be over 0")
        if self.lora_rank and self.sampler == "vllm":
            raise ValueError("sampler=vllm copies whole weights and no adapter; set lora_rank=0 or sampler=hf")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; a policy that draws nothing at random learns nothing")
        choices = choices_of(self)
        # What the settings leave open is settled, so that a run's config says what was done.
        for each in fields(choices):
            object.__setattr__(self, each.name, getattr(choices, each.name))
        if choices.advantage in ("leave_one_out", "group", "group_mean") and self.samples < 2:
            raise ValueError(f"{self.algorithm} compares the completions of a prompt: samples must be at least 2")
        if choices.kl_in == "loss" and choices.kl == "k1" and choices.kl_coef:
            raise ValueError("kl=k1 in the loss has no gradient on average; use k2 or k3, or kl_in=reward")
        if self.minibatches > self.prompts * self.samples:
            raise ValueError("there are more minibatches than completions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What tells one algorithm from another; the settings of the same names say what each is."""

    advantage: Advantage
    loss: PolicyLoss
    aggregate: Aggregation
    kl_in: Literal["reward", "loss"]
    kl: KlEstimator
    kl_coef: float
    clip_low: float = 0.2
    clip_high: float = 0.2
    whiten_advantages: bool = False
    resample: int = 0


_IN_REWARD: dict[str, Any] = {"kl_in": "reward", "kl": "k1", "kl_coef": 0.05}
_IN_LOSS: dict[str, Any] = {"kl_in": "loss", "kl": "k3", "kl_coef": 0.0}
ALGORITHMS: Mapping[Algorithm, Choices] = {
    "ppo": Choices(advantage="gae", loss="clip", aggregate="token", whiten_advantages=True, **_IN_REWARD),
    "reinforce": Choices(
        advantage="baseline", loss="reinforce", aggregate="token", whiten_advantages=True, **_IN_REWARD
    ),
    "rloo": Choices(advantage="leave_one_out", loss="reinforce", aggregate="fixed", **_IN_REWARD),
    "grpo": Choices(advantage="group", loss="clip", aggregate="sequence", **{**_IN_LOSS, "kl_coef": 0.04}),
    "dr_grpo": Choices(advantage="group_mean", loss="clip", aggregate="fixed", **_IN_LOSS),
    "dapo": Choices(advantage="group", loss="clip", aggregate="token", clip_high=0.28, resample=3, **_IN_LOSS),
    "gspo": Choices(
        advantage="group", loss="sequence_clip", aggregate="sequence", clip_low=3e-4, clip_high=4e-4, **_IN_LOSS
    ),
    "cispo": Choices(advantage="group", loss="cispo", aggregate="token", clip_low=1.0, clip_high=4.0, **_IN_LOSS),
}
"""The choices of each algorithm."""


def choices_of(config: Config) -> Choices:
    """The algorithm's choices, each replaced where the settings name their own."""
    own = {f.name: getattr(config, f.name) for f in fields(Choices)}
    return replace(ALGORITHMS[config.algorithm], **{name: value for name, value in own.items() if value is not None})
