import pytest

from ranklock.audits.budget import Budget, parse_budget
from ranklock.errors import OptionError


@pytest.mark.parametrize(
    ("text", "forwards", "seconds"),
    [("4000", 4000, None), (12, 12, None), ("90s", None, 90.0), ("10m", None, 600.0),
     ("1.5h", None, 5400.0), (" 2 m ", None, 120.0)],
)  # fmt: skip
def test_forwards_or_time(text, forwards, seconds):
    assert parse_budget(text) == Budget(str(text).strip(), forwards, seconds)


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "ten", "1d", "1.5", "10 m s", "1e3"])
def test_all_else_is_refused(text):
    with pytest.raises(OptionError, match="neither a number of forwards"):
        parse_budget(text)
