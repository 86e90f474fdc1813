"""Planted truth: the card finds each fault within its interval, and a clean set raises no warning."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rlhf_eval.records import Completion, Judgment, PreferencePair, Prompt
from rlhf_eval.stages import evidence
from rlhf_eval.stages.card import Card, card_of, markdown
from rlhf_eval.stages.matrix import tabulate
from rlhf_eval.stages.sheet import Sheet, read_sheet, sheet_of

WORDS = np.array([a + b + c for a in "bdfgklmnrst" for b in "aeiou" for c in ("na", "ro", "lis", "tem", "gu")])
N = 1000


def sentence(rng: np.random.Generator, low: int = 12, high: int = 40) -> str:
    return " ".join(rng.choice(WORDS, size=int(rng.integers(low, high)))).capitalize() + "."


def clean(seed: int, n: int = N) -> Sheet:
    """Two answers of like length, chosen by coin: nothing is wrong with them but that they mean nothing."""
    rng = np.random.default_rng(seed)
    sheet = Sheet()
    for i in range(n):
        models = ("alpha", "beta") if rng.random() < 0.5 else ("beta", "alpha")
        p = 0.6 + 0.4 * float(rng.random())
        sheet.add(
            f"{sentence(rng)} ({i})", sentence(rng), sentence(rng), probability=p, margin=2 * p - 1, models=models
        )
        sheet.rows += 1
    return sheet


def card(sheet: Sheet, **settings: object) -> Card:
    return card_of(sheet, name="planted", **settings)  # type: ignore[arg-type]


def within(found: Card, name: str, truth: float) -> bool:
    e = found.get(name)
    assert e is not None, name
    return e.low <= truth <= e.high


@pytest.mark.parametrize("seed", range(3))
def test_a_clean_set_raises_no_warning(seed: int) -> None:
    found = card(clean(seed))
    assert found.warnings == ()
    assert within(found, "chosen_longer", 0.5)
    assert within(found, "length_auc", 0.5)
    assert within(found, "length_d", 0.0)
    assert found.counts["rows"] == found.counts["pairs"] == found.counts["prompts"] == N


def test_no_warning_in_small_clean_sets_either() -> None:
    warned = [card(clean(seed, n=40)).warnings for seed in range(100, 110)]
    assert sum(bool(w) for w in warned) == 0, warned


def test_intervals_of_few_samples_stay_within_what_can_be() -> None:
    small = card(clean(101, n=40))
    for name, least, most in (("vendi", 1, 20), ("self_bleu", 0, 1), ("distinct_2", 0, 1), ("length_auc", 0, 1)):
        found = small.get(name)
        assert found is not None
        assert least <= found.low <= found.value <= found.high <= most


def test_length_bias_is_found_with_its_size() -> None:
    rng = np.random.default_rng(1)
    sheet = Sheet()
    for i in range(N):
        # Lengths are normal with spread 10 and means 60 and 45: d = 1.5, and the AUC follows from it.
        a, b = max(2, round(rng.normal(60, 10))), max(2, round(rng.normal(45, 10)))
        sheet.add(f"{sentence(rng)} {i}", " ".join(rng.choice(WORDS, a)) + ".", " ".join(rng.choice(WORDS, b)) + ".")
    found = card(sheet)
    assert within(found, "length_d", 1.5)
    normal = 0.5 * (1 + math.erf(1.5 / math.sqrt(2) / math.sqrt(2)))
    assert within(found, "chosen_longer", normal)
    # Two independent differences, each N(15, 200): their sum is over 0 with Phi(30 / 20).
    assert within(found, "length_auc", 0.5 * (1 + math.erf(1.5 / math.sqrt(2))))
    assert within(found, "length_ratio", 60 / 45)
    assert any("length alone tells chosen from rejected" in w for w in found.warnings)


def test_duplicates_near_duplicates_and_contradictions_are_counted() -> None:
    rng = np.random.default_rng(2)
    sheet = clean(2, n=900)
    for k in range(60):
        words = sheet.prompt[k].split()
        words[len(words) // 2] = "replaced"
        sheet.add(" ".join([*words, *words]), sentence(rng), sentence(rng))
        sheet.prompt[k] = " ".join([*sheet.prompt[k].split(), *sheet.prompt[k].split()])
    for k in range(100, 140):
        sheet.add(f" {sheet.prompt[k]}\n", sheet.chosen[k], sheet.rejected[k])
    for k in range(200, 220):
        sheet.add(sheet.prompt[k], sheet.rejected[k], sheet.chosen[k])
    sheet.rows = len(sheet)
    found = card(sheet)
    assert found.get("duplicate_rows").value == pytest.approx(40 / 1020)  # type: ignore[union-attr]
    assert found.get("contradictions").value == pytest.approx(40 / 1020)  # type: ignore[union-attr]
    near = found.get("near_duplicate_prompts")
    assert near is not None
    assert near.value > 0.03
    text = " ".join(found.warnings)
    for words_in in ("repeat an earlier one word for word", "nearly repeat", "the other way round"):
        assert words_in in text


def test_contamination_is_found_by_the_eight_gram_rule() -> None:
    rng = np.random.default_rng(33)
    sheet = clean(3, n=600)
    tests = [sentence(rng, 15, 30) for _ in range(50)]
    for k in range(10):
        sheet.prompt[k] = f"Please answer this. {tests[k]} Thank you."
    found = card(sheet, against=tests)
    assert found.get("contaminated_prompts").value == pytest.approx(10 / 600)  # type: ignore[union-attr]
    assert found.get("leaked_test_prompts").value == pytest.approx(10 / 50)  # type: ignore[union-attr]
    assert sum("test prompt" in w for w in found.warnings) == 2
    assert card(clean(3, n=600), against=tests).warnings == ()


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.35])
def test_label_noise_is_estimated_from_repeated_rows(noise: float) -> None:
    rng = np.random.default_rng(int(noise * 100))
    sheet = Sheet()
    for i in range(1200):
        prompt, sides = f"{sentence(rng)} {i}", (sentence(rng), sentence(rng))
        for _ in range(2):
            a, b = sides if rng.random() >= noise else sides[::-1]
            sheet.add(prompt, a, b)
    found = card(sheet)
    assert within(found, "label_noise", noise)
    assert any("of the labels are wrong" in w for w in found.warnings) == (noise > 0.1)


def test_refusals_truncation_and_other_languages_are_found() -> None:
    rng = np.random.default_rng(55)
    sheet = clean(5, n=600)
    for k in range(60):
        sheet.chosen[k] = "I'm sorry, but I can't help with that request."
    for k in range(100, 190):
        sheet.chosen[k] = " ".join(rng.choice(WORDS, 80)) + " and then the"
    for k in range(200, 240):
        sheet.prompt[k] = f"What is the best way to cook the rice that I bought for the dinner? {k}"
        sheet.chosen[k] = "Der Reis ist in dem Topf und das Wasser auch, aber es ist nicht zu viel für die Familie."
    found = card(sheet)
    assert found.get("refusals_chosen").value == pytest.approx(0.1)  # type: ignore[union-attr]
    assert found.get("truncated_chosen").value == pytest.approx(0.15)  # type: ignore[union-attr]
    assert found.get("other_language").value == pytest.approx(40 / 600)  # type: ignore[union-attr]
    assert len(found.warnings) == 4


def test_coin_flips_and_one_sided_models_are_named() -> None:
    sheet = clean(6, n=400)
    sheet.probability = [0.55] * 200 + [0.95] * 200
    sheet.chosen_model, sheet.rejected_model = ["strong"] * 400, ["weak"] * 400
    found = card(sheet, policy=["weak"])
    assert any("50% of the labels are near coin flips" in w for w in found.warnings)
    assert any(w.startswith("strong is chosen in 400 of the 400 pairs") for w in found.warnings)
    assert found.get("on_policy").value == 1.0  # type: ignore[union-attr]
    assert found.matrix == (("strong", "weak", 400),)


def comparisons(bias: float, noise: float, *, seed: int, judge: str = "judge", n: int = 800) -> list[Judgment]:
    """Both orders of each comparison, by a judge that errs with ``noise`` and falls for the first slot with ``bias``."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        for order in ((0, 1), (1, 0)):
            first_wins = order[0] == 0
            if rng.random() < noise:
                first_wins = not first_wins
            if rng.random() < bias:
                first_wins = True
            winner = order[0] if first_wins else order[1]
            scores = (1.0, 0.0) if winner == 0 else (0.0, 1.0)
            made.append(
                Judgment.of(
                    prompt_id=f"p{i}", completion_ids=(f"a{i}", f"b{i}"), judge=judge, order=order, scores=scores
                )
            )
    return made


