"""A published BERT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countermove.errors import WeightsError
from countermove.game.content import fingerprint_files, locate
from countermove.nets.weights import check_sha256
from countermove.tasks.bases import NAMES
from countermove.tasks.pretraining import Watch


@dataclass(frozen=True, kw_only=True)
class PublicBert:
    """A BERT with published weights, such as bert-base-uncased, Devlin et al. 2019, arXiv:1810.04805.

    Never downloaded, and never run with code from the folder.

    weights: a folder with config.json, model.safetensors and the tokenizer's files.
    sha256:  of model.safetensors, or its first digits; empty: not checked.
    full_lr: the learning rate of the full fine-tuning that everything is measured against.
    """

    version: ClassVar[int] = 1
    weights: str
    sha256: str = ""
    full_lr: float = 2e-5

    def check(self) -> None:
        """Raise where the folder or its weights are not there or not the ones that were named."""
        folder = self._folder()
        missing = [name for name in NAMES[:2] if not (folder / name).is_file()]
        if missing:
            raise WeightsError(f"{folder} lacks {', '.join(missing)}; save the network there as transformers does")
        if self.sha256:
            check_sha256(folder / "model.safetensors", self.sha256)

    def content(self, *, device: str = "cpu", rehash: bool = False) -> str:
        """Return SHA-256 over the files."""
        folder = self._folder()
        return fingerprint_files([(n, folder / n) for n in NAMES if (folder / n).is_file()], rehash=rehash)

    def folder(self, *, device: str = "cpu", watch: Watch = lambda *_: None) -> Path:
        """Return where it lies."""
        self.check()
        return self._folder()

    def _folder(self) -> Path:
        return locate(self.weights, None)
