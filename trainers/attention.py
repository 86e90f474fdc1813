"""Attention within segments: rows of any length in one flat row, answers behind a shared prompt, no mask and no padding.

A segment is the queries of some tokens that follow one another, and the keys that they see: all those of its context, and
its own up to the token itself. The first answer to a prompt forms one segment with it; each further answer is a segment of
its own tokens whose keys are the prompt's and then its own (prefix sharing: Wang and Hegde, arXiv 2410.20305). That is what
flash attention's kernel for ragged sequences computes (Dao, arXiv 2307.08691: causal, aligned at the end), so packing and
prefix sharing run at its speed, where a mask of (rows, T, T) would leave it for a slower kernel that skips nothing.

    model.set_attn_implementation(NAME)
    model(input_ids=flat, position_ids=positions, attention_mask=NO_MASK, segments=segments([(0, 5, ())]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "segments"
"""Of this attention, among those of transformers."""
NO_MASK = torch.zeros(1, 1, 1, 1, dtype=torch.bool)
"""Transformers makes no mask of its own where it is given one of four dimensions."""
UNKNOWN = frozenset({"softcap", "s_aux", "position_bias", "score_mod"})
"""What some families ask of attention and the kernel cannot do."""


class Span(NamedTuple):
    """Tokens of a flat row that follow one another, and the earlier tokens that all of them see."""

    start: int
    end: int
    context: tuple[int, int] = (0, 0)
    """From and up to; empty where the span begins a sequence."""


def segments(spans: Sequence[Span]) -> dict[str, Any]:
    """What the kernel reads of spans that cover a flat row in order.

    ``keys`` (K,) are positions in the row, span after span; ``starts_q`` and ``starts_k`` (S + 1,) say where each begins
    among the queries and among the keys; ``most_q`` and ``most_k`` are the longest.
    """
    queries = torch.tensor([span.end - span.start for span in spans])
    contexts = torch.tensor([span.context[1] - span.context[0] for span in spans])
    keys = [torch.arange(*part) for span in spans for part in (span.context, span[:2])]
    return {
        "keys": torch.cat(keys),
        "starts_q": _starts(queries),
        "starts_k": _starts(queries + contexts),
        "most_q": int(queries.max()),
        "most_k": int((queries + contexts).max()),
    }


def _starts(lengths: Tensor) -> Tensor:
    return functional.pad(lengths.cumsum(0), (1, 0)).int()


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    segments: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of (1, heads, N, width) queries, keys and values, as transformers calls it; (1, N, heads, width).

    Without ``segments`` this is the attention that transformers takes by default.
    """
    if segments is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return found
    if asked := sorted(name for name in UNKNOWN if kwargs.get(name) is not None):
        raise NotImplementedError(f"attention with {', '.join(asked)}")
    seen = segments["keys"]
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
    if len(seen) != len(q):  # else every token is a key once, where it stands
        k, v = k.index_select(0, seen), v.index_select(0, seen)
    kernel = _flash if query.is_cuda else _one_by_one
    return kernel(q, k, v, segments, scaling, sliding_window)[None], None


