"""The neural ranker beside trees and beside itself with a part taken away; and how fast it trains and scores.

    FEEDWELL_DATA=... python benchmarks/bench_mmoe.py [ml-100k] [retailrocket] [speed] [--curves FILE.svg]

Judged on the candidates of the calibration span (the third of four): sources are fitted on the first, rankers on the
second, whose last fifth by time decides when to stop. The test span is not read. Intervals are 95 %, paired by user.
Speed: training rows/s against the same network and optimisers in a bare loop over tensors in memory; `score()` of 500
candidates against the matrix products of its layers alone, in PyTorch and in ONNX Runtime, one thread each.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from _curves import write_curves
from _project import cell, show, workspace_of
from _report import Stopwatch, header

from feedwell.core.needs import HistoryNeed
from feedwell.core.project import ObjectiveConfig
from feedwell.core.protocols import Histories, RankingRows, Setting
from feedwell.core.registry import find
from feedwell.data.interactions import user_events
from feedwell.data.split import spans
from feedwell.metrics import difference
from feedwell.metrics.calibration import Calibration, auc_interval
from feedwell.nn.curves import Curves
from feedwell.nn.inference import Graph
from feedwell.nn.likelihoods import objective_losses
from feedwell.nn.optim import Optimisers
from feedwell.pipeline.compile import setting_of
from feedwell.training.calibrate import carve_valid
from feedwell.training.fit_data import fit_data
from feedwell.training.parts import fit_sources
from feedwell.training.rows import Rows
from feedwell.training.training_rows import labelled_exposures, training_rows
from feedwell.workspace import Workspace

BOOTSTRAP = 500
LEARN, JUDGE = 1, 2
MMOE, XGBOOST, CONSTANT = "mmoe", "xgboost", "constant"
VARIANTS: dict[str, dict[str, Any]] = {
    "shared bottom": {"experts": 1},
    "history off": {"history": 0},
    "items off": {"item_min_users": 10**9},
    "features off": {},
    "inputs shuffled": {},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("wanted", nargs="*", default=["ml-100k", "retailrocket", "speed"])
    parser.add_argument("--curves", type=Path, help="an SVG file of the losses by epoch, of the last data set")
    given = parser.parse_args()
    for name in given.wanted:
        if name == "speed":
            print(header("mmoe: speed, one thread"))
            speed()
            continue
        print(header(f"mmoe on {name}: the validation span"))
        with workspace_of(name, [('kind = "xgboost"', 'kind = "mmoe"')]) as workspace, Stopwatch() as watch:
            curves = ablations(workspace.training_inputs().project, *judged_rows(workspace))
        if given.curves:
            write_curves(given.curves, curves)
        print(f"# {watch}\n")


# -- Against trees and its own parts -----------------------------------------------------------------------------------


def judged_rows(workspace: Workspace) -> tuple[Rows, Any]:
    """(ranking rows of the second and third span, the span of each)."""
    inputs = replace(workspace.training_inputs(), progress=show)
    view = inputs.view()
    events, cut = user_events(view, inputs.project), spans(view, inputs.project.split)
    shown = labelled_exposures(inputs, events, cut)
    first = fit_sources(inputs.project, fit_data(inputs, events, cut, 1))
    span_X = cut.span(shown["user"].to_numpy(), shown["moment"].to_numpy())
    rows = training_rows(inputs, first, events, cut, shown, span_X)
    return rows, cut.span(rows.user_N, rows.t_N)


def ablations(project: Any, rows: Rows, span_N: Any) -> dict[str, Curves]:
    """One line per model and objective, then mmoe minus each. Returns the networks' curves."""
    train, judged = (rows.take((span_N == span) & rows.retrieved_N) for span in (LEARN, JUDGE))
    train = train.with_valid(carve_valid(train.ranking, train.t_N))
    print(f"{len(train):,} rows to learn from, {len(judged):,} to judge")
    predicted: dict[str, dict[str, Any]] = {}
    curves: dict[str, Curves] = {}
    for name, kind, config in [(MMOE, MMOE, {}), (XGBOOST, XGBOOST, {}), *((n, MMOE, c) for n, c in VARIANTS.items())]:
        learned = train.ranking
        if name == "features off":
            learned = replace(learned, features_NF=np.full_like(learned.features_NF, np.nan))
        if name == "inputs shuffled":
            learned = _shuffled(learned)
        part: Any = find("scorer", kind)
        made = part(part.Config(**config), setting_of(project, "ranker"))
        with Stopwatch() as watch:
            made.fit(learned)
        predicted[name] = made.predict(judged.ranking)
        told = ""
        if kind == MMOE:
            c = curves[name] = made.curves
            told = f"train {_rounded(c.train)}, valid {_rounded(c.valid)}, epoch {c.best + 1} kept"
        print(f"# {name}: {watch}; {told}", flush=True)
    for objective in predicted[MMOE]:
        _compare(objective, train, judged, {name: p[objective] for name, p in predicted.items()})
    return curves


