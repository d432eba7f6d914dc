"""Knobs in the simulated robot: they act on what is delivered and on the actuators, and on nothing else."""

import dataclasses
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from handsight.datasets_rb.schema import RecordingSpec, require_same
from handsight.envs.env import HandsightEnv, make
from handsight.envs.gym_names import make_named
from handsight.envs.lerobot import HandsightEnvConfig
from handsight.envs.pool import EnvPool
from handsight.envs.randomize import Ranges
from handsight.envs.rollout import expert_episode
from handsight.envs.splits import Split, held_out
from handsight.envs.tasks.sense.tabletop_grasp import TabletopGrasp
from handsight.envs.world import World
from handsight.launch.collect_worker import ScriptedExpert
from handsight.launch.rollout import EnvArguments, chosen, main
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import IDEAL, ROBOT, Realism
from handsight.sensors.types import AUDIO, AUDIO_RATE, FRONT, STATE, TOUCH, WRIST, Observation, Sensor

TASK = "sense/bag_stiff"
BLIND = Sensor.STATE | Sensor.TOUCH | Sensor.AUDIO
STEPS = 45
TICK = 0.002  # [s]


@cache
def squeeze() -> np.ndarray:
    """Actions (T, 7) that reach into the first bag of seed 3 and squeeze what is there."""
    with closing(make(TASK, sensors=BLIND)) as env:
        return expert_episode(env, 3, noise=False).actions


def play(env: HandsightEnv, seed: int = 3, steps: int = STEPS) -> list[Observation]:
    """Open loop: the actions do not depend on what is sensed."""
    return [env.reset(seed=seed)[0], *(env.step(action)[0] for action in squeeze()[:steps])]


def played(text: str, sensors: Sensor = BLIND, **options: int) -> list[Observation]:
    with closing(make(TASK, sensors=sensors, image_size=32, realism=Realism.parse(text))) as env:
        return play(env, **options)


def same(first: Observation, second: Observation, *keys: str) -> bool:
    return all(first[key].tobytes() == second[key].tobytes() for key in keys)


@pytest.fixture(scope="module")
def ideal() -> list[Observation]:
    return played("ideal")


def scene(env: HandsightEnv) -> tuple[object, ...]:
    """Everything that a reset draws."""
    model, setup = env.world.model, env.setup
    fields = (env.world.data.qpos, model.geom_rgba, model.body_mass, model.geom_friction, model.cam_pos, model.light_dir, model.body_pos)
    sounds = env._observer._sound.modes
    drawn = (setup.attributes, setup.target, setup.secret, setup.surfaces, env.task_description)
    return *(field.tobytes() for field in (*fields, sounds)), *map(repr, drawn)


@pytest.mark.parametrize("text", ["robot", "audio.snr_db=none", "audio.gain_db=0", "touch.gain=0.5,front.noise=9,state.noise_m=0.1"])
def test_the_same_seed_gives_the_same_scene_with_any_knobs(text: str) -> None:
    with (
        closing(make(TASK, sensors=BLIND)) as usual,
        closing(make(TASK, sensors=BLIND, realism=Realism.parse(text))) as other,
    ):
        for seed in range(4):
            usual.reset(seed=seed)
            other.reset(seed=seed)
            assert scene(usual) == scene(other)


def test_the_default_is_ideal(ideal: list[Observation]) -> None:
    with closing(make(TASK, sensors=BLIND)) as env:
        assert all(same(one, two, *one) for one, two in zip(play(env), ideal, strict=True))


def test_a_robot_gives_the_same_bytes_for_the_same_seed_whatever_was_before() -> None:
    with closing(make(TASK, sensors=Sensor.ALL, image_size=32, realism=ROBOT)) as env:
        play(env, seed=8, steps=5)
        first = play(env)
    second = played("robot", Sensor.ALL)
    assert all(same(one, two, *one) for one, two in zip(first, second, strict=True))


