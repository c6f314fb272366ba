"""The diffusers host on tiny random pipelines: its text encoding, its runs, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clora.conditioning.encoding import TextGroup
from clora.engine.composer import Composer, Event, Step, Updated
from clora.errors import CLoRAError
from clora.hosts.diffusers import Text, TextEncoding, compose
from clora.hosts.diffusers.text import emphasize
from clora.prompt import ResolvedText, Span, WordsOverride, schedule
from clora.prompt.region import Painted
from clora.settings import Settings
from tests.hosts.tiny import tiny_sd, tiny_sdxl, write_lora
from tests.updating import updating

PROMPT = "a <lora:cat:1:trigger=sks> cat and a <lora:dog:0.8> dog"
PLAIN = "a cat and a dog, nice"


@pytest.fixture(scope="module")
def sd() -> Any:
    return tiny_sd()


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return tiny_sdxl()


@pytest.fixture
def loras(tmp_path: Path, sd: Any) -> Path:
    for seed, name in enumerate(("cat", "dog", "ink")):
        write_lora(tmp_path / f"{name}.safetensors", sd, seed)
    return tmp_path


def encode(pipe: Any, text: str, clip_skip: int = 0) -> Any:
    return TextEncoding(pipe, clip_skip).encode([Text(schedule(text, 1)[0][1], 0)], [()])[0]


def hooks(pipe: Any) -> int:
    roots = [m for m in (pipe.unet, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if m is not None]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for root in roots for m in root.modules())


def run(pipe: Any, prompt: str | list[str], loras: Path, steps: int = 3, **options: Any) -> Any:
    settings = options.pop("settings", updating(refine_updates=1))
    return compose(pipe, prompt, loras=loras, steps=steps, settings=settings, **options)


@pytest.mark.parametrize("clip_skip", [0, 1])
def test_sd_text_encoding_equals_the_pipelines(sd: Any, clip_skip: int) -> None:
    expected, _ = sd.encode_prompt(PLAIN, "cpu", 1, False, clip_skip=clip_skip or None)
    torch.testing.assert_close(encode(sd, PLAIN, clip_skip).context, expected[0])


@pytest.mark.parametrize("clip_skip", [0, 1])
def test_sdxl_text_encoding_equals_the_pipelines(sdxl: Any, clip_skip: int) -> None:
    expected, _, pooled, _ = sdxl.encode_prompt(PLAIN, device="cpu", do_classifier_free_guidance=False,
                                                clip_skip=clip_skip or None)  # fmt: skip
    ours = encode(sdxl, PLAIN, clip_skip)
    torch.testing.assert_close(ours.context, expected[0])
    torch.testing.assert_close(ours.vector, pooled[0])


def test_long_prompts_take_more_chunks_and_positions_follow(sd: Any) -> None:
    text = "word " * 80 + "cat"
    assert encode(sd, text).context.shape[0] == 2 * 77
    start = len("word " * 80)
    (position,) = TextEncoding(sd).layout(schedule(text, 1)[0][1]).positions([Span(start, start + 3)])
    assert position == 77 + 1 + 5


def test_emphasis_scales_embeddings_and_keeps_the_mean(sd: Any) -> None:
    plain, weighted = encode(sd, "a cat").context, encode(sd, "a (cat:1.5)").context
    assert plain.mean().abs() > 0.01
    torch.testing.assert_close(weighted.mean(), plain.mean())
    ratio = weighted / plain
    torch.testing.assert_close(ratio[2] / ratio[1], torch.full_like(ratio[2], 1.5), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(ratio[1], torch.ones_like(ratio[1]), atol=1e-4)


def test_every_text_keeps_its_own_mean() -> None:
    hidden = (
        torch.randn(3, 77, 4, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 2.0, 0.0])[:, None, None]
    )
    hidden[2] -= hidden[2].mean()
    hidden[2, 5:] = hidden[2, :1] = 0.0
    hidden[2, 1:5] = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    weights = torch.ones(3, 77)
    weights[0, 3], weights[2, 1:5] = 1.5, 1.2
    found = emphasize(hidden, weights)
    torch.testing.assert_close(found[0].mean(), hidden[0].mean())
    torch.testing.assert_close(found[0, 3] / hidden[0, 3], 1.5 * found[0, 4] / hidden[0, 4])
    assert torch.equal(found[1], hidden[1])
    # Where the mean is 0 it cannot be kept: the weights alone count.
    torch.testing.assert_close(found[2], hidden[2] * weights[2][:, None])


def test_text_encoder_lora_acts_on_its_own_rows_only(sd: Any, loras: Path) -> None:
    from clora.lora.library import LoraLibrary
    from clora.models.lora import lora_targets
    from clora.prompt import LoraUse

    tables = lora_targets({"unet": sd.unet, "text_encoder": sd.text_encoder})
    lora = LoraLibrary(loras).applied(LoraUse("cat", 1.0, 1.0), tables)
    resolved = schedule("a cat", 1)[0][1]
    with_lora, without = TextEncoding(sd).encode([Text(resolved, 1), Text(resolved, 0)], [(), (lora,)])
    alone = encode(sd, "a cat").context
    torch.testing.assert_close(without.context, alone)
    assert not torch.allclose(with_lora.context, alone, atol=1e-3)


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_one_concept_renders_what_the_pipeline_renders(sd: Any, tmp_path: Path, scheduler: str) -> None:
    """With a LoRA of no effect, a plain render is the pipeline's own picture from the same noise."""
    write_lora(tmp_path / "cat.safetensors", sd, 0, strength=0.0)
    before = sd.scheduler
    try:
        sd.scheduler = getattr(diffusers, scheduler).from_config(before.config)
        ours = run(sd, "a <lora:cat:1> cat", tmp_path, steps=4, seed=5)
        noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
        theirs = sd("a cat", latents=noise, num_inference_steps=4, guidance_scale=7.5).images[0]
    finally:
        sd.scheduler = before
    assert "only one concept" in ours.warnings[0]
    assert ours.settings.method == "merge"
    difference = np.abs(np.asarray(ours.images[0], dtype=float) - np.asarray(theirs, dtype=float))
    assert difference.max() <= 1


