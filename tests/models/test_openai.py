"""Against a real server process that misbehaves on demand; the dialects and refusals as pure functions beside it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from server import reset, running_server, set_knobs, stats

from rlhf_eval.errors import ModelUnavailable, RequestFailed, UserError
from rlhf_eval.models import open_model
from rlhf_eval.models.base import ChatRequest, Choice, Reply, TokenLogprob
from rlhf_eval.models.door import Door
from rlhf_eval.models.limits import Limits
from rlhf_eval.models.openai import Config, OpenAIModel
from rlhf_eval.models.served.http import LeanClient
from rlhf_eval.models.served.replies import WORDS, failure, read, retry_after, server_words, unwrapped
from rlhf_eval.models.served.requests import Dialect, adapt, body_of, seed_of
from rlhf_eval.records import Message, Sampling

KEY = "sk-very-secret-key"


@pytest.fixture(scope="module")
def shared() -> Iterator[str]:
    with running_server() as base_url:
        yield base_url


@pytest.fixture
def server(shared: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The base URL of a well-behaved server with its counters at zero."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    set_knobs(shared)
    reset(shared)
    return shared


def asked(text: str = "Name three primes.", **settings) -> ChatRequest:
    sampling = {k: settings.pop(k) for k in ("temperature", "top_p", "max_tokens", "stop", "seed") if k in settings}
    return ChatRequest(messages=(Message("user", text),), sampling=Sampling(**sampling), **settings)


def chats(base_url: str, *requests: ChatRequest, model: str = "alpha", **settings) -> list[Reply]:
    """The replies of one model to ``requests``, one after another."""

    async def run() -> list[Reply]:
        backend = OpenAIModel(model, base_url, config=Config(**settings))
        try:
            return [await backend.chat(request) for request in requests]
        finally:
            await backend.close()

    return asyncio.run(run())


def through_a_door(base_url: str, *requests: ChatRequest, **settings) -> list[Reply]:
    """The same, with a door before the model, which asks for what one request does not give."""

    async def run() -> list[Reply]:
        door = Door(OpenAIModel("alpha", base_url, config=Config(**settings)), limits=Limits(retries=0))
        try:
            return [await door.chat(request) for request in requests]
        finally:
            await door.close()

    return asyncio.run(run())


def texts(reply: Reply) -> list[str]:
    return [choice.text for choice in reply.choices]


# Samples


def test_one_request_carries_all_samples(server: str):
    (reply,) = through_a_door(server, asked(n=4, seed=1))
    assert len(set(texts(reply))) == 4
    assert all("quality=" in text for text in texts(reply))
    assert reply.usage.prompt_tokens == 3
    assert reply.usage.completion_tokens > 20
    assert reply.usage.seconds > 0
    assert stats(server)["requests"] == 1


@pytest.mark.parametrize("support", ["yes", "refuse", "ignore"])
def test_a_sample_is_the_same_however_many_are_asked_for(server: str, support: str):
    set_knobs(server, n=support)
    whole, first, second = through_a_door(
        server, asked(n=6, seed=1), asked(n=2, seed=1), asked(n=4, seed=1, first_sample=2)
    )
    assert texts(first) + texts(second) == texts(whole)
    assert texts(whole) == texts(through_a_door(server, asked(n=6, seed=1), max_n=1)[0])


@pytest.mark.parametrize(("support", "first"), [("refuse", 1 + 5), ("ignore", 5)])
def test_a_server_without_n_is_asked_once_a_sample_from_then_on(server: str, support: str, first: int):
    set_knobs(server, n=support)
    through_a_door(server, asked(n=5))
    assert stats(server)["requests"] == first
    reset(server)
    through_a_door(server, asked(n=5), asked("Another one?", n=3))
    assert stats(server)["requests"] == first + 3


def test_the_users_bound_on_n_is_kept(server: str):
    (reply,) = through_a_door(server, asked(n=8), max_n=3)
    assert len(reply.choices) == 8
    assert stats(server)["requests"] == 3


def test_greedy_samples_are_single_requests(server: str):
    (reply,) = through_a_door(server, asked(n=3, temperature=0))
    assert len(set(texts(reply))) == 1
    assert stats(server)["requests"] == 3


def test_without_a_seed_samples_differ_between_calls(server: str):
    a, b = chats(server, asked(), asked())
    assert texts(a) != texts(b)


def test_seeds_of_two_users_do_not_overlap():
    seeds = {seed_of(user, sample) for user in range(50) for sample in range(100)}
    assert len(seeds) == 5000
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert [seed_of(7, k) for k in range(3)] == [seed_of(7, 0) + k for k in range(3)]
    assert seed_of(None, 3) is None


# Log-probabilities and constrained answers

JUDGED = "Question: ?\nA: yes quality=0.7\nB: no quality=0.6\nWhich is better?"


def test_logprobs_of_both_endpoints_agree(server: str):
    request = asked(JUDGED, top_logprobs=2, max_tokens=1, seed=1)
    (chat,), (plain,) = (chats(server, request, endpoint=endpoint) for endpoint in ("chat", "completions"))
    tokens = chat.choices[0].logprobs
    assert tokens == plain.choices[0].logprobs
    assert [t for t, _ in tokens[0].top] == ["A", "B"]
    odds = tokens[0].top[0][1] - tokens[0].top[1][1]
    assert odds == pytest.approx(8 * 0.1)


@pytest.mark.parametrize(
    ("dialect", "strict", "tries"),
    [
        ("vllm", False, 1),
        ("guided_choice", False, 2),
        ("json_schema", False, 3),
        ("json_schema", True, 3),
        ("none", False, 4),
        ("none", True, 4),
    ],
)
def test_a_choice_is_asked_for_in_the_dialect_of_the_server(server: str, dialect: str, strict: bool, tries: int):
    """Strict servers refuse a field that they do not know, lax ones pass over it."""
    set_knobs(server, structured=dialect, strict=strict)
    request = asked(JUDGED, choices=("A", "B"), seed=3, top_logprobs=2)
    one, two = chats(server, request, request)
    assert stats(server)["requests"] == tries + 1
    assert texts(one) == texts(two)
    if dialect == "none":
        assert "[[" in texts(one)[0]
    else:
        assert texts(one)[0] in ("A", "B")
        (token,) = one.choices[0].logprobs
        assert token.token.strip() == texts(one)[0]


def test_a_reply_that_was_cut_off_does_not_pass_for_an_obeyed_constraint(server: str):
    set_knobs(server, structured="guided_choice")
    request = asked("Say anything.", choices=("yes indeed", "no"), max_tokens=1, seed=1)
    (reply,) = chats(server, request)
    assert texts(reply)[0] in request.choices


def test_a_dialect_that_the_user_chose_is_not_given_up(server: str):
    set_knobs(server, structured="none", strict=True)
    with pytest.raises(RequestFailed, match="structured_outputs") as caught:
        chats(server, asked(choices=("A", "B")), structured="vllm")
    assert caught.value.kind == "bad_request"
    assert stats(server)["requests"] == 1


def test_a_schema_is_unwrapped_with_its_tokens():
    tokens = [TokenLogprob(t, -float(i)) for i, t in enumerate(['{"', "choice", '":"', "[[", "A", "]]", '"}'])]
    answer = unwrapped(Choice(text='{"choice":"[[A]]"}', logprobs=tuple(tokens)))
    assert answer.text == "[[A]]"
    assert [t.token for t in answer.logprobs] == ["[[", "A", "]]"]
    assert unwrapped(Choice(text="free text")).text == "free text"


# Models that reason


def test_a_reasoning_model_is_asked_in_its_own_words_from_then_on(server: str):
    set_knobs(server, reasoning_model=True)
    chats(server, asked(n=2), asked("Another one?"))
    assert stats(server)["requests"] == 3
    assert stats(server)["400"] == 1


def test_a_setting_that_changes_the_answer_is_never_dropped(server: str):
    set_knobs(server, reasoning_model=True)
    with pytest.raises(RequestFailed, match="temperature") as caught:
        chats(server, asked(temperature=0.3))
    assert caught.value.kind == "bad_request"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_apart_and_an_answer_that_it_crowded_out_is_reported(
    server: str, field: str, caplog: pytest.LogCaptureFixture
):
    set_knobs(server, reasoning=field)
    (reply,) = chats(server, asked())
    assert "think" not in texts(reply)[0]
    assert not caplog.records
    set_knobs(server, reasoning=field, reasoning_only=True)
    with caplog.at_level(logging.WARNING):
        reply, _ = chats(server, asked(n=2), asked())
    assert texts(reply) == ["", ""]
    assert {choice.finish_reason for choice in reply.choices} == {"length"}
    assert [record.message for record in caplog.records] == [
        f"openai:alpha@{server} used all 512 tokens to reason and gave no answer"
    ]


# Failures


@pytest.mark.parametrize(
    ("knobs", "kind", "words"),
    [
        ({"error_500": 1.0}, "server", "500: The server had an error"),
        ({"error_429": 1.0}, "rate_limit", "429: Rate limit reached"),
        ({"drop": 1.0}, "connection", "closed the connection without a reply"),
        ({"truncate": 1.0}, "malformed", "truncated"),
        ({"empty": 1.0}, "malformed", "no choices"),
        ({"hang": 1.0}, "timeout", "within 0.3 s"),
        ({"poison": "primes"}, "bad_request", "contains 'primes'"),
        ({"context": 20}, "context_overflow", "maximum context length is 20"),
        ({"filter_prompt": "primes"}, "content_filter", "content management policy"),
        ({"logprobs": "refuse"}, "bad_request", "logprobs are not supported"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else None,
)
def test_every_failure_has_its_kind_and_the_servers_words(server: str, knobs: dict, kind: str, words: str):
    set_knobs(server, **knobs)
    with pytest.raises(RequestFailed) as caught:
        chats(server, asked(top_logprobs=1), timeout=0.3)
    assert caught.value.kind == kind
    assert words in str(caught.value)
    assert stats(server)["requests"] == 1


@pytest.mark.parametrize("knobs", [{"error_500": 1.0}, {"drop": 1.0}, {"hang": 1.0}, {"poison": "primes"}])
def test_a_failure_after_a_success_is_told_apart_as_well(server: str, knobs: dict):
    kinds = {"error_500": "server", "drop": "connection", "hang": "timeout", "poison": "bad_request"}

    async def run() -> str:
        model = OpenAIModel("alpha", server, config=Config(timeout=0.3))
        await model.chat(asked("fine"))
        await asyncio.to_thread(set_knobs, server, **knobs)
        with pytest.raises(RequestFailed) as caught:
            await model.chat(asked())
        await asyncio.to_thread(set_knobs, server)
        await model.chat(asked())
        await model.close()
        return caught.value.kind

    assert asyncio.run(run()) == kinds[next(iter(knobs))]


@pytest.mark.parametrize(
    ("header", "low", "high"), [("7", 7, 7), ("0.25", 0.25, 0.25), ("ms:1500", 1.5, 1.5), ("date:5", 3, 6)]
)
def test_the_time_that_the_server_asks_for_is_read(server: str, header: str, low: float, high: float):
    set_knobs(server, error_429=1.0, retry_after=header)
    with pytest.raises(RequestFailed) as caught:
        chats(server, asked())
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


def test_a_filtered_sample_is_a_choice_that_says_so(server: str):
    set_knobs(server, filter_reply="primes")
    (reply,) = chats(server, asked(n=2))
    assert [(choice.text, choice.finish_reason) for choice in reply.choices] == [("", "content_filter")] * 2


def test_nobody_listens(unused_port: int):
    with pytest.raises(RequestFailed, match=r"refused|connect") as caught:
        chats(f"http://127.0.0.1:{unused_port}/v1", asked())
    assert caught.value.kind == "connection"


@pytest.mark.parametrize(("status", "key"), [("401", "sk-wrong-key"), ("403", "forbidden")])
def test_a_refused_key_stops_the_run_and_is_not_shown(
    server: str, monkeypatch: pytest.MonkeyPatch, status: str, key: str
):
    monkeypatch.setenv("JUDGE_KEY", key)
    set_knobs(server, api_key=KEY)
    with pytest.raises(ModelUnavailable, match=f"JUDGE_KEY.*{status}") as caught:
        chats(server, asked(), key_variable="JUDGE_KEY")
    assert key not in str(caught.value).replace("JUDGE_KEY", "")


def test_an_unknown_model_stops_the_run_with_the_nearest_name_first(server: str):
    with pytest.raises(ModelUnavailable, match=r"no model 'jugde'. It has: judge, ") as caught:
        chats(server, asked(), model="jugde")
    assert "\n" not in str(caught.value)


# The probe


def probe(base_url: str, model: str = "alpha", timeout: float = 10.0, **settings) -> None:
    async def run() -> None:
        backend = OpenAIModel(model, base_url, config=Config(**settings))
        try:
            await backend.probe(timeout)
        finally:
            await backend.close()

    asyncio.run(run())


def test_a_probe_of_a_good_model_costs_no_completion(server: str):
    probe(server)
    assert stats(server)["requests"] == 0


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_probe_says_what_is_wrong(server: str, unused_port: int, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ModelUnavailable, match=r"cannot reach .*start the server"):
        probe(f"http://127.0.0.1:{unused_port}/v1")
    with pytest.raises(ModelUnavailable, match=r"has no model 'alfa'. It has: alpha"):
        probe(server, "alfa")
    with pytest.raises(ModelUnavailable, match=f"did you mean {server}\\?"):
        probe(server.removesuffix("/v1"))
    set_knobs(server, api_key=KEY)
    with pytest.raises(ModelUnavailable, match=r"wants a key \(401\): export OPENAI_API_KEY"):
        probe(server)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    probe(server)


def test_the_probe_gives_up_on_a_silent_server():
    async def run() -> None:
        silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
        model = OpenAIModel("m", f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1")
        with pytest.raises(ModelUnavailable, match=r"did not answer within 0.2 s"):
            await model.probe(0.2)
        await model.close()
        silent.close()

    asyncio.run(run())


# Keys, addresses, identity


def test_the_key_is_sent_and_shown_nowhere(server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    set_knobs(server, api_key=KEY, poison=KEY)
    model = OpenAIModel("alpha", server)
    assert KEY not in repr(model) + model.id + model.name
    with pytest.raises(RequestFailed, match=r"contains.*[*]{3}") as caught:
        asyncio.run(model.chat(asked(f"my key is {KEY}")))
    assert KEY not in str(caught.value)
    assert stats(server).get("401") is None


def test_a_hosted_model_without_a_key_is_a_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelUnavailable, match="needs a key: export OPENAI_API_KEY"):
        OpenAIModel("gpt-5-mini")


@pytest.mark.parametrize("address", ["localhost:8000", "ftp://x/v1", "http://", "/v1"])
def test_an_address_that_is_none_is_named(address: str):
    with pytest.raises(UserError, match="no address"):
        OpenAIModel("m", address)


def test_settings_that_shape_the_answer_are_part_of_the_identity():
    url = "http://localhost:1/v1"
    plain = OpenAIModel("m", url + "/")
    assert plain.id == f"openai:m@{url}"
    others = [Config(endpoint="completions"), Config(extra_body='{"top_k": 5}'), Config(structured="off")]
    ids = {OpenAIModel("m", url, config=config).id for config in others}
    assert len(ids | {plain.id}) == 4
    assert OpenAIModel("m", url, config=Config(timeout=5, max_n=1)).id == plain.id
    assert OpenAIModel("m", url, config=Config(identity="mine")).id == "mine"


def test_a_spec_opens_it(server: str):
    model = open_model(f"tonight=openai:alpha@{server}?endpoint=completions&timeout=5")
    assert (model.name, model.id.partition("#")[0]) == ("tonight", f"openai:alpha@{server}")


def test_extra_body_is_sent_with_every_request(tmp_path: Path):
    with running_server(log=str(tmp_path / "log.jsonl")) as base_url:
        chats(
            base_url, asked(stop=("END",)), asked(), extra_body='{"top_k": 5, "chat_template_kwargs": {"think": false}}'
        )
    first, second = (json.loads(line)["body"] for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert first.pop("stop") == ["END"]
    assert first == second == {
        "model": "alpha", "messages": [{"role": "user", "content": "Name three primes."}], "temperature": 1.0,
        "top_p": 1.0, "max_tokens": 512, "top_k": 5, "chat_template_kwargs": {"think": False},
    }  # fmt: skip
    with pytest.raises(UserError, match="extra_body"):
        OpenAIModel("m", "http://localhost:1/v1", config=Config(extra_body="[1]"))


def test_completions_send_one_plain_text(server: str):
    assert body_of("m", asked("Once upon a time"), Dialect(), "completions")["prompt"] == "Once upon a time"
    two = ChatRequest(messages=(Message("system", "Be brief."), Message("user", "Hi")))
    with pytest.raises(UserError, match="one message, not 2"):
        chats(server, two, endpoint="completions")


def test_it_scores_nothing(server: str):
    with pytest.raises(UserError, match="scores nothing"):
        asyncio.run(OpenAIModel("alpha", server).score([(Message("user", "Hi"),)]))


# Connections


def test_as_many_requests_are_in_flight_as_were_started(server: str):
    set_knobs(server, latency=0.4)

    async def run() -> None:
        model = OpenAIModel("alpha", server)
        await asyncio.gather(*(model.chat(asked(f"{i}")) for i in range(300)))
        await model.close()

    asyncio.run(run())
    assert stats(server)["max_in_flight"] == 300


def test_too_few_file_descriptors_are_named(server: str):
    async def run() -> None:
        model = OpenAIModel("alpha", server)
        await model.chat(asked())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 5, limits[1]))
        try:
            results = await asyncio.gather(*(model.chat(asked(f"{i}")) for i in range(20)), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert any(isinstance(r, RequestFailed) and r.kind == "connection" and "ulimit -n" in str(r) for r in results)
        assert any(isinstance(r, Reply) for r in results)
        await model.chat(asked())
        await model.close()

    set_knobs(server, latency=0.1)
    asyncio.run(run())


def test_one_model_serves_several_loops(server: str):
    model = OpenAIModel("alpha", server)
    replies = [asyncio.run(model.chat(asked(seed=1))) for _ in range(3)]
    assert len({texts(reply)[0] for reply in replies}) == 1


def test_a_cancelled_request_leaves_the_others_alone(server: str):
    async def run() -> list[str]:
        model = OpenAIModel("alpha", server)
        await model.chat(asked())
        await asyncio.to_thread(set_knobs, server, latency=0.3)
        doomed = asyncio.create_task(model.chat(asked("doomed")))
        kept = asyncio.create_task(model.chat(asked("kept", seed=1)))
        await asyncio.sleep(0.1)
        doomed.cancel()
        first = texts(await kept) + texts(await model.chat(asked("kept", seed=1)))
        assert doomed.cancelled()
        await model.close()
        return first

    one, two = asyncio.run(run())
    assert one == two


def test_every_request_carries_the_headers_of_the_openai_package(monkeypatch: pytest.MonkeyPatch):
    heads: list[str] = []
    reply = b'{"choices":[{"message":{"content":"hi"}}]}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                return
            heads.append(head)
            length = next(int(line.split(":")[1]) for line in head.lower().split("\r\n") if "content-length" in line)
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(reply), reply))

    async def run() -> None:
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        model = OpenAIModel("m", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")
        for _ in range(3):
            await model.chat(asked())
        await model.close()
        listening.close()

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-x")
    asyncio.run(run())
    first, *others = [sorted(head.lower().split("\r\n")) for head in heads]
    assert {"post /v1/chat/completions http/1.1", f"authorization: bearer {KEY}", "openai-organization: org-x"} <= set(
        first
    )
    assert any(line.startswith("user-agent: asyncopenai/python") for line in first)
    for other in others:
        assert [line for line in other if "content-length" not in line] == [
            x for x in first if "content-length" not in x
        ]


def test_a_redirect_is_followed_with_the_body(server: str):
    async def moved(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        goal = server.removesuffix("/v1") + path
        head = f"HTTP/1.1 307 Moved\r\nlocation: {goal}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        writer.write(head.encode())
        writer.close()

    async def run() -> Reply:
        listening = await asyncio.start_server(moved, "127.0.0.1", 0)
        model = OpenAIModel("alpha", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")
        reply = await model.chat(asked(seed=1))
        await model.close()
        listening.close()
        return reply

    assert texts(asyncio.run(run())) == texts(chats(server, asked(seed=1))[0])


def test_a_proxy_of_the_environment_is_respected(monkeypatch: pytest.MonkeyPatch):
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not isinstance(OpenAIModel("m", "http://far.example/v1")._http, LeanClient)
    monkeypatch.setenv("no_proxy", "far.example")
    assert isinstance(OpenAIModel("m", "http://far.example/v1")._http, LeanClient)


def test_requests_go_through_a_proxy(server: str, monkeypatch: pytest.MonkeyPatch):
    """The test server answers absolute-form requests too, so it can stand in for a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.removesuffix("/v1"))
    (one, two) = chats("http://far.example/v1", asked(seed=1), asked(seed=1))
    assert texts(one) == texts(two)
    assert stats(server)["requests"] == 2


