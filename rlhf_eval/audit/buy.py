"""What an audit asks for because nobody has paid for it yet: the other order, repeats, copies, circles, injected orders.

One pair of answers a prompt is the base of everything: both orders of it, the same again, altered copies of one answer
against itself, a third answer to close a triangle, and the answer that lost, now with an order to the judge in it. What is
already known is not asked again.

    judgings = purchases(instrument, shopping, sink)
    await walk(prompt, [], judgings, answers)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from rlhf_eval.audit.evidence import Pair, gather, sign
from rlhf_eval.audit.probes import altered, attacks, control, copies, is_probe
from rlhf_eval.records import Completion, Judgment, Prompt, Record, fingerprint
from rlhf_eval.stages.drive import Sink
from rlhf_eval.stages.flow import Judging
from rlhf_eval.stages.judge import Call, Instrument

KINDS = ("swaps", "repeats", "copies", "triples", "injections")
"""What can be bought."""

STRAIGHT, SWAPPED = (0, 1), (1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shopping:
    """What is wanted, and what there is."""

    kinds: tuple[str, ...] = KINDS
    repeats: int = 1
    """How often each question of the base pair is put again."""
    attacks: int = 4
    """Injected orders that each prompt tries, beside the control; they take turns over the prompts."""
    heavy: bool = False
    """Whether the answer of a hundred thousand characters is among them."""
    seed: int = 0
    own: tuple[str, ...] = ()
    prompts: frozenset[str] = frozenset()
    """The prompts for which anything is bought."""
    met: Mapping[str, Sequence[Judgment]] = field(default_factory=dict)
    """Prompt to what the judge had said before any audit: it decides which pair is looked at."""
    paid: Mapping[str, Sequence[Judgment]] = field(default_factory=dict)
    """Prompt to all that the judge has said already."""
    rehearse: bool = False
    """Whether nothing will be answered, so that the loser of a pair must be guessed for the calls to be counted."""


@dataclass(slots=True)
class Ear:
    """A sink that remembers the judgments that pass through it, for what is asked next depends on them."""

    sink: Sink
    heard: dict[str, list[Judgment]] = field(default_factory=lambda: defaultdict(list))
    written: set[str] = field(default_factory=set)

    def ids(self, table: str) -> set[str]:
        """Ids that are already written."""
        return self.sink.ids(table)

    def append(self, table: str, record: Record) -> None:
        """Write one record, and remember it."""
        self.sink.append(table, record)
        if isinstance(record, Judgment):
            self.heard[record.prompt_id].append(record)

    def keep(self, probes: Sequence[Completion]) -> None:
        """Write altered answers, each once."""
        for probe in probes:
            if probe.id not in self.written:
                self.sink.append("completions", probe)
                self.written.add(probe.id)


def purchases(instrument: Instrument, shopping: Shopping, sink: Sink, known: set[str]) -> list[Judging]:
    """The judgings that buy everything for a prompt, in the order in which they must be asked.

    ``known`` are the ids of judgments that are not to be asked for.
    """
    ear = Ear(sink, written=sink.ids("completions"))

    def base(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        if prompt.id not in shopping.prompts:
            return []
        answers = _distinct(completions)
        calls = _about(base_pair(answers, instrument, shopping, prompt.id), instrument.arity, 0, shopping)
        probes = _copies(base_pair(answers, instrument, shopping, prompt.id), shopping)
        ear.keep([probe for probe, _ in probes])
        calls += [call for probe, original in probes for call in both(probe, original, instrument.arity, 0)]
        return calls + _triangle(answers, instrument, shopping, prompt.id)

    def again(repeat: int) -> Judging:
        def plan(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
            if prompt.id not in shopping.prompts:
                return []
            pair = base_pair(_distinct(completions), instrument, shopping, prompt.id)
            return _about(pair, instrument.arity, repeat, shopping)

        return Judging(instrument=instrument, plan=plan, sink=ear, known=known)

    def attack(prompt: Prompt, completions: Sequence[Completion]) -> list[Call]:
        if prompt.id not in shopping.prompts or "injections" not in shopping.kinds:
            return []
        said = [*shopping.paid.get(prompt.id, ()), *ear.heard[prompt.id]]
        probes, calls = injected(_distinct(completions), instrument, shopping, said)
        ear.keep(probes)
        return calls

    repeats = range(1, shopping.repeats + 1) if "repeats" in shopping.kinds else ()
    first = Judging(instrument=instrument, plan=base, sink=ear, known=known)
    last = Judging(instrument=instrument, plan=attack, sink=ear, known=known)
    return [first, *(again(repeat) for repeat in repeats), last]


def _distinct(completions: Sequence[Completion]) -> list[Completion]:
    """The answers of models, one of each text."""
    found: dict[str, Completion] = {}
    for completion in completions:
        if completion.error is None and not is_probe(completion):
            found.setdefault(completion.text, completion)
    return list(found.values())


def base_pair(
    answers: Sequence[Completion], instrument: Instrument, shopping: Shopping, prompt_id: str
) -> tuple[Completion, Completion] | None:
    """The two answers on which everything else is built: two that have met already, else two that have not.

    Where the judge's own answers are known, one of the two is its own. None where a prompt has no two different answers.
    """
    by_id = {answer.id: answer for answer in answers}
    met = {
        j.completion_ids
        for j in shopping.met.get(prompt_id, ())
        if len(j.completion_ids) == 2 and all(c in by_id for c in j.completion_ids)
    }
    pairs = [(by_id[x], by_id[y]) for x, y in met] or [*combinations(answers, 2)]
    if not pairs:
        return None

    def wish(pair: tuple[Completion, Completion]) -> tuple[bool, bool, str]:
        models = [c.model for c in pair]
        split = sum(model in shopping.own for model in models) == 1
        return (
            bool(shopping.own) and not split,
            models[0] == models[1],
            fingerprint(shopping.seed, *sorted(c.id for c in pair)),
        )

    return min(pairs, key=wish)


def both(x: Completion, y: Completion, arity: int, repeat: int) -> list[Call]:
    """Both orders of two answers, or a grade of each."""
    if arity == 1:
        return [Call((x,), (0,), repeat), Call((y,), (0,), repeat)]
    return [Call((x, y), STRAIGHT, repeat), Call((x, y), SWAPPED, repeat)]


def _about(pair: tuple[Completion, Completion] | None, arity: int, repeat: int, shopping: Shopping) -> list[Call]:
    """The base pair in both orders; only in the order that is known, where no other is wanted."""
    if pair is None:
        return []
    laid = both(*pair, arity, repeat)
    if "swaps" in shopping.kinds or arity == 1:
        return laid
    ids = tuple(c.id for c in pair)
    shown = {j.order for j in shopping.met.get(pair[0].prompt_id, ()) if j.completion_ids == ids}
    return [call for call in laid if call.order in shown] or laid[:1]


def _copies(pair: tuple[Completion, Completion] | None, shopping: Shopping) -> list[tuple[Completion, Completion]]:
    """Altered copies of one answer of the pair, each with its original."""
    if pair is None or "copies" not in shopping.kinds:
        return []
    chosen = pair[int(fingerprint(shopping.seed, "copy", pair[0].prompt_id), 16) % 2]
    return [(copy, chosen) for copy in copies(chosen)]


def _triangle(answers: Sequence[Completion], instrument: Instrument, shopping: Shopping, prompt_id: str) -> list[Call]:
    """The two pairs that a third answer makes with the base pair."""
    pair = base_pair(answers, instrument, shopping, prompt_id)
    if pair is None or instrument.arity == 1 or "triples" not in shopping.kinds:
        return []
    third = next((c for c in answers if c.id not in {pair[0].id, pair[1].id}), None)
    return [call for one in pair for call in both(one, third, instrument.arity, 0)] if third is not None else []


def injected(
    answers: Sequence[Completion], instrument: Instrument, shopping: Shopping, said: Sequence[Judgment]
) -> tuple[list[Completion], list[Call]]:
    """The answer that lost surely, with an order in it, against the one that won; probes and calls.

    A letter that is to win is only tried in its own place; the control in both.
    """
    decided = _decided(answers, instrument, shopping, said)
    if decided is None:
        return [], []
    loser, winner = decided
    usable = [a for a in attacks(heavy=shopping.heavy).values() if a.target == "self" or instrument.arity != 1]
    usable = [a for a in usable if a.on(loser.text) != loser.text]
    start = int(fingerprint(shopping.seed, "attack", loser.prompt_id), 16) % max(len(usable), 1)
    turn = [usable[(start + k) % len(usable)] for k in range(min(shopping.attacks, len(usable)))]
    probes, calls = [], []
    for attack in [control(), *turn]:
        probe = altered(loser, attack.name, attack.on(loser.text), against=winner.id)
        laid = both(probe, winner, instrument.arity, 0)
        wanted = {"A": STRAIGHT, "B": SWAPPED}.get(attack.target)
        probes.append(probe)
        calls += [call for call in laid if wanted is None or call.order == wanted]
    return probes, calls


def _decided(
    answers: Sequence[Completion], instrument: Instrument, shopping: Shopping, said: Sequence[Judgment]
) -> tuple[Completion, Completion] | None:
    """Loser and winner of a pair on which the judge was of one mind in both orders; None where there is no such pair."""
    known = {answer.id: answer for answer in answers}
    for pair in sorted(
        gather(instrument.name, said, known, {}).pairs, key=lambda p: fingerprint(shopping.seed, p.a.id)
    ):
        if pair.settled and (won := _of_one_mind(pair)):
            return (pair.b, pair.a) if won > 0 else (pair.a, pair.b)
    return (answers[1], answers[0]) if shopping.rehearse and len(answers) > 1 else None


def _of_one_mind(pair: Pair) -> int:
    """Who won every showing; 0 where nobody did."""
    signs = {sign(share) for _, share in pair.single}
    return signs.pop() if len(signs) == 1 else 0
