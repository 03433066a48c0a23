"""Settings: a file and the environment become one Config, or one line that helps."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
import trustme
import tzlocal
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.config import loader
from celcombiller.config.loader import load
from celcombiller.config.tables import (
    Asterisk,
    Config,
    Database,
    Outage,
    PaymentProvider,
    RadioNetwork,
    RadiusClient,
    RateRow,
    Sellers,
)
from celcombiller.core.errors import ConfigError
from celcombiller.core.model.accounts import Kind

EXAMPLE = Path(__file__).parents[2] / "etc" / "celcombiller.toml"
SERVER = '[[asterisk]]\nname = "pbx1"\nhost = "127.0.0.1"\nusername = "biller"\n'


@pytest.fixture(autouse=True)
def no_system_file(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "SYSTEM_FILE", tmp_path / "etc-of-the-machine.toml")


@pytest.fixture
def written(tmp_path):
    """Write the file and load it."""

    def load_text(text, **environ):
        file = tmp_path / "celcombiller.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, environ)

    return load_text


@pytest.fixture
def refusal(written):
    """Load what must be refused; return the line without the folder."""

    def line_of(text, **environ):
        with pytest.raises(ConfigError) as caught:
            written(text, **environ)
        line = str(caught.value)
        assert "\n" not in line
        return line[line.find("celcombiller.toml") :] if "celcombiller.toml" in line else line

    return line_of


def defaults(folder):
    """Return the settings without a file, with the ledger in a folder."""
    return Config(database=Database().relative_to(folder))


def every_key(struct=Config):
    """All (section, key) of the file."""
    for field in msgspec.structs.fields(struct):
        lists = {"asterisk": Asterisk, "provisioning": RadioNetwork, "rates": RateRow, "outage": Outage}
        inner = (lists | {"payments": PaymentProvider}).get(field.name, field.type)
        for each in msgspec.structs.fields(inner):
            yield field.name, each.name
    if struct is Config:
        yield from (("radius.clients", each.name) for each in msgspec.structs.fields(RadiusClient))


# -- where settings come from


def test_without_a_file_the_defaults_hold(tmp_path):
    settings = load(None, {}, tmp_path)
    assert settings == defaults(tmp_path)
    assert settings.database.url == f"sqlite:///{tmp_path}/celcombiller.sqlite"
    assert (settings.rest.listen, settings.agi.listen) == (
        "tcp:5000:interface=127.0.0.1",
        "tcp:4573:interface=127.0.0.1",
    )
    assert settings.agi.allow == ("127.0.0.1", "::1")
    assert (settings.calls.ring_seconds, settings.calls.max_call_seconds) == (40, 7200)
    assert settings.calls.always_allowed == ("112", "190")
    assert settings.calls.on_failure == "deny"
    assert settings.rates == (RateRow(prefix="", price=1, increment_seconds=1, connect_fee=0),)


def test_the_current_folders_file_wins(tmp_path, monkeypatch):
    machine = tmp_path / "machine.toml"
    machine.write_text("[calls]\nring_seconds = 11", encoding="utf-8")
    monkeypatch.setattr(loader, "SYSTEM_FILE", machine)
    assert load(None, {}, tmp_path).calls.ring_seconds == 11
    (tmp_path / "celcombiller.toml").write_text("[calls]\nring_seconds = 12", encoding="utf-8")
    assert load(None, {}, tmp_path).calls.ring_seconds == 12


def test_a_missing_named_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml", {})


def test_the_environment_wins_over_the_file(written):
    settings = written(
        '[calls]\nring_seconds = 30\non_failure = "allow"',
        CELCOMBILLER_CALLS_RING_SECONDS="50",
        CELCOMBILLER_CALLS_ALWAYS_ALLOWED="911, 112",
        CELCOMBILLER_DATABASE_URL="postgresql+psycopg://biller@db/biller",
        HOME="/nowhere",
    )
    assert settings.calls.ring_seconds == 50
    assert settings.calls.on_failure == "allow"
    assert settings.calls.always_allowed == ("911", "112")
    assert settings.database.url == "postgresql+psycopg://biller@db/biller"


def test_an_empty_list_from_the_environment_is_empty(written):
    assert written("", CELCOMBILLER_CALLS_ALWAYS_ALLOWED="").calls.always_allowed == ()


def test_variables_of_no_section_are_left_alone(written, tmp_path):
    assert written("", CELCOMBILLER_POSTGRES="1", CELCOMBILLER_="", CELCOMBILLER="x") == defaults(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        (
            "CELCOMBILLER_CALLS_RING_SECONDS",
            "forty",
            'environment: CELCOMBILLER_CALLS_RING_SECONDS: must be a whole number from 5 to 300, not "forty"',
        ),
        (
            "CELCOMBILLER_CALLS_RINGSECONDS",
            "40",
            "environment: CELCOMBILLER_CALLS_RINGSECONDS: unknown; did you mean CELCOMBILLER_CALLS_RING_SECONDS?",
        ),
        (
            "CELCOMBILLER_AGI_ALLOW",
            "127.0.0.1,10.0.0.300",
            "environment: CELCOMBILLER_AGI_ALLOW: must be an IP address or a network such as 10.0.0.0/8, "
            'not "10.0.0.300"',
        ),
        (
            "CELCOMBILLER_ASTERISK_SECRET",
            "hush",
            "environment: CELCOMBILLER_ASTERISK_SECRET: [[asterisk]] tables are set in the file only; "
            "keep the secret out of it with secret_file",
        ),
    ],
)
def test_a_wrong_variable_is_named(refusal, name, value, line):
    assert refusal("", **{name: value}) == line


@pytest.mark.parametrize(
    ("listen", "absolute"),
    [
        ("unix:rest.sock", "unix:{folder}/rest.sock"),
        ("unix:run/rest.sock:mode=660", "unix:{folder}/run/rest.sock:mode=660"),
        ("unix:/run/rest.sock", "unix:/run/rest.sock"),
        ("haproxy:unix:rest.sock", "haproxy:unix:{folder}/rest.sock"),
        (
            "ssl:5000:privateKey=key.pem:certKey=/etc/chain.pem",
            "ssl:5000:privateKey={folder}/key.pem:certKey=/etc/chain.pem",
        ),
        ("tcp:5000:interface=127.0.0.1", "tcp:5000:interface=127.0.0.1"),
    ],
)
def test_paths_of_endpoints_are_beside_the_file(written, tmp_path, listen, absolute):
    assert written(f'[rest]\nlisten = "{listen}"').rest.listen == absolute.format(folder=tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///",
        "sqlite://",
        "sqlite:///a?b=1",
        "sqlite:///file:a?uri=true",
        "sqlite:///file:a",
        "sqlite:///a\\u0000b",
    ],
)
def test_a_url_of_no_plain_file_is_refused(refusal, url):
    assert "database.url" in refusal(f'[database]\nurl = "{url}"')


# -- the example file


def test_the_example_file_says_exactly_the_defaults():
    """But for the database, which stands where the system's service may write."""
    assert load(EXAMPLE, {}) == defaults(Path("/var/lib/celcombiller"))


