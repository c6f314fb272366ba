"""Records runs of the authors' code for benchmarks.golden: python -m benchmarks.record_golden AUTHORS DIR.

AUTHORS is a folder with the authors' unmodified `pipeline_clora.py` and `utils.py`. Their code needs an environment of
its own: diffusers 0.27.0, peft 0.10.0, transformers 4.39.0, pytorch-metric-learning 2.4.1, numpy 1.26.4, matplotlib.

Writes into DIR a small random model in SD 1.5's shape (`model`, with a tokenizer that knows only the words of the
prompts), three random LoRAs in kohya's and PEFT's layout (`loras`), and the recorded runs (`cases`). The authors' code
is only watched: its methods are called through, and what goes in and comes out is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .golden_watch import EnoughError, Watch

VOCABULARY = Path(__file__).parents[1] / "clora" / "embedded" / "assets" / "model" / "tokenizer"
SEED = 53
WORDS = ("a", "cat", "and", "dog", "bird", "sks", "nsfw")
TWO: dict[str, Any] = {
    "prompt_list": ["A cat and a dog", "A sks dog and a cat", "A sks cat and a dog"],
    "negative_prompt_list": ["nsfw"] * 3,
    "lora_list": ["", "dog", "cat"],
    "important_token_indices": [[[2], [6], [2, 3]], [[5], [2, 3], [6]]],
    "mask_indices": [[], [2, 3], [2, 3]],
    "use_text_encoder_lora": True,
    "cross_attention_kwargs": {"scale": 1.0},
    "latent_update": True,
    "step_size": 20,
    "mask_threshold_alpha": 0.4,
    "guidance_scale": 7.5,
    "num_inference_steps": 50,
    "height": 192,
    "width": 192,
}
THREE: dict[str, Any] = {
    **TWO,
    "prompt_list": [
        "A cat and a dog and a bird", "A cat and a sks dog and a bird", "A sks cat and a dog and a bird",
        "A cat and a dog and a sks bird",
    ],
    "negative_prompt_list": ["nsfw"] * 4,
    "lora_list": ["", "dog", "cat", "bird"],
    "important_token_indices": [
        [[2], [2], [2, 3], [2]], [[5], [5, 6], [6], [5]], [[8], [9], [9], [8, 9]],
    ],
    "mask_indices": [[], [5, 6], [2, 3], [8, 9]],
    "height": 256,
}  # fmt: skip
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "run192_2lora_f64": (
        "f64", 3,
        {
            **TWO, "num_inference_steps": 6, "max_iter_to_alter": 2, "iterative_steps": [1],
            "iterative_steps_steps": 2, "apply_mask_after": 1, "guidance_scale": 10.0,
        },
    ),
    "step256x192_3lora_f64": ("f64", 1, THREE),
    "step192_2lora_style_f64": (
        "f64", 1,
        {**TWO, "style_lora": "bird", "style_lora_weight": 0.8, "guidance_rescale": 0.7},
    ),
    "step192_2lora_no_text_encoder_lora_f64": (
        "f64", 1, {**TWO, "use_text_encoder_lora": False, "cross_attention_kwargs": {"scale": 0.6}},
    ),
    "step192_2lora_f32": ("f32", 1, TWO),
}  # fmt: skip
"""Name -> dtype, how many steps are kept, the authors' arguments."""


def half_exact(model: nn.Module) -> None:
    """Round all weights to float16 values, so that every dtype loads the same numbers."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


def write_tokenizer(folder: Path) -> None:
    """CLIP's tokenizer cut down to the words of the prompts: the same tokens, other ids."""
    ranks = {}
    lines = (VOCABULARY / "merges.txt").read_text("utf-8").splitlines()[1:]
    for rank, line in enumerate(lines):
        ranks[tuple(line.split())] = rank
    used = set()
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            best = min(pairs, key=ranks.__getitem__)
            used.add(best)
            at = next(i for i in range(len(parts) - 1) if (parts[i], parts[i + 1]) == best)
            parts[at : at + 2] = ["".join(best)]
    merges = sorted(used, key=ranks.__getitem__)
    whole = json.loads((VOCABULARY / "vocab.json").read_text("utf-8"))
    letters = sorted(whole, key=whole.__getitem__)[:512]
    words = [*letters, *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({word: i for i, word in enumerate(words)}, ensure_ascii=False), "utf-8"
    )
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *(" ".join(m) for m in merges)]) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace",
             "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
             "pad_token": "<|endoftext|>"},
            indent=1,
        ) + "\n"
    )  # fmt: skip


