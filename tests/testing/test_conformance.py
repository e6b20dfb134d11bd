"""A check that cannot fail checks nothing: each is shown a part that breaks its promise."""

import json

import numpy as np
import pytest
from pydantic import ConfigDict

from feedwell.core import registry
from feedwell.core.candidates import Retrieved
from feedwell.core.errors import NotTrained
from feedwell.core.needs import HistoryNeed
from feedwell.core.protocols import PartConfig, serve
from feedwell.testing import Check, checks, sample
from feedwell.testing.conformance import COMMON, OF_KIND


class Config(PartConfig):
    k: int = serve(5)


class Source:
    """A sound source that learns: the catalog's most frequent items."""

    kind, name, Config = "source", "sound", Config

    def __init__(self, config, setting):
        self.config, self.seed, self.keys = config, setting.seed, None

    @property
    def needs(self):
        return (HistoryNeed(("view",), 5),)

    def __call__(self, request):
        if self.keys is None:
            raise NotTrained("not trained")
        avoid = np.concatenate([request.skip, request.exclude, request.prefix])
        keys = self.keys[~np.isin(self.keys, avoid)][: max(1, int(self.config.k * request.width))]
        return Retrieved(keys_N=keys, scores_N=-np.arange(len(keys), dtype=float))

    def batch(self, requests):
        return [self(r) for r in requests]

    def fit(self, data):
        self.keys = np.unique(data.item_E)

    def save(self, folder):
        if self.keys is None:
            raise NotTrained("not trained")
        (folder / "keys.json").write_text(json.dumps(self.keys.tolist()))

    def load(self, folder):
        self.keys = np.array(json.loads((folder / "keys.json").read_text()), np.int64)


class Scorer:
    """A sound scorer that learns nothing."""

    kind, name, Config = "scorer", "sound", Config

    def __init__(self, config, setting):
        self.config = config

    needs = ()

    def __call__(self, request, candidates):
        return {"click": candidates.retrieval_NS[:, 1] * 1.0}


class Filter(Scorer):
    kind = "filter"

    def __call__(self, request, candidates):
        return candidates.keys_N % 2 == 0


class Embedder:
    """A sound embedder that learns: one dimension per word."""

    kind, name, Config = "embedder", "sound", Config
    dim = 8

    def __init__(self, config, setting):
        self.words = None

    def __call__(self, texts):
        if self.words is None:
            raise NotTrained("not trained")
        counts = np.array([[w in t.split() for w in self.words] for t in texts], np.float32)
        counts = counts.reshape(len(texts), len(self.words))
        counts = np.pad(counts, ((0, 0), (0, self.dim - counts.shape[1])))
        length = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.divide(counts, length, out=np.zeros_like(counts), where=length > 0)

    def fit(self, texts):
        self.words = sorted({w for t in texts for w in t.split() if w.isalpha()})[: self.dim]

    def save(self, folder):
        if self.words is None:
            raise NotTrained("not trained")
        (folder / "words.json").write_text(json.dumps(self.words))

    def load(self, folder):
        self.words = json.loads((folder / "words.json").read_text())


class Step:
    relaxed = ()

    def __init__(self, u_N):
        self.u_N = u_N.copy()

    def utilities(self):
        return self.u_N.copy()

    def choose(self, row):
        self.u_N[row] = -np.inf


class Slate(Scorer):
    kind = "slate"

    def begin(self, request, candidates, shown=None):
        return Step(np.where(candidates.alive_N, candidates.value_N, -np.inf))


SOUND = {"source": Source, "scorer": Scorer, "filter": Filter, "slate": Slate, "embedder": Embedder}


def broken(part, **changes):
    return type("Broken" + part.__name__, (part,), changes)


def call(change):
    return {"__call__": change}


def returning(keys, scores):
    return call(
        lambda self, request: (
            Source.__call__(self, request),
            Retrieved(keys_N=np.array(keys), scores_N=np.array(scores)),
        )[1]
    )


class Unmarked(PartConfig):
    k: int = 5


class Lenient(Config):
    model_config = ConfigDict(extra="ignore")


class Lossy(Config):
    k: int = serve(5, exclude=True)
    other: float = serve(1.0)


def noisy(self, request, candidates):
    return {"click": np.random.default_rng().random(len(candidates))}


def forgetful(self, folder):
    self.keys = np.array([3, 10], np.int64)


