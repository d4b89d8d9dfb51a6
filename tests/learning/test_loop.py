"""The training loop: it learns, it repeats itself, and what was interrupted ends the same."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from countermove.learning.checkpoint import Checkpoint
from countermove.learning.loop import Training, train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples, correct
from countermove.nets.small import SmallCnn
from countermove.pixels.randomness import generator

SHORT = Recipe(epochs=3, batch_size=32, lr=0.05, crop=2)


def small(seed: int = 0) -> nn.Module:
    return SmallCnn(width=0.25)(2, 16, generator(seed, "model"))


def dropping(seed: int = 0) -> nn.Module:
    """Return a network whose forward pass draws from torch's global generator."""
    return nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(0.5), _linear(seed))


def _linear(seed: int) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):  # its own initialiser draws from the global generator
        layer = nn.Linear(48, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(2, 48, generator=generator(seed, "linear")) * 0.1)
        layer.bias.zero_()
    return layer


def state(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def told(log: Training) -> tuple[object, ...]:
    """Return everything a training tells except the seconds."""
    return log.predicted.tolist(), log.accuracy, log.train_accuracy, log.train_loss, log.samples


@pytest.fixture(params=[small, dropping], ids=["small-cnn", "dropout"])
def network(request: pytest.FixtureRequest):
    return request.param


def test_it_learns_two_colours(train_set: Examples, test_set: Examples) -> None:
    model = small()
    untrained = float(correct(model, test_set).float().mean())
    log = train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2)
    assert log.accuracy[-1] > 0.9
    assert log.accuracy[-1] > untrained
    assert len(log.accuracy) == len(log.train_accuracy) == len(log.train_loss) == 3
    assert log.train_loss[-1] < log.train_loss[0]
    assert log.samples == 3 * len(train_set)
    assert (log.predicted == test_set.labels).tolist() == correct(model, test_set).tolist()
    assert log.accuracy[-1] == pytest.approx(float(correct(model, test_set).float().mean()))
    assert log.seconds > 0


def test_it_learns_what_it_is_told_and_not_what_is_there(train_set: Examples, test_set: Examples) -> None:
    lied = Examples(pictures=train_set.pictures, labels=1 - train_set.labels)
    log = train(small(), lied, test_set, recipe=SHORT, seed=0, classes=2)
    assert log.accuracy[-1] < 0.1
    assert log.train_accuracy[-1] > 0.9


def test_same_seed_same_bytes_other_seed_others(network, train_set: Examples, test_set: Examples) -> None:
    ends = []
    for seed in (0, 0, 1):
        model = network()
        log = train(model, train_set, test_set, recipe=SHORT, seed=seed, classes=2)
        ends.append((state(model), told(log)))
    assert ends[0] == ends[1]
    assert ends[0][0] != ends[2][0]


def test_the_same_bytes_whatever_the_global_state(train_set: Examples, test_set: Examples) -> None:
    ends = []
    for noise in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(noise)
            model = dropping()
            train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2)
            ends.append(state(model))
    assert ends[0] == ends[1]


def test_dropout_really_drops(train_set: Examples, test_set: Examples) -> None:
    ends = []
    for p in (0.0, 0.5):
        model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Dropout(p), _linear(0))
        train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2)
        ends.append(state(model))
    assert [*ends[0].values()] != [*ends[1].values()]


