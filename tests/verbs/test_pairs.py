"""``pairs``, ``route``, ``verify`` and ``lint`` on a store, with mock models: what they make, account for and write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlhf_eval.errors import GateFailed, UserError
from rlhf_eval.interop import trl
from rlhf_eval.records import Completion, Demonstration, Judgment, PreferencePair, Prompt, Usage
from rlhf_eval.stages.card import Card
from rlhf_eval.stages.route import systematic
from rlhf_eval.verbs.flow import generate, judge
from rlhf_eval.verbs.lint import lint
from rlhf_eval.verbs.load import load
from rlhf_eval.verbs.pairs import compare_rules, pairs
from rlhf_eval.verbs.route import route
from rlhf_eval.verbs.session import Options, Session
from rlhf_eval.verbs.train_inputs import read_data
from rlhf_eval.verbs.verify import verify

PROMPTS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with prompts, 4 completions each, judged pairwise in both orders by a biased judge."""
    place = tmp_path_factory.mktemp("pairs")
    questions = place / "questions.jsonl"
    # The last five are near duplicates of each other.
    tail = ": what would you pack for a long walk from the old mill to the harbour?"
    asked = [f"Question number {i}, please{tail if i >= PROMPTS - 5 else '?'}" for i in range(PROMPTS)]
    questions.write_text("".join(json.dumps({"prompt": question}) + "\n" for question in asked))

    async def line() -> None:
        session = Session(Options(store=place / "store", quiet=True))
        load(session, {"source": "jsonl", "path": str(questions)})
        await generate(session, {"model": "mock:writer", "n": 4})
        await judge(session, {"judge": "pairwise", "judge_model": "mock:judge"})
        await session.close()

    asyncio.run(line())
    return place


@pytest.fixture
def session(folder: Path) -> Iterator[Session]:
    opened = Session(Options(store=folder / "store", quiet=True))
    yield opened
    asyncio.run(opened.close())


def test_every_prompt_ends_as_pair_tie_or_dropped(session: Session) -> None:
    result = pairs(session, {"rule": "best_worst"})
    counts = result.run.counts
    assert counts["pair"] + counts["tie"] + counts["dropped"] == PROMPTS == result.tally.total
    assert counts["pairs"] == len(result.pairs) == len(session.read(PreferencePair, result.run)) > 20
    assert result.card.counts["pair"] == counts["pair"]
    assert result.card.counts["prompts in"] == PROMPTS
    again = pairs(session, {"rule": "best_worst"})
    assert again.resumed
    assert again.run.id == result.run.id
    assert again.card == result.card


def test_the_card_lies_in_the_run_and_knows_the_judge(session: Session) -> None:
    result = pairs(session, {"rule": "best_worst"})
    place = session.store.folder(result.run.id)
    card = msgspec.json.decode((place / "card.json").read_bytes(), type=Card)
    assert card == result.card
    assert (place / "card.md").read_text().startswith("# Data card:")
    flips = card.get("order_flips")
    assert flips is not None
    assert flips.settings["judge"].startswith("pairwise/mock:judge")
    assert card.about["rule"] == "best_worst"
    assert card.matrix[0][0] == "mock:writer"


@pytest.mark.parametrize("rule", ["best_second", "all_pairs", "ranking", "length_matched", "bradley_terry", "rso"])
def test_rules_run_offline_on_the_same_judgments(rule: str, session: Session) -> None:
    result = pairs(session, {"rule": rule})
    assert sum(result.run.counts[kind] for kind in ("pair", "tie", "dropped")) == PROMPTS
    assert all(p.rule == rule for p in result.pairs)


