"""The task of ``throughput.py`` in other people's harnesses, each in a process, and so in an environment, of its own.

Reads a task as JSON from standard input, warms up on a few prompts, does the task, and prints wall and CPU seconds
(children included) as the last line. Needs the standard library and the harness, nothing of ours. Each is written as its
own guide has it, with as many requests in flight as the task says and its reports to the outside turned off.

    python tests/bench/throughput.py --others distilabel=VENV/bin/python data_designer=VENV/bin/python
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import tempfile
import time
import urllib.request
from typing import Any

Task = dict[str, Any]


def distilabel(task: Task, prompts: list[str]) -> None:
    """distilabel 1.5.3; its two steps run at once, so half of the requests in flight make a batch."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    def llm(model: str) -> Any:
        return OpenAILLM(
            model=model, base_url=task["base_url"], api_key="EMPTY", generation_kwargs={"max_new_tokens": 512}
        )

    batch = task["in_flight"] // 2
    with Pipeline(name="throughput", cache_dir=tempfile.mkdtemp()) as line:
        load = LoadDataFromDicts(data=[{"instruction": prompt} for prompt in prompts], batch_size=batch)
        write = TextGeneration(
            llm=llm(task["writer"]),
            num_generations=task["completions"],
            group_generations=True,
            input_batch_size=batch,
        )
        judge = TextGeneration(
            llm=llm(task["judge"]),
            input_batch_size=batch,
            columns=["instruction", "generation"],
            template="{{ instruction }} {{ generation }} Which is best?",
            output_mappings={"generation": "verdict"},
        )
        load >> write >> judge
    made = line.run(use_cache=False)["default"]["train"]
    assert len(made) == len(prompts)
    assert all("[[" in row["verdict"] for row in made)


def data_designer(task: Task, prompts: list[str]) -> None:
    """NVIDIA Data Designer: a column a completion, since it has no n; one model, so that one limit holds all requests."""
    import data_designer.config as dd
    import pandas as pd
    from data_designer.interface import DataDesigner

    provider = dd.ModelProvider(name="local", endpoint=task["base_url"], provider_type="openai", api_key="EMPTY")
    model = dd.ModelConfig(
        alias="model",
        model=task["judge"],
        provider="local",
        inference_parameters=dd.ChatCompletionInferenceParams(max_tokens=512, max_parallel_requests=task["in_flight"]),
        skip_health_check=True,
    )
    line = dd.DataDesignerConfigBuilder(model_configs=[model])
    line.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame({"instruction": prompts})))
    answers = [f"answer_{k}" for k in range(task["completions"])]
    for name in answers:
        line.add_column(dd.LLMTextColumnConfig(name=name, model_alias="model", prompt="{{ instruction }}"))
    shown = " ".join(f"{{{{ {name} }}}}" for name in answers)
    line.add_column(
        dd.LLMTextColumnConfig(
            name="verdict", model_alias="model", prompt=f"{{{{ instruction }}}} {shown} Which is best?"
        )
    )
    designer = DataDesigner(artifact_path=tempfile.mkdtemp(), model_providers=[provider])
    made = designer.create(line, num_records=len(prompts), dataset_name="throughput").load_dataset()
    assert len(made) == len(prompts)
    assert made["verdict"].str.contains("[[", regex=False).all()


HARNESSES = {"distilabel": distilabel, "data_designer": data_designer}


def cpu_seconds() -> float:
    """CPU time of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Warm up, measure, print."""
    os.environ.update(NEMO_TELEMETRY_ENABLED="false", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    logging.disable(logging.ERROR)
    harness, task = HARNESSES[sys.argv[1]], json.load(sys.stdin)
    harness(task, [f"warm up {k}" for k in range(4)])
    urllib.request.urlopen(f"{task['base_url'].removesuffix('/v1')}/reset", data=b"{}").close()
    cpu, started = cpu_seconds(), time.perf_counter()
    harness(task, task["prompts"])
    seconds = time.perf_counter() - started
    print(f"\n{json.dumps([seconds, cpu_seconds() - cpu])}", flush=True)


if __name__ == "__main__":
    main()
