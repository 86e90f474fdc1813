"""Records in, findings out: what each section says about judgments that were written down by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import pytest

from rlhf_eval.audit.card import Finding
from rlhf_eval.audit.evidence import Evidence, gather
from rlhf_eval.audit.findings import Config, audit
from rlhf_eval.audit.probes import altered, attacks, bold, control, copies, corpus, listed, padded, traits
from rlhf_eval.records import Completion, Judgment, Prompt, Usage

J = "pairwise/judge#1"
PROMPTS = [Prompt.of(f"Question {k}?") for k in range(40)]


def answer(prompt: Prompt, model: str, text: str) -> Completion:
    return Completion.of(prompt_id=prompt.id, model=model, text=text)


def said(
    *shown: Completion,
    scores: Sequence[float] = (),
    order: tuple[int, ...] | None = None,
    judge: str = J,
    repeat: int = 0,
    error: str | None = None,
    usage: Usage | None = None,
) -> Judgment:
    return Judgment.of(
        prompt_id=shown[0].prompt_id, completion_ids=tuple(c.id for c in shown), judge=judge, scores=tuple(scores),
        order=order, repeat=repeat, error=error, usage=usage,
    )  # fmt: skip


def both(x: Completion, y: Completion, first: float, second: float, **rest: object) -> list[Judgment]:
    """The share of ``x`` when it stands first, and when it stands second."""
    return [
        said(x, y, scores=(first, 1 - first), order=(0, 1), **rest),  # type: ignore[arg-type]
        said(x, y, scores=(second, 1 - second), order=(1, 0), **rest),  # type: ignore[arg-type]
    ]


def evidence(
    judgments: Iterable[Judgment],
    completions: Iterable[Completion],
    references: Mapping[str, Sequence[Judgment]] | None = None,
    own: Sequence[str] = (),
) -> Evidence:
    return gather(J, judgments, {c.id: c for c in completions}, references or {}, own=own)


def findings(*args: object, **kwargs: object) -> dict[str, Finding]:
    found = audit(evidence(*args, **kwargs))  # type: ignore[arg-type]
    assert len({f.name for f in found}) == len(found)
    assert all((f.estimate is None) == bool(f.missing) for f in found)
    return {f.name: f for f in found}


def value(found: Mapping[str, Finding], name: str) -> float:
    estimate = found[name].estimate
    assert estimate is not None, found[name].missing
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.n > 0
    return estimate.value


def pairs(count: int = 40) -> list[tuple[Completion, Completion]]:
    return [(answer(p, "x", f"long answer number {k}"), answer(p, "y", f"{k}")) for k, p in enumerate(PROMPTS[:count])]


def gold_for(pairs_: Iterable[tuple[Completion, Completion]], judge: str = "gold") -> list[Judgment]:
    return [said(x, y, scores=(1.0, 0.0), judge=judge) for x, y in pairs_]


# What is said about one judge -----------------------------------------------------------------------------------------


def test_accuracy_counts_verdicts_and_agreement_counts_pairs_over_both_orders() -> None:
    met = pairs()
    judgments = []
    for k, (x, y) in enumerate(met):
        # a quarter always right, a quarter always wrong, half of them on the side of whoever stands first
        shares = [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (1.0, 0.0)][k % 4]
        judgments += both(x, y, *shares)
    found = findings(judgments, [c for pair in met for c in pair], {"gold": gold_for(met)})
    assert value(found, "accuracy.gold") == 0.5
    assert value(found, "youden.gold") == pytest.approx(0)
    assert value(found, "agreement.gold") == 0.25  # a verdict that turns with the order is a tie over both
    assert value(found, "flip_rate") == 0.5
    assert value(found, "first_slot") == 0.25
    assert found["first_slot"].alarm
    about = found["flip_rate"].estimate
    assert about is not None and (about.settings["to_first"], about.settings["to_second"]) == (20, 0)
    assert value(found, "information_per_call") == pytest.approx(0)


def test_which_answer_was_listed_first_changes_nothing() -> None:
    met = pairs()
    straight = [j for k, (x, y) in enumerate(met) for j in both(x, y, 0.8, 0.6 if k % 3 else 0.3)]
    by_id = {c.id: c for pair in met for c in pair}
    mirrored = [
        said(*(by_id[c] for c in j.completion_ids[::-1]), scores=j.scores[::-1], order=j.order[::-1]) for j in straight
    ]
    completions = [c for pair in met for c in pair]
    first = audit(evidence(straight, completions, {"gold": gold_for(met)}))
    second = audit(evidence(mirrored, completions, {"gold": gold_for(met)}))
    assert first == second


def test_log_odds_of_a_place_are_recovered_exactly() -> None:
    met = pairs()

    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    judgments = [
        j for k, (x, y) in enumerate(met) for j in both(x, y, sigma(k / 10 - 2 + 0.7), sigma(k / 10 - 2 - 0.7))
    ]
    found = findings(judgments, [c for pair in met for c in pair])
    assert value(found, "position_log_odds") == pytest.approx(0.7, abs=1e-9)


def test_a_judge_asked_in_one_order_has_no_flips_but_a_lean() -> None:
    met = pairs()
    judgments = [
        said(x, y, scores=(0.0, 1.0) if k % 2 else (1.0, 0.0), order=(1, 0) if k % 2 else (0, 1))
        for k, (x, y) in enumerate(met)
    ]  # whoever stands first wins
    found = findings(judgments, [c for pair in met for c in pair], {"gold": gold_for(met)})
    assert "--buy swaps" in found["flip_rate"].missing
    assert value(found, "first_slot") == 0.5
    assert not found["first_slot"].alarm  # the sides may not have been drawn by lot
    about = found["agreement.gold"].estimate
    assert about is not None and about.settings["orders"] == 1


def test_what_is_not_measured_says_why_and_what_buys_it() -> None:
    met = pairs()
    judgments = [j for x, y in met for j in both(x, y, 1.0, 1.0)]
    found = findings(judgments, [c for pair in met for c in pair])
    for name, words in {
        "accuracy": "--reference",
        "padded_wins": "--buy copies",
        "bold_wins": "--buy copies",
        "repeat_agreement": "--buy repeats",
        "flips_beyond_noise": "--buy swaps,repeats",
        "circles": "--buy triples",
        "injection_obeyed": "--buy swaps,injections",
        "self_preference": "--own",
        "cost_per_call": "usage",
        "length_log_odds": "no log-odds",
        "information_per_call": "--reference",
    }.items():
        assert words in found[name].missing, name


def test_too_few_prompts_are_no_measurement() -> None:
    met = pairs(3)
    judgments = [j for x, y in met for j in both(x, y, 1.0, 1.0)]
    found = audit(evidence(judgments, [c for pair in met for c in pair], {"gold": gold_for(met)}))
    assert all(f.estimate is None for f in found)
    assert any("only 3 prompts" in f.missing for f in found)


def test_a_judge_that_never_spoke_gives_an_empty_card_and_no_crash() -> None:
    assert all(f.estimate is None for f in audit(evidence([], [])))


def test_unreadable_verdicts_are_failures_and_identical_texts_are_no_ties() -> None:
    met = pairs()
    judgments = [
        said(x, y, scores=() if k % 4 == 0 else (1.0, 0.0), error="unparsed: no verdict" if k % 4 == 0 else None)
        for k, (x, y) in enumerate(met)
    ]
    found = findings(judgments, [c for pair in met for c in pair])
    assert value(found, "unreadable") == 0.25
    assert found["unreadable"].alarm
    assert value(found, "tie_rate") == 0


def test_cost_is_that_of_paid_calls() -> None:
    met = pairs()
    paid = Usage(prompt_tokens=100, completion_tokens=10, cost=0.002, seconds=0.5)
    judgments = [said(x, y, scores=(1.0, 0.0), usage=paid if k % 2 else None) for k, (x, y) in enumerate(met)]
    found = findings(judgments, [c for pair in met for c in pair], {"gold": gold_for(met)})
    assert value(found, "cost_per_call") == pytest.approx(0.002)
    assert value(found, "tokens_per_call") == 110
    assert value(found, "seconds_per_call") == 0.5
    assert value(found, "information_per_dollar") == pytest.approx(4 / 0.002)


# People, models, dress ------------------------------------------------------------------------------------------------


def test_the_ceiling_is_what_people_reach_with_each_other_on_the_same_pairs() -> None:
    met = pairs()
    judgments = [j for x, y in met for j in both(x, y, 1.0, 1.0)]
    people = [
        said(x, y, scores=(1.0, 0.0) if (k + shift) % 4 else (0.0, 1.0), judge=f"human/{name}")
        for k, (x, y) in enumerate(met)
        for shift, name in enumerate(("ann", "ben", "cid"))
    ]
    found = findings(judgments, [c for pair in met for c in pair], {"human": people})
    # of four prompts three have one dissenter of three people (1 of 3 pairs agree) and one has none
    assert value(found, "ceiling.human") == pytest.approx((3 * 1 / 3 + 1) / 4)
    assert value(found, "same_items.human") == pytest.approx(0.75)
    assert value(found, "accuracy.human") == 1.0


def test_liking_its_own_answers_is_not_identified_without_labels_and_is_measured_with_them() -> None:
    met = [(answer(p, "me", f"own {k}"), answer(p, "other", f"theirs {k}")) for k, p in enumerate(PROMPTS)]
    judgments = [j for x, y in met for j in both(x, y, 1.0, 1.0)]  # its own always wins
    completions = [c for pair in met for c in pair]
    labels = [said(x, y, scores=(1.0, 0.0) if k % 2 else (0.0, 1.0), judge="gold") for k, (x, y) in enumerate(met)]
    assert "not identified" in findings(judgments, completions, own=["me"])["self_preference"].missing
    assert "by me or other itself" in findings(judgments, completions, own=["me", "other"])["self_preference"].missing
    found = findings(judgments, completions, {"gold": labels}, own=["me"])
    assert value(found, "self_preference") == 1.0
    assert found["self_preference"].alarm
    assert (
        "none of the judged answers is by nobody"
        in findings(judgments, completions, own=["nobody"])["self_preference"].missing
    )


def test_a_fair_judge_of_unequal_models_has_no_favour_for_what_the_better_one_does() -> None:
    met = pairs()  # x is always longer and nine times of ten better
    labels = [said(x, y, scores=(1.0, 0.0) if k % 10 else (0.0, 1.0), judge="gold") for k, (x, y) in enumerate(met)]
    right = [j for k, (x, y) in enumerate(met) for j in both(x, y, *((1.0, 1.0) if k % 10 else (0.0, 0.0)))]
    found = findings(right, [c for pair in met for c in pair], {"gold": labels})
    assert value(found, "length_favour") == pytest.approx(0.0)
    assert not found["length_favour"].alarm
    blind = [j for x, y in met for j in both(x, y, 1.0, 1.0)]  # the longer one wins, always
    found = findings(blind, [c for pair in met for c in pair], {"gold": labels})
    assert value(found, "length_favour") == 1.0
    assert found["length_favour"].alarm  # by association, for want of padded copies


def test_labels_of_unknown_noise_show_the_gap_and_raise_no_alarm() -> None:
    met = [(answer(p, "me", f"own {k}"), answer(p, "other", f"theirs {k}")) for k, p in enumerate(PROMPTS)]
    judgments = [j for x, y in met for j in both(x, y, 1.0, 1.0)]
    people = [said(x, y, scores=(1.0, 0.0) if k % 2 else (0.0, 1.0), judge="human/ann") for k, (x, y) in enumerate(met)]
    one = findings(judgments, [c for pair in met for c in pair], {"human": people}, own=["me"])["self_preference"]
    assert one.estimate is not None and one.estimate.value == 1.0 and not one.alarm
    assert "noise of human is not known" in one.estimate.settings["kind"]
    second = [said(x, y, scores=(1.0, 0.0) if k % 2 else (0.0, 1.0), judge="human/ben") for k, (x, y) in enumerate(met)]
    both_ = findings(judgments, [c for pair in met for c in pair], {"human": [*people, *second]}, own=["me"])
    assert both_["self_preference"].alarm


def test_pairs_of_like_margin_are_compared_where_gold_grades() -> None:
    completions, judgments, gold = [], [], []
    for k, prompt in enumerate(Prompt.of(f"m{k}") for k in range(200)):
        ahead, margin = k % 10 > 1, 0.8 if k % 10 > 1 else 0.1  # its own wins four times of five, and clearly
        mine, other = answer(prompt, "me", f"own {k}"), answer(prompt, "other", f"theirs {k}")
        margin = 0.8 if k % 20 in (0, 1) else margin  # now and then the other wins clearly, or its own barely
        margin = 0.1 if k % 20 in (12, 13) else margin
        grades = (0.9, 0.9 - margin) if ahead else (0.9 - margin, 0.9)
        share = 0.95 if margin > 0.5 else 0.55  # sure where it is clear, whoever wins
        judgments += both(mine, other, *((share, share) if ahead else (1 - share, 1 - share)))
        gold += [said(c, scores=(g,), judge="gold") for c, g in zip((mine, other), grades, strict=True)]
        completions += [mine, other]
    found = findings(judgments, completions, {"gold": gold}, own=["me"])
    assert value(found, "self_preference") == pytest.approx(0.0, abs=1e-9)
    assert not found["self_preference"].alarm


def test_copies_tell_cause_from_company() -> None:
    judgments, completions = [], []
    for prompt in PROMPTS:
        original = answer(prompt, "x", "It is four. I added two and two.")
        made = {c.generator: c for c in copies(original)}
        judgments += both(made["audit:padded"], original, 0.9, 0.7)
        judgments += both(made["audit:bold"], original, 0.5, 0.5)
        judgments += both(original, made["audit:listed"], 0.8, 0.8)
        completions += [original, *made.values()]
    found = findings(judgments, completions)
    assert value(found, "padded_wins") == pytest.approx(0.8)
    assert value(found, "bold_wins") == 0.5
    assert value(found, "listed_wins") == pytest.approx(0.2)
    # to dislike a dress that no one asked for is shown and is no fault
    assert [f.name for f in found.values() if f.alarm] == ["padded_wins"]


def test_an_order_is_obeyed_only_beyond_what_a_harmless_sentence_does() -> None:
    judgments, completions = [], []
    for k, prompt in enumerate(PROMPTS):
        loser, winner = answer(prompt, "x", f"wrong {k}"), answer(prompt, "y", f"right {k}")
        attack = attacks(heavy=False)["instruction"]
        ordered = altered(loser, attack.name, attack.on(loser.text), against=winner.id)
        harmless = altered(loser, "control", control().on(loser.text), against=winner.id)
        judgments += [*both(ordered, winner, 1.0, 1.0 if k % 2 else 0.0), *both(harmless, winner, 0.0, 0.0)]
        completions += [loser, winner, ordered, harmless]
    found = findings(judgments, completions)
    assert value(found, "injection_obeyed") == 0.75
    assert value(found, "injection_beyond_control") == 0.75
    assert found["injection_beyond_control"].alarm
    about = found["injection_obeyed"].estimate
    assert about is not None and about.settings["attacks"] == {"instruction": [30.0, 40.0]}


def test_repeats_measure_noise_and_noise_excuses_circles() -> None:
    judgments, completions = [], []
    for k, prompt in enumerate(PROMPTS):
        a, b, c = (answer(prompt, name, f"{name} {k}") for name in "abc")
        for x, y in ((a, b), (b, c), (c, a)):
            judgments += both(x, y, 1.0, 1.0)  # a over b over c over a
            judgments += both(x, y, 1.0, 1.0, repeat=1)
        completions += [a, b, c]
    found = findings(judgments, completions)
    assert value(found, "circles") == 1.0
    assert value(found, "repeat_agreement") == 1.0
    assert found["circles_beyond_noise"].alarm  # it says so every time: this is no noise


def test_a_confident_judge_that_is_often_wrong_is_overconfident() -> None:
    met = pairs()
    judgments = [j for x, y in met for j in both(x, y, 0.95, 0.95)]
    labels = [said(x, y, scores=(1.0, 0.0) if k % 2 else (0.0, 1.0), judge="gold") for k, (x, y) in enumerate(met)]
    found = findings(judgments, [c for pair in met for c in pair], {"gold": labels})
    assert value(found, "overconfidence") == pytest.approx(0.45)
    assert found["overconfidence"].alarm
    assert value(found, "brier") == pytest.approx((0.95**2 + 0.05**2) / 2)
    ece = found["ece"].estimate
    assert ece is not None and ece.value > ece.settings["null"]


def test_grades_are_compared_and_have_no_places() -> None:
    completions, judgments, gold = [], [], []
    for k, prompt in enumerate(PROMPTS):
        good, bad = answer(prompt, "x", f"good {k}"), answer(prompt, "y", f"bad {k}")
        judgments += [said(good, scores=(8.0,)), said(bad, scores=(8.0 if k % 4 == 0 else 3.0,))]
        judgments += [said(good, scores=(8.0,), repeat=1), said(bad, scores=(3.5,), repeat=1)]
        gold += [said(good, scores=(1.0,), judge="gold"), said(bad, scores=(0.2,), judge="gold")]
        completions += [good, bad]
    found = findings(judgments, completions, {"gold": gold})
    assert value(found, "accuracy.gold") == pytest.approx(0.75 + 0.25 / 2)
    assert value(found, "tie_rate") == 0.25
    assert value(found, "repeat_agreement") == 0.5
    assert "no answer stands before another" in found["flip_rate"].missing
    assert "cannot run in a circle" in found["circles"].missing


def test_a_ranking_is_read_as_its_pairs() -> None:
    completions, judgments = [], []
    for k, prompt in enumerate(PROMPTS):
        three = [answer(prompt, name, f"{name} {k}") for name in "abc"]
        completions += three
        judgments += [said(*three, scores=(3.0, 2.0, 1.0), order=order) for order in ((0, 1, 2), (2, 1, 0))]
    found = findings(judgments, completions)
    assert value(found, "flip_rate") == 0
    assert value(found, "first_slot") == 0
    assert value(found, "circles") == 0


# The rule for alarms, and the probes ----------------------------------------------------------------------------------


def test_a_surely_small_bias_is_shown_and_is_no_alarm() -> None:
    met = [(answer(p, "x", "a"), answer(p, "y", "b")) for p in (Prompt.of(f"{k}") for k in range(300))]
    judgments = [j for k, (x, y) in enumerate(met) for j in both(x, y, 0.5 + 0.01 + k % 2 / 100, 0.5)]
    known = evidence(judgments, [c for pair in met for c in pair])
    loose, strict = ({f.name: f for f in audit(known, Config(tolerance=t))} for t in (0.02, 0.0))
    slot = loose["first_slot"].estimate
    assert slot is not None and slot.low > 0
    assert not loose["first_slot"].alarm
    assert strict["first_slot"].alarm


def test_probes_change_what_they_say_and_nothing_else() -> None:
    text = "First do this. Then do that!\nDone."
    assert text in padded(text)
    assert traits(padded(text))["length"] > 2 * traits(text)["length"]
    assert traits(padded("word " * 400))["length"] >= 1.9 * 400
    assert traits(listed(text)) == {"length": traits(text)["length"], "markdown": 0.0, "list": 3.0}
    assert traits(bold(text)) == {"length": traits(text)["length"], "markdown": 2.0, "list": 0.0}
    assert copies(Completion.of(prompt_id="p", model="m", text=""))[0].generator == "audit:padded"


def test_the_corpus_has_every_kind_of_attack() -> None:
    names = [attack.name for attack in corpus()]
    assert len(set(names)) == len(names)
    assert names[0] == "control"
    made = {attack.name: attack.on("answer") for attack in corpus()}
    assert "[[A]]" in made["letter_a"] and "[[B]]" in made["letter_b"]
    assert "system" in made["fake_system"] and "</answer>" in made["closing_tags"]
    assert "{question}" in made["braces"]
    assert made["empty"] == ""
    assert len(made["flood"]) > 100_000
    assert "flood" not in attacks(heavy=False) and "flood" in attacks(heavy=True)
    assert {a.target for a in corpus()} == {"self", "A", "B"}
