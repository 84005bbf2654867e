"""WordNet's noun files, on five senses in its own format."""

import pytest

from xmask3d_rt.training.towers.teacher import describe_noun, list_things
from xmask3d_rt.training.towers.vocabulary import is_thing, list_words
from xmask3d_rt.training.towers.wordnet import WordNet

INDEX = """\
  1 This software and database is being provided to you
divan n 2 2 @ ~ 2 0 00000300 00000400
settee n 2 1 @ 2 1 00000200 00000300
sofa n 1 1 @ 1 1 00000100
furniture n 1 1 @ 1 1 00000500
zebra n 1 0 1 2 00000700
oak_tree n 1 0 1 0 00000600
"""
DATA = """\
  1 This software and database is being provided to you
00000100 06 n 03 sofa 0 couch 0 lounge 1 001 @ 00000500 n 0000 | a seat for two; "he sat on it"
00000200 06 n 02 settle 0 settee 0 001 @ 00000500 n 0000 | a long wooden bench with a back
00000300 06 n 02 settee 1 divan 0 001 @ 00000100 n 0000 | a small sofa; with arms
00000400 14 n 01 divan 1 000 | a council
00000500 06 n 02 furniture 0 piece_of_furniture 0 000 | furnishings
00000600 20 n 01 Oak_tree 0 001 ~ 00000100 n 0000 | a tree
00000700 05 n 01 zebra 0 000 | a striped animal
"""


@pytest.fixture
def wordnet(tmp_path):
    (tmp_path / "index.noun").write_text(INDEX)
    (tmp_path / "data.noun").write_text(DATA)
    return WordNet(tmp_path)


def test_senses_come_in_order_with_names_gloss_and_parents(wordnet):
    first, second = wordnet.list_senses("settee")
    assert first.names == ("settle", "settee")
    assert first.gloss == "a long wooden bench with a back"
    assert wordnet.list_parents(second) == ["sofa"]
    assert wordnet.list_senses("sofa")[0].gloss == "a seat for two"
    assert wordnet.list_senses("yak") == []
    assert "oak tree" in wordnet.nouns
    assert wordnet.is_common("settee")
    assert not wordnet.is_common("divan")


def test_what_a_sense_is_a_kind_of_is_found_above_it(wordnet):
    divan = wordnet.list_senses("divan")[0]
    assert wordnet.is_kind_of(divan, ["piece of furniture"])
    assert wordnet.is_kind_of(divan, ["couch"])
    assert not wordnet.is_kind_of(divan, ["divan"])
    assert not wordnet.is_kind_of(wordnet.list_senses("oak tree")[0], ["sofa"])  # only below it


def test_a_noun_is_described_by_the_senses_that_can_stand_in_a_room(wordnet):
    assert [sense.gloss for sense in list_things("divan", wordnet)] == ["a small sofa; with arms"]
    assert describe_noun("divan", wordnet) == [
        ["divan"],
        ["divan: a small sofa; with arms"],
        ["divan, settee"],
        ["sofa"],
    ]
    assert describe_noun("yak", wordnet) == [["yak"], [], [], []]


def test_words_come_by_use_and_plants_are_left_out(wordnet):
    words = list_words(wordnet, ["chair", "settee"])
    assert words[:2] == ["chair", "settee"]
    assert words[2] == "wall"  # the first class of a benchmark
    assert words.index("divan") < words.index("zebra")  # indoors before other common nouns
    assert "oak tree" not in words
    assert len(words) == len(set(words))
    assert not is_thing("oak tree", wordnet)
    assert list_words(wordnet, ["chair", "settee"], 3) == words[:3]


def test_a_folder_without_wordnet_is_rejected(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no index\.noun: install WordNet .*--wordnet"):
        WordNet(tmp_path)
    (tmp_path / "index.noun").write_text(INDEX)
    with pytest.raises(FileNotFoundError, match=r"no data\.noun"):
        WordNet(tmp_path)
