"""Every parser of ours, fed with damaged and made-up input, answers or raises an error of ours; nothing else."""

from __future__ import annotations

import io
import json
import pickle
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import hostile

from countermove.errors import CountermoveError
from countermove.game import spelling
from countermove.game.config import apply_sets, load_config, make_config
from countermove.game.results import load_results, results_csv
from countermove.game.run import play, resolve
from countermove.game.store import RunFolder
from countermove.learning.checkpoint import Checkpoint
from countermove.nets.weights import read_state
from countermove.pixels.files import read_npy, read_npz, safe_child
from countermove.pixels.published import published
from countermove.profiles.data.musk import _read as read_musk
from countermove.profiles.data.reading import read_rows
from countermove.profiles.sound import read_wav
from countermove.recommender.data.pickled import read_pickled_npy
from countermove.recommender.data.tables import read_table
from countermove.report.inert import why_not_inert
from countermove.retrieval.data.folder import read_table as read_listed
from countermove.retrieval.data.ground_truth import read_pickled_truth, read_text_truth
from countermove.retrieval.search_stored import read_search
from countermove.unlearnable.data.hf import HfFolder, _read_table

steady = settings(derandomize=True, database=None, deadline=None, max_examples=120)
"""The same inputs in every run: what fails here fails everywhere."""


def answers(read: Callable[[], Any]) -> None:
    """Read, and let errors of ours pass."""
    try:
        read()
        said = "an answer"
    except CountermoveError as error:
        said = str(error)
    assert said


def packed(write: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _wav(buffer: io.BytesIO) -> None:
    with wave.open(buffer, "wb") as file:
        file.setparams((2, 3, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(48)))


def _parquet(buffer: io.BytesIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"user": ["a", "b", None], "time": [1, 2, 3]}), buffer)


def _manifest(path: Path) -> None:
    with published(path.parent) as folder:
        folder.begin({"arena": "unlearnable", "method": "none", "seed": 0})


AUDIT = b"""name = 'a'\ndata = 'purse(size=5)'\nmoves = ['loaded(bias=8/255)', {name = 'shaved', angle = 1e3}]
countermoves = ['shake+scale']\nmodels = ['thumb']\nseeds = '0-2'\n[training]\nrounds = 3\n[engine]\nworkers = 0x2
[sizes.mini]\nseeds = 1\n[study]\ntitle = 't'\npaper = 'p'\nnames = {x = 'shake'}\n"""
TRUTH = {
    "imlist": ["a", "b"],
    "qimlist": ["a"],
    "gnd": [{"bbx": [0.0, 1.0, 2.0, 3.0], "easy": [0], "hard": [1], "junk": []}],
}
TENSORS = {"a": np.zeros((2, 2), np.float32), "b": np.arange(3)}
SEARCH = {"format": 1, "engine": "e", "pictures": "p", "seeing": {"longest": 4}, "held": "index-1"}
SEARCH |= {"data": None, "seed": 0, "side": 8, "ids": ["a"]}
LINE = {"id": "a", "source_sha256": "0", "out": "a.png", "out_sha256": "0", "budget": 0.1, "kept": True}

