"""Checkpoints of long work: tensors in safetensors, the rest as JSON in its header. No pickle."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from countermove.errors import WeightsError
from countermove.nets.weights import check_header

EVERY_SECONDS = 300.0
REMEMBERED = {"momentum_buffer": "momentum", "step": "step", "exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
"""What SGD and AdamW remember of a parameter, and what it is called in a file."""


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
            check_header(self.path)
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                return {name: file.get_tensor(name) for name in file.keys()}, facts
        except (SafetensorError, OSError, KeyError, ValueError, RecursionError, WeightsError):
            return None


def training_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return a model's weights and buffers and what its optimiser remembers of each parameter, by name."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{REMEMBERED.get(key, key)}.{name}"] = torch.as_tensor(value)
    return tensors


def restore_training(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `training_state` returned, in place."""
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        kept = {key: tensors[f"{word}.{name}"] for key, word in REMEMBERED.items() if f"{word}.{name}" in tensors}
        if kept:
            # the number of steps stays where the optimiser counts it; the rest lies beside the parameter
            optimizer.state[parameter] = {
                k: t.clone() if k == "step" else t.to(parameter.device) for k, t in kept.items()
            }
