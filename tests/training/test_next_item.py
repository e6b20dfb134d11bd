"""The protocol beside itself written out, on hand-made files and on the published anchor."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from feedwell.cli._app import app
from feedwell.core.errors import DataError, UsageError
from feedwell.training.next_item import evaluate_next_item, read_sequences

TOYS = Path(os.environ.get("FEEDWELL_DATA", Path(__file__).parents[2] / "../shared/data")) / "toys-and-games"


def written(folder, text, name="sequences.txt"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_both_forms_alike(tmp_path):
    lists = read_sequences(written(tmp_path, "u1 a b c\n\nü2 b d\n"))
    pairs = read_sequences(written(tmp_path, "u1 a\nü2 b\nu1 b\nu1 c\nü2 d\n", "pairs.txt"), "user-item")
    for read in (lists, pairs):
        assert read.user_ids == ("u1", "ü2")
        assert [read.item_ids[i] for i in read.item_E] == ["a", "b", "c", "b", "d"]
        assert read.indptr.tolist() == [0, 3, 5]


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("u1 a b\nu2\n", "sequences", r"sequences\.txt:2: 'u2' stands alone"),
        ("u1 a b\nu2 b\nu1 c\n", "sequences", r"sequences\.txt:3: user 'u1' has an earlier line"),
        ("u1 a\nu1 b c\n", "user-item", r"sequences\.txt:2: 3 words; expected 'user item'"),
        ("\n \n", "sequences", "no line with an item"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, text, form, message):
    with pytest.raises(DataError, match=message):
        read_sequences(written(tmp_path, text), form)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        read_sequences(tmp_path / "nowhere.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_sequences(tmp_path / "binary")


def random_file(folder, n_users=200, n_items=40, seed=0):
    rng = np.random.default_rng(seed)
    lines = [
        f"u{u} " + " ".join(f"i{i}" for i in rng.permutation(n_items)[: rng.integers(1, 9)]) for u in range(n_users)
    ]
    return written(folder, "\n".join(lines))


def written_out(path, k, on):
    """Recall and NDCG of plain popularity by this protocol, in plain Python."""
    users = [line.split()[1:] for line in path.read_text().splitlines()]
    behind = 1 if on == "test" else 2
    order, counts = {}, {}
    for items in users:
        for item in items:
            order.setdefault(item, len(order))
        for item in items[:-2] if len(items) >= 3 else items:
            counts[item] = counts.get(item, 0) + 1
    ranking = sorted(counts, key=lambda item: (-counts[item], order[item]))
    ranks = []
    for items in users:
        if len(items) >= 3:
            history, answer = items[:-behind], items[-behind]
            mine = [item for item in ranking if item not in history][:k]
            ranks.append(mine.index(answer) + 1 if answer in mine else math.inf)
    return (
        len(ranks),
        sum(r <= k for r in ranks) / len(ranks),
        sum(1 / math.log2(r + 1) for r in ranks if r <= k) / len(ranks),
        sum(1 / r for r in ranks if r <= k) / len(ranks),
    )


@pytest.mark.parametrize("on", ["test", "validation"])
def test_popularity_equals_itself_written_out(tmp_path, on):
    path = random_file(tmp_path)
    _, [got] = evaluate_next_item(read_sequences(path), ["popular"], 5, on=on)
    n, recall, ndcg, mrr = written_out(path, 5, on)
    assert got.n_users == n
    assert (got.recall, got.ndcg, got.mrr) == pytest.approx((recall, ndcg, mrr))
    assert got.recall_se == pytest.approx(math.sqrt(recall * (1 - recall) / (n - 1)))


def test_the_validation_question_never_sees_the_test_item(tmp_path):
    text = random_file(tmp_path).read_text()
    changed = "\n".join(
        " ".join([*line.split()[:-1], "i0"]) if len(line.split()) > 3 else line for line in text.splitlines()
    )
    one = evaluate_next_item(read_sequences(written(tmp_path, text)), ["transitions"], on="validation")[1][0]
    two = evaluate_next_item(read_sequences(written(tmp_path, changed, "b")), ["transitions"], on="validation")[1][0]
    assert (one.recall, one.ndcg) == (two.recall, two.ndcg)


def test_a_certain_successor_is_found(tmp_path):
    lines = [f"u{u} " + " ".join(f"i{(u + d) % 50}" for d in range(6)) for u in range(50)]
    read = read_sequences(written(tmp_path, "\n".join(lines)))
    _, results = evaluate_next_item(read, ["transitions", "popular", "als"], 10)
    assert results[0].recall == 1.0
    assert results[0].recall > results[1].recall
    assert all(0 <= r.ndcg <= 1 and r.peak_mb > 10 and r.eval_s > 0 for r in results)


@pytest.mark.parametrize("source", ["fresh", "populär"])
def test_a_source_that_cannot_take_part_is_named(tmp_path, source):
    with pytest.raises(UsageError, match=source):
        evaluate_next_item(read_sequences(random_file(tmp_path)), [source])


def test_too_short_sequences_are_refused(tmp_path):
    with pytest.raises(DataError, match="no user has 3 items"):
        evaluate_next_item(read_sequences(written(tmp_path, "u a b\n")), ["popular"])


def test_the_command_prints_the_agreed_object_and_a_table(tmp_path):
    path = str(random_file(tmp_path))
    asked = ["bench", "next-item", "--sequences", path, "--sources", "popular,transitions", "--k", "3"]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found.keys() == {"protocol", "results"}
    assert "Source.batch" in found["protocol"]
    keys = ["source", "n_users", "recall@3", "recall@3_se", "ndcg@3", "mrr", "fit_s", "eval_s", "peak_mb"]
    assert [list(row) for row in found["results"]] == [keys, keys]
    table = CliRunner().invoke(app, asked)
    assert "recall@3" in table.output
    assert "leave-one-out" in table.output
    wrong = CliRunner().invoke(app, [*asked, "--on", "train"])
    assert isinstance(wrong.exception, UsageError)


@pytest.mark.skipif(not TOYS.exists(), reason=f"no toys-and-games under FEEDWELL_DATA: {TOYS}")
def test_transitions_reach_the_published_anchor():
    """An untuned counter: R@10 .091, N@10 .060 (window 3, weights 1 / distance, popularity filling up)."""
    _, [got] = evaluate_next_item(read_sequences(TOYS / "Toys_and_Games.txt"), ["transitions"], 10)
    assert got.n_users == 19_412
    assert got.recall == pytest.approx(0.091, abs=0.0006)
    assert got.ndcg == pytest.approx(0.060, abs=0.0006)


def test_lines_and_words_are_divided_by_ascii_only(tmp_path):
    path = tmp_path / "sequences.txt"
    path.write_bytes("\ufeffu1 a b\u2028c d\r\nu2 x\u00a0y z w\n".encode())
    found = read_sequences(path)
    assert found.user_ids == ("u1", "u2")
    assert found.item_ids == ("a", "b\u2028c", "d", "x\u00a0y", "z", "w")
