# Restarts what postun has marked; where systemd's own trigger of the transaction has done so already nothing is marked any more.
if [ -d /run/systemd/system ] && [ -x /usr/lib/systemd/systemd-update-helper ]; then
    /usr/lib/systemd/systemd-update-helper system-reload-restart || :
fi
