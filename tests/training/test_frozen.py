"""The disk cache of frozen outputs."""

import torch

from xmask3d_rt.training.frozen import DiskCache

ENTRY = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
BYTES = 24 + 8


def test_entries_come_back_exactly(tmp_path):
    cache = DiskCache(tmp_path, 10 * BYTES)
    assert cache.read("abc") is None
    cache.write("abc", ENTRY)
    found = DiskCache(tmp_path, 0).read("abc")
    assert all(torch.equal(found[name], ENTRY[name]) for name in ENTRY)


def test_a_full_cache_keeps_what_it_has(tmp_path):
    cache = DiskCache(tmp_path, 2 * BYTES)
    for key in ("aa", "bb", "cc"):
        cache.write(key, ENTRY)
    assert cache.read("aa") is not None
    assert cache.read("cc") is None


def test_what_is_there_counts(tmp_path):
    DiskCache(tmp_path, 10 * BYTES).write("aa", ENTRY)
    again = DiskCache(tmp_path, BYTES)
    again.write("bb", ENTRY)
    assert again.read("bb") is None


def test_a_damaged_entry_is_computed_again(tmp_path):
    cache = DiskCache(tmp_path, 10 * BYTES)
    cache.write("aa", ENTRY)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(b"nonsense")
    assert cache.read("aa") is None
