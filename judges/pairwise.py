"""Compare two answers: which is better, and by how much the judge thinks so.

The judge answers ``[[A]]`` or ``[[B]]`` (``[[C]]`` for a tie, where ties are allowed). Where the server gives
log-probabilities, the score is the probability of the verdict's letter, as in RLAIF (Lee et al., arXiv 2309.00267,
section 2.1) and AlpacaEval 2; else it is 1, 0 or .5. The stage shows both orders; position bias then cancels or shows.

    rlhf-eval judge --judge pairwise --model openai:NAME@http://localhost:8000/v1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from judges.reading import last_verdict, letter_probabilities
from rlhf_eval.models.base import ChatRequest, Choice, Model
from rlhf_eval.records import Completion, Message, Prompt, Sampling, Verdict
from rlhf_eval.templates import conversation, fill, read, read_file

ARITY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the pairwise judge."""

    ties: bool = False
    """Allow the verdict [[C]]: the answers are equally good."""
    reasoning: bool = False
    """Let the judge explain itself before the verdict."""
    reference: bool = False
    """Show the prompt's reference answer, where it has one."""
    soft: bool = True
    """Score by the probability of the verdict's letter where the server gives log-probabilities."""
    constrain: bool = False
    """Ask the server to allow nothing but the verdicts (only without reasoning)."""
    temperature: float = 0.0
    """Sampling temperature of the judge."""
    max_tokens: int = 1024
    """Longest reply of the judge, in tokens."""
    template: str = ""
    """A template file of your own with the slots {question}, {answer_a}, {answer_b}, {reference}."""

    def __post_init__(self) -> None:
        if self.constrain and self.reasoning:
            raise ValueError("constrain leaves no room for reasoning; choose one of the two")


def ask(prompt: Prompt, answers: tuple[str, str], config: Config) -> tuple[Message, ...]:
    """The messages that put the question, with ``answers`` in the order shown."""
    slots = {
        "question": conversation(prompt),
        "answer_a": answers[0],
        "answer_b": answers[1],
        "reference": prompt.reference or "",
    }
    shows_reference = config.reference and prompt.reference
    name = "pairwise_reference.txt" if shows_reference else "pairwise.txt"
    template = read_file(config.template) if config.template else read("judges", name)
    system = fill(read("judges", "pairwise_system.txt"), {"verdicts": _verdict_rule(config)})
    return Message("system", system), Message("user", fill(template, slots))


def read_verdict(choice: Choice, config: Config) -> Verdict:
    """The scores in a reply: the last bracketed letter, softened by its log-probabilities where they are known."""
    letters = "ABC" if config.ties else "AB"
    found = last_verdict(choice.text, letters)
    if found is None:
        cause = f"unparsed: no [[{']] or [['.join(letters)}]] in the reply"
        if choice.finish_reason == "length":
            cause += ", which was cut off at max_tokens"
        return Verdict(error=cause, rationale=choice.text)
    letter, offset = found
    shares = letter_probabilities(choice, offset, letters) if config.soft else None
    if shares is None:
        shares = {letter: 1.0}
    tie = shares.get("C", 0.0) / 2
    first = shares.get("A", 0.0) + tie
    return Verdict(scores=(first, 1.0 - first), rationale=choice.text, metadata={"verdict": letter})


async def judge(prompt: Prompt, completions: Sequence[Completion], model: Model, config: Config) -> Verdict:
    """Compare two completions, in the order given; raises RequestFailed where the model gives no reply."""
    first, second = completions
    letters = "ABC" if config.ties else "AB"
    request = ChatRequest(
        messages=ask(prompt, (first.text, second.text), config),
        sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        top_logprobs=5 if config.soft else 0,
        choices=tuple(f"[[{letter}]]" for letter in letters) if config.constrain else (),
    )
    reply = await model.chat(request)
    return read_verdict(reply.choices[0], config)


def _verdict_rule(config: Config) -> str:
    tie = " If they are equally good, reply with [[C]]." if config.ties else ""
    if config.reasoning:
        return f"Explain your judgment in a few sentences, then end with [[A]] or [[B]].{tie}"
    return f"Reply with [[A]] or [[B]].{tie}"
