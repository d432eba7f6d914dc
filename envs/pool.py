"""Many environments at once, in worker processes that simulate while the parent runs the policy.

`slots` environments are dealt out to `workers` processes (slot s lives in worker s % workers; 0 workers means in this process).
Commands return at once; `receive` hands over whatever has finished. What happens in a slot depends on its own commands only, so
results are the same for any number of workers. The children import neither torch nor LeRobot.
"""

import importlib
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from handsight.envs.substitute import Substitution
from handsight.envs.workers import quiet_context
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import Observation

DEFAULT_MAKER: Final = "handsight.envs.env:make"
_JOIN_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Attributes:
    """What a rollout must know of an environment before it starts: shapes, bounds of the action, horizon [steps], rate [Hz]."""

    observation_shapes: dict[str, tuple[int, ...]]
    action_low: NDArray[np.float32]  # (A,)
    action_high: NDArray[np.float32]  # (A,)
    max_steps: int
    fps: int


@dataclass(frozen=True)
class Transition:
    """What one reset or one step of one slot produced."""

    slot: int
    observation: Observation
    task: str
    reward: float
    terminated: bool
    truncated: bool
    success: bool
    reached: bool
    wrong_object: bool
    frame: NDArray[np.uint8] | None  # (H, W, 3), only in episodes reset with frames=True
    expert_action: NDArray[np.float32] | None  # (A,), only in episodes reset with expert=True
    phase: str = ""  # what the scripted expert is doing, only in episodes reset with expert=True
    stage: str = ""  # of the task, where it has several
    grounding: NDArray[np.int16] | None = None  # (10,) what was last touched or heard (sensors/referent.py), of environments that say


@dataclass(frozen=True)
class _Plan:
    """What every worker builds."""

    maker: str
    task: str
    zeroed: tuple[str, ...]
    swapped: tuple[str, ...]
    env_kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Reset:
    slot: int
    seed: int
    frames: bool
    expert: bool


@dataclass(frozen=True)
class _Step:
    slot: int
    action: NDArray[np.float32]
    command: str
    look: bool


@dataclass(frozen=True)
class _Failure:
    error: BaseException | None  # a HandsightError, passed on as it is
    summary: str
    trace: str


class _WorkerTraceback(Exception):
    """Carries the text of a worker's traceback to the parent's."""


class _Seat:
    """One environment and what its current episode was asked to deliver."""

    def __init__(self, slot: int, env: Any, substitution: Substitution) -> None:
        self.slot = slot
        self.env = env
        self.substitution = substitution
        self.frames = False
        self.expert: Any = None
        self._look: Callable[[bool], None] | None = getattr(env.unwrapped, "look", None)  # environments of others always look

    def reset(self, command: _Reset) -> Transition:
        self.frames = command.frames
        self.substitution.begin(self.env, command.seed)
        observation, info = self.env.reset(seed=command.seed)
        self.expert = self.env.unwrapped.make_expert() if command.expert else None
        return self._transition(observation, 0.0, False, False, info)

    def step(self, command: _Step) -> Transition:
        if words := command.command or getattr(self.expert, "words", ""):
            self.env.unwrapped.instruct(words)
        if self._look is not None:
            self._look(command.look)
        observation, reward, terminated, truncated, info = self.env.step(command.action)
        return self._transition(observation, float(reward), bool(terminated), bool(truncated), info)

    def _transition(
        self, observation: Observation, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]
    ) -> Transition:
        done = terminated or truncated
        observation = self.substitution.apply(observation)
        return Transition(
            slot=self.slot,
            observation=observation,
            task=str(info.get("task") or self.env.unwrapped.task_description),
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            success=bool(info["is_success"]),
            reached=bool(info.get("reached", False)),
            wrong_object=bool(info.get("wrong_object", False)),
            frame=self.env.render() if self.frames else None,
            expert_action=None if self.expert is None or done else np.asarray(self.expert.act(observation), np.float32),
            phase=getattr(self.expert, "phase", ""),  # after `act`, which may change it
            stage=str(info.get("privileged", {}).get("stage", "")),
            grounding=info.get("privileged", {}).get("grounding"),
        )


class _Room:
    """The environments of one process."""

    def __init__(self, slots: range, plan: _Plan) -> None:
        module, _, function = plan.maker.partition(":")
        make = getattr(importlib.import_module(module), function)
        self._seats = {slot: _Seat(slot, make(plan.task, **plan.env_kwargs), Substitution(plan.zeroed, plan.swapped)) for slot in slots}
        known = self._seats[slots[0]].env.observation_space.keys()
        for what, keys in (("zero", plan.zeroed), ("swap", plan.swapped)):
            if unknown := set(keys) - set(known):
                raise HandsightError(
                    f"expected sensors to {what} among {', '.join(known)}, got {', '.join(unknown)}; change --sensors.{what}"
                )

    def attributes(self) -> Attributes:
        env = next(iter(self._seats.values())).env
        return Attributes(
            observation_shapes={key: tuple(space.shape) for key, space in env.observation_space.items()},
            action_low=np.asarray(env.action_space.low, np.float32),
            action_high=np.asarray(env.action_space.high, np.float32),
            max_steps=int(env.unwrapped.max_steps),
            fps=int(env.metadata["render_fps"]),
        )

    def handle(self, command: _Reset | _Step) -> Transition:
        seat = self._seats[command.slot]
        return seat.reset(command) if isinstance(command, _Reset) else seat.step(command)

    def close(self) -> None:
        for seat in self._seats.values():
            seat.env.close()


