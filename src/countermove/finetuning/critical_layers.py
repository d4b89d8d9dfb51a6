"""Which layers must change: measured, chosen, and everything else frozen."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, DataError, did_you_mean
from countermove.finetuning.layers import blocks, check_layers, inside, put

Loss = Callable[[nn.Module], Iterable[Tensor]]
"""Given a network, yields the loss of one batch after another, of the network as it stands by then."""


class CountedLosses:
    """Losses of batches, and how many samples went forward and back for them; those that only went forward count, too.

    batches: yields a loss and how many samples it is of.
    beside:  what the losses pass through besides the network, such as a head that is thrown away: trained along
             wherever a copy of the network is trained.
    """

    def __init__(
        self, batches: Callable[[nn.Module], Iterable[tuple[Tensor, int]]], *, beside: nn.Module | None = None
    ) -> None:
        self._batches, self.beside, self.samples = batches, beside, 0

    def __call__(self, network: nn.Module) -> Iterator[Tensor]:
        """Yield the losses."""
        for loss, samples in self._batches(network):
            self.samples += samples
            yield loss


Score = Callable[[], float]

SENSITIVITY_BATCHES = 8
"""Of the task's own data, to measure sensitivity on."""


def gradient_sensitivity(network: nn.Module, losses: Loss) -> dict[str, float]:
    """Return for every block how much a small step of all its numbers would lower the loss, per number.

    The mean absolute value of the mean gradient over the batches: the first-order change of the loss when every number
    moves by one unit of length against its gradient's sign, which is nearly what a step of Adam does. Costs one
    forward-backward pass a sample. Weights, modes and gradients are left as they were.

    Args:
        network: on the device that the losses are taken on.
        losses: yields the loss of one batch after another; the first SENSITIVITY_BATCHES count.
    """
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    sums = [torch.zeros_like(p, dtype=torch.float32) for _, p in parameters]
    modes, count = [(module, module.training) for module in network.modules()], 0
    network.eval()
    for loss in islice(losses(network), SENSITIVITY_BATCHES):
        found = torch.autograd.grad(loss, [p for _, p in parameters], allow_unused=True)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                total += gradient
        count += 1
    for module, mode in modes:
        module.training = mode
    if not count:
        raise _no_batch()
    mean = {name: total / count for (name, _), total in zip(parameters, sums, strict=True)}
    return {
        block: float(sum(mean[name].abs().sum() for name in held)) / sum(mean[name].numel() for name in held)
        for block, held in blocks(mean).items()
    }


def rewinding_sensitivity(network: nn.Module, base: Mapping[str, Tensor], score: Score) -> dict[str, float]:
    """Return for every block how much the score falls when that block alone goes back to where it began.

    Exact, and needs the tuned network: the layers whose change carried the task. The network is left as it was.

    Args:
        network: tuned.
        base: the weights it was tuned from; blocks that it lacks are not measured.
        score: of the network as it stands; higher is better.
    """
    own = dict(network.state_dict())
    best = score()
    found = {}
    for block, held in blocks(name for name in own if name in base).items():
        kept = {name: own[name].clone() for name in held}
        put(own, {name: base[name] for name in held})
        found[block] = best - score()
        put(own, kept)
    return found


