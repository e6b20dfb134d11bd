"""Each chart's marks, read back from the page, are the report's numbers; the page itself is one sound file."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import fields, replace
from itertools import pairwise

import pytest

from feedwell.core.project import Project
from feedwell.training.evaluate import WANTED
from feedwell.training.page.build import page_of, write_page
from feedwell.training.page.charts import Scale
from feedwell.training.page.content import Content, units_of
from feedwell.training.page.words import sentence
from feedwell.training.report import EvaluateReport
from tests.training.page.conftest import CONTENT, EVALUATION, Page, about


def near(value, rel=1e-3):
    return pytest.approx(value, rel=rel, abs=1e-4)


def test_alternatives_show_every_system_with_its_interval(page):
    lines = page.lines("alternatives")
    assert [line.label for line in lines] == ["pipeline", "popularity as of then", "als", "popular"]
    names = ["pipeline", "popularity as of then", "source.als", "source.popular"]
    for line, name in zip(lines, names, strict=True):
        found = EVALUATION.row(name).metrics["ndcg@10"]
        assert list(line.dots.values()) == [near(found.value)]
        assert line.whisker == (near(found.low), near(found.high))
        assert line.value == f"{found.value:.4f}"
    assert page.table("alternatives")[0][1:4] == [
        "0.1234 [0.1134 to 0.1384]",
        "0.2234 [0.2134 to 0.2384]",
        "3.1234 [3.1134 to 3.1384]",
    ]


def test_gains_tell_better_from_worse_from_unseen(page):
    lines = {line.label: line for line in page.lines("gains")}
    told = {"als": ("win", "better"), "popularity as of then": ("loss", "worse"), "popular": ("even", "no difference")}
    for row in EVALUATION.differences:
        line = lines[row.than.removeprefix("source.")]
        tone, word = told[line.label]
        assert line.dots == {f"dot {tone}": near(row.difference.value)}
        assert line.whisker == (near(row.difference.low), near(row.difference.high))
        assert line.note.startswith(word)
    assert page.title("gains") == "Hardest to beat is popularity as of then: −0.0067 (worse)"
    beaten = "The pipeline beats 1 of 3 alternatives on NDCG@10 but is worse than popularity as of then"
    assert "".join(page.root.find("body/header/h1").itertext()) == beaten


def test_the_funnel_counts_down_to_what_is_shown(page):
    assert [(line.label, line.bars["bar ours"]) for line in page.lines("funnel")] == [
        ("retrieved", near(213)),
        ("after the seen filter", near(182)),
        ("after the light cut", near(100)),
        ("scored", near(100)),
        ("shown", near(10)),
    ]
    assert [(line.label, line.bars["bar wanted"]) for line in page.lines("wanted")] == [
        ("retrieved", near(0.43)),
        ("after the seen filter", near(0.41)),
        ("after the light cut", near(0.37)),
        ("scored", near(0.37)),
        ("shown", near(0.13)),
    ]
    assert page.title("wanted") == "43 % of what users wanted is retrieved, 13 % is shown"
    assert [row[1:] for row in page.table("funnel")] == [
        [f"{r.candidates:.0f}", f"{100 * r.wanted:.{0 if r.wanted >= 0.0995 else 1}f} %"] for r in EVALUATION.funnel
    ]


def test_sources_show_what_they_bring_and_what_only_they_bring(page):
    by_name = {row.name.removeprefix("source."): row for row in EVALUATION.sources}
    shown, recall = page.lines("shown-by-source"), page.lines("recall-by-source")
    assert [line.label for line in shown] == ["popular", "als"]
    assert [line.label for line in recall] == ["all sources together", "als", "popular"]
    for line in shown:
        row = by_name[line.label]
        assert line.bars == {"bar source light": near(row.shown), "bar source": near(row.shown_alone)}
    for line in recall:
        row = by_name[line.label]
        assert line.bars["bar source light"] == near(row.recall.value)
        assert line.whisker == (near(row.recall.low), near(row.recall.high))
        assert line.bars.get("bar source") == (None if line.label.startswith("all") else near(row.recall_alone.value))


def test_heads_are_those_over_candidates(page):
    lines = page.lines("heads")
    assert [(line.label, list(line.dots.values())) for line in lines] == [
        ("xgboost", [near(0.761)]),
        ("logistic", [near(0.722)]),
    ]
    assert len(page.table("heads")) == 3
    assert page.title("heads") == "Over candidates, the AUC of xgboost for buy is above every simpler model's"
    assert page.said("heads") == [
        "Over candidates, xgboost on buy (300 users): log loss (0.2100) is not shown to be better than that of "
        "logistic (0.2100)."
    ]
    rows = [replace(row, ranker_minus={"auc": about(0.039, 0.05)}) for row in EVALUATION.heads]
    told = Page(page_of(replace(CONTENT, evaluation=replace(EVALUATION, heads=tuple(rows)))))
    assert told.title("heads") == (
        "Over candidates, the AUC of xgboost for buy is not shown to be above that of every simpler model"
    )
    assert "AUC (0.7610) is not shown to be better than that of logistic (0.7220)" in told.said("heads")[0]


def test_amounts_are_off_by_a_share_of_what_the_mean_is_off(page):
    lines = page.lines("quantities")
    rows = [row for row in EVALUATION.quantities if row.over == "candidates"]
    assert [line.label for line in lines] == [row.name for row in rows]
    for line, row in zip(lines, rows, strict=True):
        of_mean = 9.7 if row.objective == "dwell" else 1.61
        assert list(line.dots.values()) == [near(row.loss.value / of_mean)]
        assert list(line.dots) == ["dot ours" if row.name == "xgboost" else "dot base"]
        assert line.whisker == (near(row.loss.low / of_mean), near(row.loss.high / of_mean))
        assert line.value == f"{row.loss.value / of_mean:.3f}"
    assert [line.note for line in (lines[0], lines[3])] == ["RMSE 7.3 s", "Poisson deviance 1.13"]
    assert page.title("quantities") == ("How much of plays there is, xgboost predicts no better than a simpler model")
    assert page.table("quantities")[0] == [
        "dwell, s",
        "candidates",
        "xgboost",
        "1,234",
        "2.701",
        "–",
        "7.3 [7.154 to 7.519]",
        "4.453 [4.307 to 4.672]",
        ".211 [.201 to .226]",
    ]
    assert len(page.table("quantities")) == 7


def test_groups_show_what_they_get_beside_what_was_relevant(page):
    lines = page.lines("groups")
    assert [(line.label, line.dots) for line in lines] == [
        ("drama & <film>", {"dot wanted": near(0.19), "dot ours": near(0.31)}),
        ("comedy", {"dot wanted": near(0.26), "dot ours": near(0.17)}),
    ]
    assert lines[0].value == "31 %, 19 %"
    assert page.title("groups") == "36 % of exposure would have to move to other groups to match what was relevant"
    assert page.table("groups")[1] == ["als", "0.520", "28 %"]


def test_reliability_curves_go_through_the_bins(page):
    rows = [row for row in EVALUATION.calibration if row.over == "candidates"]
    for row, curves in zip(rows, page.curves("reliability"), strict=True):
        for side, name in ((row.before, "before"), (row.after, "after")):
            expected = zip(side.predicted, side.happened, strict=True)
            assert [point for pair in curves[name] for point in pair] == near(
                [v for p in expected for v in p], rel=0.02
            )
    assert page.title("reliability") == "Calibration brings predictions of buy and dwell closer to what happens"
    assert ".0547 → .0021 (beta)" in page.text
    assert ".547 → .021 s" in page.text


def test_lorenz_curves_are_of_the_pipeline_its_rival_and_what_was_wanted(page):
    (curves,) = page.curves("exposure")
    assert list(curves) == ["pipeline", "popularity as of then", WANTED]
    for row in EVALUATION.lorenz:
        assert [v for point in curves[row.name] for v in point] == pytest.approx(
            [v for point in row.points for v in point], abs=1e-3
        )
    assert (
        page.title("exposure")
        == "The pipeline shows 37 % of the catalog, less evenly than users' own choices fall on it"
    )
    assert page.table("exposure")[0] == ["pipeline", "37 %", "0.780", "17 %", "58 %"]


def test_slices_stand_beside_the_strongest_alternative(page):
    cold, warm = page.lines("slices")
    assert cold.dots == {"hollow": near(0.047), "dot ours": near(0.031)}
    assert warm.dots == {"hollow": near(0.139), "dot ours": near(0.141)}
    assert cold.whisker == (near(0.021), near(0.046))
    assert page.title("slices") == (
        "Lists are best for warm users and worst for cold users; in 1 of 2 slices an alternative scores higher"
    )
    assert page.said("slices") == [
        "An alternative is above the pipeline, not shown to be better, for cold users (popularity as of then 0.0470 "
        "against 0.0310 on 217 requests)."
    ]
    assert len(page.table("slices")) == 4


def test_a_slice_says_where_the_pipeline_is_shown_to_be_worse_and_nothing_where_it_leads():
    behind = {"ndcg@10": about(-0.016, 0.002), "recall@10": about(0.0)}
    rows = [replace(r, pipeline_minus=behind) if r.name != "pipeline" else r for r in EVALUATION.slices]
    told = Page(page_of(replace(CONTENT, evaluation=replace(EVALUATION, slices=tuple(rows)))))
    assert told.said("slices") == [
        "The pipeline is worse than an alternative for cold users (popularity as of then 0.0470 against 0.0310 on 217 "
        "requests)."
    ]
    high = replace(
        rows[-1], slice="cold (no event before)", name="als", metrics={"ndcg@10": about(0.09)}, pipeline_minus={}
    )
    told = Page(page_of(replace(CONTENT, evaluation=replace(EVALUATION, slices=(*rows, high)))))
    assert "popularity as of then 0.0470" in told.said("slices")[0], (
        "the highest is not the one that is shown to be better"
    )
    warm = replace(EVALUATION, slices=tuple(r for r in EVALUATION.slices if r.slice == "warm"))
    assert Page(page_of(replace(CONTENT, evaluation=warm))).said("slices") == []


def test_features_show_training_beside_serving_the_furthest_first(page):
    lines = page.lines("features")
    assert [(line.label, line.dots) for line in lines] == [
        ("item_views_7d", {"dot before": near(0.83), "dot ours": near(0.44)}),
        ("item_buys", {"dot before": near(0.52), "dot ours": near(0.55)}),
    ]
    assert lines[1].note == "differs in 7.0 %"
    assert page.title("features") == "Batch and online read item_buys differently"


def test_training_curves_and_the_round_that_was_kept(page):
    (curves,) = page.curves("curves")
    row = EVALUATION.curves[0]
    for name, losses in (("train", row.train), ("valid", row.valid)):
        assert [x for x, _ in curves[name]] == pytest.approx([1, 2, 3, 4], abs=0.02)
        assert [y for _, y in curves[name]] == pytest.approx(list(losses), abs=2e-3)
    assert page.title("curves") == "ranker for buy was best at round 3 of 4"
    assert "kept: 3" in page.text
    row = EVALUATION.curves[0]
    tower = replace(row, part="source.two_tower", head="", best=0)
    last = replace(row, head="cart", best=3)
    for rows, title in (
        ((tower, row), "source.two_tower was best at round 1 of 4 and ranker for buy at round 3 of 4"),
        ((last, tower), "source.two_tower was best at round 1 of 4 and ranker for cart at its last"),
        ((tower, row, last, last), "2 of 4 fits were best before their last round"),
    ):
        assert Page(page_of(replace(CONTENT, evaluation=replace(EVALUATION, curves=rows)))).title("curves") == title
    alone = replace(EVALUATION, curves=(replace(EVALUATION.curves[0], valid=()),))
    told = Page(page_of(replace(CONTENT, evaluation=alone)))
    assert told.title("curves") == "Nothing was kept back that tells after how many rounds to stop"
    assert [key.tail for key in told.figure("curves").iter("svg") if key.get("class") == "key"] == ["rows learned from"]


def test_spans_and_cost(page):
    assert [(line.label, list(line.bars.values())) for line in page.lines("spans")] == [
        ("sources learn", [near(0.5)]),
        ("the ranker learns and stops", [near(0.21)]),
        ("predictions are calibrated", [near(0.09)]),
        ("everything is judged", [near(0.2)]),
    ]
    assert page.lines("spans")[0].note == "until 14 November 2023"
    assert page.table("spans") == [["buy", "57", "1,177", "12"]]
    assert [(line.label, list(line.bars.values()), line.value) for line in page.lines("cost")] == [
        ("exposures and labels", [near(4.5)], "4.5 s"),
        ("replay of the test", [near(95.5)], "1.6 min"),
    ]
    assert page.title("cost") == "The run took 1.7 min, 96 % of it for replay of the test"
    assert len(page.table("cost")) == 3


def test_the_head_says_it_in_words(page):
    text = " ".join("".join(page.root.find("body/header").itertext()).split())
    assert "NDCG@10 is 0.1234 (0.1134 to 0.1384), against 0.1301 for popularity as of then" in text
    assert "a difference of −0.0067 (−0.0077 to −0.0052), −5 %" in text
    assert "1,717 requests of 813 users" in text
    first = " ".join("".join(page.root.find(".//section[@id='first']").itertext()).split())
    assert "Refused: champion. NDCG@10 minus the champion's: -0.0067." in first
    assert "Refused: refit labels. No positive of item_buys." in first
    assert "Passed: enough users. 813." in first
    for note in ("Not causal across users.", "Scores of buy moved", "Degraded in 3 requests: source.als: not trained."):
        assert note in first
    foot = "".join(page.root.find("body/footer").itertext())
    assert "0123456789abcdef" in foot
    assert "r-7" in foot


def test_the_page_loads_nothing_and_its_policy_holds(page):
    tags = {element.tag for element in page.root.iter()}
    assert not tags & {"script", "img", "link", "iframe", "object", "base", "form"}
    attributes = {(key, value) for element in page.root.iter() for key, value in element.attrib.items()}
    assert not [key for key, _ in attributes if key == "style" or key.startswith("on")]
    assert all(value.startswith("#") for key, value in attributes if key in ("href", "src"))
    assert not re.search(r"url\(|@import|https?:", page.text)
    (policy,) = (m.get("content") for m in page.root.iter("meta") if m.get("http-equiv"))
    style = page.root.find("head/style").text
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "shop &amp; &lt;sons&gt;" in page.text


def test_the_page_can_be_read_without_seeing_it(page):
    root = page.root
    assert root.get("lang") == "en"
    levels = [int(e.tag[1]) for e in root.iter() if re.fullmatch(r"h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [e.get("id") for e in root.iter() if e.get("id")]
    assert len(ids) == len(set(ids))
    links = {e.get("href")[1:] for e in root.iter("a")} | {
        e.get("aria-labelledby") for e in root.iter() if e.get("aria-labelledby")
    }
    assert links <= set(ids)
    for svg in root.iter("svg"):
        assert svg.get("aria-hidden") == "true" or (svg.get("role") == "img" and svg.get("aria-label"))
    for figure in root.iter("figure"):
        assert figure.find(".//table") is not None
    for table in root.iter("table"):
        assert all(cell.get("scope") for cell in table.iter("th"))


def test_a_run_that_found_nothing_still_makes_a_page(tmp_path):
    nothing = EvaluateReport(k=10, relevant="", n_requests=0, n_counted=0, n_users=0, note="", rows=())
    content = replace(CONTENT, evaluation=nothing, spans={}, labels={}, coverage=(), warnings=(), cost={}, gates=())
    found = Page(write_page(content, tmp_path / "new" / "page.html").read_text(encoding="utf-8"))
    assert not list(found.root.iter("figure"))
    assert "nothing to judge lists by" in found.text
    assert "No warning" in found.text


def test_every_part_of_a_report_may_be_missing():
    for part in fields(EvaluateReport):
        if part.name not in ("rows", "k", "relevant", "n_requests", "n_counted", "n_users", "note"):
            Page(
                page_of(
                    replace(
                        CONTENT, evaluation=replace(EVALUATION, **{part.name: type(getattr(EVALUATION, part.name))()})
                    )
                )
            )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("none of 20", "None of 20"),
        ("recall@20 minus", "recall@20 minus"),
        ("item_views tells", "item_views tells"),
        ("source.als: not trained", "source.als: not trained"),
        ("20261126-0a33: gone", "20261126-0a33: gone"),
        ("", ""),
    ],
)
def test_a_sentence_begins_with_a_capital_but_in_names(text, said):
    assert sentence(text) == said


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([0.11, 0.37], (0.0, 0.4)),
        ([-0.03, 0.09], (-0.05, 0.1)),
        ([float("nan")], (0.0, 1.0)),
        ([7.0, 212.0], (0.0, 300.0)),
    ],
)
def test_scales_end_on_round_numbers_around_the_values(values, ends):
    scale = Scale.over(values)
    assert (scale.low, scale.high) == pytest.approx(ends)
    assert list(scale.ticks) == sorted(scale.ticks)


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER is None, reason="NO BROWSER: install chromium, which draws the page and enforces its policy"
)
@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_draws_it_without_a_complaint_or_a_sideways_scroll(tmp_path, width):
    """Chromium enforces the policy and logs what it refuses; a page wider than the window would show in its scroll."""
    write_page(CONTENT, tmp_path / "page.html")
    shot = tmp_path / "shot.png"
    words = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},1200",
        f"--screenshot={shot}",
        (tmp_path / "page.html").as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []
    assert shot.stat().st_size > 20_000


def test_content_reads_the_projects_metric_and_orders_the_rest_by_it():
    assert CONTENT.metric == "ndcg@10"
    assert replace(CONTENT, main_metric="recall").metric == "recall@10"
    assert replace(CONTENT, main_metric="unheard").metric == "ndcg@10"
    assert [row.name for row in CONTENT.others] == ["popularity as of then", "source.als", "source.popular"]
    assert isinstance(CONTENT, Content)


def test_amounts_have_the_unit_of_their_events():
    project = Project.model_validate(
        {
            "project": {"name": "p"},
            "event": {"click": {"unit": "s"}, "watch": {"unit": "min"}, "view": {}},
            "objective": {
                "dwell": {"events": ["click"], "kind": "duration"},
                "both": {"events": ["click", "watch"], "kind": "duration"},
                "plays": {"events": ["click"], "kind": "count"},
                "seen": {"events": ["view"], "kind": "amount"},
            },
        }
    )
    assert units_of(project) == {"dwell": "s"}
