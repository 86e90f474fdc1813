"""Every selection rule: the book's worked example, slow oracles, and what holds for all of them on random matrices."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from generators import (
    all_pairs,
    best_random_lower,
    best_second,
    best_worst,
    bradley_terry,
    contrast,
    correct_incorrect,
    delta_pairs,
    length_matched,
    margin_window,
    on_off_policy,
    random_k_overall,
    random_per_prompt,
    ranking,
    rso,
    threshold,
    top_k_overall,
    top_per_prompt,
    unpaired,
)
from rlhf_eval import registry
from rlhf_eval.errors import UserError
from rlhf_eval.records import Completion, Judgment, Prompt
from rlhf_eval.stages.matrix import Book, tabulate
from rlhf_eval.stages.pairs import Selection, account, run_rule
from rlhf_eval.stats.bradley_terry import bradley_terry as fit_strengths

BOOK_EXAMPLE = [
    [0.7, 0.3, 0.5, 0.2],
    [0.4, 0.8, 0.6, 0.5],
    [0.9, 0.3, 0.4, 0.7],
    [0.2, 0.5, 0.8, 0.6],
    [0.5, 0.4, 0.3, 0.6],
]
"""The 5 x 4 reward matrix of the rejection-sampling chapter of arXiv 2504.12501."""

PAIR_RULES: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "best_worst": (best_worst, {}),
    "best_second": (best_second, {}),
    "best_random_lower": (best_random_lower, {}),
    "all_pairs": (all_pairs, {}),
    "all_pairs, at most 2": (all_pairs, {"most": 2, "min_margin": 0.1}),
    "ranking": (ranking, {"k": 3}),
    "ranking, adjacent": (ranking, {"k": 3, "pairs": "adjacent"}),
    "margin_window": (margin_window, {"low": 0.2, "high": 0.5}),
    "correct_incorrect": (correct_incorrect, {"correct": 0.7, "incorrect": 0.4, "pairs": 2}),
    "length_matched": (length_matched, {}),
    "on_off_policy": (on_off_policy, {"policy": "alpha"}),
    "rso": (rso, {"accept": 4}),
}
SFT_RULES: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "top_per_prompt": (top_per_prompt, {}),
    "top_k_overall": (top_k_overall, {"k": 7}),
    "random_per_prompt": (random_per_prompt, {}),
    "random_k_overall": (random_k_overall, {"k": 7}),
    "threshold": (threshold, {"at_least": 0.6}),
    "unpaired": (unpaired, {}),
}


def book_of(rows: list[list[float]], *, texts: list[list[str]] | None = None, models: list[str] | None = None) -> Book:
    """Graded completions: a row a prompt, NaN for a completion that nobody judged."""
    prompts = [Prompt.of(f"question {i}") for i in range(len(rows))]
    completions, judgments = [], []
    for i, row in enumerate(rows):
        for j, score in enumerate(row):
            text = texts[i][j] if texts else f"answer {i}.{j} " + "x" * (7 * j % 20)
            model = models[j % len(models)] if models else "alpha"
            made = Completion.of(prompt_id=prompts[i].id, model=model, text=text, sample=j)
            completions.append(made)
            if not np.isnan(score):
                judgments.append(
                    Judgment.of(prompt_id=made.prompt_id, completion_ids=(made.id,), judge="grader", scores=(score,))
                )
    return tabulate(prompts, completions, judgments)


def random_book(seed: int, *, prompts: int = 40) -> Book:
    """Ragged rows with ties, equal texts, unjudged completions and empty prompts."""
    rng = np.random.default_rng(seed)
    rows, texts = [], []
    for i in range(prompts):
        size = int(rng.integers(0, 7))
        scores = np.round(rng.random(size), 1)
        scores[rng.random(size) < 0.1] = np.nan
        rows.append(scores.tolist())
        texts.append([f"{i} " + "word " * int(rng.integers(1, 9)) for _ in range(size)])
    return book_of(rows, texts=texts, models=["alpha", "beta"])


def apply(book: Book, plugin: ModuleType, **settings: Any) -> Selection:
    return run_rule(book, plugin, plugin.Config(**settings), plugin.__name__.rpartition(".")[2])


def flat_index(book: Book, completion_id: str) -> int:
    return [c.id for c in book.completions].index(completion_id)


def kept(book: Book, selection: Selection) -> set[int]:
    number = {c.id: i for i, c in enumerate(book.completions)}
    return {number[d.completion_id] for d in selection.demonstrations}


def test_the_books_worked_example_top_per_prompt() -> None:
    book = book_of(BOOK_EXAMPLE)
    selection = apply(book, top_per_prompt)
    assert kept(book, selection) == {0, 4 + 1, 8 + 0, 12 + 2, 16 + 3}
    assert [d.score for d in selection.demonstrations] == [0.7, 0.8, 0.9, 0.8, 0.6]


def test_the_books_worked_example_top_k_overall() -> None:
    book = book_of(BOOK_EXAMPLE)
    selection = apply(book, top_k_overall, k=5)
    assert kept(book, selection) == {8, 5, 14, 0, 11}
    assert account(selection.outcomes) == {"pair": 4, "tie": 0, "dropped": 1}


def test_with_one_answer_a_prompt_both_rules_are_the_same() -> None:
    book = book_of([[0.1], [0.9], [0.4]])
    assert kept(book, apply(book, top_per_prompt)) == kept(book, apply(book, top_k_overall)) == {0, 1, 2}


@pytest.mark.parametrize(("rule", "control"), [(top_per_prompt, random_per_prompt), (top_k_overall, random_k_overall)])
def test_a_control_has_the_shape_of_its_rule_and_no_look_at_the_reward(rule: ModuleType, control: ModuleType) -> None:
    book = book_of(np.random.default_rng(0).random((300, 8)).tolist())
    chosen, drawn = apply(book, rule), apply(book, control)
    assert control.__name__.rpartition(".")[2] == rule.CONTROL
    assert len(chosen.demonstrations) == len(drawn.demonstrations) == 300
    assert np.mean([d.score for d in chosen.demonstrations]) > 0.85
    assert abs(np.mean([d.score for d in drawn.demonstrations]) - 0.5) < 4 * 0.29 / np.sqrt(300)
    assert kept(book, drawn) != kept(book, apply(book, control, draw_seed=1))
    if rule is top_per_prompt:
        assert [d.prompt_id for d in drawn.demonstrations] == [p.id for p in book.prompts]


@pytest.mark.parametrize("name", [*PAIR_RULES, *SFT_RULES])
@pytest.mark.parametrize("seed", range(4))
def test_every_prompt_ends_once_and_the_counts_sum(name: str, seed: int) -> None:
    plugin, settings = (PAIR_RULES | SFT_RULES)[name]
    book = random_book(seed)
    selection = apply(book, plugin, **settings)
    assert [o.prompt_id for o in selection.outcomes] == [p.id for p in book.prompts]
    assert sum(account(selection.outcomes).values()) == len(book.prompts)
    assert all((o.status == "done") == (o.reason == "") for o in selection.outcomes)
    made = Counter([r.prompt_id for r in selection.pairs] + [r.prompt_id for r in selection.labelled])
    if not selection.pairs and not selection.labelled:
        made = Counter(d.prompt_id for d in selection.demonstrations)
    assert {o.prompt_id: o.records for o in selection.outcomes if o.status == "done"} == dict(made)
    assert selection == apply(book, plugin, **settings)


@pytest.mark.parametrize("name", PAIR_RULES)
@pytest.mark.parametrize("seed", range(4))
def test_no_pair_is_a_tie_and_none_crosses_prompts(name: str, seed: int) -> None:
    plugin, settings = PAIR_RULES[name]
    book = random_book(seed)
    by_id = {c.id: c for c in book.completions}
    score = {book.completions[i].id: book.matrix.score[i] for i in range(book.matrix.size)}
    for pair in apply(book, plugin, **settings).pairs:
        chosen, rejected = by_id[pair.chosen_id], by_id[pair.rejected_id]
        assert chosen.text != rejected.text
        assert pair.prompt_id == chosen.prompt_id == rejected.prompt_id
        assert pair.margin == pytest.approx(score[chosen.id] - score[rejected.id])
        assert pair.margin > 0
        assert len(pair.judgment_ids) == 2


def test_best_worst_against_a_loop() -> None:
    book = random_book(7, prompts=200)
    made = {p.prompt_id: (p.chosen_id, p.rejected_id) for p in apply(book, best_worst).pairs}
    groups: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for completion, score in zip(book.completions, book.matrix.score, strict=True):
        if not np.isnan(score):
            groups[completion.prompt_id].append((float(score), completion.id, completion.text))
    expected = {}
    for prompt_id, group in groups.items():
        best, worst = max(group, key=lambda g: g[0]), min(group, key=lambda g: g[0])
        if len(group) > 1 and best[0] > worst[0] and best[2] != worst[2]:
            expected[prompt_id] = (best[1], worst[1])
    assert made == expected


def test_best_second_takes_neighbours_and_calls_a_shared_first_place_a_tie() -> None:
    book = book_of([[0.1, 0.9, 0.5], [0.9, 0.2, 0.9]])
    selection = apply(book, best_second)
    assert [flat_index(book, i) for p in selection.pairs for i in (p.chosen_id, p.rejected_id)] == [1, 2]
    assert selection.outcomes[1].reason == "tie: the scores are equal"


def test_best_random_lower_draws_evenly_among_the_lower_ones() -> None:
    book = book_of([[0.9, 0.1, 0.5, 0.9, 0.3]] * 600)
    drawn = Counter(flat_index(book, p.rejected_id) % 5 for p in apply(book, best_random_lower).pairs)
    assert set(drawn) == {1, 2, 4}
    assert all(abs(count - 200) < 4 * np.sqrt(600 * 2 / 9) for count in drawn.values())


def test_a_prompt_of_equal_scores_is_a_tie_for_every_pair_rule_that_sees_it() -> None:
    for plugin in (best_worst, best_second, best_random_lower, all_pairs, ranking, length_matched, rso):
        assert account(apply(book_of([[0.5, 0.5]], texts=[["one", "two"]]), plugin).outcomes) == {
            "pair": 0,
            "tie": 1,
            "dropped": 0,
        }


def test_equal_words_are_a_tie_whatever_the_scores() -> None:
    selection = apply(book_of([[0.9, 0.1]], texts=[["same", "same"]]), best_worst)
    assert not selection.pairs
    assert selection.outcomes[0].reason == "tie: the two answers are the same words"


def test_all_pairs_makes_every_pair_once() -> None:
    book = book_of([[0.1, 0.4, 0.2, 0.3]])
    pairs = {(flat_index(book, p.chosen_id), flat_index(book, p.rejected_id)) for p in apply(book, all_pairs).pairs}
    assert pairs == {(1, 0), (2, 0), (3, 0), (1, 2), (1, 3), (3, 2)}
    assert len(apply(book, all_pairs, most=2).pairs) == 2


def test_ranking_spreads_over_a_large_pool_and_names_the_ranks() -> None:
    book = book_of([[j / 10 for j in range(9)]])
    pairs = apply(book, ranking, k=3).pairs
    assert [(p.metadata["chosen_rank"], p.metadata["rejected_rank"]) for p in pairs] == [(0, 1), (1, 2), (0, 2)]
    assert {flat_index(book, i) for p in pairs for i in (p.chosen_id, p.rejected_id)} == {8, 4, 0}
    assert len(apply(book, ranking, k=9).pairs) == 36
    assert len(apply(book, ranking, k=9, pairs="adjacent").pairs) == 8


@pytest.mark.parametrize("size", range(2, 15))
@pytest.mark.parametrize("k", range(2, 9))
def test_ranking_takes_k_answers_with_both_ends(size: int, k: int) -> None:
    book = book_of([[j / 20 for j in range(size)]])
    pairs = apply(book, ranking, k=k, pairs="adjacent").pairs
    used = {flat_index(book, i) for p in pairs for i in (p.chosen_id, p.rejected_id)}
    assert len(used) == min(size, k)
    assert {0, size - 1} <= used


def test_margin_window_keeps_margins_inside() -> None:
    book = random_book(3, prompts=100)
    for pick in ("random", "widest", "narrowest", "all"):
        pairs = apply(book, margin_window, low=0.15, high=0.45, pick=pick).pairs
        assert pairs
        assert all(0.15 <= p.margin <= 0.45 for p in pairs)
        if pick != "all":
            assert max(Counter(p.prompt_id for p in pairs).values()) == 1
    widest, narrowest = (
        {p.prompt_id: p.margin for p in apply(book, margin_window, low=0.15, high=0.45, pick=pick).pairs}
        for pick in ("widest", "narrowest")
    )
    shared = widest.keys() & narrowest.keys()
    assert len(shared) > 20
    assert all(widest[prompt] >= narrowest[prompt] for prompt in shared)


def test_correct_incorrect_uses_no_answer_twice_and_drops_what_is_always_solved() -> None:
    book = book_of([[1, 0, 1, 0, 0], [1, 1, 1], [0, 0]])
    selection = apply(book, correct_incorrect, pairs=5)
    assert len(selection.pairs) == 2
    assert len({i for p in selection.pairs for i in (p.chosen_id, p.rejected_id)}) == 4
    assert account(selection.outcomes) == {"pair": 1, "tie": 0, "dropped": 2}


def test_length_matched_finds_the_widest_margin_among_like_lengths() -> None:
    texts = [["a" * 100, "b" * 95, "c" * 300, "d" * 90]]
    book = book_of([[0.5, 0.4, 0.9, 0.1]], texts=texts)
    (pair,) = apply(book, length_matched, tolerance=0.1).pairs
    assert (flat_index(book, pair.chosen_id), flat_index(book, pair.rejected_id)) == (0, 3)
    nothing = apply(book_of([[0.5, 0.4]], texts=[["a" * 100, "b" * 10]]), length_matched)
    assert "within 20% of each other in length" in nothing.outcomes[0].reason


def test_on_off_policy_always_has_one_side_of_the_policy() -> None:
    book = random_book(5, prompts=150)
    by_id = {c.id: c for c in book.completions}
    for chosen in ("either", "on", "off"):
        pairs = apply(book, on_off_policy, policy="beta", chosen=chosen).pairs
        sides = [(by_id[p.chosen_id].model, by_id[p.rejected_id].model) for p in pairs]
        expected = {
            "either": {("alpha", "beta"), ("beta", "alpha")},
            "on": {("beta", "alpha")},
            "off": {("alpha", "beta")},
        }
        assert set(sides) == expected[chosen]
    with pytest.raises(UserError, match="no completion is by the policy 'gamma'"):
        apply(book, on_off_policy, policy="gamma")


def test_delta_needs_no_judgment_and_can_ask_for_agreement() -> None:
    book = book_of([[np.nan, np.nan], [0.9, 0.2], [0.1, 0.8]], models=["alpha", "beta"])
    selection = apply(book, delta_pairs, strong="alpha", weak="beta")
    assert len(selection.pairs) == 3
    assert {p.labeler for p in selection.pairs} == {"construction/delta(alpha>beta)"}
    assert {p.judgment_ids for p in selection.pairs} == {()}
    agreed = apply(book, delta_pairs, strong="alpha", weak="beta", agree=True)
    assert [p.prompt_id for p in agreed.pairs] == [book.prompts[1].id]
    assert agreed.pairs[0].margin == pytest.approx(0.7)
    with pytest.raises(UserError, match="the same model"):
        apply(book, delta_pairs, strong="alpha", weak="alpha")


def test_contrast_pairs_the_sides_that_a_generator_marked() -> None:
    prompt = Prompt.of("q")
    sides = [("better", "one", "good"), ("worse", "one", "bad"), ("worse", "one", "worse"), ("worse", "two", "alone")]
    completions = [
        Completion.of(prompt_id=prompt.id, model="m", text=text, sample=k, metadata={"side": side, "contrast": name})
        for k, (side, name, text) in enumerate(sides)
    ]
    pairs = apply(tabulate([prompt], completions, []), contrast).pairs
    assert [(p.chosen[0].content, p.rejected[0].content) for p in pairs] == [("good", "bad"), ("good", "worse")]
    with pytest.raises(UserError, match="no completion is a side of a contrast"):
        apply(book_of([[0.1, 0.2]]), contrast)


def compared_book(shares: dict[tuple[int, int], float], size: int) -> Book:
    prompt = Prompt.of("q")
    completions = [Completion.of(prompt_id=prompt.id, model="m", text=f"t{i}", sample=i) for i in range(size)]
    judgments = [
        Judgment.of(
            prompt_id=prompt.id,
            completion_ids=(completions[i].id, completions[j].id),
            judge="pairwise",
            scores=(share, 1 - share),
        )
        for (i, j), share in shares.items()
    ]
    return tabulate([prompt], completions, judgments)


def test_bradley_terry_strengths_are_those_of_the_fit() -> None:
    shares = {(0, 1): 0.8, (1, 2): 0.7, (2, 3): 0.9, (0, 3): 0.6, (3, 1): 0.3}
    pair = apply(compared_book(shares, 4), bradley_terry).pairs[0]
    a, b = zip(*[(f"t{i}", f"t{j}") for i, j in shares], strict=True)
    fit = fit_strengths(a, b, list(shares.values()), prior=1.0)
    strength = dict(zip(fit.models, fit.ratings, strict=True))
    best, worst = max(strength, key=strength.__getitem__), min(strength, key=strength.__getitem__)
    assert (pair.chosen[0].content, pair.rejected[0].content) == (best, worst)
    assert pair.margin == pytest.approx(strength[best] - strength[worst], abs=1e-8)
    assert pair.probability == pytest.approx(1 / (1 + np.exp(-pair.margin)))


def test_bradley_terry_calls_a_perfect_circle_a_tie_and_refuses_grades() -> None:
    selection = apply(compared_book({(0, 1): 1, (1, 2): 1, (2, 0): 1}, 3), bradley_terry)
    assert account(selection.outcomes) == {"pair": 0, "tie": 1, "dropped": 0}
    with pytest.raises(UserError, match="needs comparisons"):
        apply(book_of(BOOK_EXAMPLE), bradley_terry)


def test_where_two_met_the_pair_carries_the_judges_own_probability() -> None:
    (pair,) = apply(compared_book({(0, 1): 0.9, (1, 2): 0.8, (0, 2): 0.7}, 3), best_worst).pairs
    assert (pair.chosen[0].content, pair.rejected[0].content) == ("t0", "t2")
    assert pair.probability == pytest.approx(0.7)
    assert len(pair.judgment_ids) == 1


def test_a_verdict_that_contradicts_the_mean_scores_makes_no_pair() -> None:
    selection = apply(compared_book({(0, 1): 0.4, (0, 2): 1.0, (1, 2): 0.1}, 3), best_worst)
    assert selection.outcomes[0].reason == "dropped: where the two met, the judge preferred the rejected one"


def test_no_preference_where_the_two_met_is_a_tie_whatever_the_mean_scores_say() -> None:
    selection = apply(compared_book({(0, 1): 0.5, (0, 2): 1.0, (1, 2): 0.0}, 3), best_worst)
    assert selection.pairs == ()
    assert selection.outcomes[0].reason == "tie: where the two met, the judge had no preference"


def test_unpaired_labels_by_the_outer_thirds_and_can_balance() -> None:
    book = book_of(np.random.default_rng(1).random((100, 6)).tolist())
    selection = apply(book, unpaired)
    labels = Counter(x.label for x in selection.labelled)
    assert labels[True] == labels[False] == 200
    skewed = apply(book, unpaired, good=0.9, bad=0.5)
    assert not all(x.label for x in skewed.labelled)
    assert all(x.score >= 0.9 if x.label else x.score <= 0.5 for x in skewed.labelled)
    balanced = Counter(x.label for x in apply(book, unpaired, good=0.9, bad=0.5, balance=True).labelled)
    assert balanced[True] == balanced[False]


def test_threshold_by_score_by_quantile_and_within_prompts() -> None:
    book = book_of([[0.1, 0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9, 1.0]])
    assert kept(book, apply(book, threshold, at_least=0.5)) == {4, 5, 6, 7, 8, 9}
    assert kept(book, apply(book, threshold, quantile=0.8)) == {8, 9}
    assert kept(book, apply(book, threshold, quantile=0.8, within=True)) == {4, 9}
    assert kept(book, apply(book, threshold, at_least=0.5, most=1)) == {4, 9}


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.5, 0.77])
def test_quantiles_within_prompts_are_numpys(quantile: float) -> None:
    rows = [np.random.default_rng(k).random(k + 1) for k in range(6)]
    book = book_of([row.tolist() for row in rows])
    expected, start = set(), 0
    for row in rows:
        expected |= {start + int(i) for i in np.flatnonzero(row >= np.quantile(row, quantile) - 1e-12)}
        start += len(row)
    assert kept(book, apply(book, threshold, quantile=quantile, within=True)) == expected


def test_rso_at_small_beta_is_best_of_n_and_at_large_beta_plain_sampling() -> None:
    book = book_of(np.tile([0.1, 0.9, 0.5, 0.3], (800, 1)).tolist())
    greedy = apply(book, rso, beta=1e-4, accept=2)
    assert {i % 4 for i in kept(book, greedy)} == {1, 2}
    flat = Counter(i % 4 for i in kept(book, apply(book, rso, beta=1e6, accept=4)))
    assert all(flat[i] == 800 for i in range(4))


def rso_by_the_paper(rewards: ArrayLike, beta: float, accept: int, rng: np.random.Generator) -> list[int]:
    """Algorithm 1 of arXiv 2309.06657, a loop over one prompt's candidates."""
    left = dict(enumerate(np.asarray(rewards)))
    taken: list[int] = []
    while len(taken) < accept:
        top = max(left.values())
        passed = [k for k, r in left.items() if rng.random() < np.exp((r - top) / beta)]
        for k in passed[: accept - len(taken)]:
            taken.append(k)
            del left[k]
    return taken


