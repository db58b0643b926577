import click
import pytest

from detflow.cli.main import cli
from detflow.cli.options import FieldOption, read_default
from detflow.data.making import RecordOptions
from detflow.data.sources.splits import SplitBy
from detflow.serving.limits import Limits


def options(command):
    return {
        option: parameter
        for parameter in cli.commands[command].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }


def shown(command, option):
    extra = options(command)[option].get_help_extra(click.Context(cli.commands[command]))
    return extra.get("default")


def test_a_default_is_read_from_a_dataclass_a_function_or_a_constant():
    assert read_default("detflow.serving.limits:Limits.max_queue") == Limits().max_queue
    fractions = read_default("detflow.data.judging.audit:AuditOptions.fractions")
    assert fractions == RecordOptions().audit.fractions
    assert read_default("detflow.api.model:predict.every") == 1
    assert "frozen" in read_default("detflow.exporting.choice:DEFAULT_FORMATS")


@pytest.mark.parametrize(
    ("command", "option", "default"),
    [
        ("check", "--split", "train=0.8,val=0.1,test=0.1"),
        ("check", "--split-by", "auto"),
        ("make-records", "--max-pixels", "50,000,000"),
        ("make-records", "--report", "report"),
        ("serve", "--max-body-mb", "16"),
        ("serve", "--max-delay-ms", "5.0"),
        ("serve", "--host", "127.0.0.1"),
        ("predict", "--score-threshold", "0.3"),
        ("benchmark", "--seconds", "3.0"),
    ],
)
def test_help_shows_the_default_in_the_option_s_own_unit(command, option, default):
    assert shown(command, option) == default


def test_an_option_that_is_given_is_turned_into_the_field_s_unit():
    found = []

    @click.command()
    @click.option(
        "--mb",
        "num_bytes",
        cls=FieldOption,
        field="detflow.serving.limits:Limits.max_body_bytes",
        unit=1 << 20,
        type=int,
    )
    def command(num_bytes):
        found.append(num_bytes)

    command.main(["--mb", "3"], standalone_mode=False)
    command.main([], standalone_mode=False)
    assert found == [3 << 20, None]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_no_number_of_any_command_may_be_nan_or_infinite(value):
    ranges = {
        f"{name} {parameter.name}": parameter.type
        for name, command in cli.commands.items()
        for parameter in command.params
        if isinstance(parameter.type, click.types.FloatParamType)
    }
    assert len(ranges) > 5
    for kind in ranges.values():
        with pytest.raises(click.BadParameter, match=r"not a finite number$|not in the range"):
            kind.convert(value, None, None)


def test_every_limit_of_the_server_has_an_option_or_none_on_purpose():
    fields = {parameter.name for parameter in options("serve").values()}
    without = {"max_aspect", "max_connections", "max_header_bytes", "header_s"}
    assert set(Limits.__slots__) - fields == without


def test_split_by_offers_every_rule():
    assert list(options("check")["--split-by"].type.choices) == [rule.value for rule in SplitBy]
