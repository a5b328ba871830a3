"""What every test may ask for."""

import os
from pathlib import Path

import pytest
import torch

# What is measured in tests must not be found by others, nor found from before, also in processes that tests start.
os.environ["UBERTRAIN_CACHE"] = "off"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real annotated images, or a skip that says how to get it."""
    root = os.environ.get("UBERTRAIN_DATA")
    if not root:
        pytest.skip("set UBERTRAIN_DATA to the folder of real annotated images to run this test")
    return Path(root)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)
