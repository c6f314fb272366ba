"""What each method's variants have on."""

from __future__ import annotations

import pytest

from clora.conditioning.variants import method_variants
from clora.prompt import analyze

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
    variants = method_variants(analyze(PROMPT), method)
    assert [{use.name for use in variant.loras} for variant in variants] == wanted
    assert [variant.background for variant in variants] == [method == "clora", *[False] * (len(variants) - 1)]
