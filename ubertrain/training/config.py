"""What an experiment is: every key of the YAML file, checked, with file and line in every complaint."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from ubertrain.annotation.random_warp import RandomWarp
from ubertrain.errors import ConfigError
from ubertrain.measuring.devices import NO_DEVICES, find_device
from ubertrain.training.paths import make_absolute
from ubertrain.training.yaml_file import Origin, read_yaml
from ubertrain.units import parse_bytes

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

AUTO = "auto"
"""As a budget: the memory that the device has free."""


class _Closed(BaseModel):
    """A part of the configuration that knows all its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Open(BaseModel):
    """A part whose other keys are the keywords of what it names, checked when that is built."""

    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)

    @property
    def keywords(self) -> dict[str, Any]:
        """The keys that are not the configuration's own."""
        return dict(self.model_extra or {})


class TrunkConfig(_Open):
    """The shared layers; other keys are the trunk's keywords."""

    name: str
    """A name that `ubertrain tasks --trunks` lists, or "package.module:Class"."""


class TaskConfig(_Open):
    """One task; other keys are the task's keywords."""

    type: str | None = None
    """Registered name or "package.module:Class"; left out: the name it stands under."""
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the task's loss."""
    taps: tuple[str, ...] | None = None
    """The trunk levels the head reads; left out: the task's own choice."""
    key: str | None = None
    """The name under which samples carry its label; left out: the name of the kind of annotation."""


@dataclasses.dataclass(frozen=True)
class WarpConfig(RandomWarp):
    """The random warp of a training set's images."""

    __pydantic_config__ = ConfigDict(extra="forbid")


class SetConfig(_Open):
    """One data set; other keys are the reader's keywords."""

    type: str
    """A reader's name, or "package.module:Class"."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often its images are drawn, relative to the other training sets."""
    warp: WarpConfig | None = None
    """How its training images are varied; left out: each is fitted whole into the input."""


class DataConfig(_Closed):
    """Where the images and labels come from."""

    size: tuple[Positive, Positive]
    """(height, width) of the network's input, in pixels."""
    batch: Positive = 8
    """Images per step."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that read images; 0 reads them in the training process."""
    on_error: Literal["raise", "skip"] = "raise"
    """What an unreadable image or label does: stop the run, or be left out, counted and reported at the end."""
    train: dict[str, SetConfig]
    """Name -> training set."""
    val: dict[str, SetConfig] = {}
    """Name -> validation set."""


class OptimizerConfig(_Closed):
    """How weights follow their gradients. Norms and biases never decay."""

    type: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Learning rate of the trunk at the top of its schedule."""
    head_lr: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the learning rate of the heads."""
    momentum: Fraction = 0.9
    """SGD's momentum, AdamW's first beta."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4


class LrScheduleConfig(_Closed):
    """How the learning rate changes over the run."""

    type: Literal["poly", "cosine", "constant"] = "poly"
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps during which it climbs in a line from 0."""
    power: Annotated[float, Field(gt=0)] = 0.9
    """Exponent of poly."""


def _budget(value: Any) -> Any:
    """A budget as text; "none" (any amount of memory) is the same as leaving it out."""
    if value is None or value in ("none", AUTO):
        return None if value == "none" else value
    try:
        parse_bytes(value)
    except ConfigError as error:
        raise ValueError(f"{error}, auto or none") from error
    return str(value)


def _cost(value: Any) -> Any:
    """What `ubertrain.measuring.roofline.op_cost` knows."""
    if value not in NO_DEVICES:
        try:
            find_device(str(value), besides=NO_DEVICES)
        except ConfigError as error:
            raise ValueError(str(error)) from error
    return value


