import re

from benchmarks import power


def test_it_prints_power_and_error(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["power.py", "--rounds", "2", "--folds", "5"])
    power.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) == 14
    for row in rows:
        donors, _, _, over, found, wrong = (part.strip() for part in row.strip("| ").split("|"))
        if over == "donors" and int(donors) >= 8:
            assert found == "100%"
            assert float(wrong.rstrip("%")) < 15  # of two rounds
