"""The protocol beside itself written out, on hand-made files; what is wrong with a file is told."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from feedwell.cli._app import app
from feedwell.core.errors import DataError, UsageError
from feedwell.training.retrieval import answers_on, evaluate_retrieval, read_train_test, validation_of


def files(folder, train, test):
    (folder / "train.txt").write_text(train, encoding="utf-8")
    (folder / "test.txt").write_text(test, encoding="utf-8")
    return folder / "train.txt", folder / "test.txt"


def random_files(folder, n_users=150, n_items=40, seed=0):
    rng = np.random.default_rng(seed)
    train, test = [], []
    for u in range(n_users):
        items = [f"i{i}" for i in np.minimum(rng.geometric(0.1, 60) - 1, n_items - 1)]
        items = list(dict.fromkeys(items))[: rng.integers(2, 14)]
        cut = len(items) - len(items) // 4
        train.append(" ".join([f"u{u}", *items[:cut]]))
        test.append(" ".join([f"u{u}", *items[cut:]]))
    return files(folder, "\n".join(train), "\n".join(test))


def written_out(train, test, k):
    """Recall, NDCG and MRR of plain popularity by this protocol, in plain Python."""
    seen = {line.split()[0]: line.split()[1:] for line in train.read_text().splitlines()}
    asked = {line.split()[0]: set(line.split()[1:]) for line in test.read_text().splitlines()}
    counts, order = {}, {}
    for items in seen.values():
        for item in items:
            order.setdefault(item, len(order))
            counts[item] = counts.get(item, 0) + 1
    ranking = sorted(counts, key=lambda item: (-counts[item], order[item]))
    values = []
    for user, answers in asked.items():
        if not answers:
            continue
        mine = [item for item in ranking if item not in seen.get(user, [])][:k]
        hits = [place for place, item in enumerate(mine, 1) if item in answers]
        ideal = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(answers)) + 1))
        dcg = sum(1 / math.log2(1 + place) for place in hits)
        values.append((len(hits) / len(answers), dcg / ideal, 1 / hits[0] if hits else 0.0))
    return np.array(values)


def test_popularity_equals_itself_written_out(tmp_path):
    train, test = random_files(tmp_path)
    protocol, [got] = evaluate_retrieval(read_train_test(train, test), ["popular"], 7)
    values = written_out(train, test, 7)
    assert got.n_users == len(values) < 150
    assert (got.recall, got.ndcg, got.mrr) == pytest.approx(tuple(values.mean(axis=0)))
    assert got.recall_se == pytest.approx(values[:, 0].std(ddof=1) / math.sqrt(len(values)))
    assert "whole train file" in protocol


def test_validation_never_sees_the_test_file(tmp_path):
    train, test = random_files(tmp_path)
    one = read_train_test(train, test)
    changed = "\n".join(f"{line.split()[0]} i0" for line in test.read_text().splitlines())
    two = read_train_test(*files(tmp_path, train.read_text(), changed))
    found = [evaluate_retrieval(lists, ["item_knn"], 5, on="validation")[1][0] for lists in (one, two)]
    assert (found[0].recall, found[0].ndcg, found[0].n_users) == (found[1].recall, found[1].ndcg, found[1].n_users)
    divided = validation_of(one, 0)
    for u in range(len(one.user_ids)):
        kept, answers, items = divided.train_of(u), divided.answers_of(u), one.train_of(u)
        assert sorted([*kept, *answers]) == sorted(items)
        assert len(answers) == (len(items) // 5 if len(items) >= 5 else 0)


def test_users_and_items_of_one_file_only_take_part(tmp_path):
    lists = read_train_test(*files(tmp_path, "a x y\nb x y\nc y\nalone\n", "a z x\nnew y\nc\n"))
    _, [got] = evaluate_retrieval(lists, ["popular"], 2)
    assert got.n_users == 2  # a and new; c has no answer
    assert got.recall == 0.5  # a's x was in train and z in nobody's: none can be found; new gets y


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("a x\na y\n", "a x\n", r"train\.txt:2: user 'a' has an earlier line"),
        ("a x\n", "a y\nb x\na z\n", r"test\.txt:3: user 'a' has an earlier line"),
        ("a\nb\n", "a x\n", r"train\.txt: every line holds a user alone"),
        ("a x\n", " \n\n", r"test\.txt: no line with an item"),
        ("a x\n", "b x\n", r"no user in common \('a', 'b' \.\.\.\)"),
        ("a x\n", "a y\n", r"no item in common \('x', 'y' \.\.\.\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, train, test, message):
    with pytest.raises(DataError, match=message):
        read_train_test(*files(tmp_path, train, test))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="nowhere"):
        read_train_test(tmp_path / "nowhere", tmp_path / "binary")
    with pytest.raises(DataError, match="UTF-8"):
        read_train_test(tmp_path / "binary", tmp_path / "binary")


@pytest.mark.parametrize("source", ["fresh", "populär"])
def test_a_source_that_cannot_take_part_is_named(tmp_path, source):
    with pytest.raises(UsageError, match=source):
        evaluate_retrieval(read_train_test(*random_files(tmp_path)), [source])


def test_the_command_prints_the_agreed_object_and_a_table(tmp_path):
    train, test = map(str, random_files(tmp_path))
    asked = ["bench", "retrieval", "--train", train, "--test", test, "--sources", "popular,item_knn,ease", "--k", "3"]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    keys = ["source", "n_users", "recall@3", "recall@3_se", "ndcg@3", "mrr", "fit_s", "eval_s", "peak_mb"]
    assert [list(row) for row in found["results"]] == [keys] * 3
    assert "Source.batch" in found["protocol"]
    assert found.keys() == {"protocol", "results", "answers"}
    shown = CliRunner().invoke(app, asked).output
    assert "recall@3" in shown
    assert "item_knn" in shown


@pytest.mark.parametrize(
    ("train", "test", "answers", "told"),
    [
        (
            "a x y\nb x\n",
            "a x y\nb x\n",
            [3, 3, 0, 0],
            "of 3 answers 3 stand on their user's own train line, and 0 are",
        ),
        ("a x y\nb x\n", "a q\nb q y r\nnew q\n", [5, 0, 4, 2], "and 4 are of 2 items that no train line has: none of"),
        ("a x y\nb x\n", "b y\n", [1, 0, 0, 0], None),
    ],
)
def test_answers_that_cannot_be_found_are_counted_and_told(tmp_path, train, test, answers, told):
    paths = map(str, files(tmp_path, train, test))
    asked = ["bench", "retrieval", "--train", next(paths), "--test", next(paths), "--sources", "popular"]
    found = json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)
    names = ["n", "n_on_train_line", "n_not_in_train", "n_items_not_in_train"]
    assert found["answers"] == dict(zip(names, answers, strict=True))
    shown = " ".join(CliRunner().invoke(app, asked).output.split())
    assert told in shown if told else "can be found" not in shown


def test_the_answers_of_the_validation_part_are_those_counted(tmp_path):
    lists = read_train_test(*files(tmp_path, "a p q x y z\nb x\n", "a x\nb x\n"))
    found = answers_on(lists, "validation", 0)
    assert (found.n, found.n_on_train_line) == (1, 0)
    assert answers_on(lists, "test", 0).n_on_train_line == 2


def test_keys_of_a_source_are_set_and_wrong_ones_told(tmp_path):
    train, test = map(str, random_files(tmp_path))
    asked = ["bench", "retrieval", "--train", train, "--test", test, "--sources", "ease", "--json"]

    def recall(*more):
        done = CliRunner().invoke(app, [*asked, *more])
        return json.loads(done.output)["results"][0]["recall@20"] if done.exit_code == 0 else done.exception

    assert recall("--set", "ease.neighbours=1", "--set", "ease.regularization=5") < recall()
    for text, message in [
        ("ease.regularisation=5", "regularisation"),
        ("als.epochs=2", "'als' is not among --sources ease"),
        ("ease", "SOURCE.KEY=VALUE"),
        ("ease.regularization=others", "'ease.regularization' 'others' does not fit; expected a number"),
        ("ease.regularisation=5", "did you mean 'regularization'?"),
        ("ease.k=5", "say it with --k"),
    ]:
        error = recall("--set", text)
        assert isinstance(error, UsageError), error
        assert "http" not in str(error)
        assert message in str(error)