def test_the_example_file_names_every_setting():
    text = uncommented(EXAMPLE.read_text(encoding="utf-8"))
    tables = tomllib.loads(text)
    for section, key in every_key():
        if key == "secret_file":
            assert "secret_file" in text
            continue
        found = tables
        for name in section.split("."):
            found = found[name]
        table = found[0] if isinstance(found, list) else found
        assert key in table, f"{section}.{key}"


def test_the_examples_commented_out_server_is_valid(written):
    (server,) = written(uncommented(EXAMPLE.read_text(encoding="utf-8"))).asterisk
    assert (server.name, server.port, server.username) == ("pbx1", 5038, "celcombiller")


def test_the_example_nas_is_valid_and_default(written):
    (client,) = written(uncommented(EXAMPLE.read_text(encoding="utf-8"))).radius.clients
    assert client == RadiusClient(name="hotspot", address="192.0.2.1", secret="change me")


def test_the_radius_guides_settings_are_valid(written, tmp_path):
    guide = (EXAMPLE.parents[1] / "docs" / "how-to" / "data-by-radius.md").read_text(encoding="utf-8")
    (tmp_path / "hotspot.secret").write_text("s")
    (client,) = written(guide.partition("```toml\n")[2].partition("```")[0]).radius.clients
    assert (client.name, client.volume, client.secret) == ("hotspot", "mikrotik", "s")


