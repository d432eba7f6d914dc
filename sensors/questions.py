"""What senses can be asked for: `V,T:hardness` is a sentence of vision's own choice, and what touch says of the hardness."""

from dataclasses import dataclass

from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, REVEALED_BY, Modality


@dataclass(frozen=True)
class Question:
    """What a combination of senses is asked for: a sentence of its own choice, or one about an attribute."""

    combination: Modality
    about: str = ""

    @property
    def answered_by(self) -> Modality:
        """Whose sentence the answer is: the first sense that reveals the attribute; without one, the combination's."""
        return next((sense for sense in self.combination if self.about and sense in REVEALED_BY[self.about]), self.combination)


def parse_questions(names: str, option: str = "describe") -> tuple[Question, ...]:
    """`"V,T:hardness,VT"` -> combinations of senses, some with the attribute that they are asked for.

    Raises HandsightError for an unknown combination, or an attribute that it does not reveal.
    """
    known = {combination.letters: combination for combination in COMBINATIONS}
    wanted = [name.strip().partition(":") for name in names.split(",") if name.strip()]
    if unknown := [letters for letters, _, _ in wanted if letters not in known]:
        raise HandsightError(f"expected --{option} among {','.join(known)}, got {','.join(unknown)}; separate them with commas")
    for letters, _, about in wanted:
        revealed = [name for name, senses in REVEALED_BY.items() if known[letters] & senses]
        if about and about not in revealed:
            raise HandsightError(f"expected --{option} to ask {letters} for one of {', '.join(revealed)}, got {about}")
    return tuple(Question(known[letters], about) for letters, _, about in wanted)


def parse_note(name: str) -> Question | None:
    """`"VA:color"` -> the one question whose last answer a policy keeps in mind; None for "".

    Raises HandsightError for several, or one about no attribute.
    """
    questions = parse_questions(name, "policy.note")
    if len(questions) > 1 or any(not question.about for question in questions):
        raise HandsightError(f"expected --policy.note to ask for one attribute, as in VA:color, got {name}")
    return questions[0] if questions else None
