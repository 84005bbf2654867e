"""sparse_conv on the CPU: dense equivalence, gradients, epilogue, tracing, rejected arguments."""

import pytest
import torch
from torch import Tensor

from tests.kernels.clouds import grid_voxels, random_voxels
from xmask3d_rt.kernels import Epilogue, build_kernel_map, sparse_conv
from xmask3d_rt.kernels.sparse_conv import reference
from xmask3d_rt.kernels.sparse_conv.reference import MapTensors, multiply


@pytest.mark.parametrize(("kernel_size", "in_channels"), [(3, 16), (5, 3), (5, 9)])
def test_full_grid_equals_dense_conv3d(kernel_size, in_channels):
    size, out_channels = 6, 7
    generator = torch.Generator().manual_seed(0)
    feats = torch.randn(size**3, in_channels, generator=generator)
    weight = torch.randn(kernel_size**3, in_channels, out_channels, generator=generator)
    out = sparse_conv(feats, weight, build_kernel_map(grid_voxels(size), kernel_size))
    volume = feats.reshape(size, size, size, in_channels).permute(3, 0, 1, 2)[None]
    dense = torch.nn.functional.conv3d(
        volume, dense_weight(weight, kernel_size), padding=kernel_size // 2
    )
    expected = dense[0].permute(1, 2, 3, 0).reshape(-1, out_channels)
    torch.testing.assert_close(out, expected, atol=2e-4, rtol=1e-4)  # up to 1125 products


@pytest.mark.parametrize("transposed", [False, True])
def test_full_grid_equals_dense_strided_conv3d(transposed):
    size, in_channels, out_channels = 6, 10, 5
    torch.manual_seed(0)
    kernel_map = build_kernel_map(grid_voxels(size), 2, 2)
    side = size // 2 if transposed else size
    feats = torch.randn(side**3, in_channels)
    weight = torch.randn(8, in_channels, out_channels)
    out = sparse_conv(feats, weight, kernel_map.swapped if transposed else kernel_map)
    volume = feats.reshape(side, side, side, in_channels).permute(3, 0, 1, 2)[None]
    dense = dense_weight(weight, 2)
    if transposed:
        expected = torch.nn.functional.conv_transpose3d(volume, dense.transpose(0, 1), stride=2)
    else:
        expected = torch.nn.functional.conv3d(volume, dense, stride=2)
    expected = expected[0].permute(1, 2, 3, 0).reshape(-1, out_channels)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def dense_weight(weight: Tensor, kernel_size: int) -> Tensor:
    """[K³, C_in, C_out] with x fastest, as torch wants it: [C_out, C_in, x, y, z]."""
    cube = weight.reshape(*[kernel_size] * 3, *weight.shape[1:])  # [z, y, x, C_in, C_out]
    return cube.permute(4, 3, 2, 1, 0).contiguous()


