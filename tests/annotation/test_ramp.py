import numpy as np

from ubertrain.annotation.ramp import ink, turbo


def test_turbo_runs_from_blue_over_green_to_red() -> None:
    """The dominant channel is blue low, green in the middle and red high."""
    low, middle, high = turbo(np.array([[0.1, 0.5, 0.9]]))[0].astype(int)
    assert [int(colour.argmax()) for colour in (low, middle, high)] == [2, 1, 0]


def test_turbo_has_no_jumps() -> None:
    """Neighbouring values have neighbouring colours, so that a ramp shows no false contours."""
    steps = np.abs(np.diff(turbo(np.linspace(0, 1, 1000)[None])[0].astype(int), axis=0))
    assert steps.max() <= 4


def test_values_beyond_the_ends_take_the_colours_of_the_ends() -> None:
    """Numbers outside [0, 1] are clipped."""
    place = np.array([[-3.0, 0.0, 1.0, 7.0]])
    for ramp in (turbo, ink):
        below, first, last, above = ramp(place)[0].tolist()
        assert (below, above) == (first, last)


def test_ink_darkens() -> None:
    """0 is white paper, 1 is black."""
    assert ink(np.array([[0.0, 1.0]]))[0].tolist() == [[255] * 3, [0] * 3]
