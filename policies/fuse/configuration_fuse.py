"""Configuration of the fuse policy; `type` is "fuse" for LeRobot."""

from dataclasses import dataclass, field

from lerobot.configs import NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim.optimizers import AdamWConfig
from lerobot.optim.schedulers import CosineAnnealingWithWarmupSchedulerConfig
from lerobot.policies.rtc.configuration_rtc import RTCConfig

from handsight.policies.diffusion import Diffusion
from handsight.policies.flow import FlowMatching, TimeSampler
from handsight.policies.fuse.language import LanguageOptions
from handsight.policies.regression import Regression
from handsight.policies.runtimes import RUNTIMES
from handsight.sensors.errors import HandsightError
from handsight.sensors.names import parse_sensors
from handsight.sensors.questions import parse_note
from handsight.sensors.touch import TAXELS
from handsight.sensors.types import ACTION, AUDIO, AUDIO_STEP, CONTROL_HZ, KEY_OF_SENSOR, LABEL_PREFIX, STATE, TOUCH, TOUCH_SHAPE

DIFFUSION_STEPS = 100
"""Training steps of the diffusion head."""
STRIDED = (-40, -30, -20, -15, -10, -5, -2, 0)
"""Two seconds at 20 Hz in eight frames, dense near now."""


@PreTrainedConfig.register_subclass("fuse")
@dataclass
class FuseConfig(PreTrainedConfig):
    """Every field can be set on the command line, for instance `--policy.sensors=front,wrist,state`.

    The defaults are the simulation scale (about 3 M parameters, trains in minutes on one CPU core); `FuseConfig.paper()` is the
    transformer of FuSe's size.
    """

    # -- sensors
    sensors: str = "all"
    """Sensors that the policy may use, comma-separated: front, wrist, state, touch, audio, cameras, all. Others are ignored."""
    masked: str = ""
    """Sensors treated as missing, same spelling; an ablation at evaluation time."""
    sensor_dropout: dict[str, float] = field(default_factory=lambda: {"touch": 0.1, "audio": 0.1})
    """Probability, per sample and sensor, of training with that sensor missing."""
    image_history: tuple[int, ...] = (0,)
    """Frame offsets (steps, <= 0, oldest first) of the cameras; only the transformer can use more than (0,)."""
    state_history: tuple[int, ...] = (0,)
    """Frame offsets of the proprioceptive state."""
    touch_history: tuple[int, ...] = STRIDED
    """Frame offsets of touch."""
    audio_history: tuple[int, ...] = tuple(range(-19, 1))
    """Frame offsets of audio; contiguous: they are joined to one waveform, one second by default."""
    hidden_state: tuple[int, ...] = (10, 11, 12)
    """Indices into observation.state that the policy may not see; by default the tcp velocity, which tells what the expert did last."""
    state_history_dropout: float = 0.2
    """Probability, per sample, of training without the past states."""

    # -- encoders
    image_pool: int = 2
    """Average-pooling factor in front of the image encoders: 128 px images are learnt at 64 px."""
    pooled_cache: bool = False
    """Whether training reads images that the cache keeps pooled already, rounded to 1/255: a quarter of its size with a factor 2."""
    image_encoder: str = "keypoints"
    """"keypoints" (two small convolutions, simulation scale), "patches" (SmallStem16, one token a 16 px patch) or "resnet" (ResNet-26 with
    FiLM, from scratch)."""
    image_light: float = 1.0
    """Strength of random brightness and tint of the cameras in training; without it scenes are recognised by their shade."""
    image_shift: dict[str, int] = field(default_factory=dict)
    """Largest random shift of each pooled image in training [pixel]; a pixel of the wrist camera is 3 mm at grasping distance."""
    token_width: int = 64
    """Width of sensor tokens."""
    text_encoder: str = "hashed"
    """"hashed" (learned, offline) or the name or folder of a transformers model, used frozen."""
    text_width: int = 64
    """Width of the instruction embedding."""
    text_buckets: int = 2048
    """Number of word buckets of the hashed encoder."""
    max_words: int = 24
    """Longest instruction: words (hashed) or tokens (transformers)."""
    word_insert: float = 0.15
    """Highest rate at which pad positions become random words in training (hashed encoder)."""
    word_replace: float = 0.02
    """Rate at which words become random words in training."""
    word_drop: float = 0.02
    """Rate at which words are dropped in training."""
    meanings: int = 0
    """How many meanings the hashed encoder remembers, to read every instruction as the closest; `handsight remember` sets it."""

    # -- trunk and flow head
    trunk: str = "mlp"
    """"mlp", "transformer", or "octo" (FuSe's own arrangement of tokens, policies/octo.py)."""
    layers: int = 4
    """Transformer layers."""
    heads: int = 4
    """Transformer attention heads; divides token_width."""
    language_readouts: int = 0
    """Extra readout tokens of the transformer for language losses (24 in FuSe)."""
    condition_width: int = 320
    """Width of the condition and of the flow head."""
    head_blocks: int = 3
    """Residual blocks of the mlp flow head; the transformer head has as many as the trunk has layers."""
    head: str = "mlp"
    """Flow head: "mlp" (the chunk is one vector, the observation one condition) or "transformer" (an action a token, over the trunk's keys
    and values; needs trunk=transformer)."""
    modulate_once: bool = False
    """Compute the mlp head's modulations of all flow steps before the first: equal to rounding. The transformer head always does."""
    action_head: str = "flow"
    """What the head's network is trained for: "flow" matching, "regression" (squared error, as in FuSe's public code) or "diffusion" (100
    training steps). Goes with either `head`."""

    # -- language losses; the dataset needs observation.label.grounding, which `handsight collect` records
    contrastive_weight: float = 0.0
    """Weight of the contrastive loss between all sensors and what each combination of senses can say; 1 in FuSe."""
    generation_weight: float = 0.0
    """Weight of the loss of describing what a combination of senses has met by its own sensors alone; 1 in FuSe."""
    language_reads: str = "tokens"
    """What language is read from beside the mlp trunk: the sensors' "tokens", or the "condition"; then the losses shape the trunk as well,
    as in FuSe, but can say only what decides actions. Transformers have readouts of their own."""
    language_share: float = 1.0
    """Share of a batch's rows that the language losses are computed on, those first of which a sense has something to say."""
    generation_combinations: int = 1
    """Combinations that are described for each sample, drawn among those that can."""
    memory_bank: int = 1024
    """Samples of earlier batches that the contrastive loss also contrasts with."""
    contrastive_width: int = 64
    """Width of the contrastive embedding; 512 in FuSe."""
    note: str = ""
    """What the policy asks itself, such as VA:color: its last answer stands before its instruction. In training the true answer does, in
    `handsight rollout` its own (policies/fuse/notes.py). Needs generation_weight."""
    upstream_compat: bool = False
    """Language losses as FuSe's public code computes them: multiplier temperature from 1, norms + 0.1, equal texts as negatives, no memory
    bank, all seven combinations whether they can speak or not, padding in the loss, 24 words at once."""

    # -- actions and flow
    chunk_size: int = 16
    """Actions predicted at once."""
    n_action_steps: int = 3
    """Actions executed before predicting again."""
    flow_steps: int = 4
    """Steps at inference: Euler steps of the flow, or denoising steps of diffusion (divides 100; 10 is a start)."""
    flow_temperature: float = 0.5
    """Scale of the noise that inference starts from; training always uses 1. At 1 a policy that replans often keeps changing its mind."""
    flow_draws: int = 2
    """Noise draws per encoded observation in training (K)."""
    time_sampler: TimeSampler = TimeSampler.LOGIT_NORMAL
    """Distribution of training times."""
    logit_std: float = 1.0
    """Spread of the logit-normal time distribution."""
    keyframe_weight: float = 2.0
    """Weight of the auxiliary loss (tcp at the next gripper change or press, read from the demonstration); 0 turns it off."""
    kind_weight: float = 0.3
    """Weight, inside the auxiliary loss, of what happens at the keyframe: close, open, press, end."""
    std_floor: float = 0.1
    """Smallest standard deviation that actions are divided by (actions lie in [-1, 1])."""
    state_std_floor: float = 0.01
    """Smallest standard deviation that states are divided by (metres, rotation entries; forces are larger)."""
    runtime: str = "torch"
    """What computes the actions of a loaded checkpoint: torch, or what `handsight export` wrote beside it, onnx or onnx-int8. For LeRobot's
    own commands, on robots and in simulation."""
    rtc_config: RTCConfig | None = None
    """Real-time chunking; set by LeRobot's rollout."""

    # -- training
    trains: str = "all"
    """"all", or "language": what the language losses add alone, by them alone; actions stay what they are. Exports train all again."""
    encounter_weight: int = 1
    """How many times as often as others frames are drawn in which touch or sound has just begun to say something; they are few, and what
    is felt and heard decides in them. For finetuning a policy that moves well; needs observation.label.grounding in the dataset."""
    ema_decay: float = 0.998
    """Decay of the weight average that inference uses; 0 keeps no average."""
    optimizer_lr: float = 1.5e-3
    """Peak learning rate."""
    optimizer_betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's betas."""
    optimizer_weight_decay: float = 1e-2
    """Weight decay of matrices; vectors have none."""
    optimizer_grad_clip_norm: float = 1.0
    """Largest gradient norm."""
    scheduler_warmup_steps: int = 100
    """Steps of linear warm-up, before a cosine over all remaining steps."""

    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        }
    )
    """LeRobot's normaliser; it only ever sees observation.state and action, our own step normalises touch and audio."""
    push_to_hub: bool = False
    """Whether LeRobot uploads the trained policy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_sensors(self.sensors)
        parse_sensors(self.masked)
        self._validate_histories()
        self._validate_choice("image_encoder", self.image_encoder, ("keypoints", "patches", "resnet"))
        self._validate_choice("trunk", self.trunk, ("mlp", "transformer", "octo"))
        self._validate_choice("head", self.head, ("mlp", "transformer"))
        self._validate_choice("runtime", self.runtime, tuple(RUNTIMES))
        self._validate_choice("action_head", self.action_head, ("flow", "regression", "diffusion"))
        self._validate_choice("language_reads", self.language_reads, ("tokens", "condition"))
        self._validate_choice("trains", self.trains, ("all", "language"))
        self._validate_language()
        if self.head == "transformer" and self.trunk != "transformer":
            raise HandsightError(f"expected trunk=transformer with head=transformer, got trunk={self.trunk}; it has no keys to attend to")
        if self.encounter_weight < 1:
            raise HandsightError(f"expected encounter_weight >= 1, got {self.encounter_weight}")
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise HandsightError(f"expected 1 <= n_action_steps <= chunk_size = {self.chunk_size}, got {self.n_action_steps}")
        if self.trunk == "mlp" and self.image_encoder == "patches":
            raise HandsightError("expected trunk=transformer with image_encoder=patches, got trunk=mlp; it would flatten every patch")

    @staticmethod
    def _validate_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
        if value not in choices:
            raise HandsightError(f"expected {name} out of {', '.join(choices)}, got {value!r}")

    def _validate_language(self) -> None:
        if self.action_head == "diffusion" and DIFFUSION_STEPS % self.flow_steps:
            raise HandsightError(f"expected flow_steps that divide {DIFFUSION_STEPS} with action_head=diffusion, got {self.flow_steps}")
        if not self.language.any and self.trains == "language":
            raise HandsightError("expected generation_weight or contrastive_weight above 0 with trains=language, got neither; set one")
        if parse_note(self.note) and (self.generation_weight <= 0 or self.text_encoder != "hashed"):
            raise HandsightError(f"expected generation_weight > 0 and text_encoder=hashed with note={self.note}: it says its notes itself")
        if not self.language.any:
            return
        if not 0 < self.language_share <= 1:
            raise HandsightError(f"expected language_share above 0 and at most 1, got {self.language_share}")
        if self.trunk != "mlp" and self.language_readouts < 1:
            raise HandsightError(f"expected language_readouts >= 1 with language losses on trunk={self.trunk}, got 0; FuSe has 24")
        if not 1 <= self.generation_combinations <= 7:
            raise HandsightError(f"expected generation_combinations from 1 to 7, got {self.generation_combinations}")

    def _validate_histories(self) -> None:
        for name in ("image_history", "state_history", "touch_history", "audio_history"):
            offsets = getattr(self, name)
            if not offsets or offsets[-1] != 0 or list(offsets) != sorted(set(offsets)):
                raise HandsightError(f"expected {name} as increasing offsets that end in 0, got {list(offsets)}")
        if list(self.audio_history) != list(range(self.audio_history[0], 1)):
            raise HandsightError(f"expected contiguous audio_history, got {list(self.audio_history)}; the frames form one waveform")
        if self.trunk == "octo" and 1 - self.audio_history[0] < CONTROL_HZ - self.image_history[0]:
            wanted = self.image_history[0] + 1 - CONTROL_HZ
            raise HandsightError(f"expected audio_history from {wanted} or earlier with trunk=octo, got {self.audio_history[0]}")
        if self.image_history != (0,) and self.image_encoder != "patches":
            raise HandsightError(f"expected image_history [0] with image_encoder={self.image_encoder}, got {list(self.image_history)}")

    @classmethod
    def paper(cls, **overrides: object) -> "FuseConfig":
        """FuSe's Octo-small: 384 wide, 12 layers, 6 heads, 387 tokens a step in a window of two, 1 + 24 readouts, both language losses.

        Trained from scratch: no pretrained weights are loaded.
        """
        settings: dict[str, object] = {
            "sensors": "cameras,touch,audio",
            "image_history": (-1, 0),
            "touch_history": (-1, 0),
            "audio_history": tuple(range(-20, 1)),
            "image_pool": 1,
            "image_encoder": "patches",
            "image_shift": {"front": 4, "wrist": 4},
            "token_width": 384,
            "text_width": 384,
            "text_buckets": 8192,
            "trunk": "octo",
            "layers": 12,
            "heads": 6,
            "language_readouts": 24,
            "condition_width": 384,
            "action_head": "regression",
            "chunk_size": 4,
            "n_action_steps": 1,
            "keyframe_weight": 0.0,
            "contrastive_weight": 1.0,
            "generation_weight": 1.0,
            "contrastive_width": 512,
            "optimizer_lr": 3e-4,
            "scheduler_warmup_steps": 2000,
            "flow_steps": 10,
        }
        return cls(**(settings | overrides))  # type: ignore[arg-type] # a table of settings; the dataclass checks the names

    # -- features

    @property
    def sensor_keys(self) -> dict[str, str]:
        """Name -> key of the sensors in use, in declaration order, for instance {"front": "observation.images.front"}."""
        features: dict[str, PolicyFeature] = self.input_features or {}
        allowed = parse_sensors(self.sensors)
        keys = {str(sensor.name).lower(): key for sensor, key in KEY_OF_SENSOR.items() if sensor in allowed}
        return {name: key for name, key in keys.items() if key in features}

    @property
    def std_floors(self) -> dict[str, float]:
        """Smallest deviation by key. Without a floor, a channel that rests in the demonstrations would be blown up to unit variance."""
        return {STATE: self.state_std_floor, ACTION: self.std_floor}

    @property
    def language(self) -> LanguageOptions:
        """The language losses."""
        return LanguageOptions(
            contrastive_weight=self.contrastive_weight,
            generation_weight=self.generation_weight,
            combinations=self.generation_combinations,
            memory_bank=self.memory_bank,
            upstream_compat=self.upstream_compat,
            embedding=self.contrastive_width,
            heads=self.heads,
        )

    @property
    def objective(self) -> FlowMatching | Regression | Diffusion:
        """What actions are trained and predicted by."""
        if self.action_head == "regression":
            return Regression()
        return Diffusion(DIFFUSION_STEPS, self.flow_steps) if self.action_head == "diffusion" else self.flow

    @property
    def flow(self) -> FlowMatching:
        """The flow that training and inference share."""
        return FlowMatching(
            time_sampler=self.time_sampler, logit_std=self.logit_std, steps=self.flow_steps, temperature=self.flow_temperature
        )

    def history_of(self, key: str) -> tuple[int, ...]:
        """Offsets [steps] at which the policy reads `key`, at most 0, oldest first. Keys without a history: (0,)."""
        if key.startswith("observation.images."):
            return self.image_history
        return {STATE: self.state_history, TOUCH: self.touch_history, AUDIO: self.audio_history}.get(key, (0,))

    def validate_features(self) -> None:
        """Drop labels and unused sensors from `input_features`; reject sensors and shapes that no encoder exists for."""
        allowed = parse_sensors(self.sensors)
        kept: dict[str, PolicyFeature] = {}
        inputs: dict[str, PolicyFeature] = self.input_features or {}  # type: ignore[has-type] # LeRobot's class counts as Any
        for key, feature in inputs.items():
            if key.startswith(LABEL_PREFIX):
                continue
            sensor = next((s for s, k in KEY_OF_SENSOR.items() if k == key), None)
            if sensor is None:
                known = ", ".join(KEY_OF_SENSOR.values())
                raise HandsightError(f"expected sensors out of {known}, got {key}; rename it with --rename_map or drop it from the dataset")
            if sensor in allowed:
                self._validate_shape(key, tuple(feature.shape))
                kept[key] = feature
        if not kept:
            raise HandsightError(f"expected at least one of the sensors {self.sensors!r} in the dataset, got none")
        if self.action_feature is None:
            raise HandsightError("expected an 'action' feature in the dataset, got none")
        self.input_features = kept

    def _validate_shape(self, key: str, shape: tuple[int, ...]) -> None:
        if key.startswith("observation.images."):
            multiple = self.image_pool * (16 if self.image_encoder == "patches" else 4)
            good = len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2] and shape[1] % multiple == 0
            wanted = f"(3, S, S) with S a multiple of {multiple}"
        elif key == TOUCH:
            good, wanted = shape in ((TAXELS,), TOUCH_SHAPE), f"({TAXELS},) or {TOUCH_SHAPE}"
        elif key == AUDIO:
            good, wanted = shape == (AUDIO_STEP,), f"({AUDIO_STEP},)"
        else:
            good, wanted = len(shape) == 1, "(n,)"
        if not good:
            raise HandsightError(f"expected {key} of shape {wanted}, got {shape}")

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """Union of the histories of all allowed sensors: LeRobot's own reader applies one list to every observation key.

        None (no time axis) if only the current frame is read. Asked for before the dataset's features are known.
        """
        union = sorted({offset for key in parse_sensors(self.sensors).keys for offset in self.history_of(key)})
        return None if union in ([], [0]) else union

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunk starts with the action of the current step."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """No rewards."""
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW; the policy's parameter groups ask for the fused implementation."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            betas=self.optimizer_betas,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineAnnealingWithWarmupSchedulerConfig:
        """Linear warm-up, then a cosine to zero over the run's remaining steps (steps, never the clock)."""
        return CosineAnnealingWithWarmupSchedulerConfig(num_warmup_steps=self.scheduler_warmup_steps)
