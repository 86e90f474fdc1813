"""The transformers door against transformers itself: generate, plain forward passes, and its own promises."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from rlhf_eval.errors import ModelUnavailable, RequestFailed, UserError  # noqa: E402
from rlhf_eval.models.base import ChatRequest, Reply  # noqa: E402
from rlhf_eval.models.hf import Config, HfModel  # noqa: E402
from rlhf_eval.records import Message, Sampling  # noqa: E402

GREEDY = Sampling(temperature=0, max_tokens=12)
RAGGED = [" ".join(["name three primes"] * n) for n in (1, 7, 2, 12, 3, 1, 5, 4, 9, 2)]


def said(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def ask(model: HfModel, *requests: ChatRequest) -> list[Reply]:
    async def together() -> list[Reply]:
        return await asyncio.gather(*(model.chat(request) for request in requests))

    return asyncio.run(together())


def texts(reply: Reply) -> list[str]:
    return [choice.text for choice in reply.choices]


@pytest.fixture(scope="module")
def model(chatter: Path):
    loaded = HfModel.load(str(chatter), config=Config(dtype="float64", device="cpu", batch_size=6))
    yield loaded
    asyncio.run(loaded.close())


@pytest.fixture(scope="module")
def reference(chatter: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(chatter, dtype=torch.float64).eval()


def prompt_ids(model: HfModel, text: str) -> list[int]:
    return model._tokens.render(said(text), answer=True)


def test_greedy_equals_generate_on_ragged_prompts(model, reference):
    requests = [
        ChatRequest(messages=said(t), sampling=Sampling(temperature=0, max_tokens=8 + i)) for i, t in enumerate(RAGGED)
    ]
    for text, request, reply in zip(RAGGED, requests, ask(model, *requests), strict=True):
        ids = prompt_ids(model, text)
        whole = reference.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=request.sampling.max_tokens,
            do_sample=False,
        )
        expected = whole[0, len(ids) :].tolist()
        assert reply.choices[0].text == model._tokens.decode([t for t in expected if t != 1])
        assert reply.choices[0].finish_reason == ("stop" if expected[-1] == 1 else "length")
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (len(ids), len(expected))


def test_a_shared_beginning_changes_nothing(model, reference):
    head = "sort the letters of banana, then reverse them; " * 3
    asked = [head + tail for tail in ("one", "two and three", "", "a much longer ending than all of the others")]
    replies = ask(model, *(ChatRequest(messages=said(t), sampling=GREEDY) for t in asked))
    assert model._worker._engine._other._reader._kept[0], "the beginning was computed once"
    for text, reply in zip(asked, replies, strict=True):
        ids = prompt_ids(model, text)
        whole = reference.generate(torch.tensor([ids]), max_new_tokens=GREEDY.max_tokens, do_sample=False)
        assert reply.choices[0].text == model._tokens.decode([t for t in whole[0, len(ids) :].tolist() if t != 1])


def test_a_sample_does_not_depend_on_its_company(model):
    drawn = Sampling(temperature=1.1, top_p=0.95, max_tokens=12, seed=3)
    request = ChatRequest(messages=said("twelve plus thirty"), sampling=drawn, n=9)
    alone = texts(ask(model, request)[0])
    others = [ChatRequest(messages=said(t), sampling=Sampling(max_tokens=5 + i)) for i, t in enumerate(RAGGED)]
    crowded = texts(ask(model, *others[:5], request, *others[5:])[5])
    parts = ask(
        model,
        ChatRequest(messages=request.messages, sampling=drawn, n=4),
        ChatRequest(messages=request.messages, sampling=drawn, n=5, first_sample=4),
    )
    assert alone == crowded == texts(parts[0]) + texts(parts[1])
    assert len(set(alone)) == 9
    reseeded = ChatRequest(messages=request.messages, sampling=Sampling(temperature=1.1, max_tokens=12, seed=4), n=9)
    assert not set(alone) & set(texts(ask(model, reseeded)[0]))


def test_samples_follow_the_softmax(model, reference):
    from scipy.stats import chisquare

    drawn = Sampling(temperature=0.8, max_tokens=1, seed=11)
    ids = prompt_ids(model, "stone")
    with torch.inference_mode():
        chances = torch.softmax(reference(torch.tensor([ids])).logits[0, -1] / drawn.temperature, -1).numpy()
    n = 800
    reply = ask(model, ChatRequest(messages=said("stone"), sampling=drawn, n=n, top_logprobs=1))[0]
    # The first log-probability, taken at temperature 1, names the token that was drawn.
    at_one = torch.log_softmax(reference(torch.tensor([ids])).logits[0, -1], -1).tolist()
    token_of = {round(value, 9): token for token, value in enumerate(at_one)}
    counts = [0] * len(chances)
    for choice in reply.choices:
        counts[token_of[choice.logprobs[0].logprob] if choice.logprobs else 1] += 1
    common = [t for t in range(len(chances)) if n * chances[t] >= 5]
    observed = [*(counts[t] for t in common), n - sum(counts[t] for t in common)]
    expected = [*(n * chances[t] for t in common), n * (1 - chances[common].sum())]
    assert len(common) > 12
    assert chisquare(observed, expected).pvalue > 0.001


def test_top_p_keeps_the_nucleus(model, reference):
    ids = prompt_ids(model, "leaf")
    with torch.inference_mode():
        chances = torch.softmax(reference(torch.tensor([ids])).logits[0, -1], -1)
    ordered, order = chances.sort(descending=True)
    kept = int((ordered.cumsum(0) - ordered < 0.5).sum())
    nucleus = {round(v, 6) for v in torch.log(ordered[:kept]).tolist()}
    request = ChatRequest(messages=said("leaf"), sampling=Sampling(top_p=0.5, max_tokens=1), n=400, top_logprobs=1)
    seen = {round(choice.logprobs[0].logprob, 6) for choice in ask(model, request)[0].choices if choice.logprobs}
    assert order[0] != 1
    assert seen <= nucleus
    assert len(seen) > kept / 2


def test_logprobs_are_those_of_a_forward_pass(model, reference):
    request = ChatRequest(messages=said("café"), sampling=Sampling(temperature=0.5, max_tokens=10), n=3, top_logprobs=4)
    ids = prompt_ids(model, "café")
    for choice, drawn in zip(ask(model, request)[0].choices, redraw(model, request), strict=True):
        assert "".join(t.token for t in choice.logprobs) == choice.text
        with torch.inference_mode():
            logits = reference(torch.tensor([ids + drawn])).logits[0, len(ids) - 1 : -1]
        chances = torch.log_softmax(logits, -1)
        assert len(choice.logprobs) == len(drawn)
        for row, token, noted in zip(chances, drawn, choice.logprobs, strict=True):
            values, best = row.topk(4)
            assert noted.logprob == pytest.approx(float(row[token]), abs=2e-9)
            assert [v for _, v in noted.top] == pytest.approx(values.tolist(), abs=2e-9)
            assert [t for t, _ in noted.top] == [model._tokens.spell(b) for b in best.tolist()]


def redraw(model: HfModel, request: ChatRequest) -> list[list[int]]:
    """The token ids behind a request's answers, drawn once more."""
    tasks = model._tasks(request, model._tokens.render(request.messages, answer=True), 100)

    async def again() -> list[list[int]]:
        drawn = [one for task in tasks for one in await model._worker.ask(task)]
        return [one.ids for one in drawn]

    return asyncio.run(again())


