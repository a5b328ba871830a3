"""Names of stages from the paths in them."""

import pytest

from ubertrain.splitting.stage_names import Held, name_stages

BLOCK = Held(products=["a.0.conv1", "a.0.conv2"], layers=["a.0.conv1"], paths=["a.0.conv1", "a.0.bn1", "a.0.conv2", "a.0"])
CASES = {
    "a block has its path": ([BLOCK, Held(products=["a.1.conv1"], paths=["a.1.conv1"])], ["a.0", "a.1.conv1"]),
    "a list of one block is the block": ([BLOCK], ["a.0"]),
    "a stem and what follows it is the stem": (
        [Held(products=["stem.0"], paths=["stem.0", "stem.1", "pool"]), BLOCK],
        ["stem", "a.0"],
    ),
    "pieces are named after their products": (
        [Held(products=["a.conv1"], paths=["a.conv1"]), Held(products=["a.conv2"], paths=["a.bn1", "a.conv2"])],
        ["a.conv1", "a.conv2"],
    ),
    "without a product, after a layer": (
        [Held(products=["a.conv"], paths=["a.conv"]), Held(layers=["a.bn", "a.act"], paths=["a.bn", "a.act", "a"])],
        ["a.conv", "a.bn"],
    ),
    "without a module, after an operation": ([Held(paths=[""], operation="cat_1")], ["cat_1"]),
    "what runs twice is numbered": ([Held(products=["a"], paths=["a"])] * 2, ["a.0", "a.1"]),
    "numbers keep clear of names": (
        [Held(products=["a"], paths=["a"]), Held(products=["a.0.b"], paths=["a.0.b", "c"]), Held(products=["a"], paths=["a"])],
        ["a.1", "a.0.b", "a.2"],
    ),
    "numbers go to the outer first": (
        [Held(products=["a.b"], paths=["a.b"]), Held(products=["a.b"], paths=["a.b"]), Held(products=["a"], paths=["a"])],
        ["a.b.0", "a.b.1", "a.0"],
    ),
    "a tap is found last": (
        [Held(products=["a.0"], paths=["a.0"], taps=["a"]), Held(products=["a.1"], paths=["a.1", "b"])],
        ["a.0", "after_a.1"],
    ),
    "a tap gives its name": ([Held(products=["conv"], paths=["conv", "act"], taps=["act"])], ["act"]),
    "what schedules and torch refuse is replaced": ([Held(products=["a b.items"], paths=["a b.items"])], ["a_b.items_"]),
}


@pytest.mark.parametrize("case", CASES)
def test_names(case: str) -> None:
    """Each rule on the smallest list that shows it."""
    stages, expected = CASES[case]
    assert name_stages(stages) == expected
