"""Rank all answers to a prompt in one call, or pick the best of them.

The judge ends with ``[[B > A = C]]``, each letter once; a score is the share of the other answers that an answer beats (a
tie counts half). With ``best`` it ends with one letter, as RewardBench 2 asks among four (Malik et al., arXiv 2506.01937),
and the scores are the letters' probabilities where the server gives them. What is cheap to ask is dear in position bias:
the stage shows the answers in both directions unless told otherwise.

    rlhf-eval judge --judge rank --judge-model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from judges.reading import last_verdict, letter_probabilities, strip_thinking
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import chosen, conversation, fill, read

ARITY = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the ranking judge."""

    best: bool = False
    """Ask only for the best answer; all others score what probability is left."""
    reasoning: bool = False
    """Let the judge explain itself before the ranking."""
    soft: bool = True
    """With best: score by the letters' probabilities where the server gives log-probabilities."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answers}, {task}."""


def ask(prompt: Prompt, answers: Sequence[str], config: Config) -> tuple[Message, ...]:
    """The messages that show all ``answers`` under letters; raises UserError above 26 of them."""
    if len(answers) > len(ascii_uppercase):
        raise UserError(f"{len(answers)} answers to rank; there are letters for {len(ascii_uppercase)}: use pairwise")
    shown = "\n\n".join(f"Answer {letter}:\n{text}" for letter, text in zip(ascii_uppercase, answers, strict=False))
    template = chosen(config.template, "judges", "rank.txt", "answers")
    task = "Which answer is the best?" if config.best else "How do the answers rank?"
    slots = {"question": conversation(prompt), "answers": shown, "reference": prompt.reference or "", "task": task}
    system = fill(read("judges", "rank_system.txt"), {"rule": _rule(len(answers), config)})
    return Message("system", system), Message("user", fill(template, slots))


def read_ranking(text: str, count: int) -> list[float] | None:
    """A score in [0, 1] for each of ``count`` letters, from the last ``[[...]]``; None unless it holds each letter once."""
    found = None
    for match in re.finditer(r"\[\[([^\[\]\n]{1,200})\]\]", text):
        found = match.group(1)
    if found is None or not re.fullmatch(r"\s*[A-Z](?:\s*[>=]\s*[A-Z])*\s*", found):
        return None
    groups = ["".join(re.findall("[A-Z]", group)) for group in found.split(">")]
    if sorted("".join(groups)) != list(ascii_uppercase[:count]):
        return None
    scores, below = {}, count
    for group in groups:
        below -= len(group)
        scores.update(dict.fromkeys(group, (below + (len(group) - 1) / 2) / max(count - 1, 1)))
    return [scores[letter] for letter in ascii_uppercase[:count]]


def read_verdict(choice: Choice, count: int, config: Config) -> Verdict:
    """The scores in a reply about ``count`` answers, in the order shown."""
    start = strip_thinking(choice.text)[1]
    answer = choice.text[start:]
    letters = ascii_uppercase[:count]
    if config.best:
        found = last_verdict(answer, letters)
        if found is None:
            return _unparsed(choice, f"no [[letter]] from A to {letters[-1]}")
        shares = letter_probabilities(choice, start + found[1], letters) if config.soft else None
        chosen = shares or {found[0]: 1.0}
        scores = tuple(chosen.get(letter, 0.0) for letter in letters)
        return Verdict(scores=scores, rationale=choice.text, metadata={"verdict": found[0]})
    ranking = read_ranking(answer, count)
    if ranking is None:
        return _unparsed(choice, f"no [[ranking]] that holds each letter from A to {letters[-1]} once")
    return Verdict(scores=tuple(ranking), rationale=choice.text)


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Rank the completions, in the order given; raises RequestFailed where the model gives no reply."""
    request = ChatRequest(
        messages=ask(prompt, [completion.text for completion in completions], config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=20 if config.soft and config.best else 0,
    )
    reply = await model.chat(request)
    return read_verdict(reply.choices[0], len(completions), config)


def _rule(count: int, config: Config) -> str:
    opening = "Explain your judgment in a few sentences, then end" if config.reasoning else "Reply"
    if config.best:
        return f"{opening} with the letter of the best answer in double brackets, for instance [[B]]."
    example = " > ".join(reversed(ascii_uppercase[:count]))
    return (
        f"{opening} with all {count} letters in double brackets, best first, each once, with > between a better and a "
        f"worse answer and = between equals, for instance [[{example}]]."
    )


def _unparsed(choice: Choice, what: str) -> Verdict:
    cause = f"unparsed: {what} in the reply"
    if choice.finish_reason == "length":
        cause += ", which was cut off at max_tokens"
    return Verdict(error=cause, rationale=choice.text)