def test_flips_and_position_bias_of_a_planted_judge() -> None:
    bias = 0.3
    found = Card(name="j", estimates=tuple(evidence.of_judgments(comparisons(bias, 0.0, seed=1))))
    # The better one stands second in one order; there it loses with the bias.
    assert within(found, "order_flips", bias)
    assert within(found, "first_slot", bias / 2)
    clean_one = Card(name="j", estimates=tuple(evidence.of_judgments(comparisons(0.0, 0.1, seed=2))))
    assert within(clean_one, "first_slot", 0.0)
    assert within(clean_one, "order_flips", 2 * 0.1 * 0.9)


def test_a_tie_in_one_order_is_no_flip() -> None:
    """As on the leaderboard and the judge card: a flip is another winner."""
    said = [replace(j, scores=(0.5, 0.5)) if j.order == (1, 0) else j for j in comparisons(0.0, 0.0, seed=3, n=40)]
    found = Card(name="j", estimates=tuple(evidence.of_judgments(said)))
    assert found.get("order_flips").value == 0.0  # type: ignore[union-attr]


def test_two_pairs_do_not_settle_what_length_tells() -> None:
    same = Sheet()
    for k in range(2):
        same.add(f"question {k}", "one two", "two one")
    told = card(same).get("length_auc")
    assert told is not None
    assert (told.low, told.high) == (0.0, 1.0)


