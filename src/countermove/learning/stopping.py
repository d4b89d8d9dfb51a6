"""Which epochs of a training count: an early stop, and stages that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from countermove.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """When to stop early: see `early_epoch`."""

    patience: int = 2
    gain: float = 0.01

    def __post_init__(self) -> None:
        if self.patience < 1 or not 0 <= self.gain < 1:
            raise ConfigError("early stopping: patience is at least 1 epoch and gain in [0, 1)")


class History:
    """What the test predictions were, epoch by epoch, as long as an early stop may go back to them."""

    def __init__(self, stop: Stopping | None) -> None:
        self.stop, self.predicted = stop, []

    def says_stop(self, train_accuracy: Sequence[float], predicted: Tensor) -> bool:
        """Take note of an epoch; return whether it was the last one."""
        if self.stop is None:
            return False
        self.predicted.append(predicted)
        return self._chosen(self.stop, train_accuracy) < len(train_accuracy) - 1

    def settled(self, train_accuracy: Sequence[float], predicted: Tensor) -> tuple[int, Tensor]:
        """Return the epoch that counts and its predictions: the last one's, where nothing stops early."""
        if self.stop is None:
            return len(train_accuracy) - 1, predicted
        epoch = self._chosen(self.stop, train_accuracy)
        return epoch, self.predicted[epoch]

    @staticmethod
    def _chosen(stop: Stopping, train_accuracy: Sequence[float]) -> int:
        return early_epoch(train_accuracy, patience=stop.patience, gain=stop.gain)


def early_epoch(train_accuracy: Sequence[float], *, patience: int = 2, gain: float = 0.01) -> int:
    """Return the epoch (0-based) at which a trainer who sees only the received data would stop.

    That is the first epoch after which the accuracy on received data rose by less than `gain` for `patience` epochs
    in a row; the last epoch when that never happens.
    """
    best, waited = -1.0, 0
    for epoch, accuracy in enumerate(train_accuracy):
        if accuracy >= best + gain:
            best, waited = accuracy, 0
        else:
            waited += 1
            if waited == patience:
                return epoch - patience
    return len(train_accuracy) - 1


def stage_epochs(epochs: int, stages: int) -> tuple[int, ...]:
    """Return so many equidistant epochs (0-based), the last one among them.

    Raises:
        ConfigError: when there are fewer epochs.
    """
    if stages > epochs:
        raise ConfigError(f"{stages} stages of a training of {epochs} epochs were asked for; take at most {epochs}")
    return tuple(round((i + 1) * epochs / stages) - 1 for i in range(stages))