def leaf(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("kind", ["conv", "thin", "down", "up", "1x1"])
def test_gradcheck(kind):
    coords = random_voxels(12)
    down = build_kernel_map(coords, 2, 2)
    maps = {"conv": build_kernel_map(coords, 3), "thin": build_kernel_map(coords, 3), "down": down}
    kernel_map = {**maps, "up": down.swapped}.get(kind)
    rows_in = len(coords) if kernel_map is None else kernel_map.in_coords.shape[0]
    rows_out = len(coords) if kernel_map is None else kernel_map.neighbors.shape[0]
    volume = 1 if kernel_map is None else kernel_map.neighbors.shape[1]
    first, second = (2, 1) if kind == "thin" else (7, 4)

    def run(feats, skip, weight, bias, residual):
        epilogue = Epilogue(bias, residual, relu=True)
        return sparse_conv((feats, skip), weight, kernel_map, epilogue)

    torch.manual_seed(0)
    inputs = leaf(rows_in, first), leaf(rows_in, second), leaf(volume, first + second, 3)
    assert torch.autograd.gradcheck(run, (*inputs, leaf(3), leaf(rows_out, 3)), fast_mode=True)


def test_two_sources_equal_their_concatenation():
    coords = random_voxels(200)
    kernel_map = build_kernel_map(coords, 3)
    torch.manual_seed(0)
    feats, skip = torch.randn(len(coords), 12), torch.randn(len(coords), 20)
    weight = torch.randn(27, 32, 16)
    apart = sparse_conv((feats, skip), weight, kernel_map)
    together = sparse_conv(torch.cat([feats, skip], dim=1), weight, kernel_map)
    torch.testing.assert_close(apart, together, atol=1e-4, rtol=1e-5)


def test_epilogue_adds_and_clamps():
    coords = random_voxels(50)
    kernel_map = build_kernel_map(coords, 3)
    torch.manual_seed(0)
    feats, weight = torch.randn(len(coords), 16), torch.randn(27, 16, 8)
    bias, residual = torch.randn(8), torch.randn(len(coords), 8)
    bare = sparse_conv(feats, weight, kernel_map)
    kept = bare.clone(), residual.clone()
    fused = sparse_conv(feats, weight, kernel_map, Epilogue(bias, residual, relu=True))
    torch.testing.assert_close(fused, torch.relu(bare + bias + residual))
    assert torch.equal(residual, kept[1])
    assert torch.equal(bare, kept[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    coords = random_voxels(300)
    kernel_map = build_kernel_map(coords, 3)
    torch.manual_seed(0)
    feats, weight = torch.randn(len(coords), 32).to(dtype), torch.randn(27, 32, 8).to(dtype)
    out = sparse_conv(feats, weight, kernel_map)
    exact = sparse_conv(feats.double(), weight.double(), kernel_map)
    assert out.dtype == dtype
    unit = torch.finfo(dtype).eps
    assert ((out.double() - exact).abs() <= 0.51 * unit * exact.abs() + 1e-4).all()


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows):
    coords = torch.arange(4 * rows).reshape(rows, 4).int()
    weight = torch.randn(27, 16, 4)
    out = sparse_conv(torch.ones(rows, 16), weight, build_kernel_map(coords, 3))
    expected = weight[13].sum(dim=0).expand(rows, 4)
    torch.testing.assert_close(out, expected)


def test_operator_registration():
    coords = random_voxels(40)
    kernel_map = build_kernel_map(coords, 3)
    maps = MapTensors(kernel_map.neighbors, *kernel_map.pairs)
    swapped_maps = MapTensors(kernel_map.swapped.neighbors, *kernel_map.swapped.pairs)
    feats = torch.randn(len(coords), 16, requires_grad=True)
    weight = torch.randn(27, 16, 8, requires_grad=True)
    arguments = (feats, None, weight, *maps, *swapped_maps, None, None, True)
    torch.library.opcheck(torch.ops.xmask3d.sparse_conv.default, arguments)


def test_compiles_without_graph_breaks():
    coords = random_voxels(60)
    kernel_map = build_kernel_map(coords, 3)
    assert kernel_map.in_maps.numel() > 0  # builds the pairs, whose number a graph cannot know
    feats, weight = torch.randn(len(coords), 16), torch.randn(27, 16, 8)

    def layer(feats, weight):
        return sparse_conv(feats * 2, weight, kernel_map, Epilogue(relu=True)) + 1

    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(feats, weight), layer(feats, weight))


def test_exports():
    coords = random_voxels(60)
    kernel_map = build_kernel_map(coords, 2, 2)
    assert kernel_map.in_maps.numel() > 0

    class Layer(torch.nn.Module):
        def forward(self, feats, weight):
            return sparse_conv(feats, weight, kernel_map)

    inputs = torch.randn(len(coords), 16), torch.randn(8, 16, 8)
    program = torch.export.export(Layer(), inputs)
    torch.testing.assert_close(program.module()(*inputs), Layer()(*inputs))
    assert "xmask3d.sparse_conv" in str(program.graph)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": torch.zeros(8, 16, 4)}, ValueError, r"\[27, 16, C_out\]"),
        ({"weight": torch.zeros(27, 15, 4)}, ValueError, r"\[27, 16, C_out\]"),
        ({"weight": torch.zeros(16)}, ValueError, "weight must have shape"),
        ({"weight": torch.zeros(27, 16, 4).half()}, TypeError, "share a dtype"),
        ({"feats": torch.zeros(3, 16)}, ValueError, "one per input voxel"),
        ({"feats": torch.zeros(16)}, ValueError, r"\[M_in, C_in\]"),
        ({"feats": (torch.zeros(3, 9), torch.zeros(7))}, ValueError, "second feats must have"),
        ({"epilogue": Epilogue(bias=torch.zeros(5))}, ValueError, r"bias must have shape \[4\]"),
        ({"epilogue": Epilogue(residual=torch.zeros(2, 4))}, ValueError, "residual must have"),
    ],
)
def test_bad_arguments_rejected(changes, error, message):
    coords = random_voxels(20)
    arguments = {
        "feats": torch.zeros(len(coords), 16),
        "weight": torch.zeros(27, 16, 4),
        "kernel_map": build_kernel_map(coords, 3),
    }
    with pytest.raises(error, match=message):
        sparse_conv(**{**arguments, **changes})


@pytest.mark.parametrize("library", [True, False])
def test_product_is_the_same_with_and_without_onednn(monkeypatch, library):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: library)
    torch.manual_seed(0)
    rows, weight, bias = torch.randn(50, 3 * 40)[:, ::3], torch.randn(40, 24), torch.randn(24)
    exact = rows.double() @ weight.double() + bias.double()
    for given in (weight, weight.t().contiguous().t()):
        product = multiply(rows, given, bias)
        assert product.is_contiguous()
        torch.testing.assert_close(product.double(), exact, rtol=1e-5, atol=1e-5)
    assert multiply(rows[:0], weight, bias).shape == (0, 24)


def test_blocks_of_rows_add_up_to_the_whole(monkeypatch):
    kernel_map = build_kernel_map(random_voxels(200), 3)
    torch.manual_seed(0)
    m = len(kernel_map.neighbors)
    feats, weight = torch.randn(m, 16), torch.randn(27, 16, 8)
    epilogue = Epilogue(bias=torch.randn(8), residual=torch.randn(m, 8), relu=True)
    whole = sparse_conv(feats, weight, kernel_map, epilogue)
    monkeypatch.setattr(reference, "_CHUNK_ELEMENTS", 7 * 27 * 16)  # 7 rows, the last block fewer
    torch.testing.assert_close(sparse_conv(feats, weight, kernel_map, epilogue), whole)