def test_labelers_are_compared_with_each_other_and_with_the_truth() -> None:
    one, two = comparisons(0, 0.0, seed=3, judge="one"), comparisons(0, 0.5, seed=4, judge="two")
    found = Card(name="j", estimates=tuple(evidence.of_judgments([*one, *two])))
    assert within(found, "labeler_agreement", 0.5)
    assert within(found, "labeler_kappa", 0.0)
    (right,) = evidence.against_truth(comparisons(0, 0.2, seed=5), one)
    # Of the pairs with the same verdict in both orders, those that erred twice are wrong.
    assert right.low <= 0.64 / (0.64 + 0.04) <= right.high
    assert right.settings["truth"] == "one"


def test_each_of_three_labelers_decides_where_the_other_two_are_split() -> None:
    rng = np.random.default_rng(9)
    made = [
        Judgment.of(
            prompt_id=f"p{i}", completion_ids=(f"a{i}", f"b{i}"), judge=judge,
            scores=(1.0, 0.0) if rng.random() > 0.2 else (0.0, 1.0),
        )
        for i in range(900)
        for judge in ("x", "y", "z")
    ]  # fmt: skip
    influence = [e for e in evidence.of_judgments(made) if e.name == "labeler_influence"]
    assert [e.settings["labeler"] for e in influence] == ["x", "y", "z"]
    assert [e.value for e in influence] == pytest.approx([2 * 0.2 * 0.8] * 3, abs=0.045)  # three standard errors


def test_label_noise_from_a_judges_own_repeats() -> None:
    rng = np.random.default_rng(6)
    made = [
        Judgment.of(
            prompt_id=f"p{i}", completion_ids=(f"a{i}", f"b{i}"), judge="j", repeat=k,
            scores=(1.0, 0.0) if rng.random() > 0.15 else (0.0, 1.0),
        )
        for i in range(900)
        for k in range(2)
    ]  # fmt: skip
    found = Card(name="j", estimates=tuple(evidence.of_judgments(made)))
    assert within(found, "label_noise", 0.15)


def test_rejection_sampling_diagnostics() -> None:
    rng = np.random.default_rng(7)
    prompts = [Prompt.of(f"q{i}") for i in range(400)]
    completions = [
        Completion.of(prompt_id=p.id, model="m", text=f"{i} {k}", sample=k)
        for i, p in enumerate(prompts)
        for k in range(8)
    ]
    scores = rng.normal(size=len(completions))
    judgments = [
        Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="rm", scores=(float(s),))
        for c, s in zip(completions, scores, strict=True)
    ]
    matrix = tabulate(prompts, completions, judgments).matrix
    found = Card(name="s", estimates=tuple(evidence.of_selection(matrix, matrix.best())))
    # The mean of the best of 8 standard normals is 1.4236.
    assert within(found, "kept_score", 1.4236)
    assert found.get("coverage").value == found.get("decidable").value == 1.0  # type: ignore[union-attr]
    curve = evidence.best_of_n(matrix)
    assert [e.settings["n"] for e in curve] == [1, 2, 4, 8]
    assert all(e.low <= truth <= e.high for e, truth in zip(curve, (0, 0.5642, 1.0294, 1.4236), strict=True))
    assert [round(e.settings["kl"], 4) for e in curve] == [0.0, 0.1931, 0.6363, 1.2044]
    (gain,) = evidence.against_control(matrix, matrix.best(), matrix.start[:-1], "selected_minus_control")
    assert gain.low > 1.0
    # A truth that the scores follow with a correlation of one half moves half as far.
    truth = [
        Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="gold", scores=(float(0.5 * s + n),))
        for c, s, n in zip(completions, scores, 0.75**0.5 * rng.normal(size=len(completions)), strict=True)
    ]
    gold = evidence.by_truth(matrix, [c.id for c in completions], truth)
    assert gold is not None
    (true_gain,) = evidence.against_control(gold, matrix.best(), matrix.start[:-1], "gold_minus_control")
    assert true_gain.low <= 0.5 * 1.4236 <= true_gain.high
    some = evidence.by_truth(matrix, [c.id for c in completions], truth[:80])  # ten prompts
    assert some is not None
    assert evidence.against_control(some, matrix.best(), matrix.start[:-1], "gold_minus_control")[0].n == 10
    assert evidence.by_truth(matrix, [c.id for c in completions], []) is None
    page = card_of(Sheet(), name="sft", extra=evidence.of_selection(matrix, matrix.best()))
    assert any("winner's curse" in w for w in page.warnings)


