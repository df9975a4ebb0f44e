# $1 is how many versions will be installed: 1 at an installation, 2 or more at an upgrade. No scriptlet may fail, or the
# transaction stops half-way.
systemd-sysusers pitboss.conf || :
systemd-tmpfiles --create pitboss.conf || :
journalctl --update-catalog >/dev/null 2>&1 || :
if [ "$1" -eq 1 ]; then
    # Neither started nor enabled: the presets of the distribution and of the administrator decide.
    systemctl --no-reload preset pitboss.socket pitboss.service >/dev/null 2>&1 || :
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
fi
