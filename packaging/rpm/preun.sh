# $1 is how many versions stay installed: 0 at a removal. An upgrade, where the old version goes and one stays, stops nothing.
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        instances=$(systemctl list-units --plain --no-legend --state=active 'pitboss@*.socket' 'pitboss@*.service' | cut -d ' ' -f 1)
        # The sockets in the same order as the services: a connection in between must not start a service again.
        systemctl --no-reload disable --now pitboss.socket pitboss.service >/dev/null 2>&1 || :
        [ -z "$instances" ] || systemctl --no-reload disable --now $instances >/dev/null 2>&1 || :
    else
        systemctl --no-reload disable pitboss.socket pitboss.service >/dev/null 2>&1 || :
    fi
fi
