"""Broken manifests and stamps: what loads is right in every part, anything else is one line."""

import copy
import dataclasses
import json

import pytest
from fuzzing import FUZZ, TOKENS, assert_clear, assert_handled, mutate
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from xmask3d_rt.cli.output import print_manifest
from xmask3d_rt.config import Precision
from xmask3d_rt.engines import Manifest, pick_device
from xmask3d_rt.engines.build_command import list_arguments
from xmask3d_rt.engines.files import VERIFIED_NAME
from xmask3d_rt.engines.manifest import MANIFEST_NAME, describe_rebuild
from xmask3d_rt.engines.stamp import BuildStamp, read_stamp, stamp_path
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.build.directory import _check_same
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.build_engines import describe_component

VALUES = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e300, float("nan")),
    *(float("inf"), "", "a", "fp16", "\x00", "a\nb", "\x1b[31m", "é" * 300, "../x", "/x"),
    *([], {}, [[]], [1, 2], {"a": 1}, [None], {"": None}),
]


def list_places(values, place=()):
    """Every (place, container) in nested lists and dictionaries."""
    keys = values.keys() if isinstance(values, dict) else range(len(values))
    for key in list(keys):
        yield values, key
        if isinstance(values[key], dict | list):
            yield from list_places(values[key])


@st.composite
def mutate_json(draw, seeds):
    """Nested values with one to three changes: a value, a key, an entry gone or doubled."""
    values = copy.deepcopy(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(list_places(values))
        if not places:
            break
        container, key = draw(st.sampled_from(places))
        edit = draw(st.sampled_from(["value", "value", "delete", "swap", "key"]))
        if edit == "value":
            container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif edit == "delete":
            del container[key]
        elif edit == "swap":
            other, its_key = draw(st.sampled_from(places))
            container[key] = copy.deepcopy(other[its_key]) if its_key in keys_of(other) else None
        elif isinstance(container, dict):
            name = draw(st.sampled_from([*"ab", "", "\x00", "name", "x" * 300]))
            container[name] = container.pop(key)
    return json.dumps(values).encode(errors="surrogatepass")


def keys_of(container):
    return container.keys() if isinstance(container, dict) else range(len(container))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture
def seeds(manifest, folder):
    """Manifests of this version and of the one before, small enough to be hit everywhere."""
    split = dataclasses.replace(manifest.config.split, names=("wall", "floor"), novel=(1,))
    small = dataclasses.replace(
        manifest, config=dataclasses.replace(manifest.config, split=split), root=folder
    )
    for entry in small.list_files():
        (folder / entry.path).parent.mkdir(exist_ok=True)
        (folder / entry.path).write_bytes((manifest.root / entry.path).read_bytes())
    new = json.loads(small.to_json())
    old = copy.deepcopy(new) | {"schema": 1}
    for part in old["components"].values():
        del part["options"], part["device"]
    return [new, old]


def use_everything(folder):
    """Load a manifest and do with it what the commands do."""
    try:
        loaded = Manifest.load(folder, verify=False)
    except EngineError as error:
        assert_clear(error, folder / MANIFEST_NAME)
        assert_clear(ValueError(describe_rebuild(folder)))
        return None
    assert_handled(loaded.verify)
    print_manifest(Console(file=(folder / "out.txt").open("w")), loaded, verified=False)
    for name, component in loaded.components.items():
        assert loaded.get(name) is component
        describe_component(component, "built", 1.0)
        loaded.path_of(name)
        assert_handled(lambda name=name: list_arguments(loaded, name))
        if component.signature is not None:
            component.signature.resolve(
                component.signature.outputs, component.signature.optimal_axes()
            )
    assert_handled(lambda: loaded.get("nothing"))
    assert_handled(lambda: _check_same(folder, loaded.config, SyntheticWeights().source))
    pick_device("auto", loaded)
    (folder / MANIFEST_NAME).write_text(loaded.to_json())
    assert Manifest.load(folder, verify=False) == loaded
    return loaded


@pytest.mark.fuzz
def test_manifests_of_other_values(seeds, folder):
    @FUZZ
    @given(mutate_json(seeds))
    def check(content):
        (folder / MANIFEST_NAME).write_bytes(content)
        use_everything(folder)

    check()


@pytest.mark.fuzz
def test_manifests_of_other_bytes(seeds, folder):
    @FUZZ
    @given(mutate([json.dumps(seed, indent=2).encode() for seed in seeds]))
    def check(content):
        (folder / MANIFEST_NAME).write_bytes(content)
        use_everything(folder)

    check()


STAMP = BuildStamp(
    "linear",
    "torch",
    "2.13",
    "cpu avx2",
    Precision.BF16,
    "model.onnx",
    ({"x": [[1, 5], [4, 5], [16, 5]]},),
    ("avx2", "fma"),
)


@pytest.mark.fuzz
def test_stamps(folder):
    engine = folder / "linear" / "model.pt2"
    seed = json.loads(STAMP.save(engine).read_text())

    @FUZZ
    @given(st.one_of(mutate([stamp_path(engine).read_bytes()]), mutate_json([seed])))
    def check(content):
        stamp_path(engine).write_bytes(content)
        stamp = assert_handled(lambda: read_stamp(engine), engine)
        if stamp is not None:
            args = (engine, "inductor", "torch", "2.13", "cpu avx2", Precision.BF16)
            assert_handled(lambda: stamp.check(*args), engine)
            assert_handled(lambda: stamp.check_instructions(engine, "inductor", ("avx2",)), engine)

    check()


@pytest.mark.fuzz
def test_notes_of_verified_files(seeds, folder):
    (folder / MANIFEST_NAME).write_text(json.dumps(seeds[0]))
    good = Manifest.load(folder)
    noted = (folder / VERIFIED_NAME).read_bytes()

    @FUZZ
    @given(st.one_of(mutate([noted]), mutate_json([json.loads(noted)]), st.sampled_from(TOKENS)))
    def check(content):
        (folder / VERIFIED_NAME).write_bytes(content)
        assert Manifest.load(folder) == good

    check()
