"""Published judging protocols by name: which judge, which settings, which orders, what a tie counts, how verdicts add up.

Scale, orders, ties and aggregation are as published. The wording of the prompts is our own, unless ``template`` names the
upstream file; numbers from our wording compare among themselves and not with a leaderboard.

    table("mt_bench")                       # the settings of the verb "judge"
    PRESETS["mt_bench"].aggregate(judgments)

    mt_bench                single grades 1 to 10, all turns averaged            Zheng et al., arXiv 2306.05685
    mt_bench_pairwise       two orders, a win only if both agree                 the same
    arena_hard_v2           five steps, two orders, a strong win counts thrice   Li et al., arXiv 2406.11939
    alpaca_eval_2           the probability of one token, one order              Dubois et al., arXiv 2404.04475
    ultrafeedback           four aspects 1 to 5, all answers shown together      Cui et al., arXiv 2310.01377
    rewardbench_generative  accuracy, one order, what cannot be read is half     Lambert et al., arXiv 2403.13787
    rewardbench_2_generative  the best of four                                   Malik et al., arXiv 2506.01937
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rlhf_eval.errors import UserError, nearest
from rlhf_eval.records import Judgment

Aggregate = Callable[[Sequence[Judgment]], float]
STRONG = 3
"""How many games a strong win counts in Arena-Hard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One published protocol. In a comparison the first completion is the model's and the second the baseline's."""

    judge: str
    """The plugin."""
    settings: Mapping[str, Any]
    """Its settings."""
    aggregate: Aggregate
    """Judgments to the published number; failures count as the protocol says. Raises UserError where nothing counts."""
    orders: Literal["both", "one"] = "one"
    matches: str = "all"
    with_template: Mapping[str, Any] = field(default_factory=dict)
    """Settings that go with the upstream template in place of our own wording."""
    differs: str = ""
    """Where the stage does not do what was published, and why."""


def table(name: str, *, template: str = "") -> dict[str, Any]:
    """The settings of the verb ``judge`` that carry out a preset; raises UserError on an unknown name."""
    preset = find(name)
    own: dict[str, Any] = {"judge": preset.judge, "orders": preset.orders, "matches": preset.matches, **preset.settings}
    return own | {"template": template, **preset.with_template} if template else own


def find(name: str) -> Preset:
    """The preset called ``name``; raises UserError naming the nearest one."""
    if name not in PRESETS:
        raise UserError(f"there is no preset '{name}'.{nearest(name, PRESETS)}")
    return PRESETS[name]


def mean_grade(judgments: Sequence[Judgment]) -> float:
    """The mean grade over all turns; a grade that could not be read is left out (MT-Bench)."""
    return _mean(judgment.scores[0] for judgment in judgments if judgment.error is None)


def agreed_win_rate(judgments: Sequence[Judgment]) -> float:
    """Share won where both orders must agree: all else, an unreadable verdict included, is a tie (MT-Bench, pairwise)."""
    games: dict[tuple[str, tuple[str, ...], int], list[float]] = {}
    for judgment in judgments:
        key = (judgment.prompt_id, judgment.completion_ids, judgment.repeat)
        games.setdefault(key, []).append(judgment.scores[0] if judgment.error is None else 0.5)
    return _mean(_agreed(shares) for shares in games.values())


def exploded_win_rate(judgments: Sequence[Judgment]) -> float:
    """Mean of the games where a strong win or loss counts as three; unreadable ones are left out (Arena-Hard)."""
    games: list[float] = []
    for judgment in judgments:
        if judgment.error is None:
            strong = ">>" in str(judgment.metadata.get("verdict", ""))
            share = judgment.scores[0]
            games += [0.5 if share == 0.5 else float(share > 0.5)] * (STRONG if strong else 1)
    return _mean(games)


def mean_share(judgments: Sequence[Judgment]) -> float:
    """Mean share of the first completion; unreadable verdicts are left out (AlpacaEval 2)."""
    return _mean(judgment.scores[0] for judgment in judgments if judgment.error is None)


def mean_rating(judgments: Sequence[Judgment]) -> float:
    """Mean over prompts of the mean rating of their answers (UltraFeedback)."""
    return _mean(sum(j.scores) / len(j.scores) for j in judgments if j.error is None)


def accuracy(judgments: Sequence[Judgment]) -> float:
    """Share of pairs whose first completion, the right one, was preferred; a tie or an unreadable verdict is half."""
    return _mean(0.5 if j.error is not None else _hard(j.scores[0]) for j in judgments)


def best_of_accuracy(judgments: Sequence[Judgment]) -> float:
    """Share of prompts whose first completion, the right one, was picked: ``1/k`` in a tie of k, ``1/n`` if unreadable."""
    credits_ = []
    for judgment in judgments:
        if judgment.error is not None:
            credits_.append(1 / len(judgment.completion_ids))
            continue
        best = max(judgment.scores)
        credits_.append(float(judgment.scores[0] == best) / judgment.scores.count(best))
    return _mean(credits_)


def _hard(share: float) -> float:
    return 0.5 if share == 0.5 else float(share > 0.5)


def _agreed(shares: Sequence[float]) -> float:
    hard = {_hard(share) for share in shares}
    return hard.pop() if len(hard) == 1 else 0.5


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    if not known:
        raise UserError("there is no readable judgment to average")
    return sum(known) / len(known)


PRESETS: Mapping[str, Preset] = {
    "mt_bench": Preset(
        judge="grade",
        settings={"low": 1, "high": 10, "decimals": True, "reasoning": True, "reference": True, "soft": False,
                  "temperature": 0.0, "max_tokens": 2048},
        aggregate=mean_grade,
    ),
    "mt_bench_pairwise": Preset(
        judge="pairwise",
        settings={"ties": True, "reasoning": True, "reference": True, "soft": False, "temperature": 0.0,
                  "max_tokens": 2048},
        aggregate=agreed_win_rate,
        orders="both",
        matches="first",
    ),
    "arena_hard_v2": Preset(
        judge="pairwise",
        settings={"steps": True, "reasoning": True, "by_category": True, "soft": False, "temperature": 0.0,
                  "max_tokens": 16_000},
        aggregate=exploded_win_rate,
        orders="both",
        matches="first",
        differs="upstream's interval takes the three copies and the two orders for independent; ours goes by prompt",
    ),
    "alpaca_eval_2": Preset(
        judge="pairwise",
        settings={"bracketed": False, "soft": True, "temperature": 0.0, "max_tokens": 1},
        aggregate=mean_share,
        matches="first",
        with_template={"letters": "mM"},
        differs="upstream draws the order by a hash of the instruction; ours is one order too, with the sides balanced",
    ),
    "ultrafeedback": Preset(
        judge="aspects",
        settings={"together": True, "temperature": 0.0, "max_tokens": 2048},
        aggregate=mean_rating,
        differs="upstream shows the answers in one drawn order; ours in that of the run",
    ),
    "rewardbench_generative": Preset(
        judge="pairwise",
        settings={"reasoning": True, "soft": False, "temperature": 0.0, "max_tokens": 2048},
        aggregate=accuracy,
        differs="upstream draws the order without a seed; ours is one order too, with the sides balanced",
    ),
    "rewardbench_2_generative": Preset(
        judge="rank",
        settings={"best": True, "reasoning": True, "soft": False, "temperature": 0.0, "max_tokens": 2048},
        aggregate=best_of_accuracy,
        differs="upstream moves only the right answer to a drawn place; ours keeps the order of the run",
    ),
}  # fmt: skip
"""Preset name to protocol."""