def _serve(connection: Connection, slots: range, plan: _Plan) -> None:
    """The child's main function: answers commands until the parent says None or is gone."""

    def report(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if error is None or isinstance(error, EOFError | BrokenPipeError | ConnectionResetError):
            return True  # asked to stop, or nobody is left to tell
        text = "".join(traceback.format_exception(kind, error, trace))
        connection.send(_Failure(error if isinstance(error, HandsightError) else None, f"{type(error).__name__}: {error}", text))
        return True

    with ExitStack() as stack:
        stack.push(report)
        room = _Room(slots, plan)
        stack.callback(room.close)
        connection.send(room.attributes())
        while (command := connection.recv()) is not None:
            connection.send(room.handle(command))


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Children started inside never see Ctrl-C (the disposition is inherited): the parent alone decides when to stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class _Worker:
    """The parent's side of one child process."""

    def __init__(self, index: int, slots: range, plan: _Plan) -> None:
        context = quiet_context()
        self.index = index
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, slots, plan), name=f"handsight-env-{index}", daemon=True)
        with _interrupts_ignored():
            self.process.start()
        theirs.close()  # so that a dead child reads as the end of the stream

    def send(self, command: _Reset | _Step) -> None:
        try:
            self.connection.send(command)
        except (BrokenPipeError, ConnectionResetError) as error:
            self.receive()  # its last words explain more than a broken pipe
            raise self._died() from error

    def receive(self) -> Any:
        try:
            reply = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._died() from error
        if not isinstance(reply, _Failure):
            return reply
        cause = _WorkerTraceback("\n" + reply.trace)
        if isinstance(reply.error, HandsightError):
            raise reply.error from cause
        raise HandsightError(
            f"expected environment worker {self.index} to simulate, got {reply.summary}; run with --workers=0 to see the whole traceback"
        ) from cause

    def _died(self) -> HandsightError:
        self.process.join(_JOIN_SECONDS)
        return HandsightError(
            f"expected environment worker {self.index} to answer, but its process died (exit code {self.process.exitcode}); "
            "-9 usually means out of memory: use fewer --workers or a smaller --batch_size"
        )

    def ask_to_stop(self) -> None:
        with suppress(OSError):  # it may be gone already
            self.connection.send(None)
        self.connection.close()  # a child that is still sending then stops too

    def join(self) -> None:
        self.process.join(_JOIN_SECONDS)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join()


class EnvPool:
    """`slots` environments of one task over `workers` processes; a context manager.

    Args:
        task: the task, such as "sense/tabletop_grasp".
        slots: how many environments run at a time.
        workers: how many processes simulate; 0 simulates in this process, and more than `slots` counts as `slots`.
        zeroed: observation keys that are all zero for the policy and the scripted expert (a blind control).
        swapped: observation keys that both get from another episode (envs/substitute.py).
        maker: "module:function" that makes an environment from the task; must be importable in the children.
        env_kwargs: passed on to the maker.

    Raises HandsightError when an environment cannot be made, a worker dies, or an environment raises (with the worker's own message).
    """

    def __init__(
        self,
        task: str,
        slots: int,
        workers: int,
        *,
        zeroed: Sequence[str] = (),
        swapped: Sequence[str] = (),
        maker: str = DEFAULT_MAKER,
        **env_kwargs: Any,
    ) -> None:
        if slots < 1 or workers < 0:
            raise HandsightError(f"expected at least 1 slot and 0 workers, got {slots} and {workers}; change --batch_size or --workers")
        plan = _Plan(maker, task, tuple(zeroed), tuple(swapped), env_kwargs)
        self.slots = slots
        self._room: _Room | None = None
        self._workers: list[_Worker] = []
        self._done: deque[Transition] = deque()
        self._outstanding: dict[int, int] = {}
        if workers == 0:
            self._room = _Room(range(slots), plan)
            self.attributes = self._room.attributes()
            return
        count = min(workers, slots)
        with ExitStack() as stack:
            stack.callback(self.close)
            for index in range(count):
                self._workers.append(_Worker(index, range(index, slots, count), plan))
            greetings: list[Attributes] = [worker.receive() for worker in self._workers]  # all must be up
            self.attributes = greetings[0]
            stack.pop_all()

    def reset(self, slot: int, seed: int, *, frames: bool = False, expert: bool = False) -> None:
        """Start an episode; its transitions carry the rendered view and the scripted expert's action when asked."""
        self._submit(_Reset(slot, seed, frames, expert))

    def step(self, slot: int, action: NDArray[np.float32], command: str = "", *, look: bool = True) -> None:
        """Apply an action (A,) for one control step; a command replaces the instruction of the rest of the episode.

        look: whether the observation must have pictures; without, it may have none.
        """
        self._submit(_Step(slot, action, command, look))

    def receive(self) -> list[Transition]:
        """The transitions that are ready, at least one; empty only if nothing was commanded."""
        if self._room is not None:
            ready, self._done = list(self._done), deque()
            return ready
        busy = {worker.connection: worker for worker in self._workers if self._outstanding.get(worker.index, 0)}
        return [self._collect(busy[connection]) for connection in wait(list(busy))] if busy else []  # type: ignore[index]

    def close(self) -> None:
        """Stop the children and free the environments; safe to call twice."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.ask_to_stop()
        for worker in workers:
            worker.join()
        if self._room is not None:
            self._room.close()
            self._room = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, command: _Reset | _Step) -> None:
        if self._room is not None:
            self._done.append(self._room.handle(command))
            return
        worker = self._workers[command.slot % len(self._workers)]
        worker.send(command)
        self._outstanding[worker.index] = self._outstanding.get(worker.index, 0) + 1

    def _collect(self, worker: _Worker) -> Transition:
        transition: Transition = worker.receive()
        self._outstanding[worker.index] -= 1
        return transition
