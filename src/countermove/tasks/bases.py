"""Networks that are pre-trained here, each once, and kept in the cache folder."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from countermove.errors import RunError, WeightsError
from countermove.game.cell import digest
from countermove.game.content import cache_folder
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.distributed import first_alone
from countermove.pixels.decode import words
from countermove.tasks.books import fingerprint, paragraphs
from countermove.tasks.pretraining import BertSize, Watch, pretrain

CACHE, FACTS = "bases", "pretraining.json"
NAMES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
)
VERSION, THREADS = 1, 2
"""Goes up when the same size and seed give another network."""


def base_key(size: BertSize, *, seed: int, device: str = "cpu", root: Path | None = None, rehash: bool = False) -> str:
    """Return under which key a pre-trained network is kept: its size, its seed, the books, and where it is trained."""
    facts = {"size": asdict(size), "seed": seed, "books": fingerprint(root, rehash=rehash)}
    return digest({"version": VERSION, **facts, "device": device, "threads": THREADS})


def pretrained_folder(
    size: BertSize, *, seed: int, device: str = "cpu", root: Path | None = None, watch: Watch = lambda *_: None
) -> Path:
    """Return a folder with config.json, model.safetensors, tokenizer.json and FACTS; made where it is not there.

    Trained with THREADS threads whatever a run uses, so that all runs see the same network. Work that was cut short is
    taken up where its last checkpoint stands.

    Raises:
        DataError: when there are no books.
        RunError: when the cache cannot be written.
    """

    def make(to: Path, checkpoint: Checkpoint) -> dict[str, Any]:
        made = pretrain(list(paragraphs(root)), size, seed=seed, device=device, checkpoint=checkpoint, watch=watch)
        save_model(made.model, made.tokenizer, to)
        return {
            "size": asdict(size),
            "seed": seed,
            "loss": made.loss,
            "samples": made.samples,
            "seconds": made.seconds,
        }

    return made_once(base_key(size, seed=seed, device=device, root=root), make)


def made_once(key: str, make: Callable[[Path, Checkpoint], dict[str, Any]], *, threads: int = THREADS) -> Path:
    """Return the folder of the cache under a key, with its FACTS; made where it is not there, by one process.

    Args:
        key: of everything that its content depends on.
        make: writes the network's files into a folder and returns its facts; goes on from the checkpoint.
        threads: that it is given, whatever a run uses.

    Raises:
        RunError: when the cache cannot be written.
    """
    folder = cache_folder() / CACHE / key
    with first_alone() as mine:
        if mine and not (folder / FACTS).is_file():
            _make(folder, make, threads)
    return folder


def _make(folder: Path, make: Callable[[Path, Checkpoint], dict[str, Any]], threads: int) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = Checkpoint(folder.with_suffix(".training"), every=60)
        temporary = folder.with_name(f".{folder.name[:16]}.{secrets.token_hex(8)}.tmp")
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            facts = make(temporary, checkpoint)
        finally:
            torch.set_num_threads(before)
        (temporary / FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        if (folder / FACTS).is_file():  # another process was faster
            shutil.rmtree(temporary)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # one without facts may stand there
            temporary.rename(folder)
        checkpoint.path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {words(error)}; make room and run the same command again"
        ) from None


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer as transformers reads them."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def facts_of(folder: Path) -> dict[str, Any]:
    """Return how a pre-training went: size, seed, loss an epoch, samples, seconds."""
    return json.loads((folder / FACTS).read_text(encoding="utf-8"))


def copy_base(folder: Path, to: Path) -> None:
    """Copy a network's own files; no code that may lie beside them.

    Raises:
        WeightsError: when it has no configuration or no weights.
    """
    missing = [name for name in NAMES[:2] if not (folder / name).is_file()]
    if missing:
        raise WeightsError(f"{folder} lacks {', '.join(missing)}; save the network there as transformers does")
    for name in (*NAMES, FACTS):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, to / name)
