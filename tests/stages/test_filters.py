"""Filters: planted duplicates, the cases of the 8-gram rule, difficulty, refusals, truncation, spread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.filters import Filters, apply, contaminated, overlap_with, pass_rates, spread
from rlhf_eval.stages.texts import (
    exact_duplicates,
    jaccard,
    language_of,
    markup,
    near_duplicates,
    refuses,
    shingles,
    truncated,
)

WORDS = np.array([a + b + c for a in "bdfgklmnrst" for b in "aeiou" for c in ("na", "ro", "lis", "tem", "gu")])


def text(rng: np.random.Generator, size: int = 40) -> list[str]:
    return [str(w) for w in rng.choice(WORDS, size)]


def test_exact_duplicates_look_through_case_punctuation_and_space() -> None:
    texts = ["Name three primes.", "Name four primes.", "  name THREE primes!", "Name, three primes"]
    assert exact_duplicates(texts).tolist() == [0, 1, 0, 0]


def test_near_duplicates_are_those_over_the_threshold_and_no_others() -> None:
    rng = np.random.default_rng(0)
    originals = [text(rng) for _ in range(300)]
    copies = []
    for words in originals:
        changed = list(words)
        for at in rng.choice(40, int(rng.integers(1, 6)), replace=False):
            changed[at] = "different"
        copies.append(changed)
    texts = [" ".join(w) for w in [*originals, *copies]]
    found = near_duplicates(texts, threshold=0.7)
    close = [jaccard(shingles(texts[i]), shingles(texts[300 + i])) for i in range(300)]
    assert (found[:300] == np.arange(300)).all()
    for i, similarity in enumerate(close):
        if similarity >= 0.75:
            assert found[300 + i] == i, similarity
        if similarity < 0.7:
            assert found[300 + i] == 300 + i, similarity
    assert sum(s >= 0.75 for s in close) > 50
    assert sum(s < 0.7 for s in close) > 80


def test_copies_of_copies_belong_to_the_first() -> None:
    rng = np.random.default_rng(1)
    words = text(rng, 60)
    texts = [" ".join(words), " ".join([*words[:-1], "new"]), " ".join([*words[:-1], "new"]).upper()]
    assert near_duplicates(texts).tolist() == [0, 0, 0]


TEST = [f"w{i}" for i in range(40)]


@pytest.mark.parametrize(
    ("document", "share"),
    [
        (TEST, 1.0),
        (TEST[:20], 0.5),
        (["x" if i % 8 == 7 else w for i, w in enumerate(TEST)], 0.0),
        ([], 0.0),
    ],
)
def test_the_cases_of_the_tulu_rule(document: list[str], share: float) -> None:
    found, which = overlap_with([" ".join(document)], [" ".join(TEST)])
    assert found[0] == pytest.approx(share)
    assert which[0] == (0 if share else -1)
    assert contaminated([" ".join(document)], [" ".join(TEST)])[0] == (share > 0.5)


def test_every_ninth_word_changed_leaves_eight_of_ten() -> None:
    words = [f"w{i}" for i in range(40)]
    changed = ["x" if i % 9 == 8 else w for i, w in enumerate(words)]
    # 4 words are changed, and the last run of 4 is too short: 32 of 40 lie in a shared 8-gram.
    assert overlap_with([" ".join(changed)], [" ".join(words)])[0][0] == pytest.approx(0.8)


def test_a_repeated_ngram_counts_wherever_it_stands() -> None:
    eight = [f"w{i}" for i in range(8)]
    assert overlap_with([" ".join(eight)], [" ".join(eight * 3)])[0][0] == pytest.approx(1.0)


def test_a_short_test_prompt_must_be_the_whole_document() -> None:
    tests = ["Name three primes."]
    assert contaminated(["name three primes", "Please name three primes now, will you"], tests).tolist() == [
        True,
        False,
    ]


def test_independent_texts_are_not_contaminated() -> None:
    rng = np.random.default_rng(2)
    documents, tests = ([" ".join(text(rng, 80)) for _ in range(100)] for _ in range(2))
    assert not contaminated(documents, tests).any()


def test_prompts_fall_by_the_first_filter_that_catches_them() -> None:
    prompts = [
        Prompt.of("Name three primes, please."),
        Prompt.of("name three primes please"),
        Prompt.of("Name a bird."),
    ]
    completions = [Completion.of(prompt_id=p.id, model="m", text="Two, three and five.") for p in prompts]
    left = apply(prompts, completions, [], Filters(duplicates="exact"), against=["Name a bird"])
    assert left.prompts == prompts[:1]
    assert left.completions == completions[:1]
    assert left.dropped == {
        prompts[1].id: "duplicate of an earlier prompt",
        prompts[2].id: "contains a benchmark prompt",
    }
    nothing = apply(prompts, completions, [], Filters())
    assert (nothing.prompts, nothing.completions, nothing.dropped, nothing.removed) == (prompts, completions, {}, {})


def test_difficulty_keeps_the_middle() -> None:
    prompts = [Prompt.of(f"q{k}") for k in range(6)]
    judgments = [
        Judgment.of(prompt_id=p.id, completion_ids=(f"{p.id}{i}",), judge="v", scores=(float(i < solved),))
        for p, solved in zip(prompts, (0, 1, 2, 8, 9, 10), strict=True)
        for i in range(10)
    ]
    assert pass_rates(judgments, 1.0) == {
        p.id: rate for p, rate in zip(prompts, (0, 0.1, 0.2, 0.8, 0.9, 1.0), strict=True)
    }
    left = apply(prompts, [], judgments, Filters(pass_mark=1.0))
    assert left.prompts == prompts[2:4]
    assert apply([Prompt.of("unknown")], [], [], Filters(pass_mark=1.0)).prompts == []


def test_answers_are_removed_by_reason() -> None:
    prompt = Prompt.of("What is the tallest mountain in the world and where is it?")
    texts = [
        "I'm sorry, but I can't help with that.",
        "It is the highest of them all and " * 10,
        "Der Berg ist in dem Land und nicht in der Stadt, das ist auch gut so.",
        "The mountain is in the Himalayas, and it is on the border of two countries.",
        "You are an idiot and it is in the sky of the sea.",
    ]
    completions = [Completion.of(prompt_id=prompt.id, model="m", text=t, sample=k) for k, t in enumerate(texts)]
    left = apply(
        [prompt],
        completions,
        [],
        Filters(refusals=True, truncation=True, language="en", scorer="mine.toxic"),
        score=lambda given: [float("idiot" in t) for t in given],
    )
    assert [c.text for c in left.completions] == [texts[3]]
    assert left.removed == {"refusal": 1, "truncated": 1, "other language": 1, "mine.toxic too high": 1}
    cut = Completion.of(prompt_id=prompt.id, model="m", text="Fine.", sample=9, finish_reason="length")
    assert apply([prompt], [cut], [], Filters(truncation=True)).removed == {"truncated": 1}
    assert apply([prompt], [cut], [], Filters(longest=3)).removed == {"too long": 1}
    twice = [replace(cut, id=str(k)) for k in range(3)]
    assert apply([prompt], twice, [], Filters(copies=True)).removed == {"copy": 2}


def test_the_prompts_most_unlike_each_other_are_kept() -> None:
    kinds = {"add": [1.0, 0.0, 0.01], "sort": [0.0, 1.0, 0.01], "count": [-1.0, 0.0, 0.01]}
    asked = [Prompt.of(f"{kind} {k}") for k in range(20) for kind in kinds]
    rng = np.random.default_rng(0)
    left = apply(
        asked, [], [], Filters(embedder="mine.vectors", most=3),
        embed=lambda texts: np.array([kinds[t.split()[0]] for t in texts]) + 0.01 * rng.normal(size=(len(texts), 3)),
    )  # fmt: skip
    assert sorted(p.text.split()[0] for p in left.prompts) == sorted(kinds)
    assert set(left.dropped.values()) == {"not among the 3 most different prompts"}
    assert apply(asked[:2], [], [], Filters(embedder="mine.vectors", most=3), embed=lambda t: np.eye(2)).dropped == {}
    with pytest.raises(ValueError, match="belong together"):
        Filters(most=3)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I cannot assist with this request.", True),
        ("Unfortunately, I am unable to provide medical advice.", True),
        ("As an AI language model, I do not have opinions.", True),
        ("I must decline.", True),
        ("I’m sorry, but no.", True),
        ("I can't wait to tell you about it!", False),
        ("Sorry to hear that. Here is what to do.", False),
        ("You cannot help with that, but a doctor can.", False),
        ("", False),
    ],
)
def test_refusals(answer: str, verdict: bool) -> None:
    assert refuses(answer) is verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Short and without a stop", False),
        ("word " * 60 + "and then", True),
        ("word " * 60 + "and then.", False),
        ("word " * 60 + '"quoted"', False),
        ("```python\nprint(1)\n", True),
        ("```python\nprint(1)\n```", False),
        ("文字" * 200, False),
        ("word " * 60 + "| a | b |", False),
    ],
)
def test_truncation(answer: str, verdict: bool) -> None:
    assert truncated(answer) is verdict


@pytest.mark.parametrize(
    ("words", "language"),
    [
        ("The cat is on the mat and it was happy there.", "en"),
        ("Der Hund ist nicht auf dem Tisch und die Katze auch nicht.", "de"),
        ("Le chat est sur la table et il ne veut pas de lait.", "fr"),
        ("El gato no está en la mesa, pero el perro está con la niña.", "es"),
        ("Это просто текст на русском языке.", "cyrillic"),
        ("これは日本語の文章です。", "japanese"),
        ("12 + 30 = 42", ""),
        ("print(x)", ""),
    ],
)
def test_languages(words: str, language: str) -> None:
    assert language_of(words) == language


def test_markup_is_counted() -> None:
    assert markup("# Title\n\n- one\n- **two**\n\n1. three\nplain - text") == 5


def test_spread_takes_one_of_each_cluster_first() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(5)
    points = np.repeat(centres, 20, axis=0) + rng.normal(0, 0.02, (100, 5))
    chosen = spread(points, 5)
    assert {int(i) // 20 for i in chosen} == set(range(5))
    assert len(set(spread(points, 60).tolist())) == 60
    with pytest.raises(UserError, match="k = 101"):
        spread(points, 101)


def test_impossible_filters_are_refused() -> None:
    with pytest.raises(ValueError, match="similarity is 0"):
        Filters(similarity=0)
    with pytest.raises(ValueError, match="hardest <= easiest"):
        Filters(hardest=0.9, easiest=0.1)
