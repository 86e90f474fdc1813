"""The questions: splits that share nothing, the same for the same seed, balanced, each with one right answer."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from rlhf_eval.errors import UserError
from rlhf_eval.sandbox.tasks import DIFFICULTIES, FAMILIES, items, lexicon
from rlhf_eval.sandbox.world import SPLITS, prompts

CELLS = len(FAMILIES) * len(DIFFICULTIES)


def test_there_are_enough_families_and_categories():
    assert len(FAMILIES) >= 8
    assert set(lexicon()["category"]) == set(FAMILIES)
    assert len(set(lexicon()["category"].values())) >= 4
    assert len(items()) == len(set(items())) == 48


def test_every_wording_fits_its_task():
    rng = Random(0)
    for family, draw in FAMILIES.items():
        for level in DIFFICULTIES:
            for _ in range(30):
                task = draw(rng, level)
                for wording in lexicon()[family][task.variant]:
                    text = wording.format(**task.slots)
                    assert "{" not in text
                    assert all(value in text for value in task.slots.values())


def test_splits_share_no_task_however_worded():
    def contents(split: str) -> set[tuple[str, ...]]:
        names = set(items())
        found = set()
        for p in prompts(split, seed=3):
            words = tuple(w for w in p.text.replace(".", " ").replace("?", " ").split() if w in names or w.isdigit())
            found.add((p.metadata["family"], p.metadata["answer"], *words))
        return found

    held_out, train = contents("heldout"), contents("train")
    unordered = {c for c in train if c[0] not in {"pick", "repeat"}}  # those two also turn on a word outside the lists
    assert not held_out & unordered
    assert not {p.text for p in prompts("heldout")} & {p.text for p in prompts("train")}


def test_same_seed_same_prompts_and_another_seed_others():
    assert [p.id for p in prompts("train", 200, seed=5)] == [p.id for p in prompts("train", 200, seed=5)]
    assert {p.id for p in prompts("train", 200, seed=5)} != {p.id for p in prompts("train", 200, seed=6)}


def test_a_smaller_limit_gives_the_beginning():
    assert prompts("heldout", 50) == prompts("heldout", 120)[:50]


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_balanced_over_families_and_difficulties(split: str):
    found = prompts(split)
    counts = Counter((p.metadata["family"], p.metadata["difficulty"]) for p in found)
    assert len(counts) == CELLS
    assert set(counts.values()) == {SPLITS[split] // CELLS}
    assert len({p.id for p in found}) == len(found) == SPLITS[split]
    assert {p.source for p in found} == {f"sandbox:{split}"}


def test_half_carry_an_instruction_of_every_kind():
    counts = Counter(p.metadata["constraint"] for p in prompts("train"))
    assert 0.45 < counts[""] / SPLITS["train"] < 0.55
    assert set(counts) == {"", "only", "period", "brackets", "capitals", "commas"}


def test_wordings_are_varied():
    assert sum(len(w) for family in FAMILIES for w in lexicon()[family].values()) >= 80


def test_answers_are_right_by_another_route():
    for p in prompts("heldout", 360, seed=1):
        answer = p.metadata["answer"].split()
        numbers = [int(w) for w in p.text.replace(".", " ").replace(":", " ").replace("?", " ").split() if w.isdigit()]
        match p.metadata["family"]:
            case "add":
                assert int(answer[0]) == sum(numbers)
            case "sort":
                assert sorted(numbers) in ([int(a) for a in answer], [int(a) for a in answer][::-1])
            case "largest":
                assert int(answer[0]) in (max(numbers), min(numbers))
            case "repeat":
                assert len(answer) == numbers[0]
                assert len(set(answer)) == 1


def test_unknown_split_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'heldout'"):
        prompts("held_out")


def test_limits_are_checked():
    assert prompts("heldout", 0) == []
    with pytest.raises(UserError, match="at least 0"):
        prompts("heldout", -1)
