"""Weights that others trained. Files are looked for on disk first; nothing is fetched unless that was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torchvision import models

from countermove.errors import ConfigError, WeightsError, did_you_mean
from countermove.nets.parts import Normalize, normalized, seeded
from countermove.nets.weights import check_sha256, read_state


def from_torchvision(
    name: str, *, classes: int | None, folder: Path | None, download: bool, sha256: str | None
) -> nn.Module:
    """Return one of torchvision's classifiers, `resnet18` or `resnet50/IMAGENET1K_V1`. See `load`."""
    architecture, _, tag = name.partition("/")
    # These two change their own input and have extra outputs in training; nothing in the field needs them.
    known = [n for n in models.list_models(module=models) if n not in ("googlenet", "inception_v3")]
    if architecture not in known:
        raise ConfigError(f"torchvision has no network {architecture!r} we can load; {_near(architecture, known)}")
    choices = models.get_model_weights(architecture)
    if tag and tag not in choices.__members__:
        raise ConfigError(f"{architecture} has no weights {tag!r}; {did_you_mean(tag, choices.__members__)}")
    weights = choices[tag or "DEFAULT"]
    path = _torchvision_file(weights.url, name, folder, download)
    if sha256 is not None:
        check_sha256(path, sha256)
    state = read_state(path)
    if architecture.startswith("densenet"):
        # The published files are older than the layers' names: norm.1 is norm1 today.
        state = {re.sub(r"(norm|conv)\.([12])\.", r"\1\2.", key): value for key, value in state.items()}
    own = len(weights.meta["categories"])
    size = {"image_size": weights.transforms().crop_size[0]} if architecture.startswith("vit_") else {}
    with seeded(torch.Generator().manual_seed(0)):
        net = models.get_model(architecture, weights=None, num_classes=own, **size)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit torchvision's {architecture}: {error}") from error
    preset = weights.transforms()
    return _finish(_with_classes(net, own, classes, name), preset.mean, preset.std)


def from_timm(name: str, *, classes: int | None, folder: Path | None, download: bool, sha256: str | None) -> nn.Module:
    """Return one of timm's classifiers, `resnet50` or `resnet50.a1_in1k`. See `load`."""
    timm = package("timm", "timm", "retrieval")
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ConfigError(f"timm has no network {architecture!r}; {_near(architecture, timm.list_models())}")
    tags = [n for n in timm.list_pretrained(f"{architecture}*") if n.split(".")[0] == architecture]
    if not tags or ("." in name and name not in tags):
        raise ConfigError(f"timm has no weights for {name!r}; {did_you_mean(name, tags)}")
    config = timm.get_pretrained_cfg(name)
    file = config.hf_hub_filename or "model.safetensors"
    if not config.hf_hub_id or not file.endswith(".safetensors"):
        raise ConfigError(f"timm's {name} is not on the hub as safetensors, and nothing else is read; known: {tags}")
    (path,) = hub_files(config.hf_hub_id, [file], name, folder, download, sha256)
    with seeded(torch.Generator().manual_seed(0)):
        try:
            overlay = {"file": str(path), "custom_load": False}
            net = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
        except (RuntimeError, SafetensorError) as error:
            raise WeightsError(f"{path} does not fit timm's {name}: {error}") from error
    return _finish(_with_classes(net, config.num_classes, classes, name), config.mean, config.std)


def from_open_clip(
    name: str, *, classes: int | None, folder: Path | None, download: bool, sha256: str | None
) -> nn.Module:
    """Return the picture tower of an open_clip model, `ViT-B-32/laion2b_s34b_b79k`. See `load`."""
    open_clip = package("open_clip", "open_clip_torch", "faces")
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        raise ConfigError(f"open_clip has no network {architecture!r}; {_near(architecture, open_clip.list_models())}")
    config = open_clip.get_pretrained_cfg(architecture, tag)
    if not config or not config.get("hf_hub"):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise ConfigError(f"{architecture} has no weights {tag!r} on a hub; {did_you_mean(tag, tags)}")
    repository = "/".join(config["hf_hub"].split("/")[:2])
    (path,) = hub_files(repository, ["open_clip_model.safetensors"], name, folder, download, sha256)
    with seeded(torch.Generator().manual_seed(0)):
        try:
            # A tag says whether its network was trained with the quick GELU; a path does not.
            quick = bool(config.get("quick_gelu", False))
            model = open_clip.create_model(architecture, pretrained=str(path), force_quick_gelu=quick)
        except (RuntimeError, SafetensorError) as error:
            raise WeightsError(f"{path} does not fit open_clip's {architecture}: {error}") from error
    net = model.visual if classes is None else _on_embedding(model.visual, classes, model.visual.image_size)
    return _finish(net, config["mean"], config["std"])


