"""A sense has met a thing only after it did: touch after contact, hearing after the sound, sight as the task says what is visible."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import mujoco
import numpy as np
import pytest
from numpy.typing import NDArray

from handsight.envs.env import HandsightEnv, make, task_names
from handsight.envs.proofs import NO_CAMERAS
from handsight.envs.touch import MODULUS
from handsight.sensors.grounding import COMBINATIONS, NOTHING, Modality
from handsight.sensors.referent import NEVER, Referent, speakable
from handsight.sensors.types import AUDIO, Sensor

SEED = 1000
PADS = ("left_pad", "right_pad")
Met = Mapping[str, Modality]


@dataclass(frozen=True)
class Moment:
    """What was there and what was known after one control step; the first is the reset."""

    pressed: frozenset[str]
    """Things that touch a finger pad, by MuJoCo's contacts."""
    visible: frozenset[str]
    loaded: Mapping[str, float]
    """Largest force [N] in the step on what sounds: contacts of free bodies, and blows by the task."""
    heard: frozenset[str]
    """Sources that the sound model calls audible."""
    energy: float
    """Mean square of the microphone's signal."""
    met: Met
    felt: frozenset[str]
    """Things that the touch sensor says the pads press on."""
    label: Referent


@pytest.fixture(scope="module", params=task_names())
def env(request: pytest.FixtureRequest) -> Iterator[HandsightEnv]:
    environment = make(request.param, sensors=NO_CAMERAS)
    yield environment
    environment.close()


@pytest.fixture(scope="module")
def moments(env: HandsightEnv) -> list[Moment]:
    """An expert's episode, step by step."""
    with pytest.MonkeyPatch.context() as patch:
        seen: dict[str, Mapping[str, float]] = {}
        read = env._observer.read

        def spy(forces: NDArray[np.float64], struck: Mapping[str, float]) -> dict[str, NDArray[np.generic]]:
            seen["loaded"] = dict(zip(env.world.free_bodies, forces.max(axis=0), strict=True)) | dict(struck)
            return read(forces, struck)

        patch.setattr(env._observer, "read", spy)
        observation, info = env.reset(seed=SEED)
        found = [_moment(env, seen["loaded"], observation[AUDIO], info)]
        expert, done = env.make_expert(), False
        while not done:
            observation, _, terminated, truncated, info = env.step(expert.act(observation))
            found.append(_moment(env, seen["loaded"], observation[AUDIO], info))
            done = terminated or truncated
    return found


def _moment(env: HandsightEnv, loaded: Mapping[str, float], sound: NDArray[np.float32], info: dict[str, object]) -> Moment:
    privileged = info["privileged"]
    assert isinstance(privileged, dict)
    return Moment(
        pressed=_pressed(env),
        visible=env.task.visible(env.world, env.setup),
        loaded=loaded,
        heard=env._observer.heard,
        energy=float(np.square(sound).mean()),
        met=privileged["evidence"],
        felt=frozenset(env.world.model.body(int(env.world.model.geom_bodyid[geom])).name for geom in env._observer.touched),
        label=Referent.of(privileged["grounding"]),
    )


def _pressed(env: HandsightEnv) -> frozenset[str]:
    """Bodies with a geom that has a contact with a pad."""
    model, found = env.world.model, set()
    pads = {model.geom(name).id for name in PADS}
    for contact in env.world.data.contact[: env.world.data.ncon]:
        pair = {int(contact.geom1), int(contact.geom2)}
        if pair & pads and contact.efc_address >= 0:
            found |= {mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, int(model.geom_bodyid[geom])) for geom in pair - pads}
    return frozenset(found)


def first(moments: list[Moment], name: str, sense: Modality) -> int | None:
    """The step after which the sense has met the thing."""
    return next((step for step, moment in enumerate(moments) if sense & moment.met[name]), None)


def test_what_was_met_stays_met(moments: list[Moment]) -> None:
    for before, after in pairwise(moments):
        assert all(before.met[name] & after.met[name] == before.met[name] for name in before.met)


def test_touch_has_met_what_a_pad_pressed_and_nothing_else(env: HandsightEnv, moments: list[Moment]) -> None:
    for name in env.setup.objects:
        pressed = next((step for step, moment in enumerate(moments) if name in moment.pressed), None)
        felt = first(moments, name, Modality.TOUCH)
        assert felt is None or (pressed is not None and pressed <= felt), name
    if Sensor.TOUCH in env.task.needs:
        assert Modality.TOUCH & moments[-1].met[env.setup.target]