def test_rso_accepts_as_often_as_the_papers_loop() -> None:
    rewards, beta, n = [0.2, 0.9, 0.6, 0.0, 0.4], 0.3, 4000
    book = book_of([rewards] * n)
    ours = Counter(i % 5 for i in kept(book, apply(book, rso, beta=beta, accept=2)))
    rng = np.random.default_rng(11)
    theirs = Counter(k for _ in range(n) for k in rso_by_the_paper(rewards, beta, 2, rng))
    for k in range(5):
        assert abs(ours[k] - theirs[k]) < 5 * np.sqrt(2 * n * 0.25), (k, ours, theirs)


def test_a_length_penalty_changes_who_is_best() -> None:
    prompt = Prompt.of("q")
    texts = ["long " * 400, "short"]
    completions = [Completion.of(prompt_id=prompt.id, model="m", text=t, sample=k) for k, t in enumerate(texts)]
    judgments = [
        Judgment.of(prompt_id=prompt.id, completion_ids=(c.id,), judge="g", scores=(s,))
        for c, s in zip(completions, (0.8, 0.7), strict=True)
    ]
    for penalty, winner in ((0.0, 0), (0.1, 1)):
        book = tabulate([prompt], completions, judgments, length_penalty=penalty)
        assert kept(book, apply(book, top_per_prompt)) == {winner}


