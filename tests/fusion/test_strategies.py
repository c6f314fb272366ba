"""The strategies' variants and costs, and the example of a new one in the documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from clora.conditioning.plan import ImagePlan
from clora.engine.composer import Composer
from clora.fusion import STRATEGIES, Strategy, variants_of
from clora.models.denoiser import Row
from clora.prompt import analyze
from clora.settings import Settings
from tests.plans import plan_of
from tests.toy import toy

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


def documented_example() -> type[Strategy]:
    """The strategy that docs/developers.md shows as an example."""
    text = (Path(__file__).parents[2] / "docs" / "developers.md").read_text("utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "(Strategy)" in block)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/developers.md", "exec"), names)
    made: type[Strategy] = names["Mean"]
    return made


def test_the_documents_example_of_a_strategy_works() -> None:
    denoiser, plan = toy(), plan_of([[(2,), (5,)]] * 3, [(), (), ()], "subject")
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    composer = Composer(denoiser.unet, Settings(), 4, strategy=documented_example())
    with composer.installed():
        step = composer.predict(2, latent, [plan], denoiser)
    assert step.masks == (None,)
    own = torch.stack([step.prediction.rows[Row(0, variant, True)] for variant in range(3)])
    torch.testing.assert_close(step.cond[0], own.mean(dim=0))
    assert documented_example().cost(Settings(), 2).rows == 6
    assert len(documented_example().variants(analyze(PROMPT))) == 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_cost_says_the_rows_that_run(name: str) -> None:
    """Rows of the most expensive forward of a run without updates, whose masks are cut in the first step."""
    chosen = {"fusion": name} if name in ("exact", "single-pass") else {"method": name}
    settings = Settings(update_until=0.0, fuse_from=0.0, **chosen)
    denoiser = toy()
    plan = plan_of([[(2,), (5,)]] * 3, [(), (), ()], "subject")
    if not STRATEGIES[name].needs_masks:
        plan = ImagePlan(len(variants_of(analyze(PROMPT), settings)))
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    composer = Composer(denoiser.unet, settings, 4)
    with composer.installed():
        rows = [len(composer.step(index, latent, [plan], denoiser).prediction.rows) for index in range(4)]
    assert max(rows) == STRATEGIES[name].cost(settings, 2).rows
