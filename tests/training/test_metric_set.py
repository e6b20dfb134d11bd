"""A project's own metrics stand in every table beside the built-in ones, and the gates may ask for them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.errors import ProjectError, UsageError
from feedwell.core.needs import ColumnNeed
from feedwell.core.protocols import PartConfig, serve
from feedwell.core.registry import metric
from feedwell.metrics import Lists
from feedwell.pipeline.project_checks import findings_of
from feedwell.pipeline.project_file import parse_project
from feedwell.training.metric_set import MetricSet
from feedwell.training.run import train


class Even:
    """Share of shown keys that are even, and the mean of a catalog column."""

    class Config(PartConfig):
        column: str = serve("price")

    names: ClassVar[tuple[str, ...]] = ("even", "mean_column")

    def __init__(self, config, setting):
        self.config = config

    @property
    def needs(self):
        return (ColumnNeed("item", self.config.column),)

    def values(self, lists, columns):
        shown = lists.ranked_RK >= 0
        even = np.where(shown, lists.ranked_RK % 2 == 0, np.nan)
        price = columns[f"item.{self.config.column}"]
        cells = np.where(shown, price[np.where(shown, lists.ranked_RK, 0)], np.nan)
        return np.stack([mean_where_known(even), mean_where_known(cells)], axis=1)


def mean_where_known(cells_RK):
    known = ~np.isnan(cells_RK)
    n_R = known.sum(axis=1)
    return np.where(n_R, np.where(known, cells_RK, 0).sum(axis=1) / np.maximum(n_R, 1), np.nan)


@pytest.fixture(autouse=True, scope="module")
def _registered():
    metric("even")(Even)
    yield
    registry._parts.pop(("metric", "even"))


DECLARED = ("[gates]", '[entity.item]\ncolumns = { price = "float" }\n[metric.even]\n\n[gates]\nmetric = "even"')


def test_a_declared_metric_is_measured_for_every_system(shop):
    with shop(DECLARED) as opened:
        found = train(opened.training_inputs()).evaluation
    assert set(found.row("pipeline").metrics) == {
        "recall@5", "ndcg@5", "mrr@5", "hit_rate@5", "even@5", "mean_column@5",
    }  # fmt: skip
    assert all(0 <= row.metrics["even@5"].value <= 1 for row in found.rows)
    # The shop's catalog has no price: nothing is counted, and nothing is made up.
    assert all(np.isnan(row.metrics["mean_column@5"].value) for row in found.rows)


def test_values_are_checked_and_named():
    class Short(Even):
        def values(self, lists, columns):
            return np.zeros((len(lists), 1))

    lists = Lists.of([1, 2], [[2, 3], [4]], [[2], [5]], 2)
    good = MetricSet(k=2, families=(Even(Even.Config(), None),), columns={"item.price": np.arange(6.0)})
    found = good.ratios(lists, 50)
    assert found.names == ("recall", "ndcg", "mrr", "hit_rate", "even", "mean_column")
    assert found.value("even") == pytest.approx(0.75)
    assert found.value("mean_column") == pytest.approx(3.25)
    assert found.value("recall") == pytest.approx(0.5)
    with pytest.raises(UsageError, match=r"Short gave values of shape \(2, 1\)"):
        MetricSet(k=2, families=(Short(Even.Config(), None),)).ratios(lists, 50)


HEAD = '[project]\nname = "x"\n[event.view]\n[source.popular]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[metric.evn]", "no metric is called 'evn'"),
        ('[metric.a]\nkind = "even"\n[metric.b]\nkind = "even"', "'even' is also a name of a"),
        ('[metric.a]\nkind = "beyond_accuracy"', "'beyond_accuracy' does not measure lists"),
        ("[metric.even]\ncolum = 1", "column"),
        ('[gates]\nmetric = "even"', "no metric is called 'even'"),
    ],
)
def test_what_is_wrong_is_told(text, told):
    with pytest.raises(ProjectError) as caught:
        parse_project(HEAD + text, checks=(findings_of,))
    assert told in str(caught.value)


def test_the_gates_may_ask_for_a_declared_name():
    project = parse_project(HEAD + '[metric.even]\n[gates]\nmetric = "mean_column"', checks=(findings_of,))
    assert project.gates.metric == "mean_column"


def test_check_tells_of_a_column_that_no_catalog_has(shop):
    with pytest.raises(ProjectError, match=r"price: a part needs it"):
        shop(("[gates]", "[metric.even]\n\n[gates]"))
