"""The data sets of the unlearnable arena. Each is a frozen dataclass that is called with the user's data folder."""

from __future__ import annotations

DATA: dict[str, str] = {
    "cifar10-mini": "countermove.unlearnable.data.cifar:Cifar10Mini",
    "cifar10": "countermove.unlearnable.data.vision:Cifar10",
    "cifar100": "countermove.unlearnable.data.vision:Cifar100",
    "svhn": "countermove.unlearnable.data.vision:Svhn",
    "cifar10-jpeg": "countermove.unlearnable.data.cifar:Cifar10Jpeg",
    "cifar10-lossless": "countermove.unlearnable.data.cifar:Cifar10Lossless",
    "folder": "countermove.unlearnable.data.folders:Folder",
    "hf-folder": "countermove.unlearnable.data.hf:HfFolder",
    "lfw": "countermove.unlearnable.data.lfw:Lfw",
    "imagenet-100": "countermove.unlearnable.data.imagenet:Imagenet100",
    "moved": "countermove.unlearnable.data.moved:Moved",
    "extra-class": "countermove.unlearnable.data.extra_class:ExtraClass",
}
"""Public name to "module:Class". `moved` and `extra-class` are joined to a data set: cifar10+moved(fraction=0.5)."""
