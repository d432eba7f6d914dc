"""Buttons, lever and tones: what counts as a press, what commits, what is heard, and that looks do not tell."""

from collections import Counter

import numpy as np
import pytest

from handsight.envs.env import HandsightEnv, make
from handsight.envs.instructions import Phrasebook
from handsight.envs.randomize import Ranges
from handsight.envs.rollout import expert_episode
from handsight.envs.splits import Split
from handsight.envs.tasks.sense.button_expert import LISTEN, tone_of
from handsight.envs.tasks.sense.button_seq import KEYS, STARTS
from handsight.envs.tasks.sense.buttons import BUTTONS, LEVER, RADIUS, TONES, TRAVEL, Presses, tone_words
from handsight.envs.tasks.sense.press_describe_press import SAMPLE, DescribeExpert
from handsight.envs.world import World
from handsight.policies.fuse.sentences import attributes_of
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Modality
from handsight.sensors.types import AUDIO, Sensor

STAY = np.zeros(7, np.float32)
TASKS = ("button_color", "button_sound", "button_seq", "grasp_by_button", "press_describe_press")
SLOTS = {"button_color": {"color"}, "button_sound": {"sound"}, "grasp_by_button": {"sound"}}
TOUCHLESS = Sensor.STATE | Sensor.AUDIO


def make_task(task: str, **kwargs: Ranges) -> HandsightEnv:
    return make(f"sense/{task}", sensors=TOUCHLESS, **kwargs)


def step(env: HandsightEnv, times: int) -> tuple[np.ndarray, dict]:
    """Waits; returns what was heard and the last info."""
    sounds = []
    for _ in range(times):
        observation, _, _, _, info = env.step(STAY)
        sounds.append(observation[AUDIO])
    return np.concatenate(sounds), info