NAS = '[[radius.clients]]\nname = "hotspot"\naddress = "192.0.2.1"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (NAS, "[[radius.clients]] table 1: secret: write exactly one of secret and secret_file"),
        (
            NAS.replace(".1", ".0/33") + 'secret = "s"',
            "[[radius.clients]] table 1: address: must be an IP address or a network such as 10.0.0.0/8,"
            ' not "192.0.2.0/33"',
        ),
        (
            (NAS + 'secret = "s"\n') * 2,
            'radius.clients: 2 tables have name = "hotspot"; each needs its own',
        ),
        (
            NAS + 'secret = "s"\npasswords = "no"',
            '[[radius.clients]] table 1: passwords: must be "check" or "ignore", not "no"',
        ),
        (NAS + 'secret_file = "none"', None),
        ('[radius]\ninterface = "here"', 'radius.interface: must be an IP address, not "here"'),
        ("[radius]\nquota_octets = -1", "radius.quota_octets: must be a whole number from 0 to 1000000000000, not -1"),
    ],
)
def test_a_wrong_nas_is_one_line(refusal, text, line):
    said = refusal(text)
    if line is None:
        assert "[[radius.clients]] table 1: secret_file" in said
    else:
        assert said == f"celcombiller.toml: {line}"


def test_a_nas_secret_file_is_read_and_hidden(written, tmp_path):
    (tmp_path / "nas.secret").write_text("xyzzy\n")
    settings = written(NAS + 'secret_file = "nas.secret"')
    assert settings.radius.clients[0].secret == "xyzzy"
    assert "xyzzy" not in repr(settings)


def uncommented(text):
    return re.sub(
        r"^# (\[\[(?:asterisk|provisioning|outage|payments|radius\.clients)\]\]|[a-z_]+ = .*)$",
        r"\1",
        text,
        flags=re.MULTILINE,
    )


