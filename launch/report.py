"""`handsight report DIR...`: one self-contained HTML page about one rollout, or comparing several.

    handsight report outputs/rollout/a outputs/rollout/b --out=comparison.html
    handsight report outputs/rollout/a --gif=5003                # the film of this seed as a GIF

The first folder is the reference: where the others share seeds with it, the paired difference is given with its bootstrap interval.
"""

import base64
import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np

from handsight.launch.arguments import parse
from handsight.launch.episodes import METRICS_FILE, RUN_FILE, read_episodes, read_json, write_text
from handsight.launch.film import SENSES_SUFFIX, Senses
from handsight.launch.gif import write_gif
from handsight.launch.metrics import Difference, EpisodeResult, Rate, paired_difference, wilson
from handsight.launch.timeline import Timeline, read_timeline
from handsight.sensors.errors import HandsightError

REPORT_FILE: Final = "report.html"
EMBED_LIMIT: Final = 12_000_000  # bytes of video that a page may carry inside itself; beyond that it refers to the files
OUTCOMES: Final = ("success", "reached, then failed", "wrong object", "never reached")
_TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ReportArguments:
    folders: tuple[str, ...] = ()
    """Folders written by `handsight rollout`; the first one is the reference."""

    out: str = ""
    """The page; by default report.html in the first folder, or comparison.html there if there are several."""

    gif: int | None = None
    """Seed of a filmed episode of the first folder that is also written beside the page, as SEED.gif."""


@dataclass(frozen=True)
class Film:
    """An episode with a video; `source` is a data URI or a path relative to the page; no timeline if only the video was kept."""

    episode: EpisodeResult
    source: str
    timeline: Timeline | None


@dataclass(frozen=True)
class Run:
    """One rollout as the page shows it."""

    label: str
    folder: str
    identity: dict[str, Any]
    metrics: dict[str, Any]
    episodes: list[EpisodeResult]
    films: list[Film] = field(default_factory=list)

    @property
    def success(self) -> Rate:
        return wilson([episode.success for episode in self.episodes])

    @property
    def rates(self) -> list[tuple[str, Rate]]:
        """Titles and rates, in the order shown."""
        reached = wilson([episode.reached for episode in self.episodes])
        wrong = wilson([episode.wrong_object for episode in self.episodes])
        return [("success", self.success), ("reached", reached), ("wrong object", wrong)]

    @property
    def by_outcome(self) -> list[tuple[str, list[EpisodeResult]]]:
        """Episodes of every outcome that occurred."""
        groups: dict[str, list[EpisodeResult]] = defaultdict(list)
        for episode in self.episodes:
            groups[episode.outcome].append(episode)
        return [(outcome, groups[outcome]) for outcome in OUTCOMES if groups[outcome]]

    @property
    def command(self) -> str:
        """What reproduces the run."""
        return command(self.metrics.get("args"))


@dataclass(frozen=True)
class Comparison:
    """Success of a run minus that of the reference, over the seeds they share."""

    label: str
    reference: str
    difference: Difference


def main(argv: list[str]) -> int:
    """Runs the verb."""
    arguments = parse(ReportArguments, argv, "handsight report", __doc__ or "", positional="folders")
    if not arguments.folders:
        raise HandsightError("expected at least one folder, got none; write `handsight report DIR...` with what `handsight rollout` wrote")
    folders = [Path(folder) for folder in arguments.folders]
    out = Path(arguments.out) if arguments.out else folders[0] / (REPORT_FILE if len(folders) == 1 else "comparison.html")
    write_report(folders, out)
    print(f"report: {out}")
    if arguments.gif is not None:
        print(f"film: {_write_gif(folders[0], arguments.gif, out.parent)}")
    return 0


def _write_gif(folder: Path, seed: int, destination: Path) -> Path:
    filmed = {episode.seed: (episode, video) for episode, video in _videos(folder, _load(folder), None)}
    if seed not in filmed:
        known = ", ".join(map(str, sorted(filmed))) or "none"
        raise HandsightError(f"expected --gif to be a seed that was filmed in {folder} ({known}), got {seed}; film more with --videos")
    episode, video = filmed[seed]
    out = destination / f"{seed}.gif"
    write_gif(video, Senses.load(video.with_suffix(SENSES_SUFFIX)), episode.said, out)
    return out


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Writes the page in one step.

    Raises HandsightError when a folder holds no finished episode.
    """
    runs = load_runs(folders, out.parent)
    write_page(out, "report.html", runs=runs, comparisons=compare(runs), outcomes=OUTCOMES)


def write_page(out: Path, template: str, **content: Any) -> None:
    """Fills one of templates/ and writes it in one step."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    page = environment.get_template(template).render(**content)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)


