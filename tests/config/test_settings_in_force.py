"""The settings in force: where each comes from, and no secret among them."""

import os

import msgspec
from msgspec import inspect

from celcombiller.cli import main
from celcombiller.config import settings_in_force
from celcombiller.config.loader import load
from celcombiller.config.settings_in_force import SettingSource, list_settings, read_origins
from celcombiller.config.tables import Config

SECRETS = {"asterisk.secret", "payments.secret", "radius.clients.secret", "smpp.password"}
FILES_OF_SECRETS = {f"{each}_file" for each in SECRETS}
TEXT = """
[database]
url = "postgresql+psycopg://biller:topsecret@db/ledger"
[calls]
ring_seconds = 30
[smpp]
host = "smsc"
system_id = "us"
[[asterisk]]
name = "pbx1"
host = "127.0.0.1"
username = "biller"
secret = "topsecret"
[[radius.clients]]
name = "nas"
address = "10.0.0.1"
secret_file = "nas.secret"
"""


def settings(tmp_path, environ):
    file = tmp_path / "celcombiller.toml"
    file.write_text(TEXT)
    (tmp_path / "nas.secret").write_text("topsecret-of-the-nas")
    found = list_settings(load(file, environ), read_origins(file, environ))
    return {
        ".".join(str(each) for each in (one.table, one.position, one.key) if each is not None): one for one in found
    }


def text_keys(kind=Config, place=""):
    """Give the names of all settings with free text."""
    for field in msgspec.structs.fields(kind):
        item = inspect.type_info(field.type)
        while isinstance(item, inspect.Metadata | inspect.VarTupleType):
            item = item.type if isinstance(item, inspect.Metadata) else item.item_type
        name = f"{place}{field.name}"
        if isinstance(item, inspect.StructType):
            yield from text_keys(item.cls, f"{name}.")
        elif isinstance(item, inspect.StrType):
            yield name


def test_each_setting_says_where_it_comes_from(tmp_path):
    (tmp_path / "smsc.secret").write_text("topsec")
    environ = {"CELCOMBILLER_REST_SESSION_HOURS": "3", "CELCOMBILLER_SMPP_PASSWORD_FILE": "smsc.secret"}
    found = settings(tmp_path, environ)
    wanted = {
        "rest.session_hours": (3, SettingSource.ENVIRONMENT),
        "calls.ring_seconds": (30, SettingSource.FILE),
        "calls.max_call_seconds": (7200, SettingSource.DEFAULT),
        "agi.allow": (["127.0.0.1", "::1"], SettingSource.DEFAULT),
        "asterisk.1.host": ("127.0.0.1", SettingSource.FILE),
        "asterisk.1.port": (5038, SettingSource.DEFAULT),
        "radius.clients.1.secret": (None, SettingSource.FILE),
        "smpp.password": (None, SettingSource.ENVIRONMENT),
    }
    assert {name: (found[name].value, found[name].source) for name in wanted} == wanted


def test_no_secret_is_shown(tmp_path):
    found = settings(tmp_path, {})
    assert "topsec" not in repr(found)
    assert found["database.url"].value == "postgresql+psycopg://biller:***@db/ledger"
    assert {name for name, each in found.items() if each.is_hidden} == {
        "asterisk.1.secret",
        "radius.clients.1.secret",
        "smpp.password",
    }


def test_each_text_is_shown_or_known_secret():
    assert set(text_keys()) == settings_in_force._SHOWN | SECRETS | FILES_OF_SECRETS, "a new text stays hidden"
    assert settings_in_force._SHOWN.isdisjoint(SECRETS)


def test_unknown_texts_are_hidden(tmp_path, monkeypatch):
    monkeypatch.setattr(settings_in_force, "_SHOWN", settings_in_force._SHOWN - {"smpp.system_id"})
    assert settings(tmp_path, {})["smpp.system_id"].is_hidden


def test_the_command_lists_settings_without_secrets(tmp_path, monkeypatch, capsys):
    settings(tmp_path, {})
    for name in [name for name in os.environ if name.startswith("CELCOMBILLER_")]:
        monkeypatch.delenv(name)
    assert main(["--config", str(tmp_path / "celcombiller.toml"), "settings"]) == 0
    shown = capsys.readouterr().out
    assert "topsec" not in shown
    lines = {" ".join(line.split()) for line in shown.splitlines()}
    assert {"calls.ring_seconds 30 file", "asterisk.1.secret (hidden) file"} <= lines
