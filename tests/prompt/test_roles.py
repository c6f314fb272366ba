"""Prompts as people have them: what a LoRA is and which words it draws, found from evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clora.errors import CLoRAError
from clora.prompt import Composition, LoraUse, WordsOverride, WordsSource, analyze
from clora.prompt.evidence import Evidence, evidence_of, evidence_of_files

TAIL = "a <lora:tabby:1> cat and a <lora:collie:1> dog"


def found(composition: Composition) -> dict[str, str]:
    """LoRA -> words of the concepts that are composed."""
    assert composition.composes, composition.note
    return {use.name: concept.words for concept in composition.concepts for use in concept.loras}


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("<lora:add_fine_details:0.5> best quality", "details"),
        ("<lora:sdxl_lightning_4step:1>", "4step"),
        ("<lora:LCM-lora-test:1>", "lcm"),
        ("<lora:dmd2_8k:1>", "dmd2"),
        ("<lora:Turbo_XL:1>", "turbo"),
        ("<lora:weightSlider:2> masterpiece", "slider"),
        ("<lora:oldcartoonstyle:0.7> oldtoon", "oldcartoonstyle"),
        ("<lora:noirStyle_v3:0.7> noir", "style"),
        ("<lora:watercolor_v2:0.5>", "watercolor"),
        ("<lora:my_mood:0.5> dusky style", "dusky style"),
        ("in the style of qmz <lora:qmz:0.5>", "qmz"),
        ("<lora:plump:-1> round", "negative"),
        ("<lora:unknown:0.4>", "no words"),
    ],
)
def test_what_is_no_subject_is_left_to_the_host_with_one_note(tag: str, why: str) -> None:
    composition = analyze(f"{tag}, {TAIL}")
    assert found(composition) == {"tabby": "cat", "collie": "dog"}
    (warning,) = composition.warnings
    assert warning.startswith("Applied to the whole picture, not composed: ")
    assert why in warning
    assert "words=" in warning
    assert tag[tag.index("<") : tag.index(">") + 1] in composition.host_text


def test_a_wish_goes_before_the_evidence() -> None:
    text = "a <lora:line_style:1{}> cat and a <lora:collie:1> dog"
    assert not analyze(text.format("")).composes
    assert found(analyze(text.format(":role=concept"))) == {"line_style": "cat", "collie": "dog"}
    assert found(analyze(text.format(":words=cat"))) == {"line_style": "cat", "collie": "dog"}
    rows = {"line_style": WordsOverride(role="concept")}
    assert found(analyze(text.format(""), overrides=rows)) == {"line_style": "cat", "collie": "dog"}


def test_all_wishes_that_cannot_be_met_are_in_one_answer() -> None:
    with pytest.raises(CLoRAError) as error:
        analyze(f"{TAIL}, <lora:a:1:role=concept>, <lora:b:1:words=fox>")
    assert '"a"' in str(error.value)
    assert '"fox"' in str(error.value)
    with pytest.raises(CLoRAError, match=r'"hero".*"x"'):
        analyze("<lora:a:1:role=hero> <lora:b:x>")


def test_one_unknown_lora_does_not_stop_the_others() -> None:
    for prompt in (
        "photo, <lora:foo:1>, <lora:bar:0.5>",
        "1girl, <lora:foo:0.8>, detailed, <lyco:bar>, <lora:baz:1.2>",
    ):
        composition = analyze(prompt)
        assert not composition.composes
        assert composition.host_text == prompt
        assert composition.note.count('"foo"') == 1


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("2girls, <lora:Rin_Tohsaka_v4:1>, Rin_Tohsaka, red shirt, <lora:MaiShira:1>, ((long hair)), mai shira",
         {"Rin_Tohsaka_v4": "Rin_Tohsaka", "MaiShira": "mai shira"}),
        ("2girls, <lora:K_ono_il_v3:1>, k_o, <lora:runa:1>, runa, smile", {"K_ono_il_v3": "k_o", "runa": "runa"}),
        ("2boys, ayanobu \\(series\\), torvik \\(series\\), <lora:seriesAyanobuThe:1>, <lora:seriesTorvik_v1:1>",
         {"seriesAyanobuThe": "ayanobu \\(series\\)", "seriesTorvik_v1": "torvik \\(series\\)"}),
        ("score_9, 2girls, (sena_kirin, <lora:sena_v1:1>, red hair), (mato, <lora:mato_v1:1>, blue hair)",
         {"sena_v1": "sena_kirin", "mato_v1": "mato"}),
        ("2girls, lena brandt, black coat, mira holt, park, <lora:LenaBrandt_v2:1>, <lora:mira_holt:1>",
         {"LenaBrandt_v2": "lena brandt", "mira_holt": "mira holt"}),
        ("a boy called Otto <lora:otto:1> stands beside a girl called Ida <lora:ida:1>.",
         {"otto": "Otto", "ida": "Ida"}),
        ("a photo of Otto and Ida on a bench <lora:otto_flux:1> <lora:ida_flux:1>",
         {"otto_flux": "Otto", "ida_flux": "Ida"}),
        ("a woman <lora:p_one:1> sitting next to a man <lora:p_two:1>", {"p_one": "woman", "p_two": "man"}),
        ("zubat riding onixar, <lora:zubat:1>, <lora:onixar:1>, <lora:film-still:1>",
         {"zubat": "zubat", "onixar": "onixar"}),
        ("2girls, <lora:ann:1> ann \\(a: b c\\), red hair, <lora:bea:1> bea",
         {"ann": "ann \\(a: b c\\)", "bea": "bea"}),
        ("<lora:ann:1> girl hugging <lora:bea:1> bear which smiles", {"ann": "girl", "bea": "bear"}),
        ("a <lora:ann:1> cat sitting on a chair, a <lora:bea:1> flying dragon", {"ann": "cat", "bea": "flying dragon"}),
        ("2girls, otto ADDCOL <lora:otto:1> ADDCOL ida <lora:ida:1> red dress", {"otto": "otto", "ida": "ida"}),
        ("1boy, 1girl, <lora:ann:1> 1girl, red hair, <lora:ben:1> 1boy, hat", {"ann": "1girl", "ben": "1boy"}),
    ],
)  # fmt: skip
def test_words_of_names(prompt: str, words: dict[str, str]) -> None:
    assert found(analyze(prompt)) == words


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("hair", "red hair"),
        ("score", "score_9"),
        ("count", "2girls"),
        ("quality", "best quality"),
        ("looking", "smile"),
    ],
)
def test_general_words_are_no_subject(tag: str, words: str) -> None:
    known = {tag: Evidence(tags=((words, 9),)), "zed": Evidence(tags=(("zed", 9),))}
    composition = analyze(f"2girls, {words}, zed, <lora:{tag}:1>, <lora:zed:1>", evidence=lambda name: known[name])
    assert not composition.composes
    assert f'"{tag}"' in composition.note


def test_training_tags_that_stand_in_the_prompt() -> None:
    known = {
        "one": Evidence(tags=(("1girl", 90), ("solo", 90), ("qwe rty", 80), ("red hair", 80), ("hat", 5))),
        "two": Evidence(tags=(("1girl", 50), ("uio_pas", 50), ("blue hair", 40))),
    }
    prompt = "2girls, qwe rty, uio pas, red hair, blue hair, hat, <lora:one:1>, <lora:two:1>"
    composition = analyze(prompt, evidence=lambda name: known[name])
    assert found(composition) == {"one": "qwe rty", "two": "uio pas"}
    assert {concept.words_source for concept in composition.concepts} == {WordsSource.TRAINING}


def test_tags_before_or_after_a_sentence_with_both_subjects() -> None:
    known = {"ulf": Evidence(("qwe man",)), "eva": Evidence(("asd woman",))}
    for prompt in ("{}photo of qwe man and asd woman in a park", "photo of qwe man and asd woman in a park {}"):
        for tags in ("<lora:ulf:1> <lora:eva:0.9> ", "<lora:ulf:1>, <lora:eva:0.9>, "):
            read = analyze(prompt.format(tags), evidence=lambda name: known[name])
            assert found(read) == {"ulf": "qwe man", "eva": "asd woman"}
    assert found(analyze("<lora:ulf:1> close-up photo of a man, <lora:eva:1> woman")) == {"ulf": "man", "eva": "woman"}
    assert not analyze("a cat and a dog <lora:ulf:1><lora:eva:1>").composes


def test_more_triggers_than_persons() -> None:
    composition = analyze("2girls, ulla, reni, glowy, park, <lora:ulla:1>, <lora:reni_v1:1>, <lora:glowy_xl:0.6>")
    assert found(composition) == {"ulla": "ulla", "reni_v1": "reni"}
    assert "2 persons" in composition.warnings[0]


def test_triggers_alone_do_not_make_one_person_two() -> None:
    known = {"ina": Evidence(("inart",)), "moq": Evidence(("moqueart",))}
    for tail in ("<lora:ina:1> <lora:moq:1>", "<lora:ina:1>, <lora:moq:1>"):
        assert not analyze(f"inart, moqueart, a branch, {tail}", evidence=lambda name: known[name]).composes
    assert not analyze("1girl, solo, <lora:ina:1> inart, <lora:moq:1> moqueart").composes


def test_clothes_are_a_part_of_one_subject() -> None:
    prompt = "1girl, solo, princess, <lora:dress:0.5>, <lora:gold_dress:0.9>,gold dress, <lora:hand_fix:0.4>,hand"
    assert not analyze(prompt).composes


def test_files_of_one_character_are_one_concept() -> None:
    prompt = "2girls, zorin, <lora:c\\1-zorin.safetensors:0.7> <lora:c\\2-zorin.safetensors:0.7>, kiva, <lora:kiva:1>"
    first, second = analyze(prompt).concepts
    assert [use.name for use in first.loras] == ["c\\1-zorin.safetensors", "c\\2-zorin.safetensors"]
    assert (first.words, second.words) == ("zorin", "kiva")


def test_the_weights_of_a_lora_that_is_there_twice_add() -> None:
    composition = analyze("a <lora:tabby:0.5:1><lora:tabby:0.25> cat and a <lora:collie:1> dog")
    assert composition.concepts[0].loras == (LoraUse("tabby", 0.75, 1.25),)
    assert composition.merged.loras == (LoraUse("tabby", 0.75, 1.25), LoraUse("collie"))
    assert analyze("x, <lora:odd:0.5>, <lora:odd:0.5>").off == (LoraUse("odd"),)
    apart = analyze("a <lora:tabby:0.5> cat, a <lora:tabby:1> dog")
    assert [concept.loras for concept in apart.concepts] == [(LoraUse("tabby", 0.5, 0.5),), (LoraUse("tabby"),)]


@pytest.mark.parametrize(
    "weights", ["0.8:1,0,0,0,1", "0.8:0.8:OUTALL", "0.8:lbw=1,0,1", "0.8:1:1:lbw=MID", "0.8:IN02-MID"]
)
def test_block_weights_are_left_to_their_extension(weights: str) -> None:
    composition = analyze(f"a <lora:tabby:{weights}> cat and a <lora:collie:1> dog")
    assert composition.concepts[0].loras[0].te == 0.8
    (warning,) = [one for one in composition.warnings if "other extensions" in one]
    assert '"tabby"' in warning
    assert "write 12, 17, 20 or 26 numbers" in warning


@pytest.mark.parametrize("weights", ["0.8:{}", "0.8:lbw={}", "0.8:0.8:1:{}", "0.8:lbw={}:start=3", "te=0.8:w={}"])
def test_block_weights_of_numbers_are_used(weights: str) -> None:
    numbers = tuple(i / 10 for i in range(12))
    tag = weights.format(",".join(map(str, numbers)))
    composition = analyze(f"a <lora:tabby:{tag}> cat and a <lora:collie:1> dog")
    (use,) = composition.concepts[0].loras
    assert (use.te, use.blocks) == (0.8, numbers)
    assert composition.variants[1].loras == (use,)
    assert use in composition.merged.loras
    warnings = " ".join(composition.warnings)
    assert ("start=3" in warnings) == ("start" in weights)
    assert "lbw" not in warnings
    assert "numbers" not in warnings


def test_weights_add_where_the_blocks_are_the_same() -> None:
    blocks, others = (",".join([one] * 12) for one in ("1", "0.5"))
    text = "a <lora:tabby:0.5:lbw={}> cat <lora:tabby:0.25:lbw={}> and a <lora:collie:1> dog"
    (one,) = analyze(text.format(blocks, blocks)).concepts[0].loras
    assert (one.unet, len(one.blocks)) == (0.75, 12)
    two = analyze(text.format(blocks, others))
    assert [use.unet for use in two.concepts[0].loras] == [0.5, 0.25]
    assert two.concepts[0].loras == two.merged.loras[:2]


def test_and_is_drawn_as_the_host_draws_it() -> None:
    for word in ("AND", "AND_PERP"):
        composition = analyze(f"a <lora:tabby:1> cat {word} a <lora:collie:1> dog")
        assert composition.host_text == composition.source
        assert f"{word} is not supported" in composition.note


def test_evidence_in_files(tmp_path: Path) -> None:
    tags = {"5_sks cat": {"cat": 9, "sitting": 2}, "more": {"cat": 1, "odd": "x"}, "broken": 3}
    metadata = {"ss_tag_frequency": json.dumps(tags), "ss_output_name": "cat", "modelspec.trigger_phrase": "sks cat"}
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
    (tmp_path / "a.json").write_text('{"activation text": "sks"}', encoding="utf-8")
    known = evidence_of_files({"a": tmp_path / "a.safetensors", "gone": tmp_path / "b.safetensors"}.__getitem__)
    assert known("a").texts == ("sks", "sks cat")
    assert known("a").tags == (("cat", 10), ("sks cat", 9), ("sitting", 2))
    assert known("a").names == ("cat",)
    assert known("gone") == known("unknown") == Evidence()
    for text in ("[]", "{", '{"a": [1]}', "[" * 100_000):
        assert evidence_of({"ss_tag_frequency": text}) == Evidence()
    assert analyze("a cat, <lora:a:1>", evidence=lambda name: Evidence(kinds=("style",))).styles == (LoraUse("a"),)


def test_counts_and_praise_in_an_activation_text_are_no_trigger() -> None:
    known = {"one": Evidence(("1girl, solo, onora, red hair",)), "two": Evidence(("masterpiece, twyla",))}
    composition = analyze("2girls, onora, twyla, <lora:one:1>, <lora:two:1>", evidence=lambda name: known[name])
    assert found(composition) == {"one": "onora", "two": "twyla"}
    assert {variant.text for variant in composition.variants} == {"2girls, onora, twyla"}


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("a woman in a plush coat, <lora:fur:0.7> plush coat, <lora:iris:0.5> fine eyes", {}),
        ("a road, <lora:one:0.8> oldish style, <lora:two:0.6> moody colors", {}),
        ("a diver, in the style of zaxx and yoxx, <lora:z1:0.6>, <lora:y1:0.5>", {"z1": ["zaxx"], "y1": ["yoxx"]}),
        ("scenery, <lora:hill:0.8> snowy mountain, <lora:dusk:0.5> city background", {}),
        ("1girl, ciara, <lora:ciara:0.8>, plate armor, <lora:plate_armor:0.6>", {"ciara": ["ciara, 1girl"]}),
    ],
)
def test_styles_clothes_and_places_are_left_to_the_host(prompt: str, known: dict[str, list[str]]) -> None:
    composition = analyze(prompt, activation_text=known)
    assert not composition.composes
    assert composition.host_text == prompt


def test_who_was_trained_on_persons_goes_before_a_trigger_beside_a_tag() -> None:
    known = {"ciara": ["ciara, 1girl"], "gerd": ["gerd, 1boy"]}
    prompt = "1girl, 1boy, ciara, gerd, <lora:ciara:0.8>, <lora:gerd:0.8>, <lora:w_world:0.5> kaera mort"
    assert found(analyze(prompt, activation_text=known)) == {"ciara": "ciara", "gerd": "gerd"}


def test_a_style_word_before_tags_says_nothing_of_a_lora_that_the_prompt_names() -> None:
    text = "two friends, mirtok and sontok, on a bench, {} <lora:mirtok_v3:1><lora:sontok_v3:1>"
    assert found(analyze(text.format("photo"))) == {"mirtok_v3": "mirtok", "sontok_v3": "sontok"}
    styles = analyze("a <lora:tabby:1> cat and a <lora:collie:1> dog, watercolor <lora:watercolor_x:1>")
    assert found(styles) == {"tabby": "cat", "collie": "dog"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # A tag after its subject, and after what the subject has.
        ("a lady in a grey coat <lora:qa:1> and a man with a beard <lora:qb:1>, garden", ("lady", "man")),
        ("1girl with pink hair <lora:qa:1>, 1boy with glasses <lora:qb:1>", ("1girl", "1boy")),
        ("(green hair girl, <lora:qa:1>), (grey hair boy, <lora:qb:1>), street", ("green hair girl", "grey hair boy")),
        ("an old man wearing a hat <lora:qa:1> beside a small dog <lora:qb:1>", ("old man", "small dog")),
        # A participle before a preposition ends a subject.
        ("<lora:qa:1> van parked beside <lora:qb:1> barn painted in red", ("van", "barn")),
        ("<lora:qa:1> old wounded knight and <lora:qb:1> hooded witch", ("old wounded knight", "hooded witch")),
        # Two names that the prompt joins, or counts.
        ("mirkan and drofel racing in a canyon, <lora:mirkan_v1:1>, <lora:drofel_v1:1>", ("mirkan", "drofel")),
        ("mirkan vs drofel, <lora:mirkan_v1:1> <lora:drofel_v1:1>", ("mirkan", "drofel")),
        ("(mirkan:1.2) <lora:mirkan_v1:1> and (drofel:1.1) <lora:drofel_v1:1> on a stage", ("mirkan", "drofel")),
        ("1girl, mirkan, <lora:mirkan_v1:1>, 1girl, drofel, <lora:drofel_v1:1>, library", ("mirkan", "drofel")),
        # Other languages; capitals are names.
        ("Foto: <lora:mirkan_v1:1> mirkan und <lora:drofel_v1:1> drofel im Garten", ("mirkan", "drofel")),
        ("<lora:qa:1> ET alien and <lora:qb:1> MIT student", ("ET alien", "MIT student")),
    ],
)
def test_which_words_two_tags_in_a_row_have(text: str, words: tuple[str, str]) -> None:
    assert tuple(found(analyze(text)).values()) == words


def test_names_of_relatives_find_the_nouns_of_a_prompt() -> None:
    text = "qvx man and zvx woman in a boat <lora:our_dad:1> <lora:mom_v2:1>"
    assert found(analyze(text)) == {"our_dad": "man", "mom_v2": "woman"}
    assert not analyze("two women in a boat <lora:mom_v2:1> <lora:our_aunt:1>").composes


@pytest.mark.parametrize(
    ("notes", "why"),
    [
        ({"description": "Adds more contrast and detail to any picture."}, 'its description says "adds more contrast"'),
        ({"description": "An art style of old posters"}, 'its description says "art style"'),
        ({"preferred weight": -1.5}, "its preferred weight is negative"),
        ({"description": "My girl Mirkan in an art style", "preferred weight": 0.8}, ""),
        ({"description": ["a list"], "preferred weight": "x"}, ""),
    ],
)
def test_the_user_s_description_and_preferred_weight_are_evidence(
    notes: dict[str, object], why: str, tmp_path: Path
) -> None:
    for name in ("mirkan", "tabby", "collie"):
        save_file({"stub.weight": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "mirkan.json").write_text(json.dumps(notes), encoding="utf-8")
    evidence = evidence_of_files(lambda name: tmp_path / f"{name}.safetensors")
    composition = analyze(f"2girls, mirkan, {TAIL} <lora:mirkan:1>", evidence=evidence)
    expected = {"tabby": "cat", "collie": "dog"} | ({} if why else {"mirkan": "mirkan"})
    assert found(composition) == expected
    assert why in " ".join(composition.warnings)


def test_numbers_of_names_that_the_prompt_has_tell_loras_apart() -> None:
    text = "photo of member_1 and member_2 in a boat <lora:member_1:1><lora:member_2:1>"
    assert found(analyze(text)) == {"member_1": "member_1", "member_2": "member_2"}
