"""The public FuSe data (Hugging Face `oier-mees/FuSe`, RLDS) -> LeRobotDataset v3.

    source = open_source(folder, "train")
    converted = convert(root, ConversionSpec.of(source), source)

Every finished episode is in `root/.journal` or published; the same call continues after a kill. What becomes of each field: fuse_layout.py.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tqdm import tqdm

from handsight.datasets_rb import journal
from handsight.datasets_rb.fuse_episode import CLIPPED, pack
from handsight.datasets_rb.fuse_spec import ConversionSpec
from handsight.datasets_rb.record import ResumableDataset
from handsight.datasets_rb.rlds import Source

BATCH: Final = 200
"""Episodes that are published together; the journal takes the space of so many."""
LANGUAGE_FILES: Final = ("language.json", "rephrasings.json")
"""In `meta`: the language table, if there is one."""


@dataclass(frozen=True)
class Converted:
    """What one call of `convert` did."""

    episodes: int
    """In the dataset now."""
    frames: int
    """Converted by this call."""
    too_short: int
    """Episodes of one step, which have no action and are left out, over the whole conversion."""
    clipped: int
    """Audio samples of this call that were louder than full scale."""


def convert(root: str | Path, spec: ConversionSpec, source: Source, limit: int = 0) -> Converted:
    """Converts the first `limit` episodes (0: all) of `source` that are not in `root` yet, and makes the dataset whole.

    Raises HandsightError (damaged source, other arguments than before, full disk) and KeyboardInterrupt with a message; in every case
    finished episodes are kept, and the same call continues.
    """
    with ResumableDataset(root, spec) as dataset:
        try:
            frames, clipped = _add_missing(dataset, spec, source, limit)
        except KeyboardInterrupt:
            kept = sum(dataset.outcomes().values())
            raise KeyboardInterrupt(f"interrupted with {kept} episodes kept in {root}; run the same command to continue") from None
        outcomes = dataset.outcomes()
        if dataset.pending():
            print(f"writing {dataset.pending()} episodes as LeRobotDataset v3 ...", flush=True)
    if spec.language is not None:
        spec.language.write(*(Path(root, "meta", name) for name in LANGUAGE_FILES))
    return Converted(sum(outcomes.values()), frames, len(outcomes) - sum(outcomes.values()), clipped)


def _add_missing(dataset: ResumableDataset, spec: ConversionSpec, source: Source, limit: int) -> tuple[int, int]:
    """Journals what is missing and publishes BATCH by BATCH; (frames, clipped samples)."""
    done = dataset.finished_seeds()
    total = min(source.episodes or limit, limit) if limit else source.episodes
    missing = max(limit - len(done), 0) if limit else None
    frames = clipped = 0
    with tqdm(total=total, initial=len(done), unit="episode", desc=spec.source) as bar:
        for number, episode in islice(source.read(done, spec.layout.wanted), missing):
            packed = pack(spec, number, episode)
            if packed is None:
                journal.write_failure(dataset.journal, number)
            else:
                journal.write(dataset.journal, packed)
                frames += packed.length
                clipped += int(packed.attributes.get(CLIPPED, 0))
            bar.update()
            if bar.n % BATCH == 0:
                dataset.publish()
    return frames, clipped
