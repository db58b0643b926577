import pytest


@pytest.fixture
def pictures(voc_set):
    return voc_set
