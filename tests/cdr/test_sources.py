"""The records of each back end of Asterisk's, with what stands in real files and what breaks readers."""

import sqlite3
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from celcombiller.cdr.columns import CdrColumns, CdrError, ZoneCheck
from celcombiller.cdr.csv_file import CsvFile
from celcombiller.cdr.database_table import DatabaseTable
from celcombiller.cdr.source_terms import SourceTerms, open_source
from celcombiller.cdr.sqlite_file import SqliteFile
from celcombiller.cdr.staging import Staging
from celcombiller.core.errors import InvalidValue
from tests.support import databases

EPOCH = 1793534400  # 2026-11-01 12:00 UTC
BEGAN = datetime.fromtimestamp(EPOCH, UTC)
NOW = BEGAN + timedelta(days=30)
HEADER = "clid,src,dst,dcontext,channel,dstchannel,lastapp,start,answer,end,duration,billsec,disposition,uniqueid"


def line(number=0, *, tail=True, clid='""Ana"" <1001>', at=BEGAN, userfield="", talk=60):
    """Return a record as cdr_csv writes it."""
    began = at + timedelta(minutes=number)
    times = [f"{began + timedelta(seconds=each):%Y-%m-%d %H:%M:%S}" for each in (0, 5, 5 + talk)]
    values = ["", "1001", "1002", "caller", clid, f"PJSIP/1001-{number:08x}", f"PJSIP/1002-{number:08x}", "AGI"]
    values += ["agi://127.0.0.1/caller", *times]
    quoted = ",".join(f'"{each}"' for each in values) + f',{5 + talk},{talk},"ANSWERED","DOCUMENTATION"'
    return (quoted + (f',"{EPOCH + 60 * number}.{number}","{userfield}"' if tail else "") + "\n").encode()


def csv(tmp_path, *lines, zone=UTC, columns=()):
    path = tmp_path / "Master.csv"
    path.write_bytes(b"".join(lines))
    return CsvFile(path, zone, columns)


def read(source, after=None, **how):
    reading = source.read(after or {}, NOW, **how)
    rows = list(reading.rows)
    return [each.row for each in rows if each.row], [(each.place, each.error) for each in rows if each.error], reading


def test_a_record_of_cdr_csv_is_read(tmp_path):
    (row,), errors, _ = read(csv(tmp_path, line()))
    assert errors == []
    assert (row.place, row.uniqueid, row.caller, row.dialled, row.context) == (
        1,
        f"{EPOCH}.0",
        "1001",
        "1002",
        "caller",
    )
    assert (row.started_at, row.answered_at, row.ended_at) == tuple(
        BEGAN + timedelta(seconds=each) for each in (0, 5, 65)
    )
    assert (row.talk_seconds, row.is_talk) == (60.0, True)


def test_optional_columns_are_found_by_their_count(tmp_path):
    bare = line(tail=False).rstrip()
    for tail in (b',"1793534400.0"', b',"1793534400.0","user"', b',"1793534400.0","user","","1793534400.0","7"'):
        (row,), _, _ = read(csv(tmp_path, bare + tail + b"\n"))
        assert row.uniqueid == f"{EPOCH}.0"


def test_records_without_uniqueid_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match="loguniqueid"):
        read(csv(tmp_path, line(tail=False)))


def test_a_header_or_named_columns_set_the_order(tmp_path):
    values = '"x",1001,1002,caller,PJSIP/1,PJSIP/2,Dial,2026-11-01 12:00:00,,2026-11-01 12:01:05,65,60,ANSWERED,'
    text = f"{values}{EPOCH}.0\n".encode()
    (named,), _, _ = read(csv(tmp_path, text, columns=HEADER.split(",")))
    (headed,), _, _ = read(csv(tmp_path, f"{HEADER}\n".upper().encode(), text))
    assert (named.answered_at, headed.answered_at) == (BEGAN + timedelta(seconds=5),) * 2
    assert headed.place == 2


HOSTILE = (
    (line(1, clid='a ""quoted"", name'), True),
    (line(1, clid="two\nlines"), True),
    (line(1, userfield='\r\nx","y'.replace('"', '""')), True),
    (line(1, clid="Jos\xe9").replace("é".encode(), b"\xe9"), True),
    (line(1, clid="n\0l"), True),
    (line(1).replace(b'"1001"', b'"10\x0001"'), False),
    (line(1).replace(b'"1002"', b'"1002\n"'), False),
    (line(1).replace(b",60,", b",-60,"), False),
    (line(1).replace(b",60,", b",600,"), False),
    (line(1).replace(b",65,60", b",99999965,99999960"), False),
    (line(1).replace(b"ANSWERED", b"MAYBE"), False),
    (line(1).replace(b"2026-11-01 12:01:00", b"9999-99-01 12:01:00"), False),
    (line(1).replace(b"2026-11-01", b"2036-11-01"), False),
    (line(1).replace(b"2026-11-01", b"2026-10-31"), False),
    (line(1)[:40] + b"\n", False),
    (b'"unclosed\n', False),
    (b'"a"b,c\n', False),
    (b"\xff\xfe\x00\n", False),
    (b'"' * 70_001 + b"\n", False),
    (b"x" * 200_000 + b"\n", False),
)


