"""The neural ranker where only what items say tells them apart: learned, written, and for items that came later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.candidates import Retrieved, merge
from feedwell.core.catalog import CatalogAsOf, CatalogTable, FollowsCatalog, follows
from feedwell.core.embedding import make_embedder
from feedwell.core.errors import DataError, UsageError
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import RankingRows, Setting
from feedwell.core.request import Request
from feedwell.scorers._content import Content
from tests.scorers.test_mmoe import auc

NOW = 10**15
GOOD, BAD = "a fine and sturdy thing", "a cheap and flimsy thing"
CONFIG = {
    "epochs": 6,
    "patience": 6,
    "batch_size": 256,
    "learning_rate": 0.02,
    "history": 0,
    "expert_layers": (8,),
    "experts": 1,
    "cross_layers": 1,
}
SETTING = Setting(
    name="ranker", objectives={"click": ObjectiveConfig(events=("view",))}, event_types=("view",), item_text=("title",)
)


def made(**config):
    part = registry.find("scorer", "mmoe")
    return part(part.Config(**CONFIG | config), SETTING)


def texts_of(keys):
    """Every other item is good; each says so beside a word of its own."""
    return tuple(f"{GOOD if key % 2 else BAD} no{key}" for key in keys)


def table(keys, at=0, texts=None):
    keys = np.asarray(keys, np.int64)
    return CatalogTable(keys_M=keys, at_M=np.full(len(keys), at), text_M=texts or texts_of(keys))


def rows(first=0, n_items=200, seed=0, items=True):
    """Each item in four rows: too few for a vector of its own; what is good is clicked four times in five."""
    rng = np.random.default_rng(seed)
    item_N = rng.permutation(np.repeat(first + np.arange(n_items), 4))
    n = len(item_N)
    return RankingRows(
        features_NF=rng.normal(size=(n, 1)).astype(np.float32),
        feature_names=("f0",),
        labels={"click": (rng.random(n) < np.where(item_N % 2, 0.8, 0.2)).astype(float)},
        group_N=np.arange(n) // 10,
        weight_N=np.ones(n),
        valid_N=np.arange(n) >= n * 4 // 5,
        user_N=np.arange(n) // 10,
        item_N=item_N,
        t_N=np.full(n, NOW),
        items=CatalogAsOf(table=table(first + np.arange(n_items)), until=NOW, offset=77) if items else CatalogAsOf(),
    )


@pytest.fixture(scope="module")
def fitted():
    part = made(embed="text")
    part.fit(rows())
    return part


def asked(part, keys, delta=None):
    keys_N = np.asarray(keys, np.int64)
    candidates = merge([("one", Retrieved(keys_N=keys_N, scores_N=np.zeros(len(keys_N))))])
    candidates = candidates.with_columns(features_NF=np.zeros((len(keys_N), 1), np.float32), feature_names=("f0",))
    deltas = {} if delta is None else {"ranker": delta}
    return part(Request(request_id="r", user_id="u", t=NOW, n=5, deltas=deltas), candidates)["click"]


def test_what_only_the_text_tells_is_learned_from_the_text(fitted):
    plain = made()
    plain.fit(rows())
    new = rows(first=1000, seed=1)
    found = [auc(new.labels["click"], part.predict(new)["click"]) for part in (fitted, plain)]
    assert found[0] > 0.75, found
    assert found[1] < 0.6, found


def test_a_new_item_is_scored_by_what_it_says(fitted):
    unknown = asked(fitted, [5001, 5002])
    assert unknown[0] == unknown[1], "of neither is anything known"
    told = asked(fitted, [5001, 5002], fitted.grown(table([5001, 5002], at=NOW + 1), None))
    assert told[0] > unknown[0] > told[1]


def test_the_newest_row_counts(fitted):
    assert isinstance(fitted, FollowsCatalog)
    assert follows(fitted)
    assert not follows(made())
    assert fitted.grown(table([1, 2], at=-1), None) is None, "the artifact has newer ones"
    good, bad = asked(fitted, [1, 2])
    swapped = fitted.grown(table([1, 2], at=NOW + 1, texts=texts_of([2, 1])), None)
    after = asked(fitted, [1, 2], swapped)
    assert good > after[0]
    assert after[1] > bad
    back = fitted.grown(table([2, 7001], at=NOW + 2), swapped)
    again = asked(fitted, [1, 2, 7001], back)
    assert again[:2].tolist() == [after[0], bad]
    assert back.keys_M.tolist() == [1, 2, 7001]
    assert swapped.keys_M.tolist() == [1, 2], "a delta never changes"
    late = fitted.grown(table([2, 7002], at=NOW + 1, texts=texts_of([1, 2])), back)
    assert asked(fitted, [1, 2, 7001], late).tolist() == again.tolist(), "older than what is known"
    assert late.keys_M.tolist() == [1, 2, 7001, 7002]
    assert late.since(np.array([2, 3, 7002])).tolist() == [NOW + 2, -1, NOW + 1]


def test_a_row_that_comes_late_counts_by_its_time(fitted):
    corrected = fitted.grown(table([1, 2], at=0, texts=texts_of([2, 1])), None)
    assert corrected.keys_M.tolist() == [1, 2], "the later one in the log of those of one time"
    earlier = replace(fitted._model.content, offset=-1)
    assert earlier.grown(table([1, 2], at=0), None, fitted._embedder) is None, "it has the last of each"
    assert earlier.grown(table([1, 2], at=1), None, fitted._embedder).keys_M.tolist() == [1, 2]


def test_what_says_nothing_is_marked():
    embedder = make_embedder(SETTING, "hashing")
    content = Content.fit(CatalogAsOf(table=table([3, 8], texts=("", GOOD)), until=NOW), embedder)
    read = content.read(np.array([8, 3, 99]))
    assert read.shape == (3, 257)
    assert read[:, -1].tolist() == [0, 1, 1]
    assert not read[1:, :-1].any()
    assert np.linalg.norm(read[0, :-1]) == pytest.approx(1, abs=1e-3)


def test_an_embedder_without_texts_is_told():
    part = registry.find("scorer", "mmoe")
    with pytest.raises(UsageError, match=r"ranker.embed = 'text'.*declares no `text`"):
        part(part.Config(embed="text"), Setting(name="ranker"))
    with pytest.raises(DataError, match="no item has a catalog row"):
        made(embed="hashing").fit(rows(items=False))
