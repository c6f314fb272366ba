"""The committed weights: small, safe to load, complete, and in the layouts users know."""

import re
from collections import Counter

import pytest
from safetensors import safe_open

import research.world as world
from clora.embedded import EMBEDDED_ASSETS

ASSETS = EMBEDDED_ASSETS
LORAS = sorted((ASSETS / "loras").glob("*.safetensors"))
KOHYA = re.compile(r"lora_(unet|te)_[a-z0-9_]+\.(lora_down\.weight|lora_up\.weight|alpha)")


def test_all_weights_are_safetensors_and_small():
    weights = [p for p in ASSETS.rglob("*") if p.suffix in {".safetensors", ".bin", ".pt", ".ckpt"}]
    assert {p.suffix for p in weights} == {".safetensors"}
    assert sum(p.stat().st_size for p in weights) <= 25_000_000


def test_weights_are_float16():
    for path in ASSETS.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        assert types <= {"F16", "I64"}, path.name


def test_class_words_and_the_trigger_are_single_tokens():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(ASSETS / "model" / "tokenizer")
    for word in (*world.CLASSES, "sks", *world.COLOURS, *world.BACKGROUNDS):
        assert len(tokenizer(word).input_ids) == 3, word


def test_the_pipeline_loads_and_has_the_promised_shape():
    diffusers = pytest.importorskip("diffusers")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(ASSETS / "model")
    assert pipe.vae_scale_factor == 8
    assert pipe.vae.config.latent_channels == 4
    assert pipe.unet.config.sample_size == 32
    assert sum("CrossAttn" in block for block in pipe.unet.config.down_block_types) == 3
    assert pipe.text_encoder.config.max_position_embeddings == 77
    assert pipe.tokenizer.model_max_length == 77
    assert pipe.scheduler.config.prediction_type == "v_prediction"


def test_there_are_enough_loras_two_of_one_class():
    names = {path.stem for path in LORAS}
    instances = names & set(world.LOOKS)
    assert len(names) >= 6
    assert {"sketch", "lava"} <= names
    assert max(Counter(world.LOOKS[name].kind for name in instances).values()) >= 2


@pytest.mark.parametrize("path", LORAS, ids=lambda path: path.stem)
def test_loras_have_kohyas_keys_and_say_what_they_are(path):
    with safe_open(path, "pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
    assert all(KOHYA.fullmatch(key) for key in keys)
    assert {key.split("_")[1] for key in keys} == {"unet", "te"}
    layers = Counter(key.split(".")[0] for key in keys)
    assert set(layers.values()) == {3}
    assert metadata["ss_base_model_version"] == "clora_world_v1"
    trigger = metadata["modelspec.trigger_phrase"]
    if path.stem in world.LOOKS:
        assert trigger == f"sks {world.LOOKS[path.stem].kind}"
