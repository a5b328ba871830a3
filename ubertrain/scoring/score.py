"""What scoring comes to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Score:
    """The scores of one set of predictions against its truth.

    Attributes:
        protocol: one sentence: what was computed, by which convention; enough to know what it may be compared with.
        scores: by name, the one to report first. `nan` = not defined on this truth.
        images: how many were scored.
        skipped: id -> why it was not scored.
        classes: class name -> its scores by name; the same names for each class. Empty where there are no classes.
        per_image: id -> its scores by name. Empty where the scores of single images mean nothing.
        curve: points from the loosest threshold to the strictest, each with its coordinates by name; None if there is none.
    """

    protocol: str
    scores: Mapping[str, float]
    images: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    per_image: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] | None = None

    def json(self) -> dict[str, Any]:
        """Everything but the scores of single images in plain dicts, lists and numbers; what there is none of is left out."""
        form: dict[str, Any] = {"protocol": self.protocol, "scores": dict(self.scores), "images": self.images}
        form["skipped"] = dict(self.skipped)
        if self.classes:
            form["classes"] = {name: dict(values) for name, values in self.classes.items()}
        if self.curve is not None:
            form["curve"] = [dict(point) for point in self.curve]
        return form

    def reasons(self) -> dict[str, list[str]]:
        """Why images were skipped, and which for each reason, in the order of their first appearance."""
        ids: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            ids.setdefault(reason, []).append(name)
        return ids
