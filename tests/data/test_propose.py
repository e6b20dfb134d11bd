"""What is proposed for data that nobody described: the roles, the reasons, and that it works unedited."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

import feedwell.workspace as workspace
from feedwell.core.errors import DataError
from feedwell.data.profile import profile_folder
from feedwell.data.propose import propose
from feedwell.data.words import undone_type
from feedwell.pipeline.project_folder import load_project

REAL = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).parents[3] / "shared" / "data"))
START = 1_700_000_000


def visits(users: int = 80, items: int = 60, days: int = 20, seed: int = 0) -> list[dict[str, Any]]:
    """Impressions, likes of one's taste, some taken back, a few reports."""
    rng, rows = np.random.default_rng(seed), []
    for user in range(users):
        for day in rng.choice(days, 6, replace=False):
            at = START + int(day) * 86_400 + int(rng.integers(40_000))
            for step, item in enumerate(rng.choice(items, 5, replace=False).tolist()):
                when = at + step * 20
                row = {"who": f"p{user}", "what": f"x{item}", "did": "impression", "at": when, "place": step}
                rows.append(row)
                if rng.random() < (0.6 if item % 4 == user % 4 else 0.05):
                    rows.append(row | {"did": "like", "at": when + 9})
                    if rng.random() < 0.2:
                        rows.append(row | {"did": "unlike", "at": when + 300})
                elif rng.random() < 0.05:
                    rows.append(row | {"did": "report", "at": when + 4})
    return sorted(rows, key=lambda row: row["at"])


def catalog(items: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "code": f"x{i}",
            "headline": f"the story of {i} and more",
            "section": f"s{i % 4}",
            "writer": f"w{i % 17}",
            "published": "2023-01-02T03:04:05Z",
            "cost": i + 0.5,
        }
        for i in range(items)
    ]


def write(path: Path, rows: list[dict[str, Any]], rename: dict[str, str] | None = None) -> Path:
    rows = [{(rename or {}).get(k, k): v for k, v in row.items()} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def proposed(source: Path, project: Path, **given: str) -> dict[str, Any]:
    """The proposal as read back; it has passed every check of the project file."""
    project.mkdir(exist_ok=True)
    (project / "feedwell.toml").write_text(propose(source, project, "test", given).text, encoding="utf-8")
    load_project(project)
    return tomllib.loads((project / "feedwell.toml").read_text(encoding="utf-8"))


def words(project: Path) -> str:
    """The proposal's text, its comments on one line each."""
    return " ".join((project / "feedwell.toml").read_text(encoding="utf-8").replace("\n# ", " ").split())


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_columns_types_and_catalog_are_found_under_names_of_their_own(tmp_path: Path, ending: str) -> None:
    names = {"who": "reader_id", "what": "articleId", "did": "action", "at": "occurred_at", "place": "position"}
    write(tmp_path / "in" / f"log.{ending}", visits(), names)
    write(tmp_path / "in" / "stories.csv", catalog())
    found = proposed(tmp_path / "in", tmp_path / "project")
    columns = {"user": "reader_id", "item": "articleId", "type": "action", "ts": "occurred_at", "slot": "position"}
    assert found["data"]["columns"] == columns
    assert found["data"]["exposure"] == ["impression"]
    assert found["data"]["ts_unit"] == "s"
    assert found["event"]["like"]["undone_by"] == "unlike"
    assert set(found["objective"]) == {"like", "report"}
    assert found["objective"]["report"]["direction"] == "down"
    item = found["entity"]["item"]
    assert item["id"] == "code"
    assert item["text"] == ["headline"]
    assert item["created_at"] == "published"
    assert item["columns"]["cost"] == "float"
    assert found["entity"]["section"] == {"from": "item.section"}
    assert found["filter"]["seen"]["events"] == ["report"]  # likes are repeated in this log


def test_people_are_told_from_items_by_their_bursts_and_times_by_their_size(tmp_path: Path) -> None:
    """A file without a header and without a name: numbers alone."""
    rng = np.random.default_rng(0)
    lines = []
    for user in range(60):
        start = START + int(rng.integers(10**7))
        lines += [
            f"{item + 500}\t{user}\t{int(rng.integers(1, 6))}\t{start + 30 * n}"
            for n, item in enumerate(rng.choice(90, 25, replace=False))
        ]
    path = tmp_path / "u.data"
    path.write_text("\n".join(lines) + "\n")
    found = proposed(path, tmp_path / "project", value="column3")
    columns = {"user": "column2", "item": "column1", "ts": "column4", "value": "column3"}
    assert found["data"]["columns"] == columns
    assert found["data"]["header"] == ["column1", "column2", "column3", "column4"]
    assert found["data"]["type"] == "interaction"
    assert found["split"]["by"] == "user"
    text = (tmp_path / "project" / "feedwell.toml").read_text()
    assert "people act in bursts: its next event comes after 30 s" in text
    assert "user: a guess" in text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"a": "x", "b": "y"}] * 9, "no table of events: expected a time and a column each for user and item, "),
        (
            [{"user": f"u{i % 5}", "note": "one two three", "n": f"k{i % 4}", "ts": START + i} for i in range(60)],
            r"which column is the item\?.*--column item=NAME.*\[data\] columns = \{ item = \"NAME\" \}",
        ),
        (
            [{"a": f"a{i % 20}", "b": f"b{i % 20}", "ts": START + i * 60} for i in range(400)],
            r"which column is the user\?.*--column user=NAME",
        ),
    ],
)
def test_what_cannot_be_told_says_which_key_to_fill_in(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        propose(write(tmp_path / "events.csv", rows), tmp_path, "test")


def test_events_that_are_empty_or_cannot_be_read_are_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("user,item,ts\n")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError) as told:
        propose(tmp_path, tmp_path, "test")
    assert "empty.csv has user, item, ts, and no rows; not read: cut.parquet: " in str(told.value)
    assert "of at least 3 different ids" in str(told.value)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("log.csv", "", "it is empty"),
        ("log.jsonl", "", "it is empty"),
        ("log.csv", "\n\n", "it is empty"),
        ("log.csv", "a,b\n" + "c,d\n" * 99 + "e,f\r\ng,h\n", "it is no csv, as where some lines end in"),
        ("log.csv", 'user,"the\nitem",ts\n' + "u,i,1700000000\n" * 99, "a name in the header has a line break"),
        ("log.csv", 'user,item,"ts\r\n"\r\n' + "u,i,1700000000\r\n" * 99, "a name in the header has a line break"),
        ("log.json", '[{"user": "u", "item": "i", "ts": 1700000000}]', "its first lines are no JSON objects"),
        ("log.jsonl", '{"user": "u", "it', "its first lines are no JSON objects"),
    ],
)
def test_why_a_file_cannot_be_read_is_told_of_the_file_and_of_its_folder(
    tmp_path: Path, name: str, content: str, why: str
) -> None:
    (tmp_path / name).write_text(content, newline="")
    for source in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=rf"looking at .*{why}") as told:
            propose(source, tmp_path, "test")
        assert name in str(told.value)


