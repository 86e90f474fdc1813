"""Ids depend on what made a record and on nothing else; round trips lose nothing; bad rows name the field."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_eval.errors import BadRecord, UserError
from rlhf_eval.records import (
    TABLES,
    Completion,
    Demonstration,
    Estimate,
    Judgment,
    Message,
    Outcome,
    PreferencePair,
    Prompt,
    Run,
    Sampling,
    Usage,
    fingerprint,
    from_json,
    from_row,
    to_json,
    to_row,
)

words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
spoken = words.filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False)
metadata = st.dictionaries(words, st.one_of(st.integers(-(2**53), 2**53), st.booleans(), words, st.none()), max_size=3)
prompts = st.builds(
    Prompt.of, spoken, reference=st.none() | words, category=words, source=words, key=words, metadata=metadata
)
usages = st.builds(Usage, prompt_tokens=st.integers(0, 10**9), completion_tokens=st.integers(0, 10**9), cost=finite)
completions = st.builds(
    Completion.of,
    prompt_id=words,
    model=words,
    text=st.text(st.characters(codec="utf-8")),
    sample=st.integers(0, 10**6),
    sampling=st.builds(Sampling, temperature=st.floats(0, 2), top_p=st.floats(0.01, 1), stop=st.tuples(words)),
    error=st.none() | words,
    usage=usages,
    metadata=metadata,
)


def judgment(**changes: Any) -> Judgment:
    return Judgment.of(
        **{"prompt_id": "p", "completion_ids": ("a", "b"), "judge": "j", "scores": (0.8, 0.2), **changes}
    )


@given(prompts)
def test_a_prompt_survives_a_line_of_json(prompt: Prompt) -> None:
    assert from_json(Prompt, to_json(prompt)) == prompt
    assert from_row(Prompt, to_row(prompt)) == prompt


@given(completions)
def test_a_completion_survives_a_line_of_json(completion: Completion) -> None:
    assert from_json(Completion, to_json(completion)) == completion


@given(st.lists(finite, min_size=1, max_size=6), st.randoms())
def test_a_judgment_survives_a_line_of_json(scores: list[float], random: Any) -> None:
    order = list(range(len(scores)))
    random.shuffle(order)
    made = judgment(completion_ids=tuple(map(str, order)), scores=tuple(scores), order=tuple(order))
    assert from_json(Judgment, to_json(made)) == made


def test_every_table_holds_a_record_type_that_survives_json() -> None:
    prompt = Prompt.of("2+2?")
    best, worst = (Completion.of(prompt_id=prompt.id, model="m", text=text, origin=text) for text in ("4", "5"))
    about = {"labeler": "j", "rule": "best_worst"}
    made = {
        "prompts": prompt,
        "completions": best,
        "judgments": judgment(),
        "pairs": PreferencePair.of(prompt=prompt, chosen=best, rejected=worst, probability=0.9, margin=0.8, **about),
        "demonstrations": Demonstration.of(prompt=prompt, completion=best, score=1.0, **about),
        "estimates": Estimate(name="win_rate", value=0.5, low=0.4, high=0.6, n=10, settings={"se": 0.1}),
        "outcomes": Outcome.of(prompt.id, "judge", "done", records=2),
    }
    assert made.keys() == TABLES.keys()
    for table, record in made.items():
        assert from_json(TABLES[table], to_json(record)) == record


# Identity -------------------------------------------------------------------------------------------------------------


def test_the_id_is_a_hash_of_what_made_the_record() -> None:
    # Spelled out by hand: a changed hash would orphan every store that exists.
    question = b'["prompt",[{"role":"user","content":"Name three primes."}],null,"",{}]'
    assert Prompt.of("Name three primes.").id == hashlib.blake2b(question, digest_size=10).hexdigest()
    assert fingerprint({"b": 2, "a": [1.5]}) == fingerprint({"a": [1.5], "b": 2}) != fingerprint({"a": [1.5], "b": 3})


@given(spoken, spoken)
def test_prompts_are_the_same_exactly_when_their_words_are(first: str, second: str) -> None:
    assert (Prompt.of(first).id == Prompt.of(second).id) == (first == second)


def test_labels_do_not_enter_a_prompts_id_and_keys_do() -> None:
    plain = Prompt.of("x")
    assert Prompt.of("x", category="math", source="file").id == plain.id
    for other in (
        Prompt.of("x", key="1"),
        Prompt.of("x", reference="y"),
        Prompt.of("x", metadata={"a": 1}),
        Prompt.of([Message("system", "s"), Message("user", "x")]),
        Prompt.of([Message("system", "x"), Message("user", "x")]),
    ):
        assert other.id != plain.id


def test_text_and_cost_do_not_enter_a_completions_id() -> None:
    made = {"prompt_id": "p", "model": "m"}
    plain = Completion.of(text="one", **made)
    assert Completion.of(text="two", usage=Usage(cost=1.0), error=None, finish_reason="length", **made).id == plain.id
    for change in ({"sample": 1}, {"sampling": Sampling(seed=1)}, {"generator": "g"}, {"origin": "r"}, {"model": "n"}):
        assert Completion.of(text="one", **{**made, **change}).id != plain.id


def test_the_id_of_a_judgment_is_known_before_it_is_bought() -> None:
    about = {"prompt_id": "p", "completion_ids": ("a", "b"), "judge": "j", "order": (1, 0), "repeat": 2}
    assert Judgment.of(scores=(1.0, 0.0), **about).id == Judgment.id_of(**about) == Judgment.of(error="x", **about).id


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_prompt_is_refused(text: str) -> None:
    with pytest.raises(BadRecord, match="empty"):
        Prompt.of(text)
    with pytest.raises(BadRecord, match="at least one message"):
        Prompt.of([])
    with pytest.raises(BadRecord, match="empty"):
        Prompt.of([Message("system", "Be kind."), Message("user", text), Message("assistant", "What?")])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scores": (1.0,)}, "1 scores for 2 completions"),
        ({"scores": ()}, "0 scores"),
        ({"scores": (math.nan, 0.5)}, "not all finite"),
        ({"scores": (math.inf, 0.0)}, "not all finite"),
        ({"error": "unparsed", "scores": (0.5, 0.5)}, "carries no scores"),
        ({"order": (0, 0)}, "no permutation"),
        ({"order": (0,)}, "no permutation"),
    ],
)
def test_a_judgment_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        judgment(**changes)


@pytest.mark.parametrize("setting", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"max_tokens": 0}])
def test_impossible_sampling_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(BadRecord, match=next(iter(setting))):
        Sampling(**setting)


def test_a_tie_makes_no_pair_and_a_chosen_side_has_at_least_half() -> None:
    prompt = Prompt.of("x")
    one, same, other = (
        Completion.of(prompt_id=prompt.id, model=m, text=t) for m, t in [("a", "t"), ("b", "t"), ("c", "u")]
    )
    about = {"prompt": prompt, "chosen": one, "margin": 0.0, "labeler": "j", "rule": "r"}
    with pytest.raises(BadRecord, match="tie"):
        PreferencePair.of(rejected=same, probability=0.7, **about)
    for probability in (0.49, 1.01, math.nan):
        with pytest.raises(BadRecord, match="probability"):
            PreferencePair.of(rejected=other, probability=probability, **about)
    for margin in (math.nan, math.inf):
        with pytest.raises(BadRecord, match="margin"):
            PreferencePair.of(rejected=other, probability=0.7, **about | {"margin": margin})


@pytest.mark.parametrize(("value", "low", "high"), [(0.5, 0.6, 0.7), (math.nan, 0.0, 1.0), (0.5, math.nan, 1.0)])
def test_an_estimate_lies_in_its_interval(value: float, low: float, high: float) -> None:
    with pytest.raises(BadRecord, match="outside its interval"):
        Estimate(name="x", value=value, low=low, high=high, n=1)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "1", "prompt_id": "p", "verb": "judge", "status": "done", "recrods": 1}, "Did you mean 'records'"),
        ({"id": "1", "prompt_id": "p", "verb": "judge"}, "status"),
        ({"id": "1", "prompt_id": "p", "verb": "judge", "status": "gone"}, "gone"),
        ({"id": "1", "prompt_id": 7, "verb": "judge", "status": "done"}, "prompt_id"),
        ([], "JSON object"),
    ],
)
def test_a_bad_row_names_the_field(row: Any, words: str) -> None:
    with pytest.raises(BadRecord, match=words):
        from_row(Outcome, row)


def test_a_broken_line_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="not valid JSON"):
        from_json(Outcome, b'{"id": "1"')


def test_usage_adds_up() -> None:
    total = sum((Usage(prompt_tokens=1, completion_tokens=2, cost=0.5, seconds=1.0) for _ in range(3)), Usage())
    assert total == Usage(prompt_tokens=3, completion_tokens=6, cost=1.5, seconds=3.0)


def test_the_text_of_a_prompt_is_its_last_question() -> None:
    turns = [Message("user", "first"), Message("assistant", "yes"), Message("user", "second"), Message("tool", "data")]
    assert Prompt.of(turns).text == "second"


@pytest.mark.parametrize(
    ("verb", "config", "title"),
    [
        ("train", {"trainer": "dpo"}, "train dpo, 28 Nov 01:12, 0eb6397d"),
        ("generate", {"names": ["base", "tonight"]}, "generate base, tonight, 28 Nov 01:12, 0eb6397d"),
        ("judge", {"judge": "pairwise/gpt#1a2b3c4d"}, "judge pairwise/gpt, 28 Nov 01:12, 0eb6397d"),
        ("suite", {}, "suite, 28 Nov 01:12, 0eb6397d"),
    ],
)
def test_a_run_has_a_title_for_readers(verb: str, config: dict[str, object], title: str) -> None:
    assert Run(id=f"20261128T011251-{verb}-0eb6397d", verb=verb, config=config).title == title
