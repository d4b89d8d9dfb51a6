"""A training by two processes gives what one gives, up to rounding."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from countermove.learning.adversary import Adversary
from countermove.learning.augment import CutMixStep
from countermove.learning.distributed import divided, normalised_together, part, processes, total, weight
from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.small import SmallCnn
from countermove.nets.weights import save_weights
from countermove.pixels.randomness import generator

RECIPE = Recipe(epochs=3, batch_size=24, lr=0.05, crop=2)
TOLERANCE = 1e-4
"""Of weights and losses after the nine steps of this training; docs/reliability.md states it."""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What two processes of one group left, each in its folder."""
    folder = tmp_path_factory.mktemp("together")
    spawn(_one, (folder,), nprocs=2)
    return folder / "0", folder / "1"


def _one(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    mine = folder / str(rank)
    mine.mkdir()
    for work in (tell_parts, normalise, learn):
        work(mine)
    dist.barrier()
    os._exit(0)  # everything is written; taking the group down can only go wrong, and sometimes does


def test_without_a_group_everything_is_ones_own() -> None:
    model, numbers = nn.Linear(2, 2), torch.arange(3.0)
    assert (processes(), part(7), weight(7)) == (1, slice(0, 7), 1.0)
    assert divided(model) is model
    assert total(numbers) is numbers
    with normalised_together(nn.BatchNorm1d(2)):
        pass


def tell_parts(out: Path) -> None:
    spans = [(part(n).start, part(n).stop, weight(n)) for n in range(1, 8)]
    (out / "parts.json").write_text(json.dumps(spans))


def test_parts_are_a_batch_once_and_their_weights_make_its_mean(two: tuple[Path, Path]) -> None:
    told = [json.loads((folder / "parts.json").read_text()) for folder in two]
    assert told[0][0] == told[1][0] == [0, 1, 1.0]
    for n, spans in list(enumerate(zip(*told, strict=True), start=1))[1:]:
        rows = [row for start, stop, _ in spans for row in range(start, stop)]
        assert rows == list(range(n))
        values = torch.arange(n, dtype=torch.float64).square()
        means = [float(values[start:stop].mean()) * share for start, stop, share in spans]
        assert sum(means) / 2 == pytest.approx(float(values.mean()))


def normalising() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=None), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    for number, parameter in enumerate(model.parameters()):
        values = torch.randn(parameter.shape, generator=generator(number, "parameters"))
        parameter.data.copy_(values)
    return model, torch.randn(5, 3, 2, 2, generator=generator(9, "pictures")) * 3 + 1


def loss_of(model: nn.Module, pictures: Tensor) -> Tensor:
    return model(pictures).sin().flatten(1).sum(1).mean()


def normalise(out: Path) -> None:
    model, pictures = normalising()
    own = part(len(pictures))
    run = divided(model)
    with normalised_together(model):
        for _ in range(2):
            model.zero_grad()
            (loss_of(run, pictures[own]) * weight(len(pictures))).backward()
    gradients = {f"gradient.{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.eval()
    save_file({**model.state_dict(), **gradients, "named": model(pictures)}, out / "after.safetensors")


def test_batch_normalisation_is_that_of_the_whole_batch(two: tuple[Path, Path]) -> None:
    model, pictures = normalising()
    for _ in range(2):
        model.zero_grad()
        loss_of(model, pictures).backward()
    alone = {**model.state_dict(), **{f"gradient.{n}": p.grad for n, p in model.named_parameters()}}
    model.eval()
    alone["named"] = model(pictures)
    for folder in two:
        after = load_file(folder / "after.safetensors")
        assert after.keys() == alone.keys()
        for name, values in after.items():
            torch.testing.assert_close(values, alone[name], msg=lambda told, name=name: f"{name}: {told}")


def network() -> nn.Module:
    return SmallCnn(width=0.25)(2, 16, generator(0, "model"))


def data() -> tuple[Examples, Examples]:
    drawn = generator(5, "pictures")
    labels = torch.arange(75) % 2  # a last batch of three, which two processes divide unequally
    pictures = torch.randint(0, 200, (75, 3, 16, 16), dtype=torch.uint8, generator=drawn)
    pictures[labels == 1, 0] += 55
    return Examples(pictures=pictures[:51], labels=labels[:51]), Examples(pictures=pictures[51:], labels=labels[51:])


def learn(out: Path) -> None:
    learnt, tested = data()
    model = network()
    log = train(
        model,
        learnt,
        tested,
        recipe=RECIPE,
        seed=3,
        classes=2,
        steps=[CutMixStep(alpha=1.0, probability=0.5)],
        model_steps=[Adversary(steps=2)],
    )
    save_weights(model, out / "weights.safetensors")
    (out / "log.json").write_text(json.dumps([log.train_loss, log.train_accuracy, log.accuracy, log.samples]))


def outcome(folder: Path) -> tuple[dict[str, Tensor], list[Any]]:
    return load_file(folder / "weights.safetensors"), json.loads((folder / "log.json").read_text())


def test_a_training_by_two_processes_is_that_of_one(two: tuple[Path, Path], tmp_path: Path) -> None:
    learn(tmp_path)
    weights, log = outcome(tmp_path)
    moved = max(float((weights[name] - start).abs().max()) for name, start in network().state_dict().items())
    assert moved > 100 * TOLERANCE
    for folder in two:
        theirs, told = outcome(folder)
        for name, values in weights.items():
            torch.testing.assert_close(theirs[name], values, rtol=TOLERANCE, atol=TOLERANCE)
        assert told[0] == pytest.approx(log[0], abs=TOLERANCE)
        assert told[1:] == log[1:]
