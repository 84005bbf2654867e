"""Nouns of WordNet: what a word means, most frequent sense first.

    index.noun   lemma pos senses pointers [pointer…] senses tagged offset…
    data.noun    offset file type words(hex) word id [word id…] pointers
                 symbol offset pos source/target … | gloss

Source: wndb(5WN), WordNet 3.0; Debian's package `wordnet-base` installs it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

FOLDER = Path("/usr/share/wordnet")
ARTEFACT, OBJECT, PLANT = 6, 17, 20  # lexicographer files of noun.artifact, .object, .plant
KINDS_OF = ("@", "@i")  # pointers from a sense to what it is a kind or an instance of


@dataclass(frozen=True)
class Sense:
    """One meaning: the names that share it, what it is, its lexicographer file, its parents.

    `kind_of` are the offsets of the senses that this one is a kind of.
    """

    names: tuple[str, ...]
    gloss: str
    file: int
    kind_of: tuple[str, ...]


class _Noun(NamedTuple):
    name: str
    offsets: list[str]  # of its senses, the most frequent first
    tagged: bool


class WordNet:
    """All nouns.

    Args:
        folder: with `index.noun` and `data.noun`.

    Raises:
        FileNotFoundError: the folder has no WordNet.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        for name in ("index.noun", "data.noun"):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"{folder} has no {name}: install WordNet (apt install wordnet-base), or "
                    "name its folder with --wordnet"
                )
        self._senses = dict(map(_parse_sense, _read_lines(folder / "data.noun")))
        nouns = [_parse_noun(line) for line in _read_lines(folder / "index.noun")]
        self._offsets = {noun.name: noun.offsets for noun in nouns}
        self._common = {noun.name for noun in nouns if noun.tagged}

    @property
    def nouns(self) -> list[str]:
        """All names, in lower case with spaces, in alphabetical order."""
        return sorted(self._offsets)

    def is_common(self, noun: str) -> bool:
        """Whether the noun occurs in the texts in which WordNet's authors marked senses."""
        return noun in self._common

    def list_senses(self, noun: str) -> list[Sense]:
        """Meanings of a noun, the most frequent first; none of a word that is not there."""
        return [self._senses[offset] for offset in self._offsets.get(noun, ())]

    def is_kind_of(self, sense: Sense, names: Collection[str]) -> bool:
        """Whether one of the senses above this one has one of the names, as a thing people make."""
        above = list(sense.kind_of)
        while above:
            parent = self._senses[above.pop()]
            if parent.file == ARTEFACT and not set(names).isdisjoint(parent.names):
                return True
            above += parent.kind_of
        return False

    def list_parents(self, sense: Sense) -> list[str]:
        """The first name of each sense that this one is a kind of."""
        return [self._senses[offset].names[0] for offset in sense.kind_of]


def _read_lines(path: Path) -> list[str]:
    """Lines behind the licence, which is indented."""
    return [line for line in path.read_text().splitlines() if not line.startswith("  ")]


def _parse_sense(line: str) -> tuple[str, Sense]:
    head, _, gloss = line.partition("|")
    offset, file, _, words, *rest = head.split()
    count = 2 * int(words, 16)
    pointers = rest[count + 1 : count + 1 + 4 * int(rest[count])]
    links = zip(pointers[::4], pointers[1::4], strict=True)
    parents = [target for symbol, target in links if symbol in KINDS_OF]
    names = tuple(_to_text(name) for name in rest[:count:2])
    definition, _, _ = gloss.partition('; "')  # examples of its use follow
    return offset, Sense(names, definition.strip(), int(file), tuple(parents))


def _parse_noun(line: str) -> _Noun:
    name, _, senses, pointers, *rest = line.split()
    tagged = rest[int(pointers) + 1]
    return _Noun(_to_text(name), rest[-int(senses) :], tagged != "0")


def _to_text(name: str) -> str:
    return name.replace("_", " ").lower()