# -- what is refused, and how


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[calls]\nring_seconds = "forty"', 'calls.ring_seconds: must be a whole number from 5 to 300, not "forty"'),
        ("[calls]\nring_seconds = true", "calls.ring_seconds: must be a whole number from 5 to 300, not true"),
        ("[calls]\nring_seconds = 1", "calls.ring_seconds: must be a whole number from 5 to 300, not 1"),
        ("[calls]\nring_second = 40", "calls.ring_second: unknown; did you mean ring_seconds?"),
        ("[call]\nring_seconds = 40", "call: unknown; did you mean calls?"),
        ("calls = 3", "calls: must be a table, not 3"),
        ('[calls]\non_failure = "maybe"', 'calls.on_failure: must be "allow" or "deny", not "maybe"'),
        ('[calls]\nalways_allowed = "112"', "calls.always_allowed: must be a list, each item a number"),
        ('[calls]\nalways_allowed = ["112", "1&2"]', "calls.always_allowed item 2: must be a number as it is dialled"),
        ('[calls]\nalways_allowed = ["112\\n"]', "calls.always_allowed item 1: must be a number as it is dialled"),
        ('[schedules]\nrun_at = "24:00"', 'schedules.run_at: must be a time of the day such as "00:30", not "24:00"'),
        ("[schedules]\nrun_at = 00:30:00", 'schedules.run_at: must be a time of the day such as "00:30"'),
        ("[schedules]\ndisabled_use_up = 1", "schedules.disabled_use_up: must be true or false, not 1"),
        ('[schedules]\ntime_zone = "Mars"', "schedules.time_zone: must be a name of the IANA list such as"),
        ('[schedules]\ntime_zone = "../passwd"', "schedules.time_zone: must be a name of the IANA list such as"),
        ('[agi]\nlisten = "5000"', "agi.listen: must be an endpoint such as"),
        ('[rest]\nlisten = "tcp:70000"', "rest.listen: the port must be from 0 to 65535, not 70000"),
        ('[agi]\nallow = ["10.0.0.1/8"]', "(write 10.0.0.0/8)"),
        ('[metrics]\nallow = ["::1", "monitoring"]', "metrics.allow item 2: must be an IP address or a network"),
        ("[metrics]\naudit_hours = -1", "metrics.audit_hours: must be a whole number from 0 to 8760, not -1"),
        ('[service]\nlog = "xml"', 'service.log: must be "json" or "text", not "xml"'),
        (
            '[[asterisk]]\nname = "a b"\nhost = "h"\nusername = "u"\nsecret = "s"',
            "[[asterisk]] table 1: name: must be 1 to 64 letters, digits, or _ . : @ + -, as systemname in asterisk.conf, "
            'not "a b"',
        ),
        (
            f'{SERVER}secret = "a"\n{SERVER}secret = "b"'.replace("pbx1", "pbx.sao-paulo.example", 1),
            'asterisk: 2 tables have host and port = "127.0.0.1:5038"; each needs its own',
        ),
        ('[[asterisk]]\nname = "a"', "[[asterisk]] table 1: host: is missing; must be 1 to 255 characters"),
        (SERVER, "[[asterisk]] table 1: secret: write exactly one of secret and secret_file"),
        (
            f'{SERVER}secret = "a"\n{SERVER}secret = "b"',
            'asterisk: 2 tables have name = "pbx1"; each needs its own',
        ),
        ('[numbering]\ncountry = "br"', 'numbering.country: must be two capital letters such as "BR", or "", not "br"'),
        ('[numbering]\ncountry = "XX"', 'numbering.country: is no country with telephone numbers: "XX"'),
        ('[numbering]\ncountry = "BR"\ncountry_code = "55"', 'country_code: is known of country = "BR": write one'),
        ('[numbering]\ncountry_code = "0"', 'numbering.country_code: must be a code such as "55", or "", not "0"'),
        ('[numbering]\ntrunk_prefix = "0"', "numbering.trunk_prefix: needs country or country_code in the same table"),
        (
            '[numbering]\ncountry_code = "49"\ntrunk_prefix = "00"\ninternational_prefixes = ["00"]',
            "numbering.trunk_prefix: begins with the international prefix 00: every number behind it",
        ),
        ('[numbering]\nas_is = ["emergency"]', "numbering.as_is item 1: must be a number as it is dialled"),
        ("[numbering]\nshort_digits_max = 0", "numbering.short_digits_max: must be a whole number from 1 to 14, not 0"),
        (
            '[[outage]]\npolicy = "allow"',
            '[[outage]] table 1: prefix: is missing; must be digits, or + and digits, or "on-net"',
        ),
        (
            '[[outage]]\nprefix = "off-net"\npolicy = "deny"',
            "[[outage]] table 1: prefix: must be digits, or + and digits, or",
        ),
        ('[[outage]]\nprefix = ""\npolicy = "maybe"', '[[outage]] table 1: policy: must be "allow" or "deny"'),
        (
            '[[outage]]\nprefix = ""\npolicy = "allow"\ncredits_max = -1',
            "[[outage]] table 1: credits_max: must be a whole",
        ),
        (
            '[[outage]]\nprefix = "55"\npolicy = "deny"\n[[outage]]\nprefix = "+55"\npolicy = "deny"',
            'outage: 2 tables have prefix = "55"; each needs its own',
        ),
        ("[[rates]]\nprice = -1", "[[rates]] table 1: price: must be a whole number from 0 to"),
        ("[[rates]]\nprice = 0.5", "[[rates]] table 1: price: must be a whole number from 0 to"),
        ("[[rates]]\nincrement_seconds = 0", "[[rates]] table 1: increment_seconds: must be a whole number from 1"),
        ('[[rates]]\nprefix = "55a"', "[[rates]] table 1: prefix: must be digits, or + and digits"),
        ("[[rates]]\n[[rates]]", 'rates: 2 tables have prefix = ""; each needs its own'),
        ('[prompts]\nfailed = "a b"', "prompts.failed: must be a sound file's name"),
        ('[balance]\nsay = "words"', 'balance.say: must be "number" or "time", not "words"'),
        ("[balance]\nscale = 10", "balance.scale: must be a whole number from 0 to 9, not 10"),
        ('[balance]\nintro = "a b"', "balance.intro: must be a sound file's name"),
        (
            '[balance]\ntext = "{threshold}"',
            'balance.text: "{threshold}" is no placeholder here; allowed are {balance}',
        ),
        (
            '[balance]\nsms_text = "{threshold}"',
            'balance.sms_text: "{threshold}" is no placeholder here; allowed are {balance}, {credits}, {data}, {sms}',
        ),
        ('[sms]\naccount = "data"', 'sms.account: must be "sms" or "voice", not "data"'),
        ('[sms]\nbalance_code = "+100"', "sms.balance_code: must be a short code"),
        ('[sms]\nbalance_code = "100"', "sms.balance_code: the answer needs a way to subscribers: sms.on_net_route"),
        ("[notices]\nthresholds = [600]", "notices.thresholds: a notice needs a way to subscribers: sms.on_net_route"),
        (
            "[credit_transfers]\nenabled = true",
            'credit_transfers.enabled: the code needs a way to subscribers: sms.on_net_route, or confirm = "none"',
        ),
        ("[credit_transfers]\nleast = 9\nmost = 5", "credit_transfers.most: is less than least (9)"),
        ('[credit_transfers]\nasked_text = "{amount}"', "credit_transfers.asked_text: must have {code}"),
        ("[rest]\nlogin_code = true", "rest.login_code: the code needs a way to subscribers: sms.on_net_route"),
        ('[rest]\nlogin_code_text = "Hello"', "rest.login_code_text: must have {code}"),
        (
            '[text_commands]\nsell_code = "777"',
            "text_commands: the answers need a way to subscribers: sms.on_net_route",
        ),
        (
            '[text_commands]\nsell_code = "777"\nsell_format = "{pin}#{number}"',
            "text_commands.sell_format: must have each of {pin} {number} {amount} once",
        ),
        (
            '[text_commands]\nsell_code = "777"\nsell_format = "{pin}{number}#{amount}"',
            "text_commands.sell_format: must have something between two fields",
        ),
        (
            '[text_commands]\nsell_code = "777"\npin_code = "777"',
            "text_commands.pin_format: looks like sell_format on the same number (777)",
        ),
        (
            '[sms]\nbalance_code = "777"\non_net_route = "smpp"\n[smpp]\nhost = "h"\nsystem_id = "s"\npassword = "p"'
            '\n[text_commands]\nsell_code = "777"',
            "sms.balance_code: is a number of text_commands, too",
        ),
        ("[notices]\nthresholds = [-1]", "notices.thresholds item 1: must be a whole number from 0 to"),
        ("[notices]\nthresholds = 5", "notices.thresholds: must be a list, each item a whole number from 0 to"),
        ('[notices]\nkind = "both"', 'notices.kind: must be "data" or "sms" or "voice", not "both"'),
        ('[notices]\ntext = " "', "notices.text: must not be empty"),
        (
            '[notices]\ntext = "{name}"',
            'notices.text: "{name}" is no placeholder here; allowed are {balance}, {credits}',
        ),
        ('[notices]\ntext = "{balance:>9999999}"', 'notices.text: "{balance}" is no placeholder here'),
        ('[notices]\ntext = "{"', "notices.text: has a lone { or }"),
        ('[notices]\ntext = "{0}"', 'notices.text: "{0}" is no placeholder here'),
        ("[calls", "is not TOML: "),
        ("a = " + "9" * 5000, "is not TOML that makes sense"),
        ("a = " + "[" * 5000, "is not TOML that makes sense"),
    ],
)
def test_a_wrong_setting_names_file_key_and_choices(refusal, text, line):
    assert refusal(text).startswith("celcombiller.toml: ")
    assert line in refusal(text)


