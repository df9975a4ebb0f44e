#!/usr/bin/env bash
# Runs an example for real, shows the status, SIGKILLs the agent in the middle of a call, and counts by /proc who is left.
set -euo pipefail
cd "$(dirname "$0")/.."
export PITBOSS_DEMO_TOKEN="demo-$$-$RANDOM"
work=$(mktemp -d)
export XDG_RUNTIME_DIR="$work"
trap 'rm -rf "$work"' EXIT

# Counts processes by the token in their environment, which every descendant inherits; this script's own do not count.
alive() {
  python3 - "$$" <<'END'
import os, sys
token, own, n = b"PITBOSS_DEMO_TOKEN=" + os.environ["PITBOSS_DEMO_TOKEN"].encode(), {int(sys.argv[1]), os.getpid(), os.getppid()}, 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            n += int(pid) not in own and token in file.read().split(b"\0")
    except OSError:
        pass
print(n)
END
}

echo "== one call, nothing configured: sha256 and gzip of a file"
bin/pitboss run examples/hash_tree.py digest path=go.mod
echo "   the other tool says: $(sha256sum go.mod)"

echo "== an agent that stays up"
bin/pitboss run examples/hash_tree.py --workers 4 > "$work/out" 2> "$work/err" &
main=$!
for _ in $(seq 200); do grep -q '^socket: ' "$work/out" && break; read -rt 0.05 <> <(:) || true; done
socket=$(sed -n 's/^socket: //p' "$work/out")
test -n "$socket" || { cat "$work/err"; exit 1; }
bin/pitboss --socket "$socket" status
agent=$(bin/pitboss --socket "$socket" status --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | head -1)
before=$(alive)
echo "== SIGKILL of the agent (pid $agent); $before processes of this run are alive"
test "$before" -ge 11 # watchdog, agent, launcher, 4 keepers, 4 workers: the counter sees them
start=$(date +%s%N)
kill -KILL "$agent"
wait "$main" || code=$?
end=$(date +%s%N)
left=$(alive)
tail -1 "$work/err"
echo "$left survivors"
echo "tree empty after $(( (end - start) / 1000000 )) ms, exit code ${code:-0}"
test "$left" = 0 && test "${code:-0}" = 70
