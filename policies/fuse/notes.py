"""A note: what a policy last said of what it met, before the instruction that it reads.

"The object of the color of the button that plays the low tone": which color that is no instruction says, and no picture once the hand has
left the button. A policy that asks itself VA:color reads "it looks red take the object ..." from then on, and knows from all that it was
taught about red things what to do. In training the note is the true answer, from the grounding label; in `handsight rollout` it is the
policy's own.

Axes: B batch, L words of the instruction, V values of the attribute, P phrasings of an answer.
"""

from typing import Final

import torch
from torch import Tensor

from handsight.policies.fuse.answers import answers
from handsight.policies.fuse.phrases import Tokenizer
from handsight.policies.text import PAD
from handsight.sensors.grounding import VALUES, Modality
from handsight.sensors.questions import Question
from handsight.sensors.referent import HEARD, TOUCHED, VISIBLE

MET_BY: Final = {Modality.VISION: (VISIBLE, 1), Modality.TOUCH: (TOUCHED, 0), Modality.AUDIO: (HEARD, 0)}
"""Column of a label, and its least value where the sense has met the thing."""
FORGOTTEN: Final = 0.1
"""Share of rows that are trained without their note: before the first answer there is none."""


class Notes:
    """The answers to a question as words of the text encoder (`text_encoder=hashed`, for which order means nothing)."""

    def __init__(self, question: Question, tokenizer: Tokenizer) -> None:
        self._column = list(VALUES).index(question.about)
        self._met = MET_BY[question.answered_by]
        phrasings = [answers(question, value) for value in VALUES[question.about]]
        self._counts = torch.tensor([len(texts) for texts in phrasings])
        longest = int(self._counts.max())
        self._ids = torch.stack([tokenizer([texts[i % len(texts)] for i in range(longest)])[0] for texts in phrasings])  # (V, P, L)

    def add(self, ids: Tensor, labels: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Instructions ids (B, L) with the true answers about labels (B, 10) before them, and which words there are (B, L) bool.

        A row stays as it is where the sense has not met the thing, or the thing has no such attribute; words beyond L are cut.
        """
        values = labels[:, self._column].long()
        u = torch.rand(2, len(ids), generator=generator, device=ids.device)
        met = labels[:, self._met[0]] >= self._met[1]
        known = met & (values >= 0) & (u[0] >= FORGOTTEN)
        values = values.clamp(min=0)
        phrasing = (u[1] * self._counts.to(ids.device)[values]).long()
        note = torch.where(known.unsqueeze(1), self._ids.to(ids.device)[values, phrasing], PAD)
        words = torch.cat([note, ids], dim=1)
        order = (words == PAD).to(torch.uint8).argsort(dim=1, stable=True)[:, : ids.shape[1]]
        noted = words.gather(1, order)
        return noted, noted != PAD
