"""What every suite may use."""

import pytest
from system import System, scripted_kernel


@pytest.fixture
def system() -> System:
    return scripted_kernel
