"""The networks we can build, by name. Importing this file loads no torch; `find` does."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from countermove.errors import ConfigError, did_you_mean

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
