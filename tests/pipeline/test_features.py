"""The feature pass: values on tiny engines, and the order of its work on two streams."""

import dataclasses
import logging
import threading

import pytest
import torch
from mixing_engines import SHAPES, SIDE, E, MixingEngine, MixingHeads, make_engines
from recorded_streams import RecordedStreams, find_races

from xmask3d_rt.components import FEATURES, VIEW_ENGINES
from xmask3d_rt.engines import Manifest, open_engine
from xmask3d_rt.errors import EngineError
from xmask3d_rt.kernels import mask_pool
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.pipeline.features import FeaturePass
from xmask3d_rt.pipeline.masks import check_finite
from xmask3d_rt.pipeline.recorder import Recorder

CPU = torch.device("cpu")
STAGES = ["VAE encoder", "UNet", "VAE decoder", "mask head", "MaskCLIP"]
# Every wait of the pass, in the order of the calls.
WAITS = [("start", 0), ("start", 1), ("finish", 0), ("finish", 1), ("finish", 2)]


def make_batches(sizes, device=CPU):
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.rand(size, *SHAPES["image"], generator=generator).to(device),
            torch.randn(size, E, generator=generator).to(device),
        )
        for size in sizes
    ]


def values(masks):
    return (masks.pred_masks, masks.mask_embed, masks.mask_embed_clip)


def call_serially(engines, batches):
    """What the pass computes, one batch after the other with fresh memory."""
    serial = FeaturePass(engines, MixingHeads(engines["unet"].device), CPU)
    results = []
    for image, condition in batches:
        recorder = Recorder(keeps_values=True)
        pending = serial.start(image, recorder)
        results.append(values(serial.finish(pending, condition, recorder)))
    return results


def run_batches(streams, feature_pass, batches, callers=("caller",), upload=None, ahead=False):
    """Batches one after the other as a caller does it, who reads results one batch later.

    Args:
        callers: streams to finish on, in turn.
        upload: stream images are made on; None is the stream of the batch.
        ahead: start the next batch before finishing this one.
    """
    pendings, results = [], []

    def stream_of(index):
        return callers[index % len(callers)]

    def start(index):
        with streams.on(stream_of(index)), streams.inside("start"):
            with streams.on(upload or stream_of(index)):
                image = batches[index][0] + 0
            pendings.append(feature_pass.start(image, Recorder(), source=upload))

    def finish(index):
        with streams.on(stream_of(index)), streams.inside("finish"):
            condition = batches[index][1] + 0  # the sparse nets
            results.append(values(feature_pass.finish(pendings[index], condition, Recorder())))

    for index in range(len(batches)):
        if index == len(pendings):
            start(index)
        if ahead and index + 1 < len(batches):
            start(index + 1)
        finish(index)
        if index:
            with streams.on(stream_of(index - 1)), streams.inside("read"):
                sum(tensor.sum() for tensor in results[index - 1])  # labels of the batch before
    return results


