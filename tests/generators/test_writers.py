"""The generators of text, against a scripted model that behaves like a real one: labels, quotes, refusals, cut replies.

At least 95 % of what each generator yields must be well formed, and what is not must be named.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from generators import (
    backtranslate,
    constraints,
    contrast,
    critique_revise,
    degrade,
    delta,
    evolve,
    magpie,
    persona,
    pool,
    self_instruct,
)
from judges.ifeval import verify
from rlhf_eval import registry
from rlhf_eval.errors import UserError
from rlhf_eval.models.base import ChatRequest, Choice, Conversation, Reply
from rlhf_eval.records import Completion, Message, Prompt, Sampling, fingerprint
from rlhf_eval.stages.matrix import tabulate
from rlhf_eval.stages.pairs import run_rule
from rlhf_eval.verbs.flow import FlowResult, generate
from rlhf_eval.verbs.session import Options, Session

NOUNS = [
    "kettle",
    "orchard",
    "ferry",
    "ledger",
    "violin",
    "glacier",
    "bakery",
    "tunnel",
    "harbour",
    "archive",
    "compass",
    "meadow",
    "engine",
    "lantern",
    "quarry",
]
VERBS = [
    "repair",
    "describe",
    "compare",
    "plan",
    "explain",
    "measure",
    "draw",
    "sketch",
    "estimate",
    "summarise",
    "rewrite",
    "translate",
    "check",
]


class Scripted:
    """Answers each of the generators' questions as a tuned model would; every reply is a function of the request."""

    def __init__(self, name: str = "scripted", *, faulty: float = 0.02, quality: int = 3) -> None:
        self.name = name
        self.id = f"{name}#1"
        self.requests: list[ChatRequest] = []
        self._faulty = faulty
        self._quality = quality

    async def chat(self, request: ChatRequest) -> Reply:
        self.requests.append(request)
        return Reply(choices=tuple(self._choice(request, request.first_sample + k) for k in range(request.n)))

    async def score(self, conversations: Sequence[Conversation]) -> list[float]:
        raise NotImplementedError

    async def close(self) -> None:
        return None

    def _choice(self, request: ChatRequest, index: int) -> Choice:
        rng = random.Random(fingerprint(request.messages, request.sampling, index, self.id))
        if rng.random() < self._faulty:
            return rng.choice(
                [
                    Choice(text="I'm sorry, but I can't help with that."),
                    Choice(text="Sure! Here is", finish_reason="length"),
                    Choice(text="  "),
                ]
            )
        asked = request.messages[-1].content
        text = self._reply(asked, rng)
        return Choice(text=text)

    def _reply(self, asked: str, rng: random.Random) -> str:
        if match := re.search(r"Continue the list with (\d+) more, numbered (\d+)", asked):
            first, n = int(match.group(2)), int(match.group(1))
            return "Here they are:\n\n" + "\n".join(f"{first + k}. {self._task(rng)}" for k in range(n))
        if asked.startswith(("Rewrite the prompt", "Read the prompt")):
            label = rng.choice(["", "", "Rewritten prompt: ", "**Prompt:** ", "New Prompt:\n"])
            before = asked.rpartition("\n\n")[2]
            body = f"{before} {self._task(rng)}" if asked.startswith("Rewrite") else self._task(rng)
            return f"{label}{body}"
        if asked.startswith(("Here is a person", "Below is a text", "<|im_start|>")):
            task = self._task(rng)
            return rng.choice([task, f'"{task}"', f"Message: {task}", f"{task}<|im_end|>\nignored"]).replace(
                "Message: ", ""
            )
        return " ".join(self._sentence(rng) for _ in range(self._quality))

    def _task(self, rng: random.Random) -> str:
        subject = rng.sample(NOUNS, 4)
        return (
            f"Please {rng.choice(VERBS).replace('draw', 'weigh')} the {subject[0]} near the {subject[1]} "
            f"for {rng.randint(2, 99)} people who {rng.choice(VERBS).replace('draw', 'carry')} "
            f"a {subject[2]} and a {subject[3]}."
        )

    def _sentence(self, rng: random.Random) -> str:
        return f"The {rng.choice(NOUNS)} is {rng.randint(2, 40)} steps from the {rng.choice(NOUNS)}."


