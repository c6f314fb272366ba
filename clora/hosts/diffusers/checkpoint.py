"""Models for the command line: the embedded one, diffusers folders, and single files in CompVis or SGM layout.

Nothing is ever downloaded: the configs of single files are in `configs/`, their tokenizer is the embedded model's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from transformers import CLIPTokenizer

from ...embedded import EMBEDDED_MODEL
from ...errors import CLoRAError, cut
from .libraries import quiet, working_device

Pipeline: TypeAlias = "StableDiffusionPipeline | StableDiffusionXLPipeline"

CONFIGS = Path(__file__).parent / "configs"  # one folder per kind of single file: sd15, sd2, sdxl
TOKENIZER = EMBEDDED_MODEL / "tokenizer"  # CLIP's vocabulary, the same for all kinds
PREDICTIONS = ("epsilon", "v_prediction", "sample")

_REMEDY = "load an SD 1.5, SD 2.x or SDXL checkpoint"
_PIPELINES = {kind.__name__: kind for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline)}
_CHANNELS = {5: "a depth model", 7: "an upscaler", 8: "an image-editing model", 9: "an inpainting model"}
_FOREIGN = {  # part of a tensor's name -> what the file is
    "double_blocks.": "a Flux model",
    "joint_blocks.": "an SD 3 model",
    "conditioner.embedders.0.model.": "an SDXL refiner",
    "\nedm_": "a model with noise levels of its own (EDM)",
    "control_model.": "a ControlNet",
    "lora": "a LoRA",
    "down_blocks.0.": "one part of a model in the diffusers layout",
}
_KINDS = {  # where a kind keeps the text encoder that only it has, and the padding of its encoders
    "sdxl": ("conditioner.embedders.1.model.", ("<|endoftext|>", "!")),
    "sd2": ("cond_stage_model.model.", ("!",)),
    "sd15": ("cond_stage_model.transformer.text_model.", ("<|endoftext|>",)),
}


@dataclass(frozen=True)
class _Checkpoint:
    """A single file by its header: its tensors' names, and untrusted metadata."""

    path: Path
    kind: str
    names: frozenset[str]
    metadata: Mapping[str, str]


def load_pipeline(
    source: Path | None,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    prediction: str | None = None,
) -> Pipeline:
    """The embedded model (None), a diffusers folder, or a single .safetensors checkpoint, ready on `device`.

    `prediction` is what the model predicts ("epsilon", "v_prediction", "sample"). By default it is read from a
    folder's scheduler config, from a single file's tensor `v_pred` or its metadata (`modelspec.prediction_type`); an
    SD 2.x file without either is probed, and all others predict epsilon. The default device is cuda if there is one,
    else cpu; the default dtype is float16 on cuda, else float32. Raises: CLoRAError if the model cannot be loaded.
    """
    if prediction is not None and prediction not in PREDICTIONS:
        raise CLoRAError(f'The prediction "{prediction}" is unknown: use one of {", ".join(PREDICTIONS)}.')
    found = working_device(device)
    dtype = dtype or (torch.float16 if found.type == "cuda" else torch.float32)
    path = EMBEDDED_MODEL if source is None else _path(source)
    if source is None and not (path / "model_index.json").is_file():
        raise CLoRAError("The embedded model is missing: run `python -m research.characters.base`, or choose a model.")
    if not path.exists():
        raise CLoRAError(f"The model {path} does not exist: check its folder and its name.")
    with quiet():
        if path.is_dir():
            pipe = _from_folder(path, dtype).to(found)
            return pipe if prediction is None else _scheduled(pipe, prediction)
        if not path.is_file():
            raise CLoRAError(f"The model {path} is not a file: choose a folder or a checkpoint file.")
        checkpoint = _read_header(path)
        pipe = _from_checkpoint(checkpoint, dtype).to(found)
        return _fitted(checkpoint, pipe, prediction or _own_prediction(checkpoint, pipe))


def _path(source: str | Path) -> Path:
    """A path that can be looked up. Raises: CLoRAError for ~ with an unknown user, and for names no file can have."""
    try:
        path = Path(source).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CLoRAError(
            f'The model "{cut(str(source))}" cannot be opened ({why}): check its folder and its name.'
        ) from error
    return path


def _from_folder(folder: Path, dtype: torch.dtype) -> Pipeline:
    if not (folder / "model_index.json").is_file():
        raise CLoRAError(
            f"The folder {folder} has no model_index.json: choose the folder of a diffusers pipeline or a checkpoint "
            "file."
        )
    try:
        kind = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["_class_name"]
        channels = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8")).get("in_channels", 4)
        foreign = f"a {kind}" if kind not in _PIPELINES else _channels(channels)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CLoRAError(
            f"The pipeline in {folder} has no readable model_index.json or UNet config: {_REMEDY}."
        ) from error
    if foreign:
        raise CLoRAError(f"The pipeline in {folder} is {foreign}: {_REMEDY}.")
    options = {"torch_dtype": dtype, "variant": _variant(folder), "use_safetensors": True, "local_files_only": True}
    options |= {"safety_checker": None, "requires_safety_checker": False}  # SDXL has none and ignores it
    with _unusable(folder):
        return _complete(_PIPELINES[kind].from_pretrained(str(folder), **options))


def _channels(number: int) -> str | None:
    """What kind of model has a UNet with this number of input channels; None for text to image."""
    return None if number == 4 else _CHANNELS.get(number, f"a model of {number} input channels")


def _variant(folder: Path) -> str | None:
    """The variant of a part's weights where the part has no plain weights: fp16 of `model.fp16.safetensors`."""
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        names = [file.name.split(".") for file in sorted((folder / part).glob("*.safetensors"))]
        if names and all(len(name) > 2 for name in names):
            return names[0][1].split("-0")[0]  # a shard is called model.fp16-00001-of-00002.safetensors
    return None


