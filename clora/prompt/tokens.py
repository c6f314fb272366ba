"""Token positions of words in the chunks of tokens that the hosts encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import CLoRAError
from .emphasis import Segment, parse_attention
from .text import INSERTED, ResolvedText, Span, runs
from .token_ranges import Tokenize, TokenRanges, check_length

EmbeddingAt = Callable[[Sequence[int], int], "tuple[Sequence[int], int] | None"]
"""(ids, index) -> (an id for each vector, how many ids it replaces) of the textual inversion there, or None."""


@dataclass(frozen=True)
class PromptTokens:
    """A prompt as the input of the text encoder.

    `chunks` are ids (BOS, tokens, EOS, padding; all of one length), `weights` the attention weight of each.
    `sources` has, for each row of the concatenated conditioning, the spans of the source text that the token stands
    for: none for BOS, EOS and padding, several if scheduling joined distant characters.
    """

    chunks: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    sources: tuple[tuple[Span, ...], ...]

    def positions(self, spans: Sequence[Span]) -> tuple[int, ...]:
        """Rows (chunk * chunk length + position) of the tokens that share a character with one of the spans.

        Empty if scheduling removes the words from this text; see `scheduled_positions`.
        """
        # Tokens of one word have one tuple of sources, which is compared once.
        distinct = {id(sources): sources for sources in self.sources}
        shares = {
            key: any(a.start < b.end and b.start < a.end for a in sources for b in spans)
            for key, sources in distinct.items()
        }
        return tuple(row for row, sources in enumerate(self.sources) if shares[id(sources)])


@dataclass
class _Layout:
    """Chunks while they are being filled: tokens are (id, weight, sources)."""

    length: int
    done: list[list[tuple[int, float, tuple[Span, ...]]]] = field(default_factory=list)
    current: list[tuple[int, float, tuple[Span, ...]]] = field(default_factory=list)
    last_comma: int = -1

    def next_chunk(self) -> None:
        self.done.append(self.current)
        self.current, self.last_comma = [], -1

    def make_room(self, token: int, comma_id: int | None, backtrack: int) -> None:
        """Start the next chunk if this one is full; the text after a comma near its end moves to the next."""
        if comma_id is not None and token == comma_id:
            self.last_comma = len(self.current)
        elif (
            len(self.current) == self.length
            and self.last_comma != -1
            and len(self.current) - self.last_comma <= backtrack
        ):
            cut = self.last_comma + 1
            moved = self.current[cut:]
            del self.current[cut:]
            self.next_chunk()
            self.current = moved
        if len(self.current) == self.length:
            self.next_chunk()


def encode_layout(
    resolved_text: ResolvedText | str,
    tokenize: Tokenize,
    *,
    bos: int,
    eos: int,
    pad: int,
    chunk_length: int,
    comma_id: int | None = None,
    comma_backtrack: int = 20,
    embedding_at: EmbeddingAt | None = None,
) -> PromptTokens:
    """Split the prompt of one step into chunks of `chunk_length` tokens (75 for CLIP), with weights and sources.

    `comma_id` turns on the hosts' rule that the text after a comma in the last `comma_backtrack` tokens of a full
    chunk moves to the next. `embedding_at` tells where a textual inversion replaces ids by others, one for each vector.
    Source: FrozenCLIPEmbedderWithCustomWordsBase.tokenize_line in AUTOMATIC1111 1.10.1.
    Raises: CLoRAError for a text that takes too long to read.
    """
    check_length(str(resolved_text))
    ranges = TokenRanges(tokenize)
    layout = _Layout(chunk_length)
    for segment in parse_attention(resolved_text):
        if segment.is_break:
            layout.next_chunk()
        else:
            _add_segment(layout, segment, ranges, comma_id, comma_backtrack, embedding_at)
    if layout.current or not layout.done:
        layout.next_chunk()
    chunks, weights, sources = [], [], []
    for chunk in layout.done:
        padding = chunk_length - len(chunk)
        chunks.append((bos, *(token for token, _, _ in chunk), eos, *[pad] * padding))
        weights.append((1.0, *(weight for _, weight, _ in chunk), *[1.0] * (padding + 1)))
        sources += [(), *(source for _, _, source in chunk), *[()] * (padding + 1)]
    return PromptTokens(tuple(chunks), tuple(weights), tuple(sources))


def _add_segment(
    layout: _Layout,
    segment: Segment,
    ranges: TokenRanges,
    comma_id: int | None,
    comma_backtrack: int,
    embedding_at: EmbeddingAt | None,
) -> None:
    ids, spans = ranges.locate(segment.text)
    # Tokens of one word share a span, which may be long.
    source_of = {span: _source(segment, span) for span in dict.fromkeys(spans)}
    sources = [source_of[span] for span in spans]
    position = 0
    while position < len(ids):
        layout.make_room(ids[position], comma_id, comma_backtrack)
        embedding = embedding_at(ids, position) if embedding_at else None
        if embedding is None:
            layout.current.append((ids[position], segment.weight, sources[position]))
            position += 1
            continue
        vectors, replaced = embedding[0][: layout.length], max(1, embedding[1])
        if len(layout.current) + len(vectors) > layout.length:
            layout.next_chunk()
        covered = tuple(span for source in sources[position : position + replaced] for span in source)
        layout.current += [(id_of_vector, segment.weight, covered) for id_of_vector in vectors]
        position += replaced


def _source(segment: Segment, span: Span) -> tuple[Span, ...]:
    offsets = segment.offsets[span.start : span.end]
    return runs([offset for offset in offsets if offset != INSERTED])


def scheduled_positions(
    layouts: Sequence[PromptTokens], spans: Sequence[Span], words: str
) -> tuple[tuple[int, ...], ...]:
    """The positions of the words in each scheduled text, in order; () for a text without them.

    Raises: CLoRAError naming `words` if no text has a token of them.
    """
    found = tuple(layout.positions(spans) for layout in layouts)
    if not any(found):
        raise CLoRAError(
            f'The prompt\'s scheduling removes the words "{words}" at every step: choose words that stay, or change '
            "the scheduling."
        )
    return found


def find_positions(
    chunks: Sequence[Sequence[int]], word_ids: Sequence[int], occurrence: int = 1, *, eos: int | None = None
) -> tuple[int, ...]:
    """Rows of occurrence number `occurrence` (from 1) of an id sequence in a host's chunks; () if there is none.

    A sequence may continue in the next chunk. Each chunk is BOS, tokens, EOS, padding; `eos` is by default its last id
    (pass it if the padding is another id). Occurrences do not overlap.
    """
    rows: list[int] = []
    ids: list[int] = []
    first_row = 0
    for chunk in chunks:
        end_id = chunk[-1] if eos is None else eos
        end = next((i for i in range(1, len(chunk)) if chunk[i] == end_id), len(chunk))
        rows.extend(range(first_row + 1, first_row + end))
        ids.extend(chunk[1:end])
        first_row += len(chunk)
    wanted, size = list(word_ids), len(word_ids)
    position = 0
    while size and position + size <= len(ids):
        if ids[position] == wanted[0] and ids[position : position + size] == wanted:
            occurrence -= 1
            if occurrence == 0:
                return tuple(rows[position : position + size])
            position += size
        else:
            position += 1
    return ()
