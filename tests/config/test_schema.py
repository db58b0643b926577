import pytest

from detflow.config.reading import parse_config
from detflow.errors import ConfigError


def test_a_byte_budget_has_a_unit():
    assert (
        parse_config("data: {records: x}", ["checkpoint.max_bytes=2GB"]).checkpoint.max_bytes
        == 2_000_000_000
    )
    with pytest.raises(ConfigError, match=r"checkpoint\.max_bytes"):
        parse_config("data: {records: x}", ["checkpoint.max_bytes=much"])


def test_what_is_kept_for_good_is_saved_at_all():
    with pytest.raises(ConfigError, match="keep_every 500 must be a multiple of every_steps 300"):
        parse_config("data: {records: x}", ["checkpoint.keep_every=500"])