# Replies, refusals and dialects as pure functions


def reply_bytes(*choices: dict, **more) -> bytes:
    return msgspec.json.encode({"choices": list(choices), **more})


def test_choices_come_in_the_order_of_their_index():
    received = read(reply_bytes({"index": 1, "text": "b"}, {"index": 0, "text": "a", "finish_reason": "length"}))
    assert [(c.text, c.finish_reason) for c in received.choices] == [("a", "length"), ("b", "stop")]
    assert received.usage.completion_tokens == 0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "plain"}, "plain"),
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"content": [{"type": "thinking"}, {"type": "text", "text": "in"}, {"type": "text", "text": "to"}]}, "into"),
        ({"content": None, "tool_calls": []}, ""),
    ],
)  # fmt: skip
def test_the_text_of_a_message(message: dict, text: str):
    assert read(reply_bytes({"message": message})).choices[0].text == text


def test_usage_with_cached_tokens_and_a_stated_cost():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}, "cost": 0.25}
    received = read(reply_bytes({"text": "a"}, usage=usage))
    assert (received.usage.prompt_tokens, received.usage.completion_tokens, received.usage.cost) == (9, 2, 0.25)
    assert received.usage.cached_tokens == 4


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "malformed"),
        (b"<html>502</html>", "malformed"),
        (b'{"choices": [{"message": {"content": "caf\xe9"}}]}', "malformed"),
        (b'{"choices": [{"index": 0}]}', "malformed"),
        (b'{"choices": []}', "malformed"),
        (b'{"choices": null}', "malformed"),
        (b"{}", "malformed"),
        (b'{"error": {"message": "upstream is busy", "code": 429}}', "rate_limit"),
        (b'{"error": {"message": "upstream is down"}}', "server"),
    ],
)
def test_a_reply_that_is_none(raw: bytes, kind: str):
    with pytest.raises(RequestFailed) as caught:
        read(raw)
    assert caught.value.kind == kind


