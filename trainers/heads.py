"""The model of a reward trainer: a trunk, reward heads in float32, and the standard checkpoint that it leaves.

Several heads are an ensemble, or one for each labeler. As they are linear, the mean of their rewards is the reward of their
mean, and this one is the checkpoint's ``score``: transformers, vLLM and RewardBench load it as any reward model. All heads
lie beside it; ``rlhf_eval.models.local.heads`` reads them, and says what can be made of them.

    model = load_scorer("checkpoint/", heads=4, seed=0)
    model(input_ids=..., attention_mask=..., position_ids=..., at=at).rewards   # (N, 4), float32
    save_scorer(model, tokenizer, Path("out"), names=("1", "2", "3", "4"))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import first_line, need, open_checkpoint, quiet
from rlhf_eval.models.local.heads import HEADS
from trainers.data import Example, Tokenized

PAD = "<|padding|>"
"""The pad token that is added where every known one also ends answers."""


class Rewarded(NamedTuple):
    """What a scoring forward returns."""

    rewards: Tensor
    """(N, heads), float32."""
    tie: Tensor | None
    """The tendency to tie, a scalar, where the objective has one."""


class TokenRewards:
    """Mixed into a ``...ForSequenceClassification``: a forward that knows where rewards are wanted."""

    def forward(self, *args: Any, at: Tensor | None = None, **kwargs: Any) -> Any:
        """Rewards at the flat positions ``at`` (N,) of the (rows x width) batch; without it the model's own forward."""
        if at is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        trunk = getattr(self, self.base_model_prefix)  # type: ignore[attr-defined]
        states = trunk(*args, use_cache=False, **kwargs).last_hidden_state.flatten(0, 1).index_select(0, at)
        return Rewarded(rewards_of(self.score, states), getattr(self, "tie", None))  # type: ignore[attr-defined]


class Probe(nn.Module):
    """The heads alone, on features that a frozen trunk has given."""

    def __init__(self, score: nn.Module, tie: Tensor | None) -> None:
        super().__init__()
        self.score, self.tie = score, tie

    def forward(self, *, features: Tensor) -> Rewarded:
        """Rewards of ``features`` (N, width)."""
        return Rewarded(rewards_of(self.score, features), self.tie)


def rewards_of(score: nn.Module, states: Tensor) -> Tensor:
    """The heads on hidden states (N, width), in the heads' own precision whatever is around them; (N, heads).

    In bfloat16 rewards have 8 bits: 53 texts that differ got 9 rewards.
    """
    with torch.autocast(states.device.type, enabled=False):
        rewards: Tensor = score(states.to(next(score.parameters()).dtype))
    return rewards


def load_scorer(path: str, *, heads: int, seed: int, ties: bool = False, attention: str = "sdpa") -> Any:
    """A reward model on the trunk of ``path``, a causal language model or a reward model; dropout is off.

    New heads are drawn with deviation ``1 / sqrt(width + 1)`` (Stiennon et al., arXiv 2009.01325); one head goes on from
    that of a reward model. Raises UserError where ``path`` holds no such model, or none with a reward form.
    """
    transformers = need("transformers", f"train {path}")
    found = open_checkpoint(path, scheme="hf")
    auto = transformers.AutoModelForSequenceClassification
    try:
        plain = auto._model_mapping[type(found.config)]
    except KeyError as error:
        raise UserError(f"{path}: transformers has no reward model of the kind '{found.config.model_type}'") from error
    kind = type(plain.__name__, (TokenRewards, plain), {"__module__": plain.__module__, "__doc__": plain.__doc__})
    try:
        with quiet():
            model, report = kind.from_pretrained(  # type: ignore[attr-defined]
                found.path,
                dtype=torch.float32,
                num_labels=heads,
                attn_implementation=attention,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **found.origin,
            )
    except Exception as error:  # corrupt files raise many types
        raise UserError(f"{path} cannot be loaded: {first_line(error)}") from error
    if lost := sorted(key for key in report["missing_keys"] if not key.startswith("score.")):
        raise UserError(f"{path} lacks {len(lost)} weights of a {plain.__name__}, the first being {lost[0]}")
    if found.kind == "chat" or heads > 1:
        drawn = torch.Generator().manual_seed(seed)
        width = model.score.weight.shape[1]
        with torch.no_grad():
            model.score.weight.copy_(torch.randn(heads, width, generator=drawn) / (width + 1) ** 0.5)
    model.tie = nn.Parameter(torch.zeros(())) if ties else None
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def pad_apart(model: Any, tokens: Tokenized, examples: Sequence[Example]) -> None:
    """Give the model a pad token that ends no answer: transformers takes the reward at the last token that is not padding.

    With padding that equals the end of an answer it would take the one before. Any special token that no example has will
    do; where there is none, one is added.
    """
    tokenizer = tokens.tokenizer
    used = {token for example in examples for ids in (example.prompt, *example.answers) for token in ids}
    pad = tokenizer.pad_token_id
    if pad is None or pad in {answer[-1] for example in examples for answer in example.answers}:
        spare = [token for token in sorted(tokenizer.added_tokens_decoder) if token not in used]
        if spare:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(spare[0])
        else:
            tokenizer.add_special_tokens({"pad_token": PAD})
        pad = tokenizer.pad_token_id
    rows = model.get_input_embeddings().num_embeddings
    if pad >= rows:
        with quiet():
            model.resize_token_embeddings(pad + 1)
    tokens.pad = model.config.pad_token_id = pad
    model.config.get_text_config().pad_token_id = pad


def save_scorer(model: Any, state: Mapping[str, Tensor], tokenizer: Any, folder: Path, *, names: Sequence[str]) -> None:
    """Write the standard checkpoint of one head, the mean, and where there are several also ``heads.json``.

    ``state`` holds the weights of ``model``, gathered from wherever they are.
    """
    weight = state["score.weight"].detach().float().cpu()
    kept = {name: tensor for name, tensor in state.items() if name != "tie"}
    kept["score.weight"] = weight.mean(0, keepdim=True)
    before, model.config.num_labels = model.config.num_labels, 1
    try:
        with quiet():
            model.save_pretrained(folder, state_dict=kept)
    finally:
        model.config.num_labels = before
    tokenizer.save_pretrained(folder)
    if len(weight) > 1:
        beside = {"names": list(names), "weight": weight.tolist()}
        (folder / HEADS).write_text(json.dumps(beside), encoding="utf-8")
