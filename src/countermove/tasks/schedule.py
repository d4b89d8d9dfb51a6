"""AdamW's learning rate over time, and its state on disk."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def line(step: int, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate: up in a line over a share of all steps, then down to zero in one."""
    rising = warmup * steps
    return (step + 1) / (rising + 1) if step < rising else (steps - step) / max(1.0, steps - rising)


def adam_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return a model's weights, and the moments and step counts of its trained parameters, by name."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = torch.as_tensor(value)
    return tensors


def restore_adam(model: nn.Module, optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `adam_state` returned, in place."""
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        keys = ("step", "exp_avg", "exp_avg_sq")
        if f"adam.step.{name}" in tensors:
            found = {key: tensors[f"adam.{key}.{name}"].clone() for key in keys}
            moments = {key: tensor.to(parameter.device) for key, tensor in found.items() if key != "step"}
            optimizer.state[parameter] = {"step": found["step"], **moments}
