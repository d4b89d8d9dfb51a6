"""The training loop. Legend: N pictures of 3 x H x W, K classes, T test pictures.

Data lie in memory as 8-bit pictures, padded once; a batch is cut out by one indexing operation that lands in
channels_last memory. Data that are larger than memory should hold lie in a file and are padded batch by batch.
benchmarks/training_loop.py measures this against the usual PIL and DataLoader loop.

Where a process group stands (torchrun), every process has all data and makes the same batches; forward and backward
pass of a step are divided among them. What is done with the model's help, such as adversarial training, each does for
the whole batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from countermove.learning.augment import BatchStep, Bordered, ModelStep, Window
from countermove.learning.checkpoint import Checkpoint, restore_training, training_state
from countermove.learning.distributed import copies, divided, normalised_together, part, total, weight
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, place, predict
from countermove.learning.stopping import History, Stopping, stage_epochs
from countermove.pixels.randomness import generator as make_generator

OptimizerOf = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""From the parameters that are trained to their optimiser; its learning rate is then set step by step."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""From a model's output and the targets to one number, the mean over a batch."""


@dataclass
class Training:
    """What a training gives.

    predicted:      int64 [T], what the model of the last epoch (or of `kept_epoch`) names each test picture.
    accuracy:       on the test pictures, one value an epoch.
    probes:         accuracy on other labelled pictures by their name, one value an epoch.
    train_accuracy: on the received pictures as trained on (augmented), one value an epoch.
    train_loss:     likewise.
    samples:        forward-backward passes.
    kept_epoch:     the epoch (0-based) whose model is scored: the last one, or where an early stop says so.
    stages:         weights at the epochs that were to be kept, in order.
    """

    predicted: Tensor
    accuracy: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    probes: dict[str, list[float]] = field(default_factory=dict)
    stages: list[dict[str, Tensor]] = field(default_factory=list)
    kept_epoch: int = -1
    samples: int = 0
    seconds: float = 0.0


