"""Public face networks with their weights. Files are looked for on disk first; nothing is fetched unless asked for."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from countermove.errors import ConfigError, WeightsError, did_you_mean
from countermove.faces.extractors.embedder import PublicEmbedder
from countermove.faces.extractors.inception_resnet_v1 import InceptionResnetV1
from countermove.faces.extractors.ir import DEPTHS, IR
from countermove.faces.extractors.iresnet import IResNet
from countermove.faces.extractors.specs import EMBEDDERS, EmbedderSpec
from countermove.nets.load import load
from countermove.nets.weights import fit, read_state

WEIGHTS_FOLDER = "COUNTERMOVE_WEIGHTS"
"""The environment variable that names a folder with files of weights."""

_COUNTER = "num_batches_tracked"


def load_embedder(
    name: str, *, folder: Path | None = None, sha256: str | None = None, download: bool = False
) -> PublicEmbedder:
    """Return a public face network with its weights, frozen.

    Which names are known::

        facenet-vggface2                    a key of EMBEDDERS; its file is looked for
        arcface-r50:~/backbone.pth          that file, for the network of the key
        ~/20180402-114759-vggface2.pt       that file; its name says which network it is of
        open_clip:ViT-B-32/openai           the picture tower of an open_clip model, see `nets.load`

    A key's file is looked for in the folder that COUNTERMOVE_WEIGHTS names, then in torch's caches
    (hub/checkpoints, where torch puts files, and checkpoints, where facenet-pytorch does).

    The tensors' names and shapes must be exactly the network's, after the prefix and the tensors that the spec names
    are taken away. Files from before PyTorch 0.4.1 lack the batch normalisations' counters, which evaluation does not
    read; they are then zero.

    Args:
        name:     one of the above.
        folder:   where the file lies, in place of the other folders; where a relative path begins.
        sha256:   of the file, where it is another than the published one or where none is known.
        download: fetch an absent file into torch's cache; else nothing but the disk is touched.

    Raises:
        ConfigError:  when the name or the hash cannot be read.
        WeightsError: when the file is absent (what, from where, which hash, where to put it), has another hash, is of
            another network, or could run code.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"sha256={sha256} is refused; a SHA-256 is 64 hexadecimal digits, as sha256sum prints them")
    if name.startswith("open_clip:"):
        return _from_open_clip(name, folder=folder, sha256=sha256, download=download)
    spec, path = _read(name, folder)
    spec = replace(spec, sha256=(sha256 or spec.sha256 or "").lower() or None)
    if spec.architecture.startswith("open_clip:"):
        if path is not None:
            raise ConfigError(f"{name!r} gives a file, but open_clip's weights come from its hub; write {spec.key}")
        return _from_open_clip(spec.architecture, folder=folder, sha256=spec.sha256, download=download)
    if path is None:
        path = _find(spec, folder, download)
    state = _tensors(spec, path)
    return PublicEmbedder(
        _fitted(spec, state, path),
        side=spec.side,
        channel_order=spec.channel_order,
        mean=spec.mean,
        std=spec.std,
        sha256=spec.sha256 or _digest(path),
        verified=spec.sha256 is not None,
    )


def architecture(name: str) -> str:
    """Return which network a name that `load_embedder` takes is of; nothing is read.

    Raises:
        ConfigError: when the name cannot be read.
    """
    if name.startswith("open_clip:"):
        return name.partition("/")[0]
    return _read(name, None)[0].architecture


def build_architecture(spec: EmbedderSpec) -> nn.Module:
    """Return the spec's network on torch's `meta` device: names and shapes, no numbers yet.

    Raises:
        ConfigError: when the architecture is none of ours.
    """
    with torch.device("meta"):
        if spec.architecture == "inception-resnet-v1":
            return InceptionResnetV1()
        if spec.architecture in DEPTHS:
            return IR(spec.architecture, width=spec.width)
        return IResNet(spec.architecture, width=spec.width, eps=spec.eps)


def _read(name: str, folder: Path | None) -> tuple[EmbedderSpec, Path | None]:
    if name in EMBEDDERS:
        return EMBEDDERS[name], None
    key, colon, rest = name.partition(":")
    if colon and key in EMBEDDERS and rest:
        return EMBEDDERS[key], (folder or Path()) / Path(rest).expanduser()
    path = (folder or Path()) / Path(name).expanduser()
    for spec in EMBEDDERS.values():
        if path.name == spec.filename and not spec.architecture.startswith("open_clip:"):
            return spec, path
    if path.suffix or "/" in name:
        raise ConfigError(
            f"{name!r} does not say which network it is of; write KEY:{name} with one of {', '.join(EMBEDDERS)}"
        )
    raise ConfigError(f"no public face network is called {name!r}; {did_you_mean(name, EMBEDDERS)}")


def _find(spec: EmbedderSpec, folder: Path | None, download: bool) -> Path:
    """Return the spec's file on disk, fetched if that was allowed."""
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if folder is not None:
        places = [folder]
    else:
        own = os.environ.get(WEIGHTS_FOLDER)
        places = [*([Path(own).expanduser()] if own else []), cache, cache.parents[1] / "checkpoints"]
    for place in places:
        if (place / spec.filename).is_file():
            return place / spec.filename
    path = (folder or cache) / spec.filename
    stated = f"SHA-256: {spec.sha256}" if spec.sha256 else "SHA-256: not known, give sha256= if you know it"
    if not download or not spec.direct:
        way = ", or allow the download" if spec.direct else "; a person must fetch it, there is no direct link"
        raise WeightsError(
            f"the weights of {spec.key} are not on this machine. File: {spec.filename}; source: {spec.url}; {stated}; "
            f"licence: {spec.licence}; put it at {path} or into the folder that {WEIGHTS_FOLDER} names{way}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(spec.url, str(path), spec.sha256, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"{spec.url} cannot be fetched ({error}); {stated}; put the file at {path} by hand"
        ) from error
    return path


def _tensors(spec: EmbedderSpec, path: Path) -> dict[str, Tensor]:
    """Return the network's own tensors of a file as published, or of a copy that holds them under their own names."""
    nested = spec.nested and path.suffix != ".safetensors"
    state = read_state(path, sha256=spec.sha256, under="state_dict" if nested else None)
    own = {key: value for key, value in state.items() if key not in spec.dropped}
    if all(key.startswith(spec.prefix) for key in own):
        return {key.removeprefix(spec.prefix): value for key, value in own.items()}
    return state


def _fitted(spec: EmbedderSpec, state: dict[str, Tensor], path: Path) -> nn.Module:
    # No number is drawn: the memory is filled from the file, or `fit` refuses.
    net = build_architecture(spec).to_empty(device="cpu")
    own = net.state_dict()
    if not any(key.endswith(_COUNTER) for key in state):
        state = state | {key: torch.zeros_like(value) for key, value in own.items() if key.endswith(_COUNTER)}
    fit(net, state, path)
    return net


def _from_open_clip(spelled: str, *, folder: Path | None, sha256: str | None, download: bool) -> PublicEmbedder:
    inner = spelled if sha256 is None or "(" in spelled else f"{spelled}(sha256={sha256})"
    net = load(inner, folder=folder, download=download)
    side = getattr(net.get_submodule("net"), "image_size", 224)
    known = re.search(r"sha256\s*=\s*([0-9a-fA-F]{64})", inner)
    return PublicEmbedder(
        net,
        side=side if isinstance(side, int) else side[0],
        sha256=known[1].lower() if known else "",
        verified=known is not None,
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
