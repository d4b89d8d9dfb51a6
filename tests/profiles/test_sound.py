"""Sound files, the budget of a change in dB, and squeezes of sound."""

from __future__ import annotations

import io
import math
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.profiles.dataset import as_float, as_stored
from countermove.profiles.sound import (
    clipped_share,
    is_silent,
    low_pass,
    mu_law,
    read_wav,
    resample,
    round_to_16_bit,
    snr,
    within_snr,
    write_wav,
)

RATE = 8000


def wav(data: bytes, *, width: int = 2, channels: int = 1, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def clips(peaks: tuple[float, ...] = (30000, 300, 3, 0), samples: int = 800) -> Tensor:
    """Noise of some loudness each, int16 [M, T]."""
    noise = torch.rand(len(peaks), samples, generator=generator(0, "clips")) * 2 - 1
    return (noise * torch.tensor(peaks)[:, None]).round().to(torch.int16)


# --- files -----------------------------------------------------------------------------------------------------------


@given(arrays.arrays(np.int16, st.integers(1, 50)), st.sampled_from([8000, 22050, 48000]))
@settings(max_examples=30)
def test_clips_survive_a_file(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, rate: int) -> None:
    path = tmp_path_factory.mktemp("wav") / "clip.wav"
    write_wav(path, torch.from_numpy(values), rate)
    found, found_rate = read_wav(path)
    assert found.dtype == torch.int16
    assert (found_rate, found.tolist()) == (rate, values.tolist())


def test_another_reader_finds_the_same(tmp_path: Path) -> None:
    import scipy.io.wavfile

    clip = clips()[0]
    write_wav(tmp_path / "clip.wav", clip, RATE)
    rate, found = scipy.io.wavfile.read(tmp_path / "clip.wav")
    assert rate == RATE
    assert found.dtype == np.int16
    assert found.tolist() == clip.tolist()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.wav"
    write_wav(path, clips()[0], RATE)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(Exception, match="No space left"):
        write_wav(path, clips()[1], RATE)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["clip.wav"]


@pytest.mark.parametrize(
    ("width", "held", "expected"),
    [
        (1, bytes([0, 127, 128, 255]), [-32768, -256, 0, 32512]),
        (2, struct.pack("<4h", -32768, -1, 0, 32767), [-32768, -1, 0, 32767]),
        (3, b"\x00\x00\x80" + b"\x00\xff\xff" + b"\x00\x01\x00" + b"\xff\xff\x7f", [-32768, -1, 1, 32767]),
        (4, struct.pack("<4i", -(2**31), -65536, 65536, 2**31 - 1), [-32768, -1, 1, 32767]),
    ],
)
def test_samples_of_8_to_32_bits_come_out_on_one_scale(
    tmp_path: Path, width: int, held: bytes, expected: list[int]
) -> None:
    found, rate = read_wav(written(tmp_path / "clip.wav", wav(held, width=width, rate=11025)))
    assert (found.tolist(), rate) == (expected, 11025)


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    values = np.array([[32767, 32767, 32767], [-300, 300, 0], [100, 200, 900]], dtype="<i2")[:, :channels]
    found, _ = read_wav(written(tmp_path / "clip.wav", wav(values.tobytes(), channels=channels)))
    assert found.tolist() == {2: [32767, 0, 150], 3: [32767, 0, 400]}[channels]


SOUND = wav(clips()[0].numpy().tobytes())


@pytest.mark.parametrize(
    "data",
    [b"", b"RIFF", b"not a sound", SOUND[:30], SOUND[:-100], SOUND[:45], wav(b""), b"RIFX" + SOUND[4:]],
    ids=["empty", "four bytes", "text", "half a header", "cut short", "one byte", "no samples", "another kind"],
)
def test_broken_files_are_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "broken.wav", data)
    with pytest.raises(DataError, match=r"broken\.wav"):
        read_wav(path)


