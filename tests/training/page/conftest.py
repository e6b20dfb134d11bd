"""A report whose every number is known and odd, so that none can stand in for another, and its page parsed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import pytest

from feedwell.metrics import Interval
from feedwell.training.evaluate import WANTED
from feedwell.training.funnel import ALL_SOURCES
from feedwell.training.page.build import page_of
from feedwell.training.page.content import Content
from feedwell.training.report import (
    CalibrationRow,
    CoverageRow,
    CurveRow,
    DifferenceRow,
    EvaluateReport,
    FunnelRow,
    Gate,
    GroupRow,
    HeadRow,
    LorenzRow,
    QuantityRow,
    ReliabilityRow,
    SliceRow,
    SourceRow,
    SystemRow,
)

NAN = float("nan")


def about(value: float, spread: float = 0.01, n: int = 300) -> Interval:
    return Interval(value=value, low=value - spread, high=value + 1.5 * spread, n_units=n)


def system(name: str, kind: str, ndcg: float, coverage: float) -> SystemRow:
    metrics = {"ndcg@10": about(ndcg), "recall@10": about(ndcg + 0.1), "novelty@10": about(ndcg + 3)}
    return SystemRow(
        name=name,
        kind=kind,
        metrics=metrics,
        diversity=about(0.71),
        coverage=coverage,
        gini=coverage + 0.41,
        group_gini=coverage + 0.23,
        group_distance=coverage - 0.013,
    )


def difference(than: str, value: float, spread: float) -> DifferenceRow:
    return DifferenceRow(
        name="pipeline", than=than, metric="ndcg@10", difference=about(value, spread), detectable=2.8 * spread
    )


def head(name: str, over: str, auc: float) -> HeadRow:
    return HeadRow(
        name=name,
        objective="buy",
        over=over,
        n=1234,
        positives=57,
        rate=0.046,
        auc=about(auc),
        grouped_auc=about(auc - 0.03),
        log_loss=about(0.21),
        ece=0.0131,
    )


def quantity(name: str, objective: str, kind: str, over: str, loss: float) -> QuantityRow:
    nothing = Interval(value=NAN, low=NAN, high=NAN, n_units=0)
    return QuantityRow(
        name=name,
        objective=objective,
        kind=kind,
        over=over,
        n=1234,
        mean=0.37 * loss,
        poisson_deviance=about(loss, 0.02 * loss) if kind == "count" else nothing,
        rmse=about(loss if kind != "count" else 3 * loss, 0.02 * loss),
        mae=about(0.61 * loss, 0.02 * loss),
        rank_correlation=nothing if name == "constant" else about(0.211),
    )


def calibration(objective: str, kind: str, over: str, unit: float = 1.0) -> CalibrationRow:
    predicted = tuple(unit * v for v in (0.011, 0.034, 0.12, 0.29))
    happened = tuple(unit * v for v in (0.003, 0.017, 0.055, 0.161))
    loss = about(0.213, 0.002) if kind == "binary" else Interval(value=NAN, low=NAN, high=NAN, n_units=0)
    before = ReliabilityRow(predicted=predicted, happened=happened, weight=(5.0,) * 4, ece=0.0547 * unit, log_loss=loss)
    after = replace(before, predicted=happened, ece=0.0021 * unit)
    return CalibrationRow(
        objective=objective,
        kind=kind,
        method="beta",
        over=over,
        n=1234,
        outcomes=57,
        before=before,
        after=after,
        log_loss_difference=about(-0.0041, 0.0002),
    )


def coverage(feature: str, train: float, serve: float, gap: float = 0.0) -> CoverageRow:
    return CoverageRow(
        feature=feature,
        declared=True,
        train_non_null=0.99,
        train_non_zero=train,
        serve_non_null=0.98,
        serve_non_zero=serve,
        gap=gap,
        serving_gap=NAN,
    )


def a_slice(name: str, system: str, ndcg: float, n: int) -> SliceRow:
    return SliceRow(slice=name, name=system, n_requests=n, metrics={"ndcg@10": about(ndcg), "recall@10": about(0.3)})


EVALUATION = EvaluateReport(
    k=10,
    relevant="buy",
    n_requests=2345,
    n_counted=1717,
    n_users=813,
    note="not causal across users",
    rows=(
        system("pipeline", "pipeline", 0.1234, 0.37),
        system("source.als", "source", 0.0911, 0.29),
        system("popularity as of then", "baseline", 0.1301, 0.02),
        system("source.popular", "source", 0.0512, 0.03),
    ),
    differences=(
        difference("source.als", 0.0323, 0.004),
        difference("popularity as of then", -0.0067, 0.001),
        difference("source.popular", 0.0712, 0.09),
    ),
    heads=(
        head("xgboost", "candidates", 0.761),
        head("logistic", "candidates", 0.722),
        head("xgboost", "exposures", 0.699),
    ),
    quantities=(
        quantity("xgboost", "dwell", "duration", "candidates", 7.3),
        quantity("linear", "dwell", "duration", "candidates", 8.1),
        quantity("constant", "dwell", "duration", "candidates", 9.7),
        quantity("xgboost", "plays", "count", "candidates", 1.13),
        quantity("item mean", "plays", "count", "candidates", 1.07),
        quantity("constant", "plays", "count", "candidates", 1.61),
        quantity("xgboost", "plays", "count", "exposures", 1.19),
    ),
    groups=(
        GroupRow(group="drama & <film>", exposure=0.31, relevant=0.19),
        GroupRow(group="comedy", exposure=0.17, relevant=0.26),
    ),
    calibration=(
        calibration("buy", "binary", "candidates"),
        calibration("dwell", "duration", "candidates", 10.0),
        calibration("buy", "binary", "exposures"),
    ),
    funnel=(
        FunnelRow(step="retrieved", candidates=213.0, wanted=0.43),
        FunnelRow(step="filter.seen", candidates=31.0, wanted=0.02),
        FunnelRow(step="cut.light", candidates=82.0, wanted=0.04),
        FunnelRow(step="scored", candidates=100.0, wanted=0.37),
        FunnelRow(step="not selected", candidates=90.0, wanted=0.24),
        FunnelRow(step="shown", candidates=10.0, wanted=0.13),
    ),
    sources=(
        SourceRow(
            name=ALL_SOURCES,
            candidates=213.0,
            shown=1.0,
            shown_alone=1.0,
            recall=about(0.47),
            recall_alone=about(0.0),
        ),
        SourceRow(
            name="source.als",
            candidates=150.0,
            shown=0.64,
            shown_alone=0.31,
            recall=about(0.38),
            recall_alone=about(0.21),
        ),
        SourceRow(
            name="source.popular",
            candidates=100.0,
            shown=0.69,
            shown_alone=0.36,
            recall=about(0.26),
            recall_alone=about(0.09),
        ),
    ),
    lorenz=(
        LorenzRow(name="pipeline", points=((0.0, 0.0), (0.5, 0.07), (0.9, 0.42), (0.99, 0.83), (1.0, 1.0)), gini=0.78),
        LorenzRow(name="popularity as of then", points=((0.0, 0.0), (0.9, 0.01), (1.0, 1.0)), gini=0.97),
        LorenzRow(name=WANTED, points=((0.0, 0.0), (0.5, 0.12), (0.9, 0.55), (1.0, 1.0)), gini=0.66),
    ),
    slices=(
        a_slice("cold (no event before)", "pipeline", 0.031, 217),
        a_slice("cold (no event before)", "popularity as of then", 0.047, 217),
        a_slice("warm", "pipeline", 0.141, 1500),
        a_slice("warm", "popularity as of then", 0.139, 1500),
    ),
    curves=(
        CurveRow(part="ranker", head="buy", train=(0.61, 0.43, 0.36, 0.31), valid=(0.62, 0.47, 0.44, 0.46), best=2),
    ),
    degraded={"source.als: not trained": 3},
)
CONTENT = Content(
    project="shop & <sons>",
    digest="0123456789abcdef",
    made_at=1_764_000_000_000_000,
    main_metric="ndcg",
    units={"dwell": "s"},
    evaluation=EVALUATION,
    spans={
        "by": "time",
        "cuts": [1_700_000_000_000_000, 1_710_000_000_000_000, 1_715_000_000_000_000],
        "end": 1_720_000_000_000_000,
        "events": {"sources": 5000, "ranker": 2100, "calibration": 900, "test": 2000},
    },
    n_exposures={"sources": 10, "ranker": 20, "calibration": 30, "test": 40},
    labels={"buy": {"positive": 57, "negative": 1177, "open": 12}},
    n_rows=4321,
    coverage=(coverage("item_views_7d", 0.83, 0.44), coverage("item_buys", 0.52, 0.55, gap=0.07)),
    warnings=("scores of buy moved when fitted on all data",),
    cost={
        "exposures and labels": {"cpu_s": 3.0, "wall_s": 4.5, "peak_mb": 512.0},
        "replay of the test": {"cpu_s": 80.0, "wall_s": 95.5, "peak_mb": 1536.0},
        "fit ranker": {"cpu_s": 2.0, "wall_s": 2.0, "peak_mb": 600.0},
    },
    gates=(
        Gate(name="champion", passed=False, why="ndcg@10 minus the champion's: -0.0067"),
        Gate(name="refit labels", passed=False, why="no positive of item_buys"),
        Gate(name="enough users", passed=True, why="813"),
    ),
    release_id="r-7",
)


@dataclass(frozen=True)
class Line:
    """A row of a chart as a reader sees it, its marks turned back into what they stand for."""

    label: str
    value: str
    note: str
    dots: dict[str, float]
    whisker: tuple[float, float] | None
    bars: dict[str, float]


class Page:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\N{NO-BREAK SPACE}", " ")
        self.root = ElementTree.fromstring(self.text)

    def figure(self, id_: str) -> ElementTree.Element:
        (found,) = (f for f in self.root.iter("figure") if f.get("id") == id_)
        return found

    def title(self, id_: str) -> str:
        return "".join(self.figure(id_).find(".//h3").itertext())

    def said(self, id_: str) -> list[str]:
        return ["".join(item.itertext()) for item in self.figure(id_).findall("ul[@class='checks said']/li")]

    def lines(self, id_: str) -> list[Line]:
        rows = self.figure(id_).findall(".//table[@class='chart']/tbody/tr")
        return [_line(row) for row in rows if row.find(".//svg") is not None]

    def table(self, id_: str) -> list[list[str]]:
        rows = self.figure(id_).findall(".//table[@class='numbers']/tbody/tr")
        return [["".join(cell.itertext()) for cell in row] for row in rows]

    def curves(self, id_: str) -> list[dict[str, list[tuple[float, float]]]]:
        """Per panel: name of a curve → its points, in the units of the axes."""
        return [_curves(svg) for svg in self.figure(id_).iter("svg") if svg.get("class") == "panel"]


def _line(row: ElementTree.Element) -> Line:
    label, chart, number = row
    svg = chart.find("svg")
    low, high = float(svg.get("data-low")), float(svg.get("data-high"))

    def read(mark: ElementTree.Element, key: str) -> float:
        return low + float(mark.get(key).rstrip("%")) / 100 * (high - low)

    whiskers = [m for m in svg.iter("line") if m.get("class").startswith("whisker")]
    texts = {span.get("class"): "".join(span.itertext()) for span in number.iter("span")}
    return Line(
        label="".join(label.itertext()),
        value=texts["value"],
        note=texts.get("note", ""),
        dots={m.get("class"): read(m, "cx") for m in svg.iter("circle")},
        whisker=(read(whiskers[0], "x1"), read(whiskers[0], "x2")) if whiskers else None,
        bars={m.get("class"): read(m, "width") for m in svg.iter("rect")},
    )


def _curves(svg: ElementTree.Element) -> dict[str, list[tuple[float, float]]]:
    from feedwell.training.page.panels import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH

    def back(share: float, told: str) -> float:
        low, high, kind = told.split()
        a, b = float(low), float(high)
        return (a**0.5 + share * (b**0.5 - a**0.5)) ** 2 if kind == "root" else a + share * (b - a)

    def points(line: ElementTree.Element) -> Iterator[tuple[float, float]]:
        for pair in line.get("points").split():
            x, y = map(float, pair.split(","))
            across, up = (x - LEFT) / (WIDTH - LEFT - RIGHT), (HEIGHT - BOTTOM - y) / (HEIGHT - TOP - BOTTOM)
            yield back(across, svg.get("data-x")), back(up, svg.get("data-y"))

    return {line.get("data-name"): list(points(line)) for line in svg.iter("polyline")}


@pytest.fixture(scope="session")
def page() -> Page:
    return Page(page_of(CONTENT))
