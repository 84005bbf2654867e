"""How long each stage of `tiny` takes, by the machine it runs on."""

from dataclasses import dataclass

from xmask3d_rt.training.towers.fit import Plan

FIRST_VALIDATION_ROOM = 90_000  # a training seed: held-out rooms are for the final score alone


@dataclass(frozen=True)
class Schedule:
    """One recipe.

    Attributes:
        rooms, validation_rooms: generated for training and for watching it.
        views: of each room.
        words: the most words the text tower learns; None for all.
        text, image, vae, unet: plans of the stand-ins.
        settings: of the trainer, as of `xmask3d_rt.training --set`.
    """

    rooms: int
    validation_rooms: int
    views: int
    words: int | None
    text: Plan
    image: Plan
    vae: Plan
    unet: Plan
    settings: tuple[str, ...]

    @property
    def training_seeds(self) -> range:
        """Seeds of the training rooms."""
        return range(self.rooms)

    @property
    def validation_seeds(self) -> range:
        """Seeds of the rooms that training is watched on."""
        first = FIRST_VALIDATION_ROOM
        return range(first, first + self.validation_rooms)


_SETTINGS = (
    "loss.points=3136",
    "loss.start_contrast=1",
    "loss.contrast=4",
    "loss.binary_pos_weight=0.2",
    "optim.lr_3d=2e-3",
    "optim.lr_others=1e-3",
    "optim.clip_norm=1",
    "optim.checkpointing=none",
    "run.workers=0",
    "run.validate_views=4",
)

SCHEDULES = {
    # a few minutes on two cores: shows that every stage works
    "short": Schedule(
        rooms=6,
        validation_rooms=2,
        views=4,
        words=600,
        text=Plan(steps=150, batch=64, rate=2e-3, warm_up=20),
        image=Plan(steps=60, batch=4, warm_up=10),
        vae=Plan(steps=20, batch=4, warm_up=5),
        unet=Plan(steps=20, batch=4, warm_up=5),
        settings=(*_SETTINGS, "optim.epochs=2", "optim.batch_size=2", "run.loop=2"),
    ),
    # an evening on a core of a busy machine
    "evening": Schedule(
        rooms=96,
        validation_rooms=8,
        views=8,
        words=5000,
        text=Plan(steps=2000, batch=128, rate=2e-3, warm_up=200),
        image=Plan(steps=3000, batch=8, warm_up=200),
        vae=Plan(steps=600, batch=4, warm_up=30),
        unet=Plan(steps=300, batch=4, rate=2e-3, warm_up=30),
        settings=(
            *_SETTINGS,
            *("optim.epochs=4", "optim.batch_size=4", "run.loop=4"),
            *("run.validate_scenes=4", "run.save_every=50"),
        ),
    ),
    # two cores, a night
    "night": Schedule(
        rooms=480,
        validation_rooms=12,
        views=12,
        words=None,
        text=Plan(steps=20_000, batch=256, rate=2e-3, warm_up=500),
        image=Plan(steps=15_000, batch=8, warm_up=500),
        vae=Plan(steps=3000, batch=4, warm_up=100),
        unet=Plan(steps=4000, batch=4, warm_up=100),
        settings=(
            *_SETTINGS,
            *("optim.epochs=20", "optim.batch_size=4", "run.loop=8"),
            *("run.validate_scenes=6", "run.save_every=100"),
        ),
    ),
    # an H100, 25 minutes
    "gpu": Schedule(
        rooms=960,
        validation_rooms=12,
        views=12,
        words=None,
        text=Plan(steps=20_000, batch=512, rate=2e-3, warm_up=500),
        image=Plan(steps=20_000, batch=32, warm_up=500),
        vae=Plan(steps=6000, batch=32, warm_up=100),
        unet=Plan(steps=8000, batch=32, warm_up=100),
        settings=(
            *_SETTINGS,
            *("optim.epochs=20", "optim.batch_size=16", "run.loop=12"),
            *("run.validate_scenes=6", "run.save_every=100", "run.workers=8"),
        ),
    ),
}
