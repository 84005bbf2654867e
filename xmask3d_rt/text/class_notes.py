"""What a list of classes cannot do, said before its labels are believed."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.classes import ClassList, normalize_name
from xmask3d_rt.errors import join_names, one_line
from xmask3d_rt.text.tokenizer import CONTEXT_LENGTH, encode

# They fit everything a little: as classes they take points from the others at random.
VAGUE = (
    *("object", "objects", "thing", "things", "stuff", "item", "items", "entity", "something"),
    *("anything", "misc", "miscellaneous", "unknown", "unlabeled", "unlabelled", "undefined"),
    "void",
)
SAME = 0.97  # cosine of two names that the text encoder does not tell apart
SHOWN = 3
MARKS = 2  # tokens in front of and behind a name

Embed = Callable[[Sequence[str]], Tensor]


def describe_classes(classes: ClassList, embed: Embed) -> tuple[str, ...]:
    """Notes on names that are vague, cut, or the same to the text encoder; most lists have none.

    Args:
        classes: the caller's.
        embed: names to embeddings [T, E], not normalised.
    """
    notes = []
    vague = [name for name in classes.flat_names if normalize_name(name) in VAGUE]
    if vague:
        notes.append(
            f"{_quote(vague)}: too vague to mean anything to the text encoder; name what is meant, "
            "or leave it to other=True (--other NAME)"
        )
    cut = [name for name in classes.flat_names if len(encode(name)) > CONTEXT_LENGTH - MARKS]
    if cut:
        notes.append(
            f"{_quote(cut)}: longer than the {CONTEXT_LENGTH - MARKS} tokens that the text encoder "
            "reads, the rest is ignored; shorten the name"
        )
    pairs = find_same(classes, embed)
    if pairs:
        listed = join_names((f"{a!r} and {b!r}" for a, b in pairs), SHOWN)
        notes.append(
            f"{listed}: the text encoder hardly tells them apart; write them as names of one class "
            "(a;b), or drop one"
        )
    return tuple(notes)


def find_same(classes: ClassList, embed: Embed) -> list[tuple[str, str]]:
    """Pairs of names of different classes with nearly the same embedding, the closest first."""
    names, owner = classes.flat_names, torch.from_numpy(classes.name_class)
    rows = F.normalize(embed(names).float().cpu(), dim=-1)
    cosine = (rows @ rows.T).triu(1)
    cosine[owner[:, None] == owner] = 0
    first, second = (cosine > SAME).nonzero(as_tuple=True)
    order = cosine[first, second].argsort(descending=True, stable=True)
    return [(names[first[i]], names[second[i]]) for i in order.tolist()]


def _quote(names: Iterable[str]) -> str:
    return join_names((repr(one_line(name, 40)) for name in names), SHOWN)
