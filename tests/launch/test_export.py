"""`handsight export`: the shipped checkpoints act the same by ONNX Runtime, and every misuse is one line."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lerobot.configs import PreTrainedConfig

from handsight.launch import export as verb
from handsight.launch.checkpoints import ZOO
from handsight.launch.episodes import read_episodes
from handsight.launch.policies import Overrides, load, load_policy
from handsight.launch.rollout import EnvArguments, PolicyArguments, RolloutArguments, rollout
from handsight.policies.export_onnx import FOLDER, Manifest
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.sensors.errors import HandsightError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabletop_grasp", "bag_stiff"])
def test_a_shipped_checkpoint_acts_the_same(name: str, tmp_path: Path) -> None:
    """Within 1e-5, or, where torch itself is that far from float64, within its rounding; and any spread of episodes plays alike."""
    out = tmp_path / name
    assert verb.main([f"--policy.path=zoo/{name}", f"--out={out}", f"--env.task=sense/{name}"]) == 0
    found = Manifest.read(out / FOLDER).max_difference
    for kind in ("random", "observed"):
        difference, rounding = found[f"{kind} fp32"], found[f"{kind} rounding"]
        assert difference is not None
        assert rounding is not None
        assert difference < max(1e-5, verb.ROUNDING * rounding)
    runs = []
    for batch, workers in ((1, 0), (2, 2)):
        arguments = RolloutArguments(
            policy=PolicyArguments(str(out)),
            env=EnvArguments(f"sense/{name}"),
            episodes=3,
            batch_size=batch,
            workers=workers,
            videos=0,
            runtime="onnx",
        )
        rollout(arguments, tmp_path / f"{batch}_{workers}")
        runs.append(read_episodes(tmp_path / f"{batch}_{workers}"))
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_int8_is_checked_on_the_task_before_it_is_played(tmp_path: Path) -> None:
    out = tmp_path / "policy"
    words = [f"--out={out}", "--int8", "--env.task=sense/tabletop_grasp", "--episodes=2", f"--checks={tmp_path / 'checks'}"]
    assert verb.main(["--policy.path=zoo/tabletop_grasp", *words]) == 0
    manifest = Manifest.read(out / FOLDER)
    assert manifest.int8_check is not None
    assert manifest.int8_check["fp32"]["n"] == manifest.int8_check["int8"]["n"] == 2
    record: dict[str, Any] = json.loads((out / FOLDER / "manifest.json").read_text())
    record["int8_check"]["difference"]["mean"] = -0.5
    (out / FOLDER / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(HandsightError, match=r"at most 2% of success, got 50\.0%"):
        load(str(out), Overrides(), "onnx-int8")


def test_random_instructions_have_words_that_the_policy_knows() -> None:
    """All others are dropped: without any, two instructions would be compared as one."""
    policy = load_policy("zoo/fuse", Overrides(device="cpu")).policy
    ids = verb.random_batch(policy, 8, 0)["observation.language.tokens"]
    assert policy.network.text.understands(ids).all()
    assert len({tuple(row) for row in policy.network.text.known[ids].tolist()}) > 4
    assert not policy.network.text.known[ids].all()


class _SometimesNaN:
    """Stands where an export would: no velocity at all, but none that is a number for three rows."""

    def fields(self, times: torch.Tensor, inputs: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[Any]:
        value = math.nan if len(ids) == 3 else 0.0
        return [lambda x: torch.full_like(x, value) for _ in times]

    def __deepcopy__(self, memo: dict[int, Any]) -> "_SometimesNaN":
        return self


def test_actions_that_are_no_numbers_are_not_close_to_torchs() -> None:
    model = load_policy("zoo/tabletop_grasp", Overrides(device="cpu"))
    batches = [verb.random_batch(model.policy, rows, 0) for rows in (1, 3, 1)]
    rounding, distance = verb.Comparison(model).largest(cast(OnnxRuntime, _SometimesNaN()), batches)
    assert math.isfinite(rounding)
    assert math.isnan(distance)
    allowed = max(verb.LARGEST_DIFFERENCE, verb.ROUNDING * rounding)
    assert allowed < 1e-4
    with pytest.raises(HandsightError, match=rf"expected random actions within {allowed:.1e} of torch's, got nan"):
        verb.require_close({"random rounding": rounding, "random fp32": distance}, Path("onnx"))


@pytest.mark.filterwarnings("error:expected sound")
def test_a_microphone_that_is_broken_on_purpose_is_nothing_to_warn_of() -> None:
    model = load_policy("zoo/fuse", Overrides(device="cpu"))
    rounding, _ = verb.Comparison(model).largest(cast(OnnxRuntime, _SometimesNaN()), [verb.random_batch(model.policy, 2, 0)])
    assert math.isfinite(rounding)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --policy.path"),
        (["--policy.path=zoo/tabletop_grasp"], "expected --out for a shipped checkpoint"),
        (["--policy.path=zoo/tabletop_grasp", "--int8"], "expected --env.task with --int8"),
        (["--policy.path=/no/such"], "which does not exist"),
    ],
)
def test_misuse_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(HandsightError, match=message) as caught:
        verb.main(words)
    assert "\n" not in str(caught.value)


def test_a_runtime_needs_its_export_and_the_cpu(tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(ZOO / "tabletop_grasp", folder)
    with pytest.raises(HandsightError, match="handsight export"):
        load(str(folder), Overrides(), "onnx")
    with pytest.raises(HandsightError, match="expected --device=cpu"):
        load(str(folder), Overrides(device="cuda"), "onnx")


@pytest.mark.slow
def test_lerobots_own_commands_take_the_runtime_from_the_configuration(tmp_path: Path) -> None:
    """How a checkpoint is deployed by LeRobot: `lerobot-eval`, or `lerobot-rollout` on a robot, with --policy.runtime=onnx."""
    out = tmp_path / "policy"
    assert verb.main(["--policy.path=zoo/bag_stiff", f"--out={out}"]) == 0
    config = PreTrainedConfig.from_pretrained(out, cli_overrides=["--runtime=onnx"])
    policy = FusePolicy.from_pretrained(out, config=config)
    assert isinstance(policy.runtime, OnnxRuntime)
    with pytest.raises(HandsightError, match=r"export the checkpoint again with --int8"):
        FusePolicy.from_pretrained(out, config=PreTrainedConfig.from_pretrained(out, cli_overrides=["--runtime=onnx-int8"]))
    with pytest.raises(HandsightError, match="expected runtime out of torch, onnx, onnx-int8, got 'tensorrt'"):
        replace(config, runtime="tensorrt")
