#!/usr/bin/env bash
# Installs the real parts that tests need and pip can't bring: a PostgreSQL server, NUT's own drivers and clients, an SNMP agent, faketime,
# groff for the man pages, Prometheus and Chromium to read what we serve, umockdev for USB devices that are not there,
# iproute2 for hosts on a network of their own, sqlite3 to read the state as its users do.
# Does so as root or with passwordless sudo; otherwise says the line to type, and the tests that need them skip.
set -euo pipefail

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
[[ -x /lib/nut/nutdrv_qx && -x /lib/nut/upsd ]] || missing+=(nut-server)
{ command -v upsc && command -v upscmd && command -v upsrw; } >/dev/null || missing+=(nut-client)
[[ -x /lib/nut/snmp-ups ]] || missing+=(nut-snmp)
[[ -x /usr/sbin/snmpd ]] || missing+=(snmpd)
command -v snmpset >/dev/null || missing+=(snmp)
command -v faketime >/dev/null || missing+=(faketime)
command -v sqlite3 >/dev/null || missing+=(sqlite3)
command -v systemd-analyze >/dev/null || missing+=(systemd)
command -v groff >/dev/null || missing+=(groff-base)
{ command -v promtool && command -v prometheus; } >/dev/null || missing+=(prometheus)
command -v chromium >/dev/null || missing+=(chromium)
command -v ip >/dev/null || missing+=(iproute2)
/usr/bin/python3 -c 'import gi; gi.require_version("UMockdev", "1.0")' 2>/dev/null ||
    missing+=(umockdev gir1.2-umockdev-1.0 python3-gi libusb-1.0-0)
[[ ${#missing[@]} -eq 0 ]] && exit 0

line="apt-get install -y ${missing[*]}"
cannot() {
    echo "$1: $line" >&2
    [[ ${CI:-} == true ]] && exit 1
    echo "without them some tests skip" >&2
    exit 0
}

as_root=()
if [[ $EUID -ne 0 ]]; then
    sudo -n true 2>/dev/null || cannot "tests need real parts that only root can install"
    as_root=(sudo -n)
fi
command -v apt-get >/dev/null || cannot "tests need real parts and this machine has no apt-get; on Debian"

echo "installing ${missing[*]}"
quiet() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >/dev/null; }
if ! { quiet apt-get update && quiet apt-get install -y --no-install-recommends "${missing[@]}"; }; then
    cannot "installing failed"
fi
