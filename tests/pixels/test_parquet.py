"""What a Parquet file unpacks to is known before it is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from countermove.errors import DataError
from countermove.pixels import parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def test_values_of_a_fixed_length_count_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"user": pa.array([b"a" * 1000] * 2000, pa.binary(1000))}), file)
    assert file.stat().st_size < 100_000
    with parquet.opened(file, "user") as whole:
        assert whole.metadata.num_rows == 2000
    monkeypatch.setattr(parquet, "MAX_ROW_GROUP", 1_000_000)
    with pytest.raises(DataError, match=r"row group 0 unpacks to 2,\d{3},\d{3} bytes"), parquet.opened(file, "user"):
        pass