@pytest.mark.parametrize(("hostile", "is_read"), HOSTILE)
def test_a_broken_record_hides_no_other(tmp_path, hostile, is_read):
    rows, errors, _ = read(csv(tmp_path, line(), hostile, line(2), line(3)))
    assert [each.dialled for each in rows] == ["1002"] * (3 + is_read)
    assert {place for place, _ in errors} == (set() if is_read else {2})


def test_local_times_become_utc(tmp_path):
    zone = ZoneInfo("America/Belem")
    (row,), _, _ = read(csv(tmp_path, line(at=BEGAN.astimezone(zone)), zone=zone))
    assert (row.started_at, row.ended_at) == (BEGAN, BEGAN + timedelta(seconds=65))


@pytest.mark.parametrize("fold", [0, 1])
def test_an_hour_shown_twice_is_told_apart(fold):
    zone = ZoneInfo("America/New_York")
    began = datetime(2026, 11, 1, 1, 59, 30, tzinfo=zone, fold=fold)
    epoch = int(began.timestamp())
    ended = (began.astimezone(UTC) + timedelta(seconds=65)).astimezone(zone)
    names = ("uniqueid", "src", "dst", "channel", "start", "answer", "end", "duration", "billsec", "disposition")
    columns = CdrColumns(names, zone, NOW)
    times = (f"{began:%F %T}", f"{began + timedelta(seconds=5):%F %T}", f"{ended:%F %T}")
    row = columns.read(1, (f"{epoch}.0", "1001", "1002", "x", *times, 65, 60, "ANSWERED"))
    assert (row.started_at.timestamp(), row.ended_at.timestamp()) == (epoch, epoch + 65)


def test_a_wrong_zone_is_noticed(tmp_path):
    check = ZoneCheck()
    rows, _, _ = read(csv(tmp_path, *map(line, range(4)), zone=ZoneInfo("America/Belem")))
    for row in rows:
        check.add(row)
    with pytest.raises(CdrError, match="3:00 later"):
        check.check()
    _, errors, _ = read(csv(tmp_path, line(), zone=ZoneInfo("Asia/Tokyo")))
    assert "time zone" in errors[0][1]


# -- a file that is written ------------------------------------------------------------------------------------------


def test_only_whole_lines_of_a_written_file_count(tmp_path):
    source = csv(tmp_path, line(), line(1)[:-10])
    rows, errors, reading = read(source, is_written=True)
    assert (len(rows), errors) == (1, [])
    csv(tmp_path, line(), line(1))
    rows, _, _ = read(source, reading.place, is_written=True)
    assert [each.place for each in rows] == [2]


@pytest.mark.parametrize("how", ["renamed", "copied and truncated", "removed"])
def test_a_rotated_file_loses_nothing_it_can_find(tmp_path, how):
    source = csv(tmp_path, line())
    _, _, reading = read(source, is_written=True)
    path, former = tmp_path / "Master.csv", tmp_path / "Master.csv-20261102"
    content = line() + line(1)
    if how == "renamed":
        path.write_bytes(content)
        path.replace(former)
    elif how == "copied and truncated":
        former.write_bytes(content)
    path.write_bytes(line(2) + line(3))
    rows, _, reading = read(source, reading.place, is_written=True)
    lost = how == "removed"
    assert [each.started_at.minute for each in rows] == ([2, 3] if lost else [1, 2, 3])
    assert bool(reading.notes) == lost
    assert read(source, reading.place)[0] == []


def test_reading_begins_at_the_end(tmp_path):
    source = csv(tmp_path, line(), line(1), line(2)[:-5])
    end = source.find_end()
    csv(tmp_path, line(), line(1), line(2))
    assert [each.place for each in read(source, end)[0]] == [3]


def test_one_channel_is_found_in_a_file(tmp_path):
    source = csv(tmp_path, *map(line, range(20)), line(21, userfield=f"{EPOCH + 300}.5"))
    (row,) = source.find(f"{EPOCH + 300}.5", NOW)
    assert row.started_at == BEGAN + timedelta(minutes=5)
    assert source.find("1.0", NOW) == []


# -- databases -------------------------------------------------------------------------------------------------------

SQLITE = """create table cdr (AcctId integer primary key, calldate, clid, dcontext, channel, dstchannel, lastapp,
 src, dst, answer, "end", duration, billsec, disposition, accountcode, uniqueid, userfield)"""


