import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.engines import LocalEngine


@pytest.fixture
def paths(tmp_path):
    made = []
    for i, rows in enumerate(([3, 1, 2], [], [9, 7])):
        made.append(tmp_path / f"it's {i}.parquet")
        pq.write_table(pa.table({"a": pa.array(rows, pa.int64())}), made[-1])
    return made


def test_rows_keep_the_order_of_the_files(paths):
    table = LocalEngine().scan(paths, ["a", "a * 2 AS b"])
    assert table.to_pydict() == {"a": [3, 1, 2, 9, 7], "b": [6, 2, 4, 18, 14]}


def test_only_rows_that_hold_come(paths):
    assert LocalEngine(threads=1, memory="100MB").scan(paths, ["a"], "a > 2").column("a").to_pylist() == [3, 9, 7]


def test_settings_reach_the_database(tmp_path):
    with LocalEngine(threads=1, memory="123MB", temp=tmp_path).connect() as connection:
        found = dict(
            connection.execute(
                "SELECT name, value FROM duckdb_settings() WHERE name IN ('threads', 'temp_directory', 'memory_limit')"
            ).fetchall()
        )
    assert found == {"threads": "1", "temp_directory": str(tmp_path), "memory_limit": "117.3 MiB"}


def test_a_key_that_a_file_was_written_without_is_minus_one_there(paths, tmp_path):
    pq.write_table(pa.table({"a": pa.array([5]), "k": pa.array([8])}), tmp_path / "later.parquet")
    for files, k in (([*paths, tmp_path / "later.parquet"], [-1, -1, -1, -1, -1, 8]), (paths, [-1] * 5)):
        table = LocalEngine().scan(files, ["a", "k"], keys=("k",))
        assert table.column("k").to_pylist() == k
        assert table.column("a").to_pylist() == [3, 1, 2, 9, 7, 5][: len(k)]
        assert len(LocalEngine().scan(files, ["a"], "k >= 0", keys=("k",))) == len(k) - 5
