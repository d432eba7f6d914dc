"""The assistance family: one scene allows several activities, the instruction alone decides, and only the finished activity counts."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from handsight.envs.env import HOLD, HandsightEnv, make, task_names
from handsight.envs.expert import CLOSED, Expert
from handsight.envs.instructions import Phrasebook
from handsight.envs.observe import CAMERA_OF_KEY, Camera, View
from handsight.envs.pinhole import Pinhole
from handsight.envs.randomize import Ranges
from handsight.envs.splits import Split, held_out
from handsight.envs.tasks.assist.activity import TAKEN, Activity, ActivityExpert, grip_of, tip_of
from handsight.envs.tasks.assist.scene import ELSEWHERE, FIXTURE_OF, JITTER, MOUTH, SLOTS, TOOL_OF, TRASH, Scene
from handsight.sensors.types import ACTION_NAMES, FRONT, Observation, Sensor

SIZE = 128
LEAST = 6  # pixels of a thing that count as seen
BLIND = Sensor.STATE
NOTHING = np.zeros(len(ACTION_NAMES), np.float32)
HOLD_FAST = np.array([*NOTHING[:6], CLOSED], np.float32)
activities = pytest.mark.parametrize("short", TOOL_OF)


@cache
def known() -> dict[str, type[Activity]]:
    """The ten activities by their short names."""
    task_names()  # imports them
    return {kind.name.partition("/")[2]: kind for kind in Activity.__subclasses__()}


class Rooms:
    """One blind environment a task, built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[HandsightEnv, Activity]] = {}

    def reset(self, short: str, seed: int) -> tuple[HandsightEnv, Observation]:
        """The task's own environment at the beginning of an episode."""
        if short not in self._built:
            env = make(f"assist/{short}", sensors=BLIND)
            assert isinstance(env.task, Activity)
            self._built[short] = env, env.task
        env, env.task = self._built[short]
        return env, env.reset(seed=seed)[0]

    def close(self) -> None:
        for env, _ in self._built.values():
            env.close()


@pytest.fixture(scope="module")
def rooms() -> Iterator[Rooms]:
    built = Rooms()
    yield built
    built.close()


@pytest.fixture(scope="module")
def seeing() -> Iterator[HandsightEnv]:
    env = make("assist/feed", sensors=Sensor.STATE | Sensor.FRONT, image_size=SIZE)
    yield env
    env.close()


@pytest.fixture
def camera(seeing: HandsightEnv) -> Iterator[Camera]:
    picture = Camera(seeing.world, View(SIZE, SIZE))
    yield picture
    picture.close()


def scene_of(env: HandsightEnv) -> Scene:
    return Activity.scene(env.setup)


def expert_for(env: HandsightEnv, short: str, guesses: int = 0) -> ActivityExpert:
    """The expert of any activity in the scene that the environment shows."""
    task = known()[short]()
    return ActivityExpert(env.world, env.arm, task.setup_in(scene_of(env)), np.random.default_rng(guesses), task)


def finish(env: HandsightEnv, observation: Observation, expert: Expert) -> dict[str, bool]:
    """Plays to the end of the episode; its last info."""
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        done = terminated or truncated
    return info


def possible(rooms: Rooms, short: str, seed: int) -> list[str]:
    """Those activities of the scene that a task draws from a seed of which the expert meets the activity's own success predicate."""
    env, _ = rooms.reset(short, seed)
    return [name for name in scene_of(env).activities if succeeds(rooms, short, seed, name)]


def succeeds(rooms: Rooms, short: str, seed: int, instructed: str) -> bool:
    env, observation = rooms.reset(short, seed)
    env.task = known()[instructed]()
    env.setup = env.task.setup_in(scene_of(env))
    return finish(env, observation, env.make_expert())["is_success"]


def test_there_are_ten_activities_and_each_has_its_own_tool() -> None:
    assert known().keys() == TOOL_OF.keys()
    assert len(set(TOOL_OF.values())) == len(TOOL_OF) == 10


@pytest.mark.parametrize(("short", "seed"), [("sweep_trash", 1), ("put_on_hat", 2), ("wipe_nose", 3)])
def test_a_scene_allows_several_activities(rooms: Rooms, short: str, seed: int) -> None:
    assert len(possible(rooms, short, seed)) >= 2


@pytest.mark.slow
def test_at_least_95_percent_of_scenes_allow_several_activities(rooms: Rooms) -> None:
    counts = [len(possible(rooms, short, seed)) for short in TOOL_OF for seed in range(6)]
    assert np.mean([count >= 2 for count in counts]) >= 0.95


