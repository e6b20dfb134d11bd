"""A small world to run parts in: interactions, training rows, requests and candidates, by seed and by need.

E events, N candidates, F features
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feedwell.core.candidates import Candidates, Retrieved, merge
from feedwell.core.clock import DAY, HOUR
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, Need, ObjectsNeed, RankingNeed
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Histories, Interactions, RankingRows, Setting
from feedwell.core.request import History, Keys, Ranking, Request, UserSide

N_USERS, N_ITEMS, NOW = 30, 40, 1_800_000_000_000_000
KEYS: Keys = np.arange(N_ITEMS, dtype=np.int64) * 7 + 3
"""The catalog: keys with gaps, so that a row is never mistaken for a key."""
UNKNOWN: Keys = np.array([0, 1, 10_000_000_000], np.int64)
OF_ITEMS = ("f0", "f1", "key")
FEATURES = (*OF_ITEMS, "user_age")
COLUMNS = ("created_at", "expires_at", "available", "in_stock", "merchant")


def setting(name: str = "part", seed: int = 1) -> Setting:
    return Setting(
        name=name,
        seed=seed,
        event_types=("view", "like", "unlike", "hide", "block"),
        undone_by={"like": "unlike"},
        objectives={
            "click": ObjectiveConfig(events=("view",)),
            "buy": ObjectiveConfig(events=("like",), given="click", weight=20.0),
            "dwell": ObjectiveConfig(events=("view",), kind="duration", weight=1e-6),
            "hide": ObjectiveConfig(events=("hide",), direction="down"),
        },
        item_columns=COLUMNS,
        group="creator",
        extra={"created_at": "created_at", "expires_at": "expires_at", "available": "available"},
    )


def interactions(seed: int = 1, n: int = 600) -> Interactions:
    """Events over the catalog, some undone; n = 0 is the log on its first day."""
    rng = np.random.default_rng(seed)
    made = Interactions(
        user_E=rng.integers(0, N_USERS, n),
        item_E=KEYS[np.minimum(rng.geometric(0.1, n) - 1, N_ITEMS - 1)],
        at_E=NOW - np.sort(rng.integers(1, 20 * DAY, n))[::-1],
        type_E=rng.integers(0, 3, n).astype(np.int16),
        types=("view", "like", "unlike"),
        undone_E=rng.random(n) < 0.1,
        until=NOW,
    )
    for column in (made.user_E, made.item_E, made.at_E, made.type_E):
        column.setflags(write=False)
    return made


def request(needs: Sequence[Need], seed: int = 1, *, n: int = 10, width: float = 1.0) -> Request:
    """A warm user's request with all `needs` filled; some of the history, objects and ranking unknown to any model."""
    rng = np.random.default_rng([seed, 2])
    return Request(
        request_id=f"request-{seed}",
        user_id=f"user {seed}",
        user=int(rng.integers(N_USERS)),
        t=NOW,
        n=n,
        skip=_some(rng, 4),
        exclude=_some(rng, 2),
        width=width,
        side=UserSide(
            features={"user_age": float(rng.integers(18, 80))},
            histories={need: _history(rng, need) for need in needs if isinstance(need, HistoryNeed)},
            objects={need: _some(rng, 6) for need in needs if isinstance(need, ObjectsNeed)},
            rankings={need: _ranking(rng, need) for need in needs if isinstance(need, RankingNeed)},
        ),
    )


def stranger() -> Request:
    """Nobody that we know of: no key, nothing read."""
    return Request(request_id="request-0", user_id="stranger", t=NOW, n=10)


