"""Parts: which part of a body, or which piece of clothing, each pixel shows."""

from ubertrain.annotation.parts import Parts as PartsKind
from ubertrain.metrics.parts_iou import PartsIoU
from ubertrain.registry import register_task
from ubertrain.tasks.segmentation import Segmentation


@register_task("parts")
class Parts(Segmentation):
    """Parts of people, or of what else has parts: a segmentation whose label and score are its own.

    Keys, head, loss and picture are those of `segmentation`. Images without a part are trained on as background, and are left
    out of the score. A flip exchanges left and right where the data set says which classes are pairs.
    """

    annotation = PartsKind

    def metric(self) -> PartsIoU:
        """Mean intersection over union over images with parts; the background is the class of that name, else the first."""
        named = [name.lower() for name in self.names]
        background = named.index("background") if "background" in named else 0
        return PartsIoU(self.names, background=background, absent=self.absent)
