"""The table at the end of a run."""

import math

import pytest

from ubertrain.training.report import TaskResult


@pytest.mark.parametrize(
    ("higher", "after", "constant", "beaten"),
    [
        (True, 0.5, 0.4, True),
        (True, 0.4, 0.4, False),
        (False, 0.5, 0.4, False),
        (False, 0.3, 0.4, True),
        (True, math.nan, 0.4, None),
        (False, 0.3, math.nan, None),
    ],
)
def test_a_constant_answer_is_beaten_in_the_direction_of_the_score(
    higher: bool, after: float, constant: float, beaten: bool | None
) -> None:
    """A tie is no win, and what was not measured is neither a win nor a loss."""
    assert TaskResult("score", higher, math.nan, after, constant).beats_constant is beaten
