"""Real vLLM beside the transformers door: the same weights must say the same things through all three doors."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.errors import ModelUnavailable, RequestFailed, UserError
from rlhf_eval.models.base import ChatRequest, Model, Reply
from rlhf_eval.records import Completion, Message, Prompt, Sampling

pytestmark = pytest.mark.vllm

SANDBOX = Path(__file__).resolve().parents[2] / "rlhf_eval" / "sandbox"
GREEDY = Sampling(temperature=0, max_tokens=48)


async def ask(model: Model, requests: Sequence[ChatRequest]) -> list[Reply]:
    return await asyncio.gather(*(model.chat(request) for request in requests))


def greedy(prompts: Sequence[Prompt]) -> list[ChatRequest]:
    return [ChatRequest(messages=prompt.messages, sampling=GREEDY) for prompt in prompts]


def texts(replies: Sequence[Reply]) -> list[str]:
    return [choice.text for reply in replies for choice in reply.choices]


def agreement(ours: Sequence[str], theirs: Sequence[str]) -> float:
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    from rlhf_eval.sandbox.world import prompts

    return prompts("heldout", 100)


@pytest.fixture(scope="module")
def plain():
    """The policy through transformers."""
    from rlhf_eval.models.hf import Config, HfModel

    model = HfModel.load(str(SANDBOX / "policy"), config=Config(dtype="float64", batch_size=64, threads=1))
    yield model
    asyncio.run(model.close())


@pytest.fixture(scope="module")
def inside():
    """The policy through vLLM in this process."""
    from rlhf_eval.models.vllm import Config, VllmModel

    settings = Config(dtype="float32", enforce_eager=True, kv_cache_gib=1)
    model = VllmModel.load(str(SANDBOX / "policy"), config=settings)
    yield model
    asyncio.run(model.close())
    with pytest.raises(ModelUnavailable, match="closed"):
        asyncio.run(model.chat(ChatRequest(messages=(Message("user", "a"),))))


@pytest.fixture
def served(serve):
    """The policy through ``vllm serve`` and the openai door."""
    from rlhf_eval.models.openai import OpenAIModel

    return OpenAIModel("policy", serve("policy"))


def test_in_process_says_what_transformers_says(plain, inside, prompts):
    requests = greedy(prompts)
    ours, theirs = asyncio.run(ask(plain, requests)), asyncio.run(ask(inside, requests))
    share = agreement(texts(ours), texts(theirs))
    print(f"\ngreedy texts of vLLM in process and transformers agree on {share:.0%} of {len(prompts)} prompts")
    assert share >= 0.95
    pairs = [(a.usage, b.usage) for a, b in zip(ours, theirs, strict=True) if a.choices == b.choices]
    assert all(a.prompt_tokens == b.prompt_tokens and a.completion_tokens == b.completion_tokens for a, b in pairs)
    assert inside.id.removeprefix("vllm:").split("-")[0] == plain.id.removeprefix("hf:").split("-")[0]


def test_a_server_says_what_transformers_says(plain, served, prompts):
    async def both() -> tuple[list[Reply], list[Reply]]:
        requests = greedy(prompts)
        try:
            return await ask(plain, requests), await ask(served, requests)
        finally:
            await served.close()

    ours, theirs = asyncio.run(both())
    share = agreement(texts(ours), texts(theirs))
    print(f"\ngreedy texts of vllm serve and transformers agree on {share:.0%} of {len(prompts)} prompts")
    assert share >= 0.95


def test_logprobs_agree(plain, inside, prompts):
    requests = [ChatRequest(messages=p.messages, sampling=GREEDY, top_logprobs=5) for p in prompts[:20]]
    gaps = []
    for ours, theirs in zip(asyncio.run(ask(plain, requests)), asyncio.run(ask(inside, requests)), strict=True):
        mine, other = ours.choices[0], theirs.choices[0]
        if mine.text == other.text:
            for a, b in zip(mine.logprobs, other.logprobs, strict=True):
                assert (a.token, len(a.top)) == (b.token, len(b.top))
                gaps += [abs(dict(a.top)[t] - dict(b.top)[t]) for t in dict(a.top) if t in dict(b.top)]
    assert len(gaps) > 100
    assert max(gaps) < 0.01


def test_samples_do_not_depend_on_their_number(inside, prompts):
    sampling = Sampling(temperature=1.0, max_tokens=16, seed=5)
    messages = prompts[3].messages
    whole, first, rest = asyncio.run(
        ask(
            inside,
            [
                ChatRequest(messages=messages, sampling=sampling, n=6),
                ChatRequest(messages=messages, sampling=sampling, n=2),
                ChatRequest(messages=messages, sampling=sampling, n=4, first_sample=2),
            ],
        )
    )
    assert texts([whole]) == texts([first, rest])
    assert len(set(texts([whole]))) > 1


def test_without_seeds_every_draw_is_another(inside, prompts, monkeypatch):
    monkeypatch.setattr(inside, "_seeded", False)
    request = ChatRequest(messages=prompts[3].messages, sampling=Sampling(temperature=1.0, max_tokens=16, seed=5), n=6)
    first, second = asyncio.run(ask(inside, [request, request]))
    assert texts([first]) != texts([second])


def test_more_prompts_than_one_step_reads(inside):
    """Seeded samples of prompts that together are longer than a step of the engine; they end at once, or at max_tokens."""
    sampling = Sampling(temperature=1, max_tokens=4, seed=1)
    words = " ".join(["Sort these: 3 1 2."] * 60)
    requests = [ChatRequest(messages=(Message("user", f"{k} {words}"),), sampling=sampling, n=2) for k in range(60)]
    replies = asyncio.run(ask(inside, requests))
    assert all(len(reply.choices) == 2 for reply in replies)
    assert sum(reply.usage.prompt_tokens for reply in replies) > 20_000


def test_stops_choices_and_limits(inside, prompts):
    messages = prompts[0].messages
    whole = texts(asyncio.run(ask(inside, [ChatRequest(messages=messages, sampling=GREEDY)])))[0]
    stopped = ChatRequest(messages=messages, sampling=Sampling(temperature=0, stop=(whole[1],)), top_logprobs=2)
    chosen = ChatRequest(messages=messages, choices=("[[A]]", "[[B]]"), n=8, top_logprobs=5)
    short = ChatRequest(messages=messages, sampling=Sampling(temperature=0, max_tokens=1))
    cut, picked, brief = asyncio.run(ask(inside, [stopped, chosen, short]))
    assert cut.choices[0].text == whole[: whole.index(whole[1])]
    assert set(texts([picked])) <= {"[[A]]", "[[B]]"}
    assert {choice.finish_reason for choice in picked.choices} == {"stop"}
    assert brief.choices[0].finish_reason == "length"
    with pytest.raises(RequestFailed, match="context_overflow"):
        asyncio.run(ask(inside, [ChatRequest(messages=(Message("user", "7 " * 2000),))]))
    with pytest.raises(UserError, match="no reward head"):
        asyncio.run(inside.score([messages]))


async def soft_labels(
    model: Model, shown: list[tuple[Prompt, list[Completion]]], **settings: Any
) -> list[float | None]:
    from judges.pairwise import Config, judge

    verdicts = await asyncio.gather(*(judge(prompt, pair, model, Config(**settings)) for prompt, pair in shown))
    return [None if verdict.error else verdict.scores[0] for verdict in verdicts]


async def drawn_pairs(model: Model, prompts: Sequence[Prompt]) -> list[tuple[Prompt, list[Completion]]]:
    """Two answers of the policy to each prompt, shown in both orders."""
    requests = [ChatRequest(messages=p.messages, sampling=Sampling(max_tokens=48, seed=1), n=2) for p in prompts]
    shown = [
        (prompt, [completion(prompt, choice.text, k) for k, choice in enumerate(reply.choices)])
        for prompt, reply in zip(prompts, await ask(model, requests), strict=True)
    ]
    return shown + [(prompt, pair[::-1]) for prompt, pair in shown]


def compared(what: str, here: list[float | None], there: list[float | None]) -> float:
    """Mean distance of soft labels; a verdict must be readable through both doors or through neither."""
    both = [(a, b) for a, b in zip(here, there, strict=True) if a is not None and b is not None]
    gap = sum(abs(a - b) for a, b in both) / len(both)
    print(f"\n{what}: mean gap {gap:.6f} over {len(both)} of {len(here)}")
    assert [a is None for a in here] == [b is None for b in there]
    assert len(both) >= 0.9 * len(here)
    assert sum(0.001 < a < 0.999 for a, _ in both) > 10, "hard labels would agree too easily"
    return gap


def test_judges_agree_on_soft_labels(plain, serve, prompts):
    from rlhf_eval.models import hf
    from rlhf_eval.models.openai import OpenAIModel

    local = hf.HfModel.load(str(SANDBOX / "judge"), config=hf.Config(dtype="float64", batch_size=64, threads=1))

    async def labels() -> tuple[list[float | None], list[float | None]]:
        shown = await drawn_pairs(plain, prompts[:50])
        far = OpenAIModel("judge", serve("judge"))
        try:
            return await soft_labels(local, shown), await soft_labels(far, shown)
        finally:
            await far.close()
            await local.close()

    assert compared("soft labels of the served judge and of transformers", *asyncio.run(labels())) < 0.02


def test_constrained_labels_agree(plain, served, prompts):
    async def labels() -> tuple[list[float | None], list[float | None]]:
        shown = await drawn_pairs(plain, prompts[:20])
        try:
            settings = {"constrain": True, "max_tokens": 16}
            return await soft_labels(plain, shown, **settings), await soft_labels(served, shown, **settings)
        finally:
            await served.close()

    assert compared("constrained labels of the served policy and of transformers", *asyncio.run(labels())) < 0.02


def test_rewards_agree(prompts, tmp_path):
    import torch
    from transformers import AutoConfig, AutoTokenizer, LlamaForSequenceClassification

    from rlhf_eval.models import hf, vllm

    torch.manual_seed(0)
    shape = AutoConfig.from_pretrained(SANDBOX / "policy", num_labels=1, initializer_range=0.2)
    LlamaForSequenceClassification(shape).save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(SANDBOX / "policy").save_pretrained(tmp_path / "reward")
    plain = hf.HfModel.load(str(tmp_path / "reward"), config=hf.Config(dtype="float64", threads=1))
    inside = vllm.VllmModel.load(
        str(tmp_path / "reward"), config=vllm.Config(dtype="float32", enforce_eager=True, kv_cache_gib=1)
    )
    talks = [(*prompt.messages, Message("assistant", prompt.reference or "")) for prompt in prompts[:40]]
    ours, theirs = asyncio.run(plain.score(talks)), asyncio.run(inside.score(talks))
    with pytest.raises(UserError, match="cannot chat"):
        asyncio.run(ask(inside, greedy(prompts[:1])))
    asyncio.run(plain.close())
    asyncio.run(inside.close())
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert max(ours) - min(ours) > 0.1


def test_logprobs_of_given_answers_agree(plain, inside, prompts):
    talks = [(*prompt.messages, Message("assistant", prompt.reference or "")) for prompt in prompts[:40]]
    ours, theirs = asyncio.run(plain.logprobs(talks)), asyncio.run(inside.logprobs(talks))
    assert theirs == pytest.approx(ours, abs=1e-2)
    assert max(ours) - min(ours) > 1


def test_an_adapter_is_applied(plain, prompts, tmp_path):
    from rlhf_eval.models import hf, vllm

    adapter, merged = adapted(tmp_path)
    whole = hf.HfModel.load(str(merged), config=hf.Config(dtype="float64", threads=1))
    settings = vllm.Config(dtype="float32", enforce_eager=True, kv_cache_gib=1, lora=str(adapter))
    inside = vllm.VllmModel.load(str(SANDBOX / "policy"), config=settings)
    requests = greedy(prompts[:40])
    base, ours, theirs = (texts(asyncio.run(ask(model, requests))) for model in (plain, whole, inside))
    asyncio.run(whole.close())
    asyncio.run(inside.close())
    assert "+lora-" in inside.id
    assert agreement(ours, theirs) >= 0.95
    assert agreement(base, ours) < 0.9


def adapted(folder: Path) -> tuple[Path, Path]:
    """A random LoRA adapter of rank 4 for the policy, and the policy with the adapter merged into it."""
    import json
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(1)
    weights = {name: tensor.float() for name, tensor in load_file(SANDBOX / "policy" / "model.safetensors").items()}
    parts = {}
    for name in [n for n in weights if n.endswith(("q_proj.weight", "v_proj.weight"))]:
        rows, columns = weights[name].shape
        down, up = torch.randn(4, columns) / columns**0.5, torch.randn(rows, 4) * 0.1
        stem = "base_model.model." + name.removesuffix(".weight")
        parts |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        weights[name] = weights[name] + 2.0 * up @ down
    shutil.copytree(SANDBOX / "policy", folder / "merged")
    save_file(weights, folder / "merged" / "model.safetensors", metadata={"format": "pt"})
    (folder / "adapter").mkdir()
    save_file(parts, folder / "adapter" / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    return folder / "adapter", folder / "merged"


def completion(prompt: Prompt, text: str, sample: int) -> Completion:
    return Completion.of(prompt_id=prompt.id, model="policy", text=text, sample=sample)