@given(st.data())
@settings(max_examples=60)
def test_damage_is_refused_or_gives_a_clip(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    broken = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.mktemp("wav") / "damaged.wav", bytes(broken))
    message, found, rate = "", torch.zeros(1, dtype=torch.int16), 1
    try:
        found, rate = read_wav(path)
    except DataError as error:
        message = str(error)
    assert not message or "damaged.wav" in message
    assert found.dtype == torch.int16
    assert found.ndim == 1
    assert len(found) > 0 < rate


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"absent\.wav cannot be read"):
        read_wav(tmp_path / "absent.wav")
    with pytest.raises(DataError, match="no regular file"):
        read_wav(tmp_path)
    monkeypatch.setattr("countermove.profiles.sound.MAX_BYTES", 100)
    with pytest.raises(DataError, match="at most 100"):
        read_wav(written(tmp_path / "clip.wav", SOUND))


def test_other_formats_need_soundfile_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    floats = struct.pack("<3f", 0.5, -1.0, 0.0)
    header = struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)
    body = b"fmt " + struct.pack("<I", 16) + header + b"data" + struct.pack("<I", len(floats)) + floats
    path = written(tmp_path / "float.wav", b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "soundfile", None)
        with pytest.raises(DataError, match=r"countermove\[profiles\]"):
            read_wav(path)
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    found, rate = read_wav(path)
    assert (found.tolist(), rate) == ([16384, -32768, 0], RATE)


@pytest.mark.parametrize("samples", [torch.zeros(3), torch.zeros(2, 3, dtype=torch.int16), torch.zeros(0).short()])
def test_what_is_no_clip_is_not_written(tmp_path: Path, samples: Tensor) -> None:
    with pytest.raises(DataError, match="int16"):
        write_wav(tmp_path / "clip.wav", samples, RATE)
    assert not list(tmp_path.iterdir())


# --- the budget ------------------------------------------------------------------------------------------------------


def test_the_ratio_is_its_formula() -> None:
    clean = torch.tensor([[3, 4, 0], [0, 0, 0], [0, 0, 0], [7, 0, 0]], dtype=torch.int16)
    moved = torch.tensor([[3, 4, 5], [0, 0, 0], [0, 1, 0], [7, 0, 0]], dtype=torch.int16)
    assert snr(clean, moved).tolist() == [0, math.inf, -math.inf, math.inf]
    loud = torch.full((1, 4), 1000, dtype=torch.int16)
    torch.testing.assert_close(snr(loud, loud + 10), torch.tensor([40.0], dtype=torch.float64))
    assert snr(-loud - 31768, loud + 31767).item() < 0, "differences of int16 do not wrap around"


@given(st.floats(-10, 90), st.integers(0, 1000))
@settings(max_examples=40)
def test_projection_gives_the_nearest_change_inside(snr_db: float, seed: int) -> None:
    clean = as_float(clips(), "speech").double()
    change = torch.randn(clean.shape, generator=generator(seed, "change"), dtype=torch.float64) * 0.01
    found = within_snr(change, clean, snr_db)
    assert (snr(clean, clean + found)[:3] >= snr_db - 1e-6).all()
    assert (found[3] == 0).all(), "silence cannot be moved"
    inside = snr(clean, clean + change) >= snr_db
    assert torch.equal(found[inside], change[inside])
    torch.testing.assert_close(within_snr(found, clean, snr_db), found)
    for row in (~inside).nonzero().flatten().tolist():
        torch.testing.assert_close(
            torch.nn.functional.normalize(found[row], dim=0) * bool(row < 3),
            torch.nn.functional.normalize(change[row], dim=0) * bool(row < 3),
        )
        radius = clean[row].norm() * 10 ** (-snr_db / 20)
        torch.testing.assert_close(found[row].norm(), radius)


@given(st.floats(0, 80), st.sampled_from([1e-5, 1e-3, 0.1, 3.0]), st.integers(0, 1000))
@settings(max_examples=60)
def test_the_budget_is_kept_after_a_wav_file(
    tmp_path_factory: pytest.TempPathFactory, snr_db: float, size: float, seed: int
) -> None:
    stored = clips((32767, 3000, 30, 1, 0), samples=300)
    stored[0, :4] = torch.tensor([-32768, 32767, -32767, 0])
    clean = as_float(stored, "speech")
    moved = clean + size * torch.randn(clean.shape, generator=generator(seed, "moved"))
    rounded = as_stored(round_to_16_bit(moved, clean, snr_db), "speech")
    folder = tmp_path_factory.mktemp("wav")
    for row, (before, after) in enumerate(zip(stored, rounded, strict=True)):
        write_wav(folder / "moved.wav", after, RATE)
        read = read_wav(folder / "moved.wav")[0]
        assert torch.equal(read, after)
        assert snr(before[None], read[None]).item() >= snr_db, f"clip {row}"
    assert torch.equal(rounded[4], stored[4]), "silence stays"


