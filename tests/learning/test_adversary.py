"""Adversarial pictures for training, and what the loop does with a step that asks the model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.learning.test_loop import SHORT, small, state
from torch import Generator, Tensor, nn

from countermove.errors import ConfigError
from countermove.learning.adversary import Adversary
from countermove.learning.loop import train
from countermove.learning.scoring import Examples, predict
from countermove.learning.stopping import Stopping, early_epoch, stage_epochs
from countermove.pixels.randomness import generator


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
def test_adversarial_pictures_stay_in_the_ball_and_raise_the_loss(norm: str, eps: float, train_set: Examples) -> None:
    model = small()
    train(model, train_set, train_set, recipe=SHORT, seed=0, classes=2)
    before = state(model)
    x, y = train_set.pictures[:16].float() / 255, train_set.labels[:16]
    find = Adversary(norm=norm, eps=eps, step=eps / 4)  # pyright: ignore[reportArgumentType]
    adversarial, targets = find(model, x, y, generator=generator(0), progress=0.0)
    delta = (adversarial - x).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert float(size.max()) <= eps + 1e-6
    assert float(size.min()) > 0.3 * eps
    assert 0 <= float(adversarial.min()) <= float(adversarial.max()) <= 1
    assert torch.equal(targets, y)
    assert state(model) == before
    model.eval()
    with torch.no_grad():
        assert F.cross_entropy(model(adversarial), y) > F.cross_entropy(model(x), y)


@pytest.mark.parametrize("settings", [{"norm": "l0"}, {"steps": 0}, {"step": -1.0}, {"eps": 8.0}])
def test_adversaries_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Adversary(**settings)  # pyright: ignore[reportArgumentType]


class _Recording:
    """A model step that notes how far the training is and blackens the pictures."""

    passes = 3.0

    def __init__(self) -> None:
        self.progress: list[float] = []

    def __call__(
        self, model: nn.Module, pictures: Tensor, targets: Tensor, *, generator: Generator, progress: float
    ) -> tuple[Tensor, Tensor]:
        assert model.training
        self.progress.append(progress)
        return torch.zeros_like(pictures), targets


def test_the_loop_calls_model_steps_with_progress_and_counts_their_passes(
    train_set: Examples, test_set: Examples
) -> None:
    step = _Recording()
    log = train(small(), train_set, test_set, recipe=SHORT, seed=0, classes=2, model_steps=[step])
    assert len(step.progress) == 3 * 6
    assert step.progress == sorted(step.progress)
    assert step.progress[0] == 0
    assert step.progress[6] == pytest.approx(1 / 3)
    assert log.samples == 4 * 3 * len(train_set)
    assert log.train_accuracy[-1] < 0.7, "black pictures cannot be told apart"


def test_probes_are_scored_every_epoch_and_change_nothing(train_set: Examples, test_set: Examples) -> None:
    plain = train(small(), train_set, test_set, recipe=SHORT, seed=0, classes=2)
    lied = Examples(pictures=test_set.pictures, labels=1 - test_set.labels)
    model = small()
    log = train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2, probes={"lied": lied})
    assert log.accuracy == plain.accuracy
    assert log.probes["lied"] == pytest.approx([1 - a for a in log.accuracy])
    assert torch.equal(predict(model, test_set.pictures), log.predicted)


def test_stages_are_the_weights_of_equidistant_epochs(train_set: Examples, test_set: Examples) -> None:
    model = small()
    log = train(model, train_set, test_set, recipe=SHORT, seed=0, classes=2, stages=2)
    assert stage_epochs(3, 2) == (1, 2)
    assert stage_epochs(20, 4) == (4, 9, 14, 19)
    assert stage_epochs(7, 0) == ()
    assert len(log.stages) == 2
    last = {name: tensor.contiguous().numpy().tobytes() for name, tensor in log.stages[-1].items()}
    assert last == {name: t.contiguous().numpy().tobytes() for name, t in model.state_dict().items()}
    assert all(tensor.is_contiguous() for stage in log.stages for tensor in stage.values()), "files take no other"
    assert any(not torch.equal(log.stages[0][name], log.stages[1][name]) for name in log.stages[0])
    with pytest.raises(ConfigError, match="at most 3"):
        train(small(), train_set, test_set, recipe=SHORT, seed=0, classes=2, stages=4)


def test_an_early_stop_scores_the_epoch_that_a_watcher_of_the_whole_training_would_choose(
    train_set: Examples, test_set: Examples
) -> None:
    recipe = type(SHORT)(epochs=8, batch_size=32, lr=0.05, crop=2)
    whole = train(small(), train_set, test_set, recipe=recipe, seed=0, classes=2)
    chosen = early_epoch(whole.train_accuracy, patience=1, gain=0.05)
    assert chosen < 6, "this training must be long enough to be stopped"
    log = train(small(), train_set, test_set, recipe=recipe, seed=0, classes=2, stop=Stopping(patience=1, gain=0.05))
    assert log.kept_epoch == chosen
    assert len(log.accuracy) == chosen + 2
    assert log.accuracy == whole.accuracy[: chosen + 2]
    assert float((log.predicted == test_set.labels).float().mean()) == pytest.approx(whole.accuracy[chosen])
    assert log.samples == (chosen + 2) * len(train_set)
    assert whole.kept_epoch == 7
    with pytest.raises(ConfigError, match="patience"):
        Stopping(patience=0)
