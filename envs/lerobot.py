"""`--env.type=handsight --env.task=family/task` for LeRobot's own commands."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from handsight.envs.env import task_names
from handsight.envs.gym_names import NAMES, PIXELS, make_named
from handsight.envs.splits import Split
from handsight.envs.workers import main_module_hidden
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import Realism
from handsight.sensors.types import ACTION, ACTION_NAMES, AUDIO, AUDIO_STEP, CONTROL_HZ, STATE, STATE_NAMES, TOUCH, TOUCH_SHAPE, Sensor

SHAPES = {STATE: (len(STATE_NAMES),), TOUCH: TOUCH_SHAPE, AUDIO: (AUDIO_STEP,)}


@EnvConfig.register_subclass("handsight")
@dataclass
class HandsightEnvConfig(EnvConfig):
    """One task of the simulation suite."""

    task: str | None = "sense/tabletop_grasp"
    """family/task."""
    fps: int = CONTROL_HZ
    image_size: int = 128
    """Height and width of the cameras [px]."""
    sensors: str = "front,wrist,state,touch,audio"
    """Which sensors are read, separated by commas."""
    phrasings: str = "train"
    """Split of the instructions' phrasings: train or heldout."""
    prompt: str = ""
    """Senses that the instructions speak to, such as V where a task needs VT; its own if empty."""
    split: str = "any"
    """Which scenes are drawn: any, train, new_combination or new_object."""
    realism: str = "ideal"
    """Noise, gains, rates and delays: ideal or robot, and knobs by name, as in robot,touch.noise_kpa=1.0 (see sensors/realism.py)."""
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:  # LeRobot's base class wants `features` filled here
        if self.task not in task_names():
            raise HandsightError(f"expected --env.task to be one of {', '.join(task_names())}, got '{self.task}'")
        Split.parse(self.split), Realism.parse(self.realism)  # refused here and not in a worker
        image = (self.image_size, self.image_size, 3)
        for key in self.sensor_flag.keys:
            name = NAMES.get(key, key)
            kind = FeatureType.VISUAL if key in PIXELS else FeatureType.STATE
            self.features[name] = PolicyFeature(kind, image if key in PIXELS else SHAPES[key])
            self.features_map[name] = key
        self.features[ACTION] = PolicyFeature(FeatureType.ACTION, (len(ACTION_NAMES),))
        self.features_map[ACTION] = ACTION

    @property
    def sensor_flag(self) -> Sensor:
        """`sensors` as a flag."""
        flag = Sensor(0)
        for name in self.sensors.split(","):
            if name.strip().upper() not in Sensor.__members__:
                known = ", ".join(member.lower() for member in Sensor.__members__)
                raise HandsightError(f"expected --env.sensors to name some of {known}, got '{name}'")
            flag |= Sensor[name.strip().upper()]
        return flag

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Arguments of `make_named`."""
        plain = {name: getattr(self, name) for name in ("task", "image_size", "phrasings", "prompt", "split", "realism")}
        return plain | {"sensors": self.sensor_flag}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, VectorEnv[Any, Any, Any]]]:
        """{"handsight": {0: vector environment}}; asynchronous workers import neither torch nor LeRobot."""
        makers: list[Any] = [partial(make_named, **self.gym_kwargs) for _ in range(n_envs)]
        if not use_async_envs or n_envs == 1:
            return {self.type: {0: SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)}}
        with main_module_hidden():
            workers = AsyncVectorEnv(makers, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP)
        return {self.type: {0: workers}}
