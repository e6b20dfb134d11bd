"""Noise by address is uniform or normal, and the same whatever else is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from feedwell.data.world.noise import channel, normal, normal_at, uniform, uniform_at

ROOT = channel(7, "click")


def test_an_address_has_one_value_in_any_company() -> None:
    items = np.array([5, 3, 900_000])
    alone = [uniform_at(ROOT, 12, int(item), 10**15) for item in items]
    np.testing.assert_array_equal(uniform(ROOT, 12, items, 10**15), alone)
    np.testing.assert_array_equal(uniform(ROOT, 12, items[::-1], 10**15), alone[::-1])
    assert normal_at(ROOT, 4, 5) == pytest.approx(normal(ROOT, 4, 5)[0], abs=0)


def test_roots_broadcast_against_keys() -> None:
    roots = np.array([channel(7, "a"), channel(7, "b")], np.uint64)[:, None]
    grid = uniform(roots, 1, np.arange(3)[None, :])
    assert grid.shape == (2, 3)
    assert grid[1, 2] == uniform_at(channel(7, "b"), 1, 2)


def test_uniforms_are_uniform_and_unrelated_along_each_key() -> None:
    u = uniform(ROOT, np.arange(200)[:, None], np.arange(200)[None, :])
    counts = np.histogram(u, bins=20, range=(0.0, 1.0))[0]
    assert np.all(np.abs(counts - u.size / 20) < 5 * np.sqrt(u.size / 20))
    for neighbour in (u[1:, :].ravel(), u[:-1, :].ravel()):
        assert abs(np.corrcoef(neighbour, np.roll(neighbour, 1))[0, 1]) < 5 / np.sqrt(u.size)
    assert abs(np.corrcoef(u[1:].ravel(), u[:-1].ravel())[0, 1]) < 5 / np.sqrt(u.size)
    assert 0.0 < u.min() < u.max() < 1.0


def test_normals_are_standard() -> None:
    z = normal(ROOT, np.arange(40_000))
    assert abs(z.mean()) < 0.025
    assert abs(z.std() - 1.0) < 0.02
    assert abs(np.mean(z**4) - 3.0) < 0.25


def test_seeds_and_names_give_other_noise() -> None:
    assert len({uniform_at(channel(s, n), 1) for s in (1, 2) for n in ("click", "like")}) == 4
