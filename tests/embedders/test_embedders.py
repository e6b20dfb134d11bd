import json

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from feedwell.core import registry
from feedwell.core.embedding import Embedder, make_embedder
from feedwell.core.errors import CorruptArtifact
from feedwell.core.project import PartSection
from feedwell.core.protocols import Setting, learns

Hashing, Text = registry.find("embedder", "hashing"), registry.find("embedder", "text")
SETTING = Setting(name="text", seed=3)
TEXTS = [f"{a} {b}" for a in ("red", "blue", "green", "old") for b in ("shoes", "boots", "coat", "hat", "red hat")]


def text(**keys):
    made = Text(Text.Config(**keys), SETTING)
    made.fit(TEXTS)
    return made


def test_hashing_learns_nothing_and_estimates_the_overlap_of_words():
    made = Hashing(Hashing.Config(dim=4096, words=1), SETTING)
    assert not learns(made)
    one, same, half, none = made(["red shoes", "Shoes RED!", "red coat", "blue hat"])
    assert one @ same == pytest.approx(1)
    assert one @ half == pytest.approx(0.5)
    assert one @ none == pytest.approx(0)


def test_hashing_is_the_same_on_every_machine():
    vector = Hashing(Hashing.Config(dim=64, words=1), SETTING)(["red shoes"])[0]
    assert {int(i): round(float(vector[i]), 4) for i in np.flatnonzero(vector)} == HASHED


HASHED = {3: -0.7071, 19: -0.7071}


def test_runs_of_characters_bring_inflections_near():
    plain = Hashing(Hashing.Config(dim=4096), SETTING)(["boot", "boots"])
    runs = Hashing(Hashing.Config(dim=4096, characters=4), SETTING)(["boot", "boots"])
    assert plain[0] @ plain[1] == pytest.approx(0)
    assert runs[0] @ runs[1] > 0.3


def test_text_is_the_latent_semantic_analysis_of_a_peer():
    mine = text(dim=4, words=2, min_count=2)(TEXTS)
    weigh = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    theirs = TruncatedSVD(4, algorithm="arpack", random_state=0).fit_transform(weigh.fit_transform(TEXTS))
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(mine @ mine.T, theirs @ theirs.T, atol=1e-4)


def test_words_that_occur_together_bring_texts_near_that_share_none():
    made = Text(Text.Config(dim=2, words=1, min_count=1), SETTING)
    made.fit(["cat kitten", "kitten feline", "cat feline", "car engine", "engine motor", "car motor"])
    cat, feline, motor = made(["cat", "feline", "motor"])
    assert cat @ feline > 0.9
    assert abs(cat @ motor) < 0.1


def test_the_rarest_words_are_left_out_first():
    assert text(words=1, min_count=1, max_vocabulary=2)._words == ["hat", "red"]
    assert text(words=1, min_count=5)._words == ["blue", "green", "hat", "old", "red"]


def test_more_dimensions_than_texts_are_zeros():
    made = Text(Text.Config(dim=10, min_count=1), SETTING)
    made.fit(["red shoes", "blue coat"])
    got = made(["red shoes"])
    assert got.shape == (1, 10)
    assert not got[:, 2:].any()
    assert np.linalg.norm(got) == pytest.approx(1)


def test_an_artifact_whose_words_do_not_fit_is_refused(tmp_path):
    made = text(min_count=1)
    made.save(tmp_path)
    words = json.loads((tmp_path / "text.json").read_text())
    for broken, message in ((json.dumps(words[1:]), "words for"), ("{", "expected a list of words")):
        (tmp_path / "text.json").write_text(broken)
        with pytest.raises(CorruptArtifact, match=message):
            Text(Text.Config(min_count=1), SETTING).load(tmp_path)


def test_a_part_gets_the_declared_embedder_or_the_kind_as_it_comes():
    setting = Setting(name="source.x", seed=1, embedders={"title": PartSection(kind="hashing", dim=32)})
    assert make_embedder(setting, "title").dim == 32
    plain = make_embedder(setting, "text")
    assert isinstance(plain, Embedder)
    assert plain.dim == Text.Config().dim