PARSERS: dict[str, tuple[str, Callable[[Path], Any], list[bytes]]] = {
    "audit": ("x.toml", load_config, [AUDIT]),
    "sound": ("x.wav", read_wav, [packed(_wav)]),
    "npy": ("x.npy", read_npy, [packed(lambda file: np.save(file, np.arange(6.0).reshape(2, 3)))]),
    "npz": ("x.npz", lambda path: read_npz(path, ["a"]), [packed(lambda file: np.savez_compressed(file, a=np.eye(3)))]),
    "pickled npy": ("x.npy", read_pickled_npy, [hostile.object_npy(pickle.dumps([1], p)) for p in (0, 2, 4)]),
    "pickled truth": ("x.pkl", read_pickled_truth, [pickle.dumps(TRUTH, p) for p in (0, 2, 4)]),
    "text truth": ("a_1_query.txt", lambda path: read_text_truth(path.parent), [b"oxc1_a 1 2 3 4\n"]),
    "csv": ("x.csv", lambda path: _read_columns(path), [b'user,time\na,1\n"b",2.5\n']),
    "parquet": ("x.parquet", lambda path: _read_columns(path), [packed(_parquet)]),
    "rows": ("x.tsv", lambda path: read_rows(path, "user", delimiter="\t"), [b"user\ttime\na\t1\n"]),
    "listed": (
        "x.csv",
        lambda path: read_listed(path.parent, path),
        [b"picture,group,role,box\nx.csv,g,query,0 0 1 1\n"],
    ),
    "musk": ("x.data", read_musk, [b"m,s," + b"1," * 166 + b"0.\n"]),
    "metadata.csv": ("metadata.csv", lambda path: list(_read_table(path)), [b"file_name,label\na.png,1\n"]),
    "metadata.jsonl": (
        "metadata.jsonl",
        lambda path: HfFolder(path=str(path.parent))(),
        [b'{"file_name": "a.png", "label": 1}\n{"file_name": "metadata.jsonl", "label": "x"}\n'],
    ),
    "search": ("search.json", lambda path: read_search(path.parent), [json.dumps(SEARCH).encode()]),
    "manifest": ("manifest.jsonl", _manifest, [b'{"format": 1}\n' + json.dumps(LINE).encode() + b"\n"]),
    "safetensors": ("x.safetensors", read_state, [safetensors.numpy.save(TENSORS)]),
    "checkpoint": (
        "x.safetensors",
        lambda path: Checkpoint(path).load(),
        [safetensors.numpy.save(TENSORS, metadata={"facts": '{"epoch": 1}'})],
    ),
}


def _read_columns(path: Path) -> None:
    table = read_table(path, {"user": "user"}, optional=["time"])
    answers(lambda: table.ids("user"))
    answers(lambda: table.labels("user"))
    if "time" in table:
        answers(lambda: table.numbers("time"))


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Sound input with bytes changed, taken out, put in, said again or cut off; or no such thing."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 4))):
        at, kind = draw(st.integers(0, max(0, len(data) - 1))), draw(st.sampled_from("change in out cut again".split()))
        if kind == "change" and data:
            data[at] = draw(st.integers(0, 255))
        elif kind == "in":
            data[at:at] = draw(st.one_of(st.binary(max_size=8), st.sampled_from(PIECES)))
        elif kind == "out":
            del data[at : at + draw(st.integers(1, 20))]
        elif kind == "cut":
            del data[at:]
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


