"""Labels against a slow reading of their rules, which shares nothing with the SQL; and mutants that must be caught."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedwell.core.clock import DAY, HOUR, MINUTE, SECOND
from feedwell.core.errors import UsageError
from feedwell.core.project import Project, SplitSection
from feedwell.data import exposure as exposure_module
from feedwell.data import labels as labels_module
from feedwell.data.exposure import exposures, held
from feedwell.data.interactions import user_events
from feedwell.data.labels import labels
from feedwell.data.split import spans
from feedwell.training.coverage import served_counts, unseen

WITHIN = 6


def project(**objectives):
    return Project.model_validate(
        {
            "project": {"name": "p"},
            "data": {"exposure": ["view"]},
            "event": {"like": {"undone_by": "unlike"}, "save": {"undone_by": "unsave"}},
            "objective": objectives
            or {
                "like": {"events": ["like"], "within": WITHIN},
                "any": {"events": ["like", "save", "buy"], "within": WITHIN, "kind": "count"},
                "paid": {"events": ["buy"], "within": WITHIN, "kind": "amount", "where": "value >= 2"},
                "buy_after_like": {"events": ["buy"], "within": WITHIN, "given": "like"},
                "rated": {"events": ["view"], "within": 1, "where": "value >= 2"},
            },
        }
    )


logs = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, 1),
        st.sampled_from(["view", "view", "like", "unlike", "save", "unsave", "buy"]),
        st.integers(0, 4),
        st.sampled_from([None, 1.0, 2.0, 5.0]),
    ),
    max_size=25,
)
slack = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def events_of(data):
    t, rows = 0, []
    for user, item, type_, step, value in data:
        t += step
        rows.append({"type": type_, "user": user, "item": item, "available_at": t, "ts": t, "value": value})
    return rows


def slow(declared, events, shown, until, alone=False):
    """Every label by the words of the design, one event at a time."""
    out = []
    for i, (t, _, user, item) in enumerate(shown):
        row = {}
        for name, objective in declared.objective.items():
            if t + objective.within > until:
                row[name] = math.nan
                continue
            total = 0.0
            for o, e in events.items():
                if e["type"] not in objective.events or (e["user"], e["item"]) != (user, item):
                    continue
                if not all(term.holds(e[term.column]) for term in objective.terms):
                    continue
                at = (e["available_at"], o)
                before = [
                    (ts, so, j)
                    for j, (ts, so, su, si) in enumerate(shown)
                    if (su, si) == (user, item) and (ts, so) <= at and (j == i or not alone)
                ]
                if not before or max(before)[2] != i or not e["available_at"] < t + objective.within:
                    continue
                undo = declared.undone_by.get(e["type"])
                if any(
                    u["type"] == undo
                    and (u["user"], u["item"]) == (user, item)
                    and (u["available_at"], uo) > at
                    and u["available_at"] < t + objective.within
                    for uo, u in events.items()
                ):
                    continue
                total += (e["value"] or 0.0) if objective.kind in ("amount", "duration") else 1.0
            row[name] = float(total > 0) if objective.kind == "binary" else total
        for name, objective in declared.objective.items():
            if objective.given and not row[objective.given] > 0:
                row[name] = math.nan
        out.append(row)
    return out


def slow_by_user(declared, events, shown, until):
    """The same, user by user: labels of one user never depend on another's events."""
    want = [None] * len(shown)
    for user in {row[2] for row in shown}:
        mine = [i for i, row in enumerate(shown) if row[2] == user]
        # Offsets stay those of the whole log.
        own = [e if e["user"] == user else e | {"type": ""} for e in events]
        own_events = {o: e for o, e in enumerate(own) if e["type"]}
        for i, row in zip(mine, slow(declared, own_events, [shown[i] for i in mine], until), strict=True):
            want[i] = row
    return want


