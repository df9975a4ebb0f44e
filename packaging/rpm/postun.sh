# $1 is how many versions stay installed: 1 or more at an upgrade, 0 at a removal.
if [ "$1" -ge 1 ] && [ -d /run/systemd/system ]; then
    # The services drain and restart, never the sockets, so that no connection is refused; stopped stays stopped. Where systemd has
    # its helper they are marked, and restarted when the whole transaction is in place (posttrans).
    services="pitboss.service $(systemctl list-units --plain --no-legend --state=active 'pitboss@*.service' | cut -d ' ' -f 1)"
    if [ -x /usr/lib/systemd/systemd-update-helper ]; then
        /usr/lib/systemd/systemd-update-helper mark-restart-system-units $services || :
    else
        systemctl daemon-reload >/dev/null 2>&1 || :
        systemctl try-restart $services >/dev/null 2>&1 || :
    fi
fi
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload >/dev/null 2>&1 || :
        systemctl reset-failed pitboss.socket pitboss.service >/dev/null 2>&1 || :
    fi
    # systemd leaves the sockets behind. Only those: root may run an agent of its own there.
    find /run/pitboss -mindepth 1 -maxdepth 1 -type s -group pitboss-clients -delete 2>/dev/null || :
    rmdir /run/pitboss 2>/dev/null || :
fi
