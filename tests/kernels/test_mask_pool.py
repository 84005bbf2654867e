"""mask_pool: the mean over hard masks, both layouts, gradients, refusals."""

import pytest
import torch

from xmask3d_rt.kernels import mask_pool


def naive_pool(features, mask_logits):
    """Mean feature of each mask by looping over batches and queries."""
    batch, queries = mask_logits.shape[:2]
    pooled = torch.zeros(batch, queries, features.shape[1], dtype=torch.float64)
    for b in range(batch):
        for q in range(queries):
            inside = mask_logits[b, q] > 0
            if inside.any():
                pooled[b, q] = features[b][:, inside].double().mean(1)
    return pooled


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-7), (torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)],
)
def test_equals_the_loop(dtype, tolerance):
    # the tolerance is one rounding of the output, and the 1e-8 in the denominator
    torch.manual_seed(0)
    features = torch.randn(2, 12, 9, 7).to(dtype)
    mask_logits = torch.randn(2, 5, 9, 7)
    mask_logits[1, 3] = -1.0
    pooled = mask_pool(features, mask_logits)
    assert pooled.dtype == dtype
    expected = naive_pool(features, mask_logits)
    assert (pooled.double() - expected).abs().max() <= tolerance * expected.abs().max()
    assert pooled[1, 3].eq(0).all()


def test_logit_zero_is_outside():
    features = torch.tensor([[[[1.0, 5.0]]]])
    assert mask_pool(features, torch.tensor([[[[0.0, 2.0]]]])).item() == pytest.approx(5.0)


def test_points_layout_equals_pixels():
    torch.manual_seed(1)
    features, mask_logits = torch.randn(1, 6, 4, 5), torch.randn(1, 3, 4, 5)
    points = mask_pool(features[0].flatten(1).T, mask_logits[0].flatten(1))
    assert torch.equal(points, mask_pool(features, mask_logits)[0])


@pytest.mark.parametrize("shape", [(1, 4, 0, 3), (1, 0, 2, 2)])
def test_empty(shape):
    features = torch.zeros(shape)
    pooled = mask_pool(features, torch.zeros(1, 2, *shape[2:]))
    assert pooled.shape == (1, 2, shape[1])
    assert pooled.eq(0).all()


def test_gradient_of_the_features():
    torch.manual_seed(2)
    features = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    mask_logits = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: mask_pool(f, mask_logits), (features,))


def test_fake_has_the_shape():
    compiled = torch.compile(mask_pool, backend="eager", fullgraph=True)
    features, mask_logits = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 4, 4)
    assert torch.equal(compiled(features, mask_logits), mask_pool(features, mask_logits))


@pytest.mark.parametrize(
    ("features", "mask_logits", "message"),
    [
        (torch.zeros(3, 4, 5), torch.zeros(1, 2, 4, 5), r"\[B, C, H, W\]"),
        (torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 5, 4), r"\[B, Q, H, W\]"),
        (torch.zeros(7, 3), torch.zeros(2, 6), r"\[Q, N\]"),
        (torch.zeros(7, 3), torch.zeros(2, 7, device="meta"), "one device"),
    ],
)
def test_bad_shapes_rejected(features, mask_logits, message):
    with pytest.raises(ValueError, match=message):
        mask_pool(features, mask_logits)


def test_integers_rejected():
    with pytest.raises(TypeError, match="floating point"):
        mask_pool(torch.zeros(7, 3).int(), torch.zeros(2, 7))
