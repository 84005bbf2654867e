"""CLIP's tokenizer: class names to token ids.

A name is cleaned (mojibake repaired, HTML entities resolved, white space collapsed, lower
case), cut into words, and each word's UTF-8 bytes are merged pair by pair in the order of the
merge list. Row layout: start token, the merged ids, end token, zeros.

Source: byte-pair encoding, Sennrich et al. 2016; merges and conventions of CLIP (OpenAI) as in
open_clip's `SimpleTokenizer`; the merges file carries its own licence in `assets/clip`.
"""

import gzip
import html
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

CONTEXT_LENGTH = 77
START_TOKEN = 49406
END_TOKEN = 49407
MERGES_FILE = Path(__file__).parents[1] / "assets" / "clip" / "bpe_simple_vocab_16e6.txt.gz"

_MERGES = START_TOKEN - 2 * 256  # the file lists more; ids are 512 byte symbols, then merges
_END_OF_WORD = "</w>"
_SPECIAL = {"<start_of_text>": START_TOKEN, "<end_of_text>": END_TOKEN}
_WORDS = regex.compile(
    "|".join(_SPECIAL)
    + r"|'(?:s|t|re|ve|m|ll|d)"  # English contractions stay whole
    + r"|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


def tokenize(names: Sequence[str], context_length: int = CONTEXT_LENGTH) -> Tensor:
    """Token ids of each name, without any prompt around it.

    Args:
        names: class names; empty strings are legal, so is an empty list.
        context_length: length of a row; longer names are cut, the end token kept last.

    Returns:
        [T, context_length] int64: `[49406, ids…, 49407, 0…]`.

    Raises:
        TypeError: `names` is a single string, or an entry is not a string.
        ValueError: `context_length` is below 2.
    """
    if isinstance(names, str):
        raise TypeError(f"tokenize: names must be a list of strings, got {names!r}; pass [names]")
    if context_length < 2:
        raise ValueError(f"tokenize: context_length must be at least 2, got {context_length}")
    ids = torch.zeros(len(names), context_length, dtype=torch.int64)  # [T, L]
    for row, name in zip(ids, names, strict=True):
        if not isinstance(name, str):
            raise TypeError(f"tokenize: every name must be a string, got {name!r}")
        tokens = [START_TOKEN, *encode(name)[: context_length - 2], END_TOKEN]
        row[: len(tokens)] = torch.tensor(tokens)
    return ids


def sd_empty_prompt_ids(context_length: int = CONTEXT_LENGTH) -> Tensor:
    """The ids of "" as Stable Diffusion v1 pads them: end tokens up to the full length.

    Returns:
        [1, context_length] int64: `[49406, 49407, 49407, …]`.
    """
    ids = torch.full((1, context_length), END_TOKEN, dtype=torch.int64)
    ids[0, 0] = START_TOKEN
    return ids


def encode(text: str) -> list[int]:
    """Ids of one text of any length, without start and end tokens."""
    return [token for word in _WORDS.findall(_clean(text)) for token in _encode_word(word)]


def _clean(text: str) -> str:
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


@lru_cache(maxsize=65536)
def _encode_word(word: str) -> tuple[int, ...]:
    """Merge the word's bytes, each time all occurrences of the earliest listed pair."""
    if word in _SPECIAL:
        return (_SPECIAL[word],)
    ids, ranks = _vocabulary()
    alphabet = _byte_symbols()
    symbols = [alphabet[byte] for byte in word.encode()]
    symbols[-1] += _END_OF_WORD
    while len(symbols) > 1:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        symbols = _merge(symbols, best)
    return tuple(ids[symbol] for symbol in symbols)


def _merge(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    """Join every non-overlapping occurrence of `pair`, from left to right."""
    merged: list[str] = []
    position = 0
    while position < len(symbols):
        width = 2 if tuple(symbols[position : position + 2]) == pair else 1
        merged.append("".join(symbols[position : position + width]))
        position += width
    return merged


@cache
def _byte_symbols() -> dict[int, str]:
    """A printable character for each byte, in vocabulary order.

    Printable Latin-1 bytes stand for themselves and come first; the others follow in byte
    order as the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


@cache
def _vocabulary() -> tuple[dict[str, int], dict[tuple[str, str], int]]:
    """Ids of all symbols, and the rank of each merge, from the merges file."""
    with gzip.open(MERGES_FILE, "rt", encoding="utf-8") as file:
        next(file)  # version line
        merges = [tuple(next(file).split()) for _ in range(_MERGES)]
    singles = list(_byte_symbols().values())
    symbols = [
        *singles,
        *(single + _END_OF_WORD for single in singles),
        *(first + second for first, second in merges),
    ]
    ids = {symbol: i for i, symbol in enumerate(symbols)}
    ranks = {(first, second): i for i, (first, second) in enumerate(merges)}
    return ids, ranks
