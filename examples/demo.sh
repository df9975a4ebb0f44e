#!/usr/bin/env bash
# Runs an example for real, shows the status, SIGKILLs the agent in the middle of a call, and counts by /proc who is left.
set -euo pipefail
cd "$(dirname "$0")/.."
export PITBOSS_DEMO_TOKEN="demo-$$-$RANDOM"
work=$(mktemp -d)
export XDG_RUNTIME_DIR="$work"
trap 'rm -rf "$work"' EXIT

alive() { grep -lsz "^PITBOSS_DEMO_TOKEN=$PITBOSS_DEMO_TOKEN\$" /proc/[0-9]*/environ 2>/dev/null | grep -cvE "^/proc/($$|$BASHPID|self)/" || true; }

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
before=$(pgrep -c -P "$agent" || true)
echo "== SIGKILL of the agent (pid $agent, $before launcher), with 4 workers and their keepers below it"
start=$(date +%s%N)
kill -KILL "$agent"
wait "$main" || code=$?
end=$(date +%s%N)
left=$(bash -c 'n=0; for f in /proc/[0-9]*; do p=${f#/proc/}; [ "$p" = "$$" ] || [ "$p" = "$PPID" ] && continue; { tr "\0" "\n" < "$f/environ" | grep -qx "PITBOSS_DEMO_TOKEN=$PITBOSS_DEMO_TOKEN" && grep -qE "pb-|pitboss" "$f/comm"; } 2>/dev/null && n=$((n+1)); done; echo $n')
cat "$work/err" | tail -2
echo "$left survivors"
echo "tree empty after $(( (end - start) / 1000000 )) ms, exit code ${code:-0}"
test "$left" = 0 && test "${code:-0}" = 70
