"""PPO through the verb: judges as rewards, mixtures, comparing judges, checkpoints by name, resuming and what is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Choice, Reply
from rlhf_eval.records import Completion, Prompt, Verdict
from rlhf_eval.sandbox.world import prompts as sandbox
from rlhf_eval.stages.judge import Design, Instrument
from rlhf_eval.verbs.flow import Bench
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.rewards import Opponent, Part, reward_of
from rlhf_eval.verbs.session import Options, Session
from rlhf_eval.verbs.train import TrainResult, train

TABLE: dict[str, Any] = {
    "trainer": "ppo", "model": "sandbox:policy", "algorithm": "grpo", "steps": 2, "prompts": 4, "samples": 2,
    "max_new_tokens": 8, "eval_prompts": 4, "eval_every": 1,
}  # fmt: skip


def run(place: Path, table: Mapping[str, Any], **options: Any) -> tuple[TrainResult, Session]:
    session = Session(Options(store=place, quiet=True, **options))

    async def work() -> TrainResult:
        try:
            prompts = load(session, {"source": "sandbox", "split": "train", "limit": 24})
            return await train(session, {"data": prompts.run.id, **table})
        finally:
            await session.close()

    return asyncio.run(work()), session


def part(judge: Any, *, arity: int = 1, weight: float = 1.0) -> Part:
    instrument = Instrument(judge=judge, config=None, model=None, arity=arity, name="told")
    return Part(bench=Bench(instrument, Design(), {}), weight=weight)


def graded(parts: Sequence[Part], texts: Sequence[str], opponent: Opponent | None = None) -> list[float | None]:
    """The rewards of answers to one prompt, asked for from another thread as a trainer does."""
    prompt = sandbox("train", 1)[0]
    answers = [Completion.of(prompt_id=prompt.id, model="m", text=t, sample=i) for i, t in enumerate(texts)]

    async def work() -> Sequence[float | None]:
        reward = reward_of(parts, opponent, asyncio.get_running_loop())
        return await asyncio.to_thread(reward, [prompt] * len(texts), answers)

    return list(asyncio.run(work()))


async def length(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
    return Verdict(scores=tuple(float(len(c.text)) for c in shown))


async def unsure(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
    if shown[0].text == "down":
        raise RequestFailed("server", "gone")
    return Verdict(error="unparsed: hm") if shown[0].text == "odd" else Verdict(scores=(1.0,))


async def first(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
    """Prefers what stands first by .1, and the longer answer by .2."""
    lead = 0.5 + 0.1 + (0.2 if len(shown[0].text) > len(shown[1].text) else -0.2)
    return Verdict(scores=(lead, 1 - lead))


def test_a_mixture_is_the_weighted_sum_of_its_judges():
    assert graded([part(length, weight=0.5), part(unsure, weight=2.0)], ["a", "abc"]) == [2.5, 3.5]


def test_an_answer_without_a_grade_has_no_reward():
    assert graded([part(length), part(unsure)], ["odd", "down", "abc"]) == [None, None, 4.0]
    with pytest.raises(UserError, match="none of 2 answers: unparsed: hm"):
        graded([part(unsure)], ["odd", "down"])


def test_the_same_words_are_graded_once():
    asked: list[str] = []

    async def counting(prompt: Prompt, shown: Sequence[Completion], model: Any, config: Any) -> Verdict:
        asked.append(shown[0].text)
        return await length(prompt, shown, model, config)

    assert graded([part(counting)], ["a", "bb", "a", "a"]) == [1, 2, 1, 1]
    assert asked == ["a", "bb"]


class Other:
    """A model that always answers the same."""

    name = id = "other"

    async def chat(self, request: ChatRequest) -> Reply:
        return Reply(choices=(Choice(text="four"),))


def test_a_comparing_judge_sees_the_starting_model_s_answer_in_both_orders():
    opponent = Opponent(model=Other(), max_tokens=8)
    found = graded([part(first, arity=2)], ["longer", "no"], opponent)
    assert found == pytest.approx([0.7, 0.3])  # the lead of the first place is gone


def test_ppo_learns_from_judges_and_stores_what_it_drew(tmp_path):
    reward = [{"judge": "gold", "weight": 0.8}, {"judge": "length", "weight": 0.001}]
    result, session = run(tmp_path, {**TABLE, "reward": reward})
    rows = session.store.metrics(result.run.id)
    assert [(row["step"], row["split"]) for row in rows] == [
        (0, "eval"), (1, "train"), (1, "eval"), (2, "train"), (2, "eval"),
    ]  # fmt: skip
    drawn = session.store.read(Completion, run=result.run.id)
    assert {c.model for c in drawn} == {"ppo@0", "ppo@1", "ppo@2"}
    assert {c.prompt_id for c in drawn} <= {p.id for p in session.store.read(Prompt, run=result.run.id)}
    assert result.metrics is not None
    assert any("gold of 4 held-out prompts" in note and "95 %" in note for note in result.metrics.notes)
    assert result.checkpoint is not None
    card = (result.checkpoint / "README.md").read_text()
    assert "0.8 gold" in card
    assert result.run.config["reward"][0]["weight"] == 0.8
    again, _ = run(tmp_path, {**TABLE, "reward": reward})
    assert again.resumed
    assert again.run.id == result.run.id


def test_critic_and_reference_are_named_like_models(tmp_path):
    first_, _ = run(tmp_path, {**TABLE, "steps": 1, "reward": {"judge": "gold"}})
    named = f"run:{first_.run.id}"
    table = {**TABLE, "algorithm": "ppo", "steps": 1, "critic": "sandbox:policy", "reference": named}
    result, session = run(tmp_path, {**table, "reward": {"judge": "gold"}})
    assert result.run.config["reference"].startswith(first_.run.id)
    assert result.run.config["critic"].startswith("sandbox:policy#")
    rows = session.store.metrics(result.run.id)
    assert rows[0]["kl"] > 0  # the reference is another model than the one that training starts from


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, "needs a reward"),
        ([], "needs a reward"),
        ({"judge": "golf"}, "no judge 'golf'"),
        ({"judge": "gold", "weight": "much"}, "weight is 'much'"),
        ({"judge": "pairwise"}, "needs a model"),
    ],
)
def test_rewards_that_are_none_are_refused_in_one_line(tmp_path, told, words):
    with pytest.raises(UserError, match=words) as caught:
        run(tmp_path, {**TABLE, "reward": told})
    assert "\n" not in str(caught.value)


def test_a_dry_run_says_what_would_be_drawn(tmp_path):
    result, session = run(tmp_path, {**TABLE, "reward": {"judge": "gold"}}, dry_run=True)
    assert result.metrics is None
    assert any("16 completions" in note for note in result.plan.notes)
    assert not session.store.runs("train")


def test_rows_of_steps_that_were_done_twice_count_once(tmp_path):
    session = Session(Options(store=tmp_path))
    with session.store.begin("train", {}, inputs={}, seed=0, versions={}) as writer:
        for step, loss in ((1, 0.5), (2, 0.4), (2, 0.3), (3, 0.2)):  # killed after step 2, resumed from step 1
            writer.metric({"step": step, "split": "train", "loss": loss})
        writer.metric({"step": 2, "split": "eval", "loss": 0.9})
    rows = session.store.metrics(writer.run.id)
    assert [(row["step"], row["split"], row["loss"]) for row in rows] == [
        (1, "train", 0.5), (2, "train", 0.3), (3, "train", 0.2), (2, "eval", 0.9),
    ]  # fmt: skip
