"""Somebody's published poison, read from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.game.content import fingerprint_files
from countermove.pixels.balls import Ball, Norm, check_radius
from countermove.pixels.batch import Batch
from countermove.pixels.files import read_npy, read_npz, read_picture, safe_child, walk_pictures
from countermove.pixels.rounding import to_float
from countermove.unlearnable.poison import Context


@dataclass(frozen=True, kw_only=True)
class Precomputed:
    """A poison from files: a folder of pictures, or an .npz or .npy of pictures or noise.

    path:    a folder with one picture a sample, found as <id>.png (or any name that begins with the id and a dot);
             an .npz with `pictures` (uint8) or `noise` (float in [0, 1] units, or integers in levels of 1/255), and
             optionally `ids` and `labels`; or an .npy with one such array.
    holds:   "pictures" or "noise", what an .npy holds.
    eps, radius_norm: what its authors promise. The budget is measured on the pictures as received; a poison that
             leaves it is flagged, not refused. eps 0 means nothing is promised.

    Arrays without ids are taken in the order of the data set and must then have as many rows. Labels, where given,
    must agree with those of the data set. Layouts [N, H, W, 3] and [N, 3, H, W] are told apart by where the 3 is.
    Noise is added without clamping either of its halves (the loader of Huang et al. 2021 loses the negative one).
    """

    version: ClassVar[int] = 1
    norm: ClassVar[Norm | None] = None
    streams: ClassVar[bool] = False

    path: Path
    holds: Literal["pictures", "noise"] = "pictures"
    eps: float = 0.0
    radius_norm: Literal["linf", "l2", "l0"] = "linf"

    def __post_init__(self) -> None:
        check_radius(self.eps, norm=self.radius_norm)
        if not self.path.exists():
            raise ConfigError(f"precomputed: there is nothing at {self.path}; name the file or folder of the poison")
        if self.path.is_file() and self.path.suffix not in {".npz", ".npy"}:
            raise ConfigError(f"precomputed: {self.path.name} is refused: a folder, an .npz or an .npy is read")

    def fingerprint(self, *, rehash: bool = False) -> str:
        """Return the SHA-256 of the files' names and bytes."""
        if self.path.is_file():
            return fingerprint_files([(self.path.name, self.path)], rehash=rehash)
        files = [(name, self.path / name) for name in walk_pictures(self.path)]
        return fingerprint_files(files, rehash=rehash)

    def promise(self) -> Ball | None:
        """Return the ball that its authors promise."""
        return Ball(norm=self.radius_norm, radius=self.eps) if self.eps > 0 else None

    def __call__(self, batch: Batch, *, context: Context) -> Batch:
        """Return the published pictures, in the batch's order.

        Raises:
            DataError: when ids, labels, sizes or values do not fit the data.
        """
        if self.path.is_dir():
            return batch.with_pictures(self._from_folder(batch))
        arrays = self._arrays()
        kind = "noise" if "noise" in arrays else "pictures"
        rows = self._rows(arrays, batch)
        values = _channels_first(arrays[kind], self.path)[rows]
        if values.shape != batch.pictures.shape:
            raise DataError(
                f"{self.path.name} holds {kind} of {_size(values)}; the data are {_size(batch.pictures)} pixels"
            )
        unit = _unit(values, self.path, signed=kind == "noise")
        return batch.with_pictures((batch.pictures + unit).clamp(0, 1) if kind == "noise" else unit)

    def _arrays(self) -> dict[str, np.ndarray]:
        if self.path.suffix == ".npy":
            return {self.holds: read_npy(self.path)}
        arrays = read_npz(self.path, (), optional=("pictures", "noise", "ids", "labels"))
        if ("pictures" in arrays) == ("noise" in arrays):
            raise DataError(f"{self.path.name} must hold one of the arrays 'pictures' and 'noise'")
        return arrays

    def _rows(self, arrays: dict[str, np.ndarray], batch: Batch) -> Tensor:
        count = len(np.atleast_1d(arrays["noise" if "noise" in arrays else "pictures"]))
        for name in ("ids", "labels"):
            if name in arrays and arrays[name].shape != (count,):
                raise DataError(f"{self.path.name} holds {count} rows, but {name} of shape {arrays[name].shape}")
        if "ids" in arrays:
            position = {str(sample): i for i, sample in enumerate(arrays["ids"].tolist())}
            if len(position) < count:
                twice = count - len(position)
                raise DataError(f"{self.path.name}: ids must be unique; {twice} of {count} repeat others")
            absent = [sample for sample in batch.ids if sample not in position]
            if absent:
                raise DataError(f"{self.path.name} has no row for {len(absent)} ids, the first is {absent[0]!r}")
            rows = torch.tensor([position[sample] for sample in batch.ids])
        elif count == len(batch):
            rows = torch.arange(count)
        else:
            raise DataError(f"{self.path.name} holds {count} rows for {len(batch)} pictures and no ids to match them")
        if "labels" in arrays:
            if arrays["labels"].dtype.kind not in "iu":
                raise DataError(f"{self.path.name}: labels must be whole numbers; got {arrays['labels'].dtype}")
            theirs = torch.from_numpy(arrays["labels"].astype(np.int64))[rows]
            wrong = int((theirs != batch.labels).sum())
            if wrong:
                raise DataError(f"{self.path.name}: {wrong} of {len(batch)} labels differ from the data's")
        return rows

    def _from_folder(self, batch: Batch) -> Tensor:
        by_id = {str(Path(name).with_suffix("")): name for name in walk_pictures(self.path)}
        absent = [s for s in batch.ids if s not in by_id and str(Path(s).with_suffix("")) not in by_id]
        if absent:
            raise DataError(f"{self.path} has no picture for {len(absent)} ids, the first is {absent[0]!r}")
        pictures = []
        for sample in batch.ids:
            name = by_id.get(sample) or by_id[str(Path(sample).with_suffix(""))]
            picture = read_picture(safe_child(self.path, name))
            if picture.shape[:2] != tuple(batch.pictures.shape[2:]):
                found = f"{picture.shape[1]} x {picture.shape[0]}"
                raise DataError(f"{name} is {found} pixels; the data are {_size(batch.pictures)}")
            pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
        return to_float(torch.stack(pictures))


def _channels_first(values: np.ndarray, path: Path) -> Tensor:
    if values.ndim != 4 or 3 not in (values.shape[1], values.shape[3]):
        raise DataError(f"{path.name}: an array of shape {values.shape} is refused: [N, H, W, 3] or [N, 3, H, W]")
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: an array of {values.dtype} is refused: numbers are read, as uint8 or float32")
    if values.dtype.kind == "u":
        values = values.astype(np.int64)  # torch knows few unsigned types
    tensor = torch.from_numpy(values)
    return tensor if values.shape[1] == 3 else tensor.permute(0, 3, 1, 2)


def _unit(values: Tensor, path: Path, *, signed: bool) -> Tensor:
    if not values.is_floating_point():
        largest = int(values.long().abs().max())
        if largest > 255:
            raise DataError(f"{path.name}: whole numbers are levels up to 255; the largest is {largest}")
        unit = values.float() / 255
    else:
        unit = values.float()
        if not torch.isfinite(unit).all() or unit.abs().max() > 1:
            raise DataError(f"{path.name}: float values must be in [0, 1] units; the largest is {unit.abs().max():.3g}")
    if not signed and unit.min() < 0:
        raise DataError(f"{path.name}: pictures are not negative; the smallest value is {unit.min():.3g}")
    return unit


def _size(pictures: Tensor) -> str:
    return f"{pictures.shape[-1]} x {pictures.shape[-2]}"
