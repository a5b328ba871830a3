"""What scoring comes to."""

import json

from ubertrain.scoring.score import Score


def test_the_plain_form_holds_everything_but_single_images() -> None:
    """It survives JSON; what there is none of is not there."""
    whole = Score("a sentence", {"AP": 0.5}, 2, {"a": "why"}, {"cat": {"AP": 0.5}}, {"b": {"AP": 1.0}}, ({"recall": 0.1},))
    assert json.loads(json.dumps(whole.json())) == {
        "protocol": "a sentence", "scores": {"AP": 0.5}, "images": 2, "skipped": {"a": "why"}, "classes": {"cat": {"AP": 0.5}},
        "curve": [{"recall": 0.1}],
    }  # fmt: skip
    assert set(Score("a sentence", {"AP": 0.5}, 2).json()) == {"protocol", "scores", "images", "skipped"}


def test_skipped_images_are_told_by_reason() -> None:
    """Each reason once, with its images."""
    score = Score("", {}, 0, {"a": "dark", "b": "blurred", "c": "dark"})
    assert score.reasons() == {"dark": ["a", "c"], "blurred": ["b"]}
