"""Fine-tuning of networks for pictures, one way or another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from countermove.finetuning.adaptation import Adaptation, Adapted, read_adaptation
from countermove.finetuning.critical_layers import CountedLosses
from countermove.finetuning.ways.lora import Lora, needs_peft
from countermove.learning.augment import BatchStep, ModelStep
from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Loss as Criterion
from countermove.learning.loop import OptimizerOf, Training, train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, place, to_model
from countermove.pixels.randomness import generator
from countermove.pixels.selection import pick

FULL = "full"


def adamw(way: Adaptation) -> OptimizerOf:
    """Return AdamW at an adaptation's learning rate, without weight decay: zero is no better place for a mask."""

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=way.lr, weight_decay=0.0)

    return make


def ready(adaptation: str) -> Adaptation:
    """Read an adaptation and import what it needs, which takes seconds that are no part of a price.

    Raises:
        ConfigError: when it is unknown, or what it needs is not installed.
    """
    way = read_adaptation(adaptation)
    if isinstance(way, Lora):
        needs_peft()
    return way


def fine_tune(
    network: nn.Module,
    examples: Examples,
    test: Examples,
    *,
    adaptation: str,
    recipe: Recipe,
    seed: int,
    classes: int,
    steps: Sequence[BatchStep] = (),
    model_steps: Sequence[ModelStep] = (),
    probes: Mapping[str, Examples] | None = None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> tuple[Training, Adapted]:
    """Fine-tune a classifier in place: AdamW at the adaptation's learning rate, under the recipe's schedule.

    Args:
        network: trained before.
        examples: what it is fine-tuned on.
        test: what it is scored on after every epoch.
        adaptation: spelled, such as "mask(sparsity=0.1)".
        recipe: epochs, batches, crop and flip; its lr, momentum and weight decay are not used.
        seed: of everything drawn.
        classes: how many.
        steps: what is done to every batch after crop and flip.
        model_steps: what is done after that with the model's help.
        probes: more pictures that it is scored on after every epoch, by name.
        device: "cpu" or "cuda".
        checkpoint: where to go on from.

    Raises:
        ConfigError: when the adaptation is unknown or does not fit the network.
    """
    place(network, device)
    losses = sensitivity_losses(examples, batch_size=recipe.batch_size, seed=seed, device=device)
    way = ready(adaptation)
    adapting = way.begin(network, losses=losses, seed=seed)
    log = train(
        network,
        examples,
        test,
        recipe=replace(recipe, lr=way.lr),
        seed=seed,
        classes=classes,
        steps=steps,
        model_steps=model_steps,
        probes=probes,
        optimizer=adamw(way),
        device=device,
        checkpoint=checkpoint,
    )
    log.samples += losses.samples
    return log, adapting.finish()


def sensitivity_losses(
    examples: Examples,
    *,
    batch_size: int,
    seed: int,
    device: str = "cpu",
    head: nn.Module | None = None,
    features: Callable[[nn.Module, Tensor], Tensor] | None = None,
    loss: Criterion = F.cross_entropy,
) -> CountedLosses:
    """Return what yields the losses of batches of labelled pictures, to measure sensitivity on.

    Args:
        examples: the task's own.
        batch_size: of every batch but the last.
        seed: of their order.
        device: "cpu" or "cuda".
        head: makes the loss's input from features, where the network alone names nothing; trained along with a copy.
        features: of a network for pictures [n, 3, H, W]; None: its output.
        loss: of that and labels [n].
    """
    look = features or (lambda network, pictures: network(pictures))

    def batches(network: nn.Module) -> Iterator[tuple[Tensor, int]]:
        order = torch.randperm(len(examples), generator=generator(seed, "sensitivity"))
        for index in order.split(batch_size):
            seen = look(network, to_model(examples.pictures[index], device))
            output = seen if head is None else head(seen)
            yield loss(output, examples.labels[index].to(device)), len(index)

    return CountedLosses(batches, beside=None if head is None else head.to(device))


def some_rows(ids: Sequence[str], most: int) -> Tensor:
    """Return which of so many examples a trainer has, chosen by id, bool [N]; 0: all."""
    if not 0 < most < len(ids):
        return torch.ones(len(ids), dtype=torch.bool)
    return torch.from_numpy(pick(ids, most / len(ids), seed=0, purpose="clean photos of the trainer"))
