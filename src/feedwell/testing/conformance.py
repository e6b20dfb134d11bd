"""What every part must hold, generated from the registry: one list of checks per kind, run on each of its examples."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from feedwell.core import registry
from feedwell.core.candidates import Retrieved
from feedwell.core.errors import NotTrained
from feedwell.core.keys import avoided, contains, union
from feedwell.core.needs import ColumnNeed, FeatureNeed, HistoryNeed, ObjectsNeed, RankingNeed
from feedwell.core.protocols import Examples, learns
from feedwell.core.sampler import build_slate
from feedwell.core.slate import Explore
from feedwell.testing import sample

_NEEDS = (FeatureNeed, ColumnNeed, HistoryNeed, ObjectsNeed, RankingNeed)
_DATA_FILES = {".safetensors", ".json", ".ubj", ".parquet", ".onnx", ".faiss"}
_SEEDS = range(6)


@dataclass(frozen=True)
class Check:
    """One thing that must hold of one part in one configuration; called, it raises AssertionError where it does not."""

    part: Any
    options: Mapping[str, Any]
    holds: Callable[[Any, Mapping[str, Any]], None]

    def __call__(self) -> None:
        self.holds(self.part, self.options)

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.part.name}({options})-{self.holds.__name__.strip('_')}"


def checks(kind: str, name: str) -> list[Check]:
    """The checks of the part filed under that kind and name."""
    part: Any = registry.find(kind, name)
    listed = _COMMON + _OF_KIND[kind]
    examples: Examples = getattr(part, "examples", ({},))
    return [Check(part, options, holds) for options in examples for holds in listed]


# Any kind


def _config_round_trips(part: Any, options: Mapping[str, Any]) -> None:
    config = part.Config(**options)
    _ensure(part.Config.model_validate(config.model_dump()) == config, "Config changes when dumped and read again")
    again = part.Config.model_validate_json(config.model_dump_json())
    _ensure(again == config, "Config changes when written as JSON and read again")


def _keys_say_when_they_apply(part: Any, options: Mapping[str, Any]) -> None:
    for key, field in part.Config.model_fields.items():
        when = (field.json_schema_extra or {}).get("when")
        _ensure(when in ("fit", "serve"), f"Config key '{key}' is marked neither fit(...) nor serve(...)")


def _unknown_keys_are_refused(part: Any, options: Mapping[str, Any]) -> None:
    try:
        part.Config(**options, no_such_key=1)
    except ValidationError:
        return
    raise AssertionError("Config takes an unknown key; derive it from PartConfig")


def _needs_are_stable_data(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    if part.kind == "embedder":
        return
    _ensure(all(isinstance(need, _NEEDS) for need in made.needs), f"needs hold something else: {made.needs}")
    _ensure(made.needs == made.needs == _made(part, options).needs, "needs differ from call to call")


def _untrained_says_so(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    if not learns(made):
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in ((_call, (made, 1)), (made.save, (Path(folder),))):
            try:
                name(*arguments)
            except NotTrained:
                continue
            raise AssertionError("used before `fit` or `load`, it did not raise NotTrained")


def _loads_what_it_saved(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    if not learns(made):
        return
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        made.save(Path(one))
        loaded = _made(part, options)
        loaded.load(Path(one))
        loaded.save(Path(two))
        _ensure(_needs(loaded) == _needs(made), "needs change over save and load")
        for seed in _SEEDS:
            _same(_call(made, seed), _call(loaded, seed), "after save and load")
        files = {path.name: path.read_bytes() for path in Path(one).iterdir()}
        _ensure(files == {p.name: p.read_bytes() for p in Path(two).iterdir()}, "saved again, the files differ")
        code = [name for name in files if Path(name).suffix not in _DATA_FILES]
        _ensure(not code, f"an artifact is data: {code} is none of {sorted(_DATA_FILES)}")


def _seed_decides(part: Any, options: Mapping[str, Any]) -> None:
    one, two = _trained(part, options), _trained(part, options)
    for seed in _SEEDS:
        _same(_call(one, seed), _call(two, seed), "made twice with one seed")
        _same(_call(one, seed), _call(one, seed), "called twice")


# Sources


def _retrieves_distinct_known_keys_best_first(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    for seed, width in itertools.product(_SEEDS, (1.0, 0.3, 1e-9)):
        request = sample.request(made.needs, seed, width=width)
        got: Retrieved = made(request)
        _ensure(got.keys_N.dtype == np.int64 and got.scores_N.dtype == np.float64, "keys are int64, scores float64")
        _ensure(len(got.keys_N) == len(got.scores_N), "as many scores as keys")
        _ensure(len(np.unique(got.keys_N)) == len(got.keys_N), "a key comes twice")
        live = () if learns(made) else (h.keys_L for h in request.side.histories.values())
        known = union(sample.KEYS, *live)
        _ensure(bool(contains(known, got.keys_N).all()), "a key that is neither in the catalog nor in a live history")
        _ensure(not contains(avoided(request), got.keys_N).any(), "k is spent on what will be dropped")
        scored = got.scores_N[~np.isnan(got.scores_N)]
        _ensure(bool((np.diff(scored) <= 0).all()), "not best first")
        k = made.config.k
        _ensure(len(got.keys_N) <= max(1, np.ceil(k * width)), f"{len(got.keys_N)} keys at k = {k}, width {width}")


def _serves_a_stranger(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    got = made(sample.stranger())
    _ensure(len(got.keys_N) == len(got.scores_N) <= made.config.k, "a stranger's list is malformed")


def _serves_one_whose_items_are_unknown(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    request = sample.request(made.needs, 1)
    histories = {
        need: replace(h, keys_L=np.resize(sample.UNKNOWN, len(h.keys_L))) for need, h in request.side.histories.items()
    }
    made(replace(request, side=replace(request.side, histories=histories)))


def _learns_from_nothing(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    if not learns(made):
        return
    made.fit(sample.interactions(n=0))
    _ensure(len(_call(made, 1).keys_N) == 0, "fitted on no event, it retrieves something")
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder))
        _made(part, options).load(Path(folder))


def _batch_equals_call(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    if not hasattr(made, "batch"):
        return
    requests = [sample.stranger(), *(sample.request(made.needs, seed) for seed in range(40)), sample.stranger()]
    together = made.batch(requests)
    _ensure(len(together) == len(requests), "batch answers another number of requests")
    for request, got in zip(requests, together, strict=True):
        _same(got, made(request), "in a batch and alone")
    _ensure(list(made.batch([])) == [], "an empty batch has no answers")


# Filters and scorers


def _permutes_with_the_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    for seed in _SEEDS:
        rows, request = sample.candidates(seed, needs=made.needs), sample.request(made.needs, seed)
        order = np.random.default_rng(seed).permutation(len(rows))
        before, after = made(request, rows), made(request, rows.take(order))
        if isinstance(before, np.ndarray):
            before, after = {"": before}, {"": after}
        for name, column in before.items():
            message = f"column '{name}' does not follow the order of the candidates"
            _ensure(_near(column[order], after[name]), message)


def _takes_no_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    got = made(sample.request(made.needs), sample.candidates(1, n=0, needs=made.needs))
    for column in got.values() if isinstance(got, Mapping) else [got]:
        _ensure(column.shape == (0,), "no candidates, but a column with rows")


def _keeps_by_a_mask(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    for seed in _SEEDS:
        rows, request = sample.candidates(seed, needs=made.needs), sample.request(made.needs, seed)
        keep_N = made(request, rows)
        _ensure(keep_N.dtype == np.bool_ and keep_N.shape == (len(rows),), "a filter returns a bool per candidate")
        if hasattr(made, "skips"):
            skips = made.skips(request)
            _ensure(bool((np.diff(skips) > 0).all()), "skips are not sorted and distinct")
            _ensure(not keep_N[contains(skips, rows.keys_N)].any(), "it keeps what `skips` says it would drop")
    made(sample.stranger(), sample.candidates(1, needs=made.needs))


def _scores_as_columns(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    for seed in _SEEDS:
        rows = sample.candidates(seed, needs=made.needs)
        for request in (sample.request(made.needs, seed), sample.stranger()):
            got = made(request, rows)
            _ensure(len(got) > 0, "no column")
            for name, column in got.items():
                good = column.dtype == np.float64 and column.shape == (len(rows),)
                _ensure(good, f"column '{name}' is not float64 with a row per candidate")
                _ensure(not np.isinf(column).any(), f"column '{name}' holds an infinity")


def _fits_where_nothing_varies(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    if not learns(made):
        return
    rows = sample.ranking_rows(made.needs)
    flat = replace(
        rows,
        features_NF=np.full_like(rows.features_NF, np.nan),
        labels={name: np.zeros_like(y) if name == "hide" else np.ones_like(y) for name, y in rows.labels.items()},
    )
    made.fit(flat)
    for name, column in made(sample.request(made.needs), sample.candidates(1, needs=made.needs)).items():
        _ensure(bool(np.isfinite(column).all()), f"column '{name}' is not a number though every label was alike")


def _predicts_what_it_serves(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    if not hasattr(made, "predict"):
        return
    for seed in _SEEDS:
        request, rows = sample.request(made.needs, seed), sample.candidates(seed, needs=made.needs)
        served, predicted = made(request, rows), made.predict(sample.rows_of(request, rows))
        _ensure(list(served) == list(predicted), "`predict` has other columns than a call")
        for name, column in served.items():
            same = np.allclose(column, predicted[name], rtol=1e-4, atol=1e-6, equal_nan=True)
            _ensure(same, f"column '{name}': `predict` on a request's rows is not what the request is given")


# Slate policies


def _builds_distinct_slates(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    for seed, explore in itertools.product(_SEEDS, (Explore(), Explore(last=5, pool=4))):
        rows, request = sample.candidates(seed), sample.request(made.needs, seed)
        rows = rows.dropped(np.arange(len(rows)) % 6 == 0, "a test")
        built = [
            build_slate(made.begin(request, rows), rows.keys_N, 10, np.random.default_rng(seed), explore) for _ in "ab"
        ]
        _ensure(built[0].rows_n.tolist() == built[1].rows_n.tolist(), "one seed, two slates")
        _ensure(len(np.unique(built[0].rows_n)) == len(built[0].rows_n), "a row is chosen twice")
        _ensure(bool(rows.alive_N[built[0].rows_n].all()), "a dropped row is chosen")
        _ensure(bool(((built[0].propensity_n > 0) & (built[0].propensity_n <= 1)).all()), "a propensity outside (0, 1]")


def _ignores_the_order_of_candidates(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    for seed, explore in itertools.product(_SEEDS, (Explore(), Explore(last=5, pool=4))):
        rows, request = sample.candidates(seed), sample.request(made.needs, seed)
        chosen = []
        for order in (np.arange(len(rows)), np.random.default_rng(seed).permutation(len(rows))):
            moved = rows.take(order)
            step = made.begin(request, moved)
            slate = build_slate(step, moved.keys_N, 8, np.random.default_rng(seed), explore)
            chosen.append(moved.keys_N[slate.rows_n].tolist())
        _ensure(chosen[0] == chosen[1], f"the order of the candidates changes the slate: {chosen}")


def _utilities_are_a_function_of_the_prefix(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    rows, request = sample.candidates(1), sample.request(made.needs, 1)
    step = made.begin(request, rows)
    for _ in range(5):
        u_N = step.utilities()
        _ensure(u_N.shape == (len(rows),), "one utility per candidate")
        _ensure(np.array_equal(u_N, step.utilities(), equal_nan=True), "asked twice, the utilities differ")
        row = int(np.flatnonzero(np.isfinite(u_N))[0])
        step.choose(row)
        _ensure(step.utilities()[row] == -np.inf, "a chosen candidate is still feasible")


def _fills_unscored_in_retrieval_order(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    rows = sample.candidates(1)
    rows = rows.with_columns(value_N=np.full(len(rows), np.nan), group_N=np.full(len(rows), -1))
    if any(need for need in made.needs if isinstance(need, ColumnNeed) and need.column not in ("created_at",)):
        return
    slate = build_slate(made.begin(sample.request(()), rows), rows.keys_N, 5, np.random.default_rng(1), Explore(last=5))
    _ensure(slate.rows_n.tolist() == [0, 1, 2, 3, 4] and slate.unscored, "unscored rows are not in retrieval order")


def _ends_short_on_nothing(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    rows = sample.candidates(1, n=0)
    slate = build_slate(made.begin(sample.request(()), rows), rows.keys_N, 5, np.random.default_rng(1))
    _ensure(not len(slate.rows_n) and bool(slate.short), "no candidates, but a slate, or no word why it is short")


# Embedders


def _embeds_as_rows_of_length_one(part: Any, options: Mapping[str, Any]) -> None:
    made = _trained(part, options)
    for texts in (sample.texts(), ["", "!?", "nosuchwordanywhere"], []):
        got_ND = made(texts)
        _ensure(got_ND.dtype == np.float32 and got_ND.shape == (len(texts), made.dim), "not float32 [N, dim]")
        length_N = np.linalg.norm(got_ND, axis=1)
        known = np.isclose(length_N, 1, atol=1e-4) | (length_N == 0)
        _ensure(bool(known.all()), f"a row is neither of length 1 nor all zeros: {length_N}")
    _ensure(not made(["", "!?"]).any(), "a text without a word has a direction")
    _ensure(bool(made(sample.texts()).any()), "it says nothing about any text")


def _gives_a_text_one_vector(part: Any, options: Mapping[str, Any]) -> None:
    made, texts = _trained(part, options), sample.texts()
    order = np.random.default_rng(1).permutation(len(texts))
    together = made(texts)
    for moved, when in (
        (made([texts[i] for i in order]), "in another order"),
        (_one_by_one(made, texts, order), "alone"),
    ):
        _ensure(_near(moved, together[order]), f"a text has another vector {when}")


def _embeds_before_it_saw_any_text(part: Any, options: Mapping[str, Any]) -> None:
    made = _made(part, options)
    if not learns(made):
        return
    for nothing in ([], ["", "..."]):
        made.fit(nothing)
        _ensure(not made(["a word"]).any(), "fitted on no word, it knows one")


def _one_by_one(made: Any, texts: list[str], order: NDArray[np.intp]) -> NDArray[np.float32]:
    return np.concatenate([made([texts[i]]) for i in order])


def _needs(made: Any) -> Any:
    return getattr(made, "needs", ())


def _made(part: Any, options: Mapping[str, Any]) -> Any:
    return part(part.Config(**options), sample.setting(part.name))


def _trained(part: Any, options: Mapping[str, Any]) -> Any:
    made = _made(part, options)
    if learns(made):
        made.fit(_FIT_ON[part.kind](_needs(made)))
    return made


def _call(made: Any, seed: int) -> Any:
    """What the part answers in the sample world."""
    if made.kind == "embedder":
        return made(sample.texts(seed))
    request = sample.request(made.needs, seed)
    if made.kind == "source":
        return made(request)
    rows = sample.candidates(seed, needs=made.needs)
    if made.kind == "slate":
        step = made.begin(request, rows)
        return step.utilities()
    return made(request, rows)


def _same(a: Any, b: Any, when: str) -> None:
    """Equal answers. Scores may differ in the last bits, and keys only where their scores are as near as that."""
    if isinstance(a, Retrieved):
        message = f"{when}: {a} is not {b}"
        _ensure(a.keys_N.shape == b.keys_N.shape and _near(a.scores_N, b.scores_N), message)
        scores = dict(zip(a.keys_N.tolist(), a.scores_N, strict=True))
        moved = a.keys_N != b.keys_N
        near = [
            abs(scores.get(int(k), s) - s) <= 1e-5 * max(1.0, abs(s))
            for k, s in zip(b.keys_N[moved], b.scores_N[moved], strict=True)
        ]
        _ensure(all(near), message)
        return
    columns = (a, b) if isinstance(a, Mapping) else ({"": a}, {"": b})
    _ensure(list(columns[0]) == list(columns[1]), f"{when}: other columns")
    for name, column in columns[0].items():
        _ensure(
            np.array_equal(column, columns[1][name], equal_nan=column.dtype.kind == "f"),
            f"{when}: column '{name}' differs",
        )


def _near(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True))


def _ensure(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


_FIT_ON: Mapping[str, Callable[[Any], Any]] = {
    "source": lambda _: sample.interactions(),
    "scorer": sample.ranking_rows,
    "embedder": lambda _: sample.texts(),
}
"""kind → (its needs →) what such a part learns from in the sample world."""
_COMMON = [
    _config_round_trips,
    _keys_say_when_they_apply,
    _unknown_keys_are_refused,
    _needs_are_stable_data,
    _untrained_says_so,
    _loads_what_it_saved,
    _seed_decides,
]
_OF_KIND = {
    "source": [
        _retrieves_distinct_known_keys_best_first,
        _serves_a_stranger,
        _serves_one_whose_items_are_unknown,
        _learns_from_nothing,
        _batch_equals_call,
    ],
    "filter": [_keeps_by_a_mask, _permutes_with_the_candidates, _takes_no_candidates],
    "scorer": [
        _scores_as_columns,
        _permutes_with_the_candidates,
        _takes_no_candidates,
        _fits_where_nothing_varies,
        _predicts_what_it_serves,
    ],
    "embedder": [_embeds_as_rows_of_length_one, _gives_a_text_one_vector, _embeds_before_it_saw_any_text],
    "slate": [
        _builds_distinct_slates,
        _ignores_the_order_of_candidates,
        _utilities_are_a_function_of_the_prefix,
        _fills_unscored_in_retrieval_order,
        _ends_short_on_nothing,
    ],
}