def train(
    model: nn.Module,
    received: Examples,
    test: Examples,
    *,
    recipe: Recipe,
    seed: int,
    classes: int,
    steps: Sequence[BatchStep] = (),
    model_steps: Sequence[ModelStep] = (),
    probes: Mapping[str, Examples] | None = None,
    stop: Stopping | None = None,
    stages: int = 0,
    loss: Loss = F.cross_entropy,
    optimizer: OptimizerOf | None = None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Train a model in place on received pictures and score it on test pictures after every epoch.

    The same seed gives the same result on one device with one number of threads. A checkpoint that is found is
    continued from, to the same result. Several processes differ from one by rounding, and where layers draw (dropout),
    which then draw other numbers after a checkpoint, too.

    Args:
        model: maps pictures [n, 3, H, W] in [0, 1] to logits [n, classes].
        received: what it is trained on.
        test: what it is scored on.
        recipe: how.
        seed: of order, windows and everything drawn in between.
        classes: how many.
        steps: what is done to every batch after crop and flip.
        model_steps: what is done after that with the model's help, such as adversarial training.
        probes: more pictures that it is scored on after every epoch, by name.
        stop: when to stop early; the model of the last epoch stays in place, what counts is `kept_epoch`.
        stages: how many equidistant epochs' weights to return, the last epoch's among them.
        loss: of the model's output and labels [n] (class probabilities [n, classes] where there are batch steps).
        optimizer: of whatever requires gradients; None: stochastic gradient descent with momentum, as the recipe says.
        device: "cpu" or "cuda".
        checkpoint: where to go on from.

    Raises:
        ConfigError: when more stages are asked for than there are epochs.
    """
    began = time.perf_counter()
    generator = make_generator(seed, "training")
    place(model, device)
    trainer = _Trainer(model, recipe, generator, tuple(steps), tuple(model_steps), classes, loss, optimizer, device)
    data, labels = Bordered(received.pictures, recipe.crop, device), received.labels.to(device)
    log = Training(predicted=torch.zeros(len(test), dtype=torch.int64), probes={name: [] for name in probes or {}})
    kept, history = stage_epochs(recipe.epochs, stages), History(stop)
    done = 0 if kept or stop else trainer.resume(checkpoint, log)
    with _reproducible(seed, device), normalised_together(model):
        if trainer.layers_state is not None:
            torch.set_rng_state(trainer.layers_state)
        if trainer.layers_state_cuda is not None:
            torch.cuda.set_rng_state(trainer.layers_state_cuda)
        for epoch in range(done, recipe.epochs):
            mean_loss, accuracy, seen = trainer.epoch(data, labels, epoch)
            log.predicted = predict(model, test.pictures, device=device)
            log.accuracy.append(_share(log.predicted == test.labels))
            for name, more in (probes or {}).items():
                log.probes[name].append(_share(predict(model, more.pictures, device=device) == more.labels))
            log.train_accuracy.append(accuracy)
            log.train_loss.append(mean_loss)
            log.samples += round(seen * (1 + sum(step.passes for step in trainer.model_steps)))
            if epoch in kept:
                log.stages.append(_kept(model))
            if history.says_stop(log.train_accuracy, log.predicted):
                break
            if checkpoint is not None and not (kept or stop):
                trainer.save(checkpoint, log)
    log.kept_epoch, log.predicted = history.settled(log.train_accuracy, log.predicted)
    log.seconds = time.perf_counter() - began
    return log


def descent(recipe: Recipe) -> OptimizerOf:
    """Return stochastic gradient descent with momentum, as a recipe says."""

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    return make


class _Trainer:
    """The state of one training: model, optimiser, generator."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        generator: Generator,
        steps: tuple[BatchStep, ...],
        model_steps: tuple[ModelStep, ...],
        classes: int,
        loss: Loss,
        optimizer: OptimizerOf | None,
        device: str,
    ) -> None:
        self.model, self.recipe, self.generator, self.loss = model, recipe, generator, loss
        self.steps, self.model_steps, self.classes, self.device = steps, model_steps, classes, device
        self.run = divided(model)
        if device == "cuda":
            self.run = torch.compile(self.run)
        self.layers_state: Tensor | None = None
        self.layers_state_cuda: Tensor | None = None
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = descent(recipe)(trained) if optimizer is None else optimizer(trained)

    def epoch(self, data: Bordered, labels: Tensor, epoch: int) -> tuple[float, float, int]:
        """Train one epoch; return mean loss, accuracy and pictures seen."""
        recipe, n = self.recipe, len(labels)
        order = torch.randperm(n, generator=self.generator)
        batches = [b for b in order.split(recipe.batch_size) if len(b) > 1]  # batch norm needs two
        self.model.train()
        loss_sum, right, counted, seen = 0.0, 0, 0, sum(len(b) for b in batches)
        for i, index in enumerate(batches):
            window = Window.draw(
                len(index), data.height, data.width, crop=recipe.crop, flip=recipe.flip, generator=self.generator
            )
            pictures = data.look(window, index).float().div_(255)
            named = labels[index.to(self.device)]
            targets: Tensor = named
            if self.steps:
                targets = F.one_hot(named, self.classes).float()
                for step in self.steps:
                    pictures, targets = step(pictures, targets, generator=self.generator)
            progress = (epoch + i / len(batches)) / recipe.epochs
            with self._half_precision():
                for step in self.model_steps:
                    pictures, targets = step(self.model, pictures, targets, generator=self.generator, progress=progress)
            own, lr = part(len(index)), recipe.lr_at(epoch * len(batches) + i, recipe.epochs * len(batches))
            loss, logits = self._step(pictures[own], targets[own], lr=lr, share=weight(len(index)))
            known = len(logits) / copies(len(index))
            loss_sum += loss * known
            right += float((logits.argmax(dim=1) == named[own]).sum()) * known / len(logits)
            counted += known
        loss_sum, right, counted = self._over_all(loss_sum, right, counted)
        return loss_sum / counted, right / counted, seen

    def _step(self, pictures: Tensor, targets: Tensor, *, lr: float, share: float) -> tuple[float, Tensor]:
        """Take one step; return the loss and the logits of this process's part."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with self._half_precision():
            logits = self.run(pictures)
            loss = self.loss(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if share == 1 else loss * share).backward()
        self.optimizer.step()
        return float(loss.detach()), logits.detach()

    def _over_all(self, *sums: float) -> list[float]:
        return total(torch.tensor(sums, dtype=torch.float64, device=self.device)).tolist()

    def _half_precision(self) -> torch.autocast:
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=self.device == "cuda")

    def save(self, checkpoint: Checkpoint, log: Training) -> None:
        tensors = training_state(self.model, self.optimizer)
        tensors |= {
            "generator": self.generator.get_state(),
            "global": torch.get_rng_state(),
            "predicted": log.predicted,
        }
        if self.device == "cuda":
            tensors["global-cuda"] = torch.cuda.get_rng_state()
        facts = {
            "accuracy": log.accuracy,
            "train_accuracy": log.train_accuracy,
            "train_loss": log.train_loss,
            "probes": log.probes,
        }
        checkpoint.save_if_due(tensors, {**facts, "samples": log.samples})

    def resume(self, checkpoint: Checkpoint | None, log: Training) -> int:
        """Take up a checkpoint; return how many epochs are done."""
        found = checkpoint.load() if checkpoint is not None else None
        if found is None:
            return 0
        tensors, facts = found
        restore_training(self.model, self.optimizer, tensors)
        self.generator.set_state(tensors["generator"])
        self.layers_state = tensors["global"]
        self.layers_state_cuda = tensors.get("global-cuda")
        log.predicted, log.samples, log.probes = tensors["predicted"], facts["samples"], facts["probes"]
        log.accuracy, log.train_accuracy, log.train_loss = (
            facts["accuracy"],
            facts["train_accuracy"],
            facts["train_loss"],
        )
        return len(log.accuracy)


@contextmanager
def _reproducible(seed: int, device: str) -> Iterator[None]:
    """Give layers that draw from the global generator (dropout) a stream of their own, and put the old one back."""
    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
        torch.manual_seed(make_generator(seed, "layers").initial_seed())
        yield


def _kept(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights on the CPU, laid out as files want them."""
    weights = model.state_dict().items()
    return {name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in weights}


def _share(right: Tensor) -> float:
    return float(right.float().mean())
