"""What the robot senses in simulation: two cameras, proprioception, taxel touch and contact sound, with the keys of sensors/types.py."""

import atexit
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from handsight.envs.sound import ContactSound
from handsight.envs.tasks.base import Setup
from handsight.envs.touch import SurfaceProperties, TaxelSensor
from handsight.envs.world import World
from handsight.sensors.corrupt import channels
from handsight.sensors.realism import IDEAL, Realism
from handsight.sensors.types import AUDIO, FRONT, STATE, TOUCH, WRIST, Observation, Sensor

CAMERA_OF_KEY = {FRONT: "front", WRIST: "wrist"}


@dataclass(frozen=True)
class View:
    """How a picture is rendered. The defaults cost 1 ms at 128 px on llvmpipe; MuJoCo's cost 73 ms."""

    height: int
    width: int
    shadows: bool = False
    samples: int = 0
    """Multisample anti-aliasing."""


def _free(renderer: mujoco.Renderer) -> None:
    """MuJoCo frees buffers by their numbers in whichever context is current, perhaps another camera's; drawing makes this one current."""
    renderer.render()
    renderer.close()


class Camera:
    """One OpenGL context; reused for every frame, closed with the environment."""

    def __init__(self, world: World, view: View) -> None:
        visual = world.model.vis
        visual.global_.offheight, visual.global_.offwidth = view.height, view.width
        visual.quality.offsamples = view.samples
        self._world = world
        self._renderer = mujoco.Renderer(world.model, view.height, view.width)
        self._close = weakref.finalize(self, _free, self._renderer)
        atexit.register(self._close)  # handlers run last in, first out: registered now, it precedes MuJoCo's own end of EGL
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = view.shadows
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def picture(self, camera: str) -> NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        self._renderer.update_scene(self._world.data, camera)
        return np.asarray(self._renderer.render())

    def segmentation(self, camera: str) -> NDArray[np.int32]:
        """Geom id of every pixel, -1 for none; (H, W)."""
        self._renderer.enable_segmentation_rendering()
        self._renderer.update_scene(self._world.data, camera)
        ids = self._renderer.render()
        self._renderer.disable_segmentation_rendering()
        return np.where(ids[..., 1] == mujoco.mjtObj.mjOBJ_GEOM, ids[..., 0], -1)

    def close(self) -> None:
        """Frees the OpenGL context."""
        self._close()
        atexit.unregister(self._close)


class Observer:
    """Reads every chosen sensor after a control step.

    Args:
        world: simulated world.
        sensors: which to read; a camera that is not asked for is never rendered.
        image_size: height and width of a camera picture [px].
        realism: rates, delays, noise and gains of the sensors.
    """

    def __init__(self, world: World, sensors: Sensor, image_size: int, realism: Realism = IDEAL) -> None:
        self._world = world
        self._sensors = sensors
        self._taxels = TaxelSensor(world.model)
        self._surfaces = SurfaceProperties.smooth(world.model.ngeom)
        self._sound = ContactSound(microphone=realism.audio)
        self._channels = channels(realism)
        self.touched: frozenset[int] = frozenset()
        self.heard: frozenset[str] = frozenset()
        self.looking = True
        """Whether the cameras are read. Those that draw noise, hold or delay pictures are read in any case: later ones depend on it."""
        self._may_blink = (realism.front, realism.wrist) == (IDEAL.front, IDEAL.wrist)
        self._cameras = Camera(world, View(image_size, image_size)) if sensors & Sensor.CAMERAS else None

    def reset(self, setup: Setup, rng: np.random.Generator, resting: NDArray[np.float64], noise: np.random.Generator) -> None:
        """Takes over what this episode's objects feel and sound like.

        rng: of the objects' sounds and the microphone; resting: (free bodies,) [N] contact forces now; noise: of the other sensors.
        """
        for channel, stream in zip(self._channels.values(), noise.spawn(len(self._channels)), strict=True):
            channel.reset(stream)
        for surface in setup.surfaces:
            self._surfaces.modulus[surface.geom] = surface.modulus
            self._surfaces.roughness[surface.geom] = surface.roughness
        bodies = self._world.free_bodies
        self._sounding = [index for index, body in enumerate(bodies) if body in setup.sounds]
        self._sources = [bodies[index] for index in self._sounding]
        self._sources += [name for name in setup.sounds if name not in bodies]
        silent = np.zeros(len(self._sources) - len(self._sounding))
        sources = tuple(setup.sounds[name] for name in self._sources)
        self._sound.reset(rng, sources, np.concatenate([resting[self._sounding], silent]))
        self.touched, self.heard = frozenset(), frozenset()

    def read(self, forces: NDArray[np.float64], struck: Mapping[str, float]) -> Observation:
        """One observation of the control step that led here.

        forces: (substeps, free bodies) [N]; struck: blows [N] on sources that are no free bodies. Afterwards `touched` has the geoms that
        the pads press on and `heard` the names of what sounded.
        """
        touch = self._taxels.read(self._world.data, self._surfaces, pressure=Sensor.TOUCH in self._sensors)
        self.touched = touch.touched
        measure: dict[str, Callable[[], NDArray[Any]]] = {
            FRONT: partial(self._picture, FRONT),
            WRIST: partial(self._picture, WRIST),
            STATE: lambda: self._proprioception(touch.force),
            TOUCH: lambda: touch.image,
            AUDIO: lambda: self._sound.step(self._blows(forces, struck)),
        }
        read = self._sensors if self.looking or not self._may_blink else self._sensors & ~Sensor.CAMERAS
        observation = {key: self._channels[key].read(measure[key]) for key in read.keys}
        if Sensor.AUDIO in self._sensors:
            self.heard = frozenset(self._sources[index] for index in self._sound.heard)
        return observation

    def _picture(self, key: str) -> NDArray[np.uint8]:
        assert self._cameras is not None
        return self._cameras.picture(CAMERA_OF_KEY[key])

    def _blows(self, forces: NDArray[np.float64], struck: Mapping[str, float]) -> NDArray[np.float64]:
        """(substeps, sources) [N]: contact forces of free bodies, then blows that last one tick."""
        virtual = np.zeros((len(forces), len(self._sources) - len(self._sounding)))
        for name, newtons in struck.items():
            virtual[0, self._sources.index(name) - len(self._sounding)] = newtons
        return np.concatenate([forces[:, self._sounding], virtual], axis=1)

    def _proprioception(self, pad_force: NDArray[np.float32]) -> NDArray[np.float32]:
        world = self._world
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(world.model, world.data, mujoco.mjtObj.mjOBJ_SITE, world.tcp, velocity, 0)
        rotation = world.tcp_rotation
        parts: list[Any] = [world.tcp_position, rotation[:, 0], rotation[:, 1], [world.finger_opening], velocity[3:], pad_force]
        return np.concatenate(parts).astype(np.float32)

    def close(self) -> None:
        """Frees the OpenGL context."""
        if self._cameras is not None:
            self._cameras.close()
