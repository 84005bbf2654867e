"""The batches of an epoch, in an order and with random choices that seeds alone decide.

Sample p of an epoch is drawn with a generator seeded by (run, epoch, p), whichever process or
worker loads it, and all processes cut their batches from one order. So two processes see together
what one would see alone, and an epoch goes on at any batch.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from xmask3d_rt.training.batch import (
    MAX_OFFSET,
    TrainingBatch,
    TrainingDataset,
    collate_samples,
)

ORDER, SAMPLE, OFFSET, POINTS = range(4)  # what a stream of random numbers is for


def make_rng(purpose: int, seed: int, *counters: int) -> np.random.Generator:
    """A generator of its own for each purpose and counters, reproducible from the run's seed."""
    return np.random.default_rng([seed, purpose, *counters])


@dataclass(frozen=True)
class Share:
    """How batches are cut: the `rank`-th of `world` processes takes `size` samples at a time.

    `per_step` batches make one step of the optimiser.
    """

    size: int
    rank: int = 0
    world: int = 1
    per_step: int = 1

    @property
    def global_batch(self) -> int:
        """Samples of a step of the optimiser, over all processes."""
        return self.size * self.world * self.per_step

    def positions(self, batch: int) -> range:
        """Places in the epoch's order of the samples of this process's `batch`-th batch."""
        start = (batch * self.world + self.rank) * self.size
        return range(start, start + self.size)


class EpochBatches(Dataset[TrainingBatch]):
    """One epoch of one process: batch by number.

    Args:
        data: the samples.
        share: which of them.
        seed: of the run.
        epoch: from 0.
    """

    def __init__(self, data: TrainingDataset, share: Share, seed: int, epoch: int) -> None:
        self._data = data
        self._share = share
        self._seed = seed
        self._epoch = epoch
        self._order = make_rng(ORDER, seed, epoch).permutation(len(data))

    def __len__(self) -> int:
        return len(self._data) // self._share.global_batch * self._share.per_step

    def __getitem__(self, batch: int) -> TrainingBatch:
        samples = [
            self._data.load(
                int(self._order[position]), make_rng(SAMPLE, self._seed, self._epoch, position)
            )
            for position in self._share.positions(batch)
        ]
        offset = make_rng(OFFSET, self._seed, self._epoch, batch).integers(0, MAX_OFFSET, 3)
        return collate_samples(samples, offset.tolist())

    def point_seeds(self, batch: int) -> list[int]:
        """Seeds of the points at which the masks of each sample of a batch are compared."""
        return [
            int(make_rng(POINTS, self._seed, self._epoch, position).integers(0, 2**63))
            for position in self._share.positions(batch)
        ]


class _From(SequentialSampler):
    """Numbers from `start` on."""

    def __init__(self, data: Sized, start: int) -> None:
        super().__init__(data)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, len(self)))


def count_steps(data: TrainingDataset, share: Share) -> int:
    """Steps of the optimiser in an epoch; samples that fill no batch are left out.

    Raises:
        ValueError: there are fewer samples than one batch needs.
    """
    steps = len(data) // share.global_batch
    if not steps:
        raise ValueError(
            f"the data has {len(data)} samples an epoch, fewer than a batch of "
            f"{share.global_batch}; lower optim.batch_size or raise run.loop"
        )
    return steps


def load_batches(
    batches: EpochBatches, start: int, workers: int, pin: bool
) -> Iterator[TrainingBatch]:
    """Batches of an epoch from number `start` on, loaded ahead by worker processes.

    Args:
        batches: the epoch.
        start: first batch.
        workers: processes that load; 0 loads in this one.
        pin: keep them in page-locked memory, for a GPU.
    """
    sampler = _From(batches, start)
    yield from DataLoader(
        batches, batch_size=None, sampler=sampler, num_workers=workers, pin_memory=pin
    )