@pytest.mark.parametrize("short", ["feed", "hang_towel"])
def test_what_was_not_asked_for_is_wrong(rooms: Rooms, short: str) -> None:
    env, _ = rooms.reset(short, seed=5)
    for other in scene_of(env).activities:
        env, observation = rooms.reset(short, seed=5)
        info = finish(env, observation, expert_for(env, other))
        assert (info["is_success"], info["wrong_object"]) == (other == short, other != short)


@activities
def test_lifting_its_thing_is_not_the_activity(rooms: Rooms, short: str) -> None:
    env, observation = rooms.reset(short, seed=4)
    expert = env.make_expert()
    successes = [env.task.status(env.world, env.setup).success]
    while expert.phase != "carry":
        observation = env.step(expert.act(observation))[0]
        successes.append(env.task.status(env.world, env.setup).success)
    for _ in range(HOLD + 2):
        observation = env.step(HOLD_FAST)[0]
        successes.append(env.task.status(env.world, env.setup).success)
    assert env.world.position(TOOL_OF[short])[2] > TAKEN
    assert not any(successes)
    assert finish(env, observation, expert)["is_success"]


def test_one_thing_lies_in_each_place_and_stays_there(rooms: Rooms) -> None:
    for seed in range(10):
        env, _ = rooms.reset("pass_water", seed)
        scene, world = scene_of(env), env.world
        for _ in range(10):
            env.step(NOTHING)
        lying = [TOOL_OF[name] for name in scene.activities]
        places = np.array([world.position(tool) for tool in lying])
        assert np.abs(places[:, :2] - SLOTS).max() < JITTER + 0.002
        assert np.abs(places[:, 2]).max() < 0.003
        assert all(world.position(tool)[2] < ELSEWHERE[2] / 2 for tool in set(TOOL_OF.values()) - set(lying))


def test_the_plate_is_out_of_the_brushs_way(rooms: Rooms) -> None:
    for seed in range(20):
        env, _ = rooms.reset("sweep_trash", seed)
        places, model = scene_of(env).places, env.world.model
        edge = places["plate"][0] - model.geom("plate").size[0]
        assert edge - places["dustpan"][0] > model.geom("brush1").size[0] + 0.01


def test_the_instructed_thing_lies_anywhere(rooms: Rooms) -> None:
    counts = Counter(scene_of(rooms.reset("comb_hair", seed)[0]).slot("comb_hair") for seed in range(80))
    assert set(counts) == set(range(len(SLOTS)))
    assert max(counts.values()) < 35  # 20 expected; 35 has a chance below 0.001


@pytest.mark.parametrize("split", list(Split))
def test_colours_tell_the_things_of_a_scene_apart(split: Split) -> None:
    env = make("assist/cover_food", sensors=BLIND, ranges=Ranges(split=split))
    for seed in range(10):
        env.reset(seed=seed)
        colors = {dressed.variant.color for dressed in scene_of(env).tools.values()}
        assert len(colors) == len(SLOTS)
        assert len({attributes.color for attributes in env.setup.objects.values()}) == len(SLOTS)
    env.close()


@activities
def test_scenes_of_each_activity_are_trained_on_and_held_out(rooms: Rooms, short: str) -> None:
    seen = {rooms.reset(short, seed)[0].setup.combination for seed in range(80)}
    trained = {combination for combination in seen if not held_out(combination)}
    assert seen > trained
    assert [set(values) for values in zip(*seen, strict=True)] == [set(values) for values in zip(*trained, strict=True)]


@pytest.mark.parametrize("split", [Split.ANY, Split.NEW_OBJECT])
def test_only_new_objects_have_the_third_look(split: Split) -> None:
    env = make("assist/pass_water", sensors=BLIND, ranges=Ranges(split=split))
    for seed in range(10):
        env.reset(seed=seed)
        scene = scene_of(env)
        third = {name for name, dressed in scene.tools.items() if dressed.variant == dressed.tool.variants[2]}
        assert third == (set(scene.activities) if split is Split.NEW_OBJECT else set())
        variant, cup = scene.tools["pass_water"].variant, env.world.model.geom("cup0")
        np.testing.assert_allclose(cup.rgba[:3], variant.color, atol=1e-6)
        np.testing.assert_allclose(cup.size[:2], [0.026 * variant.scale[0], 0.036 * variant.scale[2]])
    env.close()