def press(env: HandsightEnv, name: str) -> tuple[np.ndarray, dict]:
    """Presses by a force of 8 N that no finger exerts, and lets go; returns the sound and the last info."""
    force = env.world.data.body(name).xfrc_applied
    force[2] = -8.0
    during, _ = step(env, 2)
    force[2] = 0.0
    after, info = step(env, LISTEN)
    return np.concatenate([during, after])[: LISTEN * len(during) // 2], info


def test_a_press_counts_once_until_it_was_released() -> None:
    env = make_task("button_color")
    env.reset(seed=0)
    presses, joint = Presses(), env.world.data.joint("button1")
    counted = []
    for travel in (0.0, 0.0039, 0.0041, 0.0035, 0.0045, 0.0021, 0.0045, 0.0019, 0.0045):
        joint.qpos[0] = -travel
        counted.append(presses.update(env.world, BUTTONS))
    env.close()
    assert counted == [(), (), ("button1",), (), (), (), (), (), ("button1",)]
    assert presses.order == ["button1", "button1"]


@pytest.mark.parametrize(
    ("order", "after", "committed"),
    [
        ([LEVER], "", ""),
        (["button0"], "", ""),
        (["button0", "button2", LEVER], "", "button2"),
        ([LEVER, "button0", LEVER, "button1", LEVER], "", "button0"),
        (["button0", LEVER], SAMPLE, ""),
        (["button0", SAMPLE, LEVER, "button3", LEVER], SAMPLE, "button3"),
        (["button0", SAMPLE, LEVER], SAMPLE, ""),
        ([SAMPLE, "button1", SAMPLE, LEVER], SAMPLE, "button1"),
    ],
)
def test_the_lever_commits_the_button_pressed_last(order: list[str], after: str, committed: str) -> None:
    assert Presses(order=order).committed(BUTTONS, after=after) == committed


def test_the_first_button_of_a_colour_decides() -> None:
    env = make_task("button_color")
    env.reset(seed=1)
    right, other = env.setup.target, env.setup.others[0]
    assert not step(env, 20)[1]["is_success"]
    press(env, right)
    assert step(env, 10)[1]["is_success"]
    env.reset(seed=1)
    info = press(env, other)[1]
    env.close()
    assert info["wrong_object"]
    assert not info["is_success"]


@pytest.mark.parametrize("seed", range(6))
def test_each_button_is_heard_by_its_own_tone_and_only_when_pressed(seed: int) -> None:
    env = make_task("button_sound")
    env.reset(seed=seed)
    assert tone_of(step(env, LISTEN)[0]) == ""
    heard = {}
    for name in BUTTONS:
        heard[name] = tone_of(press(env, name)[0])
    info = step(env, 1)[1]
    env.close()
    assert heard == info["privileged"]["tones"]
    assert all(info["privileged"]["evidence"][name] & Modality.AUDIO for name in BUTTONS)
    assert not info["wrong_object"], "listening must be free"


def test_exploration_is_free_until_the_lever_commits() -> None:
    env = make_task("button_sound")
    env.reset(seed=2)
    assert not press(env, LEVER)[1]["wrong_object"], "a lever that commits nothing"
    press(env, env.setup.others[1])
    press(env, env.setup.target)
    press(env, LEVER)
    assert step(env, 10)[1]["is_success"]
    env.reset(seed=2)
    press(env, env.setup.target)
    press(env, env.setup.others[0])
    info = press(env, LEVER)[1]
    env.close()
    assert info["wrong_object"]
    assert not info["is_success"]


def test_the_four_buttons_look_alike() -> None:
    for task in ("button_sound", "press_describe_press"):
        env = make_task(task)
        env.reset(seed=4)
        geoms = [env.world.model.geom(name) for name in BUTTONS]
        looks = {(*geom.rgba.tolist(), *geom.size.tolist()) for geom in geoms}
        env.close()
        assert len(looks) == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_melody_is_heard_and_its_replay_succeeds(seed: int) -> None:
    env = make_task("button_seq")
    env.reset(seed=seed)
    sound = step(env, STARTS[-1] + LISTEN)[0].reshape(-1, 800)
    heard = [tone_of(sound[start - 1 : start - 1 + LISTEN].reshape(-1)) for start in STARTS]
    melody = [KEYS[list(TONES).index(tone)] for tone in heard]
    assert "-".join(str(KEYS.index(key)) for key in melody) == env.setup.secret
    for key in melody:
        assert not press(env, key)[1]["wrong_object"]
    info = step(env, 10)[1]
    env.close()
    assert info["is_success"]


def test_a_wrong_key_ends_the_melody() -> None:
    env = make_task("button_seq")
    env.reset(seed=0)
    wrong = next(key for key in KEYS if key != env.setup.target)
    info = press(env, wrong)[1]
    env.close()
    assert info["wrong_object"]


def test_keys_are_ordered_like_a_keyboard() -> None:
    env = make_task("button_seq")
    _, info = env.reset(seed=5)
    tones = info["privileged"]["tones"]
    left = {key: env.world.position(f"{key}_base")[1] for key in KEYS}
    env.close()
    assert sorted(KEYS, key=lambda key: -left[key]) == sorted(KEYS, key=lambda key: TONES[tones[key]])


def test_each_button_has_one_object_of_its_colour() -> None:
    env = make_task("grasp_by_button")
    for seed in range(20):
        _, info = env.reset(seed=seed)
        objects, partners = info["privileged"]["objects"], info["privileged"]["partners"]
        assert all(objects[button].color == objects[body].color for button, body in partners.items())
        assert sorted(partners) == sorted(BUTTONS)
        assert len(set(partners.values())) == len(BUTTONS)
        assert partners[info["privileged"]["button"]] == info["privileged"]["target"]
        assert tone_words(info["privileged"]["tone"]) == objects[info["privileged"]["button"]].sound
    env.close()


def test_pressing_is_free_before_a_grasp() -> None:
    env = make_task("grasp_by_button")
    env.reset(seed=0)
    wrong = [press(env, name)[1]["wrong_object"] for name in BUTTONS]
    env.close()
    assert not any(wrong)


def test_the_sample_sounds_like_the_target_and_opens_the_second_stage() -> None:
    env = make_task("press_describe_press")
    _, info = env.reset(seed=0)
    target, tones = env.setup.target, info["privileged"]["tones"]
    assert info["privileged"]["stage"] == "listen"
    press(env, env.setup.others[0])
    assert not press(env, LEVER)[1]["wrong_object"], "nothing counts before the sample"
    sound, info = press(env, SAMPLE)
    assert tone_of(sound) == tones[target]
    assert info["privileged"]["stage"] == "press"
    press(env, target)
    press(env, LEVER)
    info = step(env, 10)[1]
    env.close()
    assert info["is_success"]


def test_the_experts_words_become_the_command() -> None:
    env = make_task("press_describe_press")
    observation, info = env.reset(seed=3)
    job, expert = info["task"], env.make_expert()
    assert isinstance(expert, DescribeExpert)
    done = False
    while not done:
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        done = terminated or truncated
        if expert.words and env.task_description == job:
            assert info["privileged"]["stage"] == "press"
            env.instruct(expert.words)
    env.close()
    assert info["is_success"]
    assert info["task"] == expert.words != job
    tone = tone_words(str(env.setup.privileged["tone"]))
    assert attributes_of(expert.words, Modality.AUDIO) == {"sound": tone}


def test_the_experts_words_stand_in_its_demonstration_from_when_it_says_them() -> None:
    env = make_task("press_describe_press")
    episode = expert_episode(env, 3, noise=False)
    ((start, words),) = episode.commands
    assert words != episode.instruction
    assert attributes_of(words, Modality.AUDIO) == {"sound": tone_words(str(env.setup.privileged["tone"]))}
    env.reset(seed=3)
    stages = [env.step(action)[-1]["privileged"]["stage"] for action in episode.actions]
    assert stages.index("press") < start < len(episode.actions) - 20
    env.close()


def test_a_blank_instruction_is_refused_and_reset_draws_a_new_one() -> None:
    env = make_task("press_describe_press")
    _, info = env.reset(seed=0)
    with pytest.raises(HandsightError, match="expected an instruction"):
        env.instruct(" ")
    assert env.task_description == info["task"]
    env.instruct("press the high one")
    assert step(env, 1)[1]["task"] == "press the high one"
    assert env.reset(seed=0)[1]["task"] == info["task"]
    env.close()


def test_caps_spring_back_and_stay_within_their_travel() -> None:
    env = make_task("button_sound")
    env.reset(seed=0)
    body = env.world.data.body("button0")
    body.xfrc_applied[2] = -30.0
    step(env, 4)
    deepest = -float(env.world.data.joint("button0").qpos[0])
    body.xfrc_applied[2] = 0.0
    step(env, 4)
    rest = -float(env.world.data.joint("button0").qpos[0])
    env.close()
    assert 0.9 * TRAVEL < deepest < 1.5 * TRAVEL
    assert abs(rest) < 0.001


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_recovers_from_disturbances(task: str) -> None:
    env = make_task(task)
    outcomes = [expert_episode(env, seed, noise=True).success for seed in range(2000, 2004)]
    env.close()
    assert sum(outcomes) >= 3


@pytest.mark.parametrize("task", TASKS)
def test_every_phrasing_names_what_decides(task: str) -> None:
    book = Phrasebook.load(task)
    for phrasing in (*book.train, *book.heldout):
        assert all(f"{{{slot}}}" in phrasing for slot in SLOTS.get(task, set())), phrasing
    for words in book.words.values():
        used = [word for synonyms in words.values() for word in synonyms]
        assert len(used) == len(set(used))


def test_new_objects_have_caps_of_other_sizes() -> None:
    def radius(world: World) -> float:
        return float(world.model.geom("button0").size[0])

    known, new = make_task("button_color"), make_task("button_color", ranges=Ranges(split=Split.NEW_OBJECT))
    for seed in range(20):
        known.reset(seed=seed)
        new.reset(seed=seed)
        assert RADIUS[0] <= radius(known.world) <= RADIUS[1]
        assert not RADIUS[0] < radius(new.world) < RADIUS[1]
        assert radius(new.world) < new.world.model.geom("button0").rbound
    known.close()
    new.close()


def test_where_a_tone_is_does_not_depend_on_the_tone() -> None:
    env = make_task("button_sound")
    counts: Counter[tuple[str, str]] = Counter()
    for seed in range(320):
        env.reset(seed=seed)
        counts[str(env.setup.privileged["tone"]), env.setup.secret] += 1
    env.close()
    table = np.array([[counts[tone, str(place)] for place in range(len(BUTTONS))] for tone in TONES])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    assert abs(table.sum(axis=0) - 80).max() < 32


def play(env: HandsightEnv, seed: int, *, deaf: bool) -> bool:
    observation, info = env.reset(seed=seed)
    expert, done = env.make_expert(), False
    while not done:
        if deaf:
            observation[AUDIO] = np.zeros_like(observation[AUDIO])
        observation, _, terminated, truncated, info = env.step(expert.act(observation))
        done = terminated or truncated
    return bool(info["is_success"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("task", ["button_sound", "button_seq", "grasp_by_button", "press_describe_press"])
def test_the_expert_needs_to_hear(task: str) -> None:
    env = make_task(task)
    hearing = np.mean([play(env, seed, deaf=False) for seed in range(3000, 3200)])
    deaf = np.mean([play(env, seed, deaf=True) for seed in range(3000, 3200)])
    env.close()
    chance = env.task.needs[Sensor.AUDIO]
    assert hearing >= 0.97
    assert abs(deaf - chance) < 1.96 * np.sqrt(chance * (1 - chance) / 200) + 0.02
