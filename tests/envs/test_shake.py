"""Closed boxes: beads stay in them and out of sight, weight tells nothing, and only the rattle says what is inside."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.observe import Camera, View
from handsight.envs.pinhole import Pinhole
from handsight.envs.randomize import Ranges
from handsight.envs.sound import ContactSound, MicrophoneConfig, SoundSource
from handsight.envs.splits import Split, held_out
from handsight.envs.tasks.base import Status
from handsight.envs.tasks.sense.shake import BOXES, CAVITY, GAINS, HALF, LIFT, WRONG, ShakeExpert
from handsight.envs.tasks.sense.shake_count import MANY, RATTLES, count_strikes
from handsight.envs.tasks.sense.shake_material import BEADS, rattle_material
from handsight.sensors.grounding import Modality
from handsight.sensors.types import AUDIO, Sensor

TASKS = ("sense/shake_material", "sense/shake_count")
SIZE = 128  # of the pictures [pixel]
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


@pytest.fixture(scope="module", params=TASKS)
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make(request.param, sensors=Sensor.STATE | Sensor.TOUCH | Sensor.AUDIO)
    yield environment
    environment.close()


def beads_of(env: HandsightEnv, box: str) -> list[str]:
    return [bead for bead, owner in env.setup.voices.items() if owner == box]


def expert_of(env: HandsightEnv) -> ShakeExpert:
    expert = env.make_expert()
    assert isinstance(expert, ShakeExpert)
    return expert


def play(env: HandsightEnv, seed: int, *, deaf: bool = False, watch: Camera | None = None) -> tuple[bool, int]:
    """Success of the expert, and how many pixels of beads `watch` saw in every third step."""
    observation, info = env.reset(seed=seed)
    expert, done, seen, steps = env.make_expert(), False, 0, 0
    while not done:
        if deaf:
            observation[AUDIO] = np.zeros_like(observation[AUDIO])
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        done = terminated or truncated
        steps += 1
        seen += bead_pixels(env, watch) if watch and steps % 3 == 0 else 0
    return bool(info["is_success"]), seen


def bead_pixels(env: HandsightEnv, camera: Camera) -> int:
    beads = [env.world.model.geom(bead).id for box in BOXES for bead in beads_of(env, box)]
    return sum(int(np.isin(camera.segmentation(name), beads).sum()) for name in ("front", "wrist"))


def test_boxes_weigh_the_same_with_what_is_in_them(env: HandsightEnv) -> None:
    for seed in range(5):
        env.reset(seed=seed)
        masses = [sum(env.world.model.body(body).mass[0] for body in (box, *beads_of(env, box))) for box in BOXES]
        np.testing.assert_allclose(masses, masses[0], rtol=1e-12)
        assert len({bead for box in BOXES for bead in beads_of(env, box)}) == len(env.task.beads)  # type: ignore[attr-defined]


def test_beads_cannot_leave_a_box_that_is_thrown_about(env: HandsightEnv) -> None:
    rng = np.random.default_rng(0)
    env.reset(seed=1)
    for _ in range(6):
        for box in BOXES:
            start = env.world.model.joint(box).dofadr[0]
            env.world.data.qvel[start : start + 6] = [*rng.uniform(-1, 1, 2), 1.0, *rng.uniform(-15, 15, 3)]
        for _ in range(8):
            env.step(STILL)
            assert max(outside(env, box) for box in BOXES) < HALF[0] - CAVITY  # never through the shell, however hard the blow
    for _ in range(20):
        env.step(STILL)
    assert max(outside(env, box) for box in BOXES) < 0.0005


def outside(env: HandsightEnv, box: str) -> float:
    """How far the bead that sticks out most is beyond the walls [m]; 0 for none."""
    data = env.world.data.body(box)
    reach = [
        np.abs(data.xmat.reshape(3, 3).T @ (env.world.position(bead) - data.xpos)).max() + env.world.model.geom(bead).size[0]
        for bead in beads_of(env, box)
    ]
    return max(0.0, *(value - CAVITY for value in reach), 0.0)


def test_no_pixel_of_a_bead_is_ever_seen(env: HandsightEnv) -> None:
    camera = Camera(env.world, View(64, 64))
    success, seen = play(env, 4, watch=camera)
    model = env.world.model
    covering = [model.geom(f"{box}_{part}").id for box in BOXES for part in ("shell", "lid", "band")]
    opaque = model.geom_rgba[covering, 3].copy()
    model.geom_rgba[covering, 3] = 0.0
    env.reset(seed=4)
    model.geom_rgba[covering, 3] = 0.0
    without_shells = bead_pixels(env, camera)
    model.geom_rgba[covering, 3] = opaque
    camera.close()
    assert success
    assert seen == 0
    assert without_shells > 2


def test_the_front_camera_sees_every_box(env: HandsightEnv) -> None:
    for seed in range(40):
        env.reset(seed=seed)
        pixels = Pinhole.of(env.world, "front", SIZE).project(np.array([env.world.position(box) for box in BOXES]))
        assert pixels.min() > 8
        assert pixels.max() < SIZE - 9


def test_the_secret_is_independent_of_the_instruction_and_of_the_colours(env: HandsightEnv) -> None:
    asked: Counter[tuple[str, str]] = Counter()
    colored: Counter[tuple[str, str]] = Counter()
    for seed in range(300):
        env.reset(seed=seed)
        setup = env.setup
        asked["".join(setup.attributes.values()), setup.secret] += 1
        colored[setup.objects["box0"].color, setup.secret] += 1
    critical = {3: 18.5, 4: 22.5, 6: 29.6}  # chi-square at p = 0.001, by the number of rows; three columns
    for counts in (asked, colored):
        rows = sorted({row for row, _ in counts})
        table = np.array([[counts[row, place] for place in "012"] for row in rows])
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
        assert ((table - expected) ** 2 / expected).sum() < critical[len(rows)]


@pytest.mark.parametrize("split", [Split.TRAIN, Split.NEW_COMBINATION])
def test_both_splits_have_scenes_and_training_knows_every_value(env: HandsightEnv, split: Split) -> None:
    environment = make(env.task.name, sensors=Sensor.STATE, ranges=Ranges(split=split))
    seen = set()
    for seed in range(120):
        environment.reset(seed=seed)
        seen.add(environment.setup.combination)
    environment.close()
    assert {held_out(combination) for combination in seen} == {split is Split.NEW_COMBINATION}
    if split is Split.TRAIN:
        values = set(BEADS) if "material" in env.task.name else {"empty", "one", "many"}
        assert {value for combination in seen for value in combination} == values | {"place0", "place1", "place2"}


def test_another_box_is_wrong_only_when_it_is_lifted_higher_than_for_a_shake(env: HandsightEnv) -> None:
    env.reset(seed=0)
    rest = env.setup.privileged["rest"]
    assert isinstance(rest, float)
    other = env.setup.others[0]
    assert not status_at(env, other, rest + ShakeExpert.raised + 0.03).wrong
    assert status_at(env, other, rest + WRONG + 0.01).wrong
    env.reset(seed=0)
    assert status_at(env, env.setup.target, rest + LIFT + 0.01).success


def status_at(env: HandsightEnv, box: str, height: float) -> Status:
    env.world.place(box, np.array([0.5, 0.3, height]))
    env.world.data.body(box).xpos[2] = height
    return env.task.status(env.world, env.setup)


def rattle(material: str, half: float, beads: int, rng: np.random.Generator) -> np.ndarray:
    """One second of `beads` beads that strike six times a second each, at random moments within a quarter of the period."""
    microphone = ContactSound(microphone=MicrophoneConfig(gain_db=6.0, snr_db=(10.0, 30.0)))
    microphone.reset(rng, (SoundSource(material, half, gain=GAINS[material]),) * beads)
    forces = np.zeros((21, 25, beads))
    flat = forces.reshape(-1, beads)
    for bead in range(beads):
        for hit in range(6):
            flat[hit * 85 + rng.integers(4, 25), bead] = rng.uniform(0.1, 0.3)
    return np.concatenate([microphone.step(step) for step in forces])


@pytest.mark.parametrize("material", BEADS)
@pytest.mark.parametrize("half", HALF)
def test_the_ear_tells_materials_apart(material: str, half: float) -> None:
    rng = np.random.default_rng(3)
    assert [rattle_material(rattle(material, half, 1, rng)) for _ in range(10)] == [material] * 10


@pytest.mark.parametrize("material", BEADS)
def test_the_ear_tells_one_bead_from_many_and_from_none(material: str) -> None:
    rng = np.random.default_rng(4)
    single, many = ([count_strikes(rattle(material, 0.0245, beads, rng)) for _ in range(10)] for beads in (1, 5))
    noise = [count_strikes(1e-3 * rng.standard_normal(16_800).astype(np.float32)) for _ in range(10)]
    assert max(noise) < RATTLES <= min(single)
    assert np.median(single) < np.median(many)
    assert max(single) < MANY


def test_nothing_is_made_out_in_noise() -> None:
    noise = 1e-3 * np.random.default_rng(5).standard_normal(16_800).astype(np.float32)
    assert rattle_material(noise) == ""
    assert rattle_material(np.zeros(16_800, np.float32)) == ""


def test_a_box_is_heard_when_it_rattles_but_not_by_its_thud(env: HandsightEnv) -> None:
    observation, info = env.reset(seed=12)
    expert = expert_of(env)
    while len(expert.fits if hasattr(expert, "fits") else {}) < 1:
        observation, _, _, _, info = env.step(expert.act(observation))
    met = info["privileged"]["evidence"]
    first = env.setup.privileged["beads"]
    assert isinstance(first, tuple)
    assert (Modality.AUDIO in met["box0"]) == (first[0] > 0)
    assert Modality.TOUCH in met["box0"]
    assert Modality.AUDIO not in met["box2"]


def test_the_box_is_guessed_evenly_where_nothing_was_heard(env: HandsightEnv) -> None:
    env.reset(seed=0)
    expert = expert_of(env)
    chosen: Counter[int] = Counter()
    for _ in range(300):
        expert.fits = dict.fromkeys(range(3), 0.0)
        expert._move_on()
        chosen[expert.box] += 1
    assert max(abs(chosen[box] - 100) for box in range(3)) < 30


def test_the_truth_stands_in_for_a_microphone_that_is_not_there(env: HandsightEnv) -> None:
    environment = make(env.task.name, sensors=Sensor.STATE)
    observation, _ = environment.reset(seed=6)
    expert = expert_of(environment)
    expert.act(observation)
    assert BOXES[expert.box] == environment.setup.target
    assert expert.decided
    environment.close()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_expert_needs_to_hear(env: HandsightEnv) -> None:
    hearing = np.mean([play(env, seed)[0] for seed in range(3000, 3200)])
    guesses = range(2000, 2400)
    deaf = np.mean([play(env, seed, deaf=True)[0] for seed in guesses])
    assert hearing >= 0.95
    assert abs(deaf - 1 / 3) < 1.96 * np.sqrt(2 / 9 / len(guesses)) + 0.02
