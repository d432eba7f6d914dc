"""How several recordings are asked for as one: `DIR_A,DIR_B`, each with a share of what is drawn, `DIR_A:2,DIR_B:1`."""

from dataclasses import dataclass
from pathlib import Path

from handsight.sensors.errors import HandsightError


@dataclass(frozen=True)
class Ingredient:
    """One recording of a mixture."""

    root: Path
    """Folder of the dataset."""
    weight: float = 1.0
    """How often its frames are drawn, relative to the other recordings' and whatever their lengths."""


def parse_mixture(text: str) -> tuple[Ingredient, ...]:
    """Folders with optional weights, separated by commas; a folder whose name has a comma or a colon can only be given alone.

    Raises:
        HandsightError: a blank folder, a weight that is not positive, or the same folder twice.
    """
    if text and Path(text).is_dir():
        return (Ingredient(Path(text)),)
    mixture = tuple(_ingredient(part.strip()) for part in text.split(","))
    roots = [ingredient.root.resolve() for ingredient in mixture]
    twice = [str(root) for place, root in enumerate(roots) if root in roots[:place]]
    if twice:
        raise HandsightError(f"expected different folders in --dataset.root, got {twice[0]} twice; give it a weight, {twice[0]}:2")
    return mixture


def _ingredient(text: str) -> Ingredient:
    folder, colon, number = text.rpartition(":")
    if not colon:
        folder, number = text, "1"
    try:
        weight = float(number)
    except ValueError:
        folder, weight = text, 1.0  # a colon in the folder's name
    if not folder or not 0 < weight < float("inf"):
        raise HandsightError(f"expected --dataset.root=DIR or DIR_A:WEIGHT,DIR_B:WEIGHT with weights above 0, got {text!r}")
    return Ingredient(Path(folder), weight)
