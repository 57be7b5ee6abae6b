"""Sizes in bytes as people write them."""

import pytest

from archduel.commands.options import parse_bytes
from archduel.errors import SettingError


@pytest.mark.parametrize(
    ("text", "number"),
    [("64kB", 64_000), ("64 KB", 64_000), ("64KiB", 65_536), ("0.5MB", 500_000), ("1MiB", 1_048_576), ("65536", 65_536), ("100B", 100), (64_000, 64_000)],
)
def test_sizes(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["64kb", "64k", "-1kB", "many", "", "1e3kB", "0", "0kB", "64kB RAM", "9" * 400])
def test_what_is_no_size_is_refused_with_the_option_and_examples(text):
    with pytest.raises(SettingError, match=r"--max-ram .*(64kB|at least 1 byte)"):
        parse_bytes(text, "--max-ram")
