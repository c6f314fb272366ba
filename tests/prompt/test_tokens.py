from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clora.errors import CLoRAError
from clora.prompt import PromptTokens, ResolvedText, Span, analyze, encode_layout, find_positions, schedule
from clora.prompt.tokens import scheduled_positions
from tests.prompt.conftest import BOS, COMMA, EOS, Clip
from tests.timing import Clock

Letters = Callable[[str], list[int]]


def layout(clip: Clip, text: str | ResolvedText, comma_id: int | None = COMMA) -> PromptTokens:
    return encode_layout(text, clip.ids, bos=BOS, eos=EOS, pad=EOS, chunk_length=75, comma_id=comma_id)


def decoded(clip: Clip, tokens: PromptTokens, positions: tuple[int, ...]) -> str:
    return clip.decode([tokens.chunks[row // 77][row % 77] for row in positions])


def at(text: str, word: str, nth: int = 1) -> list[Span]:
    start = -1
    for _ in range(nth):
        start = text.index(word, start + 1)
    return [Span(start, start + len(word))]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a photo of a cat and a dog", "cat"),
        ("a (cat:1.3), [dog]", "cat"),
        ("a unbelievablecatlike thing", "unbelievablecatlike"),
        ("1girl, solo", "1girl"),
        ("a cat's hat", "cat"),
        ("don't, rock'n'roll", "rock'n'roll"),
        ("old-time (black-cat)", "black-cat"),
        ("a café 🐱🐶 house", "🐶"),
        ("一只猫和一只狗", "狗"),
        ("ein Mädchen, девушка", "девушка"),
        ("a,cat,b", "cat"),
        ("A CAT", "CAT"),
    ],
)
def test_positions_hold_the_words_tokens(clip: Clip, text: str, word: str) -> None:
    tokens = layout(clip, text)
    found = decoded(clip, tokens, tokens.positions(at(text, word)))
    assert found.replace(" ", "") == word.lower()


def test_layout_is_the_encoders_own(clip: Clip) -> None:
    text = "a photo of a cat and a dog"
    tokens = layout(clip, text)
    expected = clip.tokenizer(text, padding="max_length", max_length=77)["input_ids"]
    assert tokens.chunks == (tuple(expected),)
    assert tokens.positions(at(text, "cat")) == (5,)
    assert tokens.positions(at(text, "dog")) == (8,)
    assert tokens.sources[0] == ()
    assert tokens.sources[-1] == ()


def test_weights_and_escapes(clip: Clip) -> None:
    text = "a \\(cat\\) (dog:1.5)"
    tokens = layout(clip, text)
    assert decoded(clip, tokens, (1, 2, 3, 4, 5)).split() == ["a", "(", "cat", ")", "dog"]
    assert tokens.weights[0][:7] == (1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.0)
    assert tokens.positions(at(text, "cat")) == (3,)


def test_padding_follows_one_end_token(letters: Letters) -> None:
    tokens = encode_layout("ab", letters, bos=1, eos=2, pad=0, chunk_length=4)
    assert tokens.chunks == ((1, 97, 98, 2, 0, 0),)
    full = encode_layout("abcd", letters, bos=1, eos=2, pad=0, chunk_length=4)
    assert full.chunks == ((1, 97, 98, 99, 100, 2),)
    assert encode_layout("", letters, bos=1, eos=2, pad=0, chunk_length=2).chunks == ((1, 2, 0, 0),)


def test_break_starts_a_chunk(clip: Clip) -> None:
    text = "a cat BREAK a dog"
    tokens = layout(clip, text)
    assert len(tokens.chunks) == 2
    assert tokens.positions(at(text, "dog")) == (77 + 2,)


def test_long_prompts_continue_in_the_next_chunk(clip: Clip) -> None:
    text = "very " * 80 + "cat"
    tokens = layout(clip, text)
    assert tokens.positions(at(text, "cat")) == (77 + 6,)
    assert all(len(chunk) == 77 for chunk in tokens.chunks)


def test_text_after_a_late_comma_moves_to_the_next_chunk(clip: Clip) -> None:
    text = "very " * 70 + ", a big black cat sits here"
    tokens = layout(clip, text)
    assert tokens.positions(at(text, "cat")) == (77 + 4,)
    assert tokens.chunks[0][71:73] == (COMMA, EOS)
    assert layout(clip, text, comma_id=None).positions(at(text, "cat")) == (75,)


def test_scheduled_words(clip: Clip) -> None:
    text = "a [cat:dog:0.5] here"
    layouts = [layout(clip, resolved) for _, resolved in schedule(text, 10)]
    assert scheduled_positions(layouts, at(text, "dog"), "dog") == ((), (2,))
    gone = "a [cat:0] dog [fox:10]"
    layouts = [layout(clip, resolved) for _, resolved in schedule(gone, 10)]
    with pytest.raises(CLoRAError, match='"fox"'):
        scheduled_positions(layouts, at(gone, "fox"), "fox")


def test_words_joined_by_a_schedule_keep_their_sources(clip: Clip) -> None:
    text = "a [cat|dog]fish"
    layouts = [layout(clip, resolved) for _, resolved in schedule(text, 2)]
    assert layouts[0].positions(at(text, "dog")) == ()
    assert decoded(clip, layouts[0], layouts[0].positions(at(text, "fish"))).endswith("fish")


def test_textual_inversions_take_several_rows(letters: Letters) -> None:
    def embedding(ids: Sequence[int], position: int) -> tuple[Sequence[int], int] | None:
        return ((0, -1, -2), 2) if list(ids)[position : position + 2] == [120, 121] else None

    tokens = encode_layout("a xy b", letters, bos=1, eos=2, pad=2, chunk_length=6, embedding_at=embedding)
    assert tokens.chunks == ((1, 97, 0, -1, -2, 98, 2, 2),)
    assert tokens.positions([Span(2, 4)]) == (2, 3, 4)
    assert tokens.positions([Span(5, 6)]) == (5,)


def test_every_variant_of_a_composition_is_found(clip: Clip) -> None:
    composition = analyze("a <lora:c:1:trigger=sks> (black cat:1.2) 🐱 and [a:the:0.5] <lora:d:1> 猫, x")
    for number, variant in enumerate(composition.variants):
        for _, resolved in schedule(variant.text, 4):
            tokens = layout(clip, resolved)
            cat, other = (decoded(clip, tokens, tokens.positions(spans)) for spans in variant.subjects)
            assert cat.split() == ["black", "cat", "🐱"]
            assert other == "猫"
            assert decoded(clip, tokens, tokens.positions(variant.triggers)).replace(" ", "") == "sks" * (number == 1)


PIECES = [
    "cat",
    "dog's",
    " ",
    ", ",
    "unbelievablecat",
    "(",
    ")",
    "[",
    ":0.5]",
    ":1.3)",
    " BREAK ",
    "猫犬",
    "🐱🐶",
]
PIECES += ["é", "2", "_-", "&amp;"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tokens_decode_to_their_source(clip: Clip, text: str) -> None:
    for _, resolved in schedule(text, 2):
        tokens = layout(clip, resolved)
        assert len(tokens.sources) == 77 * len(tokens.chunks)
        groups: dict[tuple[Span, ...], list[int]] = {}
        for row, source in enumerate(tokens.sources):
            if source:
                groups.setdefault(source, []).append(tokens.chunks[row // 77][row % 77])
        for source, ids in groups.items():
            characters = "".join(text[a:b] for a, b in source)
            assert clip.decode(ids).replace(" ", "") == characters.replace("\\", "").lower().replace(" ", "")


@given(st.text(max_size=50))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_a_layout(clip: Clip, text: str) -> None:
    for _, resolved in schedule(text, 2):
        tokens = layout(clip, resolved)
        assert all(len(chunk) == 77 and chunk[0] == BOS and chunk[-1] == EOS for chunk in tokens.chunks)
        assert len(tokens.sources) == 77 * len(tokens.chunks)


@given(st.text("abc ", max_size=40))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_token_per_letter(letters: Letters, text: str) -> None:
    tokens = encode_layout(text, letters, bos=1, eos=2, pad=2, chunk_length=7)
    for i, character in enumerate(text):
        rows = tokens.positions([Span(i, i + 1)])
        assert [tokens.chunks[row // 9][row % 9] for row in rows] == [ord(character)] * (character != " ")


def test_find_positions() -> None:
    chunks = [[1, 10, 11, 12, 2], [1, 13, 10, 2, 2], [1, 11, 10, 11, 2]]
    assert find_positions(chunks, [10]) == (1,)
    assert find_positions(chunks, [10], 2) == (7,)
    assert find_positions(chunks, [10, 11], 2) == (7, 11)
    assert find_positions(chunks, [10, 11], 3) == (12, 13)
    assert find_positions(chunks, [12, 13]) == (3, 6)
    assert find_positions(chunks, [10, 11], 4) == ()
    assert find_positions(chunks, []) == ()
    assert find_positions([[1, 10, 0, 5, 2, 0, 0]], [0, 5], eos=2) == (2, 3)


def test_find_positions_agrees_with_the_layout(clip: Clip) -> None:
    text = "very " * 72 + "old unbelievablecat here, old unbelievablecat"
    tokens = layout(clip, text, comma_id=None)
    for nth in (1, 2):
        word_ids = clip.ids("unbelievablecat")
        assert find_positions(tokens.chunks, word_ids, nth) == tokens.positions(at(text, "unbelievablecat", nth))


@pytest.mark.parametrize("piece", ["(", "a ", "cat", "🐱", "a,", "&amp; ", "([a"])
def test_long_text_takes_linear_time(clip: Clip, piece: str) -> None:
    clock = Clock()
    assert layout(clip, piece * 800).chunks
    assert clock.seconds() < 5


HOSTILE = ("中", "\N{CAT FACE}", "e\u0301", ")", "\\", "a", "!", "1", "a ", "[a|b]", "(a:1.2)", "word ", "\\(")


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_is_linear(clip: Clip, piece: str) -> None:
    """At most about a second of work, or a sentence; the tests' time is generous, quadratic reading took minutes."""
    for length in (3_000, 11_000, 100_000):
        clock = Clock()
        problem = ""
        try:
            tokens = layout(clip, piece * (length // len(piece)) + " cat")
            assert decoded(clip, tokens, tokens.positions([Span(len(piece) * (length // len(piece)) + 1, 100_000)]))
        except CLoRAError as error:
            problem = str(error)
        assert not problem or "reads at most" in problem or "takes too long to read" in problem
        assert not problem or length > 5_000 or piece in ("中", "\N{CAT FACE}", "e\u0301")
        assert clock.seconds() < 4


def test_a_long_prompt_is_refused_only_where_it_is_composed() -> None:
    words = "word " * 20_000
    with pytest.raises(CLoRAError, match="and CLoRA reads at most"):
        analyze(f"a <lora:cat:1> cat and a <lora:dog:1> dog, {words}")
    assert not analyze(f"a <lora:cat:1> cat, {words}").composes


def test_many_concepts_are_refused() -> None:
    tags = [f"a <lora:{name}:1> {name}" for name in (f"thing{number}" for number in range(400))]
    assert len(analyze(", ".join(tags[:64])).concepts) == 64
    with pytest.raises(CLoRAError, match="more than 64 concept LoRAs"):
        analyze(", ".join(tags))
