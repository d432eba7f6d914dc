"""Instructions: enough of them, held-out ones are other sentences, every slot can be filled, no word means two things."""

import json
import re
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handsight.envs.env import make, task_names
from handsight.envs.instructions import Phrasebook
from handsight.envs.randomize import Ranges
from handsight.envs.rollout import expert_episode
from handsight.sensors.describe import Descriptions, Phrasings, slots
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, VALUES, Modality
from handsight.sensors.types import Sensor

SCENES = 150
TRAIN, HELDOUT = 20, 6
SPLITS: tuple[Phrasings, ...] = ("train", "heldout")


@pytest.fixture(scope="module")
def said() -> dict[str, dict[str, set[str]]]:
    """Every value of every slot that a task's instructions name, by task."""
    return {task: values_of(task)[0] for task in task_names()}


@cache
def values_of(task: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Values of the instructions' slots, and of the things' attributes, over many scenes."""
    env = make(task, sensors=Sensor.STATE)
    env.reset(seed=1000)
    rng, slot_values, attributes = np.random.default_rng(0), {}, {}
    for _ in range(SCENES):
        setup = env.task.reset(env.world, rng, Ranges())
        for slot, value in setup.attributes.items():
            slot_values.setdefault(slot, set()).add(value)
        for thing in setup.objects.values():
            for name, value in thing.known(Modality.VISION | Modality.TOUCH | Modality.AUDIO).items():
                attributes.setdefault(name, set()).add(value)
    env.close()
    return slot_values, attributes


def book_of(task: str) -> dict[str, Any]:
    phrases = make(task, sensors=Sensor.STATE).task.phrases
    return dict(json.loads((Path(__file__).parents[2] / f"envs/phrasings/{phrases}.json").read_text()))


@pytest.mark.parametrize("task", task_names())
def test_a_task_has_enough_phrasings_and_others_are_held_out(task: str) -> None:
    book = book_of(task)
    assert book["modality"] in {combination.letters for combination in COMBINATIONS}
    assert len(set(book["train"])) == len(book["train"]) >= TRAIN
    assert len(set(book["heldout"])) == len(book["heldout"]) >= HELDOUT
    plain = [re.sub(r"\W+", " ", sentence).lower().strip() for sentence in book["train"] + book["heldout"]]
    assert len(set(plain)) == len(plain)


@pytest.mark.parametrize("modality", ["V", "T"])
def test_a_partial_prompt_leaves_out_what_the_other_sense_tells(modality: str, rng: np.random.Generator) -> None:
    book = Phrasebook.load("bag_color_feel")
    some = book.speaking(modality)
    assert len(set(some.train)) >= TRAIN
    assert len(set(some.heldout)) >= HELDOUT
    assert not set(some.train) & set(some.heldout)
    slot = {"V": "color", "T": "stiffness"}[modality]
    assert all(slots(sentence) == {slot} for sentence in (*some.train, *some.heldout))
    env = make("sense/bag_color_feel", sensors=Sensor.STATE, prompt=modality)
    env.reset(seed=1000)
    scene = env.world.data.qpos.copy()
    said = {
        name: any(word in env.task_description.split() for word in book.words[name].get(value, [value]))
        for name, value in env.setup.attributes.items()
    }
    assert said == {name: name == slot for name in said}
    whole = make("sense/bag_color_feel", sensors=Sensor.STATE)
    whole.reset(seed=1000)
    np.testing.assert_array_equal(whole.world.data.qpos, scene)


@pytest.mark.parametrize(("prompt", "named"), [("", {"color", "stiffness"}), ("V", {"color"}), ("T", {"stiffness"})])
def test_an_expert_knows_of_the_thing_only_what_the_instruction_names(prompt: str, named: set[str]) -> None:
    env = make("sense/bag_color_feel", sensors=Sensor.STATE | Sensor.TOUCH, prompt=prompt)
    seeds = range(1000, 1012)
    taken = [expert_episode(env, seed, noise=False) for seed in seeds]
    lifted = {episode.success for episode in taken}
    assert lifted == ({True} if not prompt else {True, False})  # one word leaves two things open: it takes either
    for seed in seeds:
        env.reset(seed=seed)
        assert set(env.make_expert().setup.attributes) == named
        assert set(env.setup.attributes) == {"color", "stiffness"}
    if prompt == "V":
        squeezes = {int((np.diff((episode.phases == episode.phase_names.index("squeeze")).astype(int)) == 1).sum()) for episode in taken}
        assert squeezes == {1}  # nothing that it could feel would tell it to leave the first


def test_a_prompt_that_a_task_does_not_have_is_refused() -> None:
    with pytest.raises(HandsightError, match=r"expected --env\.prompt=V with this task, got A"):
        make("sense/tabletop_grasp", sensors=Sensor.STATE, prompt="A")


@pytest.mark.parametrize("task", task_names())
def test_every_slot_is_filled_for_every_value(task: str, said: dict[str, dict[str, set[str]]], rng: np.random.Generator) -> None:
    book, values = book_of(task), said[task]
    phrasebook = Phrasebook.of(book)
    assert all(slots(sentence) <= set(values) for sentence in (*phrasebook.train, *phrasebook.heldout))
    for combination in product(*(sorted(options) for options in values.values())):
        for split in SPLITS:
            sentence = phrasebook.phrase(rng, split, **dict(zip(values, combination, strict=True)))
            assert not re.search(r"[{}]|\b[aA] [aeiou]|  ", sentence), sentence


@pytest.mark.parametrize("task", task_names())
def test_all_that_training_says_is_listed_by_its_meaning(task: str, said: dict[str, dict[str, set[str]]], rng: np.random.Generator) -> None:
    book = Phrasebook.of(book_of(task))
    meanings = [set(meaning) for meaning in book.meanings()]
    for some in (book, *book.partial.values()):
        for values in drawn(said[task], rng):
            phrasings = [some.phrase(rng, "train", **values) for _ in range(4)]
            of = [{place for place, meaning in enumerate(meanings) if text in meaning} for text in phrasings]
            assert all(len(places) == 1 for places in of)
            named = [slots(phrasing) for phrasing in some.train]
            if all(slot == named[0] for slot in named):  # each names all values: these are alike
                assert len(set.union(*of)) == 1
    everything = [text for meaning in book.meanings() for text in meaning]
    assert len(set(everything)) == len(everything)
    assert not set(everything) & {book.phrase(rng, "heldout", **values) for values in drawn(said[task], rng)}


def drawn(values: dict[str, set[str]], rng: np.random.Generator, count: int = 100) -> list[dict[str, str]]:
    """Values of all slots, at random."""
    return [{slot: str(rng.choice(sorted(options))) for slot, options in values.items()} for _ in range(count)]


@pytest.mark.parametrize("task", task_names())
def test_no_word_stands_for_two_values(task: str, said: dict[str, dict[str, set[str]]]) -> None:
    book = book_of(task)
    for slot, values in said[task].items():
        words = {value: set(book["words"][slot].get(value, [value])) for value in values}
        assert_unambiguous(words)
        assert set(book["words"][slot]) <= values, "words for a value that never occurs"


def assert_unambiguous(words: dict[str, set[str]]) -> None:
    """No word or synonym belongs to two values."""
    everything = [word.lower() for options in words.values() for word in options]
    assert len(set(everything)) == len(everything), words


def test_ambiguous_words_are_found() -> None:
    with pytest.raises(AssertionError):
        assert_unambiguous({"soft": {"soft", "firm"}, "hard": {"hard", "Firm"}})


def test_every_attribute_of_every_task_is_listed_and_has_words() -> None:
    words = Descriptions.load().words
    found: dict[str, set[str]] = {}
    for task in task_names():
        for name, values in values_of(task)[1].items():
            found.setdefault(name, set()).update(values)
    assert set(found) == set(VALUES)
    for name, values in found.items():
        assert values == set(VALUES[name]), name
        assert_unambiguous({value: set(words[name].get(value, (value,))) for value in values})
        if name in ("sound", "hardness", "material", "texture", "size"):
            assert values <= set(words[name]), name
