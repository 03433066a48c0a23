"""`doctor` on a real Asterisk: the rights of the AMI user, and the clock."""

import json

from celcombiller.asterisk.ami.probe import NO_EVENTS


def findings(biller, status):
    """Run it; give what it says of the server."""
    found = json.loads(biller.run_program("doctor", "--json", status=status))
    return [each for each in found if each["subject"] == "asterisk pbx1"]


def test_a_right_ami_user_is_right(biller):
    biller.prepare({})
    (biller.folder / "celcombiller.toml").chmod(0o600)
    (biller.folder / "celcombiller.sqlite").chmod(0o600)
    found = findings(biller, 0)
    assert [each["remedy"] for each in found] == ["", ""]
    assert "its clock is 0.0 s from this one" in [each["found"] for each in found]


def test_an_ami_user_without_events_is_found(biller):
    biller.ami_user = "deaf"
    biller.prepare({})
    assert NO_EVENTS in [each["remedy"] for each in findings(biller, 1)]
    biller.secret = "wrong"
    biller.write()
    (found,) = findings(biller, 1)
    assert "manager.conf" in found["remedy"]
