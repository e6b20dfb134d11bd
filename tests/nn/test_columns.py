import numpy as np
import pytest
import torch

from feedwell.core.errors import CorruptArtifact, DataError
from feedwell.nn import columns as columns_module
from feedwell.nn.columns import Columns, Lists, Shared, gathered, write


def sample():
    lists = [[1, 2, 3, 4], [], [5], [6, 7]]
    indptr = torch.tensor(np.cumsum([0, *map(len, lists)]))
    values = torch.tensor([v for each in lists for v in each])
    of_N = torch.tensor([0, 0, 1, 2, 3, 3])
    columns = Columns(
        {
            "x": torch.arange(12, dtype=torch.float32).view(6, 2),
            "words": Lists(indptr_R=indptr, values=values, length=3, of_N=of_N),
            "age": Shared(values_R=torch.tensor([10.0, 20.0, 30.0, 40.0]), of_N=of_N),
        }
    )
    return columns, lists, of_N.tolist()


def padded(values, length=3):
    kept = values[-length:]
    return [*kept, *[-1] * (length - len(kept))]


def test_batches_equal_the_rows_read_one_by_one():
    columns, lists, of = sample()
    rows = [5, 0, 2, 2, 3]
    batch = columns.take(torch.tensor(rows))
    assert batch["x"].tolist() == [[2.0 * r, 2.0 * r + 1] for r in rows]
    assert batch["words"].tolist() == [padded(lists[of[r]]) for r in rows]
    assert batch["age"].tolist() == [10.0 * (of[r] + 1) for r in rows]
    assert {
        name: len(value) for name, value in columns.take(torch.zeros(0, dtype=torch.int64)).items()
    } == dict.fromkeys(columns, 0)


def test_lists_without_a_value_are_padding():
    lists = Lists(indptr_R=torch.zeros(4, dtype=torch.int64), values=torch.zeros(0, dtype=torch.int64), length=2)
    assert lists.take(torch.tensor([0, 2])).tolist() == [[-1, -1]] * 2


def test_some_rows_only():
    columns, _, _ = sample()
    for chosen in (np.array([4, 1]), np.array([False, True, False, False, True, False])):
        part = columns.rows(chosen)
        rows = chosen if chosen.dtype != bool else np.flatnonzero(chosen)
        assert part.n_rows == 2
        for name, value in part.take(torch.arange(2)).items():
            assert torch.equal(value, columns.take(torch.from_numpy(rows))[name]), name


def test_written_columns_are_mapped_and_equal(tmp_path):
    columns, _, _ = sample()
    write(columns.items(), tmp_path / "columns")
    again = Columns.open(tmp_path / "columns")
    rows = torch.tensor([3, 5, 0])
    for name, value in columns.take(rows).items():
        assert torch.equal(again.take(rows)[name], value), name
    before = {path.name: path.read_bytes() for path in (tmp_path / "columns").iterdir()}
    again["x"][0] = 99.0
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "columns").iterdir()}


def test_many_rows_are_mapped_from_files_that_have_no_name(tmp_path, monkeypatch):
    columns, _, _ = sample()
    few = gathered(columns.items(), 6, tmp_path)
    assert few["x"] is columns["x"]
    monkeypatch.setattr(columns_module, "MAPPED_ROWS", 6)
    assert gathered(columns.items(), 6, None)["x"] is columns["x"]
    many = gathered(columns.items(), 6, tmp_path / "new")
    assert many["x"] is not columns["x"]
    assert list((tmp_path / "new").iterdir()) == []
    part, chosen = many.rows(np.array([5, 0, 2])), columns.rows(np.array([5, 0, 2]))
    for name, value in chosen.take(torch.arange(3)).items():
        assert torch.equal(part.take(torch.arange(3))[name], value), name


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(CorruptArtifact, match="write them again"):
        Columns.open(tmp_path)
    with pytest.raises(DataError, match="of equal length"):
        Columns({"a": torch.zeros(3), "b": torch.zeros(4)})
    with pytest.raises(DataError, match="one or more"):
        Columns({})