def candidates(seed: int = 1, n: int = 25, needs: Sequence[Need] = ()) -> Candidates:
    """Candidates of two sources with features, columns (all that are needed), groups, predictions and values; some of
    each missing."""
    rng = np.random.default_rng([seed, 3])
    keys_N = rng.permutation(np.concatenate([KEYS, UNKNOWN]))[:n].astype(np.int64)
    half = Retrieved(keys_N=keys_N[: n // 2], scores_N=-np.sort(-rng.random(n // 2)))
    rows = merge([("one", half), ("two", Retrieved(keys_N=keys_N, scores_N=-np.sort(-rng.random(n))))])
    features_NF = rng.normal(size=(n, len(OF_ITEMS))).astype(np.float32)
    features_NF[:, 2] = rng.integers(0, 6, n)
    features_NF[rng.random(features_NF.shape) < 0.1] = np.nan
    columns = {
        "item.created_at": NOW - rng.integers(0, 5 * DAY, n).astype(np.float64),
        "item.expires_at": NOW + rng.integers(-HOUR, DAY, n).astype(np.float64),
        "item.available": rng.integers(0, 2, n).astype(np.float64),
        "item.in_stock": rng.integers(0, 2, n).astype(np.float64),
        "item.merchant": rng.integers(0, 5, n).astype(np.float64),
    }
    wanted = [f"{need.entity}.{need.column}" for need in needs if isinstance(need, ColumnNeed)]
    columns |= {name: rng.lognormal(3.0, 1.0, n) for name in wanted if name not in columns}
    for column in columns.values():
        column[rng.random(n) < 0.1] = np.nan
    extra = [need.column for need in needs if isinstance(need, FeatureNeed) and need.column not in FEATURES]
    return rows.with_columns(
        features_NF=np.concatenate([features_NF, np.zeros((n, len(extra)), np.float32)], axis=1),
        feature_names=(*OF_ITEMS, *extra),
        columns=columns,
        group_N=rng.integers(-1, 5, n),
        predictions={name: rng.random(n) for name in ("click", "buy", "dwell", "hide")},
        value_N=rng.normal(size=n),
    ).take(np.arange(n))


def ranking_rows(needs: Sequence[Need] = (), seed: int = 1, n: int = 400) -> RankingRows:
    """Rows in which every feature has some say, with labels of three kinds, some unknown; ten rows to a request."""
    rng = np.random.default_rng([seed, 4])
    x_NF = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    x_NF[:, 2] = rng.integers(0, 5, n)
    click_N = (rng.random(n) < 1 / (1 + np.exp(-2 * x_NF[:, 0] - (x_NF[:, 2] == 1)))).astype(np.float64)
    x_NF[rng.random(x_NF.shape) < 0.1] = np.nan
    click_N[:10] = np.nan
    return RankingRows(
        features_NF=x_NF,
        feature_names=FEATURES,
        labels={
            "click": click_N,
            "buy": np.where(click_N > 0, (rng.random(n) < 0.3).astype(np.float64), 0.0),
            "dwell": rng.exponential(3e6, n) * (rng.random(n) < 0.5),
            "hide": (rng.random(n) < 0.05).astype(np.float64),
        },
        group_N=np.arange(n) // 10,
        weight_N=rng.random(n) + 0.5,
        valid_N=np.arange(n) % 5 == 0,
        predictions={name: rng.random(n) for name in ("click", "buy", "dwell", "hide")},
        user_N=np.arange(n) // 10 % N_USERS,
        item_N=rng.choice(np.concatenate([KEYS, UNKNOWN]), n),
        t_N=np.full(n, NOW),
        histories={
            need: together([_history(rng, need) for _ in range(-(-n // 10))])
            for need in needs
            if isinstance(need, HistoryNeed)
        },
        user_features=("user_age",),
    )


def rows_of(request: Request, rows: Candidates) -> RankingRows:
    """The same candidates of the same request as ranking rows, with the features that `ranking_rows` has."""
    n = len(rows)
    of_user = np.full(n, request.side.features.get("user_age", np.nan), np.float32)
    return RankingRows(
        features_NF=np.stack([*(rows.feature(name) for name in OF_ITEMS), of_user], axis=1),
        feature_names=FEATURES,
        labels={},
        group_N=np.zeros(n, np.int64),
        weight_N=np.ones(n),
        valid_N=np.zeros(n, np.bool_),
        user_N=np.full(n, request.user),
        item_N=rows.keys_N,
        t_N=np.full(n, request.t),
        histories={need: together([history]) for need, history in request.side.histories.items()},
    )


def together(histories: Sequence[History]) -> Histories:
    """One request's history after the other."""
    return Histories(
        indptr_R=np.cumsum([0, *(len(h.keys_L) for h in histories)]),
        keys_E=np.concatenate([h.keys_L for h in histories]),
        at_E=np.concatenate([h.at_L for h in histories]),
        type_E=np.concatenate([h.type_L for h in histories]),
    )


def texts(seed: int = 1, n: int = 24) -> list[str]:
    """Titles of few words, in several scripts, some empty: what items are called."""
    rng = np.random.default_rng([seed, 5])
    words = np.array(
        ["red", "blue", "old", "new", "shoes", "boots", "coat", "für", "straße", "дом", "靴", "42", "x-ray", "café"]
    )
    return ["" if i % 8 == 7 else " ".join(rng.choice(words, rng.integers(1, 6))) for i in range(n)]


def _some(rng: np.random.Generator, n: int) -> Keys:
    keys = np.sort(rng.choice(np.concatenate([KEYS, UNKNOWN]), n, replace=False))
    keys.setflags(write=False)
    return keys


def _history(rng: np.random.Generator, need: HistoryNeed) -> History:
    n = min(need.n, 12)
    keys_L = rng.choice(np.concatenate([KEYS, UNKNOWN]), n)
    keys_L.setflags(write=False)
    at_L = NOW - np.sort(rng.integers(1, DAY, n))[::-1]
    return History(keys_L=keys_L, at_L=at_L, type_L=np.zeros(n, np.int16))


def _ranking(rng: np.random.Generator, need: RankingNeed) -> Ranking:
    n = min(need.k, N_ITEMS)
    best = 20.0 if need.by == "decayed" else float(NOW)
    step = 0.5 if need.by == "decayed" else 3.0 * HOUR
    keys_N = rng.permutation(KEYS)[:n]
    keys_N.setflags(write=False)
    return Ranking(keys_N=keys_N, scores_N=best - step * np.arange(n, dtype=np.float64))
