"""Textual inversions inside LoRA files, in the stand-ins: as if the user had them in the embeddings folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.hosts.tiny import write_lora
from tests.standin import installed
from tests.webui.standin_host import FEW, KINDS, Host, near

PROMPT = "a <lora:bundled:1> mycat and a <lora:dog:1> dog on grass"
PLAIN = PROMPT.replace("bundled", "cat")
VECTORS = torch.randn(2, 16, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("fastapi")
    with installed():
        host = Host(tmp_path_factory.mktemp("loras"))
        write(host, "bundled", VECTORS)
        yield host


def write(host: Host, name: str, vectors: torch.Tensor) -> None:
    """The LoRA "cat" with an embedding in its file."""
    import networks

    model = host.models["a1111"]
    parts = SimpleNamespace(unet=model.unet_module, text_encoder=model.text_module)
    path = Path(networks.folder) / f"{name}.safetensors"
    write_lora(path, parts, 0, extra={"bundle_emb.mycat.clip_l": vectors})
    networks.list_available_networks()


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest, both: Host) -> Host:
    both.use(request.param)
    return both


def database(host: Host) -> Any:
    return engine(host).database


def engine(host: Host) -> Any:
    return host.model.text_processing_engine if host.model.kind == "forge" else host.model.cond_stage_model


def in_folder(host: Host, vectors: torch.Tensor) -> None:
    """As if the host had read the embedding from its folder."""
    known, ids = database(host), engine(host).tokenize(["mycat"])[0]
    made = SimpleNamespace(name="mycat", vec=vectors, vectors=len(vectors), shape=16)
    known.ids_lookup[ids[0]], known.word_embeddings["mycat"] = [(ids, made)], made


@pytest.fixture(autouse=True)
def clean(host: Host) -> Iterator[None]:
    yield
    database(host).ids_lookup.clear()
    database(host).word_embeddings.clear()


def test_the_word_is_that_of_an_embedding_in_the_folder(host: Host) -> None:
    bundled = host.draw(PROMPT, FEW)
    assert (database(host).ids_lookup, database(host).word_embeddings) == ({}, {})
    without = host.draw(PLAIN, FEW)
    assert not near(bundled.latent, without.latent, 1e-3)
    in_folder(host, VECTORS)
    assert near(bundled.latent, host.draw(PLAIN, FEW).latent)


def test_an_embedding_of_the_user_comes_first(host: Host) -> None:
    in_folder(host, VECTORS + 1)
    before = dict(database(host).ids_lookup)
    assert near(host.draw(PROMPT, FEW).latent, host.draw(PLAIN, FEW).latent)
    assert database(host).ids_lookup == before


def test_the_word_belongs_to_the_pictures_with_the_lora(host: Host) -> None:
    prompts = [PROMPT, "a mycat beside a big dog"]
    pair = host.draw(prompts, FEW, seed=5)
    singles = [host.draw(prompts[0], FEW, seed=5), host.draw(prompts[1], None, seed=6)]
    assert all(near(found, one.latent, 1e-6) for found, one in zip(pair.processed.latents, singles, strict=True))


def test_vectors_of_another_model_are_told(host: Host) -> None:
    write(host, "other", torch.ones(2, 24))
    job = host.draw(PROMPT.replace("bundled", "other"), FEW)
    told = job.processed.extra_generation_params["CLoRA notes"]
    assert 'The embedding "mycat" of a LoRA file does not fit this model.' in told
    assert near(job.latent, host.draw(PLAIN, FEW).latent)


def test_a_job_that_fails_leaves_the_database(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(host.model.text_module, "forward", failing)
    with pytest.raises(RuntimeError, match="out of luck"):
        host.draw(PROMPT, FEW)
    assert database(host).ids_lookup == {}
