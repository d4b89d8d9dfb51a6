"""Sound: reading and writing WAV files, how far a clip was moved, and what loses detail of it.

Clips are int16 [M, T] as stored, or floats [M, T] in [-1, 1], where 1 is 32,767. How far a clip is moved is measured
as its signal-to-noise ratio, 20 log10(|clean| / |change|) in dB: the larger, the less is heard. A budget of s dB is
the Euclidean ball of radius |clean| 10^(-s / 20) around a clip, so a silent clip cannot be moved at all.
"""

from __future__ import annotations

import io
import math
import stat
import wave
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.files import write_atomic

LOUDEST = 32767
MAX_BYTES = 500_000_000
_SILENT = 32  # levels, a thousandth of the range
_HALVINGS = 40
_CROSSINGS = 24  # of zero, on either side of a filter's centre


def read_wav(path: Path | str) -> tuple[Tensor, int]:
    """Read one sound file as int16 [T] and its rate; several channels are averaged.

    WAV files with whole numbers of 8, 16, 24 or 32 bits need nothing else. Others (floating point, FLAC, OGG) are
    read by the package soundfile where it is installed.

    Raises:
        DataError: when the file is absent, no regular file, too large, empty, cut short or no sound.
    """
    path = Path(path)
    data = _bytes(path)
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            channels, width, rate, frames = file.getparams()[:4]
            held = file.readframes(frames)
    except (wave.Error, EOFError, ValueError, OverflowError, RuntimeError) as error:
        values, rate = _otherwise(path, data, error)
    else:
        if len(held) != channels * width * frames:
            raise DataError(f"{path} was cut short: its header promises {frames:,} samples; fetch or record it again")
        values = _whole_numbers(path, held, width).reshape(-1, channels)
    if not len(values) or rate < 1:
        raise DataError(f"{path} holds no sound ({len(values)} samples, {rate} a second)")
    mono = np.rint(values.mean(axis=1)).clip(-LOUDEST - 1, LOUDEST)
    return torch.from_numpy(mono.astype(np.int16)), int(rate)


