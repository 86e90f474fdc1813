"""Tasks of lm-evaluation-harness: its logged samples are read, and where it is installed, it runs through our doors."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlhf_eval.benchmarks import lm_eval as benchmark
from rlhf_eval.benchmarks.evidence import Evidence
from rlhf_eval.errors import UserError
from rlhf_eval.interop import lm_eval as samples
from rlhf_eval.interop.files import Row
from rlhf_eval.interop.loaded import Intake
from rlhf_eval.interop.recognise import recognise
from rlhf_eval.records import Completion, Estimate, Judgment, Outcome, Usage
from rlhf_eval.verbs.evaluate import evaluate
from rlhf_eval.verbs.lm_eval import cut, sampling_of
from rlhf_eval.verbs.session import Options, Session


def written(n: int, right: bool, **more: Any) -> dict[str, Any]:
    """A sample of a task that generates, as the harness logs it."""
    return {
        "doc_id": n, "doc": {"question": f"{n}?"}, "target": str(n), "filter": "none", "metrics": ["exact_match"],
        "arguments": {"gen_args_0": {"arg_0": f"Q: {n}?", "arg_1": {"until": ["\n"], "max_gen_toks": 8}}},
        "resps": [[f"answer {n}"]], "filtered_resps": [f"answer {n}"], "exact_match": float(right), **more,
    }  # fmt: skip


def chosen(n: int, likelihoods: list[float]) -> dict[str, Any]:
    """A sample of a task that chooses."""
    return {
        "doc_id": n, "doc": {}, "target": "1", "filter": "none", "metrics": ["acc"], "acc": float(n % 2),
        "arguments": {f"gen_args_{k}": {"arg_0": f"Q: {n}?", "arg_1": f" {k}"} for k in range(len(likelihoods))},
        "resps": [[[str(value), "False"]] for value in likelihoods], "filtered_resps": [],
    }  # fmt: skip


def output(folder: Path, task: str, rows: list[dict[str, Any]]) -> Path:
    place = folder / "out" / "my__model"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"samples_{task}_2026-01-05T10-20-30.123456.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "out"


def scored(path: Path) -> dict[str, Estimate]:
    loaded = samples.read(path)
    evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
    return {e.name: e for e in benchmark.score(evidence, benchmark.Config())}


def test_logged_samples_become_records(tmp_path: Path) -> None:
    path = output(tmp_path, "my_task", [written(n, n < 7) for n in range(10)])
    output(tmp_path, "pick_one", [chosen(n, [-3.5, -0.25, -1e-3 - n]) for n in range(4)])
    assert recognise(path) == "lm_eval"
    loaded = samples.read(path)
    assert {c.model for c in loaded.completions} == {"my__model"}
    assert {j.judge for j in loaded.judgments} == {"lm_eval/my_task/none/exact_match", "lm_eval/pick_one/none/acc"}
    picked = [c for c in loaded.completions if "choices" in c.metadata]
    assert [c.text for c in picked] == [" 2", " 1", " 1", " 1"]
    assert picked[1].metadata["logprobs"] == [-3.5, -0.25, -1.001]
    found = scored(path)
    assert found["my_task: exact_match"].value == pytest.approx(0.7)
    assert found["my_task: exact_match"].n == 10
    assert found["my_task: exact_match"].settings["model"] == "my__model"
    assert found["pick_one: acc"].value == pytest.approx(0.5)


def test_filters_and_repeats_share_their_document(tmp_path: Path) -> None:
    both = [written(n, n < 5, filter=f, resps=[[f"a{n}", f"b{n}"]]) for n in range(8) for f in ("strict", "flexible")]
    loaded = samples.read(output(tmp_path, "t", both))
    assert (len(loaded.prompts), len(loaded.completions), len(loaded.judgments)) == (8, 16, 16)
    assert {j.judge for j in loaded.judgments} == {"lm_eval/t/strict/exact_match", "lm_eval/t/flexible/exact_match"}


def test_what_is_no_number_for_a_document_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [written(n, True, metrics=["exact_match", "bleu"], bleu=[["ref"], "pred"]) for n in range(3)]
    loaded = samples.read(output(tmp_path, "t", rows))
    assert loaded.warnings == ("lm_eval/t/none/bleu: 3 values are no single number for a document; they are left out",)
    assert len(loaded.judgments) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resps": [["x"], ["y"]], "arguments": {}}, "at least one request"),
        ({"resps": []}, "a list of texts"),
        ({"doc_id": "x"}, "'doc_id' must be a number"),
    ],
)
def test_a_broken_row_is_named_and_the_rest_is_kept(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = output(tmp_path, "t", [written(0, True) | change, written(1, True)])
    loaded = samples.read(path)
    assert said in loaded.warnings[0]
    assert len(loaded.completions) == 1
    with pytest.raises(UserError, match=said):
        samples.read(path, strict=True)


def test_a_failed_request_is_a_failure_and_no_wrong_answer() -> None:
    intake = Intake(Path())
    asked = samples.Asked(errors={1: "timeout: nobody answered"}, usage={0: Usage(completion_tokens=5)}, origin="m#1")
    samples.add(intake, "t", "m", [Row(f"sample {n}", written(n, n == 0)) for n in range(3)], asked)
    loaded = intake.loaded()
    evidence = Evidence.of(loaded.prompts, loaded.completions, loaded.judgments)
    (found,) = benchmark.score(evidence, benchmark.Config())
    assert (found.value, found.n, found.failed) == (0.5, 2, 1)
    assert [c.error for c in loaded.completions] == [None, "timeout: nobody answered", None]
    assert loaded.completions[0].usage.completion_tokens == 5


def test_generation_settings_are_ours_or_are_refused() -> None:
    made = sampling_of({"until": ["\n\n", "Q:"], "max_gen_toks": 64, "do_sample": False, "temperature": 0.7}, seed=3)
    assert (made.temperature, made.max_tokens, made.stop, made.seed) == (0.0, 64, ("\n\n", "Q:"), 3)
    assert sampling_of({"until": "###"}, seed=0).stop == ("###",)
    assert sampling_of({"temperature": 0.7, "do_sample": True}, seed=0).temperature == 0.7
    with pytest.raises(UserError, match="num_beams"):
        sampling_of({"num_beams": 4}, seed=0)
    assert cut("one\nQ: two", ["Q:", "\n"]) == "one"
    assert cut("one", ["Q:"]) == "one"


# With the harness itself ----------------------------------------------------------------------------------------------

TASKS = {
    "tiny_add": """
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 16, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
    "tiny_choice": """
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    "tiny_perplexity": """
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}]
""",
}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    harness = pytest.importorskip("lm_eval.tasks", reason="the extra lm-eval is not installed")
    # Its own fourteen thousand tasks take seven seconds to index.
    monkeypatch.setattr(harness, "TaskManager", partial(harness.TaskManager, include_defaults=False))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": f"What is {n} plus 1?", "answer": str(n + 1), "choices": ["no", str(n + 1)], "label": 1}
            for n in range(12)]  # fmt: skip
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, text in TASKS.items():
        head = f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\ntest_split: test\n"
        (folder / f"{name}.yaml").write_text(head + text)
    return folder


def run(store: Path, benchmark: str, model: str, tasks: Path, **options: Any) -> Any:
    async def once() -> Any:
        session = Session(Options(store=store, quiet=True, **options))
        try:
            return await evaluate(session, {"benchmark": benchmark, "model": model, "include": str(tasks)})
        finally:
            await session.close()

    return asyncio.run(once())


def test_a_task_that_generates(tasks: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "store", "lm_eval:tiny_add", "mock:writer", tasks, limit=8)
    (accuracy, tokens) = result.estimates
    assert (accuracy.name, accuracy.n) == ("tiny_add: exact_match", 8)
    assert tokens.settings["model"] == "mock:writer"
    session = Session(Options(store=tmp_path / "store"))
    answers = session.store.read(Completion)
    assert len(answers) == 8
    assert all("\n" not in answer.text and answer.usage.completion_tokens for answer in answers)
    assert {o.status for o in session.store.read(Outcome)} == {"done"}
    again = run(tmp_path / "store", "lm_eval:tiny_add", "mock:writer", tasks, limit=8)
    assert again.run.id == result.run.id
    assert again.estimates == result.estimates


def test_a_task_that_chooses_reads_how_likely_the_choices_are(tasks: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "store", "lm_eval:tiny_choice", "sandbox:policy", tasks)
    assert result.estimates[0].n == 12
    session = Session(Options(store=tmp_path / "store"))
    for answer in session.store.read(Completion):
        best = max(zip(answer.metadata["logprobs"], answer.metadata["choices"], strict=True))[1]
        assert answer.text == best
    grades = {j.completion_ids[0]: j.scores[0] for j in session.store.read(Judgment)}
    assert sum(grades.values()) == pytest.approx(12 * result.estimates[0].value)


def test_what_the_harness_cannot_do_here_is_said(tasks: Path, tmp_path: Path) -> None:
    for name, said in [
        ("lm_eval:tiny_perplexity", "kind 'loglikelihood_rolling'"),
        ("lm_eval:tiny_ad", "Did you mean tiny_add"),
        ("lm_eval", "written lm_eval:TASK"),
    ]:
        with pytest.raises(UserError, match=said):
            run(tmp_path / "store", name, "mock:writer", tasks)


def test_every_failed_request_is_stored_as_one(tasks: Path, tmp_path: Path) -> None:
    result = run(tmp_path / "store", "lm_eval:tiny_add", "mock:writer?fail=0.5&seed=3", tasks)
    failed = result.run.counts["failed"]
    assert 0 < failed < 12
    assert result.estimates[0].failed == failed
    assert result.estimates[0].n == 12 - failed