@pytest.mark.parametrize(
    "scheduler",
    ["DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep",
     "UniPCMultistep", "LMSDiscrete", "PNDM", "LCM", "KDPM2Discrete", "DDPM"],
)  # fmt: skip
def test_schedulers_run_and_repeat(sd: Any, loras: Path, scheduler: str) -> None:
    before, steps_seen = sd.scheduler, []
    try:
        sd.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(before.config)
        first = run(sd, PROMPT, loras, steps=4, observer=lambda e: steps_seen.append(e), seed=3)
        second = run(sd, PROMPT, loras, steps=4, seed=3)
    except ImportError as error:
        pytest.skip(str(error))
    finally:
        sd.scheduler = before
    assert torch.isfinite(first.latents).all()
    assert torch.equal(first.latents, second.latents)
    updates = [e for e in steps_seen if isinstance(e, Updated)]
    # Half of four steps update, steps 0, 1 and 2 refine: two and two; second evaluations of a step add none.
    assert len(updates) == 4


@pytest.mark.parametrize("scheduler", ["HeunDiscrete", "KDPM2Discrete"])
def test_only_the_first_evaluation_of_a_step_updates(
    sd: Any, loras: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    """At the latent that the scheduler goes on from, not at the one that corrects its slope."""
    before, updates = sd.scheduler, list[tuple[bool, int]]()
    step = Composer.step

    def watched(self: Composer, *args: Any, **options: Any) -> Step:
        own: list[Event] = []
        monkeypatch.setattr(self, "_observer", own.append)
        result = step(self, *args, **options)
        updates.append((sd.scheduler.state_in_first_order, sum(isinstance(event, Updated) for event in own)))
        return result

    monkeypatch.setattr(Composer, "step", watched)
    try:
        sd.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(before.config)
        run(sd, PROMPT, loras, steps=3, settings=Settings(update_until=1.0, refine_at=()))
    finally:
        sd.scheduler = before
    assert updates == [(True, 1), (False, 0), (True, 1), (False, 0), (True, 1)]


@pytest.mark.parametrize(("background", "alike"), [(" <lora:ink:1:role=background>", True), ("", False)])
def test_before_masks_count_a_background_is_drawn_by_the_base_alone(
    sd: Any, loras: Path, background: str, alike: bool
) -> None:
    settings = Settings(update_until=0.0, fuse_from=1.0, look_ahead=0.0)
    prompts = [PROMPT.replace("dog:0.8", f"dog:{weight}") + background for weight in (0.8, 0.1)]
    strong, weak = (run(sd, prompt, loras, settings=settings, seed=3).latents for prompt in prompts)
    assert torch.allclose(strong, weak, atol=1e-6) == alike


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_predictions_of_every_kind(loras: Path, prediction: str) -> None:
    pipe = tiny_sd(prediction)
    composed = run(pipe, PROMPT, loras)
    assert torch.isfinite(composed.latents).all()
    assert composed.masks[0] is not None


def test_sdxl_composes(sdxl: Any, tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        write_lora(tmp_path / f"{name}.safetensors", sdxl, seed)
    clora = run(sdxl, PROMPT, tmp_path, width=128, height=128)
    merge = run(sdxl, PROMPT, tmp_path, width=128, height=128, settings=Settings(method="merge"))
    assert torch.isfinite(clora.latents).all()
    assert not torch.allclose(clora.latents, merge.latents)
    assert hooks(sdxl) == 0


@pytest.mark.parametrize("size", [(128, 128), (192, 96), (64, 160)])
def test_sdxl_is_told_the_size_as_the_pipeline_tells_it(sdxl: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    """Height before width: with a LoRA of no effect the latent is the pipeline's own."""
    write_lora(tmp_path / "cat.safetensors", sdxl, 0, strength=0.0)
    width, height = size
    ours = run(sdxl, "a <lora:cat:1> cat", tmp_path, width=width, height=height, seed=5)
    noise = torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(5))
    theirs = sdxl(
        "a cat", latents=noise, num_inference_steps=3, guidance_scale=7.5, width=width, height=height,
        output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(ours.latents, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(136, 200), (72, 264), (128, 64)])
def test_sizes_that_are_not_square(sd: Any, loras: Path, size: tuple[int, int]) -> None:
    composed = run(sd, PROMPT, loras, width=size[0], height=size[1])
    assert composed.images[0].size == size
    mask = composed.masks[0]
    assert mask is not None
    assert mask.shape == (3, size[1] // 8, size[0] // 8)


def test_corrections_equal_what_the_tags_say(sd: Any, loras: Path) -> None:
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    tags = run(sd, "a <lora:cat:1:trigger=sks:place=left> cat and a <lora:dog:0.8:place=right> dog", loras)
    plain = "a <lora:cat:1> cat and a <lora:dog:0.8> dog"
    rows = {
        "cat": WordsOverride(trigger="sks", painted=Painted(left)),
        "dog": WordsOverride(place="right"),
        "cta": WordsOverride(words="cat"),
    }
    given = run(sd, plain, loras, corrections=rows)
    assert torch.equal(given.latents, tags.latents)
    assert not torch.equal(given.latents, run(sd, plain, loras).latents)
    assert any('"cta" are ignored' in warning for warning in given.warnings)


def test_a_batch_equals_its_images_alone(loras: Path) -> None:
    """In float64, because a random network blows up the rounding that batches differ by."""
    sd = tiny_sd().to(torch.float64)
    other = "a <lora:dog:1> dog beside a <lora:cat:0.5> big cat, <lora:ink:1:role=style>"
    prompts = [PROMPT, other, f"{PROMPT} and a fox"]
    settings = Settings()
    together = run(sd, prompts, loras, seed=1, settings=settings)
    alone = [run(sd, text, loras, seed=seed, settings=settings) for seed, text in enumerate(prompts, start=1)]
    for image, single in enumerate(alone):
        torch.testing.assert_close(together.latents[image], single.latents[0], rtol=1e-3, atol=1e-3)
        assert torch.equal(together.masks[image], single.masks[0])


MIXED = [
    ["a <lora:ink:0.7> big (cat:1.2)", PROMPT],
    [PROMPT, "a cat on grass", "a <lora:ink:0.7:trigger=sketched> drawing, detailed <lora:dog:0.3:role=off>"],
]


@pytest.mark.parametrize("prompts", MIXED)
@pytest.mark.parametrize("method", ["clora", "merge", "composite", "switch"])
def test_a_prompt_that_does_not_compose_is_drawn_beside_others(loras: Path, prompts: list[str], method: str) -> None:
    sd, settings = tiny_sd().to(torch.float64), Settings(method=method, refine_updates=2)
    together = run(sd, prompts, loras, seed=1, settings=settings)
    for image, prompt in enumerate(prompts):
        single = run(sd, prompt, loras, seed=1 + image, settings=settings)
        torch.testing.assert_close(together.latents[image], single.latents[0], rtol=0, atol=1e-6)
        mask, own = together.masks[image], single.masks[0]
        assert (mask is None) == (own is None)
        assert mask is None or torch.equal(mask, own)
        note = single.compositions[0].note
        assert not note or f"Image {image + 1} of the batch: {note}" in together.warnings


@pytest.mark.parametrize(("role", "left"), [("", True), (":role=off", True), (":role=style", False)])
def test_a_lora_without_a_file_is_no_error_if_it_is_left_to_the_host(
    sd: Any, loras: Path, role: str, left: bool
) -> None:
    prompt = f"{PROMPT}, <lora:add_detail_xx:0.5{role}>"
    if left:
        found = run(sd, prompt, loras)
        assert torch.equal(found.latents, run(sd, PROMPT, loras).latents)
        (note,) = [text for text in found.warnings if text.startswith("Drawn without")]
        assert note.startswith('Drawn without the LoRA "add_detail_xx". There is no LoRA "add_detail_xx" among')
    else:
        with pytest.raises(CLoRAError, match="There is no LoRA"):
            run(sd, prompt, loras)


def test_a_long_prompt_does_not_change_the_others_of_its_batch() -> None:
    sd = tiny_sd().to(torch.float64)
    long = f"{'very ' * 160} big cats"
    prompts = ["a big cat", long]
    texts = [[TextGroup((ResolvedText.whole(one),), 0, False)] for one in prompts]
    assert [len(TextEncoding(sd).encode_groups(of, [()])[0][0].context) for of in texts] == [77, 3 * 77]
    together = compose(sd, prompts, loras={}, steps=2, seed=1, negative_prompt="bad")
    assert not any("lengths" in text for text in together.warnings)
    for image, prompt in enumerate(prompts):
        single = compose(sd, prompt, loras={}, steps=2, seed=1 + image, negative_prompt="bad")
        torch.testing.assert_close(together.latents[image], single.latents[0], rtol=0, atol=1e-8)


def test_more_than_75_tokens_weights_break_and_scheduling(sd: Any, loras: Path) -> None:
    prompt = f"[dawn:night:0.5] BREAK {'very ' * 80} a <lora:cat:1> (cat:1.3) and a <lora:dog:1> [small|big] dog"
    composed = run(sd, prompt, loras, steps=4)
    assert torch.isfinite(composed.latents).all()


def test_words_scheduled_away_at_every_step_are_an_error(sd: Any, loras: Path) -> None:
    with pytest.raises(CLoRAError, match="cat"):
        run(sd, "a <lora:cat:1:words=cat> [cat::0] and a <lora:dog:1> dog", loras)


@pytest.mark.parametrize("method", ["merge", "composite", "switch"])
def test_other_methods_have_all_loras_and_no_masks(sd: Any, loras: Path, method: str) -> None:
    composed = run(sd, PROMPT, loras, settings=Settings(method=method))
    assert composed.masks == (None,)
    assert not torch.allclose(composed.latents, run(sd, PROMPT, loras).latents)


def test_merge_equals_the_loras_merged_into_the_weights(sd: Any, loras: Path) -> None:
    """What a plain WebUI does with the same prompt: W + weight * alpha / rank * up @ down."""
    ours = run(sd, PROMPT, loras, settings=Settings(method="merge"), seed=2)
    pipe = tiny_sd()
    for name, weight in (("cat", 1.0), ("dog", 0.8)):
        tensors = load_file(loras / f"{name}.safetensors")
        for prefix, root in (("lora_unet", pipe.unet), ("lora_te", pipe.text_encoder)):
            for path, module in root.named_modules():
                key = f"{prefix}_{path.replace('.', '_')}"
                if f"{key}.alpha" in tensors:
                    up, down = tensors[f"{key}.lora_up.weight"], tensors[f"{key}.lora_down.weight"]
                    module.weight.data += weight * tensors[f"{key}.alpha"] / down.shape[0] * up @ down
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    theirs = pipe("a sks cat and a dog", latents=noise, num_inference_steps=3, guidance_scale=7.5).images[0]
    difference = np.abs(np.asarray(ours.images[0], dtype=float) - np.asarray(theirs, dtype=float))
    assert difference.max() <= 2


def test_the_pipeline_is_left_as_it_was(sd: Any, loras: Path) -> None:
    weights = {name: tensor.clone() for name, tensor in sd.unet.state_dict().items()}
    trained = [p.requires_grad for p in sd.unet.parameters()]

    def interrupt(event: object) -> None:
        if isinstance(event, Step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sd, PROMPT, loras, observer=interrupt)
    run(sd, PROMPT, loras)
    assert hooks(sd) == 0
    assert [p.requires_grad for p in sd.unet.parameters()] == trained
    assert all(torch.equal(tensor, weights[name]) for name, tensor in sd.unet.state_dict().items())


def test_composing_inside_inference_mode(sd: Any, loras: Path) -> None:
    expected = run(sd, PROMPT, loras)
    with torch.inference_mode():
        inside = run(sd, PROMPT, loras)
    assert torch.equal(expected.latents, inside.latents)


def test_bfloat16(loras: Path) -> None:
    pipe = tiny_sd().to(torch.bfloat16)
    composed = run(pipe, PROMPT, loras)
    assert composed.latents.dtype == torch.float32
    assert torch.isfinite(composed.latents).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 130}, "width 130 is not divisible by 8: use 128"),
        ({"steps": 0}, "number of steps is 0"),
        ({"seed": 2**70}, "seed .* is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"guidance": float("nan")}, "guidance scale is nan"),
    ],
)
def test_values_out_of_range(sd: Any, loras: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CLoRAError, match=sentence):
        run(sd, PROMPT, loras, **options)


