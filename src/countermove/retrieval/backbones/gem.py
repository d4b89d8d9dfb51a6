"""Files of the public GeM networks: a trunk, its pooling, and the whitening that was learned with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import models

from countermove.errors import WeightsError
from countermove.nets.parts import Normalize, seeded
from countermove.nets.weights import fit, read_tree
from countermove.retrieval.backbone import Describer, GeM
from countermove.retrieval.backbones.trunks import Pooled
from countermove.retrieval.whitening import Whitening

FAMILIES = ("alexnet", "vgg", "resnet", "densenet", "squeezenet")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PROBE = 64


def read_gem(path: Path, *, sha256: str | None = None) -> Describer:
    """Return the network of a file as cnnimageretrieval-pytorch publishes them, with its whitening where it holds one.

    Such a file is a dictionary: "meta" says architecture, pooling, mean, std, whether there is a linear layer
    ("whitening"), and "Lw", by the set it was learned on, "ss" and "ms" with m and P; "state_dict" holds `features.*`,
    `pool.p` and `whiten.*`.

    Raises:
        WeightsError: when the file is absent or broken, could run code, or is of a network that is not known.
    """
    tree = read_tree(path, sha256=sha256)
    meta, state = tree.get("meta"), tree.get("state_dict")
    if not isinstance(meta, dict) or not isinstance(state, Mapping) or "architecture" not in meta:
        raise WeightsError(
            f'{path} is no file of a GeM network: it has no "meta" with an architecture and "state_dict"'
        )
    architecture, pooling = str(meta["architecture"]), str(meta.get("pooling", "gem"))
    if not architecture.startswith(FAMILIES) or architecture not in models.list_models(module=models):
        raise WeightsError(f"{path} is of a {architecture}; known are torchvision's {', '.join(FAMILIES)}")
    if pooling not in ("gem", "spoc") or meta.get("local_whitening") or meta.get("regional"):
        raise WeightsError(
            f"{path} pools by {pooling}, with local or regional parts or without; known are gem and spoc"
        )
    network = _built(architecture, state, learned=pooling == "gem", path=path, meta=meta)
    network.whitening = _whitening(meta.get("Lw"), network.dim, path)
    return network.eval()


def _built(
    architecture: str, state: Mapping[str, Any], *, learned: bool, path: Path, meta: Mapping[str, Any]
) -> Pooled:
    with seeded(torch.Generator().manual_seed(0)):
        trunk = nn.Sequential(*_features(architecture))
        projected = None
        weight = state.get("whiten.weight")
        if isinstance(weight, Tensor):
            projected = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        dim = trunk.eval()(torch.zeros(1, 3, PROBE, PROBE)).shape[1]
    normalize = Normalize(meta.get("mean") or IMAGENET[0], meta.get("std") or IMAGENET[1])
    network = Pooled(nn.Sequential(normalize, trunk), dim, GeM(3.0 if learned else 1.0, learned=learned), projected)
    renamed = {"features.": "trunk.1.", "pool.": "pool.", "whiten.": "projected."}
    fitting = {f"trunk.0.{name}": tensor for name, tensor in normalize.state_dict().items()}
    if not learned:
        fitting["pool.p"] = torch.ones(1)
    for name, tensor in state.items():
        new = next((to + name.removeprefix(was) for was, to in renamed.items() if name.startswith(was)), name)
        fitting[new] = tensor
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):  # files older than this counter, which nothing here reads
            fitting.setdefault(name, tensor)
    if isinstance(fitting.get("pool.p"), Tensor):
        fitting["pool.p"] = fitting["pool.p"].reshape(1)
    fit(network, fitting, path)
    return network


def _features(architecture: str) -> list[nn.Module]:
    """Return the layers up to the feature map, numbered as in the files."""
    network = models.get_model(architecture, weights=None)
    if architecture.startswith("resnet"):
        return list(network.children())[:-2]
    layers = list(network.get_submodule("features").children())
    if architecture.startswith(("alexnet", "vgg")):
        return layers[:-1]  # without the last pooling
    return [*layers, nn.ReLU(inplace=True)] if architecture.startswith("densenet") else layers


def _whitening(found: object, dim: int, path: Path) -> dict[str, Whitening] | None:
    """Return the whitening for one scale and for several; of several sets, the first in order."""
    if not isinstance(found, Mapping) or not found:
        return None
    by_scales = found[sorted(found)[0]]
    if not isinstance(by_scales, Mapping) or not {"ss", "ms"} <= set(by_scales):
        raise WeightsError(f'{path} holds a whitening without "ss" and "ms"; it is another file or broken')
    read = {}
    for name in ("ss", "ms"):
        try:
            mean = torch.from_numpy(np.asarray(by_scales[name]["m"], dtype=np.float32)).reshape(-1)
            projection = torch.from_numpy(np.asarray(by_scales[name]["P"], dtype=np.float32))
        except (LookupError, TypeError, ValueError) as error:
            raise WeightsError(f"{path} holds a whitening that cannot be read ({error})") from None
        if len(mean) != dim or projection.ndim != 2 or projection.shape[1] != dim:
            raise WeightsError(f"{path} holds a whitening of {list(projection.shape)} numbers for descriptors of {dim}")
        read[name] = Whitening(mean, projection)
    return read
