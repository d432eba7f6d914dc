"""What a thing is like, and which senses can truthfully say so at a given moment.

Vision, touch and hearing make seven combinations. A combination may describe a thing only where each of its senses has met it: seen means
some of it is in view, touched means a finger pad has pressed it, heard means it has sounded above the microphone's noise. (FuSe, Jones et
al., "Beyond Sight", 2025, section 4, pairs its observations with a text for each of the seven.)
"""

import enum
from dataclasses import dataclass, fields
from typing import Final


class Modality(enum.Flag):
    """A sense; combinations are written with `|`."""

    VISION = enum.auto()
    TOUCH = enum.auto()
    AUDIO = enum.auto()

    @property
    def letters(self) -> str:
        """V, T, A, VT, VA, TA or VTA; empty for none."""
        return "".join(str(sense.name)[0] for sense in self)


NOTHING: Final = Modality(0)
COMBINATIONS: Final = tuple(Modality(bits) for bits in (1, 2, 4, 3, 5, 6, 7))  # V, T, A, VT, VA, TA, VTA


@dataclass(frozen=True)
class Attributes:
    """What one object or button is like, in words; empty where the word does not apply."""

    color: str = ""
    shape: str = ""
    size: str = ""
    hardness: str = ""
    texture: str = ""
    material: str = ""
    sound: str = ""
    """Class of the sound that it makes: a tone, a rattle."""

    def known(self, senses: Modality) -> dict[str, str]:
        """The attributes that any of `senses` reveals and that apply, by name."""
        named = {field.name: str(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in named.items() if value and REVEALED_BY[name] & senses}


VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": ("red", "green", "blue", "yellow", "purple", "white", "orange", "cyan", "pink", "grey"),
    "shape": ("box", "cylinder", "sphere", "round", "long", "flat", "button", "lever"),
    "size": ("small", "large"),
    "hardness": ("soft", "medium", "hard"),
    "texture": ("smooth", "rough"),
    "material": ("metal", "wood", "plastic", "glass", "rubber"),
    "sound": (
        *("low tone", "middle tone", "high tone", "very high tone"),
        *("silent", "single rattle", "busy rattle", "metal rattle", "wood rattle", "plastic rattle", "glass rattle"),
    ),
}
"""Every value that an attribute can have, in the order of `Attributes`. Datasets and trained decoders hold places in these lists: add new
values at the end."""

REVEALED_BY: Final = {
    "color": Modality.VISION,
    "shape": Modality.VISION | Modality.TOUCH,  # a pad feels the print of a ball, an edge or a face
    "size": Modality.VISION | Modality.TOUCH,  # the fingers' opening
    "hardness": Modality.TOUCH,
    "texture": Modality.TOUCH,
    "material": Modality.AUDIO,
    "sound": Modality.AUDIO,
}


def describable(attributes: Attributes, evidence: Modality) -> dict[Modality, dict[str, str]]:
    """The table of one thing at one moment: for each of the seven combinations what it can truthfully say.

    Empty for a combination that includes a sense which has not met the thing (`evidence`), or which none of its attributes concerns.
    """

    def says(combination: Modality) -> dict[str, str]:
        met = combination & evidence == combination
        informed = all(attributes.known(sense) for sense in combination)
        return attributes.known(combination) if met and informed else {}

    return {combination: says(combination) for combination in COMBINATIONS}
