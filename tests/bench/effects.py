"""Does training do what it should? Gold reward on held-out prompts of the sandbox, over seeds, with intervals and controls.

    python tests/bench/effects.py --out results                   # all arms, 5 seeds
    python tests/bench/effects.py --out results --arms dpo "dpo, shuffled labels"
    python tests/bench/effects.py --out results --duels           # the judge compares every two checkpoints

Every arm starts from ``sandbox:policy``, the base, and answers the same held-out prompts. Each seed has its own prompts,
for training and held out, so that the seeds are independent; both intervals (95 %) are of differences on the same prompt: t
over the seeds' means, and with prompts as units over all seeds. ``results/answers.jsonl`` keeps the answers of each seed
and arm as they come: what is there is not trained again, and every number is computed from them.

Controls: SFT on an answer drawn at random instead of the best; DPO on pairs whose sides are shuffled; PPO with a reward of
0. Labels of ``sandbox:judge``, which errs, train DPO once with its probabilities and once with its bare verdicts.
``--duels`` asks the judge about every two checkpoints, in both orders, and holds the sign of its win rate against gold's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from answers import (
    Answered,
    answers_of,
    best_worst,
    by_gold,
    by_judge,
    demonstrations,
    heldout,
    judged,
    scorer,
    shuffled,
    training_answers,
)  # fmt: skip

from rlhf_eval.records import Completion, Message, PreferencePair, Prompt
from rlhf_eval.sandbox import checkpoint, world
from rlhf_eval.sandbox.gold import reward
from rlhf_eval.stages.training import Data, Job, Reward
from rlhf_eval.stages.training_files import both_sides
from rlhf_eval.stats.intervals import Interval, mean_interval
from trainers import algorithms, dpo, ppo, reward_model, sft

POLICY = checkpoint("policy")
BASE = "base"
SFT = sft.Config(learning_rate=1e-3, epochs=1, batch_size=16)  # a second pass would sharpen whatever it is shown
DPO = dpo.Config(learning_rate=5e-4, epochs=1, batch_size=16, beta=0.3, nll_weight=0.3)
BARE = replace(DPO, nll_weight=0.0)
KTO = replace(BARE, loss="kto")
REWARD = reward_model.Config(
    optimizer="muon", learning_rate=0.02, weight_decay=0.1, schedule="cosine", warmup=0.05, epochs=2, batch_size=16,
    eval_share=0.0,
)  # fmt: skip
PPO = algorithms.Config(
    algorithm="ppo", prompts=64, samples=4, steps=12, max_new_tokens=32, eval_prompts=0, learning_rate=4e-4,
    critic_learning_rate=1e-3,
)  # fmt: skip
RLOO = replace(PPO, algorithm="rloo", **dict.fromkeys(("advantage", "loss", "aggregate", "whiten_advantages")))


@dataclass(frozen=True)
class Lesson:
    """What the arms of a seed learn from."""

    seed: int
    count: int
    out: Path

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The training prompts."""
        return world.prompts("train", self.count, seed=self.seed)

    @cached_property
    def answered(self) -> list[Answered]:
        """The policy's answers to each of them."""
        return training_answers(self.out, self.count, self.seed)

    @cached_property
    def pairs(self) -> list[PreferencePair]:
        """All pairs that gold tells apart."""
        return by_gold(self.answered)

    @cached_property
    def extremes(self) -> list[PreferencePair]:
        """The best against the worst answer of each prompt."""
        return best_worst(self.pairs)

    @cached_property
    def told(self) -> list[PreferencePair]:
        """Each answer against the next, as the judge has it."""
        return by_judge(self.answered)

    @property
    def job(self) -> Job:
        """From the base, with the seed."""
        return Job(model=str(POLICY), seed=self.seed, quiet=True)


def _sft(lesson: Lesson, out: Path, *, chosen: bool = True) -> None:
    rows = demonstrations(lesson.answered, None if chosen else lesson.seed)
    sft.train(Data(demonstrations=tuple(rows)), out, SFT, lesson.job)


def _dpo(lesson: Lesson, out: Path, pairs: Sequence[PreferencePair], config: dpo.Config = DPO) -> None:
    data = Data(labelled=both_sides(pairs)) if config.loss == "kto" else Data(pairs=tuple(pairs))
    dpo.train(data, out, config, lesson.job)


def _ppo(lesson: Lesson, out: Path, rewarded: Reward, config: algorithms.Config = PPO) -> None:
    ppo.train(Data(prompts=tuple(lesson.prompts)), out, config, replace(lesson.job, reward=rewarded))