OVERFLOWS = [
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    "the request exceeds the available context size, try increasing it",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens and 512 `max_new_tokens`",
    "Your input exceeds the context window of this model.",
]


@pytest.mark.parametrize("words", OVERFLOWS)
def test_a_prompt_that_is_too_long_is_known_in_every_servers_words(words: str):
    assert failure(400, json.dumps({"error": {"message": words}}).encode()).kind == "context_overflow"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "bad_request"), (408, "timeout"), (409, "server"), (413, "context_overflow"), (422, "bad_request"),
     (429, "rate_limit"), (500, "server"), (503, "server"), (529, "server")],
)  # fmt: skip
def test_a_status_has_a_kind(status: int, kind: str):
    assert failure(status, b"oops").kind == kind


@pytest.mark.parametrize(
    ("raw", "words", "code"),
    [
        (b'{"error": {"message": "No", "code": "x"}}', "No", "x"),
        (b'{"error": "No"}', "No", ""),
        (b'{"message": "No", "type": "BadRequestError", "code": 400}', "No", "400"),
        (b'{"detail": "No\\n  way"}', "No way", ""),
        (b'{"detail": [{"loc": ["body", "n"]}]}', "[{'loc': ['body', 'n']}]", ""),
        (b"plain\nwords", "plain words", ""),
        (b"\xff", "\ufffd", ""),
    ],
)
def test_the_servers_words_are_found(raw: bytes, words: str, code: str):
    assert server_words(raw) == (words, code)


