"""The model, LoRAs, judge and sampling that all methods share, and the options that choose them."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from clora.embedded import EMBEDDED_GUIDANCE, EMBEDDED_LORAS, EMBEDDED_MODEL
from clora.errors import CLoRAError
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.lora.library import LoraLibrary
from clora.prompt import analyze
from clora.prompt.evidence import evidence_of_files
from clora.prompt.tags import parse_tags
from research.characters.judge import Judge, Verdict
from research.characters.judge.judge import WEIGHTS

Judging = Callable[[Sequence[Image.Image]], "list[Verdict]"]
"""Pictures to verdicts; all pictures are of 256 x 256."""


@dataclass(frozen=True)
class Setup:
    """What all methods share. `model` is a folder or file as `load_pipeline` takes it, `loras` a folder."""

    model: Path = EMBEDDED_MODEL
    loras: Path = EMBEDDED_LORAS
    judge_file: Path = WEIGHTS
    steps: int = 20
    guidance: float = EMBEDDED_GUIDANCE
    device: str = "cpu"

    @cached_property
    def pipe(self) -> Any:
        """The model, loaded when it is first needed."""
        return load_pipeline(None if self.model == EMBEDDED_MODEL else self.model, device=self.device)

    @cached_property
    def judge(self) -> Judging:
        """The judge, loaded when it is first needed. Raises: CLoRAError if its file is missing."""
        self._judge_bytes()
        return Judge(self.judge_file)

    @cached_property
    def judge_name(self) -> str:
        """A hash of the judge's weights. Raises: CLoRAError if its file is missing."""
        return hashlib.sha256(self._judge_bytes()).hexdigest()[:12]

    def _judge_bytes(self) -> bytes:
        try:
            return self.judge_file.read_bytes()
        except OSError as error:
            raise CLoRAError(
                f"The judge's weights {self.judge_file} cannot be read: train them with "
                "`python -m research.characters.judge.train`, or name their file with --judge."
            ) from error

    @cached_property
    def _hashes(self) -> dict[Path, str]:
        return {}

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            files = [path]
            if path.is_dir():  # the configs decide pictures, too: sampler and prediction are in them
                files = sorted(file for ending in ("safetensors", "json") for file in path.rglob(f"*.{ending}"))
            digest = hashlib.sha256()
            for file in files:
                digest.update(file.name.encode() + (file.read_bytes() if file.is_file() else b""))
            self._hashes[path] = digest.hexdigest()[:16]
        return self._hashes[path]

    def weights(self, text: str) -> list[str]:
        """Hashes of the model and of the LoRA files that a prompt names: a LoRA trained again changes only its own."""
        return [self._hash(self.model), *(self._hash(self.path(name)) for name in loras_of(text))]

    def path(self, name: str) -> Path:
        """Where the file of a LoRA should be."""
        return self.loras / f"{name}.safetensors"

    def composes(self, text: str) -> bool:
        """Whether CLoRA composes a prompt; otherwise every method draws it as usual. Raises: CLoRAError."""
        if text not in self._read:
            self._read[text] = analyze(text, evidence=evidence_of_files(LoraLibrary(self.loras).path)).composes
        return self._read[text]

    @cached_property
    def _read(self) -> dict[str, bool]:
        return {}

    def check(self, texts: Iterable[str], judge: bool = True) -> None:
        """Raises: CLoRAError if the judge, the model or a LoRA of the prompts is missing."""
        if judge:
            self._judge_bytes()
        if not self.model.exists():
            raise CLoRAError(f"The model {self.model} does not exist: train one, or name its folder with --model.")
        names = sorted({name for text in texts for name in loras_of(text)})
        missing = [name for name in names if not self.path(name).is_file()]
        if missing:
            raise CLoRAError(
                f"The folder {self.loras} lacks LoRAs that the prompts name ({', '.join(missing)}): train them with "
                "`python -m research.characters.loras`, or name another folder with --loras."
            )


def loras_of(text: str) -> list[str]:
    """The LoRAs that a prompt names, in order, without doubles."""
    return list(dict.fromkeys(tag.name for tag in parse_tags(text) if not tag.without_lora))


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of all commands of this package."""
    parser.add_argument("--model", type=Path, default=EMBEDDED_MODEL, metavar="FOLDER", help="a diffusers pipeline")
    parser.add_argument("--loras", type=Path, default=EMBEDDED_LORAS, metavar="FOLDER", help="LoRA files by name")
    parser.add_argument("--judge", type=Path, default=WEIGHTS, metavar="FILE", help="the judge's weights")
    parser.add_argument("--out", type=Path, default=Path("outputs/characters-benchmark"), metavar="DIR",
                        help="folder of pictures and verdicts; a run continues from there")  # fmt: skip
    parser.add_argument("--steps", type=int, default=Setup.steps)
    parser.add_argument("--guidance", type=float, default=Setup.guidance)
    parser.add_argument("--device", default=Setup.device)


def told(work: Callable[[], None]) -> int:
    """Do the work of a command; an error is one sentence. Returns the exit status."""
    try:
        work()
    except CLoRAError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def setup_of(args: argparse.Namespace) -> Setup:
    """The setup that the options choose."""
    return Setup(args.model, args.loras, args.judge, args.steps, args.guidance, args.device)
