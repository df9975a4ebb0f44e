#!/usr/bin/env bash
# Runs both examples for real and compares them with grep and sha256sum, then SIGKILLs the agent in the middle of a call and
# counts by /proc who is left. Everything it writes is in one temporary directory, HOME included.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PITBOSS_DEMO_TOKEN="demo-$$-$RANDOM" XDG_RUNTIME_DIR="$work/run" HOME="$work/home"
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_STATE_HOME
mkdir -m 700 "$XDG_RUNTIME_DIR" "$HOME"

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

# await FILE PATTERN: until a line of a file matches, at most 60 s.
await() {
  for _ in $(seq 1200); do
    if grep -q "$2" "$1"; then return; fi
    read -rt 0.05 <> <(:) || true
  done
  echo "no $2 in $1:"; cat "$1" "$work/err"
  return 1
}

# same WHAT OURS THEIRS
same() {
  echo "   $1: pitboss $2, the other tool $3"
  test "$2" = "$3" || { echo "they differ"; exit 1; }
}

echo "== one call, nothing configured: sha256 of a file"
ours=$(bin/pitboss run examples/hash_tree.py digest path=go.mod | sed -n 's/.*"sha256": "\(.*\)".*/\1/p')
same "sha256 of go.mod" "$ours" "$(sha256sum go.mod | cut -d' ' -f1)"

echo "== an agent that stays up, with 4 workers"
bin/pitboss run examples/search_stdlib.py --workers 4 > "$work/out" 2> "$work/err" &
main=$!
await "$work/out" '^socket: '
socket=$(sed -n 's/^socket: //p' "$work/out")
call() { bin/pitboss --socket "$socket" call "$@"; }

stdlib=$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
echo "== a stream: index every line of $stdlib"
call index root="$stdlib" db="$work/index.db" | tee "$work/progress" | tail -1
test "$(wc -l < "$work/progress")" -gt 1 || { echo "no progress came"; exit 1; }
for word in import weakref yield; do
  theirs=$(LC_ALL=C grep -r -a -i -w -F -c --include='*.py' --exclude-dir=site-packages "$word" "$stdlib" | awk -F: '{n += $NF} END {print n}')
  same "lines with $word" "$(call count word=$word db="$work/index.db")" "$theirs"
done
bin/pitboss --socket "$socket" status

call index root="$stdlib" db="$work/index.db" > "$work/again" 2> "$work/cut" &
caller=$!
await "$work/again" files
agent=$(bin/pitboss --socket "$socket" status --json | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | head -1)
before=$(alive)
echo "== SIGKILL of the agent (pid $agent) in the middle of a call; $before processes of this run are alive"
test "$before" -ge 12 # the caller, watchdog, agent, launcher, 4 keepers, 4 workers: the counter sees them
start=$(date +%s%N)
kill -KILL "$agent"
wait "$main" || code=$?
end=$(date +%s%N)
wait "$caller" && { echo "the call that was cut succeeded"; exit 1; }
left=$(alive)
tail -1 "$work/err"
echo "   the caller was told: $(head -1 "$work/cut")"
same "lines with import, by the index that the cut call left as it was" \
  "$(bin/pitboss run examples/search_stdlib.py count word=import db="$work/index.db")" \
  "$(LC_ALL=C grep -r -a -i -w -F -c --include='*.py' --exclude-dir=site-packages import "$stdlib" | awk -F: '{n += $NF} END {print n}')"
test -z "$(ls -A "$HOME")" || { echo "files were left in HOME:"; find "$HOME"; exit 1; }
test "${code:-0}" = 70 || { echo "exit code ${code:-0}, want 70"; exit 1; }
echo "$left survivors"
echo "tree empty after $(( (end - start) / 1000000 )) ms"
test "$left" = 0
