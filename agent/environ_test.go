package agent

import (
	"slices"
	"testing"
)

// TestTheEnvironmentOfWorkers is the agent's, without what is for the agent alone.
func TestTheEnvironmentOfWorkers(t *testing.T) {
	env := workerEnviron([]string{"HOME=/", "PITBOSS_LOG_LEVEL=debug", "PITBOSS_POOLS_DEFAULT_WORKERS=2", "PITBOSS_SOCKET=/s", "PITBOSS_PYTHON=/p", "NOTIFY_SOCKET=/n",
		"JOURNAL_STREAM=1:2", "PITBOSS_RUN_ID=another", "PITBOSS_TEST_X=1", "OMP_NUM_THREADS=4"}, "run")
	for _, want := range []string{"HOME=/", "PITBOSS_SOCKET=/s", "PITBOSS_PYTHON=/p", "PITBOSS_TEST_X=1", "OMP_NUM_THREADS=4", "PITBOSS_RUN_ID=run", "MKL_NUM_THREADS=1"} {
		if !slices.Contains(env, want) {
			t.Errorf("no %s", want)
		}
	}
	if len(env) != 7+3 {
		t.Errorf("%q", env)
	}
}
