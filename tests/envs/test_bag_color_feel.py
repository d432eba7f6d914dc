"""Two cues: the covers show the colours, only a squeeze tells soft from hard, and either alone leaves an even chance."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.look import likeness
from handsight.envs.observe import Camera, View
from handsight.envs.pinhole import Pinhole
from handsight.envs.props import COLORS, SHAPES
from handsight.envs.randomize import Ranges
from handsight.envs.splits import Split, held_out
from handsight.envs.tasks.sense.bag import COVER, DEPTH, PITCH
from handsight.envs.tasks.sense.bag_color_feel import ColorFeelExpert
from handsight.sensors.types import FRONT, TOUCH, WRIST, Observation, Sensor

PLACES = range(4)
SIZE = 128  # of the pictures [pixel]


@pytest.fixture(scope="module")
def env() -> Iterator[HandsightEnv]:
    environment = make("sense/bag_color_feel", image_size=SIZE)
    yield environment
    environment.close()


def expert_of(env: HandsightEnv) -> ColorFeelExpert:
    expert = env.make_expert()
    assert isinstance(expert, ColorFeelExpert)
    return expert


def colors(env: HandsightEnv) -> list[str]:
    return [words.color for words in env.setup.objects.values()]


def blind(observation: Observation, keys: tuple[str, ...]) -> Observation:
    return observation | {key: np.zeros_like(observation[key]) for key in keys}


def play(env: HandsightEnv, seed: int, keys: tuple[str, ...] = ()) -> bool:
    """Success of the expert to whom `keys` are zeroed."""
    observation, info = env.reset(seed=seed)
    expert = env.make_expert()
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(expert.act(blind(observation, keys)))
        done = terminated or truncated
    return bool(info["is_success"])


def test_each_of_two_colours_has_a_soft_and_a_hard_ball(env: HandsightEnv) -> None:
    for seed in range(20):
        env.reset(seed=seed)
        kinds = {(words.color, words.hardness) for words in env.setup.objects.values()}
        assert len(kinds) == 4
        assert len({color for color, _ in kinds}) == 2
        named = env.setup.objects[env.setup.target]
        assert (named.color, named.hardness) == (env.setup.attributes["color"], env.setup.attributes["stiffness"])
        shown = env.world.model.geom(f"cover{env.setup.privileged['odd']}").rgba[:3]
        np.testing.assert_allclose(shown, COLORS[named.color], atol=1e-6)


def test_every_cover_is_whole_in_the_picture(env: HandsightEnv) -> None:
    centres = env.task.row  # type: ignore[attr-defined]
    corners = np.array([[x, y + side * PITCH / 2, COVER] for y in centres for side in (-1, 1) for x in (-DEPTH, DEPTH)])
    for seed in range(40):
        env.reset(seed=seed)
        pixels = Pinhole.of(env.world, "front", SIZE).project(env.world.data.mocap_pos[0] + corners)
        assert pixels.min() >= 0
        assert pixels.max() <= SIZE - 1


def test_the_picture_singles_out_the_two_compartments_of_the_colour(env: HandsightEnv) -> None:
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        named = env.setup.attributes["color"]
        assert expert_of(env).candidates(observation) == [place for place in PLACES if colors(env)[place] == named]


def test_without_a_picture_all_compartments_are_felt_left_to_right(env: HandsightEnv) -> None:
    """Always in the same order: of two neighbours of one color a policy would go to the wall between them."""
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        assert expert_of(env).candidates(blind(observation, (FRONT, WRIST))) == list(PLACES)


def test_the_truth_stands_in_for_a_camera_that_is_not_there(env: HandsightEnv) -> None:
    observation, _ = env.reset(seed=5)
    del observation[FRONT]
    assert likeness(env.world, observation, np.zeros((4, 3)), COLORS["red"]) is None
    assert {colors(env)[place] for place in expert_of(env).candidates(observation)} == {env.setup.attributes["color"]}


def test_the_secret_is_independent_of_what_is_named_and_of_the_colours_in_the_picture() -> None:
    environment = make("sense/bag_color_feel", sensors=Sensor.STATE)
    tables: dict[str, Counter[tuple[str, str]]] = {"stiffness": Counter(), "color": Counter(), "picture": Counter()}
    for seed in range(800):
        environment.reset(seed=seed)
        setup = environment.setup
        tables["stiffness"][setup.attributes["stiffness"], setup.secret] += 1
        tables["color"][setup.attributes["color"], setup.secret] += 1
        tables["picture"][str([color == setup.attributes["color"] for color in colors(environment)]), setup.secret] += 1
    environment.close()
    for name, counts in tables.items():
        assert chi_square(counts) < {"stiffness": 10.8, "color": 20.5, "picture": 20.5}[name]  # p = 0.001; 1, 5, 5 degrees of freedom


def chi_square(counts: Counter[tuple[str, str]]) -> float:
    rows, columns = (sorted({key[axis] for key in counts}) for axis in (0, 1))
    assert columns == ["left", "right"]
    table = np.array([[counts[row, column] for column in columns] for row in rows])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def hidden_pixels(env: HandsightEnv, camera: Camera) -> int:
    inside = [
        env.world.model.geom(f"{body}_{shape}").id for body in env.setup.objects for shape in SHAPES if env.world.position(body)[2] < 0.030
    ]
    return sum(int(np.isin(camera.segmentation(name), inside).sum()) for name in ("front", "wrist"))


def test_no_pixel_of_a_ball_is_seen_while_it_is_in_the_bag(env: HandsightEnv) -> None:
    camera = Camera(env.world, View(SIZE, SIZE))
    observation, _ = env.reset(seed=7)
    expert, done, seen = env.make_expert(), False, 0
    while not done:
        observation, _, terminated, truncated, _ = env.step(expert.act(observation))
        done = terminated or truncated
        seen += hidden_pixels(env, camera)
    env.world.model.geom("cover2").rgba[3] = 0.0
    env.reset(seed=7)
    without_a_cover = hidden_pixels(env, camera)
    env.world.model.geom("cover2").rgba[3] = 1.0
    camera.close()
    assert seen == 0
    assert without_a_cover > 20


@pytest.mark.parametrize("split", [Split.TRAIN, Split.NEW_COMBINATION, Split.NEW_OBJECT])
def test_held_out_combinations_consist_of_values_that_training_knows(split: Split) -> None:
    environment = make("sense/bag_color_feel", sensors=Sensor.STATE, ranges=Ranges(split=split))
    seen = set()
    for seed in range(150):
        environment.reset(seed=seed)
        seen.add(environment.setup.combination)
    environment.close()
    if split is not Split.NEW_OBJECT:
        assert {held_out(combination) for combination in seen} == {split is Split.NEW_COMBINATION}
    if split is not Split.NEW_COMBINATION:
        values = {*COLORS, "soft", "hard", *(f"compartment{place}" for place in PLACES)}
        assert {value for combination in seen for value in combination} == values


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_expert_needs_both_senses(env: HandsightEnv) -> None:
    seeds = range(3000, 3200)
    assert np.mean([play(env, seed) for seed in seeds]) >= 0.95
    for keys in ((FRONT, WRIST), (TOUCH,)):
        share = np.mean([play(env, seed, keys) for seed in seeds])
        assert abs(share - 1 / 2) < 1.96 * np.sqrt(1 / 4 / len(seeds)) + 0.02