def test_long_words_are_shortened():
    words, _ = server_words(b"x" * 10_000)
    assert len(words) == WORDS == 300


@pytest.mark.parametrize("value", ["soon", "", "-3", "inf", "nan", "Wed, 99 Foo 2026"])
def test_a_wait_that_is_none(value: str):
    assert retry_after({"retry-after": value}) is None


def test_a_wait_in_the_past_is_over():
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


REFUSALS = [
    ("'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "limit_field"),
    ("Unsupported parameter: 'top_p' is not supported with this model.", "top_p"),
    ("Only one completion choice is allowed: invalid 'n'", "max_n"),
    ("n must be at most 1, got 4", "max_n"),
    ("Unrecognized request argument supplied: structured_outputs", "constraint"),
    ("body -> structured_outputs: Extra inputs are not permitted", "constraint"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "field"), REFUSALS)
def test_a_dialect_is_learnt_from_a_refusal_and_changes_the_request(words: str, field: str):
    dialect, untouched = Dialect(), Dialect()
    request = asked(n=4, choices=("A", "B"))
    body = body_of("m", request, dialect)
    assert adapt(dialect, body, words)
    changed = [name for name in Dialect.__dataclass_fields__ if getattr(dialect, name) != getattr(untouched, name)]
    assert changed == [field]
    again = body_of("m", asked(n=dialect.max_n or 4, choices=("A", "B")), dialect)
    assert again != body
    assert not adapt(dialect, again, words) or field == "constraint"


@pytest.mark.parametrize(
    "words",
    ["temperature must be 1", "the conversation must be shorter", "logprobs are not supported", "seed: not an int"],
)
def test_nothing_is_learnt_from_other_refusals(words: str):
    dialect = Dialect()
    assert not adapt(dialect, body_of("m", asked(n=4, choices=("A",)), dialect), words)
    assert dialect == Dialect()


def test_a_dialect_changes_a_bounded_number_of_times():
    """Whatever a server says, the same request is not sent for ever."""
    words = "max_completion_tokens top_p 'n' structured_outputs guided response_format"
    dialect, turns = Dialect(), 0
    while adapt(dialect, body_of("m", asked(n=dialect.max_n or 4, choices=("A", "B")), dialect), words):
        turns += 1
        assert turns < 10
    assert turns == 6


def test_several_requests_refused_together_teach_once():
    dialect = Dialect()
    body = body_of("m", asked(choices=("A", "B")), dialect)
    assert all(adapt(dialect, body, "unknown field structured_outputs") for _ in range(5))
    assert dialect.constraint == "guided_choice"
