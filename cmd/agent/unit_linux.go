package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/pitboss-run/pitboss/agent"
)

const (
	// killMargin is what the watchdog needs beyond a kill grace when it ends a tree itself: its slack and the bounded wait for the
	// last death. stacksMargin is what it leaves a hanging agent to write its stacks.
	killMargin   = 6 * time.Second
	stacksMargin = 2 * time.Second
	// unitPatience is how long systemd may take to answer; without an answer nothing is checked.
	unitPatience = 2 * time.Second
)

// unit is the systemd unit whose main process an agent's watchdog is, with the deadlines that it sets (systemd.service(5)); 0 for
// none.
type unit struct {
	name                  string
	stop, abort, watchdog time.Duration
}

// stopTimeout is when the watchdog kills what a stop has not ended.
func stopTimeout(cfg agent.Config) time.Duration {
	stop := stopMargin
	for _, pool := range cfg.Pools {
		stop = max(stop, pool.Timeouts.Drain+pool.Timeouts.Kill+stopMargin)
	}
	return stop
}

// check refuses a configuration whose own deadlines come after the unit's: systemd would kill halfway what the watchdog ends in order
// and proves.
func (u unit) check(cfg agent.Config) error {
	kill := time.Duration(0)
	for _, pool := range cfg.Pools {
		kill = max(kill, pool.Timeouts.Kill)
	}
	abort := stacksMargin + kill + killMargin
	var faults []error
	for _, d := range []struct {
		key  string
		has  time.Duration
		need time.Duration
		why  string
	}{
		{"TimeoutStopSec", u.stop, stopTimeout(cfg) + kill + killMargin, "the longest timeouts.drain and timeouts.kill, and the watchdog's own ladder after them"},
		{"TimeoutAbortSec", u.abort, abort, "the stacks of a hanging agent, the longest timeouts.kill, and the proof that all is gone"},
		{"WatchdogSec", u.watchdog, cfg.Watchdog.AgentTimeout + abort, "watchdog.agent_timeout and the watchdog's ladder, so that it judges before systemd does"},
	} {
		if d.has != 0 && d.has < d.need {
			faults = append(faults, fmt.Errorf("%s=%s of %s is below %s (%s)", d.key, d.has, u.name, d.need, d.why))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fail(exitConfig, "", "cannot run under these deadlines: %w; raise them in a drop-in (`systemctl edit %s`), or lower these settings", errors.Join(faults...), u.name)
}

// mainUnit is the unit that has process main as its main process. ok is false without systemd, or below somebody else's service.
func mainUnit(main int) (u unit, ok bool, err error) {
	if os.Getenv("INVOCATION_ID") == "" { // systemd.exec(5): of every service
		return unit{}, false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), unitPatience)
	defer cancel()
	conn, err := connectManager(ctx)
	if err != nil {
		return unit{}, false, err
	}
	defer conn.Close()
	if u.name, err = conn.GetUnitNameByPID(ctx, uint32(main)); err != nil {
		return unit{}, false, err
	}
	properties, err := conn.GetUnitTypePropertiesContext(ctx, u.name, "Service")
	if err != nil {
		return unit{}, false, err
	}
	if pid, _ := properties["MainPID"].(uint32); int(pid) != main {
		return unit{}, false, nil
	}
	u.stop, u.abort, u.watchdog = usec(properties["TimeoutStopUSec"]), usec(properties["TimeoutAbortUSec"]), usec(properties["WatchdogUSec"])
	return u, true, nil
}

// connectManager asks the manager that has started us: the user's own below user@UID.service, else the system's.
func connectManager(ctx context.Context) (*dbus.Conn, error) {
	if !strings.Contains(ownCgroup(), "/user@") {
		return dbus.NewSystemConnectionContext(ctx)
	}
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		return nil, errors.New("$DBUS_SESSION_BUS_ADDRESS is not set")
	}
	return dbus.NewUserConnectionContext(ctx)
}

// ownCgroup is the path of this process in the unified hierarchy.
func ownCgroup() string {
	text, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// usec is a duration of systemd's; its infinity is 0 here.
func usec(value any) time.Duration {
	n, _ := value.(uint64)
	if n > uint64(math.MaxInt64/time.Microsecond) {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// checkDeadlines compares the configuration with the unit that has process main as its main process, if there is one.
func checkDeadlines(cfg agent.Config, main int) (unread, fault error) {
	u, ok, err := mainUnit(main)
	if err != nil {
		return fmt.Errorf("cannot read the deadlines of this systemd unit, so they are not checked: %w", err), nil
	}
	if !ok {
		return nil, nil
	}
	return nil, u.check(cfg)
}