def test_a_knob_changes_no_reading_of_another_sensor(ideal: list[Observation]) -> None:
    for text, changed in (("touch.noise_kpa=1", TOUCH), ("state.noise_m=0.01", STATE), ("audio.gain_db=0", AUDIO)):
        observations = played(text)
        assert not any(same(one, two, changed) for one, two in zip(observations, ideal, strict=True)), text
        others = [key for key in ideal[0] if key != changed]
        assert all(same(one, two, *others) for one, two in zip(observations, ideal, strict=True)), text


@pytest.mark.parametrize(("name", "key"), [("state", STATE), ("touch", TOUCH)])
def test_a_delayed_sensor_shows_the_past(name: str, key: str, ideal: list[Observation]) -> None:
    assert len({observation[key].tobytes() for observation in ideal}) > 3  # something happens
    late = played(f"{name}.delay_s=0.1")
    assert [observation[key].tobytes() for observation in late[2:]] == [observation[key].tobytes() for observation in ideal[:-2]]


def test_sound_arrives_late_with_its_noise(ideal: list[Observation]) -> None:
    late = np.concatenate([observation[AUDIO] for observation in played("audio.delay_s=0.0125")])
    samples = round(0.0125 * AUDIO_RATE)
    np.testing.assert_array_equal(late[samples:], np.concatenate([observation[AUDIO] for observation in ideal])[:-samples])


def test_cameras_have_rates_delays_and_noise_of_their_own() -> None:
    usual = played("ideal", Sensor.CAMERAS, steps=6)
    changed = played("front.rate_hz=10,wrist.delay_s=0.05,wrist.noise=4", Sensor.CAMERAS, steps=6)
    for step in range(7):
        assert same(changed[step], usual[step - step % 2], FRONT)
    difference = changed[4][WRIST].astype(float) - usual[3][WRIST]
    assert difference.std() == pytest.approx(4.0, rel=0.1)


def test_blind_controls_stay_blind() -> None:
    with EnvPool(TASK, 1, 0, zeroed=[TOUCH], sensors=BLIND, realism=Realism.parse("touch.noise_kpa=5")) as pool:
        pool.reset(0, 3)
        assert not pool.receive()[0].observation[TOUCH].any()


def response(delay_s: float) -> np.ndarray:
    """Joint angles (ticks, 7) [rad], at rest and then after each tick that follows a step of the commanded joints."""
    world = World(TabletopGrasp().add_props, delay_s)
    world.reset()
    for _ in range(20):
        world.simulate()
    world.substeps = 1  # `simulate` is one tick from here on
    world.data.ctrl[:7] += 0.02
    angles = [world.data.qpos[world.arm_qpos].copy()]
    for _ in range(150):
        world.simulate()
        angles.append(world.data.qpos[world.arm_qpos].copy())
    return np.array(angles)


@pytest.mark.parametrize("delay_s", [0.002, 0.02, 0.05, 0.12])
def test_the_arm_follows_a_command_after_the_delay_to_a_tick(delay_s: float) -> None:
    prompt, late = response(0.0), response(delay_s)
    assert np.abs(prompt[-1] - prompt[0]).min() > 0.01  # every joint moves,
    assert np.abs(prompt[1] - prompt[0]).max() > 1e-5  # without a delay in the first tick
    errors = [np.abs(late[shift:] - prompt[: len(prompt) - shift]).max() for shift in range(80)]
    assert int(np.argmin(errors)) == round(delay_s / TICK)
    assert min(errors) < 1e-5


def test_the_robot_of_an_environment_follows_late(ideal: list[Observation]) -> None:
    late = np.array([observation[STATE][:3] for observation in played("actuator_delay_s=0.1", steps=10)])
    prompt = np.array([observation[STATE][:3] for observation in ideal[:11]])
    assert np.abs(prompt[2] - prompt[0]).max() > 5e-3
    assert np.abs(late[2] - late[0]).max() < 1e-4
    np.testing.assert_allclose(late[2:5], prompt[:3], atol=1e-4)  # later the leash holds the command back (envs/arm.py)


