"""Writers of weight files as they are found in the wild, from the tiny model's weights."""

import contextlib
import json
import sys
import types

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from xmask3d_rt.model.key_map import Transform, build_key_map, map_hf_clip


def split_source(source, tensor):
    """The inverse of `Source.assemble`; unchanged tensors share the model's memory."""
    match source.transform:
        case Transform.CONCAT:
            parts = [part.clone() for part in tensor.chunk(len(source.keys))]
        case Transform.SQUEEZE:
            parts = [tensor[:, :, None, None]]
        case Transform.TRANSPOSE:
            parts = [tensor.T.contiguous()]
        case _:
            parts = [tensor]
    return dict(zip(source.keys, parts, strict=True))


def file_tensors(model, namespace):
    """Tensors of the namespace under the names of its best known file."""
    state = model.state_dict()
    tensors = {}
    for name, source in build_key_map(model).items():
        if source.namespace == namespace:
            tensors |= split_source(source, state[name])
    return tensors


def write_xmask3d(path, tensors):
    """As upstream's trainer saves: a DataParallel prefix, an optimizer, a NumPy score."""
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(5)}}, "param_groups": [{"lr": 0.1}]}
    content = {
        "epoch": 150,
        "state_dict": {"module." + key: tensor for key, tensor in tensors.items()},
        "optimizer": optimizer,
        "best_iou": np.float64(0.5),
    }
    torch.save(content, path)
    return path


def write_sd_ckpt(path, tensors):
    """As CompVis' trainer saved: Lightning's bookkeeping, schedule, moving averages."""
    module = "pytorch_lightning.callbacks.model_checkpoint"
    kind = type("ModelCheckpoint", (), {"__module__": module})
    extra = {
        "betas": torch.ones(1000),
        "sqrt_one_minus_alphas_cumprod": torch.ones(1000),
        "log_one_minus_alphas_cumprod": torch.ones(1000),
        "posterior_mean_coef1": torch.ones(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.diffusion_modelinput_blocks00weight": torch.ones(3),
        "first_stage_model.loss.logvar": torch.zeros(()),
    }
    content = {
        "epoch": 12,
        "callbacks": {kind: {"best_model_score": torch.tensor(0.1), "dirpath": "logs"}},
        "state_dict": tensors | extra,
    }
    with pretend_module(module, ModelCheckpoint=kind):
        torch.save(content, path)
    return path


@contextlib.contextmanager
def pretend_module(name, **members):
    """A module that can be imported inside the block, and no longer after it."""
    parts = name.split(".")
    names = [".".join(parts[: i + 1]) for i in range(len(parts))]
    for each in names:
        sys.modules[each] = types.ModuleType(each)
    vars(sys.modules[name]).update(members)
    try:
        yield
    finally:
        for each in names:
            del sys.modules[each]


def write_safetensors(path, tensors):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def write_diffusers(path, model, old_names=False):
    """A pipeline folder; `old_names` as libraries of 2022 wrote it, in torch files."""
    state = model.state_dict()
    parts = {"unet": {}, "vae": {}, "text_encoder": {}}
    prefix = "cond_stage_model.transformer."
    for name, source in build_key_map(model).items():
        part, _, inner = name.removeprefix("diffusion.").partition(".")
        if source.namespace != "sd":
            continue
        if part == "text_encoder":
            found = split_source(source, state[name])
            parts[part] |= {key.removeprefix(prefix): value for key, value in found.items()}
        else:
            parts[part][inner] = state[name]
    for part, tensors in parts.items():
        (path / part).mkdir(parents=True)
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        if not old_names:
            write_safetensors(path / part / f"{stem}.safetensors", tensors)
            continue
        stem = "pytorch_model" if part == "text_encoder" else stem
        torch.save(
            {_old_name(part, key): value for key, value in tensors.items()},
            path / part / f"{stem}.bin",
        )
    return path


def _old_name(part, key):
    if part != "vae" or ".attentions." not in key:
        return key
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
        key = key.replace(f".{new}.", f".{old}.")
    return key.replace(".to_out.0.", ".proj_attn.")


def write_open_clip(path, tensors):
    """As open_clip's trainer saves."""
    content = {
        "epoch": 3,
        "name": "run",
        "state_dict": {f"module.{k}": v for k, v in tensors.items()},
    }
    torch.save(content, path)
    return path


def hf_clip_tensors(model):
    tensors = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    for name, tensor in model.clip.state_dict().items():
        tensors |= split_source(map_hf_clip(name), tensor)
    return tensors


def write_hf_clip(path, model, shards=1):
    """A CLIPModel folder, sharded by an index if asked."""
    path.mkdir()
    tensors = hf_clip_tensors(model)
    if shards == 1:
        write_safetensors(path / "model.safetensors", tensors)
        return path
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[i::shards]}
        write_safetensors(path / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


class _Program(nn.Module):
    """Any compiled program with the model's attributes, as OpenAI's archive is one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _mirror(module):
    """The same tree of attributes without the code, which TorchScript need not compile."""
    copy = _Program()
    for name, parameter in module._parameters.items():
        if parameter is not None:
            copy.register_parameter(name, nn.Parameter(parameter.detach().half()))
    for name, child in module._modules.items():
        copy.add_module(name, _mirror(child))
    return copy


def write_openai(path, model):
    """A TorchScript archive in half precision, with OpenAI's three constants."""
    program = _mirror(model.clip)
    for name in ("input_resolution", "context_length", "vocab_size"):
        program.register_buffer(name, torch.tensor(224))
    torch.jit.script(program).save(str(path))
    return path