def trained_and_rewound(
    network: nn.Module, losses: Loss, *, steps: int, lr: float, names: Collection[str] | None = None
) -> dict[str, float]:
    """Return for every block how much the loss rises when it alone goes back, after a copy was trained for some steps.

    AdamW trains the whole copy in evaluation mode, batch after batch of the losses, from the start where they end. The
    loss is then taken on the first SENSITIVITY_BATCHES, once and once a block. The network is left as it was.

    Args:
        network: on the device that the losses are taken on.
        losses: yields the loss of one batch after another, of the network as it stands by then.
        steps: batches that the copy is trained on.
        lr: of AdamW.
        names: of the parameters whose blocks are asked about; None: all.

    Raises:
        ConfigError: when there is no batch.
        DataError: when a loss is not finite after the training.
    """
    tuned = copy.deepcopy(network).eval().requires_grad_(True)
    beside: nn.Module | None = getattr(losses, "beside", None)
    kept = None if beside is None else copy.deepcopy(beside.state_dict())
    trained = [*tuned.parameters(), *(() if beside is None else beside.parameters())]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for loss in islice(_again_and_again(losses, tuned), steps):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def score() -> float:
        found = [float(loss.detach()) for loss in islice(losses(tuned), SENSITIVITY_BATCHES)]
        if not math.isfinite(sum(found)):
            raise DataError("the copy that sensitivity is measured on diverged: its loss is not finite; lower lr")
        return -sum(found) / len(found)

    base = {name: p.detach() for name, p in network.named_parameters() if names is None or name in names}
    sensitivity = rewinding_sensitivity(tuned, base, score)
    if beside is not None and kept is not None:
        beside.load_state_dict(kept)
    return sensitivity


def _again_and_again(losses: Loss, network: nn.Module) -> Iterator[Tensor]:
    while True:
        empty = True
        for loss in losses(network):
            empty = False
            yield loss
        if empty:
            raise _no_batch()


def _no_batch() -> ConfigError:
    return ConfigError("sensitivity is measured on batches, and there is none")


def choose(sensitivity: Mapping[str, float], sizes: Mapping[str, int], *, most: float) -> list[str]:
    """Return the most sensitive blocks that together hold at most so many numbers, the most sensitive first.

    A block that no longer fits is passed over for smaller ones behind it.

    Raises:
        ConfigError: when not even one block fits.
    """
    left, chosen = most, []
    for block in sorted(sensitivity, key=lambda name: (-sensitivity[name], name)):
        if sizes[block] <= left:
            chosen.append(block)
            left -= sizes[block]
    if not chosen:
        raise ConfigError(f"no layer has as few as {most:,.0f} parameters; allow a larger share")
    return chosen


def first_or_last(names: Iterable[str], *, first: int = 0, last: int = 0) -> list[str]:
    """Return the first or the last n numbered blocks, such as encoder layers; the others where none are numbered."""
    numbered = [block for block in blocks(names) if block.rpartition(".")[2].isdigit()] or list(blocks(names))
    return [*numbered[:first], *(numbered[-last:] if last else [])]


def within(names: Iterable[str], layers: Collection[str], *, without: Collection[str] = ()) -> list[str]:
    """Return the parameters that lie in some layers and not in others; layers are beginnings of names on whole words.

    Raises:
        ConfigError: when a layer is not there.
    """
    names = list(names)
    check_layers([*layers, *without], names)
    return [name for name in names if inside(name, layers) and not inside(name, without)]


def train_only(network: nn.Module, parameters: Collection[str]) -> None:
    """Freeze everything but some parameters, by their full names.

    Autograd then neither computes gradients of frozen weights nor goes back below the first trainable layer.

    Raises:
        ConfigError: when one is not there, or nothing would be trained.
    """
    own = dict(network.named_parameters())
    missing = sorted(set(parameters) - set(own))
    if missing:
        raise ConfigError(f"this network has no parameter {missing[0]!r}: {did_you_mean(missing[0], own)}")
    if not parameters:
        raise ConfigError("everything would be frozen; name at least one layer to train")
    for name, parameter in own.items():
        parameter.requires_grad_(name in parameters)


def hold_statistics(network: nn.Module) -> Callable[[], None]:
    """Keep normalisations with running statistics in evaluation mode where none of their parameters is trained.

    Otherwise a frozen layer would change all the same. Returns what lets go of them.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    held = [norm for norm in norms if not any(p.requires_grad for p in norm.parameters())]
    hooks = [norm.register_forward_pre_hook(_evaluates) for norm in held]

    def release() -> None:
        for hook in hooks:
            hook.remove()

    return release


def _evaluates(norm: nn.Module, _: object) -> None:
    norm.eval()