@pytest.mark.parametrize(
    ("name", "header", "why"),
    [
        ("names.json", "", "one JSON object of 12,000 keys, not rows"),
        ("few.json", "", "one JSON object of 60 keys, not rows"),
        ("wide.csv", "c{}", "12,000 columns, more than the 500 that are looked at"),
        ("wide.jsonl", "", "12,000 columns, more than the 500 that are looked at"),
    ],
)
def test_a_file_whose_names_are_data_is_not_used_and_the_rest_is(
    tmp_path: Path, name: str, header: str, why: str
) -> None:
    """A query over as many columns takes hours to plan."""
    folder, n = tmp_path / "in", 60 if name == "few.json" else 12_000
    path = write(folder / "log.csv", visits(users=20), {"who": "user", "what": "item"})
    row = json.dumps({str(i): [1, 2, 0] for i in range(n)}) + "\n"
    if header:
        row = ",".join(header.format(i) for i in range(n)) + "\n" + ",".join("1" for _ in range(n)) + "\n"
    (folder / name).write_text(row * (2 if name == "wide.jsonl" else 1))
    assert proposed(folder, tmp_path / "project")["data"]["events"] == str(path)
    assert f"not used: {name}: {why}" in words(tmp_path / "project")
    with pytest.raises(DataError, match=rf"looking at .*{name}: {why}; "):
        propose(folder / name, tmp_path, "test")


def test_a_day_with_one_event_of_many_keys_is_a_day(tmp_path: Path) -> None:
    more = {f"c{i}": 1 for i in range(60)}
    days = [[row | more for row in visits(users=20)], [visits(users=1)[0] | more]]
    for day, rows in enumerate(days):
        write(tmp_path / "in" / f"d{day}.jsonl", rows, {"who": "user", "what": "item"})
    [table], told = profile_folder(tmp_path / "in")
    assert not told
    assert table.n_rows == len(days[0]) + 1