def test_rejection_sampling_has_its_control_beside_it(session: Session, tmp_path: Path) -> None:
    result = pairs(session, {"rule": "top_per_prompt", "out": str(tmp_path / "sft.jsonl")})
    assert result.control is not None
    assert result.control.config["rule"] == "random_per_prompt"
    kept, drawn = (session.read(Demonstration, run) for run in (result.run, result.control))
    assert len(kept) == len(drawn) == PROMPTS
    gain = result.card.get("selected_minus_control")
    assert gain is not None
    assert gain.low > 0
    assert gain.value == pytest.approx(np.mean([k.score for k in kept]) - np.mean([d.score for d in drawn]))
    assert any("winner's curse" in w for w in result.card.warnings)
    bars = result.card.histograms
    assert sum(count for _, _, count in bars["reward"]) == 4 * PROMPTS
    assert sum(count for _, _, count in bars["reward of what was kept"]) == len(kept)
    rows = [json.loads(line) for line in (tmp_path / "sft.jsonl").read_text().splitlines()]
    assert set(rows[0]) == {"prompt", "completion"}
    assert (tmp_path / "sft.control.jsonl").is_file()


def test_filters_drop_prompts_by_name(folder: Path, tmp_path: Path) -> None:
    test_set = tmp_path / "benchmark.jsonl"
    test_set.write_text('{"prompt": "question NUMBER 3 please"}\n{"prompt": "Question number 5, please?"}\n')
    session = Session(Options(store=folder / "store", quiet=True))
    result = pairs(session, {"rule": "best_worst", "against": str(test_set)})
    reasons = [o.reason for o in session.read(registry_outcome(), result.run)]
    assert reasons.count("dropped: contains a benchmark prompt") == 2
    assert result.card.counts["dropped"] >= 2
    assert result.card.get("contaminated_prompts").value == 0  # type: ignore[union-attr]
    near = pairs(session, {"rule": "best_worst", "filters": {"duplicates": "near", "similarity": 0.6}})
    assert near.run.counts["dropped"] == 4
    with pytest.raises(UserError, match="duplicates"):
        pairs(session, {"rule": "best_worst", "filters": {"duplicates": "nearly"}})
    asyncio.run(session.close())