def test_a_reset_forgets_commands_that_are_under_way() -> None:
    with closing(make(TASK, sensors=Sensor.STATE, realism=Realism.parse("actuator_delay_s=0.2"))) as env:
        first = play(env, steps=6)
        again = play(env, steps=6)
    assert all(same(one, two, STATE) for one, two in zip(first, again, strict=True))


@pytest.mark.parametrize("text", ["ideal", "robot"])
def test_the_expert_copes(text: str) -> None:
    with closing(make(TASK, sensors=BLIND, realism=Realism.parse(text))) as env:
        assert sum(expert_episode(env, seed, noise=False).success for seed in range(3000, 3005)) >= 4


def test_lerobot_gets_them() -> None:
    config = HandsightEnvConfig(task=TASK, sensors="state", split="train", realism="state.delay_s=0.05")
    with closing(make_named(**config.gym_kwargs)) as env:
        start = env.reset(seed=0)[0]["agent_pos"]
        moved = [env.step(np.array([1, 0, 0, 0, 0, 0, -1], np.float32))[0]["agent_pos"] for _ in range(2)]
    np.testing.assert_array_equal(start, moved[0])
    assert (moved[1] != moved[0]).any()
    for wrong in ({"realism": "robt"}, {"split": "traim"}):
        with pytest.raises(HandsightError, match=f"expected --env.{next(iter(wrong))} to"):
            HandsightEnvConfig(task=TASK, **wrong)


def test_recordings_are_made_with_them_and_not_continued_with_others() -> None:
    name = "sense/tabletop_grasp"
    spec = RecordingSpec(name, sensors=Sensor.STATE, noise=False, split="new_combination", realism="state.noise_m=0.01")
    episode = ScriptedExpert(spec)(1000)
    with closing(make(name, sensors=Sensor.STATE, ranges=Ranges(split=Split.NEW_COMBINATION))) as env:
        start = env.reset(seed=1000)[0][STATE]
        assert held_out(env.setup.combination)
        assert episode.instruction == env.task_description
    assert 0.001 < np.abs(episode.observations[STATE][0] - start).max() < 0.1
    plain = dataclasses.replace(spec, realism="ideal")
    with pytest.raises(HandsightError, match=r"expected --env.realism=ideal, which DIR was recorded with, got ideal,state.noise_m=0.01"):
        require_same(spec, plain.to_json(), "DIR")
    with pytest.raises(HandsightError, match=r"expected --env.split=new_combination"):
        require_same(dataclasses.replace(plain, split="any"), plain.to_json(), "DIR")
    require_same(RecordingSpec(TASK, realism="touch.gain=0.10"), RecordingSpec(TASK, realism="ideal,touch.gain=0.1").to_json(), "DIR")


def test_recordings_from_before_there_was_a_choice_are_continued() -> None:
    earlier = {name: value for name, value in RecordingSpec(TASK).to_json().items() if name not in ("split", "realism")}
    require_same(RecordingSpec(TASK), earlier, "DIR")
    with pytest.raises(HandsightError, match=r"--env.realism=ideal, .* got robot"):
        require_same(RecordingSpec(TASK, realism="robot"), earlier, "DIR")


def test_rollouts_pass_on_what_was_asked_for_and_no_defaults(tmp_path: Path) -> None:
    assert chosen(EnvArguments(TASK)) == {}  # makers of others need not know them
    assert chosen(EnvArguments(TASK, split="train", realism="robot")) == {"ranges": Ranges(split=Split.TRAIN), "realism": ROBOT}
    assert chosen(EnvArguments(TASK, realism="ideal,actuator_delay_s=0")) == {}
    assert IDEAL != ROBOT
    for wrong in ("--env.realism=robt", "--env.split=traim"):
        with pytest.raises(HandsightError, match=r"expected --env"):
            main(["--policy.path=expert", f"--env.task={TASK}", wrong, f"--out={tmp_path / 'r'}"])
