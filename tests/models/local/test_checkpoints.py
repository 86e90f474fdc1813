"""Finding checkpoints and naming their revisions by content."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from rlhf_eval.errors import UserError  # noqa: E402
from rlhf_eval.models.local import checkpoints  # noqa: E402
from rlhf_eval.models.local.checkpoints import fingerprint_folder, open_checkpoint  # noqa: E402


@pytest.fixture
def folder(chatter: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chatter, tmp_path / "copy"))


@pytest.mark.parametrize("whole", [1 << 28, 10_000])
def test_every_tensor_counts(folder, monkeypatch, whole):
    monkeypatch.setattr(checkpoints, "WHOLE", whole)
    monkeypatch.setattr(checkpoints, "PAGE", 64)
    seen = {fingerprint_folder(folder)}
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        changed = {**weights, name: weights[name] * 1.001}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        seen.add(fingerprint_folder(folder))
    assert len(seen) == len(weights) + 1
    assert all(len(fingerprint) == 8 for fingerprint in seen)


def test_what_does_not_change_the_model_does_not_count(folder):
    before = fingerprint_folder(folder)
    (folder / "README.md").write_text("a card")
    (folder / "trainer_state.json").write_text("{}")
    assert fingerprint_folder(folder) == before
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 7}))
    assert fingerprint_folder(folder) != before


def test_large_files_of_other_kinds_are_sampled(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "WHOLE", 100)
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(200_000))
    before = fingerprint_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(100_000) + b"1" + bytes(99_999))
    assert fingerprint_folder(tmp_path) != before


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "chat"),
        ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}, "chat"),
        ({"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "r"}}, "score"),
    ],
)
def test_the_architecture_says_what_a_checkpoint_does(folder, change, kind):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert open_checkpoint(str(folder), scheme="hf").kind == kind


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architectures": ["LlamaForSequenceClassification"], "num_labels": 5}, "has 5 labels"),
        ({"architectures": ["LlamaModel"]}, r"\(LlamaModel\) neither chats nor scores"),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, "neither chats nor scores"),
        ({"model_type": "from-the-future"}, "its config.json cannot be read"),
    ],
)
def test_other_architectures_are_refused(folder, change, complaint):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match=complaint):
        open_checkpoint(str(folder), scheme="hf")


@pytest.mark.parametrize("path", ["./nowhere", "/no/where/at/all", "~/nowhere-at-all", "nowhere", "a/b/c"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(path):
    with pytest.raises(UserError, match="no such folder; give the folder"):
        open_checkpoint(path, scheme="hf")


def test_a_file_is_no_folder(folder):
    with pytest.raises(UserError, match="is a file"):
        open_checkpoint(str(folder / "config.json"), scheme="hf")


def test_an_unreachable_hub_is_found_out_quickly(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    start = time.monotonic()
    with pytest.raises(UserError, match="no such model could be had from the hub"):
        open_checkpoint("no-such-org-here/no-such-model", scheme="hf")
    assert time.monotonic() - start < 8
