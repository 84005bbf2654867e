"""mask_pool: kernels against the reference."""

import pytest
import torch

from xmask3d_rt.kernels import mask_pool
from xmask3d_rt.kernels.mask_pool.reference import mask_pool_reference

# float32: order of sums and the 2^-22 of split products; half precision: one rounding of output
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(1, 16, 1, 1, 1), (2, 70, 7, 11, 5), (1, 24, 19, 17, 66)])
def test_pixels(shape, dtype):
    batch, channels, height, width, queries = shape
    torch.manual_seed(0)
    features = torch.randn(batch, channels, height, width).to(dtype)
    mask_logits = torch.randn(batch, queries, height, width)
    mask_logits[:, 0] = -1
    pooled = mask_pool(features, mask_logits)
    expected = mask_pool_reference(features.flatten(2).transpose(1, 2), mask_logits.flatten(2))
    assert pooled.dtype == dtype
    assert pooled[:, 0].eq(0).all()
    difference = (pooled.double() - expected.double()).abs().max()
    assert difference <= TOLERANCE[dtype] * expected.abs().max()


def test_points_and_strided_inputs():
    torch.manual_seed(1)
    features = torch.randn(200, 40)[:, ::2]
    mask_logits = torch.randn(200, 9).T
    pooled = mask_pool(features, mask_logits)
    expected = mask_pool_reference(features[None], mask_logits[None])[0]
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("n", [0, 1, 31])
def test_small_point_counts(n):
    torch.manual_seed(n)
    features, mask_logits = torch.randn(n, 5), torch.randn(3, n)
    expected = mask_pool_reference(features[None], mask_logits[None])[0]
    torch.testing.assert_close(mask_pool(features, mask_logits), expected, rtol=1e-5, atol=2e-6)


def test_float64_rejected():
    with pytest.raises(TypeError, match=r"pass features\.float"):
        mask_pool(torch.zeros(4, 2, dtype=torch.float64), torch.zeros(3, 4))
