"""What a policy acts on all the same, but not as its user will think: said once."""

import warnings

from torch import Tensor, nn

from handsight.policies.text import HashedText
from handsight.sensors.audio import is_live


def warn_of_unknown_words(text: nn.Module, ids: Tensor) -> None:
    """Of an instruction, ids (B, L), without a word that `text` knows from its training."""
    if isinstance(text, HashedText) and not text.understands(ids).all():
        warnings.warn(
            "expected an instruction with words that instructions of the training had, got none of them; it acts as if there was no "
            "instruction: say it in other words",
            stacklevel=4,
        )


def warn_of_dead_microphone(sound: Tensor | None) -> None:
    """Of sound (B, T, 800) that is exactly zero; None is a microphone that is known to be missing."""
    if sound is not None and not is_live(sound).all():
        warnings.warn(
            "expected sound, got exact zeros alone, which no working microphone gives; it acts as if there was no microphone: "
            "check that it is connected and not muted",
            stacklevel=4,
        )