def differs(log_of, data):
    declared, events = project(), events_of(data)
    view = log_of(events)
    shown = exposures(view, declared)
    found = labels(view, declared, shown)
    keys = list(zip(*(shown[c].to_pylist() for c in ("t", "offset", "user", "item")), strict=True))
    want = slow_by_user(declared, events, keys, view.end())
    for name in declared.objective:
        if not np.array_equal(found[f"y_{name}"].to_numpy(), [w[name] for w in want], equal_nan=True):
            return True
    return False


@given(logs)
@slack
def test_labels_equal_the_slow_reading(log_of, data):
    assert not differs(log_of, data)


def test_labels_equal_the_slow_reading_for_hundreds_of_users(log_of):
    rng = np.random.default_rng(11)
    types = ["view", "view", "like", "unlike", "save", "unsave", "buy"]
    data = [
        (int(u), int(i), types[k], int(step), [None, 1.0, 2.0, 5.0][v])
        for u in range(400)
        for i, k, step, v in zip(*(rng.integers(0, high, 20) for high in (2, 7, 5, 4)), strict=True)
    ]
    assert not differs(log_of, [data[i] for i in rng.permutation(len(data))[:4_000]])
    assert not differs(log_of, data)


retrieved = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 60)), min_size=1, max_size=8)


def differs_alone(log_of, data, rows):
    """Whether labels of rows (user, item, t) that were retrieved and not shown differ from the slow reading."""
    declared, events = project(), events_of(data)
    view = log_of(events)
    user, item, t = (pa.array(cells, pa.int64()) for cells in zip(*rows, strict=True))
    table = exposure_module.conformed(pa.table({"user": user, "item": item, "t": t}), declared, "retrieved")
    found = labels(view, declared, table, alone=True)
    keys = [(t, -1, user, item) for user, item, t in rows]
    want = slow(declared, dict(enumerate(events)), keys, view.end(), alone=True)
    return any(
        not np.array_equal(found[f"y_{name}"].to_numpy(), [w[name] for w in want], equal_nan=True)
        for name in declared.objective
    )


@given(logs, retrieved)
@settings(slack, max_examples=12)
def test_labels_of_what_stands_alone_equal_the_slow_reading(log_of, data, rows):
    assert not differs_alone(log_of, data, rows)