def _flash(
    q: Tensor, k: Tensor, v: Tensor, segments: Mapping[str, Any], scaling: float | None, window: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # Autocast does not know this kernel, and some families make queries in float32 from weights in float32.
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else q.dtype
    return varlen_attn(  # type: ignore[return-value]  # one tensor, since no second was asked for
        q.to(dtype),
        k.to(dtype),
        v.to(dtype),
        segments["starts_q"],
        segments["starts_k"],
        segments["most_q"],
        segments["most_k"],
        scale=scaling,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _one_by_one(
    q: Tensor, k: Tensor, v: Tensor, segments: Mapping[str, Any], scaling: float | None, window: int | None
) -> Tensor:
    """The same by torch's own attention, one segment after the other: as exact, and on a CPU as fast as any."""
    # Split, not sliced: the gradient of a slice is a whole row of zeros around it, of a split one row for all parts.
    of_q, of_k = (segments[name].diff().tolist() for name in ("starts_q", "starts_k"))
    repeat, found = q.shape[1] // k.shape[1], []
    for parts in zip(torch.split(q, of_q), torch.split(k, of_k), torch.split(v, of_k), strict=True):
        one, keys, values = (part.transpose(0, 1) for part in parts)
        if repeat > 1:
            keys, values = (part.repeat_interleave(repeat, 0) for part in (keys, values))
        before = keys.shape[1] - one.shape[1]
        square = not before and (window is None or keys.shape[1] <= window)
        mask = None if square else _mask(one.shape[1], before, window, q.device)
        attended = functional.scaled_dot_product_attention(
            one[None], keys[None], values[None], attn_mask=mask, is_causal=square, scale=scaling
        )
        found.append(attended[0].transpose(0, 1))
    return torch.cat(found)


def _mask(length: int, before: int, window: int | None, device: Any) -> Tensor:
    """(length, before + length): what each query of a segment sees."""
    age = torch.arange(before, before + length, device=device)[:, None] - torch.arange(before + length, device=device)
    return (age >= 0) & (age < (window or before + length))


@torch.no_grad()
def adopted(model: Any, *, bfloat16: bool) -> bool:
    """Let ``model`` attend in segments if the device has the kernel and the model says the same so; whether it does.

    ``bfloat16`` says whether that is its arithmetic, which the kernel of a GPU needs.
    """
    if torch.cuda.is_available() and not (bfloat16 and _has_kernel(model.config.get_text_config())):
        return False
    before, was_training = model.config._attn_implementation, model.training
    model.eval()
    ids = torch.arange(3, 11, device=model.device)[None]
    shared, places = [0, 1, 2, 3], torch.tensor([[0, 1, 2, 3, 4, 5, 4, 5]], device=model.device)
    cut = _on(model.device, segments([Span(0, 6), Span(6, 8, (0, 4))]))
    try:
        alone = [_states(model, input_ids=ids[:, [*shared, *own]]) for own in ((4, 5), (6, 7))]
        model.set_attn_implementation(NAME)
        mask = NO_MASK.to(model.device)
        whole = _states(model, input_ids=ids, position_ids=places, attention_mask=mask, segments=cut)
        same = _alike(whole, torch.cat(alone)[[0, 1, 2, 3, 4, 5, 10, 11]], 1e-3)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):  # a family that does it in a way of its own
        same = False
    if not same:
        model.set_attn_implementation(before)
    model.train(was_training)
    return same


def _states(model: Any, **inputs: Any) -> Tensor:
    states: Tensor = model.base_model(**inputs, use_cache=False).last_hidden_state[0].float()
    return states


def _has_kernel(config: Any) -> bool:
    """Whether this GPU has a kernel for heads of the model's width that says, forward and backward, what it should."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if width % 8 or width > 256 or torch.cuda.get_device_capability() < (8, 0):
        return False
    draw = torch.Generator("cuda").manual_seed(0)
    inputs = [torch.randn(n, h, width, generator=draw, device="cuda").bfloat16() for n, h in ((8, 4), (12, 2), (12, 2))]
    cut = _on("cuda", segments([Span(0, 6), Span(6, 8, (0, 4))]))
    found = []
    try:
        for kernel in (_flash, _one_by_one):
            leaves = [part.clone().requires_grad_() for part in inputs]
            with torch.enable_grad():
                q, k, v = leaves
                out = kernel(q, k, v, cut, None, None)
                found.append((out, *torch.autograd.grad(out.float().square().sum(), leaves)))
    except (ImportError, RuntimeError, TypeError, ValueError):
        return False
    return all(_alike(ours, wanted, 0.05) for ours, wanted in zip(*found, strict=True))


def _alike(ours: Tensor, wanted: Tensor, share: float) -> bool:
    """Whether they differ by less than ``share`` of their size, which rounding does and another attention does not."""
    return bool((ours.float() - wanted.float()).norm() < share * wanted.float().norm())


def _on(device: Any, cut: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part.to(device) if torch.is_tensor(part) else part for name, part in cut.items()}


ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