def _gold(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [reward(p, c.text).reward for p, c in zip(prompts, completions, strict=True)]


def _nothing(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
    return [0.0] * len(completions)


def _learned(lesson: Lesson, out: Path) -> Reward:
    """A reward model trained on gold's pairs."""
    reward_model.train(Data(pairs=tuple(lesson.pairs)), out, REWARD, lesson.job)
    rewards = scorer(out / "checkpoint")

    def score(prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[float]:
        talks = [(*p.messages, Message("assistant", c.text)) for p, c in zip(prompts, completions, strict=True)]
        return [float(value) for value in rewards(talks)]

    return score


ARMS: Mapping[str, Callable[[Lesson, Path], None]] = {
    "rs-sft": _sft,
    "rs-sft, random selection": lambda lesson, out: _sft(lesson, out, chosen=False),
    "dpo": lambda lesson, out: _dpo(lesson, out, lesson.extremes),
    "dpo, shuffled labels": lambda lesson, out: _dpo(lesson, out, shuffled(lesson.extremes, lesson.seed)),
    "dpo without nll": lambda lesson, out: _dpo(lesson, out, lesson.extremes, BARE),
    "kto": lambda lesson, out: _dpo(lesson, out, lesson.extremes, KTO),
    "dpo, judge, soft": lambda lesson, out: _dpo(lesson, out, lesson.told, BARE),
    "dpo, judge, hard": lambda lesson, out: _dpo(lesson, out, lesson.told, replace(BARE, soft_labels=False)),
    "ppo": lambda lesson, out: _ppo(lesson, out, _gold),
    "ppo, zero reward": lambda lesson, out: _ppo(lesson, out, _nothing),
    "rloo, reward model": lambda lesson, out: _ppo(
        lesson, out, _learned(lesson, out / "reward"), replace(RLOO, steps=6)
    ),
}
CONTRASTS = (
    ("rs-sft", "rs-sft, random selection"), ("dpo", "dpo, shuffled labels"), ("ppo", "ppo, zero reward"),
    ("dpo, judge, soft", "dpo, judge, hard"),
)  # fmt: skip

Answers = Mapping[str, Mapping[int, Mapping[str, Sequence[str]]]]
"""Arm, seed and prompt to its answers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for what is found; what is there is kept")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--prompts", type=int, default=1200, help="training prompts a seed")
    parser.add_argument("--heldout", type=int, default=240, help="held-out prompts a seed")
    parser.add_argument("--arms", nargs="+", choices=tuple(ARMS), default=tuple(ARMS))
    parser.add_argument("--duels", action="store_true", help="train nothing: let the judge compare what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    seeds = range(options.first, options.first + options.seeds)
    if not options.duels:
        for seed in seeds:
            _seed(seed, options.out, options.prompts, options.heldout, options.arms)
    found, prompts = _read(options.out / "answers.jsonl"), _prompts(seeds, options.heldout)
    print(_table(found, prompts))
    if options.duels:
        print(_duels(found, prompts, options.out / "duels.jsonl"))


def _seed(seed: int, out: Path, prompts: int, held: int, arms: Sequence[str]) -> None:
    """Train the arms that the folder does not have, and keep their answers."""
    known = _read(out / "answers.jsonl")
    lesson = Lesson(seed, prompts, out)
    for arm in (BASE, *arms):
        if seed in known.get(arm, {}):
            continue
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            if arm != BASE:
                ARMS[arm](lesson, Path(folder))
            place = POLICY if arm == BASE else Path(folder) / "checkpoint"
            drawn = answers_of(place, heldout(held, seed), 2, seed)
        seconds = round(time.process_time() - start)
        _append(out / "answers.jsonl", {
            "seed": seed, "arm": arm, "cpu_seconds": seconds, "answers": {one.prompt.id: one.texts for one in drawn},
        })  # fmt: skip
        print(f"seed {seed}, {arm}: gold {np.mean([one.rewards for one in drawn]):.3f}, {seconds} s of CPU", flush=True)


def _append(path: Path, row: Mapping[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _read(path: Path) -> dict[str, dict[int, dict[str, list[str]]]]:
    found: dict[str, dict[int, dict[str, list[str]]]] = defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        found[row["arm"]][row["seed"]] = row["answers"]
    return found


def _prompts(seeds: Sequence[int], held: int) -> dict[str, Prompt]:
    return {prompt.id: prompt for seed in seeds for prompt in heldout(held, seed)}


# The numbers ---------------------------------------------------------------------------------------------------------

Values = Mapping[int, Mapping[str, float]]
"""Seed and prompt to a number."""


def _graded(answers: Mapping[int, Mapping[str, Sequence[str]]], prompts: Mapping[str, Prompt]) -> Values:
    return {
        seed: {p: float(np.mean([reward(prompts[p], text).reward for text in texts])) for p, texts in asked.items()}
        for seed, asked in answers.items()
        if next(iter(asked)) in prompts
    }


def _less(a: Values, b: Values) -> Values:
    return {seed: {p: a[seed][p] - b[seed][p] for p in a[seed]} for seed in sorted(a.keys() & b.keys())}


def _intervals(values: Values) -> tuple[Interval, Interval]:
    """Of the mean: t over the seeds, and with prompts as units."""
    rows = [(p, value) for asked in values.values() for p, value in asked.items()]
    by_seed = mean_interval([float(np.mean(list(asked.values()))) for asked in values.values()])
    return by_seed, mean_interval([value for _, value in rows], [p for p, _ in rows])


def _table(found: Answers, prompts: Mapping[str, Prompt]) -> str:
    graded = {arm: _graded(answers, prompts) for arm, answers in found.items()}
    lines = [f"\n{'gold reward on held-out prompts':44} seeds   gold  minus the base: over seeds    over prompts"]
    for arm, values in graded.items():
        lines.append(f"{arm:44} {len(values):5} {_mean(values):6.3f}  {_spread(_less(values, graded[BASE]))}")
    for a, b in CONTRASTS:
        if a in graded and b in graded:
            lines.append(f"{f'{a} - {b}':58} {_spread(_less(graded[a], graded[b]))}")
    lines.append("\nshare of prompts whose two answers are the same words (a sharper policy repeats itself)")
    for arm, answers in found.items():
        lines.append(f"{arm:44} {_same(answers):.3f}")
    return "\n".join(lines)


def _mean(values: Values) -> float:
    return float(np.mean([value for asked in values.values() for value in asked.values()]))


def _spread(values: Values) -> str:
    if not values:
        return "no seed in common"
    cells = [f"{i.value:+.3f} [{i.low:+.3f}, {i.high:+.3f}]" for i in _intervals(values)]
    return "  ".join(cells)


def _same(answers: Mapping[int, Mapping[str, Sequence[str]]]) -> float:
    return float(np.mean([len(set(texts)) == 1 for asked in answers.values() for texts in asked.values()]))


# The judge against gold ----------------------------------------------------------------------------------------------


def _duels(found: Answers, prompts: Mapping[str, Prompt], kept: Path) -> str:
    """For every two checkpoints gold's difference and the judge's win rate, and whether their signs agree."""
    known = {(row["a"], row["b"], row["seed"]): row["wins"] for row in _rows(kept)}
    graded = {arm: _graded(answers, prompts) for arm, answers in found.items()}
    lines, pooled, single = [f"\n{'pair':64} gold over prompts        win rate - .5"], [], []
    for a, b in combinations(found, 2):
        gaps = _less(graded[a], graded[b])
        if not gaps:
            continue  # no seed has both
        wins = {}
        for seed in gaps:
            if (a, b, seed) not in known:
                known[a, b, seed] = _duel(found[a][seed], found[b][seed], prompts)
                _append(kept, {"a": a, "b": b, "seed": seed, "wins": known[a, b, seed]})
            wins[seed] = known[a, b, seed]
        truth, opinion = _intervals(gaps)[1], _intervals(wins)[1]
        pooled.append((truth, opinion))
        single += [(_intervals({s: gaps[s]})[1], _intervals({s: wins[s]})[1]) for s in gaps]
        cells = "  ".join(f"{i.value:+.3f} [{i.low:+.3f}, {i.high:+.3f}]" for i in (truth, opinion))
        lines.append(f"{f'{a} - {b}':64} {cells}  {_verdict(truth, opinion)}")
    for name, duels in (("over all seeds", pooled), ("seed by seed", single)):
        verdicts = [_verdict(*duel) for duel in duels]
        decided = [verdict for verdict in verdicts if verdict != "gold undecided"]
        lines.append(
            f"{name}: {len(decided)} of {len(duels)} pairs decided by gold; signs agree in {decided.count('agree')}, "
            f"the judge is undecided in {decided.count('judge undecided')}, and says the opposite in "
            f"{decided.count('OPPOSITE')}"
        )
    return "\n".join(lines)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _duel(
    a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]], prompts: Mapping[str, Prompt]
) -> dict[str, float]:
    """Prompt to the judge's win rate of ``a`` less .5, its answers met one by one; the same words are a tie."""
    met = [(p, x, y) for p in a for x, y in zip(a[p], b[p], strict=True)]
    asked = [(p, x, y) for p, x, y in met if x != y]
    wins: dict[str, list[float]] = {p: [0.0] * sum(x == y for x, y in zip(a[p], b[p], strict=True)) for p in a}
    for (p, _, _), share in zip(asked, judged([(prompts[p], x, y) for p, x, y in asked]), strict=True):
        wins[p].append(share - 0.5)
    return {p: float(np.mean(values)) for p, values in wins.items()}


def _verdict(truth: Interval, opinion: Interval) -> str:
    """Gold's sign is defined where its interval leaves 0 out; the judge's win rate is then right, wrong or undecided."""
    if truth.low <= 0 <= truth.high:
        return "gold undecided"
    if truth.value * opinion.value > 0:
        return "agree"
    return "judge undecided" if opinion.low <= 0 <= opinion.high else "OPPOSITE"


if __name__ == "__main__":
    main()
