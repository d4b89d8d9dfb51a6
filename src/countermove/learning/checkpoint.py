"""Checkpoints of long work: tensors in safetensors, the rest as JSON in its header. No pickle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

EVERY_SECONDS = 300.0


@dataclass
class Checkpoint:
    """One file that is renewed now and then while work goes on.

    path:  where it lives; its folder is made when the first checkpoint is due.
    every: seconds between two checkpoints.
    """

    path: Path
    every: float = EVERY_SECONDS
    _last: float = field(default_factory=time.monotonic, init=False)

    def save_if_due(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> bool:
        """Write a checkpoint when the last one is old enough. Returns whether it did."""
        if time.monotonic() - self._last < self.every:
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={"facts": json.dumps(facts)})
        temporary.replace(self.path)
        self._last = time.monotonic()
        return True

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the last checkpoint, None when there is none that can be read."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                return {name: file.get_tensor(name) for name in file.keys()}, facts
        except (SafetensorError, OSError, KeyError, json.JSONDecodeError):
            return None
