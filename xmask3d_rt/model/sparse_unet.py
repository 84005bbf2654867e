"""MinkUNet: the sparse 3D UNet of the point encoder and of the binary head.

Four stride-2 stages down, four up with skip connections, residual basic blocks, no bias in any
convolution. Module names are those of the released checkpoint, so its tensors load as they are.

Source: design of MinkUNet34C / 18A (Choy et al., CVPR 2019, arXiv 1904.08755).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.config import SparseUNetConfig
from xmask3d_rt.kernels import KernelMap, UNetMaps, sparse_conv

LEVELS = 4
Feats = Tensor | tuple[Tensor, Tensor]  # a pair stands for its concatenation along channels


class SparseConv(nn.Module):
    """Sparse convolution without bias; `kernel` is [K³, Cin, Cout], or [Cin, Cout] for 1×1.

    Initial values as in MinkowskiEngine and the released nets: normal over the fan-out, uniform
    where transposed. The released rule reads the fan-out off the second axis, which is Cin where
    a 1×1 kernel has no axis of offsets.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, transposed: bool = False
    ) -> None:
        super().__init__()
        volume = kernel_size**3
        shape = (in_channels, out_channels) if volume == 1 else (volume, in_channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        fan_out = in_channels if volume == 1 else volume * out_channels
        if transposed:
            nn.init.uniform_(self.kernel, -1 / math.sqrt(fan_out), 1 / math.sqrt(fan_out))
        else:
            nn.init.normal_(self.kernel, std=math.sqrt(2 / fan_out))

    def forward(self, feats: Feats, kernel_map: KernelMap | None) -> Tensor:
        """Features [M_out, Cout] on the output voxels of `kernel_map` (None: the same ones)."""
        dtype = feats[0].dtype if isinstance(feats, tuple) else feats.dtype
        return sparse_conv(feats, self.kernel.to(dtype), kernel_map)


class SparseBatchNorm(nn.Module):
    """Batch normalisation over voxels, under the released key `bn`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, feats: Tensor) -> Tensor:
        """Normalised features [M, C]."""
        return self.bn(feats)


class BasicBlock(nn.Module):
    """Two 3³ convolutions around an identity, or a 1×1 projection where the width changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = SparseConv(in_channels, out_channels, 3)
        self.norm1 = SparseBatchNorm(out_channels)
        self.conv2 = SparseConv(out_channels, out_channels, 3)
        self.norm2 = SparseBatchNorm(out_channels)
        self.downsample: nn.ModuleList | None = None
        if in_channels != out_channels:
            projection = SparseConv(in_channels, out_channels, 1)
            self.downsample = nn.ModuleList([projection, SparseBatchNorm(out_channels)])

    def forward(self, feats: Feats, kernel_map: KernelMap) -> Tensor:
        """Features [M, Cout] on the same voxels."""
        out = F.relu(self.norm1(self.conv1(feats, kernel_map)))
        out = self.norm2(self.conv2(out, kernel_map))
        if self.downsample is not None:
            projection, norm = self.downsample
            residual = norm(projection(feats, None))
        else:
            residual = torch.cat(feats, dim=1) if isinstance(feats, tuple) else feats
        return F.relu(out + residual)


def _make_layer(in_channels: int, out_channels: int, depth: int) -> nn.ModuleList:
    widths = [in_channels] + [out_channels] * depth
    return nn.ModuleList(BasicBlock(a, b) for a, b in pairwise(widths))


class MinkUNet(nn.Module):
    """Sparse UNet over five levels of one set of voxels.

    Args:
        config: widths and depths.
    """

    def __init__(self, config: SparseUNetConfig) -> None:
        super().__init__()
        planes, depths = config.planes, config.layers
        self.conv0p1s1 = SparseConv(config.in_channels, config.stem, 5)
        self.bn0 = SparseBatchNorm(config.stem)
        skips = [config.stem]
        width = config.stem
        for level in range(LEVELS):
            stride = 1 << level
            self.add_module(f"conv{level + 1}p{stride}s2", SparseConv(width, width, 2))
            self.add_module(f"bn{level + 1}", SparseBatchNorm(width))
            layer = _make_layer(width, planes[level], depths[level])
            self.add_module(f"block{level + 1}", layer)
            width = planes[level]
            skips.append(width)
        skips.pop()
        for i in range(LEVELS, 2 * LEVELS):
            stride = 1 << (2 * LEVELS - i)
            self.add_module(f"convtr{i}p{stride}s2", SparseConv(width, planes[i], 2, True))
            self.add_module(f"bntr{i}", SparseBatchNorm(planes[i]))
            layer = _make_layer(planes[i] + skips.pop(), planes[i], depths[i])
            self.add_module(f"block{i + 1}", layer)
            width = planes[i]
        self.final = SparseConv(width, config.out_channels, 1)

    def forward(self, feats: Tensor, maps: UNetMaps) -> tuple[Tensor, Tensor]:
        """Features of the coarsest level and of the voxels themselves.

        Args:
            feats: [M, 3] voxel colours in [-1, 1].
            maps: kernel maps of the voxels, from `build_unet_maps`.

        Returns:
            bottleneck [M_16, planes[3]] at tensor stride 16 and output [M, out_channels].
        """
        x = F.relu(self.bn0(self.conv0p1s1(feats, maps.stem)))
        skips = [x]
        for level in range(LEVELS):
            conv = self.get_submodule(f"conv{level + 1}p{1 << level}s2")
            norm = self.get_submodule(f"bn{level + 1}")
            x = F.relu(norm(conv(x, maps.down[level])))
            for block in self.get_submodule(f"block{level + 1}").children():
                x = block(x, maps.conv[level + 1])
            skips.append(x)
        bottleneck = skips.pop()
        for i in range(LEVELS, 2 * LEVELS):
            level = 2 * LEVELS - 1 - i
            conv = self.get_submodule(f"convtr{i}p{2 << level}s2")
            norm = self.get_submodule(f"bntr{i}")
            up = F.relu(norm(conv(x, maps.up[level])))
            inputs: Feats = (up, skips.pop())
            for block in self.get_submodule(f"block{i + 1}").children():
                inputs = block(inputs, maps.conv[level])
            x = torch.cat(inputs, dim=1) if isinstance(inputs, tuple) else inputs
        return bottleneck, self.final(x, None)


class PointEncoder(nn.Module):
    """`pc_decoder`: 3D features in the text space, and the 3D condition of the diffusion UNet.

    Args:
        config: of the sparse UNet.
        embed_dim: width E of the text space.
    """

    def __init__(self, config: SparseUNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.encoder = MinkUNet(config)
        self.point2text_adapter = nn.Linear(config.planes[LEVELS - 1], embed_dim)
        self.decoder = nn.Linear(config.out_channels, embed_dim)

    def forward(self, feats: Tensor, maps: UNetMaps) -> dict[str, Tensor]:
        """Run the encoder and both projections.

        Args:
            feats: [M, 3] voxel colours in [-1, 1].
            maps: kernel maps of the voxels; their batch indices count 0, 1, ...

        Returns:
            imp_condition [B, E] (maximum over each item's coarsest voxels), pred_3d [M, E],
            enc_out [M, out_channels], bottleneck [M_16, planes[3]].
        """
        bottleneck, enc_out = self.encoder(feats, maps)
        adapted = self.point2text_adapter(bottleneck)  # [M_16, E]
        item = maps.coords[-1][:, 0].long()  # [M_16]
        items = int(item.max()) + 1 if len(item) else 0
        condition = adapted.new_zeros(items, adapted.shape[1])
        condition = condition.scatter_reduce(
            0, item[:, None].expand_as(adapted), adapted, "amax", include_self=False
        )
        return {
            "imp_condition": condition,
            "pred_3d": self.decoder(enc_out),
            "enc_out": enc_out,
            "bottleneck": bottleneck,
        }


class BinaryHead(nn.Module):
    """`pc_binary_head`: the logit of P(base) per voxel, on a sparse UNet of its own."""

    def __init__(self, config: SparseUNetConfig) -> None:
        super().__init__()
        self.encoder = MinkUNet(config)
        self.batch_norm = nn.BatchNorm1d(config.out_channels)
        self.fc = nn.Linear(config.out_channels, 1)

    def forward(self, feats: Tensor, maps: UNetMaps) -> Tensor:
        """Logits [M] for voxel colours [M, 3] in [-1, 1]."""
        _, encoded = self.encoder(feats, maps)
        return self.fc(F.relu(self.batch_norm(encoded))).squeeze(1)