def from_transformers(
    name: str, *, classes: int | None, folder: Path | None, download: bool, sha256: str | None
) -> nn.Module:
    """Return a picture model of the Hugging Face hub, `google/vit-base-patch16-224`. See `load`."""
    transformers = package("transformers", "transformers", "finetuning")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ConfigError(f"{name!r} is no name on the hub; write it like transformers:google/vit-base-patch16-224")
    needed = ["config.json", "preprocessor_config.json", "model.safetensors"]
    files = hub_files(name, needed, name, folder, download, sha256)
    config, preset = (json.loads(file.read_text(encoding="utf-8")) for file in files[:2])
    architecture = (config.get("architectures") or [""])[0]
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ConfigError(f"{name} is a {architecture or 'nameless architecture'}, which transformers does not bring")
    with seeded(torch.Generator().manual_seed(0)):
        try:
            model, info = kind.from_pretrained(
                files[0].parent, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise WeightsError(f"{files[-1]} does not fit transformers' {architecture}: {error}") from error
    if info["missing_keys"]:
        raise WeightsError(
            f"{files[-1]} lacks {', '.join(sorted(info['missing_keys'])[:8])}; transformers would fill them at random"
        )
    net: nn.Module = _TakesPictures(model.float())
    if classes is not None and "ForImageClassification" in architecture:
        net = _with_classes(net, model.config.num_labels, classes, name)
    elif classes is not None:
        size = preset.get("crop_size") or preset.get("size") or 224
        net = _on_embedding(net, classes, size if isinstance(size, int) else min(size.values()))
    normal = preset.get("do_normalize", True)
    return _finish(net, *((preset["image_mean"], preset["image_std"]) if normal else ([0.0] * 3, [1.0] * 3)))


class _TakesPictures(nn.Module):
    """A transformers model as a function from pictures to logits, or to an embedding when it has no classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        forward = getattr(self.model, "get_image_features", self.model)
        output = forward(pixel_values=pictures)
        if isinstance(output, Tensor):
            return output
        for field in ("logits", "image_embeds", "pooler_output"):
            if getattr(output, field, None) is not None:
                return getattr(output, field).flatten(1)
        return output.last_hidden_state[:, 0]


def _finish(net: nn.Module, mean: Any, std: Any) -> nn.Module:
    return normalized(net, Normalize(mean, std)).eval()


def _with_classes(net: nn.Module, own: int, classes: int | None, name: str) -> nn.Module:
    """Put a linear layer of zeros in the place of the last one, when another number of classes is needed."""
    if classes in (None, own):
        return net
    heads = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear) and m.out_features == own]
    if not heads:
        raise ConfigError(f"{name} does not end in a linear layer of {own} classes, so it cannot be given {classes}")
    place, head = heads[-1]
    parent, _, attribute = place.rpartition(".")
    setattr(net.get_submodule(parent), attribute, _zeros(head.in_features, classes))
    return net


def _on_embedding(net: nn.Module, classes: int, size: int | tuple[int, int]) -> nn.Module:
    """Add a linear layer of zeros; the width of the embedding is found by trying a picture of the right size."""
    size = (size, size) if isinstance(size, int) else size
    with torch.no_grad():
        width = net.eval()(torch.zeros(1, 3, *size)).shape[1]
    return nn.Sequential(net, _zeros(width, classes))


def _zeros(width: int, classes: int) -> nn.Linear:
    with seeded(torch.Generator().manual_seed(0)):
        head = nn.Linear(width, classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _near(name: str, known: Iterable[str]) -> str:
    """Return the nearest names, but not the hundreds that a library knows."""
    hint = did_you_mean(name, known)
    return hint if len(hint) < 400 else "see the library's list of models."


def package(name: str, distribution: str, extra: str) -> Any:
    """Return an optional package, imported.

    Raises:
        WeightsError: when it is not installed; the message says how to.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise WeightsError(
            f"the package {name} is needed for {name}: weights and cannot be imported ({error}); "
            f"run: pip install 'countermove[{extra}]', or only: pip install {distribution}"
        ) from error


def _torchvision_file(url: str, name: str, folder: Path | None, download: bool) -> Path:
    """Return the file on disk; its name ends in the first digits of its SHA-256, which are checked."""
    path = (folder or Path(torch.hub.get_dir()) / "checkpoints") / url.rpartition("/")[2]
    digits = path.stem.rpartition("-")[2]
    if not path.is_file():
        if not download:
            raise WeightsError(
                f"the weights of torchvision:{name} are not on this machine. File: {path.name}; source: {url}; "
                f"SHA-256 begins with {digits}; put it at {path}, or allow the download"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), digits)
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(f"{url} cannot be fetched ({error}); put the file at {path} by hand") from error
    check_sha256(path, digits, origin="the beginning of it in the file's name")
    return path


def hub_files(
    repository: str, files: Sequence[str], name: str, folder: Path | None, download: bool, sha256: str | None
) -> list[Path]:
    """Return files of the Hugging Face hub's cache on disk; the last one is the weights, and has the hash.

    Raises:
        WeightsError: when one is absent, or the last one has another hash.
    """
    hub = import_module("huggingface_hub")
    cache = Path(folder or import_module("huggingface_hub.constants").HF_HUB_CACHE)
    url = f"https://huggingface.co/{repository}/resolve/main"
    found = {file: hub.try_to_load_from_cache(repository, file, cache_dir=cache) for file in files}
    # The cache answers with a path, with nothing, or with a mark for "the hub does not have it either".
    absent = [file for file, path in found.items() if not isinstance(path, str)]
    if absent and not download:
        raise WeightsError(
            f"the weights of {name} are not on this machine. Absent: {', '.join(absent)}; source: {url}/{absent[-1]} "
            f"(hub id {repository}); SHA-256: shown on that page; put them into {cache} with: "
            f"hf download {repository} {' '.join(absent)} --cache-dir {cache}, or allow the download"
        )
    for file in absent:
        try:
            found[file] = hub.hf_hub_download(repository, file, cache_dir=cache)
        except (OSError, ValueError, import_module("huggingface_hub.errors").HfHubHTTPError) as error:
            raise WeightsError(
                f"{url}/{file} cannot be fetched ({error}); fetch it elsewhere and copy it to {cache}"
            ) from error
    paths = [Path(path) for path in found.values()]
    if sha256 is not None:
        check_sha256(paths[-1], sha256)
    return paths
