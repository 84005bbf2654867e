"""The words that the text tower learns, and the texts around them.

Words: WordNet's things and its common nouns, the classes of the benchmarks, and the kinds that the
generated rooms are made of. A text is a bare word as the runtime asks for, a word with an article,
an attribute or a prompt, or a caption of several things.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xmask3d_rt.config import ASSETS
from xmask3d_rt.text.tokenizer import tokenize
from xmask3d_rt.training.towers.teacher import THINGS, list_things, normalize
from xmask3d_rt.training.towers.wordnet import WordNet

PROMPTS = (
    *("a {}", "the {}", "{} in a room", "a photo of a {}", "a picture of a {}", "a {} in a scene"),
    *("part of a {}", "a {} in a room", "an old {}", "a new {}", "a small {}", "a large {}"),
    *("{}s", "a red {}", "a blue {}", "a green {}", "a white {}", "a black {}", "a grey {}"),
    *("a brown {}", "a wooden {}", "a metal {}", "a plastic {}", "a leather {}", "a glass {}"),
)
MOST_NAMED = 8  # things in a caption
# Names above what stands in rooms, in WordNet's tree.
INDOORS = (
    *("furniture", "furnishing", "home appliance", "container", "plumbing fixture", "lamp"),
    *("floor cover", "tableware", "kitchen utensil", "electronic equipment", "bedclothes", "clock"),
    *("musical instrument", "toy", "door", "window", "wall", "stairway", "heater", "toilet"),
)
LEFT_OUT = 4
CLASS_FILES = ("nyu40", "scannet20", "scannet200")


class Vocabulary(NamedTuple):
    """Words with their unit vectors [W, E]; the first `rooms` of them stand in generated rooms.

    `things` [W] bool: what can stand in a room at all.
    """

    words: list[str]
    vectors: np.ndarray
    things: np.ndarray
    rooms: int


class Texts(NamedTuple):
    """Texts and the unit vectors [T, E] that they mean."""

    texts: list[str]
    vectors: np.ndarray


def list_words(wordnet: WordNet, kinds: Iterable[str], limit: int | None = None) -> list[str]:
    """Words to learn, each once, the most useful ones first.

    That is: the rooms' kinds, the benchmarks' classes, what stands indoors, common things, other
    common nouns, other things.

    Args:
        wordnet: the nouns.
        kinds: of the rooms.
        limit: words at most; None for all.
    """
    benchmark = [name for file in CLASS_FILES for name in _read_class_names(file)]
    ranks = {noun: _rank(noun, wordnet) for noun in wordnet.nouns}
    nouns = [noun for rank in range(LEFT_OUT) for noun in ranks if ranks[noun] == rank]
    return list(dict.fromkeys([*kinds, *benchmark, *nouns]))[:limit]


def _rank(noun: str, wordnet: WordNet) -> int:
    """How far back a noun stands in the vocabulary, from 0; `LEFT_OUT` is no part of it."""
    thing, common = is_thing(noun, wordnet), wordnet.is_common(noun)
    if thing and any(wordnet.is_kind_of(s, INDOORS) for s in list_things(noun, wordnet)):
        return 0
    if common:
        return 1 if thing else 2
    return 3 if thing else LEFT_OUT


def is_thing(noun: str, wordnet: WordNet) -> bool:
    """Whether people make it, or it is a natural object: plants are too many to learn."""
    return any(sense.file in THINGS[:2] for sense in list_things(noun, wordnet))


def _read_class_names(file: str) -> list[str]:
    content = json.loads((ASSETS / "classes" / f"{file}.json").read_text())
    return [entry["name"] for entry in content["classes"]]


def project(vectors: np.ndarray, things: np.ndarray, width: int) -> np.ndarray:
    """Unit vectors [W, width]: centred on the things, along their principal components.

    Args:
        vectors: [W, C] of all words.
        things: [W] bool.
        width: components kept.
    """
    center = vectors[things].mean(axis=0)
    _, axes = np.linalg.eigh(np.cov((vectors[things] - center).T.astype(np.float64)))
    return normalize((vectors - center) @ axes[:, ::-1][:, :width]).astype(np.float32)


def list_tokens(vocabulary: Vocabulary) -> np.ndarray:
    """Ids [K] int64, ascending, of all tokens that the text tower can have met in training."""
    words = vocabulary.words
    plurals = [f"{word}s" for word in words]
    around = [form.format(word) for form in PROMPTS for word in words[:1]]
    ids = tokenize([*words, *plurals, *around, make_caption(words[:2]), ""])
    return np.unique(ids.numpy())


def draw_texts(vocabulary: Vocabulary, rng: np.random.Generator, count: int) -> Texts:
    """A batch: two of eight bare words of all kinds, two things, one of the rooms; two prompts
    around things; one caption.

    Args:
        vocabulary: to draw from.
        rng: decides everything.
        count: texts, a multiple of 8.
    """
    part = count // 8
    things = np.flatnonzero(vocabulary.things)
    rooms = np.arange(vocabulary.rooms)
    bare = np.concatenate(
        [
            rng.choice(len(vocabulary.words), 2 * part),
            rng.choice(things, 2 * part),
            rng.choice(rooms, part),
        ]
    )
    prompted = np.concatenate([rng.choice(things, part), rng.choice(rooms, part)])
    captions = [rng.choice(rooms, rng.integers(2, MOST_NAMED + 1)) for _ in range(part)]
    words = vocabulary.words
    texts = [
        *(words[i] for i in bare),
        *(str(rng.choice(PROMPTS)).format(words[i]) for i in prompted),
        *(make_caption([words[i] for i in named]) for named in captions),
    ]
    vectors = vocabulary.vectors
    means = normalize(np.stack([vectors[named].sum(axis=0) for named in captions]))
    return Texts(texts, np.concatenate([vectors[bare], vectors[prompted], means]))


def make_caption(names: Sequence[str]) -> str:
    """A caption as of a generated room's views."""
    return "a room with " + ", ".join(f"a {name}" for name in names)
