"""What commands print. Names, reasons and results come from others, and a terminal does what it is told."""

from __future__ import annotations

import pytest

from skerry.cli.options import Output
from skerry.cli.output import print_checks, print_error, print_one, print_table
from skerry.errors import Code, Refused
from skerry.node.verbs import Check, DoctorReply

EVIL = "a\x1b]0;owned\x07b\x9b2Jc\u202ed\re\nf\tg"


def test_what_others_said_moves_nothing_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(Refused(EVIL, code=Code.BUSY, hint=EVIL), as_json=False)
    with pytest.raises(SystemExit):
        print_checks(DoctorReply([Check("reach", False, EVIL, EVIL)]), Output.TABLE)
    print_table(["name", "about"], [["x", EVIL]], empty="none")
    print_one({}, Output.TABLE, rows=[("name", EVIL)])
    said = "".join(capsys.readouterr())
    assert said.count("owned") >= 5
    assert not {c for c in said if not c.isprintable()} - {"\n"}


def test_an_error_stays_in_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(Refused("one\nerror: two\n  -> run this", code=Code.BUSY, hint="three"), as_json=False)
    assert capsys.readouterr().err == "error: one error: two   -> run this\n  -> three\n"
