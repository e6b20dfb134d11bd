"""Adapters tell their set by its files, as published and as in our real data, and write good projects."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedwell.core.errors import DataError
from feedwell.core.project import Project
from feedwell.data.datasets import detect_dataset
from feedwell.data.world import preset, simulate_history
from feedwell.pipeline.project_checks import findings_of
from feedwell.pipeline.project_file import parse_project

REAL = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).parents[4] / "shared" / "data"))
U_ITEM = (
    "1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n267|unknown||||1"
    + "|0" * 18
    + "\n"
)


def prepared(name: str, folder: Path, project: Path) -> tuple[Project, str]:
    adapter = detect_dataset(folder)
    assert adapter.name == name
    project.mkdir(exist_ok=True)
    text = adapter.prepare(folder, project)
    return parse_project(text, checks=(findings_of,)), text


def test_movielens_as_published(tmp_path: Path) -> None:
    data = tmp_path / 'it"s here'
    data.mkdir()
    (data / "u.data").write_text("196\t242\t3\t881250949\n")
    (data / "u.item").write_text(U_ITEM + "2|Am\xe9lie (2001)|||" + "|0" * 18 + "|1\n", encoding="latin-1")
    (data / "u.user").write_text("1|24|M|technician|85711\n")
    project, _ = prepared("ml_100k", data, tmp_path / "p")
    assert project.data.events == f"{data}/u.data"
    assert project.data.header == ("user", "item", "value", "ts")
    rows = [json.loads(line) for line in (tmp_path / "p/catalog/items.jsonl").read_text("utf-8").splitlines()]
    assert rows[0] == {
        "item_id": "1",
        "title": "Toy Story",
        "year": 1995,
        "genres": ["Animation", "Children's", "Comedy"],
        "genre": "Animation",
    }
    assert (rows[1]["title"], rows[1]["year"], rows[1]["genre"]) == ("unknown", None, "unknown")
    assert (rows[2]["title"], rows[2]["genre"]) == ("Amélie", "Western")
    assert project.split.by == "user"
    assert project.derived_entities == {"genre": ("item", "genre")}


def test_movielens_without_its_catalog_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n")
    with pytest.raises(DataError, match=r"u\.item is missing"):
        detect_dataset(tmp_path).prepare(tmp_path, tmp_path)


def test_retailrocket_as_published_gets_a_catalog_with_dates(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
    )
    (tmp_path / "item_properties_part1.csv").write_text(
        "timestamp,itemid,property,value\n1000,7,categoryid,12\n1000,7,790,n5.0\n3000,7,available,0\n2000,8,available,1\n"
    )
    (tmp_path / "item_properties_part2.csv").write_text("timestamp,itemid,property,value\n4000,7,categoryid,13\n")
    project, text = prepared("retailrocket", tmp_path, tmp_path / "p")
    assert set(project.event_types) == {"view", "addtocart", "transaction"}
    assert project.data.ts_unit == "ms"
    assert project.filter["seen"].options["events"] == ["transaction"]
    assert tomllib.loads(text)["entity"]["item"]["valid_from"] == "valid_from"
    rows = duckdb.sql(f"SELECT * FROM '{tmp_path}/p/catalog/items.parquet'").fetchall()
    assert rows == [
        ("7", 1000, "12", True),
        ("8", 2000, None, True),
        ("7", 3000, "12", False),
        ("7", 4000, "13", False),
    ]


def test_retailrocket_without_properties_has_no_catalog(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"user": [1], "item": [2], "event": ["view"], "ts": [1430623510]}), tmp_path / "events.parquet"
    )
    project, _ = prepared("retailrocket", tmp_path, tmp_path / "p")
    assert "item" not in project.entity
    assert project.objective["buy"].events == ("buy",)


@pytest.mark.parametrize("name", ["social", "shop", "news"])
def test_a_simulated_world_is_told_by_its_actions(name: str, tmp_path: Path) -> None:
    simulate_history(preset(name, 0.2), 1, days=4).write(tmp_path / "w")
    project, _ = prepared("world", tmp_path / "w", tmp_path / "p")
    assert project.project.name == name
    config = preset(name)
    assert set(project.objective) == {a.name for a in config.actions if a.object == "item"}
    assert project.objective["hide"].direction == "down"
    assert ("price" in project.entity["item"].columns) == (config.price_median is not None)


def test_other_folders_are_refused_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "events.parquet").write_bytes(b"PAR1 cut short")
    (tmp_path / "events.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"MovieLens 100K.*Retailrocket"):
        detect_dataset(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        detect_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(("name", "folder"), [("ml_100k", "ml-100k"), ("retailrocket", "retailrocket")])
def test_the_real_sets_are_known(name: str, folder: str, tmp_path: Path) -> None:
    if not (REAL / folder).is_dir():
        pytest.skip(f"no real data under {REAL}; set FEEDWELL_DATA")
    project, _ = prepared(name, REAL / folder, tmp_path / "p")
    assert project.ranker is not None