def _compare(objective: str, train: Rows, judged: Rows, p_of: dict[str, Any]) -> None:
    y = judged.ranking.labels[objective]
    known = ~np.isnan(y)
    y, user, weight = y[known], judged.user_N[known], judged.ranking.weight_N[known]
    learned = train.ranking.labels[objective]
    rate = np.average(learned[~np.isnan(learned)] > 0, weights=train.ranking.weight_N[~np.isnan(learned)])
    p_of = {name: p[known] for name, p in p_of.items()} | {CONSTANT: np.full(len(y), rate)}
    stats = {n: Calibration()(user, user, y, p, weight_N=weight, bootstrap=BOOTSTRAP) for n, p in p_of.items()}
    print(f"\n## {objective}: {int(y.sum()):,} of {len(y):,} rows, {len(np.unique(user)):,} users")
    print("| | AUC within users | AUC | log loss |\n|---|---|---|---|")
    for name, found in stats.items():
        over_all = auc_interval(user, y, p_of[name], bootstrap=100)
        within, loss = found.interval("grouped_auc"), found.interval("log_loss")
        print(f"| {name} | {cell(within)} | {cell(over_all)} | {cell(loss)} |")
    for other in list(stats)[1:]:
        told = []
        for metric in ("grouped_auc", "log_loss"):
            d = difference(stats[MMOE], stats[other], metric)
            told.append(f"{metric} {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]")
        print(f"mmoe - {other}: {'; '.join(told)}")


def _shuffled(rows: RankingRows) -> RankingRows:
    """Labels stay, everything that is known of a row is another row's."""
    moved = rows.take(np.random.default_rng(0).permutation(len(rows)))
    return replace(moved, labels=rows.labels, weight_N=rows.weight_N, valid_N=rows.valid_N)


def _rounded(values: tuple[float, ...]) -> str:
    return " ".join(f"{v:.4f}" for v in values)


# -- Speed -------------------------------------------------------------------------------------------------------------


def speed(n: int = 60_000) -> None:
    torch.set_num_threads(1)
    rows, setting = _synthetic(n)
    part: Any = find("scorer", MMOE)
    made = part(part.Config(epochs=2), setting)
    made.fit(rows)
    # Every row is trained on: no validation is in the time.
    loop = made.curves.rows_per_s
    bare = _bare_rows_per_s(made, rows)
    print(f"training: {loop:,.0f} rows/s, bare PyTorch {bare:,.0f}: {loop / bare:.2f} of it")
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder))
    _score_against_floor(made)


def _bare_rows_per_s(made: Any, rows: RankingRows) -> float:
    """The same network, losses and optimisers; batches are slices of tensors that lie ready in memory."""
    network = made._model.network
    columns = made._reading(rows, made._model.inputs, made._model.content).columns(rows)
    size = made.config.batch_size
    whole = columns.take(torch.arange(columns.n_rows))
    y = torch.zeros(columns.n_rows, 2)
    optimisers = Optimisers(network, made.config)
    network.train()
    begin = time.perf_counter()
    for _ in range(2):
        for at in range(0, columns.n_rows, size):
            batch = {name: value[at : at + size] for name, value in whole.items()}
            optimisers.zero()
            loss = objective_losses(network(batch), y[at : at + size], ("binary", "binary")).sum() / size
            loss.backward()
            optimisers.step(1.0)
    took = time.perf_counter() - begin
    network.eval()
    return float(2 * columns.n_rows / took)