def test_a_card_reads_back_and_its_page_shows_everything() -> None:
    found = card(clean(8, n=100), about={"rule": "best_worst"}, counts={"tie": 3})
    again = msgspec.json.decode(msgspec.json.encode(found), type=Card)
    assert again == found
    page = markdown(found)
    assert "No warnings." in page
    assert "| tie | 3 |" in page
    assert "| rule | best_worst |" in page
    for e in found.estimates:
        assert f"| {e.name.replace('_', ' ')} |" in page


def test_our_pairs_become_a_sheet() -> None:
    prompt = Prompt.of("q")
    sides = [Completion.of(prompt_id=prompt.id, model=m, text=m * 2, sample=0) for m in ("a", "b")]
    pair = PreferencePair.of(
        prompt=prompt, chosen=sides[0], rejected=sides[1], probability=0.8, margin=0.6, labeler="j", rule="r",
        metadata={"chosen_model": "a", "rejected_model": "b"},
    )  # fmt: skip
    sheet = sheet_of([pair])
    assert (sheet.prompt, sheet.chosen, sheet.rejected) == (["q"], ["aa"], ["bb"])
    assert (sheet.chosen_model, sheet.probability, sheet.margin) == (["a"], [0.8], [0.6])


SHAPES = {
    "text": {"prompt": "q?", "chosen": "yes", "rejected": "no"},
    "conversational": {
        "prompt": [{"role": "user", "content": "q?"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    },
    "implicit prompt": {
        "chosen": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "no"}],
    },
    "prompt beside whole conversations": {
        "prompt": "q?",
        "chosen": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "user", "content": "q?"}, {"role": "assistant", "content": "no"}],
    },
    "axolotl": {
        "messages": [{"role": "user", "content": "q?"}],
        "chosen": {"role": "assistant", "content": "yes"},
        "rejected": {"role": "assistant", "content": "no"},
    },
    "nemo rl": {
        "context": [{"role": "user", "content": "q?"}],
        "completions": [
            {"rank": 1, "completion": [{"role": "assistant", "content": "no"}]},
            {"rank": 0, "completion": [{"role": "assistant", "content": "yes"}]},
        ],
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_that_trainers_read_can_be_linted(shape: str, tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text(json.dumps(SHAPES[shape]) + "\n")
    sheet = read_sheet(file)
    assert (sheet.prompt, sheet.chosen, sheet.rejected) == (["q?"], ["yes"], ["no"])


def test_transcripts_are_split_where_a_speaker_was_last_announced(tmp_path: Path) -> None:
    file = tmp_path / "hh.jsonl"
    head = "\n\nHuman: q?\n\nAssistant:"
    file.write_text(json.dumps({"chosen": f"{head} You may.", "rejected": f"{head} You must not."}) + "\n")
    sheet = read_sheet(file)
    assert (sheet.prompt, sheet.chosen, sheet.rejected) == ([head], [" You may."], [" You must not."])


def test_rows_that_are_no_pair_are_counted_by_reason_and_place(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    good = json.dumps(SHAPES["text"])
    rows = [good, '{"prompt": "q", "chosen": "same", "rejected": "same"}', '{"prompt": "q"}', "{broken", good]
    rows.append('{"prompt": "q", "chosen": " ", "rejected": "x"}')
    file.write_text("\n".join(rows) + "\n")
    found = card(read_sheet(file))
    assert found.counts["rows"] == 6
    assert found.counts["pairs"] == 2
    unusable = {k: v for k, v in found.counts.items() if k.startswith("unusable")}
    assert sum(unusable.values()) == 4
    assert any("chosen equals rejected (first: bad.jsonl" in w for w in found.warnings)
