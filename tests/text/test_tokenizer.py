"""The tokenizer against ids recorded from open_clip's."""

import json
from pathlib import Path

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.text.tokenizer import END_TOKEN, START_TOKEN, encode, sd_empty_prompt_ids, tokenize

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden" / "token_ids.json"

# Recorded once from open_clip 3.3.0's SimpleTokenizer.
RECORDED = {
    "": [],
    "wall": [2569],
    "shower curtain": [7777, 17223],
    "fire extinguisher": [1769, 38567, 4510],
    "a diagram": [320, 22697],
    "Hello,   World!! It's 12345 o'clock": [
        *(3306, 267, 1002, 748, 585, 568, 272, 273, 274, 275, 276, 334, 262, 6716),
    ],
    "schÃ¶n": [844, 7255, 333],  # mojibake of "schön"
    "日本語の椅子": [39121, 44353, 34002, 252, 21575, 162, 97, 227, 35751, 494],
    "🙂 emoji 🪑": [14860, 16327, 558, 103, 495],
    "&lt;b&gt; &amp;amp;": [283, 321, 285, 261],
}


@pytest.mark.parametrize("text", RECORDED)
def test_encode_matches_recorded_ids(text):
    assert encode(text) == RECORDED[text]


def test_rows_are_start_ids_end_zeros():
    ids = tokenize(list(RECORDED))

    assert ids.shape == (len(RECORDED), 77)
    assert ids.dtype == torch.int64
    for row, merged in zip(ids.tolist(), RECORDED.values(), strict=True):
        expected = [START_TOKEN, *merged, END_TOKEN]
        assert row == expected + [0] * (77 - len(expected))


def test_case_and_white_space_do_not_matter():
    plain, noisy = tokenize(["office chair", "  Office\t CHAIR\n"])
    assert torch.equal(plain, noisy)


def test_long_names_are_cut_and_end_with_the_end_token():
    (row,) = tokenize(["chair " * 100]).tolist()
    assert row == [START_TOKEN] + [4269] * 75 + [END_TOKEN]
    assert tokenize(["chair table"], context_length=3).tolist() == [[START_TOKEN, 4269, END_TOKEN]]


def test_empty_list_is_legal():
    assert tokenize([]).shape == (0, 77)


def test_empty_prompt_of_stable_diffusion():
    assert sd_empty_prompt_ids().tolist() == [[START_TOKEN] + [END_TOKEN] * 76]


@pytest.mark.parametrize("names", ["chair", ["chair", 3], [None]])
def test_names_that_are_not_strings_rejected(names):
    with pytest.raises(TypeError, match="tokenize"):
        tokenize(names)


def test_context_without_room_rejected():
    with pytest.raises(ValueError, match="at least 2"):
        tokenize(["chair"], context_length=1)


def test_benchmark_names_match_reference_ids():
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden/token_ids.json")
    golden = json.loads(GOLDEN.read_text())["labels"]
    assert tuple(golden) == get_preset("b15n4").split.names
    for row, ids in zip(tokenize(list(golden)).tolist(), golden.values(), strict=True):
        assert row == ids + [0] * (77 - len(ids))
