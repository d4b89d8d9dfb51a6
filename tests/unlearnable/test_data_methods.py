from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from tests import hostile
from torchvision import datasets

from countermove.errors import ConfigError, DataError
from countermove.unlearnable.data import DATA, cifar
from countermove.unlearnable.data.cifar import CLASSES, MINI, Cifar10Jpeg, Cifar10Lossless, Cifar10Mini
from countermove.unlearnable.data.folders import Folder
from countermove.unlearnable.data.hf import HfFolder
from countermove.unlearnable.data.imagenet import Imagenet100
from countermove.unlearnable.data.vision import Cifar10, Cifar100, Svhn

REAL = Path(os.environ.get("COUNTERMOVE_DATA") or Path(__file__).parents[2] / "../shared/data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERMOVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COUNTERMOVE_DATA", raising=False)


def real(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"needs {name} in the development data; set COUNTERMOVE_DATA to the folder that holds it")
    return REAL


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def tree(root: Path, *places: str, count: int = 5, side: int = 8) -> Path:
    """Fill class folders with different small pictures."""
    for number, place in enumerate(places):
        for i in range(count):
            put(root / place / f"{i}.png", hostile.encoded(hostile.noise(side, side, seed=100 * number + i)))
    return root


def test_every_registered_data_set_is_a_method() -> None:
    import importlib

    for name, target in DATA.items():
        module, _, attribute = target.partition(":")
        method = getattr(importlib.import_module(module), attribute)
        assert method.version >= 1, name
        assert method.__doc__.splitlines()[0].endswith("."), name


# The excerpt that ships with the package.


def test_mini_is_what_it_says() -> None:
    data = Cifar10Mini()()
    assert (len(data.train), len(data.test), data.classes) == (4000, 1000, CLASSES)
    assert data.train.pictures.shape[1:] == (3, 32, 32)
    assert data.train.ids[17] == "train/00017"
    assert torch.bincount(data.train.labels).tolist() == [396, 366, 420, 384, 422, 393, 414, 385, 407, 413]
    assert data.digest.startswith("69e118cb")
    assert sum(file.stat().st_size for file in MINI.iterdir()) <= 13_000_000


def test_mini_takes_the_first_in_order() -> None:
    whole, part = Cifar10Mini()(), Cifar10Mini(train_limit=200, test_limit=50)()
    assert part.train.ids == whole.train.ids[:200]
    assert torch.equal(part.train.pictures, whole.train.pictures[:200])
    assert torch.equal(part.test.labels, whole.test.labels[:50])
    with pytest.raises(DataError, match="raise train_limit"):
        Cifar10Mini(train_limit=3)()
    with pytest.raises(ConfigError, match="train_limit must be at least 1; got 0"):
        Cifar10Mini(train_limit=0)


def test_mini_names_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in MINI.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace("train/00000,frog", "train/00000,deer"))
    monkeypatch.setattr(cifar, "MINI", tmp_path)
    with pytest.raises(DataError, match=r"labels\.csv, which ships with countermove, is damaged"):
        Cifar10Mini()()


@pytest.mark.data
def test_mini_equals_the_source() -> None:
    source, mini = Cifar10Lossless()(root=real("cifar10_lossless")), Cifar10Mini()()
    for part, whole in ((mini.train, source.train), (mini.test, source.test)):
        assert part.ids == whole.ids[: len(part)]
        assert torch.equal(part.pictures, whole.pictures[: len(part)])
        assert torch.equal(part.labels, whole.labels[: len(part)])
    assert (len(source.train), len(source.test)) == (8068, 1017)


@pytest.mark.data
def test_the_jpeg_copy_is_near_the_source_in_the_same_order() -> None:
    jpeg = Cifar10Jpeg(train_limit=500, test_limit=100)(root=real("cifar10_jpeg"))
    mini = Cifar10Mini(train_limit=500, test_limit=100)()
    assert jpeg.train.ids == mini.train.ids
    assert torch.equal(jpeg.test.labels, mini.test.labels)
    assert (jpeg.train.pictures.float() - mini.train.pictures.float()).abs().mean() < 8


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _lossless(n: int = 4) -> dict[str, np.ndarray]:
    pictures = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    labels, index = np.arange(n, dtype=np.uint8) % 2, np.arange(n) * 3
    names = np.array(["cat", "dog"])
    return {
        "x_train": pictures, "y_train": labels, "train_index": index,
        "x_test": pictures, "y_test": labels, "test_index": index, "class_names": names,
    }  # fmt: skip


