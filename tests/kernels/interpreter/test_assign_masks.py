"""assign_masks: kernels against the reference."""

import pytest
import torch

from xmask3d_rt.kernels import MaskAssignment, assign_masks
from xmask3d_rt.kernels.assign_masks.reference import assign_masks_reference


def random_case(queries, classes, n, mask_shape, logits_shape=(9, 11), share=0.5):
    torch.manual_seed(queries + n)
    return (
        torch.randn(queries, *logits_shape) * 3,
        mask_shape,
        torch.randint(0, mask_shape[0], (n,)),
        torch.randint(0, mask_shape[1], (n,), dtype=torch.int32),
        torch.rand(n),
        torch.randn(queries, classes + 1) * 4,
        torch.rand(classes) < share,
    )


def assert_same(case):
    result = assign_masks(*case)
    expected = assign_masks_reference(*case, 0.5)
    for name, ours, theirs in zip(MaskAssignment._fields, result, expected, strict=True):
        assert ours.dtype == theirs.dtype, name
        if ours.is_floating_point():
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert torch.equal(ours, theirs), name
    return result


@pytest.mark.parametrize("n", [0, 1, 31, 1009])
def test_sizes(n):
    assert_same(random_case(20, 19, n, (24, 32)))


def test_more_classes_than_a_block_and_enlarged_masks():
    result = assert_same(random_case(5, 600, 300, (5, 7)))
    assert result.final.any()


@pytest.mark.parametrize("share", [-1.0, 2.0])
def test_one_sided_class_lists(share):
    assert_same(random_case(6, 4, 50, (24, 32), share=share))


def test_nothing_kept():
    case = random_case(4, 3, 20, (8, 8))
    result = assert_same((-case[0].abs() - 1, *case[1:]))
    assert result.point_query.eq(-1).all()


def test_no_queries():
    case = random_case(0, 3, 20, (8, 8))
    assert assign_masks(*case).point_query.eq(-1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_masks(dtype):
    case = random_case(7, 5, 100, (16, 16))
    assert_same((case[0].to(dtype), *case[1:]))


def test_strided_masks():
    case = random_case(7, 5, 100, (16, 16))
    assert_same((case[0].transpose(1, 2), *case[1:]))
