"""The state of the host."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class State:
    """The job that runs."""

    def __init__(self) -> None:
        self.interrupted = self.skipped = self.stopping_generation = False
        self.sampling_step = self.sampling_steps = self.job_no = 0
        self.job_count, self.job = -1, ""
        self.current_latent: Any = None
        self.previews: list[Any] = []
        self.told: list[str] = []
        self._textinfo: str | None = None
        self.on_told: Callable[[str], None] | None = None

    @property
    def textinfo(self) -> str | None:
        """The line under the progress bar."""
        return self._textinfo

    @textinfo.setter
    def textinfo(self, text: str | None) -> None:
        self._textinfo = text
        if text is None:
            return
        self.told.append(text)
        if self.on_told is not None:
            self.on_told(text)

    def begin(self) -> None:
        """A job begins."""
        self.interrupted = self.skipped = self.stopping_generation = False
        self.told, self.previews = [], []
        self.job_count, self.job_no, self.job, self.current_latent = -1, 0, "", None
        self._textinfo = None

    def nextjob(self) -> None:
        """A batch is drawn."""
        self.job_no += 1
        self.sampling_step = 0

    def assign_current_image(self, image: Any) -> None:
        """The live preview."""
        self.previews.append(image)

    def interrupt(self) -> None:
        """The user's button."""
        self.interrupted = True


class OptionInfo:
    """An option on the settings page."""

    def __init__(self, default: Any, label: str, component: Any, component_args: Any, section: tuple[str, str]) -> None:
        self.default, self.label, self.component = default, label, component
        self.component_args, self.section = component_args, section


class Options(SimpleNamespace):
    """Values by name."""

    data_labels: dict[str, OptionInfo] = {}  # noqa: RUF012

    @property
    def data(self) -> dict[str, Any]:
        """The values themselves."""
        return vars(self)

    def add_option(self, key: str, info: OptionInfo) -> None:
        """An option of an extension has its default until the user changes it."""
        self.data_labels[key] = info
        if not hasattr(self, key):
            setattr(self, key, info.default)


class StyleDatabase:
    """Styles by name, and how they are merged into prompts."""

    def __init__(self) -> None:
        self.styles: dict[str, tuple[str, str]] = {}

    def _merged(self, prompt: str, names: list[str], part: int) -> str:
        for text in (self.styles.get(name, ("", ""))[part] for name in names):
            prompt = text.replace("{prompt}", prompt) if "{prompt}" in text else ", ".join(filter(None, (prompt, text)))
        return prompt

    def apply_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        """The prompt with the styles' texts around it or after it."""
        return self._merged(prompt, styles, 0)

    def apply_negative_styles_to_prompt(self, prompt: str, styles: list[str]) -> str:
        """The same for the negative prompt."""
        return self._merged(prompt, styles, 1)


state = State()
prompt_styles = StyleDatabase()
opts = Options(
    comma_padding_backtrack=20,
    samples_save=True,
    samples_format="png",
    lora_add_hashes_to_infotext=True,
    CLIP_stop_at_last_layers=1,
    live_previews_enable=True,
    show_progress_every_n_steps=1,
    overlay_inpaint=True,
    save_init_img=False,
    img2img_color_correction=False,
)
cmd_opts = Options(lowvram=False, medvram=False, api_auth=None)
sd_model: Any = None