def test_stop_strings_cut_the_text(model):
    free = ChatRequest(messages=said("reverse abc"), sampling=Sampling(max_tokens=30, seed=1), n=4)
    for k, whole in enumerate(texts(ask(model, free)[0])):
        stop = whole[9:11]
        sampling = Sampling(max_tokens=30, seed=1, stop=("never said", stop))
        request = ChatRequest(messages=free.messages, sampling=sampling, first_sample=k, top_logprobs=1)
        reply = ask(model, request)[0]
        assert reply.choices[0].text == whole[: whole.index(stop)]
        assert reply.choices[0].finish_reason == "stop"
        assert "".join(t.token for t in reply.choices[0].logprobs).startswith(reply.choices[0].text)
        assert reply.usage.completion_tokens < 30


def test_choices_are_all_that_is_said(model, reference):
    choices = ("[[A]]", "[[B]]", "[[A]] is better", "no")
    request = ChatRequest(messages=said("which?"), choices=choices, n=60, top_logprobs=5)
    reply = ask(model, request)[0]
    assert set(texts(reply)) <= set(choices)
    assert len(set(texts(reply))) > 1
    assert {c.finish_reason for c in reply.choices} == {"stop"}
    firsts = sorted(t for text, ids in model._tokens.spelled().items() if text in ("[", "[[", "n", "no") for t in ids)
    with torch.inference_mode():
        logits = reference(torch.tensor([prompt_ids(model, "which?")])).logits[0, -1, firsts]
    top = dict(reply.choices[0].logprobs[0].top)
    expected = zip(firsts, torch.log_softmax(logits, -1).tolist(), strict=True)
    assert top == pytest.approx({model._tokens.spell(t): v for t, v in expected}, abs=2e-9)


