"""The always-visible script: it passes the host's calls on to the state of the job they belong to."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

from ..hosts import host_api
from ..hosts.baseline_render import BASELINE, baseline_images
from ..hosts.selectable import saves_pictures, script_at_work
from ..settings import Settings
from ..settings.infotext import CORRECTIONS, PREFIX, infotext_fields
from ..ui import panel
from ..ui.corrections import write_corrections
from ..ui.preset_bar import PresetSource
from ..ui.request import Request, read_request
from . import adetailer, api, gallery, options, xyz
from .detail import add_detail
from .job import Generation
from .other_extensions import rival
from .planning import keep_from_saving, only_plans, prepared
from .prompt_report import read_prompt
from .refusal import caught, refuse_at_prompts, refuse_at_sampling, watch_sampling, without_blanks, work_inside

_KEY = "_clora_generation"
_ON_THE_TAB = ("prompt", "neg_prompt", "steps", "generate")
"""Components of a tab that the panel reads, by the end of their `elem_id`, in the order of `panel.TabComponents`."""
_STYLES = "styles"
"""The drop-down of styles, which the panel reads too if the host has one."""


class Script(host_api.Script):  # type: ignore[misc]
    """CLoRA's panel and its part in a job. A copy with a `request` composes by that, whatever the panel says.

    `tell` is called with the error by which CLoRA ends such an inner job.
    """

    request: Request | None = None
    tell: Callable[[Exception], None] | None = None

    def title(self) -> str:
        """The name, for the page and the API."""
        return "CLoRA"

    def show(self, is_img2img: bool) -> Any:
        """On both tabs, always."""
        return host_api.AlwaysVisible

    def after_component(self, component: Any, **kwargs: Any) -> None:
        """Keep the components of the tab that the panel reads; they are made before the panel."""
        tab = "img2img" if self.is_img2img else "txt2img"
        elem_id = str(kwargs.get("elem_id") or "")
        for name in _ON_THE_TAB:
            if elem_id == f"{tab}_{name}":
                self.__dict__.setdefault("boxes", {})[name] = component
        # Hosts and themes name the drop-down differently; its dialog has others, where one style is chosen.
        if elem_id.startswith(f"{tab}_") and "style" in elem_id and getattr(component, "multiselect", False):
            self.__dict__.setdefault("boxes", {}).setdefault(_STYLES, component)

    def ui(self, is_img2img: bool) -> list[Any]:
        """The panel's inputs, in the order of `read_request`."""
        known = self.__dict__.get("boxes", {})
        page = None
        if known.keys() >= set(_ON_THE_TAB):
            prompt, negative, steps, generate = (known[name] for name in _ON_THE_TAB)
            styles = (known[_STYLES],) if _STYLES in known else ()
            page = panel.TabComponents(prompt, negative, steps, generate, extra=styles)
        presets = PresetSource(options.preset_file(), options.begin)
        built = panel.build(host_api.input_accordion(), read_prompt, is_img2img=is_img2img, page=page, presets=presets)
        self.infotext_fields = built.infotext_fields
        self.paste_field_names: list[str] = []
        return built.inputs

    # ------------------------------------------------------------------------------- one job

    def before_process(self, p: Any, *args: Any) -> None:
        """Read the settings; remove what a failed job has left."""
        _finish(p)
        if self.request is None:
            _end_stale()
        else:
            work_inside(p, self.tell)

        def begin() -> None:
            request, notes = (self.request, []) if self.request else _request(p, args)
            inner = getattr(p, adetailer.INNER, False) and self.request is None
            if request is not None and not inner and not getattr(p, BASELINE, False):
                if only_plans(request):
                    keep_from_saving(p)
                generation = Generation(prepared(request), p, notes=notes)
                generation.stop_following = adetailer.follow(p, generation, partial(_detail, p), partial(_composing, p))
                setattr(p, _KEY, generation)

        error = caught(begin)
        if error is not None:
            refuse_at_prompts(p, error)

    def before_process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """Read the prompts, whose wildcards are filled in by now, and remove CLoRA's tags."""
        generation = _of(p)
        if generation is None:
            return
        other = rival(p)
        if other:
            error = caught(lambda: generation.leave(other))
            if error is not None:
                _finish(p)
                refuse_at_prompts(p, error)
            return
        prompts, number = kwargs.get("prompts", p.prompts), int(kwargs.get("batch_number", 0))
        error = caught(lambda: generation.read_batch(p, prompts, number * p.batch_size))
        if error is not None:
            _finish(p)
            refuse_at_prompts(p, error)
        else:
            watch_sampling(p)

    def process_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """The host has parsed the prompts: write the infotext."""
        generation = _of(p)
        if generation is None:
            return
        generation.restore_prompts(p)
        _show_notes(p, generation)
        if generation.composes:
            # A new dict, because the cells of an X/Y/Z plot share the old one with the settings of the cell before.
            others = {k: v for k, v in p.extra_generation_params.items() if not k.startswith(PREFIX)}
            p.extra_generation_params = {**others, **_infotext(generation.request)}
            hashes = generation.hashes(p.extra_generation_params.get("Lora hashes", ""))
            if hashes and host_api.option("lora_add_hashes_to_infotext", True):
                p.extra_generation_params["Lora hashes"] = hashes

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """Encode the variants and attach to the sampler of this pass."""
        generation = _of(p)
        if generation is None or not generation.composes:
            return
        error = caught(lambda: generation.begin_pass(p, kwargs.get("x")))
        if error is not None:
            _finish(p)
            refuse_at_sampling(p, error)
        else:
            _running.append(generation)

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """The batch is sampled and decoded: end its pass."""
        generation = _of(p)
        if generation is None:
            return
        if generation.ended:
            p.extra_generation_params[f"{PREFIX} ended"] = generation.ended
        generation.end_batch()
        _show_notes(p, generation)

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """One picture is there, and not saved yet: draw its subjects again."""
        _detail(p, pp)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """All pictures are there: add those that the user asked for, or save them where a script works on them."""
        generation = _of(p)
        without_blanks(p, processed)
        if generation is not None:
            generation.stop_following()  # the picture without CLoRA has ADetailer's boxes without it
            script = script_at_work(p)
            if script:
                gallery.save(p, processed, generation, script, _baseline(p, generation) if saves_pictures(p) else ())
            else:
                gallery.add(processed, generation, _baseline(p, generation))
            _show_notes(p, generation)  # a script's own result has the comments of the job, not of this one
            _add_notes(processed, generation.notes)
        _finish(p)


