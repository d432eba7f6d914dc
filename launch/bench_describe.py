"""`handsight bench describe [--quick]`: are the sentences true that a policy says of what it sees, feels and hears?

    handsight bench describe --policy.path=zoo/fuse
    handsight bench describe --policy.path=outputs/bench/fuse/both_losses_0/words     # after `handsight bench fuse`

The expert plays; the policy gets its sensors, as in a rollout, and speaks when each combination of senses can (launch/narrate.py). Vision,
touch and hearing are also asked for every attribute that they reveal, by a sentence that names it alone; F1 is of these. The control
is the same decoder with the sensors of another moment. Objects are those of training, or new ones. Writes launch/results/describe.json;
other policies' results stay there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tqdm import tqdm

from handsight.envs.env import HandsightEnv, make
from handsight.envs.randomize import Ranges
from handsight.envs.rollout import expert_episode
from handsight.envs.splits import Split
from handsight.launch.arguments import parse
from handsight.launch.checkpoints import find
from handsight.launch.description_scores import Answer, score, true_share
from handsight.launch.episodes import read_json, write_json
from handsight.launch.fuse_grid import TASKS
from handsight.launch.narrate import Moments
from handsight.launch.observation import to_batch
from handsight.launch.policies import Model, Overrides, load_policy
from handsight.launch.rollout import PolicyArguments, versions
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.fuse.sentences import attributes_of
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import COMBINATIONS, Modality
from handsight.sensors.referent import Referent

RESULT: Final = Path("launch/results/describe.json")
SPLITS: Final = {"training objects": Split.ANY, "new objects": Split.NEW_OBJECT}


@dataclass(frozen=True)
class DescribeArguments:
    """Arguments of `handsight bench describe`."""

    policy: PolicyArguments = field(default_factory=PolicyArguments)
    tasks: str = ",".join(TASKS)
    """Tasks of family sense, separated by commas."""
    episodes: int = 30
    """Episodes of each task and split."""
    seed: int = 5000
    """First evaluation seed; 1000 and on are for development."""
    quick: bool = False
    """1 episode of each, no result file."""


@dataclass(frozen=True)
class Moment:
    """When a combination of senses may speak of a thing."""

    episode: int
    combination: Modality
    truth: dict[str, str]
    """What the combination reveals of it, by attribute."""
    sensors: dict[str, torch.Tensor]
    """Key -> window (1, T, ...) or image (1, 3, H, W), as `FusePolicy.describe` takes them."""


def main(argv: list[str]) -> int:
    """Plays, asks, prints the table."""
    arguments = parse(DescribeArguments, argv, "handsight bench describe", __doc__ or "")
    if not arguments.policy.path:
        raise HandsightError("expected --policy.path, got none; train one with --policy.generation_weight, or take zoo/fuse")
    arguments = replace(arguments, episodes=1) if arguments.quick else arguments
    torch.set_num_threads(1)
    model = load_policy(arguments.policy.path, Overrides())
    played = fingerprint(find(arguments.policy.path))
    found = {name: judge(model.policy, list(_moments(model, split, arguments))) for name, split in SPLITS.items()}
    result = {
        "command": " ".join(["handsight bench describe", *argv]),
        "args": asdict(arguments),
        "fingerprint": played,
        "splits": found,
        "versions": versions(),
    }
    if not arguments.quick:
        earlier = read_json(RESULT) if RESULT.is_file() else {}
        write_json(RESULT, earlier | {arguments.policy.path: result})
    print(table({arguments.policy.path: result}))
    return 0


def _moments(model: Model, split: Split, arguments: DescribeArguments) -> Iterator[Moment]:
    tasks = [name.strip() for name in arguments.tasks.split(",")]
    with tqdm(total=len(tasks) * arguments.episodes, unit="episode", desc=split) as bar:
        for number, task in enumerate(tasks):
            env = make(f"sense/{task}", ranges=Ranges(split=split))
            for seed in range(arguments.seed, arguments.seed + arguments.episodes):
                yield from moments(model, env, seed, number * 1_000_000 + seed)
                bar.update()
            env.close()


def moments(model: Model, env: HandsightEnv, seed: int, number: int) -> Iterator[Moment]:
    """All moments of the expert's undisturbed episode of a seed."""
    policy, config = model.policy, model.policy.config
    assert isinstance(policy, FusePolicy)
    when = Moments((1 - config.touch_history[0], 1 - config.audio_history[0]), COMBINATIONS)
    episode = expert_episode(env, seed, noise=False)
    policy.reset()
    for step, label in enumerate(episode.grounding):
        batch = model.preprocessor(to_batch({key: value[step] for key, value in episode.observations.items()}, episode.instruction))
        policy.observe(batch)
        speaking = when.next(label)
        if not speaking:
            continue
        whole = policy.complete(batch)
        sensors = {key: whole[key].clone() for key in config.sensor_keys.values()}
        for combination in speaking:
            yield Moment(number, combination, Referent.of(label).attributes.known(combination), sensors)


