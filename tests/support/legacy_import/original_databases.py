"""Databases as the original CELCOMBiller made them, of each of its times, for the tests of the import."""

import sqlite3

TABLES = {
    "last": """
        create table users (
            _id integer not null, level integer not null, name varchar not null, address varchar,
            cpf integer not null, username varchar not null, password varchar not null, clid varchar(9) not null,
            imsi varchar not null, voice_balance integer not null, data_balance integer not null,
            primary key (_id), unique (cpf), unique (username), unique (clid), unique (imsi));
        create table schedule (
            _id integer not null, name varchar, day integer, value integer, kind integer, primary key (_id));
        create table schedule_user (
            _id integer not null, user_id integer, schedule_id integer, count integer not null, primary key (_id),
            foreign key(user_id) references users (_id), foreign key(schedule_id) references schedule (_id));
        create table schedule_contract (
            _id integer not null, schedule_user_id integer, date datetime not null, months integer not null,
            primary key (_id), foreign key(schedule_user_id) references schedule_user (_id));
        create table voice_balance (
            _id integer not null, from_user_id integer not null, to_user_id integer, value integer,
            date datetime not null, origin varchar not null, primary key (_id),
            foreign key(from_user_id) references users (_id), foreign key(to_user_id) references users (_id));
        create table data_balance (
            _id integer not null, user_id integer, date datetime, value integer, user_ip varchar,
            connection_ip varchar, origin varchar not null, primary key (_id),
            foreign key(user_id) references users (_id));
        create table schedule_input (
            _id integer not null, schedule_id integer, voice_balance_id integer, data_balance_id integer,
            primary key (_id));
    """,
    "may 2016": """
        create table users (
            _id integer not null, admin boolean not null, name varchar not null, adress varchar,
            cpf integer not null, username varchar not null, password varchar not null, clid varchar(9) not null,
            imsi integer not null, voice_balance integer not null, data_balance integer not null,
            primary key (_id), check (admin in (0, 1)),
            unique (cpf), unique (username), unique (clid), unique (imsi));
        create table schedule (_id integer not null, name varchar, date datetime, primary key (_id));
        create table schedule_user (
            user_id integer not null, group_id integer not null, count integer not null,
            primary key (user_id, group_id));
        create table voice_balance (
            _id integer not null, from_user_id integer not null, to_user_id integer, value integer,
            date datetime not null, origin varchar not null, primary key (_id));
        create table data_balance (
            _id integer not null, user_id integer, date datetime, value integer, user_ip varchar,
            connection_ip varchar, origin varchar not null, primary key (_id));
        create table schedule_input (
            _id integer not null, schedule_id integer, voice_balance_id integer, data_balance_id integer,
            primary key (_id));
    """,
    "both balances": """
        create table users (
            id_ integer not null, admin boolean not null, name varchar not null, adress varchar,
            cpf integer not null, username varchar not null, password varchar not null, clid varchar(9) not null,
            imsi integer not null, voice_balance integer not null, data_balance integer not null,
            primary key (id_), unique (username), unique (clid), unique (imsi));
        create table cdr (
            id_ integer not null, answer datetime, billsec integer, from_user_id integer, to_user_id integer,
            primary key (id_));
        create table groups (id_ integer not null, name varchar, primary key (id_));
        create table dates (id_ integer not null, group_id integer, date datetime, primary key (id_));
        create table association ("User_id" integer, "Groups_id" integer);
        create table balance (
            id_ integer not null, "userId" integer, date datetime, type_ varchar(8), value integer,
            signal varchar(1), balance varchar(5), primary key (id_));
    """,
    "movements": """
        create table users (
            id_ integer not null, username varchar, password integer, clid varchar(9) not null, admin boolean,
            imsi integer, primary key (id_), unique (username), unique (clid), unique (imsi));
        create table cdr (
            id_ integer not null, answer datetime, billsec integer, from_user_id integer, to_user_id integer,
            primary key (id_));
        create table groups (id_ integer not null, name varchar, primary key (id_));
        create table dates (id_ integer not null, group_id integer, date datetime, primary key (id_));
        create table association ("User_id" integer, "Groups_id" integer);
        create table balance (
            id_ integer not null, "usersId" integer, date datetime, type_ varchar(8), value integer,
            signal varchar(1), primary key (id_));
    """,
    "first": """
        create table users (
            id_ integer not null, clid varchar(9) not null, name varchar not null, balance float,
            primary key (id_), unique (clid));
        create table cdr (
            id_ integer not null, answer datetime, billsec integer, from_user_id integer, to_user_id integer,
            primary key (id_));
    """,
    "first with names": """
        create table users (
            id_ integer not null, username varchar, password integer, clid varchar(9) not null, balance float,
            admin boolean, primary key (id_), unique (username), unique (clid));
        create table cdr (
            id_ integer not null, answer datetime, billsec integer, from_user_id integer, to_user_id integer,
            primary key (id_));
        create table association ("User_id" integer, "CreditsRegister_id" integer);
        create table cr (id_ integer not null, name varchar, date_to_update datetime, primary key (id_));
    """,
}

ADMIN = (1, 0, "administrator", "nowhere", "000", "admin", "adm123", "999999999", "999999999999999", 0, 0)
GUEST = (2, 1, "guest", "nowhere", "1", "guest", "123123", "999999998", "999999999999998", 0, 0)
"""The users whom adduser.py made in every installation, as rows of the last generation."""


def original(path, generation="last", **rows):
    """Make a database of a generation with these rows by table, each a tuple of all its columns."""
    with sqlite3.connect(path) as connection:
        connection.executescript(TABLES[generation])
        for table, values in rows.items():
            for row in values:
                connection.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)
    connection.close()
    return path