def test_calibrated_grades_make_soft_pairs() -> None:
    prompt = Prompt.of("q")
    completions = [Completion.of(prompt_id=prompt.id, model="m", text=str(k), sample=k) for k in range(2)]
    judgments = [
        Judgment.of(prompt_id=prompt.id, completion_ids=(c.id,), judge="g", scores=(s,))
        for c, s in zip(completions, (3.0, 1.0), strict=True)
    ]
    (pair,) = apply(tabulate([prompt], completions, judgments, temperature=2.0), best_worst).pairs
    assert pair.probability == pytest.approx(1 / (1 + np.exp(-1)))
    (hard,) = apply(tabulate([prompt], completions, judgments), best_worst).pairs
    assert hard.probability == 1.0


@pytest.mark.parametrize("name", registry.PLUGINS["selection"])
def test_every_rule_of_the_registry_says_what_an_empty_set_is(name: str) -> None:
    plugin = registry.load("selection", name)
    settings: dict[str, dict[str, Any]] = {
        "threshold": {"at_least": 0.0},
        "on_off_policy": {"policy": "m"},
        "delta": {"strong": "a", "weak": "b"},
    }
    book = tabulate([Prompt.of("q")], [], [])
    try:
        selection = run_rule(book, plugin, plugin.Config(**settings.get(name, {})), name)
    except UserError as error:
        assert name in ("on_off_policy", "delta", "contrast", "bradley_terry"), error
    else:
        assert account(selection.outcomes) == {"pair": 0, "tie": 0, "dropped": 1}