def judge(policy: Any, moments: Sequence[Moment]) -> dict[str, Any]:
    """Scores of the answers and of the sentences, with the policy's sensors and with those of another moment of the same combination."""
    result: dict[str, Any] = {}
    for name, shuffled in (("sensors", False), ("shuffled sensors", True)):
        answers, sentences = [], {}
        for combination in COMBINATIONS:
            group = [moment for moment in moments if moment.combination == combination]
            if len(group) < 2:
                continue
            seen = _others(group) if shuffled else group
            said = policy.describe(_stacked(seen), combination)
            named = [attributes_of(sentence, combination) for sentence in said]
            sentences[combination.letters] = {"true": true_share(named, [moment.truth for moment in group]), "n": len(group)}
            if len(combination) == 1:
                answers += list(_answers(policy, group, seen))
        result[name] = score(answers, np.random.default_rng(0)) | {"sentences": sentences}
    return result


def _others(group: Sequence[Moment]) -> list[Moment]:
    """In the place of each moment one of another episode."""
    order = np.random.default_rng(1).permutation(len(group))
    numbers = np.array([moment.episode for moment in group])
    for shift in range(1, len(group)):
        chosen = order[(np.argsort(order) + shift) % len(group)]  # the next ones in a random round
        if shift == len(group) - 1 or not (numbers[chosen] == numbers).any():
            break
    return [group[place] for place in chosen]


def _answers(policy: Any, group: Sequence[Moment], seen: Sequence[Moment]) -> Iterator[Answer]:
    """What each sense says when it is asked for each attribute that it reveals of the thing."""
    for attribute in dict.fromkeys(name for moment in group for name in moment.truth):
        places = [place for place, moment in enumerate(group) if attribute in moment.truth]
        combination = group[0].combination
        said = policy.describe(_stacked([seen[place] for place in places]), combination, about=attribute)
        for place, sentence in zip(places, said, strict=True):
            kind = f"{attribute} by {combination.letters}"
            truth, answer = group[place].truth[attribute], attributes_of(sentence, combination)[attribute]
            yield Answer(group[place].episode, kind, truth, answer)


def _stacked(moments: Sequence[Moment]) -> dict[str, torch.Tensor]:
    return {key: torch.cat([moment.sensors[key] for moment in moments]) for key in moments[0].sensors}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: F1 by policy and split, with and without the right sensors, then attribute by attribute, then the sentences."""
    rows = {
        f"{policy}, {split}, {name}": found
        for policy, result in results.items()
        for split, arms in result["splits"].items()
        for name, found in arms.items()
    }
    lines = ["| | F1 | 95% interval | answers | episodes |", "|---|---|---|---|---|"]
    for label, found in rows.items():
        interval = f"[{found['low']:.2f}, {found['high']:.2f}]"
        lines.append(f"| {label} | {found['f1']:.2f} | {interval} | {found['answers']} | {found['episodes']} |")
    kinds = list(dict.fromkeys(kind for found in rows.values() for kind in found["attributes"]))
    lines += ["", "| F1 | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for label, found in rows.items():
        scores = (found["attributes"].get(kind) for kind in kinds)
        lines.append(f"| {label} | " + " | ".join("" if value is None else f"{value:.2f}" for value in scores) + " |")
    letters = [combination.letters for combination in COMBINATIONS]
    lines += ["", "| true sentences | " + " | ".join(letters) + " |", "|---" * (len(letters) + 1) + "|"]
    for label, found in rows.items():
        shares = (found["sentences"].get(letter) for letter in letters)
        lines.append(f"| {label} | " + " | ".join("" if x is None else f"{x['true']:.2f}" for x in shares) + " |")
    return "\n".join(lines)
