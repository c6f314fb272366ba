"""Pictures that explain a composition, for WebUIs, the page and the command line. Uses Pillow; imports no host."""

from .curve import loss_curve
from .heat import flat, heat, map_strip
from .overlay import masks_overlay
from .palette import concept_color
from .sheet import side_by_side

__all__ = ["concept_color", "flat", "heat", "loss_curve", "map_strip", "masks_overlay", "side_by_side"]
