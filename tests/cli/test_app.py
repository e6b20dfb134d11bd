"""The command line answers at once, says one clear thing when it cannot, and exits with a code that tells why."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "import sys; sys.argv[0] = 'feedwell'; from feedwell.cli import main; main()"


def feedwell(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def test_help_lists_every_command_in_under_three_tenths_of_a_second() -> None:
    def cpu_seconds() -> float:  # not of the wall: another's load is not ours
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    def seconds() -> float:
        begin = cpu_seconds()
        said = feedwell("--help")
        assert said.returncode == 0
        for name in ("init", "check", "features", "recommend", "explain", "forget", "doctor"):
            assert f"\n  {name} " in said.stdout
        return cpu_seconds() - begin

    assert min(seconds() for _ in range(4)) < 0.3


def test_help_imports_neither_numpy_nor_duckdb() -> None:
    code = f"import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr)); {RUN}"
    said = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    modules = eval(said.stderr)
    assert "feedwell.cli._app" in modules
    assert not {"numpy", "duckdb", "pyarrow", "pydantic", "xgboost", "torch"} & set(modules)


@pytest.mark.parametrize(
    "words", [("--version",), ("init", "--help"), ("features", "--help"), ("features", "asof", "--help")]
)
def test_help_of_one_command(words: tuple[str, ...]) -> None:
    assert feedwell(*words).returncode == 0


def test_usage_errors_exit_2(tmp_path: Path) -> None:
    assert feedwell("recomend", "u1").returncode == 2
    assert feedwell("recommend", "-p", tmp_path).returncode == 2
    nothing = feedwell("check", "-p", tmp_path)
    assert nothing.returncode == 2
    assert "has no feedwell.toml" in nothing.stderr
    assert "Traceback" not in nothing.stderr


def test_json_is_json_for_a_wrong_call_too(tmp_path: Path) -> None:
    for words in (("recommend", "--json"), ("nosuch", "--json"), ("ingest", "-p", tmp_path / "gone", "--json")):
        said = feedwell(*words)
        found = json.loads(said.stdout)
        assert (said.returncode, found["exit_code"]) == (2, 2)
        assert found["error"]
    plain = feedwell("recommend")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert "Missing argument" in plain.stderr


def test_python_m_feedwell_is_the_command() -> None:
    command = [sys.executable, "-m", "feedwell", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_history_and_live_are_one_choice() -> None:
    assert "--history" in (said := feedwell("ingest", "--help").stdout)
    assert "--live" in said.partition("--history")[2].splitlines()[0]


def test_a_broken_project_file_exits_3_with_all_problems(tmp_path: Path) -> None:
    assert feedwell("init", tmp_path).returncode == 0
    path = tmp_path / "feedwell.toml"
    path.write_text(
        path.read_text().replace('"buy"', '"bye"', 2).replace("diversity", "dversity").replace("k = 50", "k = -5")
    )
    said = feedwell("check", "-p", tmp_path)
    assert said.returncode == 3
    assert said.stdout == ""
    lines = said.stderr.splitlines()
    assert lines[0] == f"feedwell: {len(lines) - 1} problems in the project:"
    assert any("slate.dversity" in line and "'diversity'" in line for line in lines)
    assert any("source.fresh.k" in line for line in lines)
    as_json = feedwell("check", "-p", tmp_path, "--json")
    found = json.loads(as_json.stdout)
    assert (as_json.returncode, found["exit_code"]) == (3, 3)
    assert len(found["problems"]) == len(lines) - 1


def test_data_errors_exit_4(tmp_path: Path) -> None:
    said = feedwell("init", tmp_path / "p", "--data", tmp_path)
    assert said.returncode == 4
    assert "MovieLens" in said.stderr


def test_a_fresh_project_checks_and_is_not_overwritten(tmp_path: Path) -> None:
    assert feedwell("init", "my shop!", cwd=tmp_path).returncode == 0
    text = (tmp_path / "my shop!" / "feedwell.toml").read_text()
    assert 'name = "my-shop"' in text
    again = feedwell("init", "my shop!", cwd=tmp_path)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    said = feedwell("check", "-p", tmp_path / "my shop!", "--json")
    found = json.loads(said.stdout)
    assert found["project"] == "my-shop"
    assert found["exploration"]["slots"] == 8
    assert 0 < found["exploration"]["given_up"] < 0.2
    assert "source.als" in found["parts"]
    assert [w.partition(" names")[0] for w in found["warnings"]] == ["data.events", "entity.item.path"]
    shown = feedwell("check", "-p", tmp_path / "my shop!").stdout
    assert shown.count("no problems") == 1
    assert "warning: data.events names 'events/*.parquet', and no file is at" in shown


def test_features_that_do_not_compile_are_problems_of_the_file(tmp_path: Path) -> None:
    feedwell("init", tmp_path)
    path = tmp_path / "feedwell.toml"
    path.write_text(path.read_text() + '\n[feature.odd]\nentity = "item"\naggregate = "last_n"\nevents = ["view"]\n')
    said = feedwell("check", "-p", tmp_path)
    assert said.returncode == 3
    line = len(path.read_text().splitlines()) - 3
    assert f"feedwell.toml:{line}: feature.odd" in said.stderr