SCENARIOS = {
    "one stream": {},
    "uploads beside, next batch ahead": {"upload": "upload", "ahead": True},
    "two callers": {"callers": ("caller", "other caller"), "upload": "upload"},
}


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_batch_races_with_another(scenario, graphs):
    engines = make_engines()
    batches = make_batches([2, 2, 2, 2, 2, 2, 3, 1])
    streams = RecordedStreams()
    feature_pass = FeaturePass(engines, MixingHeads(), CPU, graphs, streams)
    got = run_batches(streams, feature_pass, batches, **SCENARIOS[scenario])
    assert find_races(streams.log) == []
    assert streams.sites == set(WAITS)
    assert (streams.replayed > 0) == graphs
    for found, wanted in zip(got, call_serially(engines, batches), strict=True):
        for a, b in zip(found, wanted, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("site", WAITS)
def test_every_wait_is_needed(site, graphs):
    races = []
    for scenario in SCENARIOS.values():
        streams = RecordedStreams(dropped=site)
        feature_pass = FeaturePass(make_engines(), MixingHeads(), CPU, graphs, streams)
        run_batches(streams, feature_pass, make_batches([2, 2, 2]), **scenario)
        races += find_races(streams.log)
    assert races


def test_vae_runs_beside_the_nets_and_the_unet():
    """Nothing orders the decoder and the UNet, or the next encoder and this batch's masks."""
    streams = RecordedStreams()
    feature_pass = FeaturePass(make_engines(), MixingHeads(), CPU, False, streams)
    run_batches(streams, feature_pass, make_batches([1, 1]), upload="upload", ahead=True)
    with_common_memory = [
        dataclasses.replace(step, writes=step.writes | {"common"})
        if step.stream in ("caller", "lane 1") and step.name not in ("record", "wait")
        else step
        for step in streams.log
    ]
    overlaps = find_races(with_common_memory)
    assert {(a.stream, b.stream) for a, b in overlaps} >= {("lane 1", "caller")}
    assert not find_races(streams.log)


def test_each_stage_is_captured_once_per_slot_and_batch():
    streams = RecordedStreams()
    engines = make_engines()
    feature_pass = FeaturePass(engines, MixingHeads(), CPU, True, streams)
    run_batches(streams, feature_pass, make_batches([2] * 8 + [1]))
    # two sets of buffers: called, then captured and replayed, then replayed twice more
    assert sorted(streams.captured) == ["lane 1"] * 4 + ["lane 2"] * 6
    assert streams.replayed == 2 * 3 * len(STAGES)
    for engine in engines.values():
        assert len(set(engine.bound)) == 2  # one of each set, whatever the batch


def test_engines_that_cannot_be_captured_are_called():
    streams = RecordedStreams()
    engines = make_engines()
    engines["unet"].capturable = engines["vae_encoder"].capturable = False
    feature_pass = FeaturePass(engines, MixingHeads(), CPU, True, streams)
    run_batches(streams, feature_pass, make_batches([1] * 4))
    assert sorted(streams.captured) == ["lane 1"] * 2 + ["lane 2"] * 4


def test_a_thread_calls_before_it_captures():
    streams = RecordedStreams()
    feature_pass = FeaturePass(make_engines(), MixingHeads(), CPU, True, streams)
    batches, counts = make_batches([1] * 2), []

    def run(times):
        for _ in range(times):
            run_batches(streams, feature_pass, batches)
            counts.append(len(streams.captured))

    run(1)
    other = threading.Thread(target=run, args=(2,))
    other.start()
    other.join()
    run(1)
    assert counts == [0, 0, 2 * len(STAGES), 2 * len(STAGES)]
    assert streams.replayed == 2 * 2 * len(STAGES)


def test_failed_capture_is_logged_once_per_stage(caplog):
    streams = RecordedStreams(refuses=True)
    engines, batches = make_engines(), make_batches([2, 2, 2, 2, 1])
    feature_pass = FeaturePass(engines, MixingHeads(), CPU, True, streams)
    with caplog.at_level(logging.WARNING):
        got = run_batches(streams, feature_pass, batches)
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(message.partition(":")[0] for message in messages) == sorted(STAGES)
    assert all("RuntimeError: operation not permitted" in message for message in messages)
    assert streams.replayed == 0
    for found, wanted in zip(got, call_serially(engines, batches), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("component", ["mask_head", "mask_clip"])
def test_not_finite_rejected(component):
    engines, ((image, condition),) = make_engines(), make_batches([2])
    for mixture in engines[component]._mixtures.values():
        mixture.fill_(torch.nan)
    message = rf"{component}: its embedding is not finite .*--only {component} --precision fp32"
    serial = FeaturePass(engines, MixingHeads(), CPU)
    with pytest.raises(EngineError, match=message):
        serial.finish(serial.start(image, Recorder()), condition, Recorder())
    queued = FeaturePass(engines, MixingHeads(), CPU, streams=RecordedStreams())
    masks = queued.finish(queued.start(image, Recorder()), condition, Recorder())
    with pytest.raises(EngineError, match=message):
        check_finite([masks.finite])


def test_one_bad_view_of_a_scene_rejected():
    one = FeaturePass(make_engines(), MixingHeads(), CPU, streams=RecordedStreams())
    batches = make_batches([2] * 6)
    batches[2][1][1, 0] = torch.inf
    flags = []
    for image, condition in batches:
        pending = one.start(image, Recorder())
        flags.append(one.finish(pending, condition, Recorder()).finite)
    check_finite([])
    check_finite(flags[:2] + flags[3:])
    with pytest.raises(EngineError, match="mask_head: its embedding is not finite"):
        check_finite(flags)


def test_one_by_one_on_a_cpu_and_where_values_are_kept():
    engines, ((image, condition),) = make_engines(), make_batches([1])
    for streams in (None, RecordedStreams()):
        one = FeaturePass(engines, MixingHeads(), CPU, streams=streams)
        recorder = Recorder(keeps_values=True)
        masks = one.finish(one.start(image, recorder), condition, recorder)
        assert list(recorder.seconds) == STAGES
        assert list(recorder.values) == [
            *("latent", "enc5", "enc7", "unet2", "unet5", "unet8", "unet11", "dec2", "dec5"),
            *("mask_features", "pred_masks", "queries", "mask_embed", "mask_embed_clip"),
        ]
        assert torch.equal(recorder.values["mask_embed"], masks.mask_embed[0])
        assert recorder.values["mask_embed_clip"] is masks.mask_embed_clip
        assert not any(engine.bound for engine in engines.values())


def test_queued_stages_have_the_same_names():
    one = FeaturePass(make_engines(), MixingHeads(), CPU, streams=RecordedStreams())
    recorder, ((image, condition),) = Recorder(), make_batches([1])
    one.finish(one.start(image, recorder), condition, recorder)
    assert sorted(recorder.seconds) == sorted(STAGES)
    assert recorder.values == {}


def test_batch_is_limited_by_the_narrowest_engine():
    engines = make_engines()
    engines["mask_clip"] = MixingEngine("mask_clip", max_batch=2)
    one = FeaturePass(engines, MixingHeads(), CPU)
    assert one.max_batch == 2
    with pytest.raises(EngineError, match=r"3 images at once.* at most 2; split .*--max-batch"):
        one.start(make_batches([3])[0][0], Recorder())


def test_missing_engine_rejected():
    engines = make_engines()
    del engines["unet"]
    with pytest.raises(EngineError, match="no engine unet"):
        FeaturePass(engines, MixingHeads(), CPU)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 3, SIDE, 1), r"image must be \[B, 3, 8, 8\] torch.float32 on cpu, got"),
        (torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64), "torch.float64"),
        (torch.zeros(3, SIDE, SIDE), r"got \[3, 8, 8\]"),
        (torch.zeros(0, 3, SIDE, SIDE), r"got \[0, 3, 8, 8\]"),
        (torch.zeros(1, 3, SIDE, SIDE, device="meta"), "on meta"),
    ],
)
def test_wrong_image_rejected(image, message):
    one = FeaturePass(make_engines(), MixingHeads(), CPU, streams=RecordedStreams())
    with pytest.raises(EngineError, match=message):
        one.start(image, Recorder())


