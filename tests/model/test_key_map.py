"""Every tensor of the module has its place in the three weight files, and nothing is left over."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
import weight_files as write
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.key_map import (
    NAMESPACES,
    SD_UNUSED,
    Source,
    Transform,
    build_key_map,
    map_hf_clip,
    map_name,
)
from xmask3d_rt.model.xmask3d import XMask3D

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "checkpoint_keys.json"

# SHA-256 over the sorted lines "key shape" of each real file, unused keys left out
KEY_LISTS = {
    "xmask3d": (1073, "676391177f6db05833242df64e2ebfc07673234caa7727050a321cea4efb9df7"),
    "sd": (1130, "dd0d17c940fbd3a9caaa5c0908f12bcc529c3920a6edcf30fe8eedab2d41b931"),
    "clip": (446, "2c3352c736b1d5c918f42715b20fd07d2de9fef8ef343f5f2f3f6647cf331bda"),
}
# Keys of the real Stable Diffusion file that no tensor of the module needs: the noise schedule
# (t = 0 needs one number, in the configuration), and the positions 0..76.
UNUSED_KEYS = {
    *("betas", "alphas_cumprod", "alphas_cumprod_prev"),
    *("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod"),
    *("sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod"),
    *("posterior_variance", "posterior_log_variance_clipped"),
    *("posterior_mean_coef1", "posterior_mean_coef2"),
    "cond_stage_model.transformer.text_model.embeddings.position_ids",
}


def list_file_keys(preset):
    """Key → shape of each namespace, from the module alone."""
    with torch.device("meta"):
        model = XMask3D(get_preset(preset))
    state = model.state_dict()
    files = {namespace: {} for namespace in NAMESPACES}
    for name, source in build_key_map(model).items():
        for key, shape in zip(source.keys, source.shapes(state[name].shape), strict=True):
            assert key not in files[source.namespace], f"{key} is used twice"
            files[source.namespace][key] = list(shape)
    return files


@pytest.fixture(scope="module")
def file_keys():
    return list_file_keys("b15n4")


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_keys_are_those_of_the_released_files(namespace, file_keys):
    keys = file_keys[namespace]
    lines = "\n".join(f"{key} {keys[key]}" for key in sorted(keys))
    assert (len(keys), hashlib.sha256(lines.encode()).hexdigest()) == KEY_LISTS[namespace]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_nothing_is_left_over_on_either_side(namespace, file_keys):
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden/checkpoint_keys.json")
    released = json.loads(GOLDEN.read_text())[namespace]
    ours = file_keys[namespace]
    assert {key: shape for key, (shape, _) in released.items() if key in ours} == ours
    assert set(released) - set(ours) == (UNUSED_KEYS if namespace == "sd" else set())


@pytest.mark.parametrize("key", [*sorted(UNUSED_KEYS), "model_ema.decay", "scale_factor"])
def test_unused_keys_are_tolerated_by_name(key):
    assert SD_UNUSED.fullmatch(key)


@pytest.mark.parametrize(
    "key", ["alphas_cumprod_prevv", "model.diffusion_model.out.0.bias", "first_stage_model.lossy"]
)
def test_other_keys_are_not_tolerated(key):
    assert not SD_UNUSED.fullmatch(key)


@pytest.mark.parametrize("preset", ["tiny", "b170n30"])
def test_presets_share_all_names(preset, file_keys):
    """Tiny has fewer layers; apart from numbers its names are the same."""

    def shapeless(files):
        return {
            namespace: {re.sub(r"\.\d+\.", ".N.", key) for key in keys}
            for namespace, keys in files.items()
        }

    other = list_file_keys(preset)
    if preset == "tiny":
        for namespace, names in shapeless(other).items():
            assert names <= shapeless(file_keys)[namespace]
    else:
        assert {n: set(keys) for n, keys in other.items()} == {
            n: set(keys) for n, keys in file_keys.items()
        }


def test_unet_agrees_with_the_converter_of_diffusers(synthetic_tiny):
    unet = synthetic_tiny.diffusion.unet
    tensors = write.file_tensors(synthetic_tiny, "sd")
    check_equal(convert_ldm_unet_checkpoint(dict(tensors), unet.config), unet.state_dict())


def test_vae_agrees_with_the_converter_of_diffusers(synthetic_tiny):
    vae = synthetic_tiny.diffusion.vae
    tensors = write.file_tensors(synthetic_tiny, "sd")
    check_equal(convert_ldm_vae_checkpoint(dict(tensors), vae.config), vae.state_dict())


def check_equal(converted, expected):
    assert set(converted) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(converted[name].reshape(tensor.shape), tensor), name


def test_text_encoder_packs_projections_in_order():
    source = map_name("diffusion.text_encoder.transformer.resblocks.3.attn.in_proj_bias")
    layer = "cond_stage_model.transformer.text_model.encoder.layers.3.self_attn."
    assert source.keys == (layer + "q_proj.bias", layer + "k_proj.bias", layer + "v_proj.bias")
    parts = [torch.full((2,), float(i)) for i in range(3)]
    assert source.assemble(parts).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
        ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
        ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
        (
            "visual.transformer.resblocks.23.mlp.c_proj.bias",
            "vision_model.encoder.layers.23.mlp.fc2.bias",
        ),
        ("visual.proj", "visual_projection.weight"),
        ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        ("ln_final.weight", "text_model.final_layer_norm.weight"),
        ("transformer.resblocks.0.ln_2.bias", "text_model.encoder.layers.0.layer_norm2.bias"),
        ("text_projection", "text_projection.weight"),
        ("logit_scale", "logit_scale"),
    ],
)
def test_hugging_face_clip_names(name, key):
    assert map_hf_clip(name).keys == (key,)


@pytest.mark.parametrize("transform", Transform)
def test_shapes_invert_assembly(transform):
    keys = ("a", "b", "c") if transform is Transform.CONCAT else ("a",)
    source = Source("sd", keys, transform)
    parts = [torch.zeros(shape) for shape in source.shapes((6, 4))]
    assert source.assemble(parts).shape == (6, 4)


@pytest.mark.parametrize("name", ["segmenter.weight", "diffusion.noise", "clips.visual.proj"])
def test_names_of_no_weight_file_rejected(name):
    with pytest.raises(KeyError, match="no weight file"):
        map_name(name)