class MemoryConfig(_Closed):
    """What is recomputed to save memory: a schedule, or a budget to which one is fitted; neither: nothing is recomputed."""

    schedule: str | None = None
    """"keep_all", "every_k:2", or the text of a schedule as `ubertrain plan` prints it."""
    budget: Annotated[str | None, BeforeValidator(_budget)] = None
    """Bytes for parameters, gradients, optimizer state and activations together, such as 6GiB; auto: what the device has
    free; none: as much as it takes to recompute nothing."""
    cost: Annotated[str, BeforeValidator(_cost)] = AUTO
    """What a schedule saves as much as it can of: auto, seconds by a quick calibration of the device; flops; or the name of a
    device in the table, seconds there."""
    finer: bool = False
    """Whether the trunk's stages are cut inside of blocks too, so that less is run again within the same budget. Results are
    the same bits, but the names in saved weights differ."""
    split_batch: bool = False
    """Whether a budget may be met by running a few images at a time, where no module couples images. Gradients are then those
    of the whole batch to rounding, and dropout draws other numbers."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if self.schedule and self.budget:
            raise ValueError("give a schedule or a budget, not both")
        return self


class Config(_Closed):
    """An experiment. `load` reads one from YAML."""

    seed: int = 0
    """Everything random follows from it."""
    threads: Positive | None = None
    """Threads of torch; left out: torch's choice."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    steps: Positive
    """Optimizer steps of the whole run."""
    trunk: TrunkConfig
    tasks: Annotated[dict[str, TaskConfig], Field(min_length=1)]
    """Name -> task; the order is the order of the tables."""
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_schedule: LrScheduleConfig = LrScheduleConfig()
    memory: MemoryConfig = MemoryConfig()
    clip: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the whole gradient; longer ones are shortened to it."""
    autocast: Literal["bfloat16", "float16"] | None = None
    """Precision of the layers that stand it; float16 scales the loss."""
    evaluate_every: Positive | None = None
    """Steps between evaluations; left out: before the first step and after the last alone."""
    save_every: Positive = 200
    """Steps between saved states; the last two are kept."""
    log_every: Positive = 10
    """Steps between lines of metrics.jsonl."""
    pictures: Annotated[int, Field(ge=0)] = 4
    """Validation images per set that are drawn after the last step."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs the extra `tb`)."""

    _origin: Origin = PrivateAttr(default_factory=Origin)

    def where(self, *path: str | int) -> str:
        """The "file:line" of the key at `path`, for messages."""
        return self._origin.where(*path)

    def dump(self) -> str:
        """The whole configuration, defaults included, as YAML that `load` reads back to an equal one."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=120, default_flow_style=None)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The experiment in a YAML file, paths made absolute as by `make_absolute`.

    Args:
        path: the file.
        overrides: "a.b=value" each, as given to `--set`; the value is read as YAML.

    Raises:
        ConfigError: naming file, line, key, and the nearest known key where one is unknown.
    """
    values, origin = read_yaml(path, overrides)
    make_absolute(values)
    try:
        # By way of JSON pydantic can be strict ("8" is no number, true is no 1) and still take lists for tuples.
        config = Config.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        complaints = [_complaint(values, origin, fault) for fault in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(complaints))) from None
    config._origin = origin
    return config


def _complaint(values: Any, origin: Origin, fault: Any) -> str:
    """One pydantic error as one line: where, what, and what would be right."""
    path = tuple(fault["loc"])
    name = ".".join(map(str, path)) or "the configuration"
    where = origin.where(*path)
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: {unknown('key', str(path[-1]), _keys_at(path[:-1]))}"
    if fault["type"] == "missing":
        return f"{where}: the key {name!r} is missing"
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{where}: {name}: {message}, got {json.dumps(fault['input'], default=str)}"


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Such as "unknown key 'optimzer'; did you mean 'optimizer'? known: ..."."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r};{hint} known: {', '.join(known) or 'none'}"


def _keys_at(path: tuple[str | int, ...]) -> list[str]:
    """The keys the configuration knows in the mapping at `path`."""
    here: Any = Config
    for key in path:
        here = fields[str(key)] if (fields := _fields(here)) else typing.get_args(here)[-1]
        while typing.get_origin(here) in (Annotated, types.UnionType):
            here = typing.get_args(here)[0]
    return list(_fields(here))


def _fields(annotation: Any) -> dict[str, Any]:
    """Key -> annotation of a model or dataclass."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    return typing.get_type_hints(annotation) if dataclasses.is_dataclass(annotation) else {}
