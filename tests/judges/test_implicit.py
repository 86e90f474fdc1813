"""The reward that a policy implies, against log-probabilities from transformers itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from judges.implicit import Config, judge, models
from rlhf_eval.errors import RequestFailed, UserError
from rlhf_eval.models.base import Conversation
from rlhf_eval.models.mock import MockModel
from rlhf_eval.records import Completion, Judgment, Message, Prompt
from rlhf_eval.verbs.flow import judge as judge_verb
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.session import Options, Session

PROMPT = Prompt.of([Message("user", "hi"), Message("assistant", "hello"), Message("user", "2+2?")])
ANSWER = Completion.of(prompt_id=PROMPT.id, model="m", text="four")


class Reader(MockModel):
    """Gives every answer the same log-probability."""

    def __init__(self, logp: float) -> None:
        super().__init__("echo")
        self.logp, self.seen = logp, []

    async def logprobs(self, conversations: Sequence[Conversation]) -> list[float]:
        self.seen.extend(conversations)
        return [self.logp] * len(conversations)


def test_the_reward_is_beta_times_the_log_ratio() -> None:
    policy, reference = Reader(-2.0), Reader(-5.0)
    config = Config(reference="hf:sft", beta=0.2)
    verdict = asyncio.run(judge(PROMPT, (ANSWER,), {"": policy, "hf:sft": reference}, config))
    assert verdict.scores == (pytest.approx(0.2 * 3.0),)
    assert verdict.metadata == {"policy": -2.0, "reference": -5.0}
    assert policy.seen == reference.seen == [(*PROMPT.messages, Message("assistant", "four"))]


def test_both_models_can_be_named() -> None:
    assert models(Config(reference="hf:sft")) == ("hf:sft",)
    assert models(Config(policy="hf:dpo", reference="hf:sft")) == ("hf:dpo", "hf:sft")


@pytest.mark.parametrize(
    ("settings", "words"), [({"beta": 0.0}, "must be positive"), ({"policy": "a", "reference": "a"}, "same model")]
)
def test_settings_that_cannot_be_meant(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**settings)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="reference=sandbox:policy"):
        models(Config())
    with pytest.raises(UserError, match="needs the trained model"):
        asyncio.run(judge(PROMPT, (ANSWER,), {"hf:sft": Reader(0)}, Config(reference="hf:sft")))
    with pytest.raises(UserError, match="mock:echo does not tell how likely"):
        asyncio.run(judge(PROMPT, (ANSWER,), {"": MockModel("echo"), "r": Reader(0)}, Config(reference="r")))


def run(work: Any) -> Any:
    return asyncio.run(work)


@pytest.fixture
def graded(tmp_path: Path) -> Session:
    """Two answers to one question, loaded; the models are the sandbox's two, which share a tokenizer."""
    rows = [{"prompt": "What is 2 plus 3?", "completion": text} for text in ("5", "The answer is 6.")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    session = Session(Options(store=tmp_path / "store", quiet=True))
    load(session, {"source": "trl", "path": str(tmp_path / "rows.jsonl")})
    return session


def by_hand(folder: str, question: str, answer: str) -> float:
    """Sum of the log-probabilities of the answer's tokens and the end mark, one row, no padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import rlhf_eval

    place = Path(rlhf_eval.__file__).with_name("sandbox") / folder
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float64).eval()
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
    )
    start = tokenizer(asked, add_special_tokens=False)["input_ids"]
    end = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids = torch.tensor([start + end])
    with torch.inference_mode():
        logps = model(ids).logits.log_softmax(-1)[0, len(start) - 1 : -1]
    return float(logps.gather(1, torch.tensor(end)[:, None]).sum())


def test_the_verb_opens_both_models_and_caches_what_they_read(graded: Session) -> None:
    table = {"judge": "implicit", "judge_model": "sandbox:judge", "reference": "sandbox:policy", "beta": 0.5}

    async def twice() -> tuple[list[Judgment], int]:
        result = await judge_verb(graded, table)
        told = graded.read(Judgment, result.run)
        graded.options = Options(store=graded.options.store, quiet=True, fresh=True)
        await judge_verb(graded, table)
        cached = graded.doors["sandbox:policy"].traffic.cached
        await graded.close()
        return told, cached

    told, cached = run(twice())
    assert cached == 2
    texts = {c.id: c.text for c in graded.store.read(Completion)}
    for judgment in told:
        answer = texts[judgment.completion_ids[0]]
        policy, reference = (by_hand(folder, "What is 2 plus 3?", answer) for folder in ("judge", "policy"))
        assert judgment.metadata == {"policy": pytest.approx(policy), "reference": pytest.approx(reference)}
        assert judgment.scores[0] == pytest.approx(0.5 * (policy - reference))
    assert len(told) == 2


def test_a_conversation_without_an_answer_cannot_be_read() -> None:
    from rlhf_eval.models import open_model

    model = open_model("sandbox:policy")
    with pytest.raises(RequestFailed, match="needs a conversation that ends with one"):
        run(model.logprobs([PROMPT.messages]))
    run(model.close())
