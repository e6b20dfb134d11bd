from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from feedwell.core.errors import Unavailable
from feedwell.features import FeatureSet, Fold, StateReader, hydrate
from feedwell.pipeline.compile import compile_features
from feedwell.pipeline.project_file import parse_project
from feedwell.pipeline.projector import Projector
from feedwell.stores.durable import file_lock
from feedwell.stores.state import MemoryState

from .conftest import NOW, PROJECT, Shop, catalog, event, history, item, open_shop

MORE = (
    PROJECT
    + """
[feature.item_buys]
entity = "item"
aggregate = "count"
events = ["buy"]
windows = ["1d"]
"""
)
T = NOW + 10**9


def values(features: FeatureSet, shop: Shop) -> Any:
    with shop.online.reader(features) as reader:
        return reader.user_side(1, T), reader.item_side(1, np.arange(30), T), reader.state_offset


def folded_anew(features: FeatureSet, shop: Shop) -> Any:
    """The slow and obvious way: one fold of the whole log into memory."""
    state = MemoryState()
    Fold([features], state, epoch=shop.log.epoch).fold(shop.log.read(-1, 100_000))
    with StateReader.open(features, state) as reader:
        return reader.user_side(1, T), reader.item_side(1, np.arange(30), T), reader.state_offset


def assert_as_folded_anew(features: FeatureSet, shop: Shop) -> None:
    shop.clock.advance(100_000)  # the next reader looks for a new epoch
    (user, items, offset), (user_2, items_2, offset_2) = values(features, shop), folded_anew(features, shop)
    assert offset == offset_2
    assert repr(user.features) == repr(user_2.features)
    assert np.array_equal(items, items_2, equal_nan=True)
    for need, keys in user.objects.items():
        assert np.array_equal(keys, user_2.objects[need])
    for need, ranking in user.rankings.items():
        assert np.array_equal(ranking.keys_N, user_2.rankings[need].keys_N)


def test_it_folds_what_is_new_and_says_how_much(shops: Callable[..., Shop]) -> None:
    shop = shops(stocked=False)
    shop.log.append([*catalog(3), *history(n=10)])
    assert shop.projector.lag == 13
    assert shop.projector.catch_up() == 13
    assert shop.projector.catch_up() == 0
    assert shop.projector.lag == 0
    assert_as_folded_anew(shop.compiled.features, shop)


def test_it_seals_only_what_is_folded(shops: Callable[..., Shop]) -> None:
    shop = shops(stocked=False)
    projector = Projector(shop.folder, shop.log, lambda: [shop.compiled.features], seal_above=20, batch=10)
    shop.log.append([*catalog(), *history()])
    projector.catch_up()
    assert 0 < shop.log.sealed_upto() <= 89
    assert_as_folded_anew(shop.compiled.features, shop)
    projector.close()


def test_a_lost_state_is_built_again(shop: Shop) -> None:
    shop.log.seal(50)
    shop.projector.close()
    shop.online.close()
    shutil.rmtree(shop.folder / "state.lmdb")
    shop.projector.catch_up()
    assert_as_folded_anew(shop.compiled.features, shop)


@pytest.mark.parametrize("sealed", [False, True])
def test_features_that_a_release_adds_are_built_before_it_can_serve(shop: Shop, sealed: bool) -> None:
    added = compile_features(parse_project(MORE))
    with pytest.raises(Unavailable), shop.online.reader(added):
        pass
    if sealed:
        shop.log.seal(60)
    projector = Projector(shop.folder, shop.log, lambda: [shop.compiled.features, added])
    projector.catch_up()
    assert_as_folded_anew(added, shop)
    assert_as_folded_anew(shop.compiled.features, shop)
    shop.log.append(history(n=5))
    projector.catch_up()
    assert_as_folded_anew(added, shop)
    projector.close()


def test_history_begins_a_new_epoch_that_is_swapped_in(shop: Shop) -> None:
    old = shop.log.read(-1, 1000)
    before = values(shop.compiled.features, shop)[1]
    rows = history_rows(shop, 40)
    shop.log.load_history([rows])
    assert shop.log.epoch == 1
    assert np.array_equal(values(shop.compiled.features, shop)[1], before, equal_nan=True), "the old state serves"
    shop.projector.catch_up()
    shop.clock.advance(100_000)
    after = values(shop.compiled.features, shop)
    assert not np.array_equal(after[1], before, equal_nan=True)
    assert shop.log.high_water()[0] == after[2] >= old.num_rows + 40 - 1
    record = shop.ask("u1").record
    assert record.epoch == 1


def history_rows(shop: Shop, n: int) -> pa.Table:
    """`n` views of i1 in the last hour before the shop's time, in the shape that a load of history takes."""
    from feedwell.stores.log import raw_schema

    schema = raw_schema(shop.compiled.project.entities)
    columns: dict[str, list[Any]] = {name: [None] * n for name in schema.names}
    at = [NOW - 1000 * (n - i) for i in range(n)]
    columns |= {"ts": at, "available_at": at, "type": ["view"] * n, "user": ["u1"] * n, "item": ["i1"] * n}
    columns["event_id"] = [i.to_bytes(16, "big") for i in range(n)]
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema}, schema=schema)


def test_only_one_folds(shop: Shop) -> None:
    shop.log.append(history(n=5))
    with file_lock(shop.folder / "projector.lock"), pytest.raises(Unavailable, match="waiting for the projector"):
        shop.projector.catch_up(patience_s=0.1)
    assert shop.projector.catch_up() == 5


