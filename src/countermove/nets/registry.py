"""The networks we can build, by name. Importing this file loads no torch; `find` does."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from countermove.errors import ConfigError, did_you_mean
from countermove.game.methods import build
from countermove.game.spelling import parse

if TYPE_CHECKING:
    import torch
    from torch import nn

MODELS: dict[str, str] = {
    "small-cnn": "countermove.nets.small:SmallCnn",
    "small-pooled": "countermove.nets.small:SmallPooled",
    "small-residual": "countermove.nets.small:SmallResidual",
    "resnet-18": "countermove.nets.cifar:ResNet18",
    "resnet-34": "countermove.nets.cifar:ResNet34",
    "resnet-50": "countermove.nets.cifar:ResNet50",
    "vgg-11": "countermove.nets.cifar:Vgg11",
    "vgg-19": "countermove.nets.cifar:Vgg19",
    "densenet-121": "countermove.nets.cifar:DenseNet121",
    "mobilenet-v2": "countermove.nets.cifar:MobileNetV2",
    "vit-small": "countermove.nets.vit:VitSmall",
}


def find(name: str) -> Any:
    """Return the dataclass of a registered network.

    Raises:
        ConfigError: when no network has that name.
    """
    if name not in MODELS:
        raise ConfigError(f"no network is called {name!r}; {did_you_mean(name, MODELS)}")
    module, _, attribute = MODELS[name].partition(":")
    return getattr(import_module(module), attribute)


def build_network(spelled: str, classes: int, side: int, source: torch.Generator) -> nn.Module:
    """Build a registered network from its spelling, such as small-cnn(width=2).

    Raises:
        ConfigError: when it cannot be built, or is not one network.
    """
    named, *others = parse(spelled)
    if others:
        raise ConfigError(f"one network is needed, not {spelled!r}")
    model = build(find(named.name), named.settings, what=f"model {named.name!r}")
    return model(classes, side, source)


def check_network(spelled: str) -> None:
    """Refuse the spelling of a network that cannot be built, before anything is computed."""
    for named in parse(spelled):
        build(find(named.name), named.settings, what=f"model {named.name!r}")
