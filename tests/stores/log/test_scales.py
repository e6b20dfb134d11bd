"""The scale of stored values is kept with the log, and a project that declares another one is refused."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

import feedwell.workspace as workspace
from feedwell.core.errors import ProjectError
from feedwell.core.project import EventSection, Project, ProjectSection
from feedwell.pipeline.project_folder import load_project
from feedwell.stores.log.scales import kept_scales


def project(**scales):
    events = {name: EventSection(value_scale=scale) for name, scale in scales.items()}
    return Project(project=ProjectSection(name="shop"), event=events)


def test_a_scale_binds_from_the_first_value_on_and_survives_sealing(open_log, view):
    log = open_log(project=project(buy=1, view=1))
    log.append([view(type="buy"), view(type="view", value=2.5)])
    open_log(project=project(buy=100, view=1)).append([view(type="buy", value=2.5)])
    log.seal(log.high_water()[0])
    with pytest.raises(ProjectError, match=r"event\.buy\.value_scale: 10, while .* scale 100 .*move \.feedwell away"):
        open_log(project=project(buy=10, view=1))
    with pytest.raises(ProjectError, match=r"event\.buy.*1, while .* scale 100"):
        open_log(project=project(view=1))
    with pytest.raises(ProjectError, match="2 problems"):
        open_log(project=project(buy=10, view=10))


def test_two_that_opened_before_the_first_value_do_not_both_store_theirs(open_log, view, rows_of):
    one, other = open_log(project=project(buy=1)), open_log(project=project(buy=100))
    one.append([view(type="buy", value=3.0)])
    with pytest.raises(ProjectError, match="100, while the log holds values of this type at scale 1"):
        other.append([view(type="buy", value=3.0)])
    assert [row["value_scaled"] for row in rows_of(one)] == [3]
    assert one.append([view(type="buy", value=4.0)]).n_new == 1


def test_history_keeps_scales_of_types_with_values_and_is_all_or_nothing(open_log, rows_of):
    rows = pa.table({"type": ["buy", "view"], "ts": pa.array([1, 2], pa.int64()), "user": ["u", "u"],
                     "item": ["a", "b"], "value": [2.5, None]})  # fmt: skip
    one, other = open_log(project=project(buy=1)), open_log(project=project(buy=100))
    other.load_history([rows])
    assert kept_scales(other.hot.connection()) == {"buy": 100}
    with pytest.raises(ProjectError, match="scale 100"):
        one.load_history([rows.set_column(1, "ts", pa.array([3, 4], pa.int64()))])
    assert [row["value_scaled"] for row in rows_of(other)] == [250, None]
    assert other.epoch == 1


def test_check_and_every_command_refuse_another_scale_at_its_line(tmp_path):
    text = '[project]\nname = "p"\n[data]\nevents = "e.jsonl"\n[event.buy]\nvalue_scale = 1\n'
    (tmp_path / "feedwell.toml").write_text(text)
    (tmp_path / "e.jsonl").write_text(json.dumps({"type": "buy", "user": "u", "item": "a", "ts": 9, "value": 250}))
    with workspace.open(tmp_path) as ws:
        ws.ingest()
    load_project(tmp_path)
    (tmp_path / "feedwell.toml").write_text(text.replace("value_scale = 1", "value_scale = 100"))
    with pytest.raises(ProjectError, match=r"feedwell\.toml:6: event\.buy\.value_scale: 100, while the log holds"):
        load_project(tmp_path)
    with pytest.raises(ProjectError, match=r"value_scale"):
        workspace.open(tmp_path)