def test_every_column_of_a_wide_table_is_told_as_it_would_be_alone(tmp_path: Path) -> None:
    cells: list[list[Any]] = [["1", "2", ""], ["x y", "x y", "z"], ["2024-01-01"] * 3, ["true", "", "no"]]
    rows = [{f"c{i}": cells[i % 4][n] for i in range(120)} for n in range(3)]
    [table], _ = profile_folder(write(tmp_path / "wide" / "t.csv", rows))
    narrow = [{f"c{i}": row[f"c{i}"] for i in range(4)} for row in rows]
    [alone], _ = profile_folder(write(tmp_path / "narrow" / "t.csv", narrow))
    assert table.n_rows == alone.n_rows == 3
    assert list(table.columns) == list(rows[0])
    for i, column in enumerate(table.columns.values()):
        assert replace(column, name="") == replace(alone.columns[f"c{i % 4}"], name="")
    assert alone.columns["c1"].values == (("x y", 2), ("z", 1))


@pytest.mark.parametrize(("iso", "part"), [(False, False), (True, True)])
def test_events_without_a_header_are_refused_and_no_row_is_taken_for_one(tmp_path: Path, iso: bool, part: bool) -> None:
    rows = visits(users=20)
    for row in rows if iso else []:
        row["at"] = datetime.fromtimestamp(row["at"], UTC).isoformat()
    path = write(tmp_path / "part2.csv", rows, {"who": "user", "what": "item"})
    found = proposed(path, tmp_path / "project")
    assert "header" not in found["data"]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[1:]))
    if part:
        (tmp_path / "part1.csv").write_text("".join([lines[0], *lines[1:] * 2]))
    with pytest.raises(DataError, match=r"no header.*\[data\] header = \[") as told:
        propose(tmp_path if part else path, tmp_path, "test")
    assert str(path) in str(told.value)
    assert str(rows[0]["at"]) in str(told.value)


def test_a_catalog_without_a_header_is_left_out_and_told(tmp_path: Path) -> None:
    log = write(tmp_path / "in" / "log.csv", visits(users=20), {"who": "user", "what": "code"})
    with log.open("a", newline="") as file:
        file.write("p1,code,like,1700000000,0\r\n")  # an id may be called as the column is
    path = write(tmp_path / "in" / "stories.csv", catalog())
    assert proposed(log, tmp_path / "project", item="code")["entity"]["item"]["id"] == "code"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    assert "item" not in proposed(log, tmp_path / "project", item="code").get("entity", {})
    text = (tmp_path / "project" / "feedwell.toml").read_text()
    assert "# not used: stories.csv: its first line seems to be a row and no header: 'x0' is an item of the" in text


@pytest.mark.parametrize(("place", "n_files"), [("project [1]/in", 1), ("in [1]", 2), ("in [1]", 4)])
def test_names_with_the_marks_of_patterns_are_read_as_they_are(tmp_path: Path, place: str, n_files: int) -> None:
    rows = visits(users=20)
    for i in range(n_files):
        write(tmp_path / place / f"ev [{i}].csv", rows[i::n_files], {"who": "user", "what": "item"})
    write(tmp_path / "elsewhere" / "ev 0.csv", catalog())
    source = tmp_path / place / ("ev [0].csv" if n_files == 1 else "")
    found = proposed(source, tmp_path / "project [1]")
    assert isinstance(found["data"]["events"], str) == (n_files != 2)
    with workspace.open(tmp_path / "project [1]") as opened:
        assert opened.ingest().n_rows == len(rows)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_gzip_file_that_is_not_whole_is_named(tmp_path: Path, ending: str) -> None:
    plain = write(tmp_path / f"log.{ending}", visits(users=20), {"who": "user", "what": "item"})
    whole = gzip.compress(plain.read_bytes())
    path = tmp_path / f"log.{ending}.gz"
    cut = whole[: len(whole) // 2]
    for content, told in [(whole[:20], "cut off"), (cut, "cut off"), (plain.read_bytes(), "no gzip file")]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"log\.{ending}\.gz .*{told}.*; "):
            propose(path, tmp_path, "test")
    path.write_bytes(cut)
    propose(tmp_path, tmp_path / "project", "test")
    path.write_bytes(whole)
    assert proposed(path, tmp_path / "project")["data"]["events"] == str(path)