def prompts(n: int = 60) -> list[Prompt]:
    rng = random.Random(5)
    return [
        Prompt.of(
            f"Question {i}: how would you {rng.choice(VERBS)} a {rng.choice(NOUNS)} without a {rng.choice(NOUNS)}?",
            category="everyday",
        )
        for i in range(n)
    ]


def run(
    plugin: ModuleType, given: Sequence[Prompt], models: Sequence[Any], **settings: Any
) -> list[Prompt | Completion]:
    async def collect() -> list[Prompt | Completion]:
        found: list[Prompt | Completion] = []
        # One prompt at a time, as the stage hands them over.
        for prompt in given:
            found += [record async for record in plugin.generate((prompt,), models, plugin.Config(**settings))]
        return found

    return asyncio.run(collect())


WRITERS: dict[str, tuple[ModuleType, dict[str, Any]]] = {
    "pool": (pool, {}),
    "self_instruct": (self_instruct, {}),
    "evolve": (evolve, {}),
    "magpie": (magpie, {"n": 3}),
    "persona": (persona, {"n": 2}),
    "constraints": (constraints, {}),
    "critique_revise": (critique_revise, {"rounds": 2}),
    "backtranslate": (backtranslate, {}),
    "delta": (delta, {}),
    "degrade": (degrade, {"faults": ("omission", "error", "padding", "sycophancy", "truncation")}),
    "degrade, by the model": (degrade, {"by": "model"}),
}
KNOWN = ("empty", "truncated", "refused", "malformed", "eliminated", "copy", "beyond text", "filtered")


def cast(name: str) -> list[Any]:
    return [Scripted("big"), Scripted("small", quality=1)] if name in ("pool", "delta") else [Scripted()]


@pytest.mark.parametrize("name", WRITERS)
def test_at_least_95_percent_is_well_formed_and_failures_are_named(name: str) -> None:
    plugin, settings = WRITERS[name]
    found = run(plugin, prompts(), cast(name), **settings)
    failures = [r for r in found if isinstance(r, Completion) and r.error is not None]
    assert len(found) >= 60
    assert len(failures) <= 0.05 * len(found), Counter(str(f.error) for f in failures)
    for failure in failures:
        assert failure.text == ""
        kinds = str(failure.error).split(": ")
        assert any(kind in KNOWN for kind in kinds[:2]) or "no room" in str(failure.error), failure.error
    assert len({r.id for r in found}) == len(found)


