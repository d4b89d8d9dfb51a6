"""What extractors share: which items they learn from, features with mean 0 and deviation 1, a network without its head.

Legend: N items, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from countermove.errors import DataError
from countermove.learning.scoring import place
from countermove.nets.features import last_linear, logits_and_features
from countermove.pixels.steps import frozen
from countermove.profiles.dataset import Medium, Profiles, as_float
from countermove.profiles.extractor import AT_ONCE, ItemNetwork


class Standard(nn.Module):
    """Take the mean from every feature and divide by the deviation; [N, D] in and out. Both are saved as weights."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        """Begin with mean 0 and deviation 1."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def forward(self, features: Tensor) -> Tensor:
        """Return standardised features."""
        return (features - self.mean) / self.deviation

    def learn(self, features: Tensor, *, least: float = 0.0) -> None:
        """Take both from features. One that (almost) never changes is not divided.

        least: the smallest deviation in units of the average one: what hardly moves is not blown up to noise.
        """
        values = features.double()
        self.mean.copy_(values.mean(0))
        deviation = values.std(0, correction=0)
        deviation = deviation.clamp(min=least * float(deviation.mean()))
        constant = deviation <= 1e-6 * values.abs().amax(0)
        self.deviation.copy_(torch.where(constant, 1.0, deviation))


class Standardised(ItemNetwork):
    """A body, and the standardisation of what it gives."""

    def __init__(self, body: nn.Module, dim: int) -> None:
        """Join both; the body gives [N, dim]."""
        super().__init__()
        self.body, self.standard = body, Standard(dim)

    @property
    def dim(self) -> int:
        """Return how many features there are."""
        return len(self.standard.mean)

    def forward(self, items: Tensor) -> Tensor:
        """Return features."""
        return self.standard(self.body(items).flatten(1))

    @torch.no_grad()
    def learn(self, items: Tensor, medium: Medium, *, device: str, least: float = 0.0) -> None:
        """Standardise by stored items."""
        with frozen(place(self, device)):
            parts = [self.body(as_float(part, medium).to(device)).flatten(1) for part in items.split(AT_ONCE)]
        self.standard.learn(torch.cat(parts), least=least)


def labelled_public(data: Profiles, name: str) -> tuple[Tensor, Tensor, int]:
    """Return rows of the public items with labels 0 to K - 1, and K. Classes that show nothing are left out.

    Raises:
        DataError: when there are not two classes.
    """
    known, labels = data.public_labels[data.public_labels >= 0].unique(return_inverse=True)
    if len(known) < 2:
        raise DataError(
            f"extractor {name!r} is trained on public items of at least two classes; {data.name} has {len(known)}. "
            "Mark some as public, or take an extractor that needs none (learned, public, speech)"
        )
    return data.public[data.public_labels >= 0], labels, len(known)


def reference_rows(data: Profiles) -> Tensor:
    """Return the items that features are standardised by: the public ones, or those of training profiles."""
    return data.public if len(data.public) else torch.cat([data.bags[p] for p in data.train.tolist()]).unique()


@torch.no_grad()
def without_head(network: nn.Module, items: Tensor) -> nn.Module:
    """Return a network whose output is what entered its last linear layer, which is taken away. In place.

    Raises:
        ConfigError: when its output does not come straight from a linear layer.
    """
    with frozen(network):
        logits_and_features(network, items)
    head = last_linear(network)
    name = next(name for name, module in network.named_modules() if module is head)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network