def test_context_is_a_limit(model):
    reply = ask(model, ChatRequest(messages=said("stone " * 150), sampling=GREEDY))[0]
    assert reply.usage.prompt_tokens < 512
    with pytest.raises(RequestFailed, match=r"context_overflow: the prompt has \d+ tokens; .* takes 512"):
        ask(model, ChatRequest(messages=said("12345 " * 300)))
    long = ask(model, ChatRequest(messages=said("0123 " * 100), sampling=Sampling(max_tokens=5000, seed=1)))[0]
    assert long.usage.prompt_tokens + long.usage.completion_tokens <= 512


def test_prompts_of_all_lengths_keep_within_the_budget(chatter):
    small = HfModel.load(str(chatter), config=Config(device="cpu", batch_size=8, max_batch_tokens=600))
    seen: list[int] = []
    reader = small._worker._engine._other._reader
    plain = reader.forward
    reader.forward = lambda ids, mask, cache: (seen.append(mask.numel()), plain(ids, mask, cache))[1]
    requests = [ChatRequest(messages=said("primes " * n), sampling=GREEDY, n=3) for n in (1, 140, 3, 110, 40, 2, 90)]
    replies = ask(small, *requests)
    asyncio.run(small.close())
    assert [len(r.choices) for r in replies] == [3] * 7
    assert max(seen) <= 600 + 8 * 12  # a finished row may stay for a few steps


def test_a_cancelled_request_leaves_the_batch(model):
    async def hasty() -> Reply:
        slow = asyncio.create_task(model.chat(ChatRequest(messages=said("a"), sampling=Sampling(max_tokens=400), n=6)))
        await asyncio.sleep(0.05)
        slow.cancel()
        return await model.chat(ChatRequest(messages=said("b"), sampling=GREEDY))

    assert asyncio.run(asyncio.wait_for(hasty(), 20)).choices[0].finish_reason
    until = time.monotonic() + 5
    while model._worker._engine.busy and time.monotonic() < until:
        time.sleep(0.01)
    assert not model._worker._engine.busy


