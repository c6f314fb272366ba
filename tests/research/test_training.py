"""Training of the characters' model: tokens, grounding, data files, checkpoints, LoRA files; all of it tiny."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from research.characters import grounding, vae
from research.characters.art import stand_in
from research.characters.base import Trainer
from research.characters.batches import CLOSE, CROP, Examples, crops, examples, prepare, stream
from research.characters.captions import Caption, Piece, Writer
from research.characters.kohya import metadata, tag_frequency
from research.characters.latents import STEP, Data, encode, load_data, save_data
from research.characters.lessons import LESSONS
from research.characters.loras import Pictures, add_lora, train, weighted
from research.characters.model import CHANNELS, Tokens, new_text_encoder, new_tokenizer, new_unet
from research.characters.parts import FILES, Parts, labels
from research.characters.pool import Pool
from research.characters.render import Renderer
from research.characters.scene import Subject, random_scene
from research.characters.vae import new_vae
from research.characters.words import WORDS
from research.shared.diffusion import pipeline
from research.shared.kohya import tensors, write
from research.shared.muon import Muon, orthogonal
from research.shared.training import to_tensor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data() -> Data:
    rng = random.Random(0)
    torch.manual_seed(0)
    return encode(new_vae(), Renderer(stand_in()), [random_scene(rng) for _ in range(6)])


@pytest.fixture
def args(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setitem(CHANNELS, "tiny", (8, 8, 16, 16))
    return argparse.Namespace(
        device="cpu", size="tiny", steps=10, seconds=0.0, batch=2, lr=1e-2, decay=0.9, grounding=0.2, parts=0.2,
        power=2.0, rank=2, prior=0.5, seed=0, pictures=6, fall=0.5, bf16=False,
        convolutions=False, warm=None,
    )  # fmt: skip


def test_tokens_are_those_of_the_whole_caption() -> None:
    tokens, rng = Tokens(new_tokenizer()), random.Random(1)
    for _ in range(40):
        caption = Writer(rng).caption(random_scene(rng))
        whole = tokens.tokenizer(caption.text, padding="max_length", max_length=77).input_ids
        assert tokens.ids([[piece.text for piece in caption.pieces]])[0].tolist() == whole
    assert tokens.ids([[]]).tolist() == [[49406] + 76 * [49407]]


def test_grounding_is_zero_where_maps_are_the_silhouettes() -> None:
    shape = torch.zeros(2, 16, 16)
    shape[0, :, :8], shape[1, :, 8:] = 1, 1
    caption = Caption((Piece("a"), Piece("fox", (0,)), Piece("and"), Piece("two cats", (1,))))
    spans = [caption.spans(lambda text: len(text.split()))]
    assert spans == [[(range(2, 3), (0,)), (range(4, 6), (1,))]]
    good = {8: torch.rand(1, 64, 77), 16: torch.rand(1, 256, 77)}
    for grid, maps in good.items():
        small = torch.nn.functional.adaptive_avg_pool2d(shape, grid).flatten(1)
        maps[0, :, 2], maps[0, :, 4], maps[0, :, 5] = small[0], 0.1 * small[1], small[1]
    assert grounding.loss(good, *grounding.targets(spans, [shape])) < 1e-5
    assert grounding.loss(good, *grounding.targets(spans, [shape.flip(0)])) > 0.9
    assert grounding.loss(good, *grounding.targets([[]], [shape])) == 0


def test_data_files_are_read_as_written(data: Data, tmp_path: Path) -> None:
    save_data(data, tmp_path / "latents-0.pt")
    found = load_data(tmp_path / "latents-0.pt", tmp_path / "latents-0.pt")
    assert found.scenes == data.scenes + data.scenes
    assert torch.equal(found.latents[:6], data.latents)
    assert all(torch.equal(a, b) for a, b in zip(found.silhouettes[:6], data.silhouettes, strict=True))
    latents, silhouettes = data.take([3, 1])
    assert torch.equal(latents, data.latents[[3, 1]] * STEP)
    assert all(shape.max() <= 1 for shape in silhouettes)


def test_a_crop_shows_and_names_what_is_in_it(data: Data, args: argparse.Namespace) -> None:
    found = crops(data, 40, random.Random(0))
    windows = data.latents.float().unfold(2, CROP, 2).unfold(3, CROP, 2).movedim((2, 3), (1, 2)) * STEP
    named = 0
    for latent, caption, shape in zip(found.latents, found.captions, found.silhouettes, strict=True):
        scene, y, x = (windows == latent).flatten(3).all(-1).nonzero()[0].tolist()
        whole = data.silhouettes[scene].float() / 255
        inside = whole[:, y : y + 8, x : x + 8]
        seen = inside.sum((1, 2)) > 0.5 * whole.sum((1, 2))
        subjects = {i for piece in caption.pieces for i in piece.subjects}
        assert subjects <= {*range(len(shape))}
        assert torch.equal(shape, inside[seen])
        if caption.pieces:
            assert CLOSE in caption.text
            assert subjects == {*range(int(seen.sum()))}
            nouns = [one.kind for one, kept in zip(data.scenes[scene].subjects, seen.tolist(), strict=True) if kept]
            named += sum(noun in caption.text for noun in nouns)
    assert named > 20
    trainer = Trainer(args)
    trainer.prepare()
    assert trainer.update(prepare(found, Tokens(new_tokenizer()))) > 0
    assert 0 < trainer.loss.off.item() < 1


def test_a_training_starts_from_an_exported_model(args: argparse.Namespace, tmp_path: Path) -> None:
    args.work = tmp_path
    torch.manual_seed(0)
    first = Trainer(args)
    first.export(tmp_path / "model")
    torch.manual_seed(1)
    second = Trainer(args)
    second.start_from(tmp_path / "model")
    model = len(first.parameters) - len(list(first.parts.parameters()))
    for a, b, c in zip(
        first.parameters[:model], second.parameters[:model], second.average.values[:model], strict=True
    ):  # fmt: skip
        assert torch.equal(a.half().float(), b)
        assert torch.equal(b, c)


def test_muon_makes_the_steps_of_newton_and_schulz() -> None:
    for shape in ((3, 12, 40), (2, 40, 12)):
        given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        x = given.double() / given.double().norm(dim=(-2, -1), keepdim=True)
        for _ in range(5):
            square = x @ x.mT
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
        assert torch.allclose(orthogonal(given), x.float(), atol=1e-4)
        assert torch.allclose(orthogonal(given, bf16=True), x.float(), atol=0.03)
        lengths = torch.linalg.svdvals(orthogonal(given))
        assert lengths.min() > 0.5
        assert lengths.max() < 1.3


def test_muon_keeps_the_norm_of_what_does_not_begin_with_zeros() -> None:
    generator = torch.Generator().manual_seed(0)
    full = torch.nn.Parameter(torch.randn(8, 6, generator=generator))
    empty = torch.nn.Parameter(torch.zeros(8, 6))
    before, optimizer = full.detach().clone(), Muon([full, empty], 0.1)
    for _ in range(3):
        full.grad, empty.grad = (torch.randn(8, 6, generator=generator) for _ in range(2))
        optimizer.step()
    assert not torch.allclose(full, before)
    assert float(full.norm()) == pytest.approx(float(before.norm()), rel=1e-5)
    assert float(empty.detach().norm()) > 0


def test_muon_leaves_norms_free_where_it_is_told_to() -> None:
    free = torch.nn.Parameter(torch.eye(6))
    optimizer = Muon([{"params": [free], "free": True}], 0.5)
    free.grad = -torch.eye(6)
    optimizer.step()
    assert float(free.detach().norm()) > 1.1 * 6**0.5


def test_parts_are_those_of_the_subject_that_is_seen() -> None:
    back = Subject("fox", WORDS["fox"].files[0], 64.0, 128.0, 128)
    front = Subject("cat", WORDS["cat"].files[0], 192.0, 128.0, 64)
    shapes = torch.zeros(2, 16, 16)
    shapes[0, 4:12, :8], shapes[1, 6:10, 10:14] = 1, 1
    kinds, places = labels([back, front], shapes)
    assert set(kinds.unique().tolist()) == {0, FILES[back.file], FILES[front.file]}
    assert torch.equal(kinds > 0, shapes.sum(0) > 0)
    assert places[:, 4, 0].tolist() == [0, 0]
    assert places[:, 11, 2].tolist() == [2, 7]
    assert places[:, 9, 13].tolist() == [3, 3]
    assert bool((places[:, kinds == 0] == 0).all())
    of_crop = labels([front], shapes[1:, 4:12, 8:16], 8, 4)
    assert torch.equal(of_crop[0], kinds[4:12, 8:16])
    assert torch.equal(of_crop[1], places[:, 4:12, 8:16])


def test_features_of_any_size_learn_the_parts(data: Data, args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    unet, (kinds, places) = new_unet("tiny"), examples(data, 1, random.Random(0)).labels[0]
    parts = Parts(unet)
    parts.watch(unet)
    features = {n: 5000 * torch.randn(1, unet.up_blocks[n - 1].resnets[-1].out_channels, 16, 16) for n in (2, 3)}
    optimizer, losses = torch.optim.Adam(parts.parameters(), 1e-2), []
    for _ in range(30):
        parts._seen.update({str(n): one for n, one in features.items()})
        loss = parts(kinds[None], places[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] < 10
    assert losses[-1] < 0.7 * losses[0]


def test_a_training_goes_on_from_its_checkpoint(data: Data, args: argparse.Namespace, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trainer, rng = Trainer(args), random.Random(0)
    trainer.prepare()
    drawn = prepare(examples(data, 2, rng), Tokens(new_tokenizer()))
    losses = [trainer.update(drawn) for _ in range(3)]
    assert all(loss == loss for loss in losses)
    trainer.save(tmp_path / "base.pt")
    again = Trainer(args)
    again.load(tmp_path / "base.pt")
    again.prepare()
    assert again.step == 3
    assert all(torch.equal(a, b) for a, b in zip(again.parameters, trainer.parameters, strict=True))
    torch.manual_seed(1)
    one = trainer.update(drawn)
    torch.manual_seed(1)
    assert again.update(drawn) == pytest.approx(one, rel=1e-5)


def test_empty_captions_train_as_well(data: Data, args: argparse.Namespace) -> None:
    trainer = Trainer(args)
    trainer.prepare()
    latents, silhouettes = data.take([0, 1])
    empty = Examples(latents, [Caption(), Caption()], silhouettes, examples(data, 2, random.Random(0)).labels)
    assert trainer.update(prepare(empty, Tokens(new_tokenizer()))) > 0


def test_streams_are_endless_and_the_same_for_the_same_seed(data: Data) -> None:
    first, again, other = (stream(data, 3, seed, 0) for seed in (1, 1, 2))
    next(first), next(again)
    one, two, three = next(first), next(again), next(other)
    assert one.latents.shape == (3, 4, 32, 32)
    assert len(one.rows) == len(one.positions) == len(one.shapes)
    assert torch.equal(one.ids, two.ids)
    assert not torch.equal(one.latents, three.latents)


def test_a_lora_is_trained_and_written_as_kohya_does(data: Data, args: argparse.Namespace, tmp_path: Path) -> None:
    pipe = pipeline(new_unet("tiny"), new_text_encoder(), new_vae(), new_tokenizer())
    lesson = LESSONS["vivid"]
    args.steps = 2
    train(pipe, Pictures(lesson, {1.0: data, -1.0: data}, data), args, random.Random(0))
    about = metadata("vivid", lesson.trigger, ["a fox, night", "a king, night"], args)
    path = write(pipe, tmp_path / "vivid.safetensors", about)
    with safe_open(path, "pt") as file:
        names, kept = set(file.keys()), file.metadata()
        assert any(file.get_tensor(name).abs().max() > 0 for name in names if name.endswith("lora_up.weight"))
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight" in names
    assert any(name.startswith("lora_unet_down_blocks_0_attentions_0_") for name in names)
    assert kept["ss_output_name"] == kept["modelspec.title"] == "vivid"
    assert json.loads(kept["ss_tag_frequency"]) == {"10_vivid": {"night": 2, "a fox": 1, "a king": 1}}


def test_a_lora_goes_on_from_a_file(data: Data, args: argparse.Namespace, tmp_path: Path) -> None:
    lesson, of = LESSONS["genie"], Pictures(LESSONS["genie"], {1.0: data}, data)
    args.lr = 0.1
    kept = list[dict[str, torch.Tensor]]()
    for args.steps, args.warm in ((2, None), (0, tmp_path), (2, tmp_path)):
        pipe = pipeline(new_unet("tiny"), new_text_encoder(), new_vae(), new_tokenizer())
        train(pipe, of, args, random.Random(0))
        kept.append(tensors(pipe.unet, "lora_unet") | tensors(pipe.text_encoder, "lora_te"))
        if args.warm is None:
            write(pipe, tmp_path / "genie.safetensors", metadata("genie", lesson.trigger, ["a fox"], args))
    first, read, longer = kept
    assert all(torch.equal(first[name], read[name]) for name in first)
    grown = [
        name for name in first if name.endswith("lora_up.weight") and longer[name].norm() > 1.2 * first[name].norm()
    ]
    assert len(grown) > 20


def test_a_style_has_convolutions_that_are_read_again(data: Data, args: argparse.Namespace, tmp_path: Path) -> None:
    pipe = pipeline(new_unet("tiny"), new_text_encoder(), new_vae(), new_tokenizer())
    lesson = LESSONS["pencil"]
    args.steps, args.convolutions = 2, True
    train(pipe, Pictures(lesson, {1.0: data}, data), args, random.Random(0))
    path = write(pipe, tmp_path / "pencil.safetensors", metadata("pencil", lesson.trigger, ["a fox"], args))
    with safe_open(path, "pt") as file:
        name = "lora_unet_up_blocks_3_resnets_0_conv1"
        assert file.get_tensor(f"{name}.lora_down.weight").shape[2:] == (3, 3)
        assert json.loads(file.metadata()["ss_network_args"]) == {"conv_dim": 2, "conv_alpha": 2}
    latent, context = torch.randn(1, 4, 32, 32), torch.randn(1, 77, 64)
    trained = pipe.unet(latent, 500, context).sample
    pipe.unet.delete_adapters("default")
    without = pipe.unet(latent, 500, context).sample
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    again = pipe.unet(latent, 500, context).sample
    assert not torch.allclose(without, trained, atol=1e-4)
    torch.testing.assert_close(again, trained, rtol=1e-2, atol=1e-3)


def test_a_weight_holds_within_its_block_only(args: argparse.Namespace) -> None:
    pipe = pipeline(new_unet("tiny"), new_text_encoder(), new_vae(), new_tokenizer())
    add_lora(pipe, 2)
    layer = pipe.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
    before = layer.scaling["default"]
    with weighted(pipe, -1.0):
        assert layer.scaling["default"] == -before
    assert layer.scaling["default"] == before


def test_tags_are_counted_by_commas() -> None:
    assert json.loads(tag_frequency("10_x", ["a fox, night", "night"])) == {"10_x": {"night": 2, "a fox": 1}}


def test_the_decoder_alone_leaves_latents_and_their_scale(tmp_path: Path) -> None:
    args = argparse.Namespace(
        device="cpu", work=tmp_path, warm=None, decoder_only=False, lr=1e-3, steps=10, noise=0.0, seconds=0.0
    )  # fmt: skip
    torch.manual_seed(0)
    pool = Pool((torch.rand(2, 3, 256, 256) * 255).byte(), [random_scene(random.Random(i)) for i in range(2)])
    whole = vae.Trainer(args)
    whole.update(pool.crops(1, random.Random(0), "cpu"))
    whole.save(tmp_path / "vae.pt")
    whole.export(pool)
    scale = vae.load_vae(tmp_path, "cpu").config.scaling_factor
    args.decoder_only, args.noise = True, 0.3
    decoder = vae.Trainer(args)
    decoder.load(tmp_path / "vae.pt", keep_step=False)
    crop = pool.crops(1, random.Random(0), "cpu")
    before = [decoder.vae.encode(crop).latent_dist.mean, decoder.vae.decode(torch.ones(1, 4, 8, 8)).sample]
    decoder.update(crop)
    after = [decoder.vae.encode(crop).latent_dist.mean, decoder.vae.decode(torch.ones(1, 4, 8, 8)).sample]
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    decoder.export(pool)
    assert vae.load_vae(tmp_path, "cpu").config.scaling_factor == scale


def test_the_embedded_autoencoder_keeps_pictures(tmp_path: Path) -> None:
    model = vae.load_vae(tmp_path, "cpu")
    rng, renderer = random.Random(5), Renderer(stand_in())
    drawn = torch.stack([to_tensor(renderer.layers(random_scene(rng))[0]) for _ in range(3)])
    pictures = drawn.float() / 127.5 - 1
    with torch.no_grad():
        latents = model.encode(pictures).latent_dist.mean
        back = model.decode(latents).sample.clamp(-1, 1)
    assert 127.5 * float((back - pictures).abs().mean()) < 4  # 1.8 when it was trained; 60 without training
    assert 0.8 < float(latents.std()) * model.config.scaling_factor < 1.25