def test_hearing_has_met_a_thing_only_after_its_sound(env: HandsightEnv, moments: list[Moment]) -> None:
    sources: dict[str, set[str]] = {name: set() for name in env.setup.objects}
    for source in env.setup.sounds:
        sources.get(env.setup.voices.get(source, source), set()).add(source)
    for name in env.setup.objects:
        heard = first(moments, name, Modality.AUDIO)
        if heard is None:
            continue
        assert any(source in moments[heard].heard and moments[heard].loaded.get(source, 0.0) > 0.0 for source in sources[name]), name
    if Sensor.AUDIO in env.task.needs:
        assert any(Modality.AUDIO & met for met in moments[-1].met.values())


def test_sight_has_met_what_was_visible(env: HandsightEnv, moments: list[Moment]) -> None:
    shown: set[str] = set()
    for moment in moments:
        shown |= moment.visible
        assert {name for name, met in moment.met.items() if Modality.VISION & met} == shown


def test_nothing_is_touched_or_heard_at_reset(moments: list[Moment]) -> None:
    assert all(met & (Modality.TOUCH | Modality.AUDIO) == NOTHING for met in moments[0].met.values())


def test_the_signal_stays_at_its_floor_until_something_is_heard(env: HandsightEnv, moments: list[Moment]) -> None:
    energy = np.array([moment.energy for moment in moments])
    start = next((step for step, moment in enumerate(moments) if moment.heard), len(moments))
    floor = np.median(energy[:start]) if start else energy.min()
    assert energy[:start].max(initial=0.0) < 2 * floor
    if Sensor.AUDIO in env.task.needs:
        assert energy[start:].max() > 4 * floor


def test_words_for_the_feel_agree_with_what_the_pads_press_on(env: HandsightEnv) -> None:
    env.reset(seed=SEED)
    model, objects = env.world.model, env.setup.objects
    for surface in env.setup.surfaces:
        words = objects[model.body(int(model.geom_bodyid[surface.geom])).name]
        nearest = min(MODULUS, key=lambda hardness: abs(np.log(surface.modulus / MODULUS[hardness])))
        assert words.hardness == nearest
        assert not words.texture or (words.texture == "rough") == (surface.roughness > 0)


def test_the_label_is_of_what_was_last_touched_or_heard(env: HandsightEnv, moments: list[Moment]) -> None:
    """Told again from MuJoCo's contacts and the sound model; a touch wins over a sound of the same step."""
    sources = {source: env.setup.voices.get(source, source) for source in env.setup.sounds}
    last: dict[str, dict[Modality, int]] = {}
    referents: set[str] = set()  # all that the label may mean: of several things touched at once, any
    for step, moment in enumerate(moments):
        touched = {name for name in env.setup.objects if name in moment.felt}
        heard = {sources[source] for source in moment.heard} & set(env.setup.objects)
        for sense, names in ((Modality.TOUCH, touched), (Modality.AUDIO, heard)):
            for name in names:
                last.setdefault(name, {})[sense] = step
        referents = touched or heard or referents
        label = moment.label
        assert label in {_label(env, name, last[name], step, moment) for name in referents} | ({Referent()} if not referents else set())


def _label(env: HandsightEnv, name: str, last: Mapping[Modality, int], step: int, moment: Moment) -> Referent:
    since = {sense: step - last[sense] if sense in last else NEVER for sense in (Modality.TOUCH, Modality.AUDIO)}
    return Referent(env.setup.objects[name], since[Modality.TOUCH], since[Modality.AUDIO], name in moment.visible)


def test_the_needed_senses_can_speak_of_some_thing(env: HandsightEnv, moments: list[Moment]) -> None:
    rows = np.stack([moment.label.row() for moment in moments])
    spoken = {combination for combination, some in zip(COMBINATIONS, speakable(rows, 40, 20).any(axis=0), strict=True) if some}
    assert Modality.TOUCH in spoken or Sensor.TOUCH not in env.task.needs
    assert Modality.AUDIO in spoken or Sensor.AUDIO not in env.task.needs
