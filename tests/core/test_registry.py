import pytest

from feedwell.core import registry
from feedwell.core.errors import UsageError


def test_a_part_in_a_users_own_file_is_found_by_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from feedwell.core.registry import source\n\n@source('mine_for_test')\nclass Mine:\n    Config = None\n",
        encoding="utf-8",
    )
    registry.load_plugin(path)
    registry.load_plugin(path)
    part = registry.find("source", "mine_for_test")
    assert (part.kind, part.name) == ("source", "mine_for_test")
    assert "mine_for_test" in registry.names("source")


def test_an_unknown_name_suggests_the_nearest():
    @registry.source("unheard_of")
    class Part:
        Config = None

    with pytest.raises(UsageError, match="did you mean 'unheard_of'"):
        registry.find("source", "unheard_off")


def test_two_parts_of_one_name_are_an_error():
    @registry.filter("twice")
    class First:
        Config = None

    with pytest.raises(UsageError, match="two filters are called 'twice'"):

        @registry.filter("twice")
        class Second:
            Config = None


def test_a_plugin_that_is_no_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.py"):
        registry.load_plugin(tmp_path / "absent.py")


def test_a_part_without_config_is_refused_where_it_is_written():
    with pytest.raises(UsageError, match="'bare' has no Config"):

        @registry.source("bare")
        class Bare:
            pass
