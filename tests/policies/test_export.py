"""What `export_onnx.py` writes, and that what `runtime_onnx.py` makes of it is what torch predicts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from handsight.policies.encoders import TouchEncoder
from handsight.policies.export_onnx import Manifest, export_network, quantize
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import AUDIO, FRONT, STATE

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

HEADS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "transformer": {
        "trunk": "transformer",
        "head": "transformer",
        "layers": 1,
        "condition_width": 48,
        "sensors": "front,state,touch,audio",
    },
}
MakePolicy = Callable[..., FusePolicy]
MakeBatch = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def exported() -> dict[str, Any]:
    """Head -> its policy and folder: an export takes seconds."""
    return {}


@pytest.fixture(params=["transformer", pytest.param("mlp", marks=pytest.mark.slow)])
def policy_and_folder(request: Any, exported: Any, make_policy: MakePolicy, make_batch: MakeBatch, tmp_path_factory: Any) -> Any:
    name = request.param
    if name not in exported:
        policy = make_policy(**HEADS[name], flow_temperature=1.0).eval()
        g = torch.Generator().manual_seed(1)
        for p in policy.network.parameters():  # gates that start at zero hide what flows through them
            p.data += 0.05 * torch.randn(p.shape, generator=g)
        folder = tmp_path_factory.mktemp(name)
        export_network(policy.network, policy.network_inputs(make_batch(policy.config, batch=2)), folder, "weights")
        quantize(folder)
        exported[name] = policy, folder
    policy, folder = exported[name]
    policy.runtime = None
    return policy, folder


def test_exported_actions_are_torchs_for_any_batch_size_and_missing_sensor(policy_and_folder: Any, make_batch: MakeBatch) -> None:
    policy, folder = policy_and_folder
    runtime = OnnxRuntime(folder)
    for rows in (1, 2, 5):
        batch = make_batch(policy.config, batch=rows, seed=rows)
        for missing in ((), (STATE,), (FRONT, AUDIO)):
            seen = batch | dict.fromkeys(key for key in missing if key in policy.config.sensor_keys.values())
            noise = torch.randn(rows, 16, 7, generator=torch.Generator().manual_seed(rows))
            policy.runtime = None
            expected = policy.predict_action_chunk(seen, noise=noise)
            policy.runtime = runtime
            torch.testing.assert_close(policy.predict_action_chunk(seen, noise=noise), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:expected sound")
def test_a_broken_sensor_that_gives_zeros_is_to_an_export_what_it_is_to_torch(policy_and_folder: Any, make_batch: MakeBatch) -> None:
    """Digital silence once came out as nan: the exporter had dropped the floor under the logarithm."""
    policy, folder = policy_and_folder
    batch = make_batch(policy.config, batch=2)
    for key in policy.config.sensor_keys.values():
        zeros = torch.zeros_like(batch[key])
        zeros[1].view(-1)[-1] = 1e-3  # a microphone of exact zeros counts as missing: this row is one that was just switched on
        broken, noise = batch | {key: zeros}, torch.randn(2, 16, 7)
        policy.runtime = None
        expected = policy.predict_action_chunk(broken, noise=noise)
        policy.runtime = OnnxRuntime(folder)
        torch.testing.assert_close(policy.predict_action_chunk(broken, noise=noise), expected, atol=1e-5, rtol=1e-5)


def test_a_policy_is_exported_with_the_sensors_that_it_is_told_are_missing(make_policy: MakePolicy, make_batch: MakeBatch) -> None:
    """The graph has an input for each of them, by which it is told."""
    policy = make_policy(masked="touch,audio")
    assert list(policy.network_inputs(make_batch(policy.config)).inputs) == list(policy.config.sensor_keys)


def test_the_number_of_flow_steps_stays_free(policy_and_folder: Any, make_batch: MakeBatch) -> None:
    policy, folder = policy_and_folder
    batch, noise, before = make_batch(policy.config), torch.randn(4, 16, 7), policy.config.flow_steps
    policy.config.flow_steps = 7
    expected = policy.predict_action_chunk(batch, noise=noise)
    policy.runtime = OnnxRuntime(folder)
    got = policy.predict_action_chunk(batch, noise=noise)
    policy.config.flow_steps = before
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_int8_is_near_but_not_the_same(policy_and_folder: Any, make_batch: MakeBatch) -> None:
    policy, folder = policy_and_folder
    batch, noise = make_batch(policy.config), torch.randn(4, 16, 7)
    expected = policy.predict_action_chunk(batch, noise=noise)
    policy.runtime = OnnxRuntime(folder, "int8")
    difference = (policy.predict_action_chunk(batch, noise=noise) - expected).abs().max()
    assert 1e-5 < difference < 0.5


def test_the_manifest_says_what_was_written(policy_and_folder: Any) -> None:
    policy, folder = policy_and_folder
    manifest = Manifest.read(folder)
    assert manifest.inputs["encode"]["present"] == ["batch", len(policy.config.sensor_keys)]
    assert manifest.outputs["step"]["velocity"] == ["batch", 16, 7]
    assert manifest.inputs["schedule"]["times"] == ["times"]
    assert {"torch", "onnx", "onnxruntime"} <= manifest.versions.keys()
    manifest.write(folder)
    assert Manifest.read(folder) == manifest


def test_misuse_is_one_line(policy_and_folder: Any, make_batch: MakeBatch, tmp_path: Path) -> None:
    policy, folder = policy_and_folder
    with pytest.raises(HandsightError, match="handsight export"):
        OnnxRuntime(tmp_path)
    with pytest.raises(HandsightError, match="got one of others"):
        OnnxRuntime(folder, fingerprint="other weights")
    batch = make_batch(policy.config)
    policy.runtime = OnnxRuntime(folder)
    policy.config.rtc_config = RTCConfig(execution_horizon=8)
    policy.init_rtc_processor()
    with pytest.raises(HandsightError, match="expected runtime=torch for real-time chunking") as caught:
        policy.predict_action_chunk(batch, prev_chunk_left_over=torch.zeros(4, 10, 7))
    policy.config.rtc_config = None
    policy.init_rtc_processor()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("lost", "refused"), [(None, True), (0.03, True), (0.02, False), (-0.1, False)])
def test_int8_needs_a_check_within_two_points(lost: float | None, refused: bool) -> None:
    check = None if lost is None else {"difference": {"mean": -lost}}
    manifest = Manifest("", 20, {}, {}, {}, {}, check)
    if refused:
        with pytest.raises(HandsightError, match=r"expected .*int8"):
            manifest.require_int8_check()
    else:
        manifest.require_int8_check()


def test_touch_is_encoded_alike_where_it_is_compiled() -> None:
    torch.manual_seed(0)
    encoder = TouchEncoder(16, 8)
    torch.nn.init.normal_(encoder.no_contact)
    frames = torch.rand(6, 6, 16, 16) * torch.tensor([0, 1, 0, 0, 1, 1]).view(-1, 1, 1, 1)
    contact, text = frames.amax(dim=(1, 2, 3)) > 0, torch.randn(2, 8)
    torch.testing.assert_close(encoder._all(frames, contact, text), encoder._touched(frames, contact, text))