def test_lossless_reads_and_refuses(tmp_path: Path) -> None:
    path = tmp_path / "cifar10_lossless" / "cifar10_lossless.npz"
    with pytest.raises(
        DataError, match=r"cifar10-lossless needs .*cifar10_lossless\.npz, which is not there; set COUNTER"
    ):
        Cifar10Lossless()(root=tmp_path)
    put(path, _npz(**_lossless()))
    data = Cifar10Lossless()(root=tmp_path)
    assert data.train.ids == ("train/00000", "train/00003", "train/00006", "train/00009")
    assert Cifar10Lossless().fingerprint(root=tmp_path) == Cifar10Lossless(train_limit=4).fingerprint(root=tmp_path)
    put(path, _npz(**{**_lossless(), "y_train": np.zeros(3)}))
    with pytest.raises(DataError, match="do not fit together"):
        Cifar10Lossless()(root=tmp_path)
    put(path, hostile.pickled_npz())
    with pytest.raises(DataError, match="has no array"):
        Cifar10Lossless()(root=tmp_path)


def test_jpeg_reads_and_names_a_broken_picture(tmp_path: Path) -> None:
    files = [hostile.encoded(hostile.noise(32, 32, seed=i), "JPEG") for i in range(4)]
    offsets = np.cumsum([0, *map(len, files)])
    joined = np.frombuffer(b"".join(files), np.uint8)
    labels = np.array([0, 1, 0, 1], np.uint8)
    names = np.array(["cat", "dog"])
    arrays = {f"{s}_{k}": v for s in ("train", "test") for k, v in (("bytes", joined), ("offsets", offsets))}
    path = tmp_path / "cifar10_jpeg" / "cifar10_jpeg.npz"
    put(path, _npz(**arrays, y_train=labels, y_test=labels, class_names=names))
    assert len(Cifar10Jpeg(test_limit=2)(root=tmp_path).test) == 2
    put(path, _npz(**{**arrays, "test_offsets": offsets - 1}, y_train=labels, y_test=labels, class_names=names))
    with pytest.raises(DataError, match=r"cifar10_jpeg\.npz, picture test/00000"):
        Cifar10Jpeg()(root=tmp_path)


# What torchvision fetches.


