"""What each strategy's variants have on."""

from __future__ import annotations

import pytest

from clora.fusion import variants_of
from clora.prompt import analyze
from clora.settings import Settings

PROMPT = "a <lora:tom:1> cat and a <lora:rex:1> dog on lava <lora:lava:1:role=background> <lora:ink:1:role=style>"


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("clora", [{"ink", "lava"}, {"ink", "tom"}, {"ink", "rex"}]),
        ("merge", [{"ink", "lava", "tom", "rex"}]),
        ("composite", [{"ink", "lava", "tom"}, {"ink", "lava", "rex"}]),
        ("switch", [{"ink", "lava", "tom"}, {"ink", "lava", "rex"}]),
    ],
)
def test_no_lora_of_the_prompt_is_left_out(method: str, wanted: list[set[str]]) -> None:
    composition = analyze(PROMPT)
    variants = variants_of(composition, Settings(method=method), composition.styles)
    assert [{use.name for use in variant.loras} for variant in variants] == wanted
    # A host that has the styles on itself gets variants without them.
    assert [{use.name for use in v.loras} for v in variants_of(composition, Settings(method=method))] == [
        names - {"ink"} for names in wanted
    ]
