"""From nothing to the shipped file of `tiny`: the stages, each with a file that says it is done.

    rooms      OUT/rooms/{train,val}/SEED       generated rooms
    text       OUT/text/clip.safetensors        CLIP with its text tower, distilled
    image      OUT/image/clip.safetensors       CLIP with both towers
    diffusion  OUT/diffusion/sd.safetensors     VAE, UNet and text encoder
    model      OUT/model/                       a run of `xmask3d_rt.training`
    pack       OUT/tiny.safetensors             all of it, half precision

A stage that has its file is not run again, one that was interrupted goes on where it stopped.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.room import generate_training_room, write_room
from xmask3d_rt.data.rooms.kinds import ATTRIBUTES, KINDS, NOVEL_KINDS, SYNONYMS
from xmask3d_rt.data.training_views import SceneViewDataset
from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.bundled import write_packed
from xmask3d_rt.model.checkpoints import load_checkpoints
from xmask3d_rt.model.clip import Clip
from xmask3d_rt.model.diffusion import Diffusion
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.checkpoint import BEST, LAST
from xmask3d_rt.training.config import TrainingConfig, make_config
from xmask3d_rt.training.first_weights import make_model
from xmask3d_rt.training.towers.autoencoder import train_denoiser, train_vae
from xmask3d_rt.training.towers.fit import Clock
from xmask3d_rt.training.towers.image_tower import score_image_tower, train_image_tower
from xmask3d_rt.training.towers.schedule import Schedule
from xmask3d_rt.training.towers.text_tower import (
    Teacher,
    make_vocabulary,
    score_text_tower,
    train_text_tower,
)
from xmask3d_rt.training.towers.views import ViewStore
from xmask3d_rt.training.towers.vocabulary import list_tokens
from xmask3d_rt.training.towers.weights import load_network, save_network
from xmask3d_rt.training.trainer import Trainer
from xmask3d_rt.training.validation import SceneValidator

SEED = 5557
# Metres; voxels of 5 cm on a surface are still filled, and no view has too many points to train on.
SPACING = 0.04
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Work:
    """What all stages share.

    `out` is the folder of the work, `wordnet` that of WordNet, `device` where networks are
    trained, `clock` the time that the command may take.
    """

    out: Path
    schedule: Schedule
    config: ModelConfig
    wordnet: Path
    device: torch.device
    clock: Clock

    @property
    def rooms(self) -> Path:
        """Folder of the generated rooms."""
        return self.out / "rooms"

    @property
    def text_clip(self) -> Path:
        """CLIP after the text stage."""
        return self.out / "text" / "clip.safetensors"

    @property
    def clip(self) -> Path:
        """CLIP after the image stage."""
        return self.out / "image" / "clip.safetensors"

    @property
    def sd(self) -> Path:
        """The stand-in for Stable Diffusion."""
        return self.out / "diffusion" / "sd.safetensors"

    @property
    def run(self) -> Path:
        """Folder of the model's training run."""
        return self.out / "model"

    @property
    def packed(self) -> Path:
        """The file that ships."""
        return self.out / "tiny.safetensors"

    def open_views(self, split: str) -> ViewStore:
        """The views of a split of the rooms."""
        size = self.config.diffusion.image_size
        return ViewStore(open_collection(self.rooms, split), self.out / "views" / split, size)


def make_rooms(work: Work) -> bool:
    """Generate what is missing of the rooms; captions do not name novel kinds."""
    schedule = work.schedule
    splits = {"train": schedule.training_seeds, "val": schedule.validation_seeds}
    for split, seeds in splits.items():
        for seed in seeds:
            folder = work.rooms / split / f"room{seed:06d}"
            if folder.exists():
                continue
            if work.clock.is_over:
                return False
            room = generate_training_room(
                seed, schedule.views, point_spacing=SPACING, unnamed=NOVEL_KINDS
            )
            write_room(room, folder)
    return True


def train_text(work: Work) -> bool:
    """Distil the text tower and score it on words that the rooms do not contain."""
    folder = work.text_clip.parent
    teacher = Teacher(work.wordnet, work.schedule.words, str(work.device))
    vocabulary = make_vocabulary(folder, KINDS, work.config.clip.embed_dim, teacher)
    clip = _make(lambda: Clip(work.config.clip)).to(work.device)
    if not train_text_tower(clip, vocabulary, folder, work.schedule.text, work.clock):
        return False
    score = score_text_tower(clip, KINDS, SYNONYMS)
    _write_scores(folder, score._asdict())
    save_network(clip, "clip", work.text_clip)
    return True


