"""The engine of keypoints: votes against a loop over pairs, and what is found, changed, saved and refused."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from countermove.errors import ConfigError, DataError
from countermove.pixels.randomness import generator
from countermove.retrieval.indexes import inverted, local_features
from countermove.retrieval.indexes.inverted import Features, InvertedLists, hamming, weights_of
from countermove.retrieval.indexes.local_features import LocalFeatures, LocalIndex
from countermove.retrieval.indexes.vocabulary import Vocabulary, learn_vocabulary, nearest_words, packed

pytest.importorskip("cv2", reason="keypoints need OpenCV: pip install 'countermove[retrieval]'")

SMALL = LocalFeatures(words=40, bits=32, threshold=12, rounds=3, contrast=0.02)


def scene(seed: int, side: int = 96) -> Tensor:
    """Overlapping boxes of all sizes, so that there are corners to find."""
    source = generator(seed, "boxes")
    picture = torch.full((3, side, side), 128.0)
    for x, y, wide, tall, *colour in torch.rand(60, 7, generator=source).tolist():
        left, top = int(x * side), int(y * side)
        box = picture[:, top : top + 4 + int(tall * side / 3), left : left + 4 + int(wide * side / 3)]
        box[:] = torch.tensor(colour)[:, None, None] * 255
    return picture.byte()


def moved(picture: Tensor, by: int = 5) -> Tensor:
    return (picture.roll((by, 2 * by), (1, 2)).float() * 0.9).byte()


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return SMALL.train([scene(100 + i) for i in range(6)], seed=0)


def slow_scores(index: LocalIndex, query: Tensor) -> list[float]:
    """Votes as one would write them down, pair by pair."""
    engine, known = index.engine, index.vocabulary
    features = index.features
    rows = features.picture.tolist()
    entries = list(zip(features.word.tolist(), features.signature.tolist(), rows, strict=True))
    count = len(index)
    idf = []
    for word in range(engine.words):
        having = len({row for of, _, row in entries if of == word})
        idf.append(math.log(count / having) if having and engine.idf else 0.0 if engine.idf else 1.0)
    descriptors = engine.describe(query)[1]
    votes, own = [0.0] * count, 0.0
    for descriptor in descriptors:
        gaps = (known.centres - descriptor).square().sum(1)
        nearest = gaps.argsort()[: engine.assignment].tolist()
        own += idf[nearest[0]] ** 2
        given: dict[int, list[float]] = {}
        for word in nearest:
            signature = 0
            for bit in range(engine.bits):
                above = float(known.projection[bit] @ descriptor) > float(known.thresholds[word, bit])
                signature |= int(above) << (63 - bit)
            for of, other, row in entries:
                apart = (signature ^ other).bit_count()
                if of != word or apart > engine.threshold:
                    continue
                if engine.weight == "log":
                    tail = sum(math.comb(engine.bits, i) for i in range(apart + 1))
                    value = -math.log2(tail / 2**engine.bits)
                else:
                    value = math.exp(-((4 * apart / engine.bits) ** 2)) if engine.weight == "gauss" else 1.0
                given.setdefault(row, []).append(value * idf[word] ** 2)
        for row, values in given.items():
            votes[row] += sum(values) / (math.sqrt(len(values)) if engine.burstiness else 1)
    out = []
    for row in range(count):
        norm = math.sqrt(own) * math.sqrt(sum(idf[of] ** 2 for of, _, where in entries if where == row))
        out.append(votes[row] / norm if norm else 0.0)
    return out


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"weight": "gauss"},
        {"weight": "binary", "burstiness": False},
        {"assignment": 3},
        {"idf": False, "threshold": 0},
        {"weight": "gauss", "assignment": 2, "burstiness": False, "threshold": 32},
    ],
)
def test_scores_are_those_of_the_loop(change: dict[str, Any], vocabulary: Vocabulary, monkeypatch: Any) -> None:
    monkeypatch.setattr(inverted, "PAIRS_AT_ONCE", 50)
    index = dataclasses.replace(SMALL, **change).build([scene(i, 64) for i in range(5)], vocabulary)
    query = moved(scene(2, 64), 1)
    scores = index.scores([query])[0]
    assert scores.tolist() == pytest.approx(slow_scores(index, query), rel=1e-9, abs=1e-12)
    assert scores.max() > 0


def test_a_moved_picture_is_found(vocabulary: Vocabulary) -> None:
    pictures = [scene(i) for i in range(10)]
    scores = SMALL.build(pictures, vocabulary).scores([moved(picture) for picture in pictures])
    assert scores.argmax(1).tolist() == list(range(10))


def test_verifying_lifts_what_agrees(vocabulary: Vocabulary) -> None:
    pictures = [scene(i) for i in range(6)]
    index = SMALL.build(pictures, vocabulary)
    verifying = dataclasses.replace(SMALL, verify=3).build(pictures, vocabulary)
    queries = [moved(picture) for picture in pictures]
    plain, verified = index.scores(queries), verifying.scores(queries)
    assert torch.equal(verified, verifying.scores(queries))
    assert verified.argmax(1).tolist() == list(range(6))
    lifted = verified != plain
    assert lifted.diagonal().all()
    assert int(lifted.sum(1).max()) <= 3
    ratio = verified.topk(2).values
    assert (ratio[:, 0] / ratio[:, 1]).median() > 1.5 * (
        plain.topk(2).values[:, 0] / plain.topk(2).values[:, 1]
    ).median()
    unlike = verifying.scores([scene(50)])
    assert torch.equal(unlike, index.scores([scene(50)]))


def test_adding_and_removing_is_building_anew(vocabulary: Vocabulary) -> None:
    pictures = [scene(i) for i in range(8)]
    index = SMALL.build(pictures[:4], vocabulary)
    index.add(pictures[4:])
    index.remove([0, 5])
    left = SMALL.build([pictures[i] for i in (1, 2, 3, 4, 6, 7)], vocabulary)
    assert len(index) == 6
    assert torch.equal(index.scores(pictures), left.scores(pictures))
    with pytest.raises(DataError, match="taken out"):
        index.remove([6])


def test_what_is_saved_is_loaded(vocabulary: Vocabulary, tmp_path: Path) -> None:
    pictures = [scene(i) for i in range(4)]
    index = SMALL.build(pictures, vocabulary)
    index.save(tmp_path)
    for again in (SMALL.load(tmp_path), SMALL.load(tmp_path, vocabulary=vocabulary)):
        assert torch.equal(again.scores(pictures), index.scores(pictures))
    other = dataclasses.replace(SMALL, weight="binary", threshold=3, verify=2)
    assert len(other.load(tmp_path)) == 4


def test_an_index_built_otherwise_is_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    SMALL.build([scene(0)], vocabulary).save(tmp_path)
    with pytest.raises(DataError, match="root was True, now False"):
        dataclasses.replace(SMALL, root=False).load(tmp_path)
    other = SMALL.train([scene(200 + i) for i in range(6)], seed=0)
    with pytest.raises(DataError, match="vocabulary was"):
        SMALL.load(tmp_path, vocabulary=other)
    with pytest.raises(ConfigError, match="40 words of 32 bits"):
        LocalFeatures().build([scene(0)], vocabulary)


def test_a_vocabulary_that_was_swapped_is_noticed(vocabulary: Vocabulary, tmp_path: Path) -> None:
    other = SMALL.train([scene(200 + i) for i in range(6)], seed=0)
    SMALL.build([scene(0)], vocabulary).save(tmp_path / "a")
    SMALL.build([scene(0)], other).save(tmp_path / "b")
    (tmp_path / "a" / "index.safetensors").write_bytes((tmp_path / "b" / "index.safetensors").read_bytes())
    with pytest.raises(DataError, match="not the one it says"):
        SMALL.load(tmp_path / "a")


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (8, 600), (64, 64), (3, 2)])
def test_flat_tiny_and_gray_pictures_score_nothing(shape: tuple[int, int], vocabulary: Vocabulary) -> None:
    flat = torch.full((3, *shape), 90, dtype=torch.uint8)
    gray = scene(1)[:1].expand(3, -1, -1)
    index = SMALL.build([flat, gray, scene(2)], vocabulary)
    scores = index.scores([flat, gray])
    assert scores[0].tolist() == [0, 0, 0]
    assert float(scores[1, 0]) == 0
    assert int(scores[1].argmax()) == 1
    alone = SMALL.build([flat], vocabulary)
    alone.add([flat])
    assert alone.scores([gray]).tolist() == [[0, 0]]


def test_an_index_of_one_picture_is_searched(vocabulary: Vocabulary) -> None:
    assert SMALL.build([scene(1)], vocabulary).scores([scene(1)]).tolist() == [[0]]
    with pytest.raises(DataError, match="no picture"):
        SMALL.build([], vocabulary)


def test_keypoints_can_be_limited_and_root_changes_descriptors() -> None:
    few = dataclasses.replace(SMALL, keypoints=10)
    assert len(few.describe(scene(1))[0]) <= 12 < len(SMALL.describe(scene(1))[0])
    rooted, plain = (dataclasses.replace(SMALL, root=root).describe(scene(1))[1] for root in (True, False))
    assert torch.allclose(rooted.norm(dim=1), torch.ones(len(rooted)), atol=1e-5)
    assert torch.allclose(plain.norm(dim=1), torch.ones(len(plain)), atol=1e-5)
    assert not torch.allclose(rooted, plain, atol=0.05)


def test_the_vocabulary_is_the_seed_s(vocabulary: Vocabulary) -> None:
    pictures = [scene(100 + i) for i in range(6)]
    assert SMALL.train(pictures, seed=0).digest == vocabulary.digest
    assert SMALL.train(pictures, seed=1).digest != vocabulary.digest
    eye = vocabulary.projection @ vocabulary.projection.T
    assert torch.allclose(eye, torch.eye(32), atol=1e-5)


def test_rounds_bring_words_nearer_and_thresholds_are_medians() -> None:
    descriptors = torch.rand(600, 16, generator=generator(0, "descriptors"))

    def distance(rounds: int) -> float:
        known = learn_vocabulary(descriptors, words=20, bits=8, rounds=rounds, seed=0)
        return float(torch.cdist(descriptors, known.centres).amin(1).square().mean())

    assert distance(5) < distance(1) < distance(0)
    known = learn_vocabulary(descriptors, words=20, bits=8, rounds=5, seed=0)
    word = known.words(descriptors)[:, 0]
    projected = (descriptors @ known.projection.T).numpy()
    counts = Counter(word.tolist())
    assert min(counts.values()) >= 5
    for k in range(20):
        expected = np.median(projected[word.numpy() == k], axis=0)
        assert known.thresholds[k].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    above = torch.from_numpy(projected) > known.thresholds[word]
    assert 0.4 < float(above.float().mean()) < 0.5


def test_words_with_few_samples_take_everybody_s_medians() -> None:
    descriptors = torch.cat([torch.rand(50, 4, generator=generator(0, "x")), torch.tensor([[9.0, 9, 9, 9]])])
    known = learn_vocabulary(descriptors, words=51, bits=3, rounds=0, seed=0)
    expected = np.median((descriptors @ known.projection.T).numpy(), axis=0)
    assert known.thresholds[7].tolist() == pytest.approx(expected.tolist())


def test_too_few_descriptors_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"words = 20,000 .* different descriptors"):
        LocalFeatures().train([scene(1)], seed=0)
    with pytest.raises(ConfigError, match="have 1 different"):
        learn_vocabulary(torch.ones(50, 8), words=2, bits=4, rounds=1, seed=0)
    with pytest.raises(ConfigError, match="have 0 different"):
        SMALL.train([torch.zeros(3, 32, 32, dtype=torch.uint8)], seed=0)


def test_nearest_words_are_the_nearest() -> None:
    source = generator(0, "words")
    descriptors, centres = torch.rand(1500, 12, generator=source), torch.rand(70, 12, generator=source)
    exact = torch.cdist(descriptors.double(), centres.double()).argsort(1)
    assert torch.equal(nearest_words(descriptors, centres, 4), exact[:, :4])
    assert torch.equal(nearest_words(descriptors, centres), exact[:, :1])
    assert nearest_words(descriptors[:0], centres).shape == (0, 1)


def test_bits_are_packed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = torch.rand(300, 64, generator=generator(0, "bits")) < 0.5
    for width in (64, 10):
        numbers = packed(bits[:, :width])
        texts = ["".join(str(int(bit)) for bit in row[:width]).ljust(64, "0") for row in bits]
        assert numbers.tolist() == [int(text, 2) for text in texts]
    some, others = packed(bits[:150])[:, None], packed(bits[150:])
    apart = (bits[:150, None] != bits[None, 150:]).sum(-1).numpy()
    assert (hamming(some, others) == apart).all()
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert (hamming(some, others) == apart).all()


def test_weights_by_hand() -> None:
    log, gauss, binary = (weights_of(name, 24, 64) for name in ("log", "gauss", "binary"))
    assert log[0] == 64
    assert log[24] == pytest.approx(5.06, abs=0.005)
    assert gauss[16] == pytest.approx(math.exp(-1))
    assert binary.tolist() == [1] * 25 + [0] * 40
    assert log[25] == gauss[25] == 0


def test_lists_hold_every_entry_once() -> None:
    source = np.random.default_rng(0)
    counts = np.array([5, 0, 30, 12])
    features = Features(
        word=source.integers(0, 9, 47).astype(np.int32),
        signature=source.integers(0, 2**63, 47).astype(np.uint64),
        place=source.random((47, 2)).astype(np.float32),
        counts=counts,
    )
    lists = InvertedLists(features, 10)
    entries = set(zip(features.word, features.signature, features.picture, strict=True))
    held = {
        (word, lists.signature[i], lists.picture[i])
        for word in range(10)
        for i in range(lists.start[word], lists.start[word + 1])
    }
    assert entries == held
    assert lists.start[-1] == 47
    assert lists.start[9] == lists.start[10]
    assert lists.idf[9] == 0
    norms = lists.norms(idf=False)
    assert norms.tolist() == pytest.approx(np.sqrt(counts).tolist())


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": "logs"},
        {"bits": 65},
        {"bits": 0},
        {"threshold": 65},
        {"threshold": -1},
        {"words": 0},
        {"assignment": 0},
        {"assignment": 9, "words": 8},
        {"contrast": -1.0},
        {"verify": -1},
        {"sample": 0},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        LocalFeatures(**wrong)


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(local_features, "import_module", absent)
    with pytest.raises(ConfigError, match=r"countermove\[retrieval\]"):
        SMALL.describe(scene(1))
