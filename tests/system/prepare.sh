#!/bin/bash
# Makes this machine ready for the tests on real parts: an Asterisk 22 in a chroot, SIPp, curl, OsmoHLR, radclient,
# PgBouncer, nginx, HAProxy, Chromium and PostgreSQL's programs.
#
# As root on Debian it installs what is missing, and is done in a moment when nothing is. Elsewhere it says what is
# missing and how to get it. It fails only when CI=true and a part is missing: the tests skip what is not there.
set -uo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$project/.cache
tree=$cache/asterisk            # the finished chroot
building=$cache/asterisk.new    # one in the making, or left half-made by an earlier run
suite=sid                       # the only Debian that carries a current Asterisk
policy=/usr/sbin/policy-rc.d    # "exit 101" there keeps apt from starting the daemons it installs
our_policy=

say() { printf 'prepare: %s\n' "$*"; }

have_asterisk() { chroot "$tree" /usr/sbin/asterisk -V 2>/dev/null | grep -q '^Asterisk '; }
have_sipp() { command -v sipp >/dev/null; }
have_curl() { command -v curl >/dev/null; }
have_hlr() { command -v osmo-hlr >/dev/null; }
have_radclient() { command -v radclient >/dev/null; }
have_pgbouncer() { command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ]; }
have_nginx() { command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; }
have_haproxy() { command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ]; }
have_chromium() { command -v chromium-headless-shell >/dev/null; }
have_postgresql() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

missing() {
    local parts=()
    have_asterisk || parts+=("Asterisk 22 in .cache/asterisk")
    have_sipp || parts+=("SIPp")
    have_postgresql || parts+=("PostgreSQL server programs")
    have_curl || parts+=("curl")
    have_hlr || parts+=("OsmoHLR")
    have_radclient || parts+=("radclient")
    have_pgbouncer || parts+=("PgBouncer")
    have_nginx || parts+=("nginx")
    have_haproxy || parts+=("HAProxy")
    have_chromium || parts+=("Chromium")
    local IFS=,
    printf '%s' "${parts[*]//,/, }" | sed 's/,/, /g'
}

# Whatever is still mounted below the tree goes first, the deepest first; nothing beyond its file system is removed.
remove_tree() {
    [ -e "$1" ] || return 0
    awk -v top="$1/" 'index($2, top) == 1 {print $2}' /proc/mounts | sort -r | while read -r place; do
        umount "$place" || umount --lazy "$place"
    done
    if awk -v top="$1/" 'index($2, top) == 1 {found = 1} END {exit !found}' /proc/mounts; then
        say "$1 still has something mounted in it: not removed"
        return 1
    fi
    rm -rf --one-file-system "$1"
}

tidy() {
    mountpoint -q "$building/proc" && { umount "$building/proc" || umount --lazy "$building/proc"; }
    [ -z "$our_policy" ] || rm -f "$policy"
}

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3 \
        -o DPkg::Lock::Timeout=300 "$@"
}

install_packages() {
    local packages=()
    command -v debootstrap >/dev/null || packages+=(debootstrap)
    have_sipp || packages+=(sip-tester)
    have_postgresql || packages+=(postgresql)
    have_curl || packages+=(curl)
    have_hlr || packages+=(osmo-hlr)
    have_radclient || packages+=(freeradius-utils)
    have_pgbouncer || packages+=(pgbouncer)
    have_nginx || packages+=(nginx-light)
    have_haproxy || packages+=(haproxy)
    have_chromium || packages+=(chromium-headless-shell)
    [ ${#packages[@]} -gt 0 ] || return 0
    say "installing ${packages[*]}"
    if [ ! -e "$policy" ]; then
        our_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    fi
    apt update && apt install -y --no-install-recommends "${packages[@]}"
    local status=$?
    [ -z "$our_policy" ] || rm -f "$policy"
    our_policy=
    return $status
}

# debootstrap has no word for "the Release file may be past its date"; it asks apt's configuration of the host nothing
# and checks no dates itself, so only the apt inside needs telling.
build_asterisk() {
    say "building the Asterisk chroot in .cache/asterisk (about a minute, 350 MB)"
    mkdir -p "$cache" && remove_tree "$building" && remove_tree "$tree" || return 1
    say "1/3 a minimal Debian $suite"
    debootstrap --variant=minbase "$suite" "$building" >"$cache/debootstrap.log" 2>&1 || {
        tail -n 20 "$cache/debootstrap.log"
        return 1
    }
    say "2/3 Asterisk"
    printf '#!/bin/sh\nexit 101\n' >"$building$policy" && chmod +x "$building$policy"
    printf 'path-exclude=/usr/share/%s/*\n' doc man locale >"$building/etc/dpkg/dpkg.cfg.d/small"
    printf 'Acquire::Check-Valid-Until "false";\nAcquire::Retries "3";\n' >"$building/etc/apt/apt.conf.d/stale"
    mount -t proc proc "$building/proc" || return 1
    chroot "$building" env DEBIAN_FRONTEND=noninteractive sh -ec '
        apt-get -q update
        apt-get -q install -y --no-install-recommends asterisk
        apt-get clean' >"$cache/asterisk.log" 2>&1 || {
        tail -n 20 "$cache/asterisk.log"
        return 1
    }
    umount "$building/proc" || return 1
    rm -rf "$building"/var/lib/apt/lists/*
    say "3/3 trying it"
    mv "$building" "$tree" && chroot "$tree" /usr/sbin/asterisk -V
}

if [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then
    trap tidy EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$cache"
    exec 9>"$cache/prepare.lock" && flock 9    # two runs at once: the second waits and then finds all done
    install_packages || say "the packages could not be installed"
    if ! have_asterisk; then
        build_asterisk || { say "the Asterisk chroot could not be built"; tidy; remove_tree "$building"; }
    fi
    exec 9>&-
fi

lacking=$(missing)
if [ -z "$lacking" ]; then
    say "ready: $(chroot "$tree" /usr/sbin/asterisk -V), SIPp, PostgreSQL, curl, OsmoHLR, radclient, PgBouncer, nginx, HAProxy"
elif [ "${CI:-}" = true ]; then
    say "missing: $lacking; with CI=true that is a failure"
    exit 1
else
    say "missing: $lacking; the tests that need them are skipped"
    say "to have them: bash tests/system/prepare.sh as root on Debian 12 (or make test there, which runs it)"
fi