def test_who_waits_is_content_with_what_another_folded(shop: Shop) -> None:
    shop.log.append(history(n=5))
    other = Projector(shop.folder, shop.log, lambda: [shop.compiled.features])
    other.catch_up()
    with file_lock(shop.folder / "projector.lock"):
        assert shop.projector.catch_up(patience_s=0.1) == 0
    other.close()


def test_history_that_comes_between_two_batches_is_built_in_not_folded(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls, rows = shop.log.read, [], history_rows(shop, 40)

    def load_and_read(after_offset: int, limit: int) -> pa.Table:
        calls.append(after_offset)
        if len(calls) == 2:
            shop.log.load_history([rows])
        return read(after_offset, limit)

    monkeypatch.setattr(shop.log, "read", load_and_read)
    shop.put(*history(n=4))
    shop.clock.advance(100_000)
    assert shop.projector.states.epoch == 1
    assert values(shop.compiled.features, shop)[2] == shop.log.high_water()[0]


def test_an_event_that_comes_while_the_end_is_looked_for_is_not_stepped_over(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, late = shop.log.read, history(n=3)

    def read_and_append(after_offset: int, limit: int) -> pa.Table:
        rows = read(after_offset, limit)
        if late and not rows.num_rows:
            shop.log.append([late.pop()])
        return rows

    monkeypatch.setattr(shop.log, "read", read_and_append)
    shop.put(*history(n=4))
    assert not late
    shop.put(*history(n=5))
    assert_as_folded_anew(shop.compiled.features, shop)


def test_events_of_a_forgotten_user_are_stepped_over(shop: Shop) -> None:
    shop.log.append([event("view", "gone", "i1") for _ in range(30)])
    shop.log.forget("gone")
    projector = Projector(shop.folder, shop.log, lambda: [shop.compiled.features], batch=7)
    projector.catch_up()
    shop.log.append(history(n=3))
    assert projector.catch_up() == 3
    projector.close()


def test_it_outlives_a_batch_that_fails(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([RuntimeError("disk"), RuntimeError("disk")])
    original = Fold.fold

    def fold(self: Fold, batch: pa.Table) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        original(self, batch)

    monkeypatch.setattr(Fold, "fold", fold)
    monkeypatch.setattr("feedwell.pipeline.projector._ERROR_S", 0.01)
    stop = threading.Event()
    thread = threading.Thread(target=shop.projector.run_forever, args=(stop,), daemon=True)
    end = shop.log.append(history(n=5)).offsets[-1]
    thread.start()
    assert wait_for(shop, shop.compiled.features, end)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert shop.projector.telemetry.value("projector_errors") == 2


WITH_BRAND = (
    MORE
    + """
[entity.brand]
from = "item.brand"

[feature.brand_views]
entity = "brand"
aggregate = "count"
events = ["view"]
windows = ["1d"]
"""
)


def test_an_entity_declared_after_events_were_sealed_has_features_of_what_follows(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    shop.put(*catalog(3), *history(n=10))
    shop.log.seal(12)
    shop.close()
    shop = open_shop(tmp_path, WITH_BRAND)
    shop.put(item("i7", brand="b"), event("view", "u1", "i7"))
    assert_as_folded_anew(shop.compiled.features, shop)
    assert np.nansum(values(shop.compiled.features, shop)[1]) > 0
    shop.close()


def test_features_of_an_entity_that_the_log_was_opened_without_wait_for_a_restart(shop: Shop) -> None:
    added = compile_features(parse_project(WITH_BRAND))
    projector = Projector(shop.folder, shop.log, lambda: [added, shop.compiled.features])
    shop.log.append(history(n=5))
    assert projector.catch_up() == 5
    assert_as_folded_anew(shop.compiled.features, shop)
    projector.close()


def test_a_feature_set_that_cannot_be_built_does_not_stop_the_others(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.log.seal(60)
    added, broken = compile_features(parse_project(MORE)), [True]

    def build(features: FeatureSet, *arguments: Any, **options: Any) -> None:
        if broken and features is added:
            raise RuntimeError("no such column")
        hydrate(features, *arguments, **options)

    monkeypatch.setattr("feedwell.pipeline.projector.hydrate", build)
    monkeypatch.setattr("feedwell.pipeline.projector._AGAIN_S", 0.0)
    projector = Projector(shop.folder, shop.log, lambda: [added, shop.compiled.features])
    with pytest.raises(RuntimeError, match="no such column"):
        projector.catch_up()
    stop = threading.Event()
    thread = threading.Thread(target=projector.run_forever, args=(stop,), kwargs={"refresh_s": 0.01}, daemon=True)
    thread.start()
    end = shop.log.append(history(n=5)).offsets[-1]
    assert wait_for(shop, shop.compiled.features, end)
    assert projector.telemetry.value("projector_errors") >= 1
    broken.clear()
    assert wait_for(shop, added, end)
    stop.set()
    thread.join(10)
    assert_as_folded_anew(added, shop)


def wait_for(shop: Shop, features: FeatureSet, offset: int) -> bool:
    """Whether the state comes to hold these features up to that offset."""
    for _ in range(1000):
        with suppress(Unavailable), shop.online.reader(features) as reader:
            if reader.state_offset == offset:
                return True
        time.sleep(0.01)
    return False


def test_a_folder_that_is_not_there_yet_is_made(tmp_path: Path, shop: Shop) -> None:
    Projector(tmp_path / "new" / ".feedwell", shop.log, lambda: [])
    assert (tmp_path / "new" / ".feedwell").is_dir()
