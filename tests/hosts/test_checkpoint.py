"""Loading models: folders and single files give the same pipeline, and every other file is refused in a sentence."""

import json
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging as transformers_logging

from clora.errors import CLoRAError
from clora.hosts.diffusers import checkpoint
from clora.hosts.diffusers.checkpoint import CONFIGS, load_pipeline

GOLDEN = Path(os.environ.get("CLORA_GOLDEN", Path(__file__).parents[2].parent / "shared" / "golden"))
TOKENIZERS = [checkpoint.TOKENIZER, GOLDEN / "model" / "tokenizer"]
KINDS = ("sd15", "sd2", "sdxl")
UNET_INPUT = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test may reach for the network, with or without the switches of the libraries."""

    def refuse(*args):
        raise AssertionError(f"network access: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch):
    found = next((folder for folder in TOKENIZERS if (folder / "vocab.json").is_file()), None)
    if found is None:
        pytest.skip("needs CLIP's tokenizer: the embedded model is missing and CLORA_GOLDEN names none")
    monkeypatch.setattr(checkpoint, "TOKENIZER", found)


# Tiny models


def tiny_text(hidden, projected=False):
    config = CLIPTextConfig(
        hidden_size=hidden, intermediate_size=16, projection_dim=hidden, num_hidden_layers=2, num_attention_heads=2,
        hidden_act="gelu", bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def tiny_unet(kind):
    down, up = ["CrossAttnDownBlock2D", "DownBlock2D"], ["UpBlock2D", "CrossAttnUpBlock2D"]
    extra = {"cross_attention_dim": 8}
    if kind == "sdxl":
        down, up = down[::-1], up[::-1]
        extra = {"cross_attention_dim": 20, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                 "projection_class_embeddings_input_dim": 60}  # fmt: skip
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=2,
        down_block_types=down, up_block_types=up, use_linear_projection=kind != "sd15", **extra,
    )  # fmt: skip


def tiny_parts(kind):
    torch.manual_seed(7)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    scaling = 0.13025 if kind == "sdxl" else 0.18215
    parts = {
        "unet": tiny_unet(kind),
        "vae": AutoencoderKL(block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=scaling, **blocks),
        "text_encoder": tiny_text(8),
    }
    if kind == "sdxl":
        parts["text_encoder_2"] = tiny_text(12, projected=True)
    return parts


class Tiny:
    """A tiny model of a kind: as a diffusers folder, as a single file, with its configs instead of the real ones."""

    def __init__(self, kind, root):
        self.kind, self.parts = kind, tiny_parts(kind)
        self.folder, self.file, self.configs = root / "folder", root / f"{kind}.safetensors", root / "configs"
        shutil.copytree(CONFIGS / kind, self.configs / kind)
        for name, part in self.parts.items():
            part.save_pretrained(self.folder / name)
            shutil.copy(self.folder / name / "config.json", self.configs / kind / name / "config.json")
        shutil.copy(CONFIGS / kind / "model_index.json", self.folder)
        shutil.copytree(CONFIGS / kind / "scheduler", self.folder / "scheduler")
        tokenizer = next(folder for folder in TOKENIZERS if (folder / "vocab.json").is_file())
        for name, pad in (("tokenizer", "!" if kind == "sd2" else "<|endoftext|>"), ("tokenizer_2", "!")):
            if name == "tokenizer" or kind == "sdxl":
                checkpoint.CLIPTokenizer.from_pretrained(tokenizer, pad_token=pad).save_pretrained(self.folder / name)
        self.tensors = single_file(kind, self.parts)
        save_file(self.tensors, self.file)

    def variant(self, path, metadata=None, **tensors):
        """Another file: tensors put in, or taken out (None). Dots in names are written as two underscores."""
        changed = self.tensors | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
        save_file({name: tensor for name, tensor in changed.items() if tensor is not None}, path, metadata)
        return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    kinds = {}

    def make(kind):
        if kind not in kinds:
            kinds[kind] = Tiny(kind, tmp_path_factory.mktemp(kind))
        return kinds[kind]

    return make


@pytest.fixture
def tiny(made, monkeypatch):
    def make(kind):
        monkeypatch.setattr(checkpoint, "CONFIGS", made(kind).configs)
        return made(kind)

    return make


@pytest.fixture
def folder(tiny, tmp_path):
    """A copy of the SD 1.5 folder, to be spoilt."""
    return Path(shutil.copytree(tiny("sd15").folder, tmp_path / "model"))


# diffusers' names -> the names of single files

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
          "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
UNET = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "conv_out": "out.2",
        "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2"}  # fmt: skip
VAE = {"conv_norm_out": "norm_out", "downsamplers.0": "downsample", "upsamplers.0": "upsample",
       "conv_shortcut": "nin_shortcut", "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v",
       "to_out.0": "proj_out", "mid_block.attentions.0": "mid.attn_1", "mid_block.resnets.0": "mid.block_1",
       "mid_block.resnets.1": "mid.block_2", "resnets": "block"}  # fmt: skip
OPEN_CLIP = {"encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
             "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn": "attn", "final_layer_norm": "ln_final",
             "text_model.": "", "embeddings.token_embedding": "token_embedding",
             "embeddings.position_embedding.weight": "positional_embedding"}  # fmt: skip


def replaced(name, table):
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def unet_name(name, unet):
    """Single files count all layers of all blocks on: a block has its layers and a down- or upsampler."""
    layers = unet.config.layers_per_block
    if found := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)", name):
        way, block, part, layer, rest = found.groups()
        first = (layers + 1) * int(block)
        if part == "downsamplers":
            return f"input_blocks.{first + layers + 1}.0.op.{rest.removeprefix('conv.')}"
        if part == "upsamplers":
            return f"output_blocks.{first + layers}.{1 + hasattr(unet.up_blocks[int(block)], 'attentions')}.{rest}"
        number = first + int(layer)
        place = f"input_blocks.{number + 1}" if way == "down" else f"output_blocks.{number}"
        return f"{place}.1.{rest}" if part == "attentions" else f"{place}.0.{replaced(rest, RESNET)}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        part, layer, rest = found.groups()
        if part == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(layer)}.{replaced(rest, RESNET)}"
    return replaced(name, UNET)


def vae_tensors(vae):
    last = len(vae.config.up_block_types) - 1
    for name, tensor in vae.state_dict().items():
        name = name.replace("down_blocks", "down")
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{last - int(found[1])}", name)
        name = replaced(name, VAE)
        yield name, tensor[:, :, None, None] if "attn_1" in name and tensor.ndim == 2 else tensor


def open_clip_tensors(text):
    state = text.state_dict()
    for name, tensor in state.items():
        if ".q_proj." in name:
            tensor = torch.cat([state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
            name = name.replace("q_proj.", "in_proj_")
        elif ".k_proj." in name or ".v_proj." in name:
            continue
        if name == "text_projection.weight":
            name, tensor = "text_projection", tensor.T
        yield replaced(name, OPEN_CLIP), tensor


def single_file(kind, parts):
    """The tensors of a model as CompVis (SD 1.5, SD 2.x) and SGM (SDXL) name and shape them."""
    groups = {
        "model.diffusion_model.": [(unet_name(n, parts["unet"]), t) for n, t in parts["unet"].state_dict().items()],
        "first_stage_model.": vae_tensors(parts["vae"]),
    }
    if kind == "sd2":
        groups["cond_stage_model.model."] = open_clip_tensors(parts["text_encoder"])
    else:
        prefix = {"sd15": "cond_stage_model.transformer.", "sdxl": "conditioner.embedders.0.transformer."}[kind]
        groups[prefix] = parts["text_encoder"].state_dict().items()
    if kind == "sdxl":
        groups["conditioner.embedders.1.model."] = open_clip_tensors(parts["text_encoder_2"])
    return {prefix + name: tensor.contiguous().clone() for prefix, group in groups.items() for name, tensor in group}


def drawn(pipe):
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe("a cat", num_inference_steps=2, height=16, width=16, output_type="np",
                    generator=torch.Generator().manual_seed(3))  # fmt: skip
    return pictures.images


# What loads


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_the_pipeline_of_its_folder(tiny, kind):
    model = tiny(kind)
    from_file, from_folder = load_pipeline(model.file, device="cpu"), load_pipeline(model.folder, device="cpu")
    assert type(from_file) is type(from_folder)
    for name, part in model.parts.items():
        state = getattr(from_file, name).state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in part.state_dict().items()), name
    from_file = load_pipeline(model.file, device="cpu", prediction="epsilon")
    from_folder = load_pipeline(model.folder, device="cpu", prediction="epsilon")
    picture = drawn(from_file)
    assert np.ptp(picture) > 0
    assert np.array_equal(picture, drawn(from_folder))


BESIDES = {  # what published files hold besides the weights
    "sd15": {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]},
    "sd2": {"cond_stage_model.model.text_projection": torch.zeros(8, 8),
            "cond_stage_model.model.logit_scale": torch.zeros(()),
            "cond_stage_model.model.transformer.resblocks.23.ln_1.weight": torch.zeros(8)},
    "sdxl": {"conditioner.embedders.0.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
             "conditioner.embedders.1.model.logit_scale": torch.zeros(())},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_files_hold_besides_is_ignored(tiny, tmp_path, kind):
    model = tiny(kind)
    besides = BESIDES[kind] | {"alphas_cumprod": torch.zeros(1000), "model_ema.decay": torch.zeros(())}
    save_file(model.tensors | besides, tmp_path / "m.safetensors", {"modelspec.title": "x"})
    text = load_pipeline(tmp_path / "m.safetensors", device="cpu").text_encoder.state_dict()
    assert all(torch.equal(text[key], tensor) for key, tensor in model.parts["text_encoder"].state_dict().items())


@pytest.mark.parametrize(("kind", "pads"), [("sd15", [49407]), ("sd2", [0]), ("sdxl", [49407, 0])])
def test_tokenizers_pad_as_their_encoders_were_trained(tiny, kind, pads):
    pipe = load_pipeline(tiny(kind).file, device="cpu")
    tokenizers = [pipe.tokenizer] + ([pipe.tokenizer_2] if kind == "sdxl" else [])
    for tokenizer, pad in zip(tokenizers, pads, strict=True):
        ids = tokenizer("a cat", padding="max_length").input_ids
        assert ids == [49406, 320, 2368, 49407] + [pad] * 73


FULL = [
    ("sd15", "unet", 859_520_964), ("sd2", "unet", 865_910_724), ("sdxl", "unet", 2_567_463_684),
    ("sd15", "vae", 83_653_863), ("sd2", "vae", 83_653_863), ("sdxl", "vae", 83_653_863),
    ("sd15", "text_encoder", 123_060_480), ("sd2", "text_encoder", 340_387_840),
    ("sdxl", "text_encoder", 123_060_480), ("sdxl", "text_encoder_2", 694_659_840),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "part", "parameters"), FULL)
def test_shipped_configs_have_the_known_sizes(kind, part, parameters):
    index = json.loads((CONFIGS / kind / "model_index.json").read_text())
    library, name = index[part]
    with init_empty_weights():
        if library == "diffusers":
            cls = {"UNet2DConditionModel": UNet2DConditionModel, "AutoencoderKL": AutoencoderKL}[name]
            model = cls.from_config(cls.load_config(CONFIGS / kind, subfolder=part, local_files_only=True))
        else:
            cls = {"CLIPTextModel": CLIPTextModel, "CLIPTextModelWithProjection": CLIPTextModelWithProjection}[name]
            model = cls(CLIPTextConfig.from_pretrained(CONFIGS / kind / part))
    assert sum(tensor.numel() for tensor in model.parameters()) == parameters


def test_a_folder_of_fp16_variants_loads(folder):
    for part in ("unet", "vae", "text_encoder"):
        for file in (folder / part).glob("*.safetensors"):
            file.rename(file.with_suffix(".fp16.safetensors"))
    assert load_pipeline(folder, device="cpu").unet.dtype == torch.float32


def test_the_embedded_model_is_the_default(tiny, monkeypatch):
    monkeypatch.setattr(checkpoint, "EMBEDDED_MODEL", tiny("sd15").folder)
    assert load_pipeline(None, device="cpu").unet.config.block_out_channels == [8, 16]


def test_types_and_devices(tiny):
    model = tiny("sd15")
    assert load_pipeline(model.file, device="cpu").vae.dtype == torch.float32
    pipe = load_pipeline(model.file)
    assert (pipe.device.type, pipe.unet.dtype) == (
        ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    )
    pipe = load_pipeline(model.file, dtype=torch.bfloat16, device="cpu")
    assert {part.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.bfloat16}


def test_loading_is_quiet_and_leaves_the_libraries_as_they_were(tiny, capfd):
    loud = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in loud]
    load_pipeline(tiny("sdxl").file, device="cpu")
    load_pipeline(tiny("sdxl").folder, device="cpu")
    assert [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in loud] == before
    assert capfd.readouterr() == ("", "")


# What the model predicts


def predicted(pipe):
    return pipe.scheduler.config.prediction_type


@pytest.mark.parametrize("prediction", checkpoint.PREDICTIONS)
def test_the_prediction_can_be_given(tiny, prediction):
    assert predicted(load_pipeline(tiny("sd15").file, device="cpu", prediction=prediction)) == prediction
    assert predicted(load_pipeline(tiny("sd15").folder, device="cpu", prediction=prediction)) == prediction


def test_a_given_prediction_fits_a_folder_with_pndm(folder):
    shutil.rmtree(folder / "scheduler")
    PNDMScheduler(skip_prk_steps=True).save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "PNDMScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    assert isinstance(load_pipeline(folder, device="cpu").scheduler, PNDMScheduler)
    assert drawn(load_pipeline(folder, device="cpu", prediction="sample")).shape == (1, 16, 16, 3)


def test_files_tell_what_they_predict(tiny, tmp_path):
    model, file = tiny("sdxl"), tmp_path / "file.safetensors"
    assert predicted(load_pipeline(model.file, device="cpu")) == "epsilon"
    pipe = load_pipeline(model.variant(file, v_pred=torch.zeros(0), ztsnr=torch.zeros(0)), device="cpu")
    assert predicted(pipe) == "v_prediction"
    assert pipe.scheduler.config.rescale_betas_zero_snr
    assert predicted(load_pipeline(file, device="cpu", prediction="epsilon")) == "epsilon"
    tagged = model.variant(tmp_path / "tagged.safetensors", {"modelspec.prediction_type": "v"})
    pipe = load_pipeline(tagged, device="cpu")
    assert predicted(pipe) == "v_prediction"
    assert not pipe.scheduler.config.rescale_betas_zero_snr


def test_sd2_files_are_probed(tiny, tmp_path):
    model = tiny("sd2")
    base = load_pipeline(model.file, device="cpu")
    assert (predicted(base), base.unet.config.sample_size) == ("epsilon", 64)
    bias = {"model__diffusion_model__out__2__bias": torch.full((4,), -5.0)}
    file = model.variant(tmp_path / "v.safetensors", **bias)
    assert predicted(load_pipeline(file, device="cpu")) == "v_prediction"
    tagged = model.variant(tmp_path / "tagged.safetensors", {"modelspec.prediction_type": "epsilon"}, **bias)
    assert predicted(load_pipeline(tagged, device="cpu")) == "epsilon"


# What is refused


def refused(source, *words, **options):
    with pytest.raises(CLoRAError) as error:
        load_pipeline(source, device=options.pop("device", "cpu"), **options)
    text = str(error.value)
    assert all(word in text for word in words), text
    assert text.endswith(".")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["double_blocks.0.img_attn.qkv.weight"], "a Flux model"),
        (["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "a Flux model"),
        (["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "an SD 3 model"),
        (["conditioner.embedders.0.model.ln_final.weight"], "an SDXL refiner"),
        (["control_model.time_embed.0.weight"], "a ControlNet"),
        (["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
        (["unet.mid_block.attentions.0.proj_in.lora_A.weight"], "a LoRA"),
        (["down_blocks.0.resnets.0.conv1.weight"], "one part of a model"),
        (["edm_vpred.sigma_max"], "noise levels of its own"),
        (["transformer_blocks.0.weight"], "not a Stable Diffusion checkpoint"),
        ([], "not a Stable Diffusion checkpoint"),
    ],
)
def test_other_models_are_refused(tmp_path, names, words):
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", words, "load an SD 1.5, SD 2.x or SDXL checkpoint", "model.safetensors")


@pytest.mark.parametrize(
    ("channels", "words"), [(9, "an inpainting model"), (8, "an image-editing model"), (16, "of 16 input channels")]
)
def test_other_input_channels_are_refused(tiny, tmp_path, channels, words):
    tensors = {UNET_INPUT.replace(".", "__"): torch.zeros(8, channels, 3, 3)}
    refused(tiny("sd15").variant(tmp_path / "m.safetensors", **tensors), words)


def test_parts_that_a_file_lacks_are_named(tiny, tmp_path):
    model, file = tiny("sd15"), tmp_path / "m.safetensors"

    def without(start):
        save_file({name: tensor for name, tensor in model.tensors.items() if not name.startswith(start)}, file)
        return file

    refused(without("cond_stage_model"), "text encoder")
    refused(without("first_stage_model"), "without a VAE")
    refused(without("model.diffusion_model.middle_block"), "weights are missing")
    refused(without("cond_stage_model.transformer.text_model.final_layer_norm.bias"), "weights are missing: 1, such as")
    refused(
        model.variant(file, model__diffusion_model__label_emb__0__0__weight=torch.zeros(1)), "conditioned on pictures"
    )
    refused(model.variant(file, model__diffusion_model__out__2__bias=torch.zeros(3)), "cannot be loaded", "shape")


@pytest.mark.parametrize("damage", [
    lambda data: data[:-1], lambda data: data[:1000], lambda data: data[:4], lambda data: b"", lambda data: data + b"x",
    lambda data: b"\xff" * 8 + data[8:], lambda data: data[:8] + b"[" + data[9:], lambda data: b"PK\x03\x04" + data,
])  # fmt: skip
def test_damaged_files_are_refused(tiny, tmp_path, damage):
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(tiny("sd15").file.read_bytes()))
    refused(file, "damaged", "download or copy it again")


def test_other_files_are_refused(tmp_path):
    for ending in (".ckpt", ".pt", ".CKPT", ".bin"):
        (tmp_path / f"model{ending}").write_bytes(b"PK\x03\x04")
        refused(tmp_path / f"model{ending}", "pickle", "save it as .safetensors")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "model.gguf", "not a .safetensors file")
    refused(tmp_path / "nothing.safetensors", "does not exist")
    refused(tmp_path, "no model_index.json")


def test_a_missing_embedded_model_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EMBEDDED_MODEL", tmp_path)
    refused(None, "python -m research.characters.base")


def test_a_missing_tokenizer_is_named(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "TOKENIZER", tmp_path)
    refused(tiny("sd15").file, "tokenizer", "restore it")


def test_options_are_checked(tiny):
    refused(tiny("sd15").file, "v_pred", "epsilon, v_prediction, sample", prediction="v_pred")
    refused(tiny("sd15").file, "toaster", device="toaster")
    if not torch.cuda.is_available():
        refused(tiny("sd15").file, "cuda", "use cpu", device="cuda")


@pytest.mark.parametrize(("place", "change", "words"), [
    ("unet/config.json", {"in_channels": 9}, "an inpainting model"),
    ("model_index.json", {"_class_name": "FluxPipeline"}, "a FluxPipeline"),
    ("model_index.json", {"_class_name": ["mine", "Pipeline"]}, "has no readable model_index.json"),
    ("model_index.json", {"unet": ["diffusers", "NoSuchModel"]}, "cannot be loaded"),
])  # fmt: skip
def test_other_folders_are_refused(folder, place, change, words):
    (folder / place).write_text(json.dumps(json.loads((folder / place).read_text()) | change))
    refused(folder, words)


def test_damaged_folders_are_refused(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(weights)
    save_file({name: tensor for name, tensor in whole.items() if not name.startswith("mid_block")}, weights)
    refused(folder, "unet")
    weights.rename(weights.with_suffix(".bin"))
    refused(folder, "cannot be loaded")
    (folder / "model_index.json").write_text("{")
    refused(folder, "has no readable model_index.json")