PIECES = [
    b"9" * 5000,
    b"1e999",
    b"nan",
    b"-1",
    b"\0",
    b"\xff",
    b"null",
    b"[[",
    b"{",
    b'"',
    b"'",
    b"\\ud800",
    b"../",
    b"\r",
    b"2**63",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", PARSERS)
def test_a_damaged_file_is_read_or_refused(name: str, folder: Path) -> None:
    file, read, whole = PARSERS[name]
    inside = folder / name.replace(" ", "-")
    inside.mkdir()
    refused = [0]

    @steady
    @given(damaged(whole))
    def check(data: bytes) -> None:
        (inside / file).write_bytes(data)
        try:
            read(inside / file)
        except CountermoveError:
            refused[0] += 1

    (inside / file).write_bytes(whole[0])
    answers(lambda: read(inside / file))
    check()
    assert refused[0] or name == "checkpoint", "damage that is never noticed is no damage"


OPCODES = [op.code.encode("latin1") for op in __import__("pickletools").opcodes]
NAMED = [b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n"]
NAMED += [
    b"c_codecs\nencode\n",
    b"cnumpy\nndarray\n",
    b"cos\nsystem\n",
    b"U\2u1",
    b"K\1",
    b"X\6\0\0\0latin1",
    b"h\0",
    b"q\0",
]


@settings(steady, max_examples=600)
@given(st.lists(st.one_of(st.sampled_from(OPCODES), st.sampled_from(NAMED), st.binary(max_size=4)), max_size=30))
def test_a_program_of_a_pickle_is_read_or_refused(folder: Path, program: list[bytes]) -> None:
    path = folder / "program.npy"
    path.write_bytes(hostile.object_npy(b"\x80\x04" + b"".join(program) + b"."))
    answers(lambda: read_pickled_npy(path))


spelled = st.text(alphabet="ab1.-+=,/()[]'\" \\eénatrue", max_size=40)


@settings(steady, max_examples=500)
@given(st.one_of(spelled, st.text(max_size=20)))
def test_a_spelling_is_read_or_refused_and_is_read_back(text: str) -> None:
    answers(lambda: spelling.parse(text))
    answers(lambda: spelling.spell_value(spelling.parse_value(text)))


@pytest.mark.parametrize("text", ["9" * 5000, "1/" + "9" * 5000, "9" * 5000 + "/7", "[" * 5000 + "]" * 5000, "1/0"])
def test_an_outsized_spelling_is_read_or_refused(text: str) -> None:
    answers(lambda: spelling.parse(f"a(b={text})"))
    answers(lambda: apply_sets({}, [f"seeds={text}"]))
    answers(lambda: apply_sets({}, [f"training.x={text}"]))


@steady
@given(st.text(alphabet="ab.=[]{}\"'0-9,\n", max_size=30), st.text(alphabet="abdeimorstvw.", max_size=12))
def test_an_override_is_read_or_refused(value: str, key: str) -> None:
    answers(lambda: make_config(apply_sets({"data": "a", "moves": "a", "engine": {}}, [f"{key}={value}"])))


@settings(steady, max_examples=300)
@given(st.text(max_size=30))
def test_a_path_of_somebody_is_followed_or_refused(name: str) -> None:
    answers(lambda: safe_child("/nowhere", name).is_file())


@settings(steady, max_examples=300)
@given(st.text(alphabet="<>/!-=\"' abgimscrpt&;[]?x0", max_size=60))
def test_any_markup_is_judged(text: str) -> None:
    fault = why_not_inert(text)
    assert fault or "<script" not in text


@pytest.fixture(scope="module")
def run(folder: Path) -> RunFolder:
    audit = {"arena": "coin", "data": "purse(size=5)", "moves": "shaved", "countermoves": "none", "models": "thumb"}
    return play(resolve(make_config({**audit, "engine": {"threads": 1}})), folder / "run").run


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@settings(steady, max_examples=80)
@given(st.data())
def test_a_cell_of_another_form_is_read_or_refused(run: RunFolder, data: st.DataObject) -> None:
    path = sorted(run.cells.glob("*.json"))[data.draw(st.integers(0, 4))]
    whole = path.read_text(encoding="utf-8")
    record = json.loads(whole)
    at = record
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [value for value in at.values() if isinstance(value, dict) and value]
        at = data.draw(st.sampled_from(inner)) if inner else at
    name = data.draw(st.sampled_from(sorted(at)))
    if data.draw(st.booleans()):
        at[name] = data.draw(json_values)
    else:
        del at[name]
    try:
        path.write_text(json.dumps(record), encoding="utf-8")
        answers(lambda: results_csv(load_results(run)))
    finally:
        path.write_text(whole, encoding="utf-8")


@settings(steady, max_examples=40)
@given(json_values)
def test_a_plan_of_another_form_is_read_or_refused(run: RunFolder, plan: Any) -> None:
    path = run.path / "plan.json"
    whole = path.read_text(encoding="utf-8")
    try:
        for content in (plan, {"cells": plan}, {"cells": [{"key": "a", "setting": plan}]}):
            path.write_text(json.dumps(content), encoding="utf-8")
            answers(lambda: load_results(run))
    finally:
        path.write_text(whole, encoding="utf-8")