def test_things_lie_inside_the_picture(seeing: HandsightEnv, camera: Camera) -> None:
    for seed in range(10):
        seeing.reset(seed=seed)
        scene, world = scene_of(seeing), seeing.world
        points = [point(world, scene, name) for name in scene.activities for point in (grip_of, tip_of)]
        pixels = Pinhole.of(world, "front", SIZE).project(np.array([*points, scene.person + MOUTH, *present(scene)]))
        assert (pixels > 0).all()
        assert (pixels < SIZE - 1).all()
        seen = pixels_of(seeing, camera.segmentation("front"))
        assert all(seen[TOOL_OF[name]] >= LEAST for name in scene.activities)


def present(scene: Scene) -> list[NDArray[np.float64]]:
    """Where the fixtures of a scene are."""
    return [scene.places[fixture] for name, fixture in FIXTURE_OF.items() if name in scene.activities]


def pixels_of(env: HandsightEnv, segmentation: NDArray[np.int32]) -> Counter[str]:
    """How many pixels of each body a picture shows."""
    model = env.world.model
    return Counter(model.body(model.geom_bodyid[geom]).name for geom in segmentation.ravel() if geom >= 0)


def absent(scene: Scene) -> set[str]:
    """What a scene does not have: things, fixtures and crumbs."""
    away = {tool for name, tool in TOOL_OF.items() if name not in scene.activities}
    away |= {fixture for name, fixture in FIXTURE_OF.items() if name not in scene.activities}
    return away | (set() if "sweep_trash" in scene.activities else set(TRASH))


def test_what_the_scene_has_not_is_in_no_picture(seeing: HandsightEnv, camera: Camera) -> None:
    for seed in range(10):
        seeing.reset(seed=seed)
        for name in (*CAMERA_OF_KEY.values(), "view"):
            assert not absent(scene_of(seeing)) & set(pixels_of(seeing, camera.segmentation(name)))


def test_the_segmentation_test_can_fail(seeing: HandsightEnv, camera: Camera) -> None:
    seeing.reset(seed=0)
    tool = next(tool for name, tool in TOOL_OF.items() if name not in scene_of(seeing).activities)
    seeing.world.place(tool, np.array([0.40, 0.0, 0.0]))
    seeing.step(NOTHING)
    assert pixels_of(seeing, camera.segmentation("front"))[tool] >= LEAST


def test_the_picture_tells_each_activity_its_thing(seeing: HandsightEnv) -> None:
    for seed in range(15):
        observation, _ = seeing.reset(seed=seed)
        for name in scene_of(seeing).activities:
            assert chosen(seeing, observation, name) == name


def test_without_a_picture_the_thing_is_a_guess(seeing: HandsightEnv) -> None:
    observation, _ = seeing.reset(seed=0)
    blank = observation | {FRONT: np.zeros_like(observation[FRONT])}
    counts = Counter(chosen(seeing, blank, "feed", guesses) for guesses in range(80))
    assert len(counts) == len(SLOTS)
    assert max(counts.values()) < 35  # 20 expected; 35 has a chance below 0.001


def chosen(env: HandsightEnv, observation: Observation, short: str, guesses: int = 0) -> str:
    """Whose thing the expert of an activity goes for."""
    expert = expert_for(env, short, guesses)
    expert.act(observation)
    return expert.chosen


def words_of(sentence: str) -> set[str]:
    return set(re.findall(r"[a-z']+", sentence.lower()))


@activities
def test_there_are_enough_phrasings_and_the_heldout_ones_use_other_words(short: str) -> None:
    book = Phrasebook.load(short)
    assert len(book.train) >= 20
    assert len(book.heldout) >= 6
    used = set().union(*(words_of(sentence) for sentence in book.train))
    assert all(words_of(sentence) - used for sentence in book.heldout)


@activities
def test_a_phrasing_names_nobody_elses_tool(short: str) -> None:
    others = set(TOOL_OF.values()) - {TOOL_OF[short], "brush"}  # to brush is also what is done to teeth
    book = Phrasebook.load(short)
    assert not [sentence for sentence in (*book.train, *book.heldout) if others & words_of(sentence)]


def test_no_phrasing_means_two_activities() -> None:
    books = [Phrasebook.load(short) for short in TOOL_OF]
    sentences = [" ".join(re.findall(r"[a-z']+", sentence.lower())) for book in books for sentence in (*book.train, *book.heldout)]
    assert len(set(sentences)) == len(sentences)


def test_the_instruction_is_one_of_the_phrasings(rooms: Rooms) -> None:
    for seed in range(5):
        env, _ = rooms.reset("feed", seed)
        assert env.task_description in Phrasebook.load("feed").train
