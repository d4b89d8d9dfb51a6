"""Networks with weights from elsewhere: ``load("torchvision:resnet18")``, and weights of our own, saved and read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from countermove.errors import ConfigError, did_you_mean
from countermove.game import spelling
from countermove.nets import pretrained
from countermove.nets.registry import find
from countermove.nets.weights import fit, load_weights, read_state, save_weights

__all__ = ["load", "load_weights", "save_weights"]

SOURCES: dict[str, Callable[..., nn.Module]] = {
    "timm": pretrained.from_timm,
    "torchvision": pretrained.from_torchvision,
    "open_clip": pretrained.from_open_clip,
    "transformers": pretrained.from_transformers,
}
_SPEC = re.compile(r"(?P<source>\w+):(?P<name>[^()]+?)\s*(?:\((?P<settings>.*)\))?", re.DOTALL)
_EXAMPLES = (
    "write it like torchvision:resnet18, timm:resnet50, open_clip:ViT-B-32/laion2b_s34b_b79k, "
    "transformers:org/name or checkpoint:weights.safetensors(model=resnet-18)"
)


def load(spec: str, *, classes: int | None = None, folder: Path | None = None, download: bool = False) -> nn.Module:
    """Return a network with its weights, in evaluation mode, that takes pictures [N, 3, H, W] in [0, 1].

    It normalises by itself, with the numbers its weights were trained with; resizing is the caller's. Which spellings
    are known::

        torchvision:resnet18                    the library's default weights; logits
        torchvision:resnet50/IMAGENET1K_V1      those weights
        timm:resnet50.a1_in1k                   logits
        open_clip:ViT-B-32/laion2b_s34b_b79k    embeddings, not normalised in length
        transformers:org/name                   logits, or embeddings where the model has no classifier
        checkpoint:file.safetensors(model=resnet-18, classes=10, side=32)
                                                a file that `save_weights` or torch.save(model.state_dict()) wrote;
                                                further settings are the network's own

    Each takes `sha256=` in the brackets, the hash of the file of weights.

    classes:  None keeps the classes or the embedding of the weights. Another number replaces the last linear layer, or
              is added to the embedding, as a linear layer of zeros, to be trained. For a checkpoint, the number of
              classes it was trained for, unless that stands in the brackets.
    folder:   where the files lie, in place of the library's own cache; for a checkpoint, where a relative path begins.
    download: ask the network for absent files; else nothing but the disk is touched.

    Raises:
        ConfigError: when the spelling cannot be read or names nothing that is known.
        WeightsError: when a package or the weights are absent (what, from where, which hash, where to put them), have
            another hash, are of another network, or could run code.
    """
    source, name, settings = _read(spec)
    if classes is not None and classes < 2:
        raise ConfigError(f"{spec!r} was asked for {classes} classes; a classifier needs at least 2")
    sha256 = _sha256(settings.pop("sha256", None), spec)
    if source == "checkpoint":
        return _from_checkpoint(name, settings, classes=classes, folder=folder, sha256=sha256)
    if settings:
        raise ConfigError(f"{spec!r} has the setting {min(settings)!r}; {source} weights take only sha256")
    return SOURCES[source](name, classes=classes, folder=folder, download=download, sha256=sha256)


def _from_checkpoint(
    name: str, settings: dict[str, Any], *, classes: int | None, folder: Path | None, sha256: str | None
) -> nn.Module:
    if "model" not in settings:
        raise ConfigError(
            f"checkpoint:{name} does not say which network it is of; write checkpoint:{name}(model=resnet-18)"
        )
    model = find(str(settings.pop("model")))
    for key, value in settings.items():
        if not isinstance(value, int if key in ("classes", "side") else (int, float)):
            raise ConfigError(f"checkpoint:{name} has {key}={value}; a number is needed there")
    side = settings.pop("side", 32)
    stated = settings.pop("classes", classes)
    known = [field.name for field in fields(model)]
    for key in settings:
        if key not in known:
            raise ConfigError(
                f"checkpoint:{name} has the unknown setting {key!r}; "
                f"{did_you_mean(key, ['model', 'classes', 'side', 'sha256', *known])}"
            )
    if stated is None:
        raise ConfigError(f"checkpoint:{name} does not say its number of classes; add classes=10 in the brackets")
    if classes not in (None, stated):
        raise ConfigError(f"checkpoint:{name} is of {stated} classes, but {classes} are needed; use fitting weights")
    path = (folder or Path()) / Path(name).expanduser()
    state = read_state(path, sha256=sha256)
    # Every number drawn here is overwritten by the file, or `fit` refuses.
    net = model(**settings)(stated, side, torch.Generator().manual_seed(0))
    fit(net, state, path)
    return net.eval()


def _read(spec: str) -> tuple[str, str, dict[str, Any]]:
    match = _SPEC.fullmatch(spec.strip())
    if not match:
        raise ConfigError(f"cannot read {spec!r} as a network with weights; {_EXAMPLES}")
    source = match["source"]
    if source != "checkpoint" and source not in SOURCES:
        known = ["checkpoint", *SOURCES]
        raise ConfigError(f"{spec!r} takes weights from {source!r}, which is unknown; {did_you_mean(source, known)}")
    inner = match["settings"] or ""
    settings = dict(spelling.parse(f"checkpoint({inner})")[0].settings)
    return source, match["name"], settings


def _sha256(value: object, spec: str) -> str | None:
    if value is None:
        return None
    text = str(value).lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ConfigError(f"{spec!r} has sha256={value}; a SHA-256 is 64 hexadecimal digits, as sha256sum prints them")
    return text