def test_global_states_and_data_are_untouched(network, train_set: Examples, test_set: Examples) -> None:
    before = torch.get_rng_state(), np.random.get_state(legacy=True)[1].tolist(), random.getstate()  # type: ignore[union-attr]
    pictures, labels = train_set.pictures.clone(), train_set.labels.clone()
    deterministic = torch.backends.cudnn.deterministic
    train(network(), train_set, test_set, recipe=SHORT, seed=0, classes=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state(legacy=True)[1].tolist() == before[1]  # type: ignore[union-attr]
    assert random.getstate() == before[2]
    assert torch.equal(train_set.pictures, pictures)
    assert torch.equal(train_set.labels, labels)
    assert torch.backends.cudnn.deterministic == deterministic


class Stumble(Exception):
    """What ends a training in the middle."""


class StumblingStep:
    """A batch step that shifts the colours a little, at random, and ends everything at its n-th call."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.calls = at, 0

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.calls == self.at:
            raise Stumble
        return pictures + 0.01 * torch.rand(len(pictures), 1, 1, 1, generator=generator), targets


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_training_ends_bit_identical(
    network, epoch: int, train_set: Examples, test_set: Examples, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=4, batch_size=32, lr=0.05, crop=2)
    whole = network()
    expected = train(whole, train_set, test_set, recipe=recipe, seed=3, classes=2, steps=[StumblingStep()])

    checkpoint = Checkpoint(tmp_path / "deep" / "training.safetensors", every=0)
    in_the_middle = epoch * 6 + 3  # six batches an epoch
    before = torch.get_rng_state()
    with pytest.raises(Stumble):
        train(
            network(), train_set, test_set, recipe=recipe, seed=3, classes=2,
            steps=[StumblingStep(in_the_middle)], checkpoint=checkpoint,
        )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    step = StumblingStep()
    resumed = network(9)  # what it holds does not matter: the checkpoint does
    log = train(
        resumed, train_set, test_set, recipe=recipe, seed=3, classes=2, steps=[step], checkpoint=checkpoint
    )  # fmt: skip
    assert step.calls == (4 - epoch) * 6
    assert state(resumed) == state(whole)
    assert told(log) == told(expected)


def test_a_finished_checkpoint_trains_no_more(train_set: Examples, test_set: Examples, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "training.safetensors", every=0)
    model, again = small(), small(9)
    log = train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2, checkpoint=checkpoint)
    step = StumblingStep(1)
    same = train(again, train_set, test_set, recipe=SHORT, seed=0, classes=2, steps=[step], checkpoint=checkpoint)
    assert step.calls == 0
    assert state(again) == state(model)
    assert told(same) == told(log)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_broken_checkpoint_counts_as_none(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checkpoint = Checkpoint(path, every=0)
    assert checkpoint.load() is None
    assert checkpoint.save_if_due({"a": torch.arange(4)}, {"epoch": 1})
    path.write_bytes(path.read_bytes()[:-3] if content is None else content)
    assert checkpoint.load() is None


def test_checkpoints_wait_until_they_are_due(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    assert not Checkpoint(path, every=3600).save_if_due({"a": torch.arange(4)}, {})
    assert not path.exists()
    eager = Checkpoint(path, every=0)
    assert eager.save_if_due({"a": torch.arange(4)[::2]}, {"epoch": 7})
    found = eager.load()
    assert found is not None
    assert found[0]["a"].tolist() == [0, 2]
    assert found[1] == {"epoch": 7}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


class SizesStep:
    """A batch step that notes how many pictures come."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(pictures))
        return pictures, targets


@pytest.mark.parametrize(("n", "sizes"), [(33, [16, 16]), (34, [16, 16, 2]), (32, [16, 16]), (9, [9])])
def test_a_last_batch_of_one_picture_is_dropped(
    n: int, sizes: list[int], train_set: Examples, test_set: Examples
) -> None:
    few = Examples(pictures=train_set.pictures[:n], labels=train_set.labels[:n])
    step = SizesStep()
    recipe = Recipe(epochs=1, batch_size=16, lr=0.01, crop=0, flip=False)
    log = train(small(), few, test_set, recipe=recipe, seed=0, classes=2, steps=[step])
    assert step.sizes == sizes
    assert log.samples == sum(sizes)


def test_what_was_dropped_does_not_lower_the_train_accuracy(train_set: Examples, test_set: Examples) -> None:
    few = Examples(pictures=train_set.pictures[:17], labels=torch.zeros(17, dtype=torch.int64))
    recipe = Recipe(epochs=6, batch_size=16, lr=0.05, crop=0)
    log = train(small(), few, test_set, recipe=recipe, seed=0, classes=2)
    assert log.train_accuracy[-1] == 1.0


def test_pictures_reach_the_network_in_unit_range_and_whole(train_set: Examples, test_set: Examples) -> None:
    seen: list[Tensor] = []

    def keep(pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        seen.append(pictures)
        return pictures, targets

    recipe = Recipe(epochs=1, batch_size=192, lr=0.01, crop=0, flip=False)
    train(small(), train_set, test_set, recipe=recipe, seed=0, classes=2, steps=[keep])
    (batch,) = seen
    assert batch.is_contiguous(memory_format=torch.channels_last)
    mine = sorted(row.tobytes() for row in (batch * 255).round().to(torch.uint8).contiguous().numpy())
    assert mine == sorted(row.tobytes() for row in train_set.pictures.numpy())


def test_scoring_uses_and_restores_the_evaluation_mode(test_set: Examples) -> None:
    model = small()
    for training in (True, False):
        model.train(training)
        before = state(model)
        right = correct(model, test_set)
        assert model.training is training
        assert state(model) == before
        assert right.dtype == torch.bool
        assert len(right) == len(test_set)
    one_by_one = [
        bool(correct(model, Examples(pictures=test_set.pictures[i : i + 1], labels=test_set.labels[i : i + 1])))
        for i in range(8)
    ]
    assert one_by_one == right[:8].tolist()


def test_augmentation_shows_other_crops_each_epoch(train_set: Examples, test_set: Examples) -> None:
    seen: list[bytes] = []

    def keep(pictures: Tensor, targets: Tensor, *, generator: Generator) -> tuple[Tensor, Tensor]:
        seen.extend(picture.contiguous().numpy().tobytes() for picture in pictures)
        return pictures, targets

    few = Examples(pictures=train_set.pictures[:8], labels=train_set.labels[:8])
    train(small(), few, test_set, recipe=Recipe(epochs=6, batch_size=8, crop=4), seed=0, classes=2, steps=[keep])
    assert len(set(seen)) > 40  # of 48, had no crop come twice