_running: list[Generation] = []


def _of(p: Any) -> Generation | None:
    """The state of this job; a copy of the job (ADetailer passes some to scripts) has none."""
    generation: Generation | None = getattr(p, _KEY, None)
    return generation if generation is not None and generation.job is p else None


def _detail(p: Any, pp: Any) -> None:
    """The detail pass of one picture; what fails is told and leaves the picture as it is by then."""
    generation = _of(p)
    if generation is not None:
        error = caught(lambda: add_detail(p, pp, generation, partial(_composing, p)))
        if error is not None:
            generation.notes.append(str(error))


def _composing(p: Any, request: Request) -> Script:
    """A copy of this job's script that composes the inner jobs it takes part in by the request."""
    script = copy(next(one for one in p.scripts.alwayson_scripts if isinstance(one, Script)))
    script.request = request
    return script


def _finish(p: Any) -> None:
    generation = _of(p)
    if generation is not None:
        generation.release()
        generation.stop_following()
        _running[:] = [one for one in _running if one is not generation]
        delattr(p, _KEY)


def _end_stale() -> None:
    """The host calls no script after a job has failed: remove its hooks when the next job begins."""
    while _running:
        _running.pop().release()


def _baseline(p: Any, generation: Generation) -> list[Any]:
    """The pictures without CLoRA if they are asked for and would differ; if they fail, CLoRA's pictures are kept."""
    if not (generation.request.settings.show_merge and any(generation.shown)):
        return []
    try:
        return baseline_images(p)
    except Exception as error:
        host_api.log_error("CLoRA could not draw the picture without CLoRA")
        generation.notes.append(f"The picture without CLoRA could not be drawn ({type(error).__name__}: {error}).")
        return []


def _request(p: Any, args: tuple[Any, ...]) -> tuple[Request | None, list[str]]:
    """The request of panel or API, with the values of an X/Y/Z plot, and notes about it. Raises: CLoRAError."""
    request = read_request(args)
    varied = dict(getattr(p, xyz.KEY, {}))
    if not varied:
        return request, []
    notes = [] if request is not None else [xyz.TURNED_ON]
    request = request or read_request(args, even_off=True)
    assert request is not None
    settings = Settings(varied.pop("preset")) if "preset" in varied else request.settings
    return Request(settings.replace(**varied), request.corrections, request.plan), notes


def _infotext(request: Request) -> dict[str, str]:
    fields = infotext_fields(request.settings)
    corrections = write_corrections(request.corrections)
    return {**fields, CORRECTIONS: corrections} if corrections else fields


def _show_notes(p: Any, generation: Generation) -> None:
    """Show the notes under the picture, each once."""
    for note in dict.fromkeys(generation.notes):
        p.comment(note)


def _add_notes(processed: Any, notes: list[str]) -> None:
    """Add the notes after the host has gathered its comments; the API's answer has them in its `info`."""
    processed.comments += "".join(f"{note}\n" for note in notes if note not in processed.comments)
    if notes:
        # A new dict, because the host's own is the job's, from which infotexts are written.
        shown = {f"{PREFIX} notes": list(dict.fromkeys(notes))}
        processed.extra_generation_params = {**processed.extra_generation_params, **shown}


def register() -> None:
    """Register axes, options and routes, which are added when the host builds its page and its server."""

    def axes() -> None:
        module = host_api.xyz_module()
        if module is not None:
            xyz.add_axes(module)

    host_api.script_callbacks.on_before_ui(axes)
    host_api.script_callbacks.on_ui_settings(options.add)
    host_api.script_callbacks.on_app_started(lambda demo, app: api.add_routes(app, read_prompt))
