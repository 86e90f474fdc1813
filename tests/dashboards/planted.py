"""Stores whose truth is known, run by run: comparisons with gold, grades, pairs with a card, a training that bends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rlhf_eval.audit import card as cards
from rlhf_eval.audit.evidence import gather
from rlhf_eval.audit.findings import audit
from rlhf_eval.records import Completion, Estimate, Judgment, Outcome, PreferencePair, Prompt, Record, Usage
from rlhf_eval.stages.card import card_of
from rlhf_eval.stages.sheet import sheet_of
from rlhf_eval.store.runs import Store

JUDGE, GRADER = "pairwise/planted#1a2b3c4d", "reward_model/planted-rm#5e6f7a8b"
CATEGORIES = ("maths", "lists")


@dataclass
class Planted:
    """A store, and what was put into it."""

    store: Store
    prompts: list[Prompt] = field(default_factory=list)
    answers: dict[str, list[Completion]] = field(default_factory=dict)
    """Model to its answers, aligned with the prompts."""
    gold: dict[str, float] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    """What a run is to its id."""

    def put(
        self, name: str, verb: str, records: Mapping[str, Sequence[Record]], *, inputs: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None, status: str = "done", counts: Mapping[str, int] | None = None,
        cost: float = 0.0, message: str = "", command: str = "",
    ) -> str:  # fmt: skip
        """Write one run; ``status`` running leaves it as a killed process does."""
        versions = {"command": command} if command else {}
        run = self.store.begin(verb, {**(config or {}), "name": name}, inputs=inputs or {}, seed=0, versions=versions)
        for table, rows in records.items():
            for row in rows:
                run.append(table, row)
        run.finish(status, counts or {}, Usage(cost=cost, prompt_tokens=1000), message)  # type: ignore[arg-type]
        self.runs[name] = run.run.id
        return run.run.id


def comparisons(path: Path, *, prompts: int = 40, bias: float = 0.1, seed: int = 0) -> Planted:
    """Two models, new and old: gold grades, and a judge that follows gold, leans to the first place and pays for length."""
    rng = np.random.default_rng(seed)
    world = Planted(Store(path))
    world.prompts = [
        Prompt.of(f"Question {seed}/{k}?", category=CATEGORIES[k % 2], source="planted") for k in range(prompts)
    ]
    for model, quality in (("new", 0.62), ("old", 0.5)):
        world.answers[model] = []
        for prompt in world.prompts:
            worth = float(np.clip(rng.normal(quality, 0.2), 0, 1))
            text = " ".join(["word"] * int(rng.integers(3, 30))) + f" {worth:.3f}"
            answer = Completion.of(prompt_id=prompt.id, model=model, text=text, usage=Usage(completion_tokens=20))
            world.gold[answer.id] = worth
            world.answers[model].append(answer)
    everything = [c for answers in world.answers.values() for c in answers]
    load = world.put("load", "load", {"prompts": world.prompts})
    generate = world.put("generate", "generate", {"completions": everything}, inputs={"prompts": load}, cost=0.5)
    verdicts = []
    for a, b in zip(world.answers["new"], world.answers["old"], strict=True):
        gap = 5 * (world.gold[a.id] - world.gold[b.id]) + 0.3 * math.log2(len(a.text) / len(b.text))
        for order in ((0, 1), (1, 0)):
            lean = 5 * bias * (1 if order == (0, 1) else -1)
            share = 1 / (1 + math.exp(-(gap + lean + rng.normal(0, 0.3))))
            verdicts.append(
                Judgment.of(
                    prompt_id=a.prompt_id, completion_ids=(a.id, b.id), judge=JUDGE, order=order,
                    scores=(share, 1 - share), rationale="Because of its words. [[A]]",
                    usage=Usage(prompt_tokens=100, completion_tokens=5, cost=0.001, seconds=0.2),
                )
            )  # fmt: skip
    # One reply could not be read: a failure, never a tie.
    first = verdicts[0]
    verdicts[0] = Judgment.of(
        prompt_id=first.prompt_id, completion_ids=first.completion_ids, judge=JUDGE, order=first.order,
        error="unparsed: no verdict",
    )  # fmt: skip
    outcomes = [Outcome.of(p.id, "judge", "done") for p in world.prompts[1:]]
    outcomes.append(Outcome.of(world.prompts[0].id, "judge", "failed", reason="timeout: no reply in 60 s"))
    counts = {"total": prompts, "done": prompts - 1, "failed": 1, "skipped": 0}
    world.put(
        "judge", "judge", {"judgments": verdicts, "outcomes": outcomes}, inputs={"completions": generate}, counts=counts,
        cost=0.08, command="rlhf-eval judge --judge-model planted",
    )  # fmt: skip
    gold = [
        Judgment.of(prompt_id=c.prompt_id, completion_ids=(c.id,), judge="gold", scores=(world.gold[c.id],))
        for c in everything
    ]
    world.put("gold", "judge", {"judgments": gold}, inputs={"completions": generate})
    return world


def audited(world: Planted) -> str:
    """An audit of the planted judge from what is stored; returns its run."""
    told = world.store.read(Judgment)
    completions = {c.id: c for c in world.store.read(Completion)}
    gold = [j for j in told if j.judge == "gold"]
    evidence = gather(JUDGE, told, completions, {"gold": gold})
    findings = audit(evidence)
    run = world.put("audit", "audit", {}, inputs={"run0": world.runs["judge"]}, config={"judge": JUDGE})
    card = cards.JudgeCard(judge=JUDGE, run=run, findings=findings, prompts=len(world.prompts), judgments=len(told))
    (world.store.folder(run) / "card.json").write_bytes(cards.to_json(card))
    return run


def graded(world: Planted, *, samples: int = 8, seed: int = 1) -> None:
    """Eight answers of one model a prompt, graded by gold and by a reward model that pays for length beside quality."""
    rng = np.random.default_rng(seed)
    answers, told = [], []
    for prompt in world.prompts:
        for k in range(samples):
            worth, length = float(rng.random()), int(rng.integers(2, 40))
            answer = Completion.of(prompt_id=prompt.id, model="sampler", text=f"{'w ' * length}{worth:.4f}", sample=k)
            answers.append(answer)
            score = 4 * worth + 0.1 * length + float(rng.normal(0, 0.5))
            for judge, value in ((GRADER, score), ("gold", worth)):
                told.append(Judgment.of(prompt_id=prompt.id, completion_ids=(answer.id,), judge=judge, scores=(value,)))
    run = world.put("samples", "generate", {"completions": answers}, inputs={"prompts": world.runs["load"]})
    world.put("graded", "judge", {"judgments": told}, inputs={"completions": run})


def paired(world: Planted, *, name: str = "pairs", turned: bool = False) -> str:
    """A preference set of the planted verdicts with its data card; ``turned`` chooses the other side."""
    told = [j for j in world.store.read(Judgment) if j.judge == JUDGE and j.scores]
    by_prompt: dict[str, list[Judgment]] = {}
    for judgment in told:
        by_prompt.setdefault(judgment.prompt_id, []).append(judgment)
    pairs = []
    for prompt, a, b in zip(world.prompts, world.answers["new"], world.answers["old"], strict=True):
        own = by_prompt.get(prompt.id, [])
        share = float(np.mean([j.scores[0] for j in own])) if own else 0.5
        if share == 0.5:
            continue
        first = (share > 0.5) != turned
        chosen, rejected = (a, b) if first else (b, a)
        pairs.append(
            PreferencePair.of(
                prompt=prompt, chosen=chosen, rejected=rejected, probability=max(share, 1 - share),
                margin=abs(2 * share - 1), labeler=JUDGE, rule="best_worst", judgment_ids=tuple(j.id for j in own),
                metadata={"chosen_model": chosen.model, "rejected_model": rejected.model},
            )
        )  # fmt: skip
    counts = {"total": len(world.prompts), "done": len(pairs), "failed": 0, "skipped": 0, "pairs": len(pairs)}
    run = world.put(
        name, "pairs", {"pairs": pairs}, inputs={"judgments": world.runs["judge"]}, config={"rule": "best_worst"},
        counts=counts,
    )  # fmt: skip
    card = card_of(sheet_of(pairs), name=run, about={"rule": "best_worst", "judges": [JUDGE]})
    (world.store.folder(run) / "card.json").write_bytes(msgspec.json.encode(card))
    return run


def trained(
    world: Planted, *, a: float = 0.4, b: float = 0.22, steps: Sequence[int] = (0, 10, 20, 30, 40, 50, 60), seed: int = 2,
    status: str = "done", gold: bool = True,
) -> str:  # fmt: skip
    """A PPO run whose gold gain is ``d (a - b log d)`` at ``d = step / 10``, while the proxy only rises."""
    rng = np.random.default_rng(seed)
    config = {"trainer": "ppo", "model": "sandbox:policy#00000000", "b": b, "steps": list(steps), "with_gold": gold}
    inputs = {"prompts": world.runs["load"], "pairs": world.runs.get("pairs", "pairs.jsonl")}
    run = world.store.begin("train", config, inputs=inputs, seed=0, versions={})
    for prompt in world.prompts:
        run.append("prompts", prompt)
    base = {p.id: float(rng.normal(0.3, 0.1)) for p in world.prompts}
    for step in range(steps[-1] + 1):
        d = step / 10
        row = {"step": step, "seconds": float(step), "tokens": 100 * step}
        run.metric({**row, "split": "train", "loss": 1 / (1 + step), "reward": 0.1 * d, "kl": d**2, "entropy": 2.0})
        if step not in steps:
            continue
        gains = []
        for prompt in world.prompts:
            gain = d * (a - b * math.log(d)) if d else 0.0
            worth = base[prompt.id] + gain + float(rng.normal(0, 0.05))
            gains.append(worth)
            told = {"step": step, "reward": 0.2 * d + float(rng.normal(0, 0.05)), "kl": d**2}
            run.append(
                "completions",
                Completion.of(
                    prompt_id=prompt.id, model=f"ppo@{step}", text=f"answer of step {step}",
                    metadata={**told, **({"gold": worth} if gold else {})},
                ),
            )  # fmt: skip
        known = {"gold": float(np.mean(gains))} if gold else {}
        run.metric({**row, "split": "eval", "reward": 0.2 * d, "kl": d**2, **known})
    run.finish(status, {"total": len(world.prompts), "steps": steps[-1]}, Usage(), "")  # type: ignore[arg-type]
    world.runs["train"] = run.run.id
    return run.run.id


def evaluated(world: Planted) -> str:
    """An evaluation of a checkpoint of the training against old, and a stored best-of-n bend."""
    last = [c for c in world.store.read(Completion, run=world.runs["train"]) if c.model.endswith("@20")]
    old = {c.prompt_id: c for c in world.answers["old"]}
    told = [
        Judgment.of(
            prompt_id=c.prompt_id, completion_ids=(c.id, old[c.prompt_id].id), judge=JUDGE,
            scores=(0.7, 0.3) if k % 4 else (0.2, 0.8),
        )
        for k, c in enumerate(last)
    ]  # fmt: skip
    about = {"model": "sampler", "proxy": GRADER, "judge": "gold"}
    made = [
        Estimate(
            name="bend", value=0.3, low=0.2, high=0.4, n=40, method="planted",
            settings={**about, "a": 0.5, "best_n": 6.0, "best_n_low": 4.0, "best_n_high": 9.0},
        )
    ]  # fmt: skip
    made += [
        Estimate(
            name=f"gold of the best of {n}", value=v, low=v - 0.02, high=v + 0.02, n=40, settings={**about, "n": n}
        )
        for n, v in ((1, 0.3), (4, 0.5), (16, 0.45), (64, 0.3))
    ]
    made += [
        Estimate(name=f"KL of the best of {n}", value=v, low=v, high=v, n=40, settings={**about, "n": n, "bound": v})
        for n, v in ((1, 0.0), (4, 0.64), (16, 1.83), (64, 3.17))
    ]
    return world.put(
        "evaluate", "evaluate", {"judgments": told, "estimates": made, "completions": last},
        inputs={"ppo@20": world.runs["train"], "prompts": world.runs["load"]}, config={"benchmark": "overoptimization"},
    )  # fmt: skip


def full(path: Path) -> Planted:
    """Everything, so that every page has something to show."""
    world = comparisons(path)
    graded(world)
    paired(world)
    paired(world, name="turned", turned=True)
    trained(world)
    evaluated(world)
    audited(world)
    return world