@pytest.mark.parametrize(
    ("key", "template", "why"),
    [
        (
            "internal_dial",
            "PJSIP/{msisdn}",
            '"{msisdn}" is no placeholder here; allowed are {imsi}, {clid}, {username}',
        ),
        ("internal_dial", "PJSIP/{imsi.__class__}", "is no placeholder here"),
        ("internal_dial", "PJSIP/{imsi!r}", "is no placeholder here"),
        ("internal_dial", "PJSIP/{imsi:>99999999}", "is no placeholder here"),
        ("internal_dial", "PJSIP/{}", "is no placeholder here"),
        ("internal_dial", "PJSIP/{imsi", "has a lone { or }; placeholders are {imsi}, {clid}, {username}"),
        ("internal_dial", "PJSIP/{imsi},30", "must be one dial string without commas"),
        ("internal_dial", "PJSIP/{imsi}\\nHANGUP", "must be one dial string without commas, newlines"),
        ("internal_dial", "", "must use at least one of {imsi}, {clid}, {username}"),
        ("external_dial", "PJSIP/{imsi}@trunk", "allowed are {number}"),
        ("external_dial", "PJSIP/trunk", "must use at least one of {number}"),
        ("always_allowed_dial", "PJSIP/{clid}", "allowed are {number}"),
    ],
)
def test_an_unusable_dial_string_is_refused(refusal, key, template, why):
    line = refusal(f'[calls]\n{key} = "{template}"')
    assert line.startswith(f"celcombiller.toml: calls.{key}: ")
    assert why in line