def sqlite_cdr(path, count):
    with sqlite3.connect(path) as connection:
        connection.execute(SQLITE)
        for number in range(count):
            began = BEGAN + timedelta(minutes=number)
            times = [f"{began + timedelta(seconds=each):%F %T}" for each in (0, 5, 65)]
            connection.execute(
                f"insert into cdr values ({', '.join('?' * 17)})",
                (
                    *(None, times[0], "x", "caller", "PJSIP/1", "PJSIP/2", "Dial", "1001", "1002", *times[1:]),
                    *("65", "60", "ANSWERED", "", f"{EPOCH + 60 * number}.{number}", "it's"),
                ),
            )
    connection.close()
    return path


def test_a_file_of_cdr_sqlite3_custom_is_read(tmp_path):
    source = open_source(SourceTerms(str(sqlite_cdr(tmp_path / "master.db", 3)), UTC))
    assert isinstance(source, SqliteFile)
    rows, errors, reading = read(source)
    assert ([each.place for each in rows], errors) == ([1, 2, 3], [])
    assert (rows[0].started_at, rows[0].talk_seconds) == (BEGAN, 60.0)
    assert read(source, reading.place)[0] == []
    assert [each.place for each in source.find(f"{EPOCH + 60}.1", NOW)] == [2]


def test_a_table_that_is_missing_is_said(tmp_path):
    source = SqliteFile(sqlite_cdr(tmp_path / "master.db", 0), "other", UTC)
    with pytest.raises(InvalidValue, match="no such table"):
        source.read({}, NOW)
    with pytest.raises(InvalidValue, match="cannot be read"):
        CsvFile(tmp_path / "none.csv", UTC).read({}, NOW)


PGSQL = """create table cdr (
 calldate timestamp with time zone not null default now(), clid varchar(80) not null default '',
 src varchar(80) not null default '', dst varchar(80) not null default '', dcontext varchar(80) not null default '',
 channel varchar(80) not null default '', dstchannel varchar(80) not null default '',
 lastapp varchar(80) not null default '', lastdata varchar(80) not null default '',
 duration integer not null default 0, billsec integer not null default 0,
 disposition varchar(45) not null default '', amaflags integer not null default 0,
 accountcode varchar(20) not null default '', uniqueid varchar(150) not null default '',
 userfield varchar(255) not null default ''{more})"""
"""The table of cdr_pgsql's documentation (configs/samples, "PostgreSQL CDR Backend")."""


@pytest.mark.parametrize("key", [True, False])
def test_a_table_of_cdr_pgsql_is_read(cluster, key):
    with databases.on_postgresql(cluster) as ledger:
        url = ledger.url.render_as_string(hide_password=False)
        with ledger.begin() as tx:
            tx.execute(sa.text(PGSQL.format(more=", id bigserial" if key else "")))
            for number in range(3):
                facts = {"at": BEGAN + timedelta(minutes=number), "id": f"{EPOCH + 60 * number}.{number}"}
                tx.execute(
                    sa.text(
                        "insert into cdr (calldate, src, dst, dcontext, channel, dstchannel, lastapp, duration, billsec,"
                        " disposition, uniqueid) values (:at, '1001', '1002', 'caller', 'PJSIP/1', 'PJSIP/2', 'Dial', 65,"
                        " 60, 'ANSWERED', :id)"
                    ),
                    facts,
                )
        source = DatabaseTable(url, "cdr", ZoneInfo("America/Belem"))
        rows, errors, reading = read(source)
        assert ([each.started_at for each in rows], errors) == (
            [BEGAN + timedelta(minutes=each) for each in range(3)],
            [],
        )
        assert rows[0].answered_at == BEGAN + timedelta(seconds=5)
        assert source.find_end() == reading.place
        assert [each.uniqueid for each in source.find(f"{EPOCH + 60}.1", NOW)] == [f"{EPOCH + 60}.1"]
        with ledger.begin() as tx:
            tx.execute(sa.text("update cdr set uniqueid = '' where uniqueid like '%.1'"))
        assert len(read(source, reading.place)[0]) == 2  # late rows are looked for again
        with pytest.raises(InvalidValue, match="no such table"):
            DatabaseTable(url, "none", UTC).read({}, NOW)


def test_a_database_that_is_away_is_said():
    with pytest.raises(InvalidValue, match=r"x:\*\*\*@.*cannot be read"):
        DatabaseTable("postgresql+psycopg://x:secret@127.0.0.1:1/y", "cdr", UTC).read({}, NOW)


# -- staging ---------------------------------------------------------------------------------------------------------


def test_records_far_apart_are_joined_by_channel(tmp_path):
    rows, _, _ = read(csv(tmp_path, *map(line, range(7)), line(0, talk=90)))
    with Staging() as staging:
        for row in reversed(rows):
            staging.add(row)
        chunks = list(staging.channels(3))
        assert [len(each) for each in chunks] == [3, 3, 1]
        assert chunks[0][0].talks[0].talk_ms == 90_000
        assert staging.count_channels() == 7
        assert staging.unknown([f"{EPOCH}.0", "1.0"]) == {"1.0"}
        assert staging.covered() == (BEGAN, BEGAN + timedelta(minutes=6, seconds=65))