def _score_against_floor(made: Any, n: int = 500) -> None:
    rng = np.random.default_rng(0)
    graph, sizes = made._model.engine, made._model.inputs.sizes(1, 2)
    config, length = made.config, made.config.history + 1
    dim = config.embedding_dim
    state = {
        "user": rng.normal(size=(1, config.user_dim)).astype(np.float32),
        "keys": rng.normal(size=(1, length, dim)).astype(np.float32),
        "values": rng.normal(size=(1, length, dim)).astype(np.float32),
        "bias": np.zeros((1, length), np.float32),
    }
    inputs = state | {
        "item_numbers": rng.normal(size=(n, sizes.item_numbers)).astype(np.float32),
        "item_rows": np.zeros((n, 0), np.int64),
        "item": rng.integers(0, sizes.n_items, n),
    }
    width = config.user_dim + sizes.item_numbers + 3 * dim
    shapes = [(dim, dim), (dim, length), (length, dim), *[(width, width)] * config.cross_layers]
    shapes += [(width, config.experts * 2)]
    for _ in range(config.experts):
        at = width
        for size in config.expert_layers:
            shapes.append((at, size))
            at = size
        shapes.append((at, 2))
    of_torch, of_onnx = _products(n, shapes)
    took = {"score": float("inf"), "PyTorch": float("inf"), "ONNX Runtime": float("inf")}
    # In turns, so that a busy moment meets all three.
    for _ in range(5):
        for name, work in zip(took, (lambda: graph.score(**inputs), of_torch, of_onnx), strict=True):
            took[name] = min(took[name], _median_ms(work))
    score, *floors = took.values()
    weights = sum(a * b for a, b in shapes)
    print(
        f"score of {n}: {', '.join(f'{name} {ms:.2f} ms' for name, ms in took.items())} for its {len(shapes)} products"
    )
    print(f"({weights:,} weights) alone: {score / min(floors):.2f} x the faster, {score / max(floors):.2f} x the other")


def _products(n: int, shapes: Sequence[tuple[int, int]]) -> tuple[Callable[[], object], Callable[[], object]]:
    """The products of n rows in PyTorch, into memory that is there already, and in ONNX Runtime, weights packed."""
    pairs = [(torch.randn(n, a), torch.randn(a, b), torch.empty(n, b)) for a, b in shapes]
    named = {f"x{i}": x.numpy() for i, (x, _, _) in enumerate(pairs)}
    made = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"z{i}"]) for i in range(len(shapes))],
        "products",
        [
            onnx.helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, [n, a])
            for i, (a, _) in enumerate(shapes)
        ],
        [
            onnx.helper.make_tensor_value_info(f"z{i}", onnx.TensorProto.FLOAT, [n, b])
            for i, (_, b) in enumerate(shapes)
        ],
        [onnx.numpy_helper.from_array(w.numpy(), f"w{i}") for i, (_, w, _) in enumerate(pairs)],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    graph = Graph(onnx.helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString(), "the products")

    def of_torch() -> None:
        for x, w, out in pairs:
            torch.mm(x, w, out=out)

    return of_torch, lambda: graph(**named)


def _median_ms(work: Callable[[], object], times: int = 300) -> float:
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return float(np.median(took)) * 1e3


def _synthetic(n: int) -> tuple[RankingRows, Setting]:
    """30 features, 20 candidates to a request, 50 events of history, two objectives."""
    rng = np.random.default_rng(0)
    n_requests = n // 20
    objectives = {"click": ObjectiveConfig(events=("view",)), "like": ObjectiveConfig(events=("like",))}
    x_NF = rng.normal(size=(n, 30)).astype(np.float32)
    names = tuple(f"f{i}" for i in range(30))
    need = HistoryNeed(("view", "like"), 50)
    history = Histories(
        indptr_R=np.arange(n_requests + 1) * 50,
        keys_E=rng.integers(0, 5000, n_requests * 50),
        at_E=np.full(n_requests * 50, 10**15 - 10**9),
        type_E=np.zeros(n_requests * 50, np.int16),
    )
    rows = RankingRows(
        features_NF=x_NF,
        feature_names=names,
        user_features=names[:8],
        labels={name: (rng.random(n) < 0.1).astype(float) for name in objectives},
        group_N=np.arange(n) // 20,
        weight_N=np.ones(n),
        valid_N=np.zeros(n, np.bool_),
        user_N=np.arange(n) // 20,
        item_N=rng.integers(0, 5000, n),
        t_N=np.full(n, 10**15),
        histories={need: history},
    )
    return rows, Setting(name="ranker", objectives=objectives, event_types=("view", "like"))


if __name__ == "__main__":
    main()