def load_runs(folders: Sequence[Path], page_folder: Path, films: int | None = None) -> list[Run]:
    """Reads what the rollouts wrote; an unfinished rollout counts with the episodes it has.

    films: how many of each rollout are shown, by seed; by default all, failures first.
    """
    runs = [_load(folder) for folder in folders]
    shown = [_videos(folder, run, films) for folder, run in zip(folders, runs, strict=True)]
    size = sum(path.stat().st_size for videos in shown for _, path in videos)
    labels = _labels(runs)
    return [
        Run(
            label=label,
            folder=str(folder),
            identity=run.identity,
            metrics=run.metrics,
            episodes=run.episodes,
            films=[_film(episode, path, page_folder, embed=size <= EMBED_LIMIT) for episode, path in videos],
        )
        for folder, run, label, videos in zip(folders, runs, labels, shown, strict=True)
    ]


def _load(folder: Path) -> Run:
    identity = read_json(folder / RUN_FILE)
    metrics = read_json(folder / METRICS_FILE) if (folder / METRICS_FILE).exists() else {}
    episodes = read_episodes(folder)
    if wanted := set(metrics.get("seeds", ())):
        episodes = [episode for episode in episodes if episode.seed in wanted]
    if not episodes:
        raise HandsightError(f"expected finished episodes in {folder}, got none; run `handsight rollout --out={folder}` first")
    return Run("", str(folder), identity, metrics, episodes)


def _labels(runs: list[Run]) -> list[str]:
    """The policy and what was taken from it; with the folder where that alone is ambiguous."""
    plain = [_label(run.identity) for run in runs]
    tasks = [str(run.identity["env"]["task"]) for run in runs]
    named = [f"{label} on {task}" for label, task in zip(plain, tasks, strict=True)] if len(set(tasks)) > 1 else plain
    return [f"{label} ({run.folder})" if named.count(label) > 1 else label for label, run in zip(named, runs, strict=True)]


def _label(identity: dict[str, Any]) -> str:
    parts = [str(identity["policy"])]
    for word, key in (("without", "zeroed"), ("with another episode's", "swapped"), ("told to miss", "masked")):
        if names := identity.get(key):
            parts += [word, ", ".join(names).lower()]
    return " ".join(parts)


def compare(runs: Sequence[Run]) -> list[Comparison]:
    """Every run against the first, over shared seeds; runs that share none, or are of another task, are left out."""
    reference, *others = runs
    outcomes = {episode.seed: float(episode.success) for episode in reference.episodes}
    found = []
    for run in others:
        shared = [episode for episode in run.episodes if episode.seed in outcomes]
        if shared and run.identity["env"]["task"] == reference.identity["env"]["task"]:
            ours = [float(episode.success) for episode in shared]
            theirs = [outcomes[episode.seed] for episode in shared]
            found.append(Comparison(run.label, reference.label, paired_difference(ours, theirs, np.random.default_rng(0))))
    return found


def _videos(folder: Path, run: Run, count: int | None) -> list[tuple[EpisodeResult, Path]]:
    films = [(episode, folder / episode.video) for episode in run.episodes if episode.video and (folder / episode.video).is_file()]
    if count is not None:
        return films[:count]  # the first seeds, whatever became of them: a choice would flatter
    return sorted(films, key=lambda film: (film[0].success, film[0].seed))  # failures say more


def _film(episode: EpisodeResult, path: Path, page_folder: Path, *, embed: bool) -> Film:
    senses = path.with_suffix(SENSES_SUFFIX)
    timeline = read_timeline(path, Senses.load(senses)) if senses.is_file() else None
    return Film(episode, _source(path, page_folder, embed=embed), timeline)


def _source(path: Path, page_folder: Path, *, embed: bool) -> str:
    if embed:
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    return link(path, page_folder)


def link(path: Path, page_folder: Path) -> str:
    """How a page in `page_folder` refers to a file."""
    return Path(os.path.relpath(path, page_folder)).as_posix()


def command(arguments: dict[str, Any] | None) -> str:
    """The command line with what was not left out; empty when the rollout has not finished."""
    if arguments is None:
        return ""
    from handsight.launch.arguments import options_of
    from handsight.launch.rollout import RolloutArguments

    defaults = {option.key: option.default for option in options_of(RolloutArguments)}
    given = _flatten(arguments)
    words = [f"--{key}={value}" for key, value in given.items() if value != defaults.get(key) and key not in ("out", "overwrite")]
    return shlex.join(["handsight", "rollout", *words])


def _flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