MUTANTS = {
    "an ignored undo": ("_LATEST", "coalesce(undone_at >= stop, TRUE)", "TRUE"),
    "an undo after the window counts": ("_LATEST", "coalesce(undone_at >= stop, TRUE)", "undone_at IS NULL"),
    "an undo before counts": (
        "_LATEST",
        "{undone_at}",
        'min(CASE WHEN undoes THEN available_at END) OVER (PARTITION BY "user", object)',
    ),
    "a window with its end": ("_LATEST", "t < stop", "t <= stop"),
    "every exposure before gets it": ("_LATEST", "last_value(_row IGNORE", "first_value(_row IGNORE"),
    "ties by kind, not by offset": ("_LATEST", 'ORDER BY t, "offset", kind', 'ORDER BY t, kind, "offset"'),
    "alone, an ignored undo": ("_ACTS", "type <> {do} AS undoes", "FALSE AS undoes"),
    "alone, an undo before counts no more": ("_LINE", '"offset", kind', "undoes DESC"),
    "alone, a window with its end": ("_LINE", "-9223372036854775808", "9223372036854775807"),
    "alone, without what comes at once": ("_LINE", 't, "offset", 0', "t, 99, 0"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_caught(log_of, monkeypatch, mutant):
    name, old, new = MUTANTS[mutant]
    text = getattr(labels_module, name)
    assert old in text
    monkeypatch.setattr(labels_module, name, text.replace(old, new))
    rng = np.random.default_rng(1)
    types = ["view", "view", "like", "unlike", "buy"]
    for _ in range(60):
        steps = rng.integers(0, 5, 25) * (rng.random(25) < 0.6)
        data = [(0, 0, types[rng.integers(5)], int(s), 2.0) for s in steps]
        asked = [(0, 0, int(t)) for t in rng.integers(0, steps.sum() + 1, 6)]
        if differs_alone(log_of, data, asked) if mutant.startswith("alone") else differs(log_of, data):
            return
    pytest.fail(f"labels with {mutant} passed")


def test_a_day_of_one_act_on_one_object_is_labelled_alone_without_meeting_each_with_each(log_of):
    """20,000 rows and 20,000 likes of one user and item: 400 million pairs would be 3 GB and half a minute."""
    declared = project(like={"events": ["like"], "within": 1_000, "kind": "count"})
    n = 20_000
    view = log_of([{"type": "like", "user": 0, "item": 0, "available_at": at, "ts": at} for at in range(n)])
    zeros = pa.array(np.zeros(n, np.int64))
    table = pa.table({"user": zeros, "item": zeros, "t": pa.array(np.arange(n))})
    found = labels(view, declared, exposure_module.conformed(table, declared, "retrieved"), alone=True)
    y = found["y_like"].to_numpy()
    assert (y[: n - 999] == 1_000).all()
    assert np.isnan(y[n - 999 :]).all()


def without_exposure(**objectives):
    declared = project(**objectives)
    return declared.model_copy(update={"data": declared.data.model_copy(update={"exposure": ()})})


def view_at(t, **more):
    return {"type": "view", "user": 1, "item": 1, "available_at": t} | more


def of(log_of, declared, events, **keywords):
    view = log_of(events)
    return labels(view, declared, exposures(view, declared, **keywords))


def test_an_open_window_is_marked_not_guessed(log_of):
    declared = project(like={"events": ["like"], "within": 10})
    end = {"type": "x", "user": 9, "item": 9, "available_at": 14}
    found = of(
        log_of, declared, [view_at(0), view_at(5, item=2), view_at(6, item=3), {**view_at(7), "type": "like"}, end]
    )
    assert found["y_like"].to_pylist()[:2] == [1.0, 0.0]
    assert math.isnan(found["y_like"].to_pylist()[2])


def test_until_closes_a_span_before_its_future(log_of):
    declared = project(like={"events": ["like"], "within": 10})
    view = log_of([view_at(0), {**view_at(7), "type": "like"}, {"type": "x", "user": 9, "item": 9, "available_at": 99}])
    shown = exposures(view, declared)
    for until, want in ((10, 1.0), (9, math.nan)):
        got = labels(view, declared, shown.append_column("until", pa.array([until])))["y_like"].to_pylist()
        assert got == [want] or (math.isnan(got[0]) and math.isnan(want))


def test_slots_count_from_serving_or_from_being_seen(log_of):
    declared = project(buy={"events": ["buy"], "within": 10, "after": "served"}, seen={"events": ["buy"], "within": 10})
    slots = pa.table({"user": [1, 1], "item": [1, 2], "t": [5, 5], "request_id": ["r", "r"], "slot": [0, 1]})
    events = [
        view_at(0),
        view_at(8, request_id="r"),
        {**view_at(16), "type": "buy"},
        {**view_at(12, item=2), "type": "buy"},
        {"type": "x", "user": 9, "item": 9, "available_at": 99},
    ]
    found = of(log_of, declared, events, slots=slots)
    assert found["origin"].to_pylist() == ["event", "slate", "slate"]
    assert found["y_buy"].to_pylist() == [0.0, 0.0, 1.0]
    seen = found["y_seen"].to_pylist()
    assert seen[:2] == [0.0, 1.0]  # 16 is within 10 of being seen at 8, not of being served at 5
    assert math.isnan(seen[2])  # never seen


def test_served_events_are_no_second_exposures_and_no_views(log_of):
    declared = project(buy={"events": ["buy"], "within": 10})
    declared = declared.model_copy(update={"data": declared.data.model_copy(update={"exposure": ("served", "view")})})
    slots = pa.table({"user": [1, 1], "item": [1, 2], "t": [5, 5], "request_id": ["r", "r"], "slot": [1, 2]})
    events = [
        {**view_at(2), "type": "served"},  # by another system, before the first record
        {**view_at(6, request_id="r"), "type": "served"},
        {**view_at(6, item=2, request_id="r"), "type": "served"},
        view_at(7, request_id="r"),
        {**view_at(9), "type": "buy"},
        {"type": "x", "user": 9, "item": 9, "available_at": 99},
    ]
    found = of(log_of, declared, events, slots=slots)
    assert list(zip(found["origin"].to_pylist(), found["item"].to_pylist(), strict=True)) == [
        ("event", 1),
        ("slate", 1),
        ("slate", 2),
    ]
    assert found["y_buy"].to_pylist()[:2] == [0.0, 1.0]
    assert math.isnan(found["y_buy"].to_pylist()[2])  # served, never viewed


def test_where_no_exposure_is_declared_what_was_chosen_is_one(log_of):
    declared = without_exposure(buy={"events": ["buy"], "within": 10})
    events = [view_at(2), {**view_at(3), "type": "buy"}, {"type": "x", "user": 9, "item": 9, "available_at": 50}]
    found = of(log_of, declared, events)
    assert list(zip(found["t"].to_pylist(), found["y_buy"].to_pylist(), strict=True)) == [(3, 1.0)]


def test_one_user_second_is_one_situation(log_of):
    declared = project(like={"events": ["like"], "within": 1})
    shown = exposures(log_of([view_at(1), view_at(1, item=2), view_at(1, user=2), view_at(2)]), declared)
    group = shown["group"].to_pylist()
    assert group[0] == group[1]
    assert len(set(group)) == 3


def test_one_request_is_one_situation_whatever_its_times(log_of):
    declared = project(like={"events": ["like"], "within": 2})
    events = [
        view_at(1, request_id="r"),
        view_at(2, user=2, request_id="r"),
        view_at(4, item=2, request_id="r"),
        {**view_at(5, item=2), "type": "like", "request_id": "r"},
        view_at(9, item=3),
        {**view_at(9, item=4), "type": "like"},
        {"type": "x", "user": 9, "item": 9, "available_at": 99},
    ]
    view = log_of(events)
    shown = exposures(view, declared)
    assert shown["t"].to_pylist() == [1, 2, 4, 9]
    assert shown["moment"].to_pylist() == [1, 2, 1, 9]
    group = shown["group"].to_pylist()
    assert group[0] == group[2]
    assert len(set(group)) == 3
    # Its label still runs from when the second was seen.
    assert labels(view, declared, shown)["y_like"].to_pylist() == [0.0, 0.0, 1.0, 0.0]
    asked = user_events(view, declared).moments()
    assert list(zip(*(a.tolist() for a in asked), strict=True)) == [(1, 1), (1, 9), (2, 2), (9, 99)]


def test_what_comes_long_after_is_another_situation(log_of):
    events = [
        view_at(0, ts=0),
        view_at(MINUTE, item=2, ts=0),
        view_at(MINUTE + 1, item=3, ts=0),
        view_at(2 * MINUTE, item=4, request_id="r"),
        view_at(2 * MINUTE + HOUR, item=5, request_id="r"),
        view_at(2 * MINUTE + HOUR + 1, item=6, request_id="r"),
    ]
    shown = exposures(log_of(events), project())
    late, latest = MINUTE + 1, 2 * MINUTE + HOUR + 1
    assert shown["moment"].to_pylist() == [0, 0, late, 2 * MINUTE, 2 * MINUTE, latest]


def test_what_was_shown_only_after_its_span_is_open(log_of):
    """A request that a cut divides: what came of its later part is not for the span that it began in."""
    declared = project(like={"events": ["like"], "within": 2})
    view = log_of([view_at(1, request_id="r"), view_at(8, item=2, request_id="r"), {**view_at(40), "type": "like"}])
    shown = (
        exposures(view, declared).append_column("until", pa.array([5, 5])).append_column("closes", pa.array([41] * 2))
    )
    found = labels(view, declared, shown)["y_like"].to_pylist()
    assert found[0] == 0.0
    assert math.isnan(found[1])


def test_given_in_a_circle_is_refused(log_of):
    declared = project(
        a={"events": ["like"], "within": 1, "given": "b"}, b={"events": ["buy"], "within": 1, "given": "a"}
    )
    with pytest.raises(UsageError, match="without a circle"):
        of(log_of, declared, [view_at(1)])


def test_forgotten_users_are_not_there(log_of):
    declared = project(like={"events": ["like"], "within": 1})
    view = log_of([view_at(1), view_at(1, user=2)], forgotten=(1,))
    assert exposures(view, declared)["user"].to_pylist() == [2]


def test_a_window_may_be_closed_later_than_it_is_looked_into(log_of):
    declared = project(buy={"events": ["buy"], "within": 10})
    events = [view_at(2), view_at(3, item=2), {**view_at(5), "type": "buy"}, {**view_at(8, item=2), "type": "buy"}]
    view = log_of(events)
    shown = exposures(view, declared)
    until = shown.append_column("until", pa.array([6, 6], pa.int64()))
    assert np.isnan(labels(view, declared, until)["y_buy"].to_numpy()).all()
    closed = until.append_column("closes", pa.array([99, 99], pa.int64()))
    assert labels(view, declared, closed)["y_buy"].to_pylist() == [1.0, 0.0]


def test_by_user_what_came_after_their_own_cut_is_none_and_the_note_says_so(log_of):
    declared = project(buy={"events": ["buy"], "within": HOUR})
    acts = [{**view_at(i * SECOND, item=i), "user": 1} for i in range(10)]
    view = log_of([*acts, {**view_at(60 * SECOND, item=0), "type": "buy"}, END])
    shown = exposures(view, declared)
    keys = shown["user"].to_numpy(), shown["t"].to_numpy()
    for by, sure in (("user", True), ("time", False)):
        cut = spans(view, SplitSection(by=by, fractions=(0.5, 0.2, 0.1, 0.2)))
        until, closes = (pa.array(edge(*keys)) for edge in (cut.span_end, cut.closes))
        found = labels(view, declared, shown.append_column("until", until).append_column("closes", closes))
        # The buy lies inside the window of the first view and beyond the cut: by time that is marked as open.
        first = found["y_buy"].to_pylist()[0]
        assert first == 0.0 if sure else math.isnan(first)
        assert ("what came after a user's own cut is labelled 0" in cut.note) == sure


def test_what_came_of_a_retrieved_item_is_what_a_lone_exposure_of_it_would_be_labelled(log_of):
    declared = project()
    kept = {name: o for name, o in declared.objective.items() if name != "rated"}
    declared = declared.model_copy(
        update={"objective": kept, "data": declared.data.model_copy(update={"exposure": ()})}
    )
    rng = np.random.default_rng(5)
    types = ["view", "like", "like", "unlike", "save", "unsave", "buy"]
    data = [
        (u, int(i), types[k], 0, [None, 1.0, 2.0, 5.0][v])
        for u in range(300)
        for i, k, v in zip(*(rng.integers(0, high, 20) for high in (2, 7, 4)), strict=True)
    ]
    events = events_of([data[i] for i in rng.permutation(len(data))])
    for at, event in enumerate(events):
        event["available_at"] = event["ts"] = at // 100
    view = log_of([*events, {"type": "x", "user": 999, "item": 9, "available_at": 99, "ts": 99}])
    n = 600
    slots = {"user": np.repeat(np.arange(300), 2), "item": np.tile([0, 1], 300), "t": rng.integers(0, 60, n)}
    table = pa.table(slots | {"request_id": [str(r) for r in range(n)], "slot": [1] * n})
    shown = exposures(view, declared, slots=table)
    shown = shown.filter(pa.array([origin == "slate" for origin in shown["origin"].to_pylist()]))
    ends = rng.integers(0, 80, (2, n))
    shown = shown.append_column("until", pa.array(ends[0])).append_column("closes", pa.array(ends[1]))
    want = labels(view, declared, shown)
    # Each row thrice, among others of its object: alone, none takes an outcome from another.
    crowd = pa.concat_tables([shown, shown, shown])
    got = labels(view, declared, crowd, alone=True)
    assert not labels(view, declared, crowd).equals(got)
    positives = 0
    for name in declared.objective:
        y = want[f"y_{name}"].to_numpy()
        assert np.array_equal(got[f"y_{name}"].to_numpy(), np.tile(y, 3), equal_nan=True), name
        positives += (y > 0).sum()
    assert positives > 100


def slots_of(*rows):
    """(user, item, t, request id) → what records say was served."""
    user, item, t, request_id = zip(*rows, strict=True)
    return pa.table({"user": user, "item": item, "t": t, "request_id": request_id, "slot": [1] * len(rows)})


def told(table, *columns):
    return list(zip(*(table[c].to_pylist() for c in columns), strict=True))


END = {"type": "x", "user": 9, "item": 9, "available_at": 400 * DAY}


def test_one_slate_does_not_end_the_exposures_by_events(log_of):
    events = [
        view_at(0),
        view_at(6),  # on the slate shown just before
        view_at(7, item=2),  # found elsewhere
        view_at(8, item=3, request_id="r"),  # names a slate that did not show it
        {**view_at(9), "user": 2},  # was served nothing
    ]
    found = of(log_of, project(), events, slots=slots_of((1, 1, 5, "r")))
    assert told(found, "origin", "user", "item") == [
        ("event", 1, 1),
        ("slate", 1, 1),
        ("event", 1, 2),
        ("event", 1, 3),
        ("event", 2, 1),
    ]


@pytest.mark.parametrize("request_id", ["r", "", None, "theirs"])
def test_a_view_without_the_request_id_is_one_of_its_slate(log_of, request_id):
    declared = project(buy={"events": ["buy"], "within": HOUR})
    seen = view_at(10 * SECOND, request_id=request_id)
    buy = {**view_at(70 * SECOND), "type": "buy"}
    found = of(log_of, declared, [seen, buy, END], slots=slots_of((1, 1, 0, "r"), (1, 2, 0, "r"), (1, 3, SECOND, "s")))
    assert told(found, "origin", "item", "y_buy")[0] == ("slate", 1, 1.0)
    assert found["origin"].to_pylist() == ["slate"] * 3
    assert np.isnan(found["y_buy"].to_numpy()[1:]).all()


@pytest.mark.parametrize("back", [HOUR, 200 * DAY])
def test_a_view_long_after_a_slate_was_shown_elsewhere(log_of, back):
    declared = project(buy={"events": ["buy"], "within": HOUR})
    buy = {**view_at(back + MINUTE), "type": "buy"}
    found = of(log_of, declared, [view_at(back), buy, END], slots=slots_of((1, 1, 0, "r")))
    assert found["origin"].to_pylist() == ["slate", "event"]
    assert math.isnan(found["y_buy"].to_pylist()[0])
    assert found["y_buy"].to_pylist()[1] == 1.0


def test_a_view_that_names_its_request_is_held_however_late(log_of):
    declared = project(buy={"events": ["buy"], "within": HOUR})
    events = [view_at(DAY, request_id="r"), {**view_at(DAY + MINUTE), "type": "buy"}, END]
    found = of(log_of, declared, events, slots=slots_of((1, 1, 0, "r"), (1, 1, DAY - SECOND, "later")))
    assert told(found, "origin", "request_id", "y_buy")[0] == ("slate", "r", 1.0)
    assert math.isnan(found["y_buy"].to_pylist()[1])


def test_a_view_without_a_user_is_of_no_slate_but_the_one_it_names(log_of):
    events = [{**view_at(1), "user": -1}, {**view_at(1, request_id="r"), "user": -1}]
    views = held(log_of(events), project(), ("view",), slots_of((-1, 1, 0, "r")))
    assert told(views, "offset", "_row") == [(1, 0)]


def test_an_outcome_belongs_to_its_slate_until_the_window_closes(log_of):
    """Without declared exposures outcomes are exposures: not while a slot earns them."""
    declared = without_exposure(buy={"events": ["buy"], "within": 2 * DAY})
    events = [{**view_at(DAY), "type": "buy"}, {**view_at(3 * DAY), "type": "buy"}, END]
    found = of(log_of, declared, events, slots=slots_of((1, 1, 0, "r")))
    assert told(found, "origin", "t", "y_buy") == [("slate", 0, 1.0), ("event", 3 * DAY, 1.0)]


def test_what_slots_hold_is_counted_and_slots_that_nobody_saw_are_warned_of(log_of):
    declared = project(buy={"events": ["buy"], "within": HOUR})
    slots = slots_of((1, 1, 0, "r"), (1, 2, 0, "r"))
    for events, want in (([view_at(1), view_at(2), view_at(3, item=4)], (2, 1)), ([view_at(3, item=4)], (0, 0))):
        view = log_of([*events, END])
        counts = served_counts(view, declared, exposures(view, declared, slots=slots))
        assert counts == {"slots": 2, "held": want[0], "seen": want[1]}
        warnings = unseen(declared, counts)
        assert len(warnings) == (not want[1])
    assert "none of 2 served slots was seen by an event of view: buy learn nothing" in warnings[0]
    assert not unseen(project(buy={"events": ["buy"], "after": "served"}), counts)


def test_an_outcome_may_be_told_by_its_surface(log_of):
    declared = project(mailed={"events": ["buy"], "within": 10, "where": "surface == 'email' and value >= 2"})
    rows = [("email", 2.0), ("home", 2.0), (None, 3.0), ("email", 1.0), ("email", None)]
    events = [{**view_at(2 + i), "type": "buy", "surface": s, "value": v} for i, (s, v) in enumerate(rows)]
    found = user_events(log_of(events), declared).outcomes(declared.objective["mailed"])
    assert found.tolist() == [True, False, False, False, False]


def test_slots_and_retrieved_rows_know_the_creator_that_their_item_had_as_views_do(log_of):
    """Item 1 is of creator 7, and of 8 from 50 on; who follows is labelled on what the item was when it was shown."""
    declared = Project.model_validate(
        {
            "project": {"name": "p"},
            "data": {"exposure": ["view"]},
            "entity": {"creator": {"from": "item.creator"}},
            "event": {"view": {}, "follow": {"object": "creator"}},
            "objective": {"follow": {"events": ["follow"], "within": 10, "after": "served"}},
        }
    )

    def made(at, creator):
        return {"type": "$item", "item": 1, "creator": creator, "available_at": at, "ts": at}

    def follow(user, at, creator):
        return {"type": "follow", "user": user, "creator": creator, "available_at": at, "ts": at}

    follows = [follow(1, 12, 7), follow(2, 13, 8), follow(3, 53, 7), follow(4, 55, 8)]
    views = [view_at(at, user=user, creator=7 if at < 50 else 8) for user, at in ((1, 11), (2, 11), (3, 51), (4, 51))]
    end = {"type": "x", "available_at": 99, "ts": 99}
    late = [event for event in [*views, *follows] if event["available_at"] >= 50]
    early = [event for event in [*views, *follows] if event["available_at"] < 50]

    def labels_of(events, rows=None, alone=False):
        view = log_of(events, entities=("user", "item", "creator"))
        shown = exposures(view, declared, slots=rows) if not alone else rows
        return dict(told(labels(view, declared, shown, alone=alone), "user", "y_follow"))

    by_views = labels_of([made(0, 7), *early, made(50, 8), *late, end])
    assert by_views == {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}
    acts = [made(0, 7), *(e for e in early if e in follows), made(50, 8), *(e for e in late if e in follows), end]
    slots = slots_of((1, 1, 11, "a"), (2, 1, 11, "b"), (3, 1, 51, "c"), (4, 1, 51, "d"))
    assert labels_of(acts, slots) == by_views
    table = exposure_module.conformed(slots.select(["user", "item", "t"]), declared, "retrieved")
    assert labels_of(acts, table, alone=True) == by_views
