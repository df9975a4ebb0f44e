package agent

import (
	"os"
	"strings"
)

// threadDefaults keep numeric libraries from starting a thread per core in every worker.
var threadDefaults = [...]string{"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"}

// workerEnviron is the environment of launchers: the agent's own, without what belongs to the service manager and to our
// own links, with the thread defaults where the user has said nothing, and with the run id, by which a later agent can
// recognise what this one left.
func workerEnviron(environ []string, runID string) []string {
	env := []string{"PITBOSS_RUN_ID=" + runID}
	given := map[string]bool{}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		given[name] = true
		if !private(name) {
			env = append(env, entry)
		}
	}
	for _, name := range threadDefaults {
		if !given[name] {
			env = append(env, name+"=1")
		}
	}
	return env
}

// private says that a variable is the agent's alone: the service manager's, our links', and what overrides the configuration.
func private(name string) bool {
	if strings.HasPrefix(name, overridePrefix) && !isOwn(name) {
		return true
	}
	switch name {
	case "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC", "INVOCATION_ID",
		"JOURNAL_STREAM", "CREDENTIALS_DIRECTORY", "MAINPID", "PITBOSS_RUN_ID":
		return true
	}
	return name == GuardEnv || strings.HasPrefix(name, "PITBOSS_CGROUP") || strings.HasPrefix(name, "PITBOSS_LISTEN_") || name == "PITBOSS_LOCK_FD" || name == NiceEnv
}

func (p *pool) launcherEnv() []string { return workerEnviron(os.Environ(), p.agent.runID) }

// workerEnv is what one worker gets besides its launcher's environment. The templates were checked with the config.
func workerEnv(cfg *PoolConfig, index int) map[string]string {
	env := map[string]string{}
	for name, value := range cfg.Env {
		if text, err := expandTemplate(value, cfg.Name, index); err == nil {
			env[name] = text
		}
	}
	return env
}