def test_an_unknown_lora_gets_the_nearest_names(sd: Any, loras: Path) -> None:
    with pytest.raises(CLoRAError, match=r"kat.*cat"):
        run(sd, "a <lora:kat:1> cat and a <lora:dog:1> dog", loras)
    named = {"cat": loras / "cat.safetensors"}
    with pytest.raises(CLoRAError, match=r"kat.*cat"):
        compose(sd, "a <lora:kat:1> cat and a <lora:cat:1> dog", loras=named)


def test_other_architectures_are_refused(sd: Any, loras: Path) -> None:
    inpainting = tiny_sd(in_channels=9)
    with pytest.raises(CLoRAError, match="takes 9 channels instead of 4"):
        run(inpainting, PROMPT, loras)

    class FluxPipeline:
        text_encoder = sd.text_encoder

    with pytest.raises(CLoRAError, match="cannot compose with a FluxPipeline"):
        run(FluxPipeline(), PROMPT, loras)


def test_warnings_of_the_run_reach_the_user(loras: Path) -> None:
    pipe = tiny_sd()
    for name, parameter in pipe.unet.named_parameters():
        if "attn2.to_q" in name:
            torch.nn.init.zeros_(parameter)
    write_lora(loras / "cat.safetensors", pipe, 0, strength=0.0)
    write_lora(loras / "dog.safetensors", pipe, 1, strength=0.0)
    assert any("constant" in warning for warning in run(pipe, PROMPT, loras).warnings)


