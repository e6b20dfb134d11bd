"""What sources fit on beside events: the catalog as of the span's end, users as of each event, nothing later."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feedwell.core.candidates import Retrieved
from feedwell.core.needs import ColumnNeed, FeatureNeed
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import source
from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.training.fit_data import fit_data, ranked_items
from feedwell.training.parts import fit_sources
from feedwell.training.training_rows import labelled_exposures, training_rows

from .conftest import START, shop_events

DAY = 86_400_000_000
CATALOG = """
[entity.item]
path = "items.jsonl"
columns = { title = "string", price = "float", since = "time" }
valid_from = "since"
text = ["title"]
ts_unit = "us"

[entity.user]
path = "users.jsonl"
columns = { age = "int" }

[feature.user_views]
entity = "user"
aggregate = "count"
events = ["view"]

[source.popular]
"""


@source("test_learner")
class Learner:
    """Reads the user's views and age, and follows the catalog."""

    catalog_offset = -1

    class Config(PartConfig):
        k: int = serve(5)
        feature: str = serve("user_views")

    def __init__(self, config, setting):
        self.config = config

    @property
    def needs(self):
        return (FeatureNeed(self.config.feature), ColumnNeed("user", "age"))

    def __call__(self, request):
        return Retrieved(keys_N=np.empty(0, np.int64), scores_N=np.empty(0))

    def fit(self, data): ...

    def grown(self, rows, delta): ...


@pytest.fixture
def made(shop, tmp_path):
    items = [{"item_id": f"i{i}", "title": f"Thing {i}", "price": i, "since": START + i * DAY // 8} for i in range(40)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in items))
    (tmp_path / "users.jsonl").write_text(json.dumps({"user_id": "u1", "age": 40}) + "\n")

    def make(learner="[source.test_learner]\n", changes=()):
        parts = CATALOG + "\n" + learner + "\n[source.plain]\nkind = 'popular'\n"
        workspace = shop(("\n[source.popular]\n", parts), *changes)
        inputs = workspace.training_inputs()
        view = inputs.view()
        events, cut = user_events(view, workspace.project), spans(view, workspace.project.split)
        return inputs, events, cut

    return make


def test_users_are_read_as_of_each_event(made):
    inputs, events, cut = made()
    data = fit_data(inputs, events, cut, 3)
    view = data.type_E == data.types.index("view")
    expected = [
        int(((data.user_E == u) & view & (data.at_E < t)).sum())
        for u, t in zip(data.user_E.tolist(), data.at_E.tolist(), strict=True)
    ]
    assert data.user_columns["user_views"].tolist() == expected
    (key,) = inputs.log.ids.lookup("user", ["u1"])
    assert set(data.user_columns["user.age"][data.user_E == key]) == {40.0}
    assert np.isnan(data.user_columns["user.age"][data.user_E != key]).all()
    some = data.of(("buy",))
    assert some.user_columns["user_views"].tolist() == [e for e, v in zip(expected, view, strict=True) if not v]


def test_the_catalog_is_as_of_the_spans_end(made):
    inputs, events, cut = made()
    sizes = []
    for span in (1, 3):
        data = fit_data(inputs, events, cut, span)
        items = data.catalog["item"]
        assert items.at_M.max() < data.until <= cut.cut_U3[0, span - 1]
        assert data.catalog_offset == -1
        sizes.append(len(items))
    assert 0 < sizes[0] < sizes[1]
    whole = fit_data(inputs, events, cut, 4)
    assert whole.catalog["item"].text_M[:2] == ("Thing 0", "Thing 1")
    assert len(whole.catalog["item"]) == 40
    assert whole.catalog_offset == inputs.log.high_water()[0]


def test_nothing_is_read_for_those_who_do_not_ask(made):
    inputs, events, cut = made(learner="")
    data = fit_data(inputs, events, cut, 3)
    assert not data.catalog
    assert not data.user_columns


def test_a_ranker_that_reads_what_items_say_is_given_the_catalog(made):
    plain, _, _ = made()
    assert not len(ranked_items(plain).table)
    told = 'kind = "mmoe"\nembed = "hashing"'
    inputs, events, cut = made(changes=(('kind = "xgboost"\nn_trees = 20\nthreads = 1', told),))
    until = int(cut.cut_U3[0, 1])
    items = ranked_items(inputs, until)
    assert items.table.at_M.max() < until == items.until
    assert items.offset == -1
    whole = ranked_items(inputs)
    assert len(items.table) < len(whole.table) == 40
    assert whole.until > whole.table.at_M.max()
    assert whole.offset == inputs.log.high_water()[0]
    first = fit_sources(inputs.project, fit_data(inputs, events, cut, 1))
    shown = labelled_exposures(inputs, events, cut)
    span_X = cut.span(shown["user"].to_numpy(), shown["moment"].to_numpy())
    rows = training_rows(inputs, first, events, cut, shown, span_X).ranking
    assert 0 < len(rows.items.table) < 40
    assert rows.items.table.at_M.max() < rows.items.until == rows.t_N.max()
    assert rows.take(np.arange(3)).items is rows.items


def test_rows_that_come_after_the_fit_are_those_that_the_offset_leaves(made):
    inputs, events, cut = made()
    offset = fit_data(inputs, events, cut, 4).catalog_offset
    assert inputs.log.catalog_events("item", offset, 10**9).num_rows == 0
    assert inputs.log.catalog_events("item", -1, offset).num_rows == 40
    assert len(shop_events()) < offset