def test_rounding_uses_the_budget() -> None:
    """Most of it is left even where a change is smaller than one level, which truncation would take away whole."""
    stored = clips((30000, 300, 20), samples=4000)
    clean = as_float(stored, "speech")
    noise = torch.randn(clean.shape, generator=generator(0, "noise"))
    for snr_db in (20, 30):
        rounded = as_stored(round_to_16_bit(clean + noise, clean, snr_db), "speech")
        assert (snr(stored, rounded) < snr_db + 1).all()


def test_rounding_leaves_what_fits_and_what_is_unmoved() -> None:
    stored = clips()
    clean = as_float(stored, "speech")
    moved = as_stored(clean + 0.001 * torch.randn(clean.shape, generator=generator(0, "small")), "speech")
    fits = snr(stored, moved) > 20
    assert fits.tolist() == [True, False, False, False]
    assert torch.equal(as_stored(round_to_16_bit(as_float(moved, "speech"), clean, 20), "speech")[0], moved[0])
    assert torch.equal(as_stored(round_to_16_bit(clean, clean, 60), "speech"), stored)


def test_every_stored_sample_survives_becoming_a_float() -> None:
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)[None]
    assert torch.equal(as_stored(as_float(every, "speech"), "speech"), every)


def test_what_cannot_be_rounded_is_refused() -> None:
    clean = as_float(clips(), "speech")
    with pytest.raises(DataError, match="NaN"):
        round_to_16_bit(clean / 0, clean, 20)
    with pytest.raises(DataError, match="shape"):
        round_to_16_bit(clean[:2], clean, 20)
    for budget in (math.nan, math.inf, True):
        with pytest.raises(ConfigError, match="snr"):
            within_snr(clean, clean, budget)


def test_silent_and_clipped_clips_are_recognised() -> None:
    silent = torch.zeros(3, 100, dtype=torch.int16)
    silent[1, 50], silent[2, 50] = -32, 33
    assert is_silent(silent).tolist() == [True, True, False]
    assert not is_silent(torch.full((1, 4), -32768, dtype=torch.int16)).any()
    clipped = torch.zeros(1, 100, dtype=torch.int16)
    clipped[0, :3] = torch.tensor([32767, -32767, -32768])
    clipped[0, 3] = 32766
    torch.testing.assert_close(clipped_share(clipped), torch.tensor([0.03], dtype=torch.float64))


