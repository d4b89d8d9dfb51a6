"""Pictures a second: our training loop against the usual PIL, DataLoader and torchvision-transforms loop.

Both sides train the same network on the same pictures with the same batch size, crop, flip and optimiser, one after
the other in one run, and the ratio is printed. The usual side keeps arrays and makes a PIL image of each item, as
torchvision's CIFAR10 does; it is tried without and with two worker processes, and the faster one counts. Convolutions
cost both sides the same, so the ratio falls as the network grows: two widths are shown. Run it alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from countermove.learning.loop import train
from countermove.learning.recipe import Recipe
from countermove.learning.scoring import Examples
from countermove.nets.registry import build_network
from countermove.unlearnable.methods import METHODS

EPOCHS = 3
NETWORKS = ("small-cnn(width=0.5)", "small-cnn")


class _PilPictures(Dataset):
    """Arrays that become PIL images and go through torchvision's transforms, item by item."""

    def __init__(self, pictures: Tensor, labels: Tensor) -> None:
        self.arrays = pictures.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform: Callable[[Image.Image], Tensor] = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def usual(model: nn.Module, data: _PilPictures, recipe: Recipe, workers: int) -> None:
    """Train the usual way."""
    loader = DataLoader(data, recipe.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    optimizer = torch.optim.SGD(model.parameters(), recipe.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss_of = nn.CrossEntropyLoss()
    for _ in range(recipe.epochs):
        model.train()
        for pictures, labels in loader:
            optimizer.zero_grad()
            loss_of(model(pictures), labels).backward()
            optimizer.step()


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(os.cpu_count() or 1)
    data = METHODS.compose("data", "cifar10-mini").method()
    received = Examples(pictures=data.train.pictures, labels=data.train.labels)
    few = Examples(pictures=data.test.pictures[:10], labels=data.test.labels[:10])
    recipe = Recipe(epochs=EPOCHS)
    pil = _PilPictures(data.train.pictures, data.train.labels)

    for name in NETWORKS:
        _compare(name, received, few, pil, recipe)


def _compare(name: str, received: Examples, few: Examples, pil: _PilPictures, recipe: Recipe) -> None:
    def network() -> nn.Module:
        return build_network(name, 10, 32, torch.Generator().manual_seed(0))

    def speed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return EPOCHS * len(received) / (time.perf_counter() - began)

    train(network(), few, few, recipe=recipe, seed=0, classes=10)  # pay the one-time costs outside the measurement
    ours = speed(lambda: train(network(), received, few, recipe=recipe, seed=0, classes=10))
    theirs = {workers: speed(lambda w=workers: usual(network(), pil, recipe, w)) for workers in (0, 2)}
    best = max(theirs, key=lambda workers: theirs[workers])
    print(name)
    print(f"  ours                         {ours:7.0f} pictures/s")
    for workers, value in theirs.items():
        print(f"  PIL + DataLoader, {workers} workers  {value:7.0f} pictures/s")
    print(f"  ratio to its best ({best} workers): {ours / theirs[best]:.2f}x", flush=True)


if __name__ == "__main__":
    main()
