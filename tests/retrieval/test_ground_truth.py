"""Ground truth from text files and from pickles, of which nothing is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from countermove.errors import DataError
from countermove.retrieval.data.ground_truth import read_pickled_truth, read_text_truth, read_truth

NAMES = ["all_souls_000013", "all_souls_000026", "oxford_002985", "oxford_000001", "radcliffe_000158"]
ROWS = {name: 2 * row for row, name in enumerate(NAMES)}


def put_text(folder: Path, **files: str) -> Path:
    content = {
        "query": "oxc1_all_souls_000013 136.5 34.1 648.5 955.7\n",
        "good": "all_souls_000013\nall_souls_000026\n",
        "ok": "oxford_002985\n\n",
        "junk": "oxford_000001\n",
        **files,
    }
    for which, text in content.items():
        (folder / f"all_souls_1_{which}.txt").write_text(text)
    return folder


def put_pickle(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def revisited(**answer: Any) -> dict[str, Any]:
    full = {"bbx": [1.0, 2.0, 30.5, 40.0], "easy": [0], "hard": [1, 2], "junk": [3], **answer}
    return {"imlist": NAMES[:4], "qimlist": [NAMES[4]], "gnd": [full]}


def listed(want: Any) -> tuple[list[int], list[int]]:
    return want.positive.tolist(), want.ignored.tolist()


def test_text_files_are_read(tmp_path: Path) -> None:
    truth = read_truth(put_text(tmp_path))
    (asked,) = truth.queries
    assert (asked.name, asked.picture, asked.box) == ("all_souls_1", NAMES[0], (136.5, 34.1, 648.5, 955.7))
    assert truth.indexed is None
    wanted = truth.wanted(ROWS)
    assert list(wanted) == [""]
    assert listed(wanted[""][0]) == ([0, 2, 4], [6])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_the_revisited_pickle_has_three_protocols(tmp_path: Path, protocol: int) -> None:
    truth = read_truth(put_pickle(tmp_path / "gnd.pkl", revisited(), protocol))
    assert truth.indexed == tuple(NAMES[:4])
    assert truth.queries[0].box == (1.0, 2.0, 30.5, 40.0)
    wanted = truth.wanted(ROWS)
    assert {name: listed(want[0]) for name, want in wanted.items()} == {
        "easy": ([0], [2, 4, 6]),
        "medium": ([0, 2, 4], [6]),
        "hard": ([2, 4], [0, 6]),
    }


def test_the_original_pickle_has_one_protocol_and_may_hold_arrays(tmp_path: Path) -> None:
    answer = {"bbx": np.array([1.0, 2.0, 3.0, 4.0]), "ok": np.array([0, 2]), "junk": [np.int64(1)]}
    content = {"imlist": NAMES, "qimlist": NAMES[:1], "gnd": [answer]}
    truth = read_pickled_truth(put_pickle(tmp_path / "gnd.pkl", content))
    assert listed(truth.wanted(ROWS)[""][0]) == ([0, 4], [2])
    assert truth.queries[0].box == (1.0, 2.0, 3.0, 4.0)


def test_names_that_python_2_wrote_are_read(tmp_path: Path) -> None:
    """Its str is another kind of text in a pickle; this file was put together by hand."""
    names = b"U\x06imlist(lU\x01aasU\x07qimlist(lU\x01aas"
    (tmp_path / "gnd.pkl").write_bytes(b"(d" + names + b"U\x03gnd(l(dU\x02ok(lI0\nasU\x04junk(lsas.")
    truth = read_pickled_truth(tmp_path / "gnd.pkl")
    assert (truth.indexed, truth.queries[0].lists["ok"], truth.queries[0].box) == (("a",), ("a",), None)


class Evil:
    def __init__(self, call: Any, *given: Any) -> None:
        self.call, self.given = call, given

    def __reduce__(self) -> Any:
        return self.call, self.given


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "run"
    bad = revisited(easy=[Evil(os.mkdir, str(mark))])
    path = put_pickle(tmp_path / "gnd.pkl", bad, protocol)
    with pytest.raises(DataError, match=r"asks for \w+\.mkdir .*Nothing was run"):
        read_truth(path)
    assert not mark.exists()
    with path.open("rb") as file:  # otherwise this could not have failed
        pickle.load(file)
    assert mark.exists()


@pytest.mark.parametrize("call", [eval, getattr, np.load, np.frombuffer])
def test_any_name_is_refused(tmp_path: Path, call: Any) -> None:
    with pytest.raises(DataError, match="Nothing was run"):
        read_pickled_truth(put_pickle(tmp_path / "gnd.pkl", {"gnd": Evil(call, "1")}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "no ground truth"),
        ({"imlist": [], "qimlist": []}, "no ground truth"),
        ({**revisited(), "imlist": [1]}, "list of names"),
        ({**revisited(), "qimlist": []}, "one entry"),
        (revisited(easy=[4]), "outside"),
        (revisited(easy=[-1]), "outside"),
        (revisited(easy=[0.0]), "numbers"),
        (revisited(easy=[1]), "both"),
        (revisited(bbx=[1, 2, 3]), "four numbers"),
        (revisited(bbx=[5, 2, 3, 9]), "empty"),
        (revisited(bbx=[1, 2, float("nan"), 9]), "empty"),
        ({**revisited(), "gnd": [{"easy": []}]}, "should hold"),
    ],
)
def test_pickles_of_something_else_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pickled_truth(put_pickle(tmp_path / "gnd.pkl", content))


@pytest.mark.parametrize("cut", [0, 1, 10, -1])
def test_a_broken_pickle_is_refused(tmp_path: Path, cut: int) -> None:
    path = put_pickle(tmp_path / "gnd.pkl", revisited())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"gnd\.pkl"):
        read_pickled_truth(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"query": "oxc1_all_souls_000013 1 2 3\n"}, "one line"),
        ({"query": "oxc1_all_souls_000013 1 2 3 x\n"}, "four numbers"),
        ({"query": "a 1 2 3 4\nb 1 2 3 4\n"}, "one line"),
        ({"junk": "oxford_002985\n"}, "both ok and junk"),
    ],
)
def test_bad_text_files_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_text_truth(put_text(tmp_path, **files))


def test_absent_lists_pictures_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"_query\.txt"):
        read_text_truth(tmp_path)
    truth = read_text_truth(put_text(tmp_path))
    with pytest.raises(DataError, match="oxford_000001"):
        truth.wanted({name: row for name, row in ROWS.items() if name != "oxford_000001"})
    (tmp_path / "all_souls_1_ok.txt").unlink()
    with pytest.raises(DataError, match=r"all_souls_1_ok\.txt"):
        read_text_truth(tmp_path)