# --- squeezes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_mu_law_is_the_nearest_of_its_levels(bits: int) -> None:
    every = torch.arange(-32768, 32768, 7, dtype=torch.int32).to(torch.int16)
    mu, steps = 2**bits - 1, 2 ** (bits - 1) - 1
    positive = [32767 * ((1 + mu) ** (k / steps) - 1) / mu for k in range(steps + 1)]
    levels = np.array(sorted({-x for x in positive} | set(positive)))

    def curve(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.log(1 + mu * np.abs(x) / 32767) / np.log(1 + mu)

    clipped = every.numpy().astype(float).clip(-32767, 32767)
    nearest = np.abs(curve(clipped)[:, None] - curve(levels)[None]).argmin(1)
    found = mu_law(every[None], bits)[0]
    assert found.dtype == torch.int16
    assert np.abs(found.numpy() - np.rint(levels[nearest])).max() <= 1e-9
    assert torch.equal(mu_law(-every[None] - 0, bits)[0][1:], -found[1:])
    assert (mu_law(torch.zeros(1, 9, dtype=torch.int16), bits) == 0).all()


def test_more_bits_lose_less() -> None:
    clip = clips((20000,))
    ratios = [snr(clip, mu_law(clip, bits)).item() for bits in (3, 5, 8, 12)]
    assert ratios == sorted(ratios)
    assert 33 < ratios[2] < 42, "the 8 bits of telephones leave about 38 dB"


@pytest.mark.parametrize("hz", [500, 1500])
def test_low_pass_keeps_what_is_below_and_takes_what_is_above(hz: float) -> None:
    times = torch.arange(RATE) / RATE

    def share(hertz: float) -> float:
        tone = (20000 * torch.sin(2 * torch.pi * hertz * times)).to(torch.int16)[None]
        middle = slice(1000, -1000)
        return float(low_pass(tone, RATE, hz)[:, middle].double().norm() / tone[:, middle].double().norm())

    assert share(0.85 * hz) == pytest.approx(1, abs=0.01)
    assert share(hz) == pytest.approx(0.5, abs=0.02)
    assert share(1.15 * hz) < 0.01
    assert share(2 * hz) < 0.001


def test_low_pass_delays_nothing_and_keeps_shape_and_range() -> None:
    items = clips((32767, 300, 0))
    slow = torch.zeros(1, 800, dtype=torch.int16)
    slow[0, 400] = 32767
    found = low_pass(slow, RATE, 1000)
    assert int(found.argmax()) == 400
    assert low_pass(items, RATE, 1000).shape == items.shape
    assert low_pass(items, RATE, 1000).dtype == torch.int16
    steady = torch.full((1, 800), 32000, dtype=torch.int16)
    assert (low_pass(steady, RATE, 1000)[0, 250:-250] == 32000).all()
    square = torch.where(torch.arange(800) % 100 < 50, 32767, -32768).to(torch.int16)[None]
    filtered = low_pass(square, RATE, 500)
    assert (filtered[0, 10:40] > 0).all(), "an overshoot is cut, it does not wrap around"


def test_squeezes_refuse_what_would_change_nothing_or_has_no_sense() -> None:
    for bits in (1, 16, 8.0, True):
        with pytest.raises(ConfigError, match="bits"):
            mu_law(clips(), bits)  # pyright: ignore[reportArgumentType]
    for hz in (0, RATE / 2, math.nan, -3):
        with pytest.raises(ConfigError, match="hz"):
            low_pass(clips(), RATE, hz)


# --- rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "wanted"), [(11025, 16000), (22050, 16000), (8000, 16000), (16000, 4000), (44100, 8000)]
)
def test_a_tone_stays_a_tone_at_another_rate(rate: int, wanted: int) -> None:
    hertz, samples = 0.3 * min(rate, wanted), rate // 4 + 3
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(samples, dtype=torch.float64) / rate)[None]
    found = resample(tone, rate, wanted)
    assert found.shape == (1, math.ceil(samples * wanted / rate))
    expected = torch.sin(2 * torch.pi * hertz * torch.arange(found.shape[1], dtype=torch.float64) / wanted)
    middle = slice(found.shape[1] // 4, -found.shape[1] // 4)
    torch.testing.assert_close(found[0, middle], expected[middle], rtol=0, atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_taken_away() -> None:
    tone = torch.sin(2 * torch.pi * 3000 * torch.arange(16000, dtype=torch.float64) / 16000)[None]
    assert float(resample(tone, 16000, 4000)[:, 100:-100].abs().max()) < 1e-3


def test_resampling_agrees_with_scipy_on_speech_like_sound() -> None:
    source = generator(0, "speech-like")
    noise = torch.randn(2, 4000, generator=source, dtype=torch.float64)
    soft = torch.from_numpy(scipy.signal.sosfiltfilt(scipy.signal.butter(6, 0.5, output="sos"), noise.numpy()).copy())
    found = resample(soft, 11025, 16000)
    expected = torch.from_numpy(scipy.signal.resample_poly(soft.numpy(), 640, 441, axis=1))
    assert found.shape == expected.shape
    torch.testing.assert_close(found[:, 100:-100], expected[:, 100:-100], rtol=0, atol=0.01 * float(soft.std()))


def test_resampling_is_differentiable_and_keeps_equal_rates() -> None:
    waves = torch.randn(2, 30, generator=generator(0, "waves"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, 3, 2), (waves,))
    assert resample(waves, 16000, 16000) is waves
