"""The test server keeps its promises: what it plants is there, and the same whatever the order of requests."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from server import MARKER, Knobs, Refusal, Replies, Service, running_server, set_knobs, stats

MESSAGES = [{"role": "user", "content": "Hello"}]


def answer(text: str, *, model: str = "judge", knobs: Knobs | None = None, **body) -> dict:
    messages = [{"role": "user", "content": text}]
    return Replies(knobs or Knobs()).answer({"model": model, "messages": messages, **body}, chat=True)["choices"][0]


def share_of_a(first: str, second: str, **knobs) -> float:
    """The planted probability that the answer shown first wins."""
    choice = answer(f"{first} or {second}?", knobs=Knobs(**knobs), logprobs=True, top_logprobs=2, max_tokens=1)
    tops = {row["token"]: row["logprob"] for row in choice["logprobs"]["content"][0]["top_logprobs"]}
    return math.exp(tops["A"])


def odds(share: float) -> float:
    return math.log(share / (1 - share))


def test_the_better_answer_wins_by_the_planted_odds_in_both_orders():
    good, bad = "quality=0.8 words=10 author=a", "quality=0.6 words=10 author=b"
    assert odds(share_of_a(good, bad)) == pytest.approx(8 * 0.2)
    assert share_of_a(good, bad) == pytest.approx(1 - share_of_a(bad, good))


@pytest.mark.parametrize(
    ("knobs", "first", "second", "expected"),
    [
        ({"position_bias": 0.7}, "quality=0.5", "quality=0.5", 0.7),
        ({"length_bias": 0.5}, "quality=0.5 words=40", "quality=0.5 words=10", 0.5 * math.log(4)),
        ({"self_preference": 1.5}, "quality=0.5 words=9 author=b", "quality=0.5 words=9 author=judge", -1.5),
    ],
)
def test_a_bias_adds_its_odds(knobs: dict, first: str, second: str, expected: float):
    assert odds(share_of_a(first, second, **knobs)) == pytest.approx(expected)
    assert odds(share_of_a(first, second)) == pytest.approx(0, abs=1e-9)


def test_verdicts_are_drawn_with_the_planted_probability():
    texts = [f"{i}: quality=0.6 or quality=0.5?" for i in range(2000)]
    wins = sum("[[A]]" in answer(text)["message"]["content"] for text in texts)
    p = 1 / (1 + math.exp(-0.8))
    assert abs(wins / 2000 - p) < 4 * math.sqrt(p * (1 - p) / 2000)
    greedy = {answer(text, temperature=0)["message"]["content"].rpartition(" ")[2] for text in texts[:50]}
    assert greedy == {"[[A]]"}


def test_ties_unreadable_replies_and_grades():
    near = "quality=0.50 or quality=0.51?"
    assert "[[C]]" in answer(near, knobs=Knobs(tie_width=0.5))["message"]["content"]
    unread = sum(
        "[[" not in answer(f"{i} {near}", knobs=Knobs(unparsed=0.2))["message"]["content"] for i in range(1000)
    )
    assert 150 < unread < 250
    assert "[[9]]" in answer("Grade this: quality=0.9", temperature=0)["message"]["content"]


def test_written_answers_carry_what_a_judge_reads():
    replies = Replies(Knobs())
    body = {"model": "alpha", "messages": MESSAGES, "n": 400, "seed": 0}
    found = [MARKER.findall(choice["message"]["content"]) for choice in replies.answer(body, chat=True)["choices"]]
    assert {len(markers) for markers in found} == {1}
    qualities = [float(markers[0][0]) for markers in found]
    assert sum(qualities) / len(qualities) == pytest.approx(0.6, abs=0.04)
    assert {markers[0][2] for markers in found} == {"alpha"}


def test_a_sample_depends_on_its_seed_and_nothing_else():
    def texts(**body) -> list[str]:
        reply = Replies(Knobs()).answer({"model": "alpha", "messages": MESSAGES, **body}, chat=True)
        return [choice["message"]["content"] for choice in reply["choices"]]

    assert texts(n=4, seed=5) == [texts(seed=5 + k)[0] for k in range(4)]
    assert texts(max_tokens=3, seed=5)[0].split() == texts(seed=5)[0].split()[:3]


@pytest.mark.parametrize(("knob", "share"), [("error_500", 0.3), ("hang", 0.1), ("slow", 0.05)])
def test_faults_come_in_their_share_and_differ_between_attempts(knob: str, share: float):
    service = Service(Knobs(**{knob: share}))
    first = [service.fault(b"%d" % i)[0] for i in range(2000)]
    assert first.count(knob) / 2000 == pytest.approx(share, abs=0.035)
    again = [service.fault(b"%d" % i)[0] for i in range(2000)]
    assert first != again
    other = Service(Knobs(**{knob: share}))
    assert [other.fault(b"%d" % i)[0] for i in reversed(range(2000))] == first[::-1]


def test_an_unknown_model_is_refused_in_openais_words():
    with pytest.raises(Refusal, match="does not exist"):
        answer("Hello", model="nobody")


def post(base_url: str, body: dict) -> dict:
    data = json.dumps({"model": "alpha", "messages": MESSAGES} | body).encode()
    with urllib.request.urlopen(f"{base_url}/chat/completions", data=data, timeout=10) as response:
        return dict(json.load(response))


def test_it_takes_its_time_and_counts():
    with running_server(latency=0.1, capacity=0) as base_url:
        started = time.monotonic()
        post(base_url, {"n": 2})
        assert 0.1 <= time.monotonic() - started < 1
        set_knobs(base_url, error_429=1.0)
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(base_url, {})
        assert caught.value.headers["retry-after"] == "0.05"
        counted = stats(base_url)
    assert (counted["requests"], counted["choices"], counted["429"], counted["max_in_flight"]) == (2, 2, 1, 1)


def test_a_mistyped_knob_is_an_error():
    with pytest.raises(TypeError, match="latancy"), running_server(latancy=1):
        pass


def test_it_dies_with_its_parent():
    """A test run that is killed leaves no server behind."""
    program = (
        "import os\nfrom server import running_server\nwith running_server() as u: print(u, flush=True); os._exit(9)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).resolve().parent,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    base_url = parent.stdout.strip()
    assert base_url.startswith("http://127.0.0.1:")
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            stats(base_url)
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{base_url} still answers")
