#!/usr/bin/env bash
# Boots this host's own root, below an overlay that is thrown away, with systemd as PID 1, and runs one program in it.
# usage: lane.sh DIR ARGUMENT…   DIR is /opt/pitboss-test in there; DIR/driver is run with the arguments. Its output is shown
# while it runs, its exit status is ours, and it ends when we do. Root only; needs systemd-nspawn and overlayfs, not that PID 1 here is systemd.
set -euo pipefail
test "$(id -u)" = 0 || { echo "cannot boot: must be root" >&2; exit 1; }
if ! command -v systemd-nspawn >/dev/null || ! command -v dbus-daemon >/dev/null; then
  apt-get update -q && apt-get install -qy systemd-container dbus dbus-user-session libpam-systemd
fi
dir=$(realpath "$1"); shift
temp=$(mktemp -d)
trap 'rmdir "$temp" /sys/fs/cgroup/{unified,systemd}/{payload,supervisor} 2>/dev/null || true' EXIT # nspawn leaves these cgroups behind
exec {lock}>"${TMPDIR:-/tmp}/pitboss-lane.lock"
flock "$lock" # two at a time would share those
export dir temp
setpriv --pdeathsig KILL unshare -m --propagation private bash -euo pipefail -c '
  mount -t tmpfs tmpfs /run # nspawn refuses a /run on a disk
  mount -t tmpfs tmpfs "$temp"
  mkdir "$temp"/{lower,upper,work,root}
  mount --bind / "$temp/lower" # an overlay of / itself is refused
  mount -t overlay overlay -o "lowerdir=$temp/lower,upperdir=$temp/upper,workdir=$temp/work" "$temp/root"
  root=$temp/root
  : >"$root/etc/machine-id"
  rm -f "$root/usr/sbin/policy-rc.d" # it would make maintainer scripts start nothing, silently
  rm -f "$root/var/lib/man-db/auto-update" # each dpkg would index all man pages for seconds
  mkdir -p "$root/opt/pitboss-test"
  cp -r "$dir/." "$root/opt/pitboss-test/"
  chmod -R go+rX "$root/opt/pitboss-test"
  printf -v command "%q " /opt/pitboss-test/driver "$@"
  printf "#!/bin/bash\ncd /opt/pitboss-test && exec %s\n" "$command" >"$root/opt/pitboss-test/run"
  chmod 755 "$root/opt/pitboss-test/run"
  cat >"$root/etc/systemd/system/lane.service" <<UNIT
[Unit]
Requires=dbus.socket
After=basic.target dbus.socket systemd-journald.service systemd-user-sessions.service
Wants=systemd-user-sessions.service
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
TimeoutStartSec=2400
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardOutput=file:/opt/pitboss-test/output
StandardError=inherit
ExecStart=/opt/pitboss-test/run
UNIT
  : >"$root/opt/pitboss-test/output"
  # --register=no --keep-unit: there is no manager here to ask for a scope. Pure cgroup v2, as every current distribution has it;
  # the controllers stay with the host, so no limit bites in there.
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setpriv --pdeathsig KILL systemd-nspawn -D "$root" --register=no --keep-unit --private-network --boot \
    --console=read-only systemd.unit=lane.service </dev/null >"$temp/boot.log" 2>&1 &
  tail -f -s 0.2 --pid=$! "$root/opt/pitboss-test/output"
  status=0; wait $! || status=$?
  grep -q . "$root/opt/pitboss-test/output" || cat "$temp/boot.log" >&2
  exit "$status"' lane "$@"
