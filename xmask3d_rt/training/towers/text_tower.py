"""CLIP's text tower of the `tiny` preset, distilled from a sentence encoder.

    loss = (1 − cos(s, t)) · 4 + KL(softmax(t·Tᵀ / τ) ‖ softmax(s·Tᵀ / τ))

with the student's vectors s and the teacher's t of a batch of texts, T the batch's teacher vectors
and τ = 0.1: a text's place, and its neighbours in their order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.clip import Clip
from xmask3d_rt.text.tokenizer import tokenize
from xmask3d_rt.training.towers.fit import Clock, Fit, Losses, Plan
from xmask3d_rt.training.towers.teacher import SentenceEncoder, embed_nouns
from xmask3d_rt.training.towers.vocabulary import (
    Vocabulary,
    draw_texts,
    is_thing,
    list_words,
    project,
)
from xmask3d_rt.training.towers.wordnet import FOLDER, WordNet

TEMPERATURE = 0.1
PLACE_WEIGHT = 4.0
WORDS = "words.safetensors"
PART = 500  # words that are asked for at once
PARTS = 4  # of a batch by length: a caption has ten times the tokens of a word


@dataclass(frozen=True)
class Teacher:
    """Where meanings come from.

    `wordnet` is WordNet's folder, `words` the most words to learn (None: all of some 30,000),
    `device` that of the sentence encoder.
    """

    wordnet: Path = FOLDER
    words: int | None = None
    device: str = "cpu"


def make_vocabulary(folder: Path, kinds: Sequence[str], width: int, source: Teacher) -> Vocabulary:
    """The words and what they mean; what the folder holds already is not made again.

    Args:
        folder: where they are kept.
        kinds: names of what stands in generated rooms.
        width: of the vectors.
        source: where meanings come from.

    Raises:
        FileNotFoundError: no WordNet.
        TrainingError: no sentence encoder.
    """
    names = list(dict.fromkeys(kinds))
    file = folder / WORDS
    if not file.is_file():
        _write_words(folder, names, source)
    with safe_open(file, "np") as content:
        words = json.loads(content.metadata()["words"])
        vectors, things = content.get_tensor("vectors"), content.get_tensor("things")
    return Vocabulary(words, project(vectors, things, width), things, len(names))


def _write_words(folder: Path, names: Sequence[str], source: Teacher) -> None:
    """Ask the teacher, some words at a time: an interrupted run keeps what it has."""
    nouns = WordNet(source.wordnet)
    words = list_words(nouns, names, source.words)
    encoder = SentenceEncoder(source.device)
    parts = []
    for start in range(0, len(words), PART):
        part = folder / f"words-{start}.safetensors"
        if not part.is_file():
            vectors = embed_nouns(words[start : start + PART], nouns, encoder)
            with atomic_write(part) as temporary:
                save_file({"vectors": vectors}, temporary)
        parts.append(part)
    vectors = np.concatenate([load_file(part)["vectors"] for part in parts])
    things = np.array([n < len(names) or is_thing(w, nouns) for n, w in enumerate(words)])
    with atomic_write(folder / WORDS) as temporary:
        save_file({"vectors": vectors, "things": things}, temporary, {"words": json.dumps(words)})
    for part in parts:
        part.unlink()


def train_text_tower(
    clip: Clip, vocabulary: Vocabulary, folder: Path, plan: Plan, clock: Clock
) -> bool:
    """Distil into the text part of `clip`, in place; whether it is done."""
    visual = clip.visual.requires_grad_(False)
    clip.logit_scale.requires_grad_(False)
    device = clip.text_projection.device

    def losses(rng: np.random.Generator) -> Losses:
        batch = draw_texts(vocabulary, rng, plan.batch)
        target = torch.from_numpy(batch.vectors).to(device)
        return distil(encode_texts(clip, batch.texts), target)

    done = Fit("text", folder, clip, losses, plan).run(clock)
    visual.requires_grad_(True)
    return done


def distil(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """The losses of vectors [T, E] against the unit vectors [T, E] that they should be."""
    student = F.normalize(student, dim=-1)
    place = 1 - (student * teacher).sum(-1).mean()
    wanted = F.softmax(teacher @ teacher.T / TEMPERATURE, dim=-1)
    found = F.log_softmax(student @ teacher.T / TEMPERATURE, dim=-1)
    neighbours = F.kl_div(found, wanted, reduction="batchmean")
    return {"place": PLACE_WEIGHT * place, "neighbours": neighbours}


def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Embeddings [T, E], not normalised: as of `Clip.encode_text`, without the padding.

    Attention is causal, so what follows the end token changes nothing.
    """
    ids = tokenize(texts, clip.positional_embedding.shape[0]).to(clip.text_projection.device)
    end = ids.argmax(dim=-1)
    order = end.argsort()
    parts = [_encode_ids(clip, ids[part], end[part]) for part in order.chunk(PARTS)]
    return torch.cat(parts)[order.argsort()]


def _encode_ids(clip: Clip, ids: Tensor, end: Tensor) -> Tensor:
    """Embeddings [T, E] of token ids [T, L] with their end tokens at `end` [T]."""
    ids = ids[:, : int(end.max()) + 1]
    x = clip.token_embedding(ids) + clip.positional_embedding[: ids.shape[1]]
    hidden = clip.ln_final(clip.transformer(x, causal=True))
    return hidden[torch.arange(len(ids), device=ids.device), end] @ clip.text_projection


class TextScore(NamedTuple):
    """Share in percent of other words for a kind that are closest to it, and of the first ones."""

    synonyms: float
    first_synonyms: float


@torch.no_grad()
def score_text_tower(
    clip: Clip, kinds: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> TextScore:
    """How often the nearest of all kinds is the one that a word means.

    Args:
        clip: with its text tower.
        kinds: names.
        synonyms: of kinds, the most usual one first.
    """
    pairs = [(word, kind) for kind in kinds for word in synonyms[kind]]
    names = F.normalize(encode_texts(clip, kinds), dim=-1)
    words = F.normalize(encode_texts(clip, [word for word, _ in pairs]), dim=-1)
    best = (words @ names.T).argmax(-1).tolist()
    right = {word: kinds[found] == kind for (word, kind), found in zip(pairs, best, strict=True)}
    first = [right[synonyms[kind][0]] for kind in kinds]
    return TextScore(100 * float(np.mean(list(right.values()))), 100 * float(np.mean(first)))