def test_logprobs_of_last_turns_equal_a_plain_forward_pass(chatter, model, reference):
    talks = [(*said(f"{text}?"), Message("assistant", f"{text} {i}")) for i, text in enumerate(RAGGED)]
    talks.append((*talks[0], *said("and then?"), Message("assistant", "done")))
    requests = [ChatRequest(messages=said(text), sampling=GREEDY) for text in RAGGED[:3]]

    async def mixed() -> tuple[list[float], list[Reply]]:
        answers = asyncio.gather(*(model.chat(request) for request in requests))
        return await model.logprobs(talks), await answers

    together, replies = asyncio.run(mixed())
    assert [texts(reply) for reply in replies] == [texts(reply) for reply in ask(model, *requests)]
    for talk, logp in zip(talks, together, strict=True):
        whole, prompt = model._tokens.render(talk, answer=False), prompt_of(model, talk)
        with torch.inference_mode():
            chances = reference(torch.tensor([whole])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        assert whole[: len(prompt)] == prompt
        assert whole[-1] == 1, "the end mark counts"
        assert logp == pytest.approx(float(chances.gather(1, torch.tensor(whole[len(prompt) :])[:, None]).sum()))
    with pytest.raises(RequestFailed, match="context_overflow"):
        asyncio.run(model.logprobs([(*said("12345 " * 300), Message("assistant", "a"))]))


def prompt_of(model: HfModel, talk: tuple[Message, ...]) -> list[int]:
    return model._tokens.render(talk[:-1], answer=True)


def test_rewards_equal_a_plain_forward_pass(scorer):
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(scorer, dtype=torch.float64).eval()
    model = HfModel.load(str(scorer), config=Config(dtype="float64", device="cpu", batch_size=4))
    talks = [(*said(t), Message("assistant", t[:7])) for t in RAGGED]
    rewards = asyncio.run(model.score(talks))
    for talk, reward in zip(talks, rewards, strict=True):
        with torch.inference_mode():
            alone = plain(torch.tensor([model._tokens.render(talk, answer=False)])).logits[0, 0]
        assert reward == pytest.approx(float(alone), abs=1e-9)
    with pytest.raises(RequestFailed, match="context_overflow"):
        asyncio.run(model.score([said("12345 " * 300)]))
    with pytest.raises(UserError, match="cannot chat"):
        ask(model, ChatRequest(messages=said("hi")))
    asyncio.run(model.close())


def test_two_labels_give_the_odds_of_label_one_even_without_padding_token(build, tmp_path):
    folder = build(tmp_path / "binary", scorer=True, num_labels=2, pad_token_id=None)
    model = HfModel.load(str(folder), config=Config(dtype="float64", device="cpu"))
    talks = [said(t) for t in RAGGED]
    together = asyncio.run(model.score(talks))
    with torch.inference_mode():
        for talk, reward in zip(talks, together, strict=True):
            logits = model._model(torch.tensor([model._tokens.render(talk, answer=False)])).logits[0]
            assert reward == pytest.approx(float(logits[1] - logits[0]), abs=1e-9)
    asyncio.run(model.close())


def test_ids_follow_the_contents_not_the_place(model, chatter, build, tmp_path):
    copy = tmp_path / "elsewhere" / "chatter"
    shutil.copytree(chatter, copy)
    same = HfModel.load(str(copy), name="twin", config=Config(dtype="float64", device="cpu"))
    other = HfModel.load(str(build(tmp_path / "chatter", seed=1)), config=Config(dtype="float64", device="cpu"))
    single = HfModel.load(str(copy), config=Config(device="cpu"))
    assert same.id == model.id != other.id
    assert (same.name, single.id) == ("twin", model.id.removesuffix("-float64"))
    request = ChatRequest(messages=said("x"), sampling=Sampling(max_tokens=5))
    assert texts(ask(same, request)[0]) == texts(ask(model, request)[0])
    for loaded in (same, other, single):
        asyncio.run(loaded.close())


def test_closing_ends_thread_and_requests(chatter):
    before = threading.active_count()
    model = HfModel.load(str(chatter), config=Config(device="cpu"))

    async def abandon() -> None:
        waiting = asyncio.create_task(
            model.chat(ChatRequest(messages=said("a"), sampling=Sampling(max_tokens=450, stop=("~~~",)), n=20))
        )
        await asyncio.sleep(0.05)
        await model.close()
        with pytest.raises(ModelUnavailable, match="closed"):
            await waiting
        with pytest.raises(ModelUnavailable, match="closed"):
            await model.chat(ChatRequest(messages=said("a")))
        await model.close()

    asyncio.run(abandon())
    gc.collect()
    assert threading.active_count() == before


def test_a_broken_model_fails_requests_not_the_thread(build, tmp_path):
    model = HfModel.load(str(build(tmp_path / "nan")), config=Config(device="cpu"))
    weight = model._model.lm_head.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    with pytest.raises(RequestFailed, match="malformed: the model's logits are NaN"):
        ask(model, ChatRequest(messages=said("a")))
    with torch.no_grad():
        weight.copy_(kept)
    assert ask(model, ChatRequest(messages=said("a"), sampling=GREEDY))[0].usage.completion_tokens
    asyncio.run(model.close())


@pytest.mark.parametrize("part", ["read", "forward"])
def test_running_out_of_memory_fails_whoever_was_in_hand(chatter, monkeypatch, part):
    model = HfModel.load(str(chatter), config=Config(device="cpu", batch_size=2))

    def overflow(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB\nmore words")

    requests = [ChatRequest(messages=said(t), sampling=GREEDY) for t in RAGGED]

    async def settle() -> list[Reply | BaseException]:
        return await asyncio.wait_for(
            asyncio.gather(*(model.chat(r) for r in requests), return_exceptions=True), timeout=20
        )

    with monkeypatch.context() as patch:
        patch.setattr(model._worker._engine._other._reader, part, overflow)
        outcomes = asyncio.run(settle())
    assert all(isinstance(outcome, RequestFailed) and outcome.kind == "server" for outcome in outcomes)
    assert "lower batch_size or max_batch_tokens (CUDA out of memory. Tried" in str(outcomes[0])
    assert all(isinstance(outcome, Reply) for outcome in asyncio.run(settle()))
    asyncio.run(model.close())


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").rename(f / "adapter_config.json"), "LoRA adapter without its base"),
        (lambda f: (f / "config.json").write_text("{"), "its config.json cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"torn"), "cannot be loaded"),
        (lambda f: (f / "tokenizer.json").unlink(), "its tokenizer cannot be loaded"),
        (lambda f: (f / "chat_template.jinja").unlink(), "no chat template"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_line(chatter, tmp_path, spoil, complaint):
    folder = tmp_path / "spoilt"
    shutil.copytree(chatter, folder)
    spoil(folder)
    with pytest.raises(UserError, match=complaint) as caught:
        HfModel.load(str(folder))
    assert "\n" not in str(caught.value)
    assert "spoilt" in str(caught.value)


def test_weights_that_do_not_fill_the_model_are_refused(chatter, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holed"
    shutil.copytree(chatter, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of a LlamaForCausalLM, .* model.layers.1.mlp.up_proj.weight"):
        HfModel.load(str(folder))


def test_other_mistakes_are_named(chatter, scorer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no such folder, and no such model could be had from the hub"):
        HfModel.load("no-such-org-here/no-such-model")
    with pytest.raises(UserError, match="there is no device 'warp'"):
        HfModel.load(str(chatter), config=Config(device="warp"))
    with pytest.raises(UserError, match=r"device is cuda:99, but torch sees \d+ GPUs"):
        HfModel.load(str(chatter), config=Config(device="cuda:99"))
    with pytest.raises(ValueError, match="batch_size is 0"):
        Config(batch_size=0)
    model = HfModel.load(str(chatter), config=Config(device="cpu"))
    with pytest.raises(UserError, match="no reward head"):
        asyncio.run(model.score([said("a")]))
    asyncio.run(model.close())
