"""Scripts that the user selects in the host, one for a job. They build their result from the pictures of inner jobs.

Can be imported inside a WebUI only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modules import images, shared


def script_at_work(p: Any) -> str:
    """The title of the selected script that draws this job, "" without one."""
    given = getattr(p, "script_args", None) or (0,)
    known = getattr(getattr(p, "scripts", None), "selectable_scripts", None) or []
    number = given[0] if isinstance(given[0], int) else 0
    return str(known[number - 1].title()) if 0 < number <= len(known) else ""


def saves_pictures(p: Any) -> bool:
    """Whether the host saves the pictures of this job."""
    return bool(shared.opts.samples_save) and not p.do_not_save_samples


def save_beside(p: Any, number: int, picture: Any, infotext: str) -> Path:
    """Save a picture that belongs to picture `number` of the job where the host saves that one; the folder."""
    file, _ = images.save_image(
        picture, p.outpath_samples, "", p.all_seeds[number], p.all_prompts[number], shared.opts.samples_format,
        info=infotext, p=p, suffix="-clora",
    )  # fmt: skip
    return Path(file).parent
