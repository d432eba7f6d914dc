"""One page about many tasks: for each its instruction, success, and one episode to watch, with everything that was sensed.

`handsight rollout --env.task=all` (or a family, or names separated by commas) writes it; each task keeps its own result folder and report.
"""

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from handsight.envs.env import task_names
from handsight.envs.pool import DEFAULT_MAKER
from handsight.launch.pictures import FULL_PRESSURE, heat_css
from handsight.launch.report import OUTCOMES, REPORT_FILE, Run, command, link, load_runs, write_page
from handsight.launch.timeline import LOUDEST_DB
from handsight.sensors.errors import HandsightError

GALLERY_FILE: Final = "gallery.html"
ALL: Final = "all"


@dataclass(frozen=True)
class Card:
    """One task on the page."""

    task: str
    run: Run
    report: str
    """Where its own report is, relative to the page."""

    @property
    def family(self) -> str:
        return self.task.partition("/")[0]

    @property
    def title(self) -> str:
        """bag_color_feel -> Bag color feel"""
        return self.task.rpartition("/")[2].replace("_", " ").capitalize()

    @property
    def anchor(self) -> str:
        return self.task.replace("/", ".")


def chosen_tasks(words: str, maker: str = DEFAULT_MAKER) -> list[str]:
    """The tasks that --env.task means if it means several: "all", a family, or names of either separated by commas; else none.

    Raises HandsightError for a name that is neither a task nor a family, unless the environments are the user's own.
    """
    parts = [word.strip() for word in words.split(",") if word.strip()]
    if len(parts) == 1 and "/" in parts[0]:
        return []  # one task: the environment itself knows whether it exists
    known = task_names()
    groups = _groups(known)
    unknown = [part for part in parts if part not in groups and part not in known]
    if unknown and maker == DEFAULT_MAKER:
        close = difflib.get_close_matches(unknown[0], [*groups, *known], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise HandsightError(f"expected --env.task to be {', '.join(groups)} or among {', '.join(known)}; got '{unknown[0]}'{hint}")
    if unknown == parts and len(parts) == 1:
        return []
    return list(dict.fromkeys(itertools.chain.from_iterable(groups.get(part, [part]) for part in parts)))


def _groups(known: list[str]) -> dict[str, list[str]]:
    """What stands for several tasks."""
    families = sorted({task.partition("/")[0] for task in known})
    return {ALL: known} | {family: [task for task in known if task.startswith(family + "/")] for family in families}


def write_gallery(folders: Sequence[Path], out: Path) -> None:
    """Writes the page about the result folders of one policy on many tasks, in their order.

    Raises HandsightError when a folder holds no finished episode.
    """
    runs = load_runs(folders, out.parent, films=1)
    cards = [_card(run, folder, out.parent) for run, folder in zip(runs, folders, strict=True)]
    families = {family: list(group) for family, group in itertools.groupby(cards, key=lambda card: card.family)}
    first = runs[0]
    write_page(
        out,
        GALLERY_FILE,
        families=families,
        outcomes=OUTCOMES,
        policy=first.identity["policy"],
        zeroed=[name.lower() for name in first.identity["zeroed"]],
        command=_command(first.metrics.get("args"), [card.task for card in cards]),
        scale=heat_css(),
        full_pressure=FULL_PRESSURE,
        loudest=LOUDEST_DB,
        episodes=sum(len(run.episodes) for run in runs),
    )


def _card(run: Run, folder: Path, page_folder: Path) -> Card:
    return Card(str(run.identity["env"]["task"]), run, link(folder / REPORT_FILE, page_folder))


def _command(arguments: dict[str, Any] | None, tasks: list[str]) -> str:
    """What reproduces the page."""
    if arguments is None:
        return ""
    groups = _groups(task_names())
    named = next((name for name, members in groups.items() if members == tasks), ",".join(tasks))
    return command(arguments | {"env": arguments["env"] | {"task": named}})
