"""A folder or hub name of transformers weights: whether it is there, what it can do, and which revision it is.

Both local doors (``hf`` and ``vllm``) begin here, so that the same weights get the same revision in both.

    checkpoint = open_checkpoint("runs/dpo/final", scheme="hf")
    checkpoint.id, checkpoint.kind   # 'hf:final#1f0c9a2e', 'chat'
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_eval.errors import UserError
from rlhf_eval.registry import install_hint

Kind = Literal["chat", "score"]

WHOLE = 1 << 28
"""Files up to this many bytes (256 MiB) enter the fingerprint whole; of larger weight files, pages of every tensor do."""
PAGE = 1 << 16
UNBOUNDED = 1 << 40

_WEIGHTS = ("*.safetensors", "*.bin")
_MEANING = (*_WEIGHTS, "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")
_LEFT_OUT = frozenset({"trainer_state.json", "training_args.bin", "optimizer.bin", "scheduler.bin", "rng_state.bin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Weights that were found and can be named; nothing heavy is loaded yet."""

    path: str
    """What ``from_pretrained`` is given."""
    id: str
    """Scheme, name and revision: equal for equal contents, wherever a folder of that name lies."""
    revision: str
    origin: Mapping[str, Any]
    """What every further ``from_pretrained`` must be told, so that it reads the same commit of the same place."""
    kind: Kind
    config: Any
    context: int
    """Most tokens that prompt and answer may have together."""


def open_checkpoint(
    path: str, *, scheme: str, revision: str | None = None, trust_remote_code: bool = False
) -> Checkpoint:
    """Find the weights at ``path``, a folder or a hub name.

    Raises UserError, in one line, for a missing folder, a folder without config or weights, a hub name that cannot be
    reached, an architecture that neither chats nor scores, and missing packages.
    """
    transformers = need("transformers", f"{scheme}:{path}")
    folder = _folder(path, scheme)
    where = str(folder) if folder else path
    origin = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": folder is not None or _hub_out_of_reach(),
    }
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(where, **origin)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(_refusal(f"{scheme}:{path}", folder, error)) from error
    commit = None if folder else getattr(config, "_commit_hash", None)
    found = fingerprint_folder(folder) if folder else commit or revision or "main"
    label = folder.name if folder else path
    return Checkpoint(
        path=where,
        id=f"{scheme}:{label}#{found}",
        revision=found,
        origin={**origin, "revision": commit or revision},
        kind=_kind(config, f"{scheme}:{path}"),
        config=config,
        context=_context(config),
    )


def fingerprint_folder(folder: Path) -> str:
    """8 hexadecimal digits over the names, sizes and contents of the weight, config and tokenizer files.

    Files up to 256 MiB are read whole. Of a larger safetensors file the header and three 64 KiB pages of every tensor are
    read: training changes every tensor that it touches nearly everywhere, and a 140 GB model is named in a second. Of any
    other large file, 1024 pages spread over its length.
    """
    digest = hashlib.blake2b(digest_size=4)
    files = {path for pattern in _MEANING for path in folder.glob(pattern) if path.name not in _LEFT_OUT}
    for path in sorted(files, key=lambda p: p.name):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        for piece in _pieces(path, size):
            digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        if size <= WHOLE:
            while block := file.read(1 << 20):
                yield block
            return
        starts: list[int] = [size * i // 1024 for i in range(1024)]
        if path.suffix == ".safetensors":
            header = file.read(struct.unpack("<Q", file.read(8))[0])
            yield header
            starts = list(_tensor_pages(json.loads(header), 8 + len(header)))
        for start in starts:
            file.seek(start)
            yield file.read(PAGE)


def _tensor_pages(header: Mapping[str, Any], base: int) -> Iterator[int]:
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            yield from (base + first, base + (first + last) // 2, base + max(first, last - PAGE))


def _folder(path: str, scheme: str) -> Path | None:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        local = path.startswith((".", "/", "~")) or path.count("/") != 1 or folder.is_file()
        if local:
            cause = "is a file" if folder.is_file() else "no such folder"
            raise UserError(f"{scheme}:{path}: {cause}; give the folder of a checkpoint, or a hub name like org/model")
        return None
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError(
                f"{scheme}:{path} is a LoRA adapter without its base model; merge the two, then name the result"
            )
        raise UserError(f"{scheme}:{path}: there is no config.json in this folder; is it a transformers checkpoint?")
    if not any(p.name not in _LEFT_OUT for pattern in _WEIGHTS for p in folder.glob(pattern)):
        raise UserError(
            f"{scheme}:{path}: there are no weights (*.safetensors or *.bin) in this folder; save the model again"
        )
    return folder.resolve()


def _hub_out_of_reach() -> bool:
    """Whether the hub's name does not even resolve: its client would try for half a minute to find that out."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    if getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return True
    return False


def _refusal(spec: str, folder: Path | None, error: Exception) -> str:
    said = first_line(error)
    if folder:
        return f"{spec}: its config.json cannot be read: {said}"
    return (
        f"{spec}: no such folder, and no such model could be had from the hub; download it and name its folder ({said})"
    )


def _kind(config: Any, spec: str) -> Kind:
    names = tuple(getattr(config, "architectures", None) or ())
    shown = ", ".join(names) or getattr(config, "model_type", "unknown")
    if any(name.endswith("ForSequenceClassification") for name in names):
        if config.num_labels > 2:
            raise UserError(
                f"{spec} has {config.num_labels} labels; a reward model has one (or two: the odds of label 1)"
            )
        return "score"
    if getattr(config, "is_encoder_decoder", False) or not any("LM" in n or "Generation" in n for n in names):
        raise UserError(
            f"{spec} ({shown}) neither chats nor scores; ...ForCausalLM and ...ForSequenceClassification do"
        )
    return "chat"


def _context(config: Any) -> int:
    text = config.get_text_config()
    limits = (getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len"))
    return next((int(limit) for limit in limits if limit), UNBOUNDED)


def need(package: str, spec: str) -> Any:
    """Import a heavy package; raises UserError with the command that installs it."""
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        name = (error.name or package).partition(".")[0]
        raise UserError(f"{spec} needs the package '{name}': {install_hint(package)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the screen while loading."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