def test_a_file_that_is_named_is_alone_and_what_lies_beside_it_may_be_its_catalog(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(folder / "stories.csv", catalog())
    names = {"who": "user", "what": "item"}
    path = write(folder / "train.csv", visits(users=20), names)
    write(folder / "test.csv", visits(users=20, seed=1), names)
    (folder / "later.csv").write_text("user,item,did,at,place\n" + "a,b,c,d,e\n" * 60)
    project = tmp_path / "project"
    found = proposed(path, project)
    assert found["data"]["events"] == str(path)
    assert found["entity"]["item"]["id"] == "code"
    text = (project / "feedwell.toml").read_text()
    assert text.count("files of its form") == 1
    assert "# 2 more files of its form lie beside train.csv and are left out: name the folder to take them all" in text
    (folder / "later.csv").unlink()
    assert [Path(p).name for p in proposed(folder, project)["data"]["events"]] == ["test.csv", "train.csv"]
    assert "of its form" not in (project / "feedwell.toml").read_text()
    lone = write(folder / "lone.csv", [{"a": "x", "b": "y"}] * 9)
    with pytest.raises(DataError) as told:
        propose(lone, tmp_path, "test")
    assert "(lone.csv has a, b)" in str(told.value)
    assert "later.csv" not in str(told.value)


def test_short_titles_are_text_and_sets_of_labels_lists(tmp_path: Path) -> None:
    labels = ["red", "blue", "silk", "warm", "wool", "long"]
    rows = []
    for i in range(60):
        three = [labels[i % 6], labels[(i // 6 + 1 + i) % 6], labels[(i // 2) % 6]]
        genres = sorted({labels[k] for k in range(6) if (i + 1) >> k & 1})
        rows.append(
            {"item": f"x{i}", "title": " ".join(three), "label_line": " ".join(three), "genres": " ".join(genres)}
        )
    write(tmp_path / "in" / "log.csv", visits(users=20), {"who": "user", "what": "item"})
    write(tmp_path / "in" / "things.csv", rows)
    found = proposed(tmp_path / "in", tmp_path / "project")["entity"]["item"]
    assert found["columns"] == {"title": "string", "label_line": "string", "genres": "list"}
    assert found["text"] == ["title"]


def test_times_of_two_forms_are_said_to_be_so(tmp_path: Path) -> None:
    times = ["2024-01-01T00:00:00Z", "1700000000"]
    rows = [{"user": f"u{i % 5}", "item": f"i{i % 7}", "ts": times[i % 2]} for i in range(60)]
    with pytest.raises(DataError, match=r"'ts' has cells of more than one form: of 60, 30 are times .* 30 numbers"):
        propose(write(tmp_path / "events.csv", rows), tmp_path, "test")


def test_a_role_told_is_not_questioned_and_a_wrong_one_named(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", visits(), {"who": "a", "what": "b", "did": "c", "at": "d", "place": "e"})
    found = proposed(path, tmp_path / "project", user="b", item="a")
    assert found["data"]["columns"]["user"] == "b"
    with pytest.raises(DataError, match=r"--column user=z: log\.csv has no such column; it has a, b, c, d, e"):
        propose(path, tmp_path, "test", {"user": "z"})
    with pytest.raises(DataError, match="it is not there"):
        propose(tmp_path / "nowhere", tmp_path, "test")


def test_a_user_table_and_a_list_of_pairs_are_no_item_catalogs(tmp_path: Path) -> None:
    write(tmp_path / "in" / "log.csv", visits(), {"who": "user", "what": "item"})
    write(tmp_path / "in" / "people.csv", [{"id": f"p{i}", "age": 20 + i % 40, "town": f"t{i % 5}"} for i in range(80)])
    write(tmp_path / "in" / "pairs.csv", [{"user": f"p{i}", "item": f"x{i % 60}"} for i in range(80)])
    (tmp_path / "in" / "notes.md").write_text("# nothing\nto see\n")
    found = proposed(tmp_path / "in", tmp_path / "project")
    assert set(found["entity"]) == {"user"}
    assert found["entity"]["user"]["columns"] == {"age": "int", "town": "string"}
    assert found["feature"]["user_age"]["aggregate"] == "column"
    text = (tmp_path / "project" / "feedwell.toml").read_text()
    assert "# not used: pairs.csv: it names users and items" in text


@pytest.mark.parametrize("ending", ["jsonl", "tsv"])
@pytest.mark.parametrize("other", [{"who": "user", "what": "item"}, {"who": "nr", "what": "code", "at": "moment"}])
def test_the_events_in_another_format_are_left_aside_and_no_catalog(
    tmp_path: Path, ending: str, other: dict[str, str]
) -> None:
    folder, names = tmp_path / "in", {"who": "user", "what": "item"}
    path = write(folder / "log.csv", visits(users=30), names)
    write(folder / f"log_copy.{ending}", visits(users=30), other)
    write(folder / "people.csv", [{"id": f"p{i}", "age": 20 + i % 40} for i in range(30)])
    found = proposed(folder, tmp_path / "project")
    assert (found["data"]["events"], set(found["entity"])) == (str(path), {"user"})
    assert found["entity"]["user"]["path"] == str(folder / "people.csv")
    told = words(tmp_path / "project")
    assert f"not used: log_copy.{ending}: its rows are those of log.csv once more, so it is left aside" in told


@pytest.mark.parametrize("other", [{"who": "user", "what": "item"}, {"who": "nr", "what": "code", "at": "moment"}])
def test_more_events_in_another_format_are_said_to_be_left_aside(tmp_path: Path, other: dict[str, str]) -> None:
    """Half of them are in both files: no copy, and no catalog either."""
    folder, rows = tmp_path / "in", visits(users=40)
    write(folder / "log.csv", rows[: len(rows) * 3 // 4], {"who": "user", "what": "item"})
    write(folder / "more.jsonl", rows[len(rows) // 3 :], other)
    found = proposed(folder, tmp_path / "project")
    assert "entity" not in found
    assert Path(found["data"]["events"]).name == "log.csv"
    assert "not used: more.jsonl: its rows are events too, but not those of log.csv alone" in words(
        tmp_path / "project"
    )


@pytest.mark.parametrize(
    ("thing", "owner", "listed"), [("item", "owner", False), ("lot", "customer", False), ("lot", "a_bidder", True)]
)
def test_a_catalog_of_things_sold_once_each_stays_one_though_it_names_who_bought_them(
    tmp_path: Path, thing: str, owner: str, listed: bool
) -> None:
    """Its pairs of user and item are those of the events; but its key is the item's, and it says what they do not."""
    rng = np.random.default_rng(0)
    sales = [{"customer": f"c{rng.integers(90)}", "item": f"i{i}", "sold": START + 977 * i} for i in range(600)]
    path = write(tmp_path / "in" / "sales.csv", sales)
    lots = [
        {owner: row["customer"], thing: row["item"], "title": f"an old thing of {i % 70}", "price": i % 40 + 1}
        | ({"listed": row["sold"] - 9 - i} if listed else {})
        for i, row in enumerate(sales)
    ]
    write(tmp_path / "in" / "lots.csv", lots)
    copied = [{"what": row["item"], "who": row["customer"], "moment": row["sold"], "paid": 5} for row in sales]
    write(tmp_path / "in" / "sales.jsonl", copied)
    found = proposed(path, tmp_path / "project")
    assert "user" not in found["entity"]
    assert (Path(found["entity"]["item"]["path"]).name, found["entity"]["item"]["id"]) == ("lots.csv", thing)
    assert found["entity"]["item"]["columns"].keys() > {"title", "price"}
    assert "not used: sales.jsonl: its rows are those of sales.csv once more" in words(tmp_path / "project")


def ratings(users: int = 60, items: int = 90, each: int = 30, prefix: str = "") -> list[dict[str, Any]]:
    """Each user's items are rated at one sitting; some users and items come much more often than others."""
    rng, rows = np.random.default_rng(3), []
    liking = 1 / np.arange(1, items + 1)
    for user in range(users):
        n = each // 5 + int(rng.integers(2 * each))
        at = START + int(rng.integers(20 * 86_400))
        for item in rng.choice(items, n, replace=False, p=liking / liking.sum()).tolist():
            at += int(rng.integers(1, 120))
            row = {"viewer": f"{prefix}{user}", "movie": f"{prefix and 'm'}{item}", "stars": 1 + item % 5}
            rows.append(row | {"when": at})
    return sorted(rows, key=lambda row: row["when"])


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("", ["who", "film", "rate", "at"]),
        ("", ["nr", "code", "rate", "moment"]),
        ("p", ["nr", "code", "rate", "moment"]),
    ],
)
def test_events_that_share_no_pair_with_the_others_are_events(tmp_path: Path, prefix: str, others: list[str]) -> None:
    """Every second row under names of its own, whether or not ids are whole numbers that many a column has."""
    rows = ratings(prefix=prefix)
    write(tmp_path / "in" / "a.csv", rows[::2])
    write(tmp_path / "in" / "b.jsonl", rows[1::2], dict(zip(rows[0], others, strict=True)))
    found = proposed(tmp_path / "in", tmp_path / "project")
    assert "entity" not in found
    left = {"a.csv": "b.jsonl", "b.jsonl": "a.csv"}[Path(found["data"]["events"]).name]
    assert f"not used: {left}: its rows are events too" in words(tmp_path / "project")


def test_fewer_events_of_another_kind_are_events(tmp_path: Path) -> None:
    """They have no column of what the others tell, and are of a part of the users and items only."""
    write(tmp_path / "in" / "a.csv", ratings())
    bought = [row for row in ratings(each=22) if int(row["viewer"]) % 3 == 0]
    buys = [{"customer": row["viewer"], "product": row["movie"], "at": row["when"] + 9_999_999} for row in bought]
    write(tmp_path / "in" / "buys.jsonl", buys)
    assert "entity" not in proposed(tmp_path / "in", tmp_path / "project")
    assert "not used: buys.jsonl: its rows are events too" in words(tmp_path / "project")


def test_later_events_of_new_users_are_events(tmp_path: Path) -> None:
    rows = ratings()
    write(tmp_path / "in" / "a.csv", [row for row in rows if int(row["viewer"]) < 45])
    late = [{"who": row["viewer"], "film": row["movie"], "at": row["when"]} for row in rows if int(row["viewer"]) >= 45]
    write(tmp_path / "in" / "late.csv", late)
    assert "entity" not in proposed(tmp_path / "in", tmp_path / "project")
    assert "not used: late.csv: its rows are events too" in words(tmp_path / "project")


@pytest.mark.parametrize("named", ["user", "item"])
def test_a_versioned_catalog_stays_one_whatever_small_numbers_it_has(tmp_path: Path, named: str) -> None:
    """Its other columns hold ids of users and of items: by chance, or one that each row's own id tells."""
    write(tmp_path / "in" / "a.csv", ratings())
    rng, rows = np.random.default_rng(0), []
    key, teller = ("movie", "author") if named == "item" else ("viewer", "page")
    for n in range(4):
        for i in range(90 if named == "item" else 60):
            row = {key: i, teller: (7 * i) % 60, "seen_n": int(rng.integers(60)), "cost": int(rng.integers(90))}
            row |= {"job": f"j{rng.integers(20)}", "n_show": int(rng.integers(90))}
            rows.append(row | {"since": START + n * 86_400 + 60 * i})
    write(tmp_path / "in" / "rows.csv", rows)
    found = proposed(tmp_path / "in", tmp_path / "project")["entity"][named]
    assert (found["id"], found["valid_from"]) == (key, "since")


def test_a_catalog_that_names_each_items_maker_among_the_users_stays_a_catalog(tmp_path: Path) -> None:
    """Small whole numbers: ids of users are in many of its columns, and its rows hold from a time on."""
    names = {"who": "user", "what": "item"}
    rows = [row | {"who": row["who"][1:], "what": row["what"][1:]} for row in visits(users=40, items=40)]
    write(tmp_path / "in" / "log.csv", rows, names)
    things = [
        {"item": i, "maker": (7 * i) % 40, "price": (11 * i + n) % 40, "since": START + n * 86_400}
        for n in range(3)
        for i in range(40)
    ]
    write(tmp_path / "in" / "things.csv", things)
    found = proposed(tmp_path / "in", tmp_path / "project")["entity"]["item"]
    assert (found["id"], found["valid_from"]) == ("item", "since")


def test_events_on_something_else_than_items_keep_their_object(tmp_path: Path) -> None:
    rows = [row | {"author_id": None} for row in visits()]
    follows = [row | {"did": "follow", "author_id": f"w{i % 17}", "what": None} for i, row in enumerate(rows[:200])]
    write(tmp_path / "in" / "log.jsonl", rows + follows, {"who": "user_id", "what": "item_id"})
    write(tmp_path / "in" / "items.jsonl", catalog(), {"writer": "author_id", "code": "item_id"})
    found = proposed(tmp_path / "in", tmp_path / "project")
    assert found["event"]["follow"]["object"] == "author"
    assert found["data"]["columns"]["author"] == "author_id"
    assert found["entity"]["author"] == {"from": "item.author_id"}
    assert "follow" not in found["objective"]


def test_column_kinds_are_told_by_all_cells(tmp_path: Path) -> None:
    cells = {
        "whole": ["1", "2", "3"],
        "part": ["1.5", "2", ""],
        "flag": ["true", "false", "true"],
        "day": ["2024-01-01", "2024-01-02T10:00:00Z", "2024-01-03"],
        "text": ["one two", "three", "4"],
        "tags": ['["a"]', '["b","c"]', "[]"],
    }
    rows = [{name: values[i] for name, values in cells.items()} for i in range(3)]
    [table], told = profile_folder(write(tmp_path / "t.csv", rows))
    assert not told
    kinds = {name: column.kind for name, column in table.columns.items()}
    assert kinds == {"whole": "int", "part": "float", "flag": "bool", "day": "time", "text": "text", "tags": "list"}
    part = table.columns["part"]
    assert (part.n, part.n_distinct, part.low, part.high, part.decimals) == (2, 2, 1.5, 2.0, 1)


def test_cells_that_do_not_fit_their_columns_type_are_told_before_they_are_quarantined(tmp_path: Path) -> None:
    items = [row | ({"cost": "ask us"} if row["code"] == "x7" else {}) for row in catalog()]
    write(tmp_path / "in" / "log.csv", visits(users=20), {"who": "user", "what": "item"})
    write(tmp_path / "in" / "stories.csv", items)
    assert proposed(tmp_path / "in", tmp_path / "project")["entity"]["item"]["columns"]["cost"] == "float"
    text = (tmp_path / "project" / "feedwell.toml").read_text()
    assert '# cost: 1 cell is no float: quarantine, row and all; "string" would let them in as text' in text
    with workspace.open(tmp_path / "project") as opened:
        assert opened.ingest().n_quarantined == 1


@pytest.mark.parametrize(
    ("name", "undone"),
    [
        ("unlike", "like"),
        ("unfollow", "follow"),
        ("remove_from_cart", "add to cart!"),
        ("order_cancelled", "order"),
        ("remove_saved", "save"),
        ("dislike", None),
        ("under", None),
        ("like", None),
    ],
)
def test_undoing_is_told_by_name(name: str, undone: str | None) -> None:
    assert undone_type(name, {"like", "follow", "add to cart!", "order", "dislike", "save", name}) == undone


def test_numbers_of_few_levels_are_said_to_be_a_rating_perhaps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [row | {"mark": int(rng.integers(1, 6)), "place": 7, "size": int(rng.integers(900))} for row in visits()]
    path = write(tmp_path / "log.csv", rows, {"who": "user", "what": "item"})
    assert "value" not in proposed(path, tmp_path / "project")["data"]["columns"]
    told = words(tmp_path / "project")
    assert "mark: numbers of 5 levels from 1 to 5: if they say how much somebody liked the item, tell it by" in told
    assert told.count("--column value=") == told.count("--column value=mark") == 1
    assert proposed(path, tmp_path / "project", value="mark")["data"]["columns"]["value"] == "mark"
    assert "--column value=" not in words(tmp_path / "project")


@pytest.mark.parametrize("text", [True, False])
def test_the_networks_that_are_hinted_at_pass_every_check_when_taken(tmp_path: Path, text: bool) -> None:
    write(tmp_path / "in" / "log.csv", visits(users=20), {"who": "user", "what": "item"})
    rows = [row if text else {k: v for k, v in row.items() if k != "headline"} for row in catalog()]
    write(tmp_path / "in" / "stories.csv", rows)
    proposed(tmp_path / "in", tmp_path / "project")
    file = tmp_path / "project" / "feedwell.toml"
    plain = file.read_text().replace('kind = "xgboost"\n', "")
    file.write_text(
        re.sub(r"^# (\[\w+\.two_tower\]|k = |events = |kind = |embed = )", r"\1", plain, flags=re.MULTILINE)
    )
    declared = load_project(tmp_path / "project")
    assert "two_tower" in declared.source
    assert tomllib.loads(file.read_text())["ranker"] == {"kind": "mmoe"} | ({"embed": "text"} if text else {})
    (tmp_path / "in" / "stories.csv").unlink()
    proposed(tmp_path / "in", tmp_path / "project")
    assert "two_tower" not in file.read_text()
    assert "mmoe" not in file.read_text()


def train(folder: Path, n_quarantined: int = 0) -> Any:
    with workspace.open(folder) as opened:
        report = opened.ingest()
        assert report.n_quarantined == n_quarantined
        return opened.train(max_requests=300)


@pytest.mark.parametrize("trained", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_proposal_works_unedited(tmp_path: Path, trained: bool) -> None:
    """Training is in the default tests by the tutorial's fast path, on a shop without catalogs."""
    names = {"who": "visitor", "what": "sku", "did": "event", "at": "timestamp"}
    write(tmp_path / "in" / "log.jsonl", visits(users=40), names)
    write(tmp_path / "in" / "stories.csv", catalog())
    proposed(tmp_path / "in", tmp_path / "project")
    if not trained:
        with workspace.open(tmp_path / "project") as opened:
            report = opened.ingest()
        assert not report.n_quarantined
        assert report.load.n_new > report.n_rows / 2
        return
    report = train(tmp_path / "project")
    assert report.release_id
    rows = {row.name: row.metrics["ndcg@10"].value for row in report.evaluation.rows}
    assert rows["pipeline"] > 0


RENAMED = {
    "ml-100k": {"user_id:token": "member", "item_id:token": "film", "rating:float": "stars", "timestamp:float": "when"},
    "retailrocket": {"user": "customer_no", "item": "sku", "event": "verb", "ts": "unix"},
}


def renamed(name: str, ending: str) -> Callable[[Path], Path]:
    """The set's events as another format with other names."""

    def make(folder: Path) -> Path:
        source = next((REAL / name).glob("*.inter" if name == "ml-100k" else "events.parquet"))
        reader = f"read_csv('{source}', delim = '\t', all_varchar = true)" if name == "ml-100k" else f"'{source}'"
        columns = ", ".join(f'"{theirs}" AS {new}' for theirs, new in RENAMED[name].items())
        form = "(FORMAT csv, HEADER)" if ending == "csv" else "(FORMAT json)"
        (folder / "in").mkdir()
        path = folder / "in" / f"events.{ending}"
        duckdb.sql(f"COPY (SELECT {columns} FROM {reader}) TO '{path}' {form}")
        return path.parent

    return make


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no data sets under FEEDWELL_DATA: {REAL}")
@pytest.mark.parametrize(("name", "ending"), [("ml-100k", "jsonl"), ("retailrocket", "csv")])
def test_real_sets_in_other_forms_propose_what_they_do_in_their_own(tmp_path: Path, name: str, ending: str) -> None:
    own = proposed(REAL / name, tmp_path / "own")
    other = proposed(renamed(name, ending)(tmp_path), tmp_path / "other")
    rename = RENAMED[name]
    assert other["data"]["columns"] == {ours: rename[theirs] for ours, theirs in own["data"]["columns"].items()}
    for section in ("event", "objective", "filter", "split", "evaluate"):
        assert other.get(section) == own.get(section), section


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason=f"no data sets under FEEDWELL_DATA: {REAL}")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["ml-100k", "retailrocket"])
@pytest.mark.parametrize("ending", ["own", "csv", "jsonl"])
def test_real_sets_are_trained_on_unedited(tmp_path: Path, name: str, ending: str) -> None:
    proposed(REAL / name if ending == "own" else renamed(name, ending)(tmp_path), tmp_path / "project")
    told = (tmp_path / "project" / "feedwell.toml").read_text()
    n_bad = 2 if "# release_year: 2 cells are no int" in told else 0
    assert (n_bad > 0) == ((name, ending) == ("ml-100k", "own"))
    evaluation = train(tmp_path / "project", n_bad).evaluation
    gain = next(d for d in evaluation.differences if (d.than, d.metric) == ("popularity as of then", "ndcg@10"))
    if name == "ml-100k":
        assert gain.difference.value > 0
    else:  # seven buyers make a third of the late carts, so that popularity is neither beaten nor shown to be better
        assert gain.difference.high > 0
    auc = {(h.objective, h.name): h.auc.low for h in evaluation.heads if h.over == "candidates"}
    assert all(low > 0.5 for (_, model), low in auc.items() if model == "xgboost"), auc


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_simulated_world_is_trained_on_unedited(tmp_path: Path) -> None:
    from feedwell.data.world import preset, simulate_history

    (tmp_path / "world").mkdir()
    simulate_history(preset("social"), 1).write(tmp_path / "world")
    found = proposed(tmp_path / "world", tmp_path / "project")
    assert found["data"]["exposure"] == ["view"]
    assert found["event"]["follow"] == {"object": "creator", "undone_by": "unfollow"}
    assert train(tmp_path / "project").release_id


def test_likes_beside_ratings_get_names_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for row in visits():
        rows.append(row | {"stars": None})
        if row["did"] == "impression" and rng.random() < 0.3:
            rows.append(row | {"did": "rate", "at": row["at"] + 6, "stars": int(rng.integers(1, 6))})
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = proposed(path, tmp_path / "project")
    assert set(found["objective"]) == {"like", "rate_high", "report"}
    assert found["objective"]["rate_high"]["events"] == ["rate"]
    assert found["objective"]["rate_high"]["where"].startswith("value >= ")
