"""label_points: kernels against the reference."""

import pytest
import torch

from xmask3d_rt.kernels import build_label_tables, label_points
from xmask3d_rt.kernels.label_points.reference import label_points_reference


def random_tables(embed, feat, classes, names, share=0.5):
    text_class = torch.cat([torch.arange(classes), torch.randint(classes, (names - classes,))])
    return build_label_tables(
        torch.randn(names, embed),
        text_class,
        torch.rand(classes) < share,
        torch.randn(embed, 2 * embed) / embed**0.5,
        torch.randn(embed) * 0.1,
        14.0,
        0.65,
        0.35,
        voxel_weight=None if feat is None else torch.randn(embed, feat) / feat**0.5,
        voxel_bias=None if feat is None else torch.randn(embed) * 0.1,
    )


def random_view(n, voxels, queries, embed, feat, dtype=torch.float32):
    return (
        torch.randn(voxels, feat or embed).to(dtype),
        torch.randint(voxels, (n,)),
        torch.randint(-1, max(queries, 1), (n,), dtype=torch.int32).clamp(max=queries - 1),
        torch.randn(queries, embed),
        torch.randn(queries, embed),
        torch.rand(n),
        torch.randn(n, 3),
    )


def assert_same(view, tables):
    """Labels equal: margins of random features are far above the 1e-6 of the arithmetic."""
    result = label_points(*view, tables)
    expected = label_points_reference(*view, tables)
    for ours, theirs in zip(result[:3], expected[:3], strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(result[3], expected[3], rtol=1e-4, atol=1e-5)
    return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 31, 601])
def test_sizes_and_dtypes(n, dtype):
    torch.manual_seed(n)
    assert_same(random_view(n, n, 7, 48, 20, dtype), random_tables(48, 20, 19, 19))


def test_no_points():
    result = label_points(*random_view(0, 5, 3, 16, None), random_tables(16, None, 3, 3))
    assert all(part.shape == (0,) for part in result)


@pytest.mark.parametrize(("classes", "names"), [(1, 1), (70, 90), (40, 130)])
def test_many_classes_and_names(classes, names):
    torch.manual_seed(classes)
    assert_same(random_view(200, 100, 5, 40, None), random_tables(40, None, classes, names))


@pytest.mark.parametrize("share", [-1.0, 2.0])
def test_one_sided_class_lists(share):
    torch.manual_seed(0)
    assert_same(random_view(100, 100, 4, 24, 10), random_tables(24, 10, 6, 8, share))


@pytest.mark.parametrize("queries", [0, 3])
def test_uncovered_view(queries):
    torch.manual_seed(1)
    view = list(random_view(60, 40, queries, 24, 10))
    view[2] = torch.full((60,), -1, dtype=torch.int32)
    result = assert_same(view, random_tables(24, 10, 5, 5))
    assert torch.equal(result.two_d, result.three_d)


def test_strided_features():
    torch.manual_seed(2)
    view = list(random_view(60, 40, 3, 24, 10))
    view[0] = torch.randn(10, 40).T
    assert_same(view, random_tables(24, 10, 5, 5))
