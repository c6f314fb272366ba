"""Reading valid, damaged and dangerous LoRA files; finding files by name and alias."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from clora.errors import CLoRAError
from clora.lora.file import find_lora, read_lora, read_metadata
from clora.lora.header import MAX_HEADER
from clora.lora.keys import split_key
from clora.lora.user_metadata import LoraNotes, read_notes

VALID = save(
    {"lora_unet_x.lora_down.weight": torch.ones(2, 3), "lora_unet_x.alpha": torch.tensor(1.0)},
    metadata={"ss_output_name": "Sound"},
)


def with_header(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one_sentence(error: pytest.ExceptionInfo[CLoRAError], name: str) -> bool:
    text = str(error.value)
    return name in text and "\n" not in text and text.rstrip(".?").count(". ") == 0


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_a_valid_file(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "cat v2.safetensors"
    down = torch.linspace(-1, 1, 6).reshape(2, 3).to(dtype)
    save_file(
        {"unet.a.b.lora_A.weight": down, "unet.a.b.alpha": torch.tensor(4.0), "odd": torch.zeros(1)},
        path,
        metadata={"ss_network_dim": "2"},
    )
    with torch.inference_mode():
        lora = read_lora(path)
    assert (lora.name, lora.path, lora.tensor_count) == ("cat v2", path, 3)
    assert lora.metadata == {"ss_network_dim": "2"}
    assert set(lora.tensors) == {"unet.a.b", ""}
    read = lora.tensors["unet.a.b"]["lora_down"]
    assert read.dtype == dtype
    assert torch.equal(read.double(), down.double())
    assert not read.is_inference()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"\0\0\0", "ends inside its header"),
        (VALID[:20], "ends inside its header"),
        (VALID[:-1], "ends before its last tensor"),
        (VALID + b"\0", "more data than its header lists"),
        (b"\xff" * 64, "not a safetensors"),
        (pickle.dumps({"a": 1}), "pickle"),
        (with_header([1, 2]), "not a JSON object"),
        (with_header({"a": 3}), "not a JSON object"),
        (with_header({"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "unknown dtype"),
        (with_header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)), "shape"),
        (
            with_header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
            "does not match its shape",
        ),
        (with_header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)), "size"),
        (len(b"[" * 90000).to_bytes(8, "little") + b"[" * 90000, "cannot be read"),
    ],
    ids=range(14),
)
def test_broken_files(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(CLoRAError, match=word) as error:
        read_lora(path)
    assert one_sentence(error, "broken.safetensors")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "new.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(VALID)
    with zipfile.ZipFile(tmp_path / "zip.ckpt", "w") as archive:
        archive.writestr("x", "y")
    for name in ("new.safetensors", "old.safetensors", "plain.pt", "zip.ckpt"):
        with pytest.raises(CLoRAError, match="pickle") as error:
            read_lora(tmp_path / name)
        assert one_sentence(error, name)


def test_a_header_length_that_looks_like_a_pickle_is_read(tmp_path: Path) -> None:
    """A header of 640 bytes starts with 80 02, as pickles do."""
    plain = with_header({"__metadata__": {"note": ""}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    note = "x" * (640 - int.from_bytes(plain[:8], "little"))
    content = with_header(
        {"__metadata__": {"note": note}, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)
    )
    assert content[:2] == b"\x80\x02"
    (tmp_path / "a.safetensors").write_bytes(content)
    assert read_lora(tmp_path / "a.safetensors").tensor_count == 1


def framed(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": [[1]]}', b'{"a": {"b": {}}}', b'{"a": {"b": [[]]}}', b'{"a": [' + b"[]," * 700_000 + b"1]}",
        b'{"a": {"dtype": "F32", "shape": [' + b"1," * 2_000_000 + b"1]}}", b'{"a' + b'\\"' * 500_000,
        b"{" + b",".join(b'"%d":0' % number for number in range(1_600_000)) + b"}",
    ],
    ids=range(7),
)  # fmt: skip
def test_a_header_that_takes_much_memory_is_not_parsed(
    tmp_path: Path, header: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes(framed(header))
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail("parsed"))
    with pytest.raises(CLoRAError, match="its header cannot be read") as error:
        read_metadata(path)
    assert one_sentence(error, "large.safetensors")


def test_brackets_in_texts_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "fine.safetensors"
    note = '{"[[[[": "\\\\", "x": [[[' + "]," * 1_000_000
    path.write_bytes(with_header({"__metadata__": {"note": note, "{": "}"}}))
    assert read_metadata(path)["note"] == note


def test_a_header_over_the_bound_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(CLoRAError, match="not a safetensors file"):
        read_metadata(path)


def test_a_pipe_in_the_folder_is_not_opened(tmp_path: Path) -> None:
    """Opening one waits for its writer."""
    os.mkfifo(tmp_path / "pipe.safetensors")
    os.mkfifo(tmp_path / "cat.json")
    (tmp_path / "cat.safetensors").write_bytes(VALID)
    (tmp_path / "gone.safetensors").symlink_to(tmp_path / "nothing")
    assert find_lora("Sound", [tmp_path]).stem == "cat"
    for name in ("unknown", "pipe", "gone"):
        with pytest.raises(CLoRAError, match="among the 1 found"):
            find_lora(name, [tmp_path])
    with pytest.raises(CLoRAError, match="a pipe or a device"):
        read_lora(tmp_path / "pipe.safetensors")
    assert read_notes(tmp_path / "cat.safetensors") == LoraNotes()


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nosuchuser", "../../etc/passwd", "\ud800", "/" * 300])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    (tmp_path / "cat.safetensors").write_bytes(VALID)
    with pytest.raises(CLoRAError, match="There is no LoRA") as error:
        find_lora(name, [tmp_path])
    assert len(str(error.value).encode()) < 400


def test_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CLoRAError, match="is a folder"):
        read_lora(tmp_path)
    with pytest.raises(CLoRAError, match="does not exist"):
        read_lora(tmp_path / "no.safetensors")


def test_unusual_metadata_is_only_text(tmp_path: Path) -> None:
    header = {"__metadata__": {"a": "<script>", "b": 3, "c": None}}
    (tmp_path / "a.safetensors").write_bytes(with_header({"__metadata__": {"a": "<script>"}}))
    assert read_lora(tmp_path / "a.safetensors").metadata == {"a": "<script>"}
    (tmp_path / "b.safetensors").write_bytes(with_header(header))
    with pytest.raises(CLoRAError, match=r"b\.safetensors"):
        read_lora(tmp_path / "b.safetensors")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    flips=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(1, 255)), max_size=4),
    length=st.integers(0, len(VALID)),
)
def test_a_damaged_file_gives_an_error_or_a_valid_read(
    tmp_path: Path, flips: list[tuple[int, int]], length: int
) -> None:
    content = bytearray(VALID)
    for index, bits in flips:
        content[index] ^= bits
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content if flips else content[:length])
    try:
        lora = read_lora(path)
    except CLoRAError:
        return
    assert all(tensor.numel() >= 0 for of in lora.tensors.values() for tensor in of.values())
    assert all(isinstance(text, str) for text in lora.metadata.values())
    if not flips:
        assert length == len(VALID)


def test_a_file_of_peft_has_the_name_of_its_folder(tmp_path: Path) -> None:
    """PEFT calls every file adapter_model.safetensors."""
    for name in ("animals/cat", "animals/dog", "bare"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        save_file({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, folder / "adapter_model.safetensors")
        if name != "bare":
            (folder / "adapter_config.json").write_text("{}")
    cat = tmp_path / "animals" / "cat" / "adapter_model.safetensors"
    for name in ("cat", "Cat", "animals/cat", "animals/cat/adapter_model"):
        assert find_lora(name, [tmp_path]) == cat
    assert read_lora(cat).name == "cat"
    assert read_lora(tmp_path / "bare" / "adapter_model.safetensors").name == "adapter_model"
    with pytest.raises(CLoRAError, match=r"did you mean .*/adapter_model"):
        find_lora("adapter_model", [tmp_path])
    assert find_lora("adapter_model", [tmp_path / "animals" / "dog"]).parent.name == "dog"
    save_file({"lora_unet_conv_in.alpha": torch.tensor(1.0)}, tmp_path / "cat.safetensors")
    assert find_lora("cat", [tmp_path]) == tmp_path / "cat.safetensors"


def test_find_by_name_path_case_and_alias(tmp_path: Path) -> None:
    (tmp_path / "animals").mkdir()
    for name, alias in (("blackcat", "kitty"), ("animals/browndog", "blackcat")):
        save_file({"a.alpha": torch.zeros(1)}, tmp_path / f"{name}.safetensors", metadata={"ss_output_name": alias})
    (tmp_path / "damaged.safetensors").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    cat, dog = tmp_path / "blackcat.safetensors", tmp_path / "animals/browndog.safetensors"
    for name, path in (
        ("blackcat", cat),
        ("browndog", dog),
        ("animals/browndog", dog),
        ("BlackCat", cat),
        ("kitty", cat),
        ("browndog.safetensors", dog),
    ):
        assert find_lora(name, [tmp_path, tmp_path / "animals"]) == path
    with pytest.raises(CLoRAError, match=r'"blackcta".*did you mean "blackcat"'):
        find_lora("blackcta", [tmp_path])
    with pytest.raises(CLoRAError, match="3 found: put the file"):
        find_lora("zzzzzzzz", [tmp_path])
    with pytest.raises(CLoRAError, match="no LoRA"):
        find_lora("../" + tmp_path.name + "/blackcat", [tmp_path])


@pytest.mark.parametrize(
    ("key", "module", "suffix"),
    [
        ("lora_unet_mid_block_x.lora_down.weight", "lora_unet_mid_block_x", "lora_down"),
        ("lora_te_x.alpha", "lora_te_x", "alpha"),
        ("unet.a.to_q.lora_A.weight", "unet.a.to_q", "lora_down"),
        ("base_model.model.a.to_q.lora_B.default.weight", "base_model.model.a.to_q", "lora_up"),
        ("unet.a.to_q.lora.up.weight", "unet.a.to_q", "lora_up"),
        ("text_encoder.a.q_proj.lora_linear_layer.down.weight", "text_encoder.a.q_proj", "lora_down"),
        ("unet.a.attn1.processor.to_q_lora.up.weight", "unet.a.attn1.processor.to_q", "lora_up"),
        ("unet.a.to_q.lora_magnitude_vector", "unet.a.to_q", "magnitude"),
        ("unet.a.to_q.lora_magnitude_vector.default.weight", "unet.a.to_q", "magnitude"),
        ("lycoris_x.lokr_w2_a", "lycoris_x", "lokr_w2_a"),
        ("lora_unet_x.a1.weight", "lora_unet_x", "a1"),
        ("lora_unet_x.weight", "lora_unet_x", "weight"),
        ("unet.a.to_q.lora_A", "unet.a.to_q", "lora_down"),
        ("unet.a.to_q.lora_B.cat.bias", "unet.a.to_q", "lora_bias"),
        ("unet.a.to_q.lora_A.bias", "unet.a.to_q.lora_A", "bias"),
        ("unet.a.to_q.base_layer.bias", "unet.a.to_q", "base_bias"),
        ("oft_unet_x.oft_blocks", "oft_unet_x", "oft_blocks"),
        ("base_model.model.a.to_q.oft_R.weight", "base_model.model.a.to_q", "oft_R"),
        ("lora_unet_x.oft_R.scaled_oft", "lora_unet_x", "scaled_oft"),
        ("base_model.model.a.to_q.boft_R", "base_model.model.a.to_q", "boft_R"),
        ("base_model.model.a.to_q.ia3_l.default", "base_model.model.a.to_q", "ia3_l"),
        ("base_model.vera_A", "base_model", "vera_A"),
        ("a.processor.to_q_lora.q_layer.weight", "a.processor.to_q", "q_layer"),
        ("a.processor.to_q_lora.base_lambda", "a.processor.to_q", "base_lambda"),
        ("unet.a.to_q.lora.lambda_layer", "unet.a.to_q", "lambda_layer"),
        ("lora_unet_x.scale", "lora_unet_x", "scale"),
        ("lora_unet_x.something.new", "lora_unet_x.something", "new"),
    ],
)
def test_keys(key: str, module: str, suffix: str) -> None:
    assert split_key(key) == (module, suffix)


def test_files_are_looked_for_once_and_missing_ones_not_for_ever() -> None:
    from clora.lora.library import MOST_MISSING, PathCache

    asked: list[str] = []

    def find(name: str) -> Path:
        asked.append(name)
        if name != "cat":
            raise CLoRAError(f"no {name}, did you mean cat?")
        return Path("cat.safetensors")

    cache = PathCache(find)
    assert cache("cat") == cache("cat") == Path("cat.safetensors")
    for number in [*range(2 * MOST_MISSING), 0]:
        with pytest.raises(CLoRAError, match=f"{number}"):
            cache(f"dog{number}")
    assert asked == ["cat", *(f"dog{number}" for number in range(MOST_MISSING))]
