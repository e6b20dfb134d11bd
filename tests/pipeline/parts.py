"""Parts that misbehave on purpose, filed in the registry under names that only tests use."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np

from feedwell.core.candidates import Candidates, Retrieved
from feedwell.core.catalog import CatalogTable
from feedwell.core.needs import ColumnNeed, FeatureNeed, Need
from feedwell.core.protocols import PartConfig, Setting, fit, serve
from feedwell.core.registry import filter, scorer, slate, source
from feedwell.core.request import Request


class Part:
    class Config(PartConfig):
        k: int = serve(20)

    def __init__(self, config: Any, setting: Setting) -> None:
        self.config, self.setting = config, setting

    @property
    def needs(self) -> tuple[Need, ...]:
        return ()


def rows(keys: Any, scores: Any = None) -> Retrieved:
    keys = np.asarray(keys)
    return Retrieved(keys_N=keys, scores_N=np.linspace(1, 0, len(keys)) if scores is None else np.asarray(scores))


@source("test_first")
class First(Part):
    """The items with the smallest keys."""

    def __call__(self, request: Request) -> Retrieved:
        return rows(np.arange(self.config.k))


@source("test_needy")
class Needy(Part):
    """Nothing; it only needs what it is told to."""

    class Config(PartConfig):
        wants: tuple[str, ...] = serve(())

    @property
    def needs(self) -> tuple[Need, ...]:
        columns = (ColumnNeed(*name.split(".")) for name in self.config.wants if "." in name)
        return (*columns, *(FeatureNeed(name) for name in self.config.wants))

    def __call__(self, request: Request) -> Retrieved:
        return rows([])


@source("test_newcomers")
class Newcomers(Part):
    """The items whose catalog rows it was told of, newest first."""

    catalog_offset = -1

    def grown(self, rows: CatalogTable, delta: dict[int, int] | None) -> dict[int, int]:
        return {**(delta or {}), **dict(zip(rows.keys_M.tolist(), rows.at_M.tolist(), strict=True))}

    def __call__(self, request: Request) -> Retrieved:
        known: dict[int, int] = request.deltas.get(self.setting.name, {})
        return rows(np.array(sorted(known, key=lambda key: (-known[key], key))[: self.config.k], np.int64))


@source("test_sized_newcomers")
class SizedNewcomers(Newcomers):
    """A delta of another size than its own, as a vector is of another length, is nothing that it can read."""

    class Config(PartConfig):
        k: int = serve(20)
        dim: int = fit(1)

    def grown(self, rows: CatalogTable, delta: dict[int, int] | None) -> dict[int, int]:
        return {**(delta or {}), **dict.fromkeys(rows.keys_M.tolist(), self.config.dim)}

    def __call__(self, request: Request) -> Retrieved:
        known: dict[int, int] = request.deltas.get(self.setting.name, {})
        assert set(known.values()) <= {self.config.dim}
        return rows(np.array(sorted(known), np.int64)[-self.config.k :])


@source("test_other_newcomers")
class OtherNewcomers(Newcomers):
    pass


@source("test_raises")
class Raises(Part):
    def __call__(self, request: Request) -> Retrieved:
        raise RuntimeError("the shelf fell down")


@source("test_nan")
class Nan(Part):
    def __call__(self, request: Request) -> Retrieved:
        return rows(np.arange(10), np.full(10, np.nan))


@source("test_million")
class Million(Part):
    def __call__(self, request: Request) -> Retrieved:
        return rows(np.arange(1_000_000))


@source("test_odd")
class Odd(Part):
    """Float keys: some whole, some not, one NaN, one negative, one twice."""

    def __call__(self, request: Request) -> Retrieved:
        return rows(np.array([3.0, 3.0, 4.5, np.nan, -1.0, 5.0, np.inf]))


@source("test_remote_sleeps")
class RemoteSleeps(Part):
    remote = True

    def __call__(self, request: Request) -> Retrieved:
        time.sleep(5.0)
        return rows(np.arange(5))


@source("test_remote")
class Remote(Part):
    remote = True

    def __call__(self, request: Request) -> Retrieved:
        return rows(np.arange(5))


@source("test_sleeps")
class Sleeps(Part):
    """Local, and slow as long as a test says so."""

    seconds: ClassVar[float] = 0.0
    calls: ClassVar[int] = 0

    def __call__(self, request: Request) -> Retrieved:
        type(self).calls += 1
        time.sleep(self.seconds)
        return rows(np.arange(8))


@filter("test_breaks")
class Breaks(Part):
    def __call__(self, request: Request, candidates: Candidates) -> Any:
        raise ValueError("no opinion")


@scorer("test_value_is_key")
class ValueIsKey(Part):
    """Predicts `buy` from the key, so that the order is known."""

    def __call__(self, request: Request, candidates: Candidates) -> Any:
        return {"buy": candidates.keys_N / 1000.0}


@scorer("test_reads_the_catalog")
class ReadsTheCatalog(Part):
    """Values an item by whether it was told of its catalog row."""

    catalog_offset = -1

    def __call__(self, request: Request, candidates: Candidates) -> Any:
        known = request.deltas.get("ranker", ())
        return {"value": np.array([float(key in known) for key in candidates.keys_N.tolist()])}

    def grown(self, rows: CatalogTable, delta: frozenset[int] | None) -> frozenset[int]:
        return (delta or frozenset()) | set(rows.keys_M.tolist())


@scorer("test_scorer_breaks")
class ScorerBreaks(Part):
    def __call__(self, request: Request, candidates: Candidates) -> Any:
        raise FloatingPointError("divided")


@scorer("test_scorer_nan")
class ScorerNan(Part):
    """NaN for every other row, infinite for the first."""

    def __call__(self, request: Request, candidates: Candidates) -> Any:
        p_N = candidates.keys_N / 1000.0
        p_N[::2] = np.nan
        p_N[:1] = np.inf
        return {"buy": p_N}


@slate("test_slate_breaks")
class SlateBreaks(Part):
    class Config(PartConfig):
        pass

    def begin(self, request: Request, candidates: Candidates, shown: Candidates | None = None) -> Any:
        raise LookupError("no slate")