def test_failed_completions_and_judgments_stay_out() -> None:
    prompt = Prompt.of("q")
    good = Completion.of(prompt_id=prompt.id, model="m", text="a")
    failed = Completion.of(prompt_id=prompt.id, model="m", text="", sample=1, error="timeout: none came")
    verdicts = [
        Judgment.of(prompt_id=prompt.id, completion_ids=(good.id,), judge="g", error="unparsed: no rating"),
        Judgment.of(prompt_id=prompt.id, completion_ids=(good.id,), judge="g", scores=(0.5,), repeat=1),
    ]
    book = tabulate([prompt], [good, failed], verdicts)
    assert book.completions == (good,)
    assert book.matrix.score.tolist() == [0.5]
    assert apply(book, best_worst).outcomes[0].reason == (
        "dropped: fewer than two completions have a readable judgment"
    )


@pytest.mark.parametrize(
    ("rule", "settings"),
    [(all_pairs, {"most": -1}), (threshold, {"at_least": 0, "most": -1}), (correct_incorrect, {"pairs": 0})],
)
def test_counts_that_count_nothing_are_refused(rule: ModuleType, settings: dict[str, Any]) -> None:
    """They dropped every prompt and said that the rule had found nothing."""
    with pytest.raises(ValueError, match=f"{[*settings][-1]} is"):
        rule.Config(**settings)