def test_own_words_and_a_subject_without_a_lora(sd: Any, loras: Path) -> None:
    tagged = run(sd, "a <lora:cat:1:say=(red scarf:1.2), x> cat and a <lora:dog:0.8> dog", loras)
    plain = "a <lora:cat:1> cat and a <lora:dog:0.8> dog"
    rows = {"cat": WordsOverride(say="(red scarf:1.2), x")}
    assert torch.equal(run(sd, plain, loras, corrections=rows).latents, tagged.latents)
    assert not torch.equal(run(sd, plain, loras).latents, tagged.latents)
    third = run(sd, f"{plain} and a <clora:bird:place=left:say=green> bird", loras)
    assert third.masks[0].shape[0] == 4
    assert [concept.label for concept in third.compositions[0].concepts] == ["cat (cat)", "dog (dog)", "bird"]
    assert third.warnings == ()


def test_own_words_change_their_own_variant_only(sd: Any, loras: Path) -> None:
    texts = [f"a <lora:cat:1{say}> cat and a <lora:dog:0.8> dog" for say in ("", ":say=red scarf")]
    settings = Settings("exact", update_until=0.0, refine_updates=0)
    seen: list[Any] = []
    for text in texts:
        run(sd, text, loras, steps=1, settings=settings, observer=seen.append)
    first, second = (event.prediction.rows for event in seen)
    same = {row.variant: torch.allclose(first[row], second[row], atol=1e-5) for row in first if row.conditional}
    assert same == {0: True, 1: False, 2: True}