CASES = {
    "config_round_trips": broken(Scorer, Config=Lossy, examples=({"k": 9},)),
    "keys_say_when_they_apply": broken(Scorer, Config=Unmarked),
    "unknown_keys_are_refused": broken(Scorer, Config=Lenient),
    "needs_are_stable_data": broken(Scorer, needs=("item.ctr",)),
    "untrained_says_so": broken(
        Source, __call__=lambda self, request: Retrieved(keys_N=sample.KEYS[:1], scores_N=np.ones(1))
    ),
    "loads_what_it_saved": broken(Source, load=forgetful),
    "seed_decides": broken(Scorer, **call(noisy)),
    "retrieves_distinct_known_keys_best_first": broken(Source, **returning([3, 3], [2.0, 1.0])),
    "serves_a_stranger": broken(
        Source, **call(lambda self, request: Source.__call__(self, request) if request.side.histories else 1 / 0)
    ),
    "serves_one_whose_items_are_unknown": broken(
        Source,
        **call(
            lambda self, r: (
                self.keys[np.searchsorted(self.keys, r.side.histories[self.needs[0]].keys_L)]
                if r.side.histories
                else None
            )
        ),
    ),
    "learns_from_nothing": broken(
        Source, fit=lambda self, data: setattr(self, "keys", np.array([np.bincount(data.item_E).argmax()]))
    ),
    "batch_equals_call": broken(Source, batch=lambda self, requests: [self(requests[0]) for _ in requests]),
    "keeps_by_a_mask": broken(Filter, **call(lambda self, request, rows: (rows.keys_N % 2).astype(int))),
    "permutes_with_the_candidates": broken(
        Scorer, **call(lambda self, request, rows: {"click": np.arange(len(rows)) * 1.0})
    ),
    "takes_no_candidates": broken(
        Scorer, **call(lambda self, request, rows: {"click": rows.value_N / rows.value_N.max()})
    ),
    "scores_as_columns": broken(Scorer, **call(lambda self, request, rows: {"click": rows.features_NF[:, 0]})),
    "fits_where_nothing_varies": broken(
        Scorer,
        fit=lambda self, rows: setattr(self, "sd", np.nanstd(rows.features_NF[:, 0])),
        **call(lambda self, request, rows: {"click": np.divide(rows.value_N, self.sd)}),
    ),
    "predicts_what_it_serves": broken(Scorer, predict=lambda self, rows: {"click": np.full(len(rows), 7.0)}),
    "builds_distinct_slates": broken(Slate, begin=lambda self, request, rows, shown=None: Step(rows.value_N)),
    "ignores_the_order_of_candidates": broken(
        Slate, begin=lambda self, request, rows, shown=None: Step(-np.arange(len(rows), dtype=float))
    ),
    "utilities_are_a_function_of_the_prefix": broken(
        Slate,
        begin=lambda self, request, rows, shown=None: type("Stuck", (Step,), {"choose": lambda s, row: None})(
            rows.value_N
        ),
    ),
    "fills_unscored_in_retrieval_order": broken(
        Slate, begin=lambda self, request, rows, shown=None: Step(np.nan_to_num(rows.value_N) + rows.keys_N)
    ),
    "embeds_as_rows_of_length_one": broken(Embedder, **call(lambda self, texts: 2 * Embedder.__call__(self, texts))),
    "gives_a_text_one_vector": broken(
        Embedder, **call(lambda self, texts: np.roll(Embedder.__call__(self, texts), len(texts), axis=1))
    ),
    "embeds_before_it_saw_any_text": broken(
        Embedder, fit=lambda self, texts: setattr(self, "words", ["a"] if not any(texts) else ["red", "blue"])
    ),
    "ends_short_on_nothing": broken(Slate, begin=lambda self, request, rows, shown=None: Step(np.zeros(3))),
}
EVERY = {holds.__name__.strip("_"): holds for listed in (COMMON, *OF_KIND.values()) for holds in listed}


def test_every_check_has_a_part_that_breaks_it():
    assert CASES.keys() == EVERY.keys()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.filterwarnings("ignore")
def test_the_check_catches_the_breach(name):
    part = CASES[name]
    check = Check(part, getattr(part, "examples", ({},))[0], EVERY[name])
    with pytest.raises((AssertionError, IndexError, ZeroDivisionError, ValueError)):
        check()


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_part_passes_all(kind, monkeypatch):
    monkeypatch.setitem(registry._parts, (kind, "sound"), SOUND[kind])
    for check in checks(kind, "sound"):
        check()
