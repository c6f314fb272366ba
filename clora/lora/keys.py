"""Tensor keys of LoRA files: module and suffix of a key, and the component and flat name of a module.

Layouts: kohya (`lora_unet_...`), diffusers and PEFT (`unet....lora_A.weight`), LyCORIS (`lycoris_...`), and names of
the checkpoint itself (`diffusion_model....`). Names are compared flat, with `_` for `.`, because kohya's files write
both as `_`.
"""

from __future__ import annotations

import re

COMPONENTS = ("unet", "text_encoder", "text_encoder_2")

_ADAPTER = r"(?:\.(?!bias\Z)[A-Za-z0-9_-]+)?"  # PEFT may put the adapter's name before "weight"
_NAMED = (
    "alpha|scale|dora_scale|diff|diff_b|w_norm|b_norm|oft_blocks|oft_diag|rescale|on_input|reshape_weight"
    "|bias|bias_indices|bias_values|bias_size|lambda_layer|base_lambda"
)
_PARAMETERS = (  # of PEFT: saved as they are, with or without the adapter's name
    "hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t[12]|boft_R|boft_s|oft_[rs]|ia3_l|hra_u|lora_E|vera_lambda_[bd]|vera_[AB]"
)
_SUFFIXES: tuple[tuple[re.Pattern[str], str | None], ...] = tuple(
    (re.compile(pattern + r"\Z"), suffix)
    for pattern, suffix in (
        (r"\.lora_(?:up|B)" + _ADAPTER + r"\.bias", "lora_bias"),
        (r"\.base_layer\.(?P<kind>bias)", "base_"),
        (r"[._]lora(?:_linear_layer)?\.(?P<kind>down|up)(?:\.weight)?", "lora_"),
        (r"\.lora_(?P<kind>down|up|mid)(?:\.weight)?", "lora_"),
        (r"\.lora_(?P<kind>A|B)" + _ADAPTER + r"(?:\.weight)?", "lora_"),
        (r"\.lora_magnitude_vector" + _ADAPTER + r"(?:\.weight)?", "magnitude"),
        (r"\.oft_R" + _ADAPTER + r"\.(?P<kind>scaled_oft)", ""),
        (r"\.(?P<kind>oft_R)" + _ADAPTER + r"\.weight", ""),
        (r"(?:[._]lora)?\.(?P<kind>[qp]_layer|base_[qp])(?:\.weight)?", ""),
        (r"(?:[._]lora)?\.(?P<kind>" + _NAMED + r")", ""),
        (r"\.(?P<kind>" + _PARAMETERS + r")(?:\.default)?", ""),
        (r"\.(?P<kind>a1|a2|b1|b2|bm)\.weight", ""),
        (r"\.(?P<kind>weight)", ""),
    )
)
_RENAMED = {"A": "down", "B": "up"}
_BUNDLED = "bundle_emb"  # OneTrainer and the WebUI: textual inversions inside a LoRA file

# Prefix of the flat module key -> the components it may mean, first match wins.
_PREFIXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    *(
        (outer + inner, components)
        for outer in ("lora_", "lycoris_", "oft_", "")
        for inner, components in (
            ("unet_", ("unet",)),
            ("te1_", ("text_encoder",)),
            ("te2_", ("text_encoder_2",)),
            ("te_", ("text_encoder",)),
            ("text_encoder_2_", ("text_encoder_2",)),
            ("text_encoder_", ("text_encoder",)),
            ("model_diffusion_model_", ("unet",)),
            ("diffusion_model_", ("unet",)),
        )
    ),
    ("cond_stage_model_transformer_", ("text_encoder",)),
    ("cond_stage_model_model_", ("text_encoder",)),
    ("conditioner_embedders_0_transformer_", ("text_encoder",)),
    ("conditioner_embedders_1_model_", ("text_encoder_2",)),
    ("text_encoders_clip_l_transformer_", ("text_encoder",)),
    ("text_encoders_clip_g_transformer_", ("text_encoder_2",)),
    ("text_encoders_clip_h_transformer_", ("text_encoder",)),
    ("clip_l_", ("text_encoder",)),
    ("clip_g_", ("text_encoder_2",)),
    ("lycoris_", COMPONENTS),
    ("lora_", COMPONENTS),
)
_OLD_PROCESSOR = re.compile(r"_to_(q|k|v|out)\Z")
_OLD_TEXT = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


def split_key(key: str) -> tuple[str, str]:
    """A tensor's key as (module key, suffix): `lora_down`, `lora_up`, `alpha`, `hada_w1_a`, ...

    An unknown ending is what follows the last dot, so that the warning can name it.
    """
    for pattern, suffix in _SUFFIXES:
        match = pattern.search(key)
        if match and match.start() > 0:
            kind = match.groupdict().get("kind") or ""
            return key[: match.start()], (suffix or "") + _RENAMED.get(kind, kind)
    module, _, rest = key.rpartition(".")
    return module, rest


def bundled_embedding(module_key: str) -> str | None:
    """The name of the textual inversion that a module key belongs to (`bundle_emb.NAME`), None for other keys."""
    head, _, name = module_key.partition(".")
    return name.removesuffix(".string_to_param") if head == _BUNDLED and name else None


def flat(name: str) -> str:
    """A module's name with `_` for `.`."""
    return name.replace(".", "_")


def locate_module(module_key: str) -> tuple[tuple[str, ...], str]:
    """The components a module key may mean, and the flat name of the module inside them."""
    key = module_key
    while key.startswith("base_model.model."):
        key = key.removeprefix("base_model.model.")
    name = flat(key.replace(".processor", ""))
    components: tuple[str, ...] = COMPONENTS
    for prefix, meant in _PREFIXES:
        if name.startswith(prefix):
            name, components = name.removeprefix(prefix), meant
            break
    return components, name.removeprefix("base_model_model_")


def aliases(name: str) -> tuple[str, ...]:
    """A flat module name and its names in diffusers' old attention processors."""
    match = _OLD_PROCESSOR.search(name)
    if match is None:
        return (name,)
    old_text = name[: match.start()] + "_" + _OLD_TEXT[match[1]]
    return (name, f"{name}_0", old_text) if match[1] == "out" else (name, old_text)
