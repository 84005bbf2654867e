"""Options of `xmask3d build`: right ones reach the build, anything else is one line and code 2."""

import pytest
from fuzzing import FUZZ, assert_clear
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from xmask3d_rt.errors import EngineError
from xmask3d_rt.export import build_engines as script
from xmask3d_rt.export.build import directory as build_module
from xmask3d_rt.export.build.directory import BuildResult
from xmask3d_rt.export.build.fingerprint import read_versions

WORDS = [
    *("auto", "cpu", "cuda", "cuda:0", "cuda:-1", "cuda:99999999999", "tpu", "", " ", "x" * 300),
    *("tiny", "b15n4", "b16n3", "synthetic", "fp32", "fp16", "bf16", "fp8", "openvino", "tensorrt"),
    *("onnxruntime", "inductor", "unet", "heads", "0", "1", "4", "-1", "1e300", "nan", "8.9", "89"),
    *("sm_89", "99999999999999999999", "2147483648", "\x00", "a\nb", "\x1b[31m", "\udcff", "é"),
    *("--force", "-", "--", "/dev/null", "/nowhere/file", "~", "[red]"),
]
VALUED = (
    *("--preset", "--weights", "--checkpoint", "--sd", "--clip", "--backend", "--precision"),
    *("--only", "--device", "--compute-capability", "--max-batch", "--workspace", "--cache-dir"),
)
FLAGS = ("--force", "--replace", "--refit", "--strip-weights", "--tf32", "--nothing")
options = st.one_of(
    st.tuples(st.sampled_from(VALUED), st.one_of(st.sampled_from(WORDS), st.text(max_size=20))),
    st.tuples(st.sampled_from(FLAGS)),
)


@pytest.mark.fuzz
def test_options(tmp_path, monkeypatch):
    """The real planning runs; nothing is exported."""
    monkeypatch.chdir(tmp_path)
    planned = []

    def plan_only(out, config, weights, reporter=None, force=False, replace=False, **options):
        target = build_module.pick_build_device(
            options.pop("device"), options["backend"], options["options"]
        )
        planned.append(build_module.plan_components(config, weights, device=target, **options))
        raise EngineError("planned")

    monkeypatch.setattr(script, "build_engines", plan_only)
    runner = CliRunner()

    @FUZZ
    @given(st.lists(options, max_size=5))
    def check(chosen):
        arguments = [word for option in chosen for word in option]
        done = runner.invoke(script.app, arguments)
        assert isinstance(done.exception, SystemExit), (arguments, done.exception)
        assert done.exit_code == 2
        if done.stderr.startswith("error: "):
            assert_clear(ValueError(done.stderr.removeprefix("error: ").rstrip("\n")))
        else:
            assert done.stderr.startswith("Usage: ")
        assert list(tmp_path.iterdir()) == []

    check()
    assert planned, "no combination of options was right"


def test_right_options_reach_the_build(tmp_path, monkeypatch):
    seen = {}

    def remember(out, config, weights, **options):
        seen.update(options, out=out, config=config)
        manifest = build_module.Manifest(config, weights.source, read_versions(), {}, out)
        return BuildResult(manifest)

    monkeypatch.setattr(script, "build_engines", remember)
    monkeypatch.chdir(tmp_path)
    arguments = ["--max-batch", "4", "--workspace", "512", "--refit", "--replace"]
    done = CliRunner().invoke(script.app, [*arguments, "--cache-dir", "cache"])
    assert done.exit_code == 0, done.output
    assert (seen["options"].max_batch, seen["options"].workspace) == (4, 512 * 2**20)
    assert seen["options"].cache_dir == tmp_path / "cache"
    assert (seen["options"].refit, seen["replace"]) == (True, True)