def test_usable_dial_strings_are_kept(written):
    calls = written(
        '[calls]\ninternal_dial = "PJSIP/{clid}&IAX2/{username}"\nexternal_dial = "PJSIP/{number}@trunk"\n'
        'always_allowed_dial = "PJSIP/emergency@trunk"'
    ).calls
    assert calls.internal_dial.format(clid="5550", username="al", imsi="1") == "PJSIP/5550&IAX2/al"
    assert calls.external_dial == "PJSIP/{number}@trunk"
    assert calls.always_allowed_dial == "PJSIP/emergency@trunk"


@pytest.mark.parametrize("options", ["L(1000)", "gS(3)", "U(stamp)", "G(x)", "g,30", "g(", "g\\n", "m(${X},)", "1"])
def test_dial_options_that_break_limits_are_refused(refusal, options):
    assert refusal(f'[calls]\ndial_options = "{options}"').startswith("celcombiller.toml: calls.dial_options: ")


@pytest.mark.parametrize("options", ["", "g", "giT", "gm(music)r", "b(handlers^addheader^1)"])
def test_other_dial_options_are_taken(written, options):
    assert written(f'[calls]\ndial_options = "{options}"').calls.dial_options == options


@pytest.mark.parametrize(
    "url",
    [
        "mysql://h/d",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql+psycopg://h",
        "oops",
        "",
        "postgresql+psycopg2://h/d",
    ],
)
def test_an_unsupported_database_is_refused(refusal, url):
    assert refusal(f'[database]\nurl = "{url}"').startswith("celcombiller.toml: database.url: ")


def test_several_hosts_of_one_postgresql_are_a_database(written):
    url = "postgresql+psycopg://biller@/biller?host=a:5432&host=b:5432&target_session_attrs=read-write"
    assert written(f'[database]\nurl = "{url}"').database.url == url


def test_several_workers_need_postgresql_and_inheritable_sockets(written, refusal):
    postgresql = '[database]\nurl = "postgresql+psycopg://h/d"\n'
    assert refusal("[service]\nworkers = 2").startswith("celcombiller.toml: service.workers: several processes need")
    text = postgresql + '[service]\nworkers = 2\n[rest]\nlisten = "unix:/run/rest"'
    assert refusal(text).startswith("celcombiller.toml: rest.listen: with service.workers")
    assert written(postgresql + "[service]\nworkers = 2").service.workers == 2
    assert written(postgresql, CELCOMBILLER_SERVICE_WORKERS="3").service.workers == 3


def test_a_plain_postgresql_url_is_refused_without_password(refusal):
    line = refusal('[database]\nurl = "postgresql://biller:hush@db/biller"')
    assert "write postgresql+psycopg:// in place of postgresql://" in line
    assert "hush" not in line


# -- secrets


def test_the_secret_file_is_found_beside_the_settings(written, tmp_path):
    (tmp_path / "pbx1.secret").write_text("hush hush\n", encoding="utf-8")
    (server,) = written(SERVER + 'secret_file = "pbx1.secret"').asterisk
    assert server.secret == "hush hush"


@pytest.mark.parametrize(("text", "switch"), [("true", True), (" False", False)])
def test_a_switch_is_set_from_the_environment(written, text, switch):
    opposite = f"[schedules]\ndisabled_use_up = {str(not switch).lower()}"
    assert written(opposite, CELCOMBILLER_SCHEDULES_DISABLED_USE_UP=text).schedules.disabled_use_up is switch


def test_a_switch_that_is_neither_is_refused(refusal):
    line = refusal("", CELCOMBILLER_SCHEDULES_DISABLED_USE_UP="yes")
    assert line == 'environment: CELCOMBILLER_SCHEDULES_DISABLED_USE_UP: must be true or false, not "yes"'


@pytest.mark.parametrize(
    ("setting", "machine", "zone"),
    [
        ("America/Recife", "Europe/Berlin", "America/Recife"),
        ("", "Europe/Berlin", "Europe/Berlin"),
        ("", None, "UTC"),
        ("", LookupError("two places say two zones"), "UTC"),
    ],
)
def test_a_new_schedule_takes_the_settings_zone(written, monkeypatch, setting, machine, zone):
    def name():
        if isinstance(machine, Exception):
            raise machine
        return machine

    monkeypatch.setattr(tzlocal, "get_localzone_name", name)
    assert written(f'[schedules]\ntime_zone = "{setting}"').schedules.zone == zone


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff\xfe"])
def test_a_secret_file_without_a_secret_is_refused(refusal, tmp_path, content):
    if content is not None:
        (tmp_path / "pbx1.secret").write_bytes(content)
    line = refusal(SERVER + 'secret_file = "pbx1.secret"')
    assert line.startswith("celcombiller.toml: [[asterisk]] table 1: secret_file: ")