def test_filters_take_a_scorer_and_vectors_of_ones_own(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "my_filters"
    package.mkdir()
    (package / "rude.py").write_text("def score(texts):\n    return [float('cedar' in text) for text in texts]\n")
    (package / "vectors.py").write_text(
        "import numpy as np\ndef embed(texts):\n    return np.array([[len(text), 1.0] for text in texts])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    table = {
        "rule": "best_worst",
        "filters": {"scorer": "my_filters.rude", "embedder": "my_filters.vectors", "most": 12},
    }
    result = pairs(session, table)
    reasons = [o.reason for o in session.read(registry_outcome(), result.run)]
    assert reasons.count("dropped: not among the 12 most different prompts") == PROMPTS - 12
    assert not any("cedar" in pair.chosen[0].content for pair in result.pairs)
    assert result.card.about["answers removed"]["my_filters.rude too high"] > 0
    with pytest.raises(UserError, match="no module named"):
        pairs(session, {"rule": "best_worst", "filters": {"scorer": "my_filters.gone"}})


def registry_outcome() -> Any:
    from rlhf_eval.records import Outcome

    return Outcome


SHAPES = ["jsonl", "trl", "trl_text", "trl_unpaired", "openrlhf", "axolotl", "axolotl_rm", "nemo_rl", "handbook"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_written_with_card_and_manifest(shape: str, session: Session, tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    result = pairs(session, {"rule": "best_worst", "out": str(out), "format": shape})
    rows = out.read_text().splitlines()
    assert len(rows) == (2 if shape == "trl_unpaired" else 1) * len(result.pairs)
    manifest = json.loads((tmp_path / "set.manifest.json").read_text())
    assert manifest["run"] == result.run.id
    assert manifest["judges"] == list({p.labeler for p in result.pairs})
    assert (tmp_path / "set.card.md").is_file()
    if shape != "trl_unpaired":
        linted = lint(session, {"file": str(out)})
        assert linted.card.counts["pairs"] == len(result.pairs)
        assert linted.card.get("chosen_longer") == result.card.get("chosen_longer")


def test_a_hub_folder_loads_with_datasets_and_with_our_reader(session: Session, tmp_path: Path) -> None:
    result = pairs(session, {"rule": "best_worst", "out": str(tmp_path / "set"), "format": "hub"})
    readme = (tmp_path / "set" / "README.md").read_text()
    assert readme.startswith("---\nconfigs:")
    assert len(trl.read(tmp_path / "set" / "data").pairs) == len(result.pairs)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(tmp_path / "set"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == len(result.pairs)
    assert {"prompt", "chosen", "rejected"} <= set(loaded.column_names)


def test_unpaired_labels_are_written_for_kto(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "kto.jsonl"
    result = pairs(session, {"rule": "unpaired", "out": str(out)})
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["label"] for row in rows} == {True, False}
    assert result.run.counts["labelled"] == len(rows)


def test_an_unknown_format_or_setting_names_its_neighbour(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no format 'openrlfh'.* Did you mean 'openrlhf'"):
        pairs(session, {"rule": "best_worst", "out": str(tmp_path / "x.jsonl"), "format": "openrlfh"})
    with pytest.raises(UserError, match=r"no setting 'min_margn'.* Did you mean 'min_margin'"):
        pairs(session, {"rule": "best_worst", "min_margn": 1})


def test_rules_are_compared_side_by_side_without_a_run(session: Session) -> None:
    before = len(session.store.runs())
    rows = compare_rules(session, {"min_margin": 0.2}, ["best_worst", "best_second", "length_matched"])
    assert [row.rule for row in rows] == ["best_worst", "best_second", "length_matched"]
    assert all(sum(row.counts[k] for k in ("pair", "tie", "dropped")) == PROMPTS for row in rows)
    assert len(session.store.runs()) == before


def answered(path: Path, *, person: str, truth: dict[str, float]) -> Path:
    """The routed file, filled in by somebody who knows the planted quality of each answer."""
    done = path.with_name(f"{person}.jsonl")
    with done.open("w") as file:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            better = truth[row["completion_ids"][0]] > truth[row["completion_ids"][1]]
            file.write(json.dumps({**row, "choice": "a" if better else "b", "labeler": person}) + "\n")
    return done


def quality(session: Session) -> dict[str, float]:
    return {c.id: float(c.text.rpartition("=")[2]) for c in session.store.read(Completion)}


def test_route_draws_the_doubtful_and_the_labels_come_back(session: Session, tmp_path: Path) -> None:
    todo = tmp_path / "todo.jsonl"
    result = route(session, {"n": 40, "out": str(todo)})
    rows = [json.loads(line) for line in todo.read_text().splitlines()]
    assert result.drawn == len(rows) == 40
    assert all(0 < row["chance"] <= 1 and row["choice"] == "" for row in rows)
    gaps = [abs(quality(session)[r["completion_ids"][0]] - quality(session)[r["completion_ids"][1]]) for r in rows]
    assert np.mean(gaps) < 0.3
    with pytest.raises(UserError, match="is there already"):
        route(session, {"n": 40, "out": str(todo)})
    done = answered(todo, person="ada", truth=quality(session))
    mixed = pairs(session, {"rule": "all_pairs", "labels": str(done), "aggregate": "mean"})
    labelled = [p for p in mixed.pairs if len(p.judgment_ids) == 3]
    assert len(labelled) >= 30
    assert all(p.labeler.startswith("mean(human/ada+pairwise/") for p in mixed.pairs)
    rest = route(session, {"n": 500, "labels": str(done), "out": str(tmp_path / "rest.jsonl")})
    assert rest.open == result.open - 40
    assert "file:ada.jsonl" in mixed.run.inputs


def test_more_labels_under_the_same_name_make_another_set(session: Session, tmp_path: Path) -> None:
    todo, kept = tmp_path / "todo.jsonl", tmp_path / "labels"
    route(session, {"n": 20, "out": str(todo)})
    lines = answered(todo, person="ada", truth=quality(session)).read_text().splitlines(keepends=True)
    kept.mkdir()
    told = {"rule": "all_pairs", "labels": str(kept), "aggregate": "mean"}
    (kept / "ada.jsonl").write_text("".join(lines[:5]))
    few = pairs(session, told)
    (kept / "ada.jsonl").write_text("".join(lines))
    more = pairs(session, told)
    assert (more.resumed, pairs(session, told).resumed) == (False, True)
    assert more.run.inputs["file:labels"] != few.run.inputs["file:labels"]
    (tmp_path / "ada.jsonl").write_text("".join(lines[:5]))
    both = pairs(session, {**told, "labels": [str(kept / "ada.jsonl"), str(tmp_path / "ada.jsonl")]})
    assert len([name for name in both.run.inputs if name.startswith("file:ada.jsonl")]) == 2


def test_a_folder_that_is_trained_on_is_known_by_what_it_holds(session: Session, tmp_path: Path) -> None:
    known = []
    for rule in ("best_worst", "all_pairs"):
        pairs(session, {"rule": rule, "format": "hub", "out": str(tmp_path / "set")})
        data, inputs = read_data(session, str(tmp_path / "set"), ("pairs",), trainer="dpo")
        known.append((len(data.pairs), inputs["file:set"]))
        assert lint(session, {"file": str(tmp_path / "set")}).card.counts["pairs"] == len(data.pairs)
    assert known[0][0] < known[1][0]
    assert known[0][1] != known[1][1]


def test_calibration_on_people_makes_softer_labels(session: Session, tmp_path: Path) -> None:
    todo = tmp_path / "all.jsonl"
    route(session, {"n": 10_000, "out": str(todo)})
    rng = np.random.default_rng(0)
    noisy = {identity: q + float(rng.normal(0, 0.4)) for identity, q in quality(session).items()}
    done = answered(todo, person="bob", truth=noisy)
    plain = pairs(session, {"rule": "all_pairs"})
    soft = pairs(session, {"rule": "all_pairs", "labels": str(done), "calibrate": "temperature"})
    assert soft.card.about["calibration"]["temperature"] > 1
    assert np.mean([p.probability for p in soft.pairs]) < np.mean([p.probability for p in plain.pairs])
    assert soft.card.get("agreement_with_truth") is not None


@pytest.mark.parametrize("n", [1, 7, 50, 99])
def test_systematic_draws_keep_their_chances_and_their_number(n: int) -> None:
    rng = np.random.default_rng(n)
    chance = rng.random(100) + 0.01
    chance *= n / chance.sum()
    chance = np.minimum(chance, 1)
    chance *= 1.0
    size = round(float(chance.sum()))
    chance[0] += size - chance.sum() if 0 < chance[0] + size - chance.sum() <= 1 else 0
    draws = [systematic(chance, rng) for _ in range(3000)]
    assert {len(d) for d in draws} <= {int(np.floor(chance.sum())), int(np.ceil(chance.sum()))}
    assert all(len(set(d.tolist())) == len(d) for d in draws[:50])
    seen = np.bincount(np.concatenate(draws), minlength=100) / 3000
    assert np.abs(seen - chance).max() < 5 * np.sqrt(0.25 / 3000)


def test_verify_makes_every_label_again_from_the_cache(session: Session, tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    result = pairs(session, {"rule": "best_worst", "out": str(out)})
    for ref in (result.run.id, str(out)):
        found = asyncio.run(verify(Session(session.options), {"set": ref}))
        assert found.good
        assert found.same == found.records == len(result.pairs) + len(session.read(Demonstration, result.run))
        assert set(found.judgments) == {"same"}
        assert found.judgments["same"] == len(session.read(Judgment, session.store.runs("judge")[-1]))


def test_verify_finds_a_label_that_was_changed_and_a_reply_that_is_gone(tmp_path: Path, folder: Path) -> None:
    session = Session(Options(store=tmp_path / "store", quiet=True))
    prompt = Prompt.of("q?")
    sides = [Completion.of(prompt_id=prompt.id, model="m", text=f"answer quality=0.{k}", sample=k) for k in (2, 9)]
    with session.store.begin("load", {"source": "x"}, inputs={}, seed=0, versions={}) as run:
        for record in (prompt, *sides):
            run.append("prompts" if isinstance(record, Prompt) else "completions", record)
        run.finish("done", {}, Usage())

    async def judged() -> None:
        await judge(session, {"judge": "pairwise", "judge_model": "mock:judge", "completions": run.run.id})

    asyncio.run(judged())
    (original, swapped) = session.read(Judgment, session.store.runs("judge")[-1])
    tampered = replace(original, scores=original.scores[::-1])
    config, inputs = session.store.runs("judge")[-1].config, session.store.runs("judge")[-1].inputs
    with session.store.begin("judge", {**config, "limit": 7}, inputs=dict(inputs), seed=0, versions={}) as forged:
        for record in (tampered, swapped):
            forged.append("judgments", record)
        forged.finish("done", {}, Usage())
    made = pairs(session, {"rule": "all_pairs", "judgments": forged.run.id})
    found = asyncio.run(verify(session, {"set": made.run.id}))
    assert not found.good
    assert found.judgments == {"differs": 1, "same": 1}
    assert "the reply says" in found.differences[0]
    with pytest.raises(GateFailed):
        asyncio.run(verify(session, {"set": made.run.id, "strict": True}))
    assert session.cache is not None
    session.cache.prune(max_bytes=0)
    empty = asyncio.run(verify(session, {"set": made.run.id}))
    assert empty.judgments == {"not in the cache": 2}


def test_verify_says_what_it_cannot_replay(session: Session) -> None:
    result = pairs(session, {"rule": "best_worst"})
    table = {"set": result.run.id, "judge": {"judge_model": "mock:judge?bias=2"}}
    found = asyncio.run(verify(Session(session.options), table))
    assert set(found.judgments) == {"not replayable"}
    assert "cannot be replayed" in found.differences[0]
    with pytest.raises(UserError, match="no manifest beside it"):
        asyncio.run(verify(session, {"set": __file__}))


def test_a_set_of_several_judges_must_say_how_they_become_one(folder: Path) -> None:
    session = Session(Options(store=folder / "store", quiet=True))
    source = session.store.runs("judge")[-1]
    stored = session.read(Judgment, source)
    with session.store.begin("judge", {"judge": "two"}, inputs=dict(source.inputs), seed=0, versions={}) as both:
        for j in stored:
            both.append("judgments", j)
            both.append("judgments", Judgment.of(
                prompt_id=j.prompt_id, completion_ids=j.completion_ids, judge="other", order=j.order, scores=(1.0, 0.0)
            ))  # fmt: skip
        both.finish("done", {}, Usage())
    try:
        with pytest.raises(UserError, match="has 2 judges that fit"):
            pairs(session, {"judgments": both.run.id})
        assert pairs(session, {"judgments": both.run.id, "by": "other"}).run.counts["pair"] > 0
        joined = pairs(session, {"judgments": both.run.id, "aggregate": "dawid_skene", "rule": "all_pairs"})
        agreed = joined.card.get("labeler_agreement")
        assert agreed is not None
        assert agreed.settings["labelers"].startswith("other and pairwise")
        with pytest.raises(UserError, match="no judgment is by nobody"):
            pairs(session, {"judgments": both.run.id, "by": "nobody"})
    finally:
        session.store.remove(both.run.id)
        asyncio.run(session.close())


def test_lint_gates_and_refuses(tmp_path: Path, session: Session) -> None:
    file = tmp_path / "set.jsonl"
    rows = [{"prompt": f"p {i}", "chosen": "yes " * 30, "rejected": f"no {i}"} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = lint(session, {"file": str(file), "out": str(tmp_path / "deep" / "card")})
    assert [p.name for p in result.written] == ["card.md", "card.json"]
    assert any("the longer answer wins" in w for w in result.card.warnings)
    with pytest.raises(GateFailed, match="warnings; the first"):
        lint(session, {"file": str(file), "strict": True})
    with pytest.raises(UserError, match="lint needs a file"):
        lint(session, {})
    file.write_text('{"text": "x"}\n')
    with pytest.raises(UserError, match="no row is a preference pair"):
        lint(session, {"file": str(file)})
