"""Prompts that a tuned model writes when it is given only what stands before a user's turn: Magpie.

The pre-query part of the chat template is sent bare, so the model continues with what users usually say there (Xu et al.,
arXiv 2406.08464). That needs a server that takes raw text: ``openai:NAME@URL?endpoint=completions``. Each given prompt is a
slot: its id seeds the draw, its words are not shown. What goes past the first end-of-turn mark is cut.

    rlhf-eval generate --generator magpie --model 'openai:NAME@URL?endpoint=completions' --set template=chatml
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.models.base import ChatRequest, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling
from rlhf_eval.stages.writing import failed, fault_of, overlap, seed_for

NAME = "magpie"
TEMPLATES = {
    "chatml": ("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n", "<|im_end|>"),
    "gemma": ("<start_of_turn>user\n", "<end_of_turn>"),
    "llama3": (
        "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "mistral": ("[INST]", "[/INST]"),
    "tulu": ("<|user|>\n", "<|assistant|>"),
}
"""Name to what stands before a user's turn, and the mark that ends it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of Magpie."""

    n: int = 1
    """Prompts drawn at each given one."""
    template: str = "chatml"
    """Chat template of the model: chatml, gemma, llama3, mistral, tulu; or its pre-query text itself."""
    system: str = "You are a helpful assistant."
    """System prompt, for templates that have one; it steers the subject."""
    stop: str = ""
    """Mark that ends a turn, where ``template`` is a text of your own."""
    least: int = 12
    """Fewest characters of a prompt."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus of the distribution that is sampled from."""
    max_tokens: int = 512
    """Longest reply, in tokens."""
    sample_seed: int = 0
    """Seed of the replies and of every draw; another one draws others."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; at least 1 prompt is drawn")


async def generate(
    prompts: Sequence[Prompt], models: Sequence[Model], config: Config
) -> AsyncIterator[Prompt | Completion]:
    """Yield the prompts that the models make up, and a failed completion for every draw that is none."""
    before, stop = _template(config)
    for prompt in prompts:
        sampling = Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            stop=(stop,) if stop else (),
            seed=seed_for(prompt, config.sample_seed),
        )
        for model in models:
            reply = await model.chat(ChatRequest(messages=(Message("user", before),), sampling=sampling, n=config.n))
            earlier: list[str] = []
            for index, choice in enumerate(reply.choices):
                text = (choice.text.split(stop)[0] if stop else choice.text).strip()
                fault = fault_of(choice, least=config.least) or _fault(text, earlier, config)
                if fault:
                    yield failed(prompt, model, NAME, fault, sampling=sampling, sample=index)
                    continue
                earlier.append(text)
                yield Prompt.of(text, source=f"{NAME}/{model.name}", metadata={"slot": prompt.id, "sample": index})


def _fault(text: str, earlier: Sequence[str], config: Config) -> str:
    if len(text) < config.least:
        return f"malformed: the prompt has {len(text)} characters, and {config.least} are the least"
    if "<|" in text:
        return "malformed: a piece of the chat template is in the prompt"
    if any(overlap(text, other) > 0.8 for other in earlier):
        return "copy: the same prompt was drawn before"
    return ""


def _template(config: Config) -> tuple[str, str]:
    if config.template in TEMPLATES:
        before, stop = TEMPLATES[config.template]
        return before.replace("{system}", config.system), config.stop or stop
    if "<" not in config.template and "[" not in config.template:
        raise UserError(f"magpie knows no template '{config.template}'.{nearest(config.template, TEMPLATES)}")
    return config.template.replace("{system}", config.system), config.stop
