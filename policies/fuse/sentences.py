"""The sentences that the templates of sensors/descriptions.json allow, as an automaton over words: it keeps a decoder within them, and
reads the attributes out of what was said.

A state is what is still to be said, a tuple of words and slots, and which value each attribute has been given. Slots are opened when they
are reached: the language of a combination has far too many sentences to be listed.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple

from handsight.sensors.describe import SENSE_OF, Descriptions, Phrasings, slots
from handsight.sensors.grounding import REVEALED_BY, VALUES, Modality
from handsight.sensors.words import END, spell

_SLOT: Final = re.compile(r"\{(\w+)\}")


class _State(NamedTuple):
    rest: tuple[int | str, ...]
    """Ids of words, names of slots."""
    given: tuple[tuple[str, str, tuple[int, ...]], ...]
    """Attribute, value and the words that said it."""
    naming: str = ""
    """An attribute that the next predicate of a sense that reveals it has to name; empty if none has to."""


class Sentence:
    """A sentence that is being said by a combination of senses; with `naming`, one that names this attribute (that the senses reveal)."""

    def __init__(self, combination: Modality, phrasings: Phrasings = "train", naming: str = "") -> None:
        self._states = _beginnings(combination, phrasings, naming)

    def allowed(self) -> list[int]:
        """Ids of the words that may come next; END where the sentence may be over. Never empty after allowed words alone."""
        fronts = {state.rest[0] if state.rest else END for state in self._states}
        return sorted(front for front in fronts if isinstance(front, int))  # all are: slots in front have been opened

    def say(self, word: int) -> None:
        """The next word was this one; after one that was not allowed nothing is."""
        moved = (state._replace(rest=state.rest[1:]) for state in self._states if state.rest and state.rest[0] == word)
        self._states = frozenset(opened for state in moved for opened in _open(state))

    def attributes(self) -> dict[str, str]:
        """What the sentence, if it may be over here, has said of each attribute; empty if it may not."""
        finished = min((state.given for state in self._states if not state.rest), default=())
        return {name: value for name, value, _ in finished}


def attributes_of(sentence: str, combination: Modality, phrasings: Phrasings = "train") -> dict[str, str]:
    """The attributes that a sentence of a combination names, by name; empty for what is no such sentence.

    Raises:
        HandsightError: a word that no description has.
    """
    heard = Sentence(combination, phrasings)
    for word in spell(sentence):
        heard.say(word)
    return heard.attributes()


@cache
def _beginnings(combination: Modality, phrasings: Phrasings, naming: str) -> frozenset[_State]:
    templates = Descriptions.load().templates[combination.letters][phrasings]
    chosen = [template for template in templates if not naming or naming in slots(template) or _reveals(slots(template), naming)]
    states = [_State(_parse(template), (), "" if naming in slots(template) else naming) for template in chosen]
    return frozenset(opened for state in states for opened in _open(state))


def _reveals(names: Iterable[str], attribute: str) -> bool:
    """Whether one of these slots is a predicate of a sense that reveals the attribute."""
    return any(SENSE_OF[name] in REVEALED_BY[attribute] for name in names if name in SENSE_OF)


@cache
def _parse(text: str) -> tuple[int | str, ...]:
    """A template or predicate as words and slots."""
    pieces = _SLOT.split(text)  # text, slot, text, slot, ..., text
    return tuple(part for i, piece in enumerate(pieces) for part in ([piece] if i % 2 else spell(piece)))


@cache
def _open(state: _State) -> frozenset[_State]:
    """The same with a word, or nothing, in front: a slot there is replaced by each of the things that may fill it."""
    if not state.rest or isinstance(state.rest[0], int):
        return frozenset([state])
    return frozenset(opened for filled in _fill(state.rest[0], state) for opened in _open(filled))


def _fill(slot: str, state: _State) -> Iterator[_State]:
    book, rest = Descriptions.load(), state.rest[1:]
    if slot in SENSE_OF:
        names = state.naming and _reveals((slot,), state.naming)
        texts = [text for text in book.predicates[slot] if not names or state.naming in slots(text)]
        yield from (_State((*_parse(text), *rest), state.given, "" if names else state.naming) for text in texts)
        return
    for name, _, words in state.given:
        if name == slot:  # one thing has one color, however often it is named
            yield _State((*words, *rest), state.given, state.naming)
            return
    for value in VALUES[slot]:
        for phrase in book.words_for(slot, value):
            words = tuple(spell(phrase))
            yield _State((*words, *rest), tuple(sorted([*state.given, (slot, value, words)])), state.naming)