def write_wav(path: Path | str, samples: Tensor, rate: int) -> None:
    """Write int16 [T] as a 16-bit mono WAV file, whole or not at all.

    Raises:
        DataError: when the samples are no such clip.
        RunError: when the file cannot be written.
    """
    if samples.dtype != torch.int16 or samples.ndim != 1 or not len(samples) or rate < 1:
        raise DataError(
            f"{path}: a clip to write is int16 [T] with a rate; got {samples.dtype} {list(samples.shape)}, {rate}"
        )
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.cpu().numpy().astype("<i2").tobytes())
    write_atomic(path, buffer.getvalue())


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no regular file; only sound files can be read")
        if status.st_size > MAX_BYTES:
            raise DataError(f"{path} has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _whole_numbers(path: Path, held: bytes, width: int) -> np.ndarray:
    """Return samples of 1 to 4 bytes on the scale of 16 bits."""
    if width == 1:
        return (np.frombuffer(held, dtype=np.uint8).astype(np.float64) - 128) * 256
    if width not in (2, 3, 4):
        raise DataError(f"{path} has samples of {8 * width} bits; 8, 16, 24 and 32 are read")
    if width == 3:  # as the upper bytes of 32 bits
        wide = np.zeros((len(held) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(held, dtype=np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0] / 65536.0
    return np.frombuffer(held, dtype=f"<i{width}") / 256.0 ** (width - 2)


def _otherwise(path: Path, data: bytes, error: Exception) -> tuple[np.ndarray, int]:
    """Read what is no plain WAV through soundfile, float64 [T, channels] on the scale of 16 bits."""
    try:
        soundfile = import_module("soundfile")
    except (ImportError, OSError):
        raise DataError(
            f"{path} is not a whole WAV file of whole numbers ({error}); save it as a 16-bit WAV file, or, where it is "
            "another sound format, run: pip install 'countermove[profiles]'"
        ) from None
    try:
        told = soundfile.info(io.BytesIO(data))
        if told.frames * told.channels > MAX_BYTES // 2:
            raise DataError(f"{path} unpacks to {told.frames:,} samples a channel; at most {MAX_BYTES // 2:,} are read")
        values, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    except (OSError, MemoryError, RuntimeError, ValueError, TypeError) as problem:
        raise DataError(f"{path} is no sound file that can be read ({problem}); save it as a 16-bit WAV file") from None
    if not np.isfinite(values).all():
        raise DataError(f"{path} holds samples that are no finite numbers")
    return values * (LOUDEST + 1), int(rate)


def snr(clean: Tensor, moved: Tensor) -> Tensor:
    """Return the signal-to-noise ratio of every clip in dB, float64 [M].

    It is infinite where nothing was changed, and minus infinity where silence was.
    """
    power = clean.double().square().sum(-1)
    change = (moved.double() - clean.double()).square().sum(-1)
    ratio = 10 * (power / change).log10()
    return torch.where(change == 0, math.inf, ratio)


def within_snr(change: Tensor, clean: Tensor, snr_db: float) -> Tensor:
    """Return the nearest changes [M, T] that keep a budget; one that keeps it already comes back as it is.

    Raises:
        ConfigError: when the budget is no number.
    """
    radius = _radius(clean, snr_db)
    length = torch.linalg.vector_norm(change, dim=-1, keepdim=True, dtype=torch.float64)
    factor = (radius / length).nan_to_num(nan=1.0, posinf=1.0).clamp(max=1.0)
    return change * factor.to(change.dtype)


@torch.no_grad()
def round_to_16_bit(moved: Tensor, clean: Tensor, snr_db: float) -> Tensor:
    """Round moved clips to 16 bits so that they keep their budget around the clean ones.

    Plain rounding can break it, and truncation would take all of a change that is below one level. Here a change is
    made smaller by as little as lets its rounded form stay inside.

    Args:
        moved:  floats [M, T], clamped to what 16 bits hold; a clip outside its budget is projected first.
        clean:  the clips they were made from, floats, rounded to 16 bits first.
        snr_db: the budget in dB.

    Returns:
        Clips k / 32767 with the shape and dtype of moved.

    Raises:
        ConfigError: when the budget is no number.
        DataError: shapes that differ, or NaN.
    """
    if moved.shape != clean.shape:
        raise DataError(f"moved clips {list(moved.shape)} and clean ones {list(clean.shape)} differ in shape")
    if moved.isnan().any():
        raise DataError("moved clips hold NaN; the method that made them diverged, try a smaller step")
    base = (clean.double() * LOUDEST).round().clamp(-LOUDEST - 1, LOUDEST)
    reached = (moved.double() * LOUDEST).clamp(-LOUDEST - 1, LOUDEST)
    change = within_snr(reached - base, base, snr_db)
    budget = _radius(base, snr_db).square() * (1 - 1e-9)
    low, high = torch.zeros_like(budget), torch.ones_like(budget)
    fits = change.round().square().sum(-1, keepdim=True) <= budget
    low = torch.where(fits, high, low)
    for _ in range(0 if bool(fits.all()) else _HALVINGS):
        middle = (low + high) / 2
        fits = (middle * change).round().square().sum(-1, keepdim=True) <= budget
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return ((base + (low * change).round()) / LOUDEST).to(moved.dtype)


def _radius(clean: Tensor, snr_db: float) -> Tensor:
    if isinstance(snr_db, bool) or not isinstance(snr_db, (int, float)) or not math.isfinite(snr_db):
        raise ConfigError(f"snr = {snr_db!r} is no budget; it is a number of dB, such as 30 (40 changes less)")
    return torch.linalg.vector_norm(clean, dim=-1, keepdim=True, dtype=torch.float64) * 10 ** (-snr_db / 20)


def clipped_share(items: Tensor) -> Tensor:
    """Return the share of samples at either end of the range, for int16 [M, T]: [M]."""
    return ((items >= LOUDEST) | (items <= -LOUDEST)).double().mean(-1)


def is_silent(items: Tensor) -> Tensor:
    """Return which of int16 [M, T] never leave a thousandth of the range: bool [M]."""
    return items.int().abs().amax(-1) <= _SILENT


def mu_law(items: Tensor, bits: int = 8) -> Tensor:
    """Round int16 [M, T] to 2^bits - 1 levels that are close together near zero, as telephones do. int16.

    One bit is the sign, so silence stays silence. The curve is that of ITU-T G.711's mu-law without its pieces of
    straight lines: log(1 + mu |x|) / log(1 + mu), mu = 2^bits - 1.

    Raises:
        ConfigError: when the bits are not 2 to 15.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 15:
        raise ConfigError(f"bits = {bits!r} is not accepted; a sample has 2 to 15 bits, such as 8")
    mu, levels = 2**bits - 1, 2 ** (bits - 1) - 1
    x = items.double() / LOUDEST
    compressed = torch.log1p(mu * x.abs()) / math.log1p(mu)
    rounded = (compressed * levels).round() / levels
    return _int16(x.sign() * torch.expm1(rounded * math.log1p(mu)) / mu * LOUDEST)


def low_pass(items: Tensor, rate: int, hz: float) -> Tensor:
    """Take what is above a frequency out of int16 [M, T]. int16.

    A windowed sinc, centred, so nothing is delayed; it falls over about a fifth of the frequency, half of it on
    either side.

    Raises:
        ConfigError: when the frequency is not between 0 and half the rate.
    """
    if not 0 < hz < rate / 2:
        raise ConfigError(
            f"hz = {hz!r} is not accepted; it lies between 0 and {rate / 2:g}, half the rate of the sound"
        )
    half = math.ceil(_CROSSINGS * rate / (2 * hz))
    kernel = _sinc(torch.arange(-half, half + 1, dtype=torch.float64), 2 * hz / rate, half + 1)
    kernel = kernel / kernel.sum()
    return _int16(F.conv1d(items.double()[:, None], kernel[None, None], padding=half)[:, 0])


def resample(waves: Tensor, rate: int, wanted: int) -> Tensor:
    """Return floats [M, T] at another rate, [M, ceil(T wanted / rate)]; differentiable.

    A windowed sinc, which passes what both rates can hold; sample 0 stays at time 0.
    """
    common = math.gcd(rate, wanted)
    down, up = rate // common, wanted // common
    if up == down:
        return waves
    cutoff = min(1.0, up / down)
    half = math.ceil(_CROSSINGS / cutoff)
    # One kernel for each of the `up` places that an output sample can have between two input samples, all of them
    # beside one another in a window that moves on by `down` samples.
    window = torch.arange(-half, half + down + 1, dtype=torch.float64, device=waves.device)
    places = torch.arange(up, dtype=torch.float64, device=waves.device) * down / up
    kernels = _sinc(window[None] - places[:, None], cutoff, half + 1)
    count = math.ceil(waves.shape[1] * up / down)
    blocks = math.ceil(count / up)
    missing = (blocks - 1) * down + kernels.shape[1] - half - waves.shape[1]
    padded = F.pad(waves, (half, max(0, missing)))
    found = F.conv1d(padded[:, None], kernels.to(waves.dtype)[:, None], stride=down)
    return found.transpose(1, 2).flatten(1)[:, :count]


def _sinc(offsets: Tensor, cutoff: float, half: int) -> Tensor:
    """Return a low-pass filter under a Kaiser window at offsets in samples; cutoff in units of half the rate."""
    inside = (1 - (offsets / half).square()).clamp(min=0)
    beta = torch.tensor(8.0, dtype=offsets.dtype, device=offsets.device)
    window = torch.special.i0(beta * inside.sqrt()) / torch.special.i0(beta) * (offsets.abs() < half)
    return cutoff * torch.sinc(cutoff * offsets) * window


def _int16(values: Tensor) -> Tensor:
    return values.round().clamp(-LOUDEST - 1, LOUDEST).to(torch.int16)