def _fake_cifar(
    root: Path, folder: str, names: list[str], key: str, classes_file: str, classes_key: str
) -> tuple[list, dict]:
    rng = np.random.default_rng(0)
    listed = []
    for name in names:
        content = pickle.dumps({"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), key: [0, 1, 0, 1]}, protocol=2)
        put(root / folder / name, content)
        listed.append([name, hashlib.md5(content).hexdigest()])
    meta = pickle.dumps({classes_key: ["cat", "dog"]}, protocol=2)
    put(root / folder / classes_file, meta)
    return listed, {"filename": classes_file, "key": classes_key, "md5": hashlib.md5(meta).hexdigest()}


def test_cifar_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"cifar10 is not in .*fetch it with cifar10\(download=true\)"):
        Cifar10()(root=tmp_path)
    batches = [f"data_batch_{i}" for i in range(1, 6)]
    listed, meta = _fake_cifar(
        tmp_path, "cifar-10-batches-py", [*batches, "test_batch"], "labels", "batches.meta", "label_names"
    )
    with pytest.raises(DataError, match="cannot be used: Dataset not found or corrupted"):
        Cifar10()(root=tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    data = Cifar10(train_limit=10)(root=tmp_path)
    assert (len(data.train), len(data.test), data.classes) == (10, 4, ("cat", "dog"))
    assert data.train.ids[9] == "train/00009"
    before = Cifar10().fingerprint(root=tmp_path)
    put(tmp_path / "cifar-10-batches-py" / "test_batch", b"other")
    assert Cifar10().fingerprint(root=tmp_path) != before


def test_cifar100_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, meta = _fake_cifar(
        tmp_path, "cifar-100-python", ["train", "test"], "fine_labels", "meta", "fine_label_names"
    )
    monkeypatch.setattr(datasets.CIFAR100, "train_list", listed[:1])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", listed[1:])
    monkeypatch.setattr(datasets.CIFAR100, "meta", meta)
    assert len(Cifar100()(root=tmp_path).train) == 4


def test_svhn_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"svhn\(download=true\)"):
        Svhn().fingerprint(root=tmp_path)
    pictures = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    digits = np.array([[10 if i % 10 == 0 else i % 10] for i in range(20)], dtype=np.uint8)
    splits = {}
    for split in ("train", "test"):
        path = tmp_path / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": pictures, "y": digits})
        splits[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    data = Svhn()(root=tmp_path)
    assert data.train.labels.tolist() == [i % 10 for i in range(20)]
    np.testing.assert_array_equal(data.train.pictures[3].numpy(), pictures[..., 3].transpose(2, 0, 1))


# Folders of pictures.


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    tree(tmp_path / "pets", "train/cät", "train/dog", "test/cät", "test/dog/old")
    data = Folder(path="pets")(root=tmp_path)
    assert data.classes == ("cät", "dog")
    assert data.train.ids[0] == "train/cät/0.png"
    assert data.test.ids[-1] == "test/dog/old/4.png"
    assert data.test.labels.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(data.train.pictures[1].numpy().transpose(1, 2, 0), hostile.noise(seed=1))
    few = Folder(path="pets", train_limit=7, test_limit=3)(root=tmp_path)
    assert (len(few.train), len(few.test)) == (7, 3)
    assert [name for name in data.train.ids if name in few.train.ids] == list(few.train.ids), "the order is kept"


def test_folder_splits_one_tree_by_id(tmp_path: Path) -> None:
    method = Folder(path=str(tree(tmp_path / "pets", "cat", "dog", count=10)), test_fraction=0.3)
    data = method()
    assert (len(data.train), len(data.test)) == (14, 6)
    assert torch.bincount(data.test.labels).tolist() == [3, 3]
    assert not set(data.train.ids) & set(data.test.ids)
    assert method().digest == data.digest
    other = Folder(path=method.path, test_fraction=0.3, split_seed=1)()
    assert set(other.test.ids) != set(data.test.ids)


def test_folder_fingerprint_follows_content_and_not_place(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "a", "cat", "dog"), tree(tmp_path / "b", "cat", "dog")
    before = Folder(path=str(first)).fingerprint()
    assert before == Folder(path=str(second)).fingerprint()
    (second / "cat" / "0.png").rename(second / "dog" / "new.png")
    assert before != Folder(path=str(second)).fingerprint()


def test_folder_side_crops_and_resizes(tmp_path: Path) -> None:
    tree(tmp_path, "cat", "dog")
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    put(tmp_path / "cat" / "wide.png", hostile.encoded(wide))
    with pytest.raises(DataError, match=r"unequal sizes: .* is 8 x 8, but cat/wide\.png is 30 x 10 .*side=8"):
        Folder(path=str(tmp_path), test_fraction=0.01)()
    data = Folder(path=str(tmp_path), side=6)()
    assert data.train.pictures.shape[1:] == (3, 6, 6)
    both = {
        **dict(zip(data.train.ids, data.train.pictures, strict=True)),
        **dict(zip(data.test.ids, data.test.pictures, strict=True)),
    }
    assert (both["cat/wide.png"] == 200).all()


def test_folder_skips_by_choice_and_names_what_it_skipped(tmp_path: Path) -> None:
    tree(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog")
    put(tmp_path / "train" / "cat" / "0.png", hostile.encoded(hostile.noise())[:-20])
    put(tmp_path / "train" / "dog" / "9.gif", hostile.animated("GIF"))
    with pytest.raises(DataError, match=r"train/cat/0\.png is broken or cut short"):
        Folder(path=str(tmp_path))()
    data = Folder(path=str(tmp_path), on_broken="skip")()
    assert len(data.train) == 9
    assert ["0.png" in data.skipped[0], "9.gif" in data.skipped[1]] == [True, True]


def test_folder_refuses_other_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*absent; give path=FOLDER"):
        Folder(path="absent")(root=tmp_path)
    with pytest.raises(DataError, match="holds no pictures"):
        Folder(path=str(tmp_path))()
    tree(tmp_path, "train/cat", "train/dog")
    with pytest.raises(DataError, match="has a train folder but no test folder"):
        Folder(path=str(tmp_path))()
    tree(tmp_path, "test/cat", "test/doge")
    with pytest.raises(DataError, match=r"labels don't match: .*'doge'.* did you mean 'dog'"):
        Folder(path=str(tmp_path))()
    put(tmp_path / "train" / "loose.png", hostile.encoded(hostile.noise()))
    with pytest.raises(DataError, match=r"loose\.png lies in no class folder"):
        Folder(path=str(tmp_path))()


def test_folder_refuses_a_class_with_one_picture(tmp_path: Path) -> None:
    tree(tmp_path, "cat", "dog")
    put(tmp_path / "rare" / "one.png", hostile.encoded(hostile.noise()))
    with pytest.raises(DataError, match=r"at least two train pictures; too few in: rare \(1\)"):
        Folder(path=str(tmp_path))()


def test_links_do_not_lead_out_of_a_data_set(tmp_path: Path) -> None:
    tree(tmp_path / "outside", "cat", "dog", ".")
    root = tree(tmp_path / "set", "test/cat", "test/dog")
    (root / "train").symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="the path 'train' leads outside"):
        Folder(path=str(root))()
    _metadata(tmp_path / "outside", [{"file_name": "0.png", "label": 0}], "csv")
    with pytest.raises(DataError, match=r"'train/metadata\.csv' leads outside"):
        HfFolder(path=str(root))()


@pytest.mark.data
def test_folder_reads_real_photos() -> None:
    data = Folder(path="grocery", side=16, train_limit=60, test_limit=20)(root=real("grocery"))
    assert data.classes == ("Fruit", "Packages", "Vegetables")
    assert data.train.pictures.shape == (60, 3, 16, 16)
    assert data.train.pictures.float().std() > 20


# Hugging Face's imagefolder.


def _metadata(root: Path, rows: list[dict], kind: str) -> None:
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = "\n".join([",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]) + "\n"
    put(root / f"metadata.{kind}", text.encode())


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_hf_metadata_with_splits(tmp_path: Path, kind: str) -> None:
    tree(tmp_path, "train", "validation")
    for split in ("train", "validation"):
        _metadata(tmp_path / split, [{"file_name": f"{i}.png", "label": [10, 9][i % 2]} for i in range(5)], kind)
    data = HfFolder(path=str(tmp_path))()
    assert data.classes == ("9", "10")
    assert data.train.labels.tolist() == [1, 0, 1, 0, 1]
    assert data.test.ids[0] == "validation/0.png"
    before = HfFolder(path=str(tmp_path)).fingerprint()
    _metadata(tmp_path / "train", [{"file_name": f"{i}.png", "label": [10, 9][i // 3]} for i in range(5)], kind)
    assert HfFolder(path=str(tmp_path)).fingerprint() != before


def test_hf_metadata_at_the_root_splits_by_id(tmp_path: Path) -> None:
    tree(tmp_path, "pictures", count=12)
    _metadata(tmp_path, [{"file_name": f"pictures/{i}.png", "mood": "ab"[i % 2]} for i in range(12)], "csv")
    data = HfFolder(path=str(tmp_path), label_column="mood", test_fraction=0.5)()
    assert (len(data.train), len(data.test), data.classes) == (6, 6, ("a", "b"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file_name": "../secret.png", "label": 0}], r"the path '\.\./secret\.png' leads outside"),
        ([{"file_name": "/etc/hostname", "label": 0}], "leads outside"),
        ([{"file_name": "absent.png", "label": 0}], r"line 2 names 'absent\.png', but .* is absent"),
        ([{"file_name": "0.png", "lable": 0}], "line 2 has no 'label'; its columns are file_name, lable"),
        ([{"file_name": "0.png", "label": ""}], "has no 'label'"),
        ([{"file_name": "0.png", "label": 0}], "4 pictures without a label, for example '1.png'"),
    ],
)
def test_hf_metadata_refusals(tmp_path: Path, rows: list[dict], message: str) -> None:
    root = tree(tmp_path / "set", ".")
    put(tmp_path / "secret.png", hostile.encoded(hostile.noise()))
    _metadata(root, rows, "csv")
    with pytest.raises(DataError, match=message):
        HfFolder(path=str(root))()


def test_hf_refuses_broken_tables_and_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither metadata\.csv nor metadata\.jsonl nor a Parquet file"):
        HfFolder(path=str(tmp_path))()
    put(tmp_path / "metadata.jsonl", b'{"file_name": "0.png"\n')
    with pytest.raises(DataError, match=r"metadata\.jsonl cannot be read as jsonl"):
        HfFolder(path=str(tmp_path))()
    put(tmp_path / "metadata.jsonl", b"[1]\n")
    with pytest.raises(DataError, match="line 1 is no JSON object"):
        HfFolder(path=str(tmp_path))()
    (tmp_path / "metadata.jsonl").unlink()
    put(tmp_path / "metadata.csv", b"file_name,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"metadata\.csv cannot be read as csv"):
        HfFolder(path=str(tmp_path))()


def _parquet(
    path: Path, labels: list[int], *, names: list[str] | None = None, column: str = "image", seed: int = 0
) -> None:
    images = [{"bytes": hostile.encoded(hostile.noise(seed=seed + i)), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({column: images, "label": labels})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_hf_parquet(tmp_path: Path) -> None:
    for shard in range(2):
        name = f"train-0000{shard}-of-00002.parquet"
        _parquet(tmp_path / "data" / name, [0, 1, 1], names=["cat", "dog"], seed=10 * shard)
    _parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 0], names=["cat", "dog"], seed=50)
    data = HfFolder(path=str(tmp_path))()
    assert data.classes == ("cat", "dog")
    assert data.train.ids == tuple(f"train/{i:06d}" for i in range(6))
    assert data.test.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(data.train.pictures[4].numpy().transpose(1, 2, 0), hostile.noise(seed=11))
    before = HfFolder(path=str(tmp_path)).fingerprint()
    _parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [0, 1], names=["cat", "dog"], seed=50)
    assert HfFolder(path=str(tmp_path)).fingerprint() != before


def test_hf_parquet_refusals(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    _parquet(path, [0, 1, -1], names=["cat", "dog"])
    with pytest.raises(DataError, match=r"labels don't match: train/000002 .* -1, but the file names 2 classes"):
        HfFolder(path=str(tmp_path))()
    _parquet(path, [0, 1], column="img")
    with pytest.raises(DataError, match="has no column 'image'; it has img, label"):
        HfFolder(path=str(tmp_path))()
    put(path, b"PAR1 no, not at all")
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as Parquet"):
        HfFolder(path=str(tmp_path))()
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "../../x.png"}], "label": [0]}), path)
    with pytest.raises(DataError, match="leads outside"):
        HfFolder(path=str(tmp_path))()
    pq.write_table(pa.table({"image": [7], "label": [0]}), path)
    with pytest.raises(DataError, match="neither bytes nor a path"):
        HfFolder(path=str(tmp_path))()


# ImageNet's subset.


def test_imagenet_takes_first_classes_and_a_share(tmp_path: Path) -> None:
    wnids = ["n03", "n01", "n02"]
    tree(tmp_path / "imagenet", *(f"{split}/{wnid}" for split in ("train", "val") for wnid in wnids), count=10)
    method = Imagenet100(classes=2, side=6)
    data = method(root=tmp_path)
    assert data.classes == ("n01", "n02")
    assert torch.bincount(data.train.labels).tolist() == [2, 2]
    assert len(data.test) == 20
    assert data.train.pictures.shape[1:] == (3, 6, 6)
    other = Imagenet100(classes=2, side=6, subset_seed=1)(root=tmp_path)
    assert other.train.ids != data.train.ids
    before = method.fingerprint(root=tmp_path)
    put(tmp_path / "imagenet" / "train" / "n03" / "0.png", b"of no account")
    assert method.fingerprint(root=tmp_path) == before
    with pytest.raises(DataError, match="has 3 class folders; 100 are needed"):
        Imagenet100()(root=tmp_path)
    with pytest.raises(ConfigError, match=r"classes must be 2\.\.1000; got 1"):
        Imagenet100(classes=1)
    (tmp_path / "imagenet" / "val").rename(tmp_path / "imagenet" / "validation")
    with pytest.raises(DataError, match="has no val folder"):
        method(root=tmp_path)