def _read_header(path: Path) -> _Checkpoint:
    """The header of a single file. The library checks every size and the file's length; no tensor is read.

    Raises: CLoRAError for a file that is not a checkpoint CLoRA can compose with.
    """
    if path.suffix.lower() in {".ckpt", ".pt", ".pth", ".bin"}:
        raise CLoRAError(
            f"{path} is a pickle, which can run code: save it as .safetensors (the checkpoint merger of a WebUI can)."
        )
    if path.suffix.lower() != ".safetensors":
        raise CLoRAError(f"{path} is not a .safetensors file: {_REMEDY} in that format.")
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:
        raise CLoRAError(f"{path} is damaged or not a safetensors file: download or copy it again.") from error
    listed = "\n".join(["", *shapes])  # a name's start follows a line break
    kind = next((kind for kind, (start, _) in _KINDS.items() if "\n" + start in listed), "")
    foreign = _foreign(kind, listed, shapes.get("model.diffusion_model.input_blocks.0.0.weight", ()))
    if foreign:
        raise CLoRAError(f"{path} is {foreign}: {_REMEDY}.")
    return _Checkpoint(path, kind, frozenset(shapes), metadata)


def _foreign(kind: str, listed: str, unet_input: tuple[int, ...]) -> str | None:
    """What kind of file this is, if it cannot be loaded; None for a checkpoint that can."""
    foreign = next((what for part, what in _FOREIGN.items() if part in listed), None)
    if foreign or len(unet_input) != 4:
        return foreign or "not a Stable Diffusion checkpoint"
    if unet_input[1] != 4:
        return _channels(unet_input[1])
    if not kind:
        return "a checkpoint without a text encoder of a known layout"
    if kind != "sdxl" and "\nmodel.diffusion_model.label_emb." in listed:
        return "a model that is conditioned on pictures or classes"
    return None if "\nfirst_stage_model." in listed else "a checkpoint without a VAE"


def _from_checkpoint(checkpoint: _Checkpoint, dtype: torch.dtype) -> Pipeline:
    if not (TOKENIZER / "vocab.json").is_file():
        raise CLoRAError(f"The tokenizer {TOKENIZER} is missing: restore it from the repository.")
    tokenizers = {
        name: CLIPTokenizer.from_pretrained(str(TOKENIZER), pad_token=pad, local_files_only=True)
        for name, pad in zip(("tokenizer", "tokenizer_2"), _KINDS[checkpoint.kind][1], strict=False)
    }
    kind = StableDiffusionXLPipeline if len(tokenizers) == 2 else StableDiffusionPipeline
    options = {"config": str(CONFIGS / checkpoint.kind), "torch_dtype": dtype, "local_files_only": True, **tokenizers}
    with _unusable(checkpoint.path):
        return _complete(kind.from_single_file(str(checkpoint.path), **options))


@contextmanager
def _unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()).split(". ")[0][:200].rstrip(".") or type(error).__name__
        if isinstance(error, NotImplementedError):  # the meta device, where parameters without weights stay
            reason = "weights are missing"
        raise CLoRAError(f"The model {path} cannot be loaded ({reason}): check its files, or {_REMEDY}.") from error


def _complete(pipe: Pipeline) -> Pipeline:
    """Raises: ValueError for missing weights, whose parameters stay on the meta device."""
    modules = {part: module for part, module in pipe.components.items() if isinstance(module, torch.nn.Module)}
    missing = [f"{part}.{name}" for part in modules for name, p in modules[part].named_parameters() if p.is_meta]
    if missing:
        raise ValueError(f"weights are missing: {len(missing)}, such as {missing[0]}")
    return pipe


def _own_prediction(checkpoint: _Checkpoint, pipe: Pipeline) -> str:
    """What a single file predicts: by its tensor `v_pred`, its metadata, for SD 2.x by a probe; else epsilon."""
    said = checkpoint.metadata.get("modelspec.prediction_type", "")
    if "v_pred" in checkpoint.names or said in ("v", "v_prediction"):
        return "v_prediction"
    return "v_prediction" if said != "epsilon" and checkpoint.kind == "sd2" and _predicts_v(pipe) else "epsilon"


@torch.no_grad()
def _predicts_v(pipe: Pipeline) -> bool:
    """Run the UNet once on pure noise: epsilon is the input itself, v is minus the picture.

    Input (0.5 everywhere) and threshold are those that WebUIs use to recognise SD 2.x files.
    """
    unet = pipe.unet
    latent = torch.full((1, 4, 8, 8), 0.5, dtype=unet.dtype, device=unet.device)
    text = torch.full((1, 2, unet.config.cross_attention_dim), 0.5, dtype=unet.dtype, device=unet.device)
    return float((unet(latent, 999, encoder_hidden_states=text).sample - latent).float().mean()) < -1.0


def _fitted(checkpoint: _Checkpoint, pipe: Pipeline, prediction: str) -> Pipeline:
    """Set what follows from the file: SD 2.x base models draw 512 pixels, `ztsnr` files start at pure noise."""
    if checkpoint.kind == "sd2" and prediction == "epsilon":
        pipe.unet.register_to_config(sample_size=64)
    return _scheduled(pipe, prediction, **({"rescale_betas_zero_snr": True} if "ztsnr" in checkpoint.names else {}))


def _scheduled(pipe: Pipeline, prediction: str, **changes: Any) -> Pipeline:
    unfit = prediction == "sample" and isinstance(pipe.scheduler, PNDMScheduler)
    kind = DDIMScheduler if unfit else type(pipe.scheduler)
    pipe.scheduler = kind.from_config(pipe.scheduler.config, prediction_type=prediction, **changes)
    return pipe