class Served(BaseHTTPRequestHandler):
    """Speaks OpenAI's protocol for the scripted model, chat and completions alike."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        turns = body.get("messages") or [{"role": "user", "content": body["prompt"]}]
        scripted = Scripted(body["model"], quality=1 if body["model"] == "small" else 3)
        request = ChatRequest(
            messages=tuple(Message(t["role"], t["content"]) for t in turns),
            sampling=Sampling(temperature=body.get("temperature", 1.0), seed=body.get("seed")),
        )
        choices = []
        for k in range(body.get("n") or 1):
            said = scripted._choice(request, k)
            shape = (
                {"message": {"role": "assistant", "content": said.text}} if "messages" in body else {"text": said.text}
            )
            choices.append({"index": k, "finish_reason": said.finish_reason or "stop", **shape})
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        payload = json.dumps(
            {"id": "x", "object": "x", "created": 0, "model": body["model"], "choices": choices, "usage": usage}
        )
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One that lets all connections of a burst wait: what finds no room is sent again after a second."""

    request_queue_size = 256


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The address of the scripted model."""
    server = Server(("127.0.0.1", 0), Served)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", [name for name in WRITERS if "," not in name])
def test_behind_a_server_too_and_every_prompt_is_accounted_for(name: str, served: str, tmp_path: Path) -> None:
    """The verb, the door, HTTP and the scripted model: as `rlhf-eval generate --generator NAME` runs."""
    plugin, settings = WRITERS[name]
    asked = [{"prompt": prompt.text, "category": "everyday"} for prompt in prompts(30)]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    specs = [f"{m}=openai:{m}@{served}" for m in (("big", "small") if name in ("pool", "delta") else ("big",))]
    table = {"generator": name, "prompts": str(tmp_path / "q.jsonl"), "model": specs, **settings}

    async def line() -> tuple[FlowResult, list[Prompt | Completion]]:
        session = Session(Options(store=tmp_path / "store", quiet=True))
        try:
            made = await generate(session, table)
            return made, [*session.read(Completion, made.run), *session.read(Prompt, made.run)]
        finally:
            await session.close()

    made, found = asyncio.run(line())
    failures = [r for r in found if isinstance(r, Completion) and r.error is not None]
    assert sum(made.tally.status.values()) == made.tally.total == 30
    assert len(found) >= 30
    assert len(failures) <= 0.05 * len(found), Counter(str(f.error) for f in failures)
    assert plugin.__name__ == f"generators.{name}"


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_settings_write_the_same_records(name: str) -> None:
    plugin, settings = WRITERS[name]
    given = prompts(4)
    first, again = (run(plugin, given, cast(name), **settings) for _ in range(2))
    assert first == again
    assert [r.id for r in run(plugin, given, cast(name), **{**settings, "sample_seed": 9})] != [r.id for r in first]


@pytest.mark.parametrize("name", WRITERS)
def test_a_model_that_only_refuses_yields_failures_and_no_text(name: str) -> None:
    class Refuses(Scripted):
        def _choice(self, request: ChatRequest, index: int) -> Choice:
            return Choice(text="I'm sorry, but I can't help with that.")

    plugin, settings = WRITERS[name]
    if name in ("pool", "critique_revise"):
        return  # there a refusal is an answer, for a judge to weigh
    models = [Refuses("big"), Refuses("small")] if name == "delta" else [Refuses()]
    found = run(plugin, prompts(3), models, **settings)
    completions = [r for r in found if isinstance(r, Completion)]
    assert completions
    if name == "delta":  # a weak model's refusal is what it is weak at
        assert all(c.error is None for c in completions if c.model == "small")
        completions = [c for c in completions if c.model == "big"]
    assert all(str(c.error).startswith("refused") for c in completions)
    assert name == "constraints" or not any(isinstance(r, Prompt) for r in found)


def test_the_registry_holds_every_writer() -> None:
    for name in WRITERS:
        assert registry.load("generator", name.partition(",")[0]) is WRITERS[name][0]


def test_pool_asks_under_drawn_principles_and_always_the_policy() -> None:
    models = [Scripted(name, faulty=0) for name in "abcdef"]
    found = [r for r in run(pool, prompts(30), models, members=3, on_policy="f") if isinstance(r, Completion)]
    by_prompt = Counter(c.prompt_id for c in found)
    assert set(by_prompt.values()) == {3}
    assert sum(c.model == "f" for c in found) == 30
    assert {c.model for c in found} == set("abcdef")
    assert len({c.metadata["principle"] for c in found}) > 4
    asked = models[5].requests[0].messages
    assert asked[0] == Message("system", next(c.metadata["system"] for c in found if c.model == "f"))
    with pytest.raises(UserError, match=r"'g' is not given"):
        run(pool, prompts(1), models, on_policy="g")
    plain = run(pool, prompts(1), models, principles="none")
    assert all(r.metadata == {} for r in plain)


def test_pool_keeps_a_prompts_own_system_turn() -> None:
    model = Scripted(faulty=0)
    run(pool, [Prompt.of((Message("system", "Speak French."), Message("user", "Hi")))], [model])
    (system, user) = model.requests[0].messages
    assert system.content.endswith("\n\nSpeak French.")
    assert user == Message("user", "Hi")


def test_self_instruct_drops_copies_of_what_was_shown() -> None:
    class Copies(Scripted):
        def _reply(self, asked: str, rng: random.Random) -> str:
            shown = re.findall(r"^\d+\. (.*)$", asked, re.MULTILINE)
            return (
                f"1. {shown[0]}\n2. {self._task(rng)}\n3. Look at the picture and name the bird.\n4. {self._task(rng)}"
            )

    found = run(self_instruct, prompts(1), [Copies(faulty=0)])
    assert [type(r).__name__ for r in found] == ["Completion", "Prompt", "Completion", "Prompt"]
    errors = [str(r.error) for r in found if isinstance(r, Completion)]
    assert errors[0].startswith("copy: 100%")
    assert errors[1].startswith("beyond text")


def test_evolve_eliminates_what_the_paper_eliminates_and_goes_on_from_the_last_good_one() -> None:
    class Stubborn(Scripted):
        def _reply(self, asked: str, rng: random.Random) -> str:
            before = asked.rpartition("\n\n")[2]
            said = [before, f"#Rewritten Prompt# {before} {self._task(rng)}", "x " * 900, f"{before} {self._task(rng)}"]
            return said[len(self.requests) - 1]

    found = run(evolve, prompts(1), [Stubborn(faulty=0)], rounds=4, widen=0.0)
    errors = [str(r.error) for r in found if isinstance(r, Completion)]
    assert [e.split(":")[0] for e in errors] == ["eliminated"] * 3
    (made,) = [r for r in found if isinstance(r, Prompt)]
    assert made.text.startswith(prompts(1)[0].text)
    assert made.metadata["round"] == 4


def test_evolve_draws_its_operations_by_hash_in_the_share_asked_for() -> None:
    made = [r for r in run(evolve, prompts(60), [Scripted(faulty=0)], rounds=3, widen=0.5) if isinstance(r, Prompt)]
    drawn = Counter(p.metadata["operation"] for p in made)
    assert set(drawn) == {"widen", "constrain", "deepen", "concretise", "reason"}
    assert 0.35 < drawn["widen"] / len(made) < 0.65


def test_magpie_sends_the_bare_template_and_cuts_at_the_end_of_the_turn() -> None:
    model = Scripted(faulty=0)
    found = run(magpie, prompts(5), [model], n=2)
    (sent,) = {request.messages for request in model.requests}
    assert sent[0].content.endswith("<|im_start|>user\n")
    assert len({request.sampling.seed for request in model.requests}) == 5
    assert all("<|" not in p.text and "ignored" not in p.text for p in found if isinstance(p, Prompt))
    with pytest.raises(UserError, match=r"knows no template 'chatlm'.* Did you mean 'chatml'"):
        run(magpie, prompts(1), [model], template="chatlm")


def test_persona_shows_the_person_and_keeps_it() -> None:
    model = Scripted(faulty=0)
    found = [r for r in run(persona, prompts(10), [model], n=2) if isinstance(r, Prompt)]
    assert len({p.metadata["persona"] for p in found}) > 8
    assert all(p.metadata["persona"] in r.messages[0].content for p, r in zip(found, model.requests, strict=True))


def test_constraints_make_a_checkable_prompt_and_two_sides() -> None:
    class Obeys(Scripted):
        def _reply(self, asked: str, rng: random.Random) -> str:
            return "one without any" if "commas" in asked else "one, with a comma, or two"

    file = Path(constraints.__file__).with_name("constraints.txt")
    assert len(file.read_text().splitlines()) > 10
    for line in [x for x in file.read_text().splitlines() if not x.startswith("#")]:
        name, settings, sentence = constraints._constraint(line)
        stated = constraints._stated(prompts(1)[0], name, settings, sentence)
        verify(stated, "Any text: it must be checkable.")
        assert stated.text.endswith(sentence)
    given = prompts(40)
    found = run(constraints, given, [Obeys(faulty=0)])
    made = [p for p in found if isinstance(p, Prompt)]
    sides = [c for c in found if isinstance(c, Completion)]
    assert {p.metadata["without_constraint"] for p in made} == {p.id for p in given}
    selection = run_rule(tabulate(made, sides, []), contrast, contrast.Config(), "contrast")
    commas = [p.id for p in made if p.metadata["instruction_id_list"] == ["punctuation:no_comma"]]
    assert commas
    # Where the model did not care about the constraint, its two answers are the same words: a tie, not a pair.
    assert [p.prompt_id for p in selection.pairs] == commas
    for pair in selection.pairs:
        stated = next(p for p in made if p.id == pair.prompt_id)
        assert [verify(stated, side[0].content)[0] for side in (pair.chosen, pair.rejected)] == [[True], [False]]
        assert "commas" in pair.prompt[-1].content


def test_a_constraint_file_of_your_own_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("punctuation:no_comma | {broken | No commas.\n")
    with pytest.raises(UserError, match=re.escape("written 'id | kwargs as JSON | sentence'")):
        run(constraints, prompts(1), [Scripted()], constraints=str(file))


def test_critique_revise_keeps_the_clauses_on_every_record() -> None:
    model = Scripted(faulty=0)
    found = run(critique_revise, prompts(8), [model], rounds=3)
    completions = [c for c in found if isinstance(c, Completion)]
    assert Counter(c.metadata["round"] for c in completions) == {0: 8, 1: 8, 2: 8, 3: 8}
    for completion in completions:
        steps = completion.metadata["principles"]
        assert len(steps) == completion.metadata["round"]
        assert len({step["clause"] for step in steps}) == len(steps)
    last = completions[3]
    assert last.metadata["side"] == "better"
    revision = model.requests[6].messages[0].content
    assert last.metadata["principles"][2]["clause"] in revision
    assert completions[2].text in revision
    selection = run_rule(tabulate(prompts(8), completions, []), contrast, contrast.Config(), "contrast")
    assert len(selection.pairs) == 8
    assert all(p.metadata for p in selection.pairs)


def test_backtranslate_keeps_the_document_as_reference_and_demonstration() -> None:
    document = Prompt.of("Boil the eggs for nine minutes. Cool them in ice water. " * 4)
    made, answer = run(backtranslate, [document], [Scripted(faulty=0)])
    assert isinstance(made, Prompt)
    assert isinstance(answer, Completion)
    assert made.reference == answer.text == document.text
    assert (answer.prompt_id, answer.model) == (made.id, "document")


def test_delta_marks_the_two_models_and_wants_two() -> None:
    found = run(delta, prompts(5), [Scripted("big", faulty=0), Scripted("small", faulty=0)], n=2)
    selection = run_rule(
        tabulate(prompts(5), [c for c in found if isinstance(c, Completion)], []),
        contrast,
        contrast.Config(),
        "contrast",
    )
    assert len(selection.pairs) == 10
    assert {p.metadata["chosen_model"] for p in selection.pairs} == {"big"}
    with pytest.raises(UserError, match="needs two models"):
        run(delta, prompts(1), [Scripted()])


GOOD = "Water boils at 100 degrees at sea level. It is the same everywhere near the coast. High up it boils earlier."


@pytest.mark.parametrize("fault", degrade.FAULTS)
@pytest.mark.parametrize("seed", range(20))
def test_every_fault_is_what_it_says(fault: str, seed: int) -> None:
    spoilt = degrade.FAULTS[fault](GOOD, random.Random(seed))
    assert spoilt is not None
    assert spoilt != GOOD
    good_words, bad_words = Counter(GOOD.split()), Counter(spoilt.split())
    if fault == "omission":
        assert not bad_words - good_words
        assert len(spoilt) < len(GOOD)
    elif fault == "error":
        assert sum((bad_words - good_words).values()) == 1
        assert "100 degrees" not in spoilt
    elif fault in ("padding", "sycophancy"):
        assert not good_words - bad_words
        assert len(spoilt) > 1.4 * len(GOOD)
    else:
        assert GOOD.startswith(spoilt)


def test_a_fault_that_an_answer_has_no_room_for_is_a_named_failure() -> None:
    prompt = Prompt.of("Yes or no?", reference="Yes")
    found = run(degrade, [prompt], [Scripted()], source="reference", faults=("omission", "error", "padding"))
    errors = [str(r.error) for r in found if isinstance(r, Completion) and r.error]
    assert errors == ["omission: the answer has no room for it", "error: the answer has no room for it"]