def write_model(folder: Path) -> None:
    """A UNet and text encoder of random weights, with attention maps that have contrast, and SD 1.5's DDIM."""
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    write_tokenizer(folder / "tokenizer")
    words = json.loads((folder / "tokenizer" / "vocab.json").read_text("utf-8"))
    torch.manual_seed(SEED)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=(32,) * 4, cross_attention_dim=32, attention_head_dim=2
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            projection_dim=32, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=len(words) - 1,
        )
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                parameter.mul_(3)
            elif "attn2.to_v" in name:
                parameter.mul_(2)
        for name, parameter in text.named_parameters():
            if "embedding" in name:
                parameter.normal_(std=0.4)
            elif "layer_norm" not in name and parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    for model, part in ((unet, "unet"), (text, "text_encoder")):
        half_exact(model)
        model.half().save_pretrained(folder / part, safe_serialization=True)
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder / "scheduler")  # fmt: skip


def write_loras(model: Path, folder: Path) -> None:
    """Three LoRAs of rank 4, each in both layouts: "cat" in more layers and with half the scale."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    parts = {
        "unet": UNet2DConditionModel.from_pretrained(model / "unet"),
        "text_encoder": CLIPTextModel.from_pretrained(model / "text_encoder"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    attention = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
    more = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "mlp.fc1", "mlp.fc2")
    for seed, (name, alpha) in enumerate({"dog": 4.0, "cat": 2.0, "bird": 4.0}.items()):
        generator = torch.Generator().manual_seed(SEED + seed)
        kohya: dict[str, Tensor] = {}
        peft: dict[str, Tensor] = {}
        for part, short in (("unet", "lora_unet_"), ("text_encoder", "lora_te_")):
            for path, layer in parts[part].named_modules():
                if not path.endswith(attention + (more if name == "cat" else ())):
                    continue
                weight = layer.weight
                down = torch.randn(4, *weight.shape[1:], generator=generator) * weight[0].numel() ** -0.5
                up = torch.randn(weight.shape[0], 4, *(1,) * (weight.ndim - 2), generator=generator) * 0.25
                key = short + path.replace(".", "_")
                kohya[f"{key}.lora_down.weight"], kohya[f"{key}.lora_up.weight"] = down.half(), up.half()
                kohya[f"{key}.alpha"] = torch.tensor(alpha).half()
                peft[f"{part}.{path}.lora_A.weight"] = down.half()
                peft[f"{part}.{path}.lora_B.weight"] = (up.half() * (alpha / 4)).half()
        for layout, tensors in (("kohya", kohya), ("peft", peft)):
            save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{name}.{layout}.safetensors")


def record(authors: Any, folder: Path, name: str) -> None:
    """Run one case with the authors' pipeline and write it."""
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    kind, steps, kwargs = CASES[name]
    model = folder / "model"
    torch.manual_seed(0)
    pipe = authors.CloraPipeline(
        # The picture is not recorded, so any autoencoder of the right shape will do.
        vae=diffusers.AutoencoderKL(
            block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
        ),
        text_encoder=CLIPTextModel.from_pretrained(model / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(model / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(model / "unet"),
        scheduler=diffusers.DDIMScheduler.from_pretrained(model / "scheduler"),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    for lora in ("dog", "cat", "bird"):
        pipe.load_lora_weights(folder / "loras", weight_name=f"{lora}.kohya.safetensors", adapter_name=lora)
    pipe.to(torch.float64 if kind == "f64" else torch.float32)
    pipe.set_progress_bar_config(disable=True)
    layers = name.startswith("run")
    watch = Watch(steps, kwargs["mask_indices"], kwargs["mask_threshold_alpha"], layers=layers)
    # transformers makes the text encoder's causal mask in the default dtype, which must hold the dtype's minimum.
    torch.set_default_dtype(pipe.unet.dtype)
    try:
        with suppress(EnoughError), watch.attached(pipe):
            pipe(**kwargs, generator=torch.Generator().manual_seed(SEED))
    finally:
        torch.set_default_dtype(torch.float32)
    texts = [text for pair in zip(kwargs["negative_prompt_list"], kwargs["prompt_list"], strict=True) for text in pair]
    ids = pipe.tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
    watch.kept["input_ids"] = torch.tensor(ids).reshape(-1, 2, 77)
    (folder / "cases").mkdir(exist_ok=True)
    save_file(watch.kept, folder / "cases" / f"{name}.safetensors")
    about = {
        "name": name, "dtype": kind, "attention_store": "cfg", "kwargs": kwargs,
        "timesteps": [int(t) for t in pipe.scheduler.timesteps[:steps]], "steps": list(range(steps)),
        "masks": watch.masks, "tokens": [pipe.tokenizer.tokenize(text) for text in kwargs["prompt_list"]],
    }  # fmt: skip
    (folder / "cases" / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    print(name, watch.masks)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python -m benchmarks.record_golden`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("authors", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    sys.path.insert(0, str(options.authors))
    from importlib import import_module

    authors = import_module("pipeline_clora")
    write_model(options.folder / "model")
    write_loras(options.folder / "model", options.folder / "loras")
    for name in CASES:
        record(authors, options.folder, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
