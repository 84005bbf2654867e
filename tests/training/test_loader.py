"""Order and random choices of an epoch follow from seeds and counters alone."""

import numpy as np
import pytest
import torch

from xmask3d_rt.training.batch import TrainingSample, collate_samples
from xmask3d_rt.training.loader import EpochBatches, Share, count_steps, load_batches
from xmask3d_rt.training.points import RandomPoints, choose_points

SIZE = 8


class Numbers:
    """Samples that carry their index and a random number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def load(self, index, rng):
        return make_sample(str(index), voxels=2, points=3, value=rng.random())


def make_sample(name, voxels=2, points=3, value=0.0):
    return TrainingSample(
        name=name,
        image=np.full((SIZE, SIZE, 3), 51, np.uint8),
        coords=np.arange(3 * voxels, dtype=np.int32).reshape(voxels, 3),
        colors=np.full((voxels, 3), value, np.float32),
        point_to_voxel=np.zeros(points, np.int64),
        row=np.arange(points),
        col=np.arange(points) + 1,
        labels_3d=np.arange(points),
        binary_label=np.arange(points) % 2,
        label_2d=np.zeros((SIZE, SIZE), np.uint8),
        caption=f"caption {name}",
    )


def read(batches, start=0, workers=0):
    return list(load_batches(batches, start, workers, pin=False))


def summarise(batches):
    return [(b.names, b.colors[:, 0].tolist(), b.coords.tolist()) for b in batches]


def test_an_epoch_visits_every_sample_once_and_drops_the_rest():
    batches = read(EpochBatches(Numbers(11), Share(2), seed=1, epoch=0))
    names = [name for batch in batches for name in batch.names]
    assert len(names) == len(set(names)) == 10


def test_epochs_and_seeds_give_other_orders():
    first = summarise(read(EpochBatches(Numbers(8), Share(2), 1, 0)))
    assert first == summarise(read(EpochBatches(Numbers(8), Share(2), 1, 0)))
    assert first != summarise(read(EpochBatches(Numbers(8), Share(2), 1, 1)))
    assert first != summarise(read(EpochBatches(Numbers(8), Share(2), 2, 0)))


def test_an_epoch_goes_on_at_any_batch_with_any_number_of_workers():
    whole = summarise(read(EpochBatches(Numbers(8), Share(2), 1, 0)))
    assert summarise(read(EpochBatches(Numbers(8), Share(2), 1, 0), start=2)) == whole[2:]
    assert summarise(read(EpochBatches(Numbers(8), Share(2), 1, 0), workers=2)) == whole


def test_processes_see_together_what_one_sees_alone():
    alone = EpochBatches(Numbers(8), Share(4), 1, 0)
    pair = [EpochBatches(Numbers(8), Share(2, rank, 2), 1, 0) for rank in range(2)]
    for i in range(2):
        together = [batches[i] for batches in pair]
        assert alone[i].names == together[0].names + together[1].names
        torch.testing.assert_close(alone[i].colors, torch.cat([batch.colors for batch in together]))
        torch.testing.assert_close(
            alone[i].coords[:, 1:], torch.cat([batch.coords[:, 1:] for batch in together])
        )
        assert alone.point_seeds(i) == pair[0].point_seeds(i) + pair[1].point_seeds(i)


def test_batches_count_whole_steps_of_the_optimiser():
    share = Share(2, world=2, per_step=3)
    assert count_steps(Numbers(25), share) == 2
    assert len(EpochBatches(Numbers(25), share, 0, 0)) == 6
    with pytest.raises(ValueError, match="11 samples an epoch, fewer than a batch of 12"):
        count_steps(Numbers(11), share)


def test_samples_are_joined():
    batch = collate_samples([make_sample("a"), make_sample("b", voxels=1, points=2)], (5, 6, 7))
    assert batch.names == ("a", "b")
    assert batch.captions == ("caption a", "caption b")
    assert batch.coords.tolist() == [[0, 5, 7, 9], [0, 8, 10, 12], [1, 5, 7, 9]]
    assert batch.coords.dtype == torch.int32
    assert batch.point_to_voxel.tolist() == [0, 0, 0, 2, 2]
    assert batch.point_view.tolist() == [0, 0, 0, 1, 1]
    assert batch.labels_3d.tolist() == [0, 1, 2, 0, 1]
    assert batch.images.shape == (2, 3, SIZE, SIZE)
    assert (batch.images == 0.2).all()
    assert batch.image_keys[0] == batch.image_keys[1]


def test_no_samples_are_rejected():
    with pytest.raises(ValueError, match="no samples"):
        collate_samples([])


def test_points_follow_their_image_s_seed():
    device = torch.device("cpu")
    both, second = RandomPoints(32, [1, 2], device), RandomPoints(32, [2], device)
    both.draw_matching(0)
    masks = torch.randn(3, 16, 16)
    torch.testing.assert_close(both.draw_matching(1), second.draw_matching(0))
    torch.testing.assert_close(both.draw_loss(1, masks), second.draw_loss(0, masks))


def test_points_lean_towards_undecided_places():
    ramp = torch.linspace(-8, 8, 64).expand(1, 64, 64)
    generator = torch.Generator().manual_seed(0)
    candidates = torch.rand(1, 300, 2, generator=generator)
    chosen = choose_points(ramp, candidates, torch.rand(1, 25, 2, generator=generator))
    assert chosen.shape == (1, 100, 2)
    assert (chosen[0, :75, 0] - 0.5).abs().max() < 0.2
