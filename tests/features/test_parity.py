"""All readings agree over generated logs; a reading with one rule broken is caught."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.registry import names
from feedwell.stores.state import LmdbState
from feedwell.testing.generated import generate, parity_project
from feedwell.testing.mutants import MUTANTS
from feedwell.testing.parity import compare_readings

PROJECT = parity_project()


@pytest.mark.parametrize("seed", range(10))
def test_all_readings_agree(seed, tmp_path):
    found = compare_readings(PROJECT, generate(seed, n_logs=25), tmp_path, seed)
    assert found.mismatches == []
    assert {reading for reading, _ in found.compared} == {"asof", "fold", "hydrate"}
    assert set(found.by_aggregate()) == set(names("aggregate", ())), "an aggregate that no generated log tests"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_a_broken_reading_is_caught(mutant, tmp_path):
    with mutant.breaks():
        tries = (compare_readings(PROJECT, generate(seed, 20), tmp_path, seed).mismatches for seed in range(5))
        found = next(filter(None, tries), [])
    assert found, f"no generated log shows what a broken {mutant.rule} does"
    assert {m.split()[0] for m in found} == {mutant.reading}, "the mutant was put into one reading only"