def test_wrong_condition_rejected_and_the_batch_kept():
    one = FeaturePass(make_engines(), MixingHeads(), CPU, streams=RecordedStreams())
    ((image, condition),) = make_batches([2])
    pending = one.start(image, Recorder())
    with pytest.raises(EngineError, match=r"imp_condition must be \[2, 4\] .*got \[1, 4\]"):
        one.finish(pending, condition[:1], Recorder())
    one.finish(pending, condition, Recorder())
    with pytest.raises(EngineError, match="finish each batch once"):
        one.finish(pending, condition, Recorder())


def test_batches_given_up_do_no_harm():
    """A caller that fails between start and finish leaves nothing behind; late ones are told."""
    streams = RecordedStreams()
    engines, batches = make_engines(), make_batches([2, 2, 2, 2])
    one = FeaturePass(engines, MixingHeads(), CPU, True, streams)
    with streams.inside("start"), streams.on("upload"):
        abandoned = [one.start(image, Recorder(), source="upload") for image, _ in batches]
    with pytest.raises(EngineError, match="2 later ones took the place of"):
        one.finish(abandoned[0], batches[0][1], Recorder())
    got = run_batches(streams, one, batches, upload="upload")
    assert find_races(streams.log) == []
    for found, wanted in zip(got, call_serially(engines, batches), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.fixture(scope="module")
def tiny(tiny_engines):
    manifest = Manifest.load(tiny_engines)
    engines = {name: open_engine(manifest, name, "cpu", threads=1) for name in VIEW_ENGINES}
    return manifest.config, engines, Heads.load(manifest.path_of("heads"))


def test_tiny_engines_as_called_by_hand(tiny):
    config, engines, heads = tiny
    generator = torch.Generator().manual_seed(5)
    side = config.diffusion.image_size
    image = torch.rand(1, 3, side, side, generator=generator)
    condition = torch.randn(1, config.clip.embed_dim, generator=generator)
    with torch.inference_mode():
        features = engines["vae_encoder"].infer({"image": image})
        latent = features.pop("latent")
        features |= engines["unet"].infer({"latent": latent, "imp_condition": condition})
        features |= engines["vae_decoder"].infer({"latent": latent})
        masks = engines["mask_head"].infer({name: features[name] for name in FEATURES})
        pooled = mask_pool(masks["mask_features"], masks["pred_masks"])[0]
        mask_embed = heads.mask_embed(pooled, masks["queries"][0])
        clip_inputs = {"image": image, "pred_masks": masks["pred_masks"]}
        wanted = (masks["pred_masks"], mask_embed[None])
        wanted += (engines["mask_clip"].infer(clip_inputs)["mask_embed_clip"],)
    for streams in (None, RecordedStreams()):
        one = FeaturePass(engines, heads, CPU, streams=streams)
        assert one.max_batch == 1
        found = one.finish(one.start(image, Recorder()), condition, Recorder())
        for a, b in zip(values(found), wanted, strict=True):
            assert torch.equal(a, b)
        check_finite([found.finite])


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [True, False])
def test_streams_and_graphs_on_a_gpu(graphs, caplog):
    device = torch.device("cuda", 0)
    engines, heads = make_engines(device=device), MixingHeads(device)
    batches = make_batches([2] * 12 + [3] * 6 + [1], device)
    feature_pass = FeaturePass(engines, heads, device, graphs)
    upload, results = torch.cuda.Stream(device), []
    torch.cuda.synchronize()
    with caplog.at_level(logging.WARNING):
        pending = feature_pass.start(batches[0][0], Recorder())
        for index, (_, condition) in enumerate(batches):
            following = None
            if index + 1 < len(batches):
                with torch.cuda.stream(upload):
                    image = batches[index + 1][0] + 0
                following = feature_pass.start(image, Recorder(), source=upload)
            results.append(feature_pass.finish(pending, condition, Recorder()))
            pending = following
        check_finite([masks.finite for masks in results])
    assert not caplog.records
    for found, wanted in zip(results, call_serially(engines, batches), strict=True):
        for a, b in zip(values(found), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