def train_image(work: Work) -> bool:
    """Train the image tower and score it on the views of the validation rooms."""
    folder = work.clip.parent
    clip = _read_text_clip(work).to(work.device)
    views = work.open_views("train")
    if not train_image_tower(clip, views, ATTRIBUTES, folder, work.schedule.image, work.clock):
        return False
    held_out = work.open_views("val")
    confusion = score_image_tower(clip, held_out, KINDS)
    unseen = score_image_tower(clip, held_out, [SYNONYMS[kind][0] for kind in KINDS])
    _write_scores(folder, {**_describe(confusion, ""), **_describe(unseen, "synonym_")})
    save_network(clip, "clip", work.clip)
    return True


def _describe(confusion: np.ndarray, prefix: str) -> dict[str, float]:
    """Mean accuracy in percent over the base and the novel kinds that occur."""
    total = confusion.sum(axis=1)
    accuracy = np.diag(confusion) / np.maximum(total, 1)
    novel = np.array([kind in NOVEL_KINDS for kind in KINDS])
    groups = {"base": ~novel & (total > 0), "novel": novel & (total > 0)}
    return {
        f"{prefix}{name}": 100 * float(accuracy[group].mean())
        for name, group in groups.items()
        if group.any()
    }


def train_diffusion(work: Work) -> bool:
    """Train the VAE, then the UNet; the text encoder is CLIP's, as in Stable Diffusion v1."""
    folder = work.sd.parent
    diffusion = _make(lambda: Diffusion(work.config.diffusion, pruned=False))
    copy_text_encoder(_read_text_clip(work), diffusion)
    diffusion = diffusion.to(work.device)
    views = work.open_views("train")
    schedule = work.schedule
    if not train_vae(diffusion, views, folder, schedule.vae, work.clock):
        return False
    if not train_denoiser(diffusion, views, folder, schedule.unet, work.clock):
        return False
    save_network(diffusion, "sd", work.sd)
    return True


def _read_text_clip(work: Work) -> Clip:
    """CLIP after the text stage, its image tower as drawn."""
    clip = _make(lambda: Clip(work.config.clip))
    load_network(clip, "clip", work.text_clip)
    return clip


def copy_text_encoder(clip: Clip, diffusion: Diffusion) -> None:
    """Make CLIP's text tower the text encoder, as it is in Stable Diffusion v1."""
    state = clip.state_dict()
    encoder = diffusion.text_encoder
    encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})


def train_model(work: Work) -> bool:
    """Train what XMask3D trains, over the frozen stand-ins."""
    config = make_config("tiny", work.schedule.settings)
    run = config.run
    data = SceneViewDataset(work.rooms, config.model, work.run / "cache", loop=run.loop)
    trainer = Trainer(
        make_model(config, work.device, work.sd, work.clip),
        config,
        data,
        work.run,
        _make_validator(work, config),
    )
    if (work.run / LAST).exists():
        trainer.resume()
    return trainer.fit(lambda: work.clock.is_over)


def _make_validator(work: Work, config: TrainingConfig) -> SceneValidator | None:
    run = config.run
    if not run.validate_scenes:
        return None
    return SceneValidator(work.rooms, config.model, run.validate_scenes, run.validate_views)


def pack(work: Work) -> bool:
    """Write the file that ships."""
    vocabulary = make_vocabulary(
        work.text_clip.parent, KINDS, work.config.clip.embed_dim, Teacher(work.wordnet)
    )
    model = XMask3D(work.config)
    load_checkpoints(model, xmask3d=find_checkpoint(work.run), sd=work.sd, clip=work.clip)
    write_packed(model, torch.from_numpy(list_tokens(vocabulary)), work.packed)
    return True


def find_checkpoint(run: Path) -> Path:
    """The best checkpoint of a run, the last where none was scored."""
    best = run / BEST
    return best if best.is_file() else run / LAST


def _make(build: Callable[[], Network]) -> Network:
    """A network with first weights that the recipe's seed decides."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return build()


def _write_scores(folder: Path, scores: dict[str, float]) -> None:
    rounded = {name: round(value, 2) for name, value in scores.items()}
    with atomic_write(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(rounded, indent=1) + "\n")


@dataclass(frozen=True)
class Stage:
    """One stage: what runs it, and the file that it ends with (None: it looks for itself)."""

    run: Callable[[Work], bool]
    result: Callable[[Work], Path | None]


STAGES = {
    "rooms": Stage(make_rooms, lambda work: None),
    "text": Stage(train_text, lambda work: work.text_clip),
    "image": Stage(train_image, lambda work: work.clip),
    "diffusion": Stage(train_diffusion, lambda work: work.sd),
    "model": Stage(train_model, lambda work: None),
    "pack": Stage(pack, lambda work: work.packed),
}


def run_stage(name: str, work: Work) -> bool:
    """Run a stage unless it is done; whether it is done now."""
    stage = STAGES[name]
    result = stage.result(work)
    if result is not None and result.is_file():
        return True
    return stage.run(work)