def test_secrets_and_passwords_are_not_shown(written, refusal):
    settings = written(
        f'[database]\nurl = "postgresql+psycopg://biller:hush@db/biller"\n{SERVER}secret = "hush"',
    )
    assert settings.asterisk[0].secret == "hush"
    assert "hush" not in repr(settings)
    assert "hush" not in refusal(SERVER + 'secret = "hush\\n"')
    assert "4711" not in refusal(SERVER + "secret = 4711")


# -- anything at all

toml_values = st.recursive(
    st.none().map(lambda _: {})
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.datetimes()
    | st.dates()
    | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from(sorted(every_key()))


def settled(tables, environ=None):
    """Load from tables in place of text: a Config, or one line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "parse", lambda _file: tables)
        try:
            return load(Path("celcombiller.toml"), environ or {})
        except ConfigError as error:
            line = str(error)
    assert line.isprintable()
    return line


@given(keys, toml_values, st.booleans())
def test_any_value_gives_a_config_or_one_line(key, value, listed):
    section, name = key
    found = settled({section: [{name: value}] if listed else {name: value}})
    assert isinstance(found, Config) or found.startswith("celcombiller.toml: ")


@given(st.dictionaries(st.text() | st.sampled_from(["calls", "rates", "asterisk", "agi"]), toml_values, max_size=3))
def test_any_tables_give_a_config_or_one_line(tables):
    assert isinstance(settled(tables), (Config, str))


def test_an_error_of_two_tables_names_the_variable():
    refusal = settled({}, {"CELCOMBILLER_SMS_BALANCE_CODE": "100"})
    assert refusal.startswith("environment: CELCOMBILLER_SMS_BALANCE_CODE: the answer needs a way to subscribers")
    assert settled({"sms": {"balance_code": "100"}}).startswith("celcombiller.toml: sms.balance_code: the answer")


@pytest.mark.parametrize(
    ("name", "value", "missing"),
    [
        ("CELCOMBILLER_SMS_OFF_NET_ROUTE", "smpp", "smpp.host: is missing"),
        ("CELCOMBILLER_CDR_SOURCE", "Master.csv", "cdr.server: is missing"),
    ],
)
def test_what_needs_another_key_is_named(name, value, missing):
    refusal = settled({}, {name: value, "CELCOMBILLER_REST_SESSION_HOURS": "2"})
    assert refusal.startswith(f"celcombiller.toml: {missing}")
    assert name in refusal.partition("(the environment sets ")[2]


@given(keys, st.text())
def test_any_environment_gives_a_config_or_one_line(key, value):
    name = f"CELCOMBILLER_{key[0]}_{key[1]}".upper()
    found = settled({}, {name: value})
    assert isinstance(found, Config) or name in found


def test_an_smscs_password_file_is_read_and_hidden(written, refusal, tmp_path):
    (tmp_path / "password").write_text("hush-hsh\n")
    read = written('[smpp]\nhost = "centre"\npassword_file = "password"')
    assert (read.smpp.password, read.smpp.password_file) == ("hush-hsh", "")
    assert "hush" not in repr(read)
    (tmp_path / "password").write_text("hush-hush")
    assert "must hold one line of 1 to 8 characters" in refusal('[smpp]\npassword_file = "password"')
    assert "hush" not in refusal('[smpp]\npassword = "hush-hush"')
    assert "one of password and password_file" in refusal('[smpp]\npassword = "a"\npassword_file = "password"')


def test_an_smscs_authorities_are_a_readable_file(written, refusal, tmp_path):
    authority = trustme.CA().cert_pem.bytes()
    settings = '[smpp]\ntls = true\nca_file = "authorities.pem"'
    assert "authorities.pem cannot be read: No such file" in refusal(settings)
    (tmp_path / "authorities.pem").write_bytes(b"Of the centre:\n" + authority + authority)
    assert written(settings).smpp.ca_file == str(tmp_path / "authorities.pem")
    assert "ca_file: is for tls = true" in refusal('[smpp]\nca_file = "authorities.pem"')
    for broken in (b"", b"\xff\xfe", authority.replace(b"MII", b"MIX", 1), authority[:200]):
        (tmp_path / "authorities.pem").write_bytes(broken)
        assert "smpp.ca_file: " in refusal(settings)


def test_voice_pays_for_messages_by_default(tmp_path):
    assert Config().sms.terms.account is Kind.VOICE
    (tmp_path / "celcombiller.toml").write_text('[sms]\naccount = "sms"\n[notices]\nkind = "sms"\n')
    read = load(None, {}, tmp_path)
    assert read.sms.terms.account is read.notice_rules.kind is Kind.SMS


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('on_net_route = "asterisk"', "needs an [[asterisk]] table"),
        ('off_net_route = "smpp"', 'smpp.host: is missing; "smpp" as a way of messages'),
        ('off_net_route = "asterisk"', "must use at least one of {number}"),
        ('on_net_to = "pjsip:{clid},x"', "without commas"),
        ('sender = "Rede & Co"', "a number, or up to 11 letters and digits"),
        ("parts_max = 256", "a whole number from 1 to 255"),
    ],
)
def test_an_unreachable_message_route_is_refused(refusal, text, why):
    assert why in refusal(f"[sms]\n{text}\n")


def test_a_prefix_is_the_same_without_plus(tmp_path):
    file = tmp_path / "celcombiller.toml"
    file.write_text('[[rates]]\nprefix = "55"\n[[rates]]\nprefix = "+55"\n')
    with pytest.raises(ConfigError, match="2 tables have prefix"):
        load(file, {})


PROVIDER = '[[payments]]\nname = "gateway"\ncurrency = "BRL"\n'


def test_a_providers_secret_file_is_read_and_hidden(written, tmp_path):
    (tmp_path / "gateway.secret").write_text("0123456789abcdef\n")
    (provider,) = written(PROVIDER + 'secret_file = "gateway.secret"').payments
    assert (provider.secret, provider.secret_file, provider.reversal) == ("0123456789abcdef", "", "refuse")
    assert "0123456789abcdef" not in repr(provider)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROVIDER, "[[payments]] table 1: secret: write exactly one of secret and secret_file"),
        (PROVIDER + 'secret = "too short"', "[[payments]] table 1: secret: must have at least 16 characters"),
        (PROVIDER + 'secret_file = "short.secret"', "[[payments]] table 1: short.secret: must have at least 16 char"),
        (PROVIDER + 'secret_file = "none"', "[[payments]] table 1: secret_file: "),
        ((PROVIDER + 'secret = "0123456789abcdef"\n') * 2, 'payments: 2 tables have name = "gateway"'),
        (PROVIDER + 'secret = "0123456789abcdef"\nreversal = "no"', "[[payments]] table 1: reversal: must be"),
        ("[credit_validity]\nvoice_days = 7\nnotice_days = 7", "must be less than the 7 days"),
        (
            '[credit_validity]\nnotice_days = 3\n[sms]\non_net_route = "none"',
            "credit_validity.notice_days: a notice needs",
        ),
        ('[credit_validity]\ntop_ups = ["gift"]', "credit_validity.top_ups"),
    ],
)
def test_wrong_payments_and_validity_are_explained(refusal, tmp_path, text, reason):
    (tmp_path / "short.secret").write_text("short")
    said = refusal(text)
    assert reason in said
    assert "0123456789abcdef" not in said


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('tax_percent = "17.555"', "sellers.tax_percent: must be a percentage"),
        ('tax_percent = "-1"', "sellers.tax_percent: must be a percentage"),
        ('office = "S12"', "sellers.office: must be 1 to 16 letters"),
        ('office = ""', "sellers.office: must be 1 to 16 letters"),
        ('sold_text = "{code}"', "sellers.sold_text"),
        ('undone_text = "{name}"', "sellers.undone_text"),
        ('sold_text = "Sold"', "sellers.sold_text: a message needs a way to subscribers: sms.on_net_route"),
        ("undo_minutes = -1", "sellers.undo_minutes"),
    ],
)
def test_wrong_settings_of_sellers_are_named(tmp_path, text, key):
    file = tmp_path / "celcombiller.toml"
    file.write_text(f"[sellers]\n{text}\n")
    with pytest.raises(ConfigError, match=re.escape(key)):
        load(file, {})


@pytest.mark.parametrize(("text", "rate"), [("", 0), ("17.5", 1750), ("5", 500), ("0.05", 5), ("99.99", 9999)])
def test_tax_is_read_exactly(text, rate):
    assert Sellers(tax_percent=text).tax_rate == rate
