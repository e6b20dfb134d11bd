"""All readings agree over generated logs; a reading with one rule broken is caught."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.clock import MINUTE
from feedwell.core.registry import names
from feedwell.features import asof, probe, scan
from feedwell.features.batch import Batch
from feedwell.stores.state import LmdbState
from feedwell.testing.parity import compare_readings, generate, parity_project

PROJECT = parity_project()
ASOF = sys.modules[asof.__module__]


@pytest.mark.parametrize("seed", range(12))
def test_all_readings_agree(seed, tmp_path):
    found = compare_readings(PROJECT, generate(seed, n_logs=25), tmp_path, seed)
    assert found.mismatches == []
    assert {reading for reading, _ in found.compared} == {"asof", "fold", "hydrate"}
    assert set(found.by_aggregate()) == set(names("aggregate")), "an aggregate that no generated log tests"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(1000, 2**31), n_events=st.integers(1, 60))
def test_all_readings_agree_on_any_small_log(seed, n_events, tmp_path):
    assert compare_readings(PROJECT, generate(seed, 1, n_events, 2), tmp_path, seed).mismatches == []


def test_the_state_on_disk_reads_the_same(tmp_path):
    state = LmdbState.open(tmp_path / "s.mdb")
    assert compare_readings(PROJECT, generate(5, n_logs=10), tmp_path, 5, state=state).mismatches == []
    state.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_all_readings_agree_over_thousands_of_logs(seed, tmp_path):
    assert compare_readings(PROJECT, generate(seed, n_logs=25), tmp_path, seed).mismatches == []


def broken_hop(monkeypatch):
    """Edges move by the minute, whatever the window."""
    monkeypatch.setattr(probe, "hop_of", lambda window: MINUTE)


def broken_boundary(monkeypatch):
    """An event at t itself is seen."""

    def before(self, name, time_R):
        return np.searchsorted(self._at_E, time_R, side="right")

    monkeypatch.setattr(probe.Edges, "_before", before)


def broken_axis(monkeypatch):
    """Events count by when they happened, not by when they could be known."""
    columns = {k: v for k, v in vars(scan.c).items() if k.isupper()}

    def read_log(*args, **options):
        with monkeypatch.context() as patch:
            patch.setattr(scan, "c", SimpleNamespace(**{**columns, "AVAILABLE_AT": "ts"}))
            return scan.read_log(*args, **options)

    monkeypatch.setattr(ASOF, "read_log", read_log)


def broken_ties(monkeypatch):
    """Events of one instant in the opposite of log order."""

    def read_log(*args, **options):
        log = scan.read_log(*args, **options)
        order = np.lexsort((-np.arange(len(log)), log.at_E))
        return replace(
            log,
            type_E=log.type_E[order],
            keys={k: v[order] for k, v in log.keys.items()},
            value_E=log.value_E[order],
            valued_E=log.valued_E[order],
            where={k: v[order] for k, v in log.where.items()},
        )

    monkeypatch.setattr(ASOF, "read_log", read_log)


def broken_undo(monkeypatch):
    """Who unfollowed still follows."""
    mask = Batch.mask

    def deaf(self, selection):
        found = mask(self, selection)
        return np.zeros_like(found) if selection.events in (("unlike",), ("unfollow",)) else found

    monkeypatch.setattr(Batch, "mask", deaf)


def broken_null_key(monkeypatch):
    """Events that name nobody are put down to key 0."""
    key = Batch.key
    monkeypatch.setattr(Batch, "key", lambda self, entity: np.maximum(key(self, entity), 0))


MUTANTS = {
    "hop": (broken_hop, "asof"),
    "boundary": (broken_boundary, "asof"),
    "axis": (broken_axis, "asof"),
    "ties": (broken_ties, "asof"),
    "undo": (broken_undo, "fold"),
    "null key": (broken_null_key, "fold"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_reading_is_caught(name, monkeypatch, tmp_path):
    breaks, reading = MUTANTS[name]
    breaks(monkeypatch)
    found = [m for s in range(3) for m in compare_readings(PROJECT, generate(s, n_logs=15), tmp_path, s).mismatches]
    assert found, f"no generated log shows what a broken {name} does"
    assert {m.split()[0] for m in found} == {reading}, "the mutant was put into one reading only"
