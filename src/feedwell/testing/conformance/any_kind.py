"""What holds of every part: its configuration, its needs, its artifact, its seed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from feedwell.core.errors import NotTrained
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.core.protocols import learns
from feedwell.testing.conformance._tried import SEEDS, answer, ensure, ensure_same, made_of, needs_of, trained

_NEEDS = (FeatureNeed, ColumnNeed, HistoryNeed, ObjectsNeed, RankingNeed)
_DATA_FILES = {".safetensors", ".json", ".ubj", ".parquet", ".onnx", ".faiss"}


def _config_round_trips(part: Any, options: Mapping[str, Any]) -> None:
    config = part.Config(**options)
    ensure(part.Config.model_validate(config.model_dump()) == config, "Config changes when dumped and read again")
    again = part.Config.model_validate_json(config.model_dump_json())
    ensure(again == config, "Config changes when written as JSON and read again")


def _keys_say_when_they_apply(part: Any, options: Mapping[str, Any]) -> None:
    for key, field in part.Config.model_fields.items():
        when = (field.json_schema_extra or {}).get("when")
        ensure(when in ("fit", "serve"), f"Config key '{key}' is marked neither fit(...) nor serve(...)")


def _unknown_keys_are_refused(part: Any, options: Mapping[str, Any]) -> None:
    try:
        part.Config(**options, no_such_key=1)
    except ValidationError:
        return
    raise AssertionError("Config takes an unknown key; derive it from PartConfig")


def _needs_are_stable_data(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    if part.kind == "embedder":
        return
    ensure(all(isinstance(need, _NEEDS) for need in made.needs), f"needs hold something else: {made.needs}")
    ensure(made.needs == made.needs == made_of(part, options).needs, "needs differ from call to call")


def _untrained_says_so(part: Any, options: Mapping[str, Any]) -> None:
    made = made_of(part, options)
    if not learns(made):
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in ((answer, (made, 1)), (made.save, (Path(folder),))):
            try:
                name(*arguments)
            except NotTrained:
                continue
            raise AssertionError("used before `fit` or `load`, it did not raise NotTrained")


def _loads_what_it_saved(part: Any, options: Mapping[str, Any]) -> None:
    made = trained(part, options)
    if not learns(made):
        return
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        made.save(Path(one))
        loaded = made_of(part, options)
        loaded.load(Path(one))
        loaded.save(Path(two))
        ensure(needs_of(loaded) == needs_of(made), "needs change over save and load")
        for seed in SEEDS:
            ensure_same(answer(made, seed), answer(loaded, seed), "after save and load")
        files = {path.name: path.read_bytes() for path in Path(one).iterdir()}
        ensure(files == {p.name: p.read_bytes() for p in Path(two).iterdir()}, "saved again, the files differ")
        code = [name for name in files if Path(name).suffix not in _DATA_FILES]
        ensure(not code, f"an artifact is data: {code} is none of {sorted(_DATA_FILES)}")


def _seed_decides(part: Any, options: Mapping[str, Any]) -> None:
    one, two = trained(part, options), trained(part, options)
    for seed in SEEDS:
        ensure_same(answer(one, seed), answer(two, seed), "made twice with one seed")
        ensure_same(answer(one, seed), answer(one, seed), "called twice")


CHECKS = [
    _config_round_trips,
    _keys_say_when_they_apply,
    _unknown_keys_are_refused,
    _needs_are_stable_data,
    _untrained_says_so,
    _loads_what_it_saved,
    _seed_decides,
]
