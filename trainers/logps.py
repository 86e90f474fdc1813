"""Log-probabilities of the tokens that count, and of no others, inside the model's own ``forward``.

A language model of 128,000 tokens spends more memory on the logits of a prompt than on everything else, and a trainer reads
none of them. Here the model is told which positions count (``at``) and which tokens came next (``targets``); only their
hidden states reach the head, a chunk at a time. The call stands inside ``forward``, so that DDP, FSDP, DeepSpeed and PEFT,
which hook it, see nothing unusual.

    model = load_policy("checkpoint/", dtype=torch.float32)
    scored = model(input_ids=..., attention_mask=..., position_ids=..., at=at, targets=targets)
    scored.logps   # (N,), float32, nats
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rlhf_eval.errors import UserError
from rlhf_eval.models.local.checkpoints import first_line, need, open_checkpoint, quiet

CHUNK = 512
"""Positions whose logits exist at one time; at a vocabulary of 128,000 in float32 that is 256 MiB."""
KEPT = 1 << 28
"""Logits that are kept for the backward pass, 1 GiB in float32; of more, all are made again."""


class Scored(NamedTuple):
    """What a scoring forward returns; all but the log-probabilities only if asked for."""

    logps: Tensor
    """(N,), float32, nats: log-probability of each target, at temperature 1 unless another was given."""
    entropy: Tensor | None = None
    """(N,), float32, nats: entropy of the distribution that each target was drawn from."""
    hidden: Tensor | None = None
    """(N, width): the last hidden states at the positions asked for, for value and reward heads."""


class TokenLogps:
    """Mixed into a causal language model by ``scoring_class``: a forward that knows ``at`` and ``targets``."""

    def forward(
        self,
        *args: Any,
        at: Tensor | None = None,
        targets: Tensor | None = None,
        temperature: float = 1.0,
        entropy: bool = False,
        hidden: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Score ``targets`` (N,) at the flat positions ``at`` (N,) of the (rows x width) batch.

        ``at`` names the token before each target. Without ``at`` this is the model's own forward, logits and all.
        """
        if at is None or targets is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        states = self.base_model(*args, use_cache=False, **kwargs).last_hidden_state  # type: ignore[attr-defined]
        states = states.flatten(0, 1).index_select(0, at)  # whose backward adds; that of [at] would sort first
        logps, spread = _in_chunks(self, states, targets, temperature, entropy)
        return Scored(logps, spread, states if hidden else None)


def scoring_class(kind: type) -> type:
    """``kind``, a transformers ``...ForCausalLM``, with the scoring forward; it saves and loads under its old name."""

    # It keeps the signature of the model's own: decoding asks it whether position_ids must be given.
    @functools.wraps(kind.forward)  # type: ignore[attr-defined]
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return TokenLogps.forward(self, *args, **kwargs)

    own = {"__module__": kind.__module__, "__doc__": kind.__doc__, "forward": forward}
    return type(kind.__name__, (TokenLogps, kind), own)


def load_policy(path: str, *, dtype: Any = None, attention: str = "sdpa", dropout: bool = False) -> Any:
    """A causal language model with the scoring forward; dropout is off unless asked for, as log-ratios need.

    Raises UserError where ``path`` holds no such model, or one whose logits are made in a way that is not known here.
    """
    transformers = need("transformers", f"train {path}")
    found = open_checkpoint(path, scheme="hf")
    if found.kind != "chat":
        raise UserError(f"{path} is a reward model; a policy starts from a causal language model")
    auto = transformers.AutoModelForCausalLM
    kind = scoring_class(auto._model_mapping[type(found.config)])
    try:
        with quiet():
            model = kind.from_pretrained(  # type: ignore[attr-defined]
                found.path, dtype=dtype or torch.float32, attn_implementation=attention, **found.origin
            )
    except Exception as error:  # corrupt files raise many types
        raise UserError(f"{path} cannot be loaded: {first_line(error)}") from error
    if not dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    check_head(model, path)
    return model


@torch.no_grad()
def check_head(model: Any, where: str) -> None:
    """Hold the scoring forward against the model's own logits on a few tokens; raises UserError where they differ."""
    ids = torch.arange(8).remainder(model.config.get_text_config().vocab_size)[None]
    was_training = model.training
    model.eval()
    logits = model(input_ids=ids).logits[0, :-1].float()
    ours = model(input_ids=ids, at=torch.arange(7), targets=ids[0, 1:]).logps
    model.train(was_training)
    theirs = logits.log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    if not torch.allclose(ours, theirs, atol=1e-2 if model.dtype != torch.float32 else 1e-4, rtol=1e-3):
        raise UserError(
            f"{where}: a {type(model).__name__} does something to its logits that is not known here, so it cannot be "
            "trained; export the data and use TRL for it"
        )


def _in_chunks(
    model: Any, states: Tensor, targets: Tensor, temperature: float, entropy: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities and entropies, at most CHUNK positions at a time, without keeping many logits."""

    def score(part: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        logits = _logits(model, part).float()
        logits = logits if temperature == 1.0 else logits / temperature
        norm = logits.logsumexp(-1)
        logps = logits.gather(-1, wanted[:, None])[:, 0] - norm
        spread = norm - (logits.softmax(-1) * logits).sum(-1) if entropy else logps.new_zeros(())
        return logps, spread

    if len(states) <= CHUNK:
        logps, spread = score(states, targets)
        return logps, spread if entropy else None
    again = torch.is_grad_enabled() and len(states) * model.config.get_text_config().vocab_size > KEPT
    parts = [
        checkpoint(score, part, wanted, use_reentrant=False) if again else score(part, wanted)
        for part, wanted in zip(torch.split(states, CHUNK), torch.split(targets, CHUNK), strict=True)
    ]
    logps = torch.cat([part[0] for part in parts])
    return logps, torch.cat([part[1] for part in parts]) if entropy else None


def _logits(model: Any, states: Tensor) -> Tensor:
    """What the model's own forward makes of hidden states: its head, and the scale or cap that some families add."""
    config = model.config.get_text_config()
    logits: Tensor = model.get_output_embeddings()(states)
    if (scale := getattr(config, "logit_scale", None)) is not None:  # Cohere
        logits = logits * scale
    if (scaling := getattr(config, "logits_scaling", None)) is not None:  # Granite
        logits = logits / scaling
    if (cap := getattr(config, "final_logit_softcapping", None)) is not None:  # Gemma 2 and 3
        logits = torch.tanh(logits / cap) * cap
    return logits
