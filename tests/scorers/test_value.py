import numpy as np
import pytest

from feedwell.core import registry
from feedwell.core.candidates import Retrieved, merge
from feedwell.core.errors import UsageError
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Setting
from feedwell.core.request import Request

Value = registry.find("scorer", "value")
CLICK = ObjectiveConfig(events=("click",))
BUY = ObjectiveConfig(events=("buy",), given="cart", weight=20.0)
CART = ObjectiveConfig(events=("cart",), given="click", weight=5.0)
HIDE = ObjectiveConfig(events=("hide",), direction="down", weight=3.0)
REQUEST = Request(request_id="", user_id="", t=0, n=5)


def value_of(objectives, predictions, **config):
    n = len(next(iter(predictions.values())))
    rows = merge([("a", Retrieved(keys_N=np.arange(n), scores_N=np.zeros(n)))])
    rows = rows.with_columns(predictions={name: np.array(p, float) for name, p in predictions.items()})
    part = Value(Value.Config(**config), Setting(name="value", objectives=objectives))
    return part(REQUEST, rows)["value"].tolist()


def test_weighs_directions_and_multiplies_up_the_chain():
    all_four = {"click": CLICK, "cart": CART, "buy": BUY, "hide": HIDE}
    predictions = {"click": [0.5, 0.2], "cart": [0.4, 0.5], "buy": [0.1, 1.0], "hide": [0.01, 0.0]}
    expected = [0.5 + 5 * 0.5 * 0.4 + 20 * 0.5 * 0.4 * 0.1 - 3 * 0.01, 0.2 + 5 * 0.1 + 20 * 0.1]
    assert value_of(all_four, predictions) == pytest.approx(expected)


def test_a_needed_prediction_that_is_missing_is_never_zero():
    nan = np.nan
    assert np.isnan(value_of({"click": CLICK, "hide": HIDE}, {"click": [0.5, nan], "hide": [nan, 0.1]})).all()
    assert np.isnan(value_of({"click": CLICK, "hide": HIDE}, {"click": [0.5]})).all()
    chained = value_of(
        {"click": ObjectiveConfig(events=("c",), weight=0.0), "cart": CART}, {"click": [nan], "cart": [1.0]}
    )
    assert np.isnan(chained).all()


def test_a_weight_of_zero_needs_no_prediction():
    assert value_of({"click": CLICK, "hide": HIDE}, {"click": [0.5]}, weights={"hide": 0.0}) == [0.5]


def test_weights_overlay_the_objectives_own():
    assert value_of(
        {"click": CLICK, "hide": HIDE}, {"click": [0.5], "hide": [0.1]}, weights={"click": 4}
    ) == pytest.approx([1.7])


def test_nothing_to_weigh_is_not_scored():
    assert np.isnan(value_of({}, {"click": [0.5]})).all()


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="no objective is called 'clik'"):
        value_of({"click": CLICK}, {"click": [1.0]}, weights={"clik": 1})
    with pytest.raises(UsageError, match="circle: a → b → a"):
        value_of(
            {"a": CLICK.model_copy(update={"given": "b"}), "b": CLICK.model_copy(update={"given": "a"})}, {"a": [1.0]}
        )
    with pytest.raises(UsageError, match="given = 'cart'"):
        value_of({"buy": BUY}, {"buy": [1.0]})
