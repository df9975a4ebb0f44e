package agent

import (
	"fmt"
	"os/exec"
)

// checkRelease reports what can be known to be wrong with release before anything is started.
func (p PoolConfig) checkRelease(c *checker) {
	for _, list := range p.Release.lists() {
		for i, entry := range list.entries {
			// The last worker has the largest number in it: a port may be out of range only there.
			for _, index := range []int{0, max(p.Workers-1, 0)} {
				if _, err := expandResource(list.kind, entry, p.Name, index); err != nil {
					c.add(fmt.Sprintf("release.%s[%d]", list.key, i), "%v", err)
					break
				}
			}
		}
	}
	for _, s := range p.Release.shared(p.Name, p.Workers) {
		if !c.has(s.key) {
			c.add(s.key, "%q is the same for all %d workers, so that each would wait for another's; write it with {{.Index}} or {{add N .Index}}, or say workers: 1", s.entry, p.Workers)
		}
	}
	if p.Release.GPUMemory != 0 && len(p.Release.GPUs) == 0 {
		c.add("release.gpu_memory", "speaks of no GPU; name them in release.gpus")
	}
	if len(p.Release.GPUs) > 0 && p.Release.GPUMemory == 0 && !firstPIDNamespace() {
		c.add("release.gpus", "the processes of a GPU cannot be told apart in this pid namespace; say how much memory must be free in release.gpu_memory")
	}
	if len(p.Release.GPUs) > 0 {
		if _, err := exec.LookPath(gpuQuery); err != nil {
			c.add("release.gpus", "cannot be measured: %v; install it or remove the key", err)
		}
	}
}

// sharedEntry is one that names the same thing for every worker.
type sharedEntry struct{ key, entry string }

// shared finds the ports and files that are the same for two of so many workers. GPUs may be: their memory is told apart by process.
func (r ReleaseConfig) shared(pool string, workers int) (all []sharedEntry) {
	if workers < 2 {
		return nil
	}
	for _, list := range r.lists() {
		if list.kind == resourceGPU {
			continue
		}
		for i, entry := range list.entries {
			one, err := expandTemplate(entry, pool, 0)
			other, err2 := expandTemplate(entry, pool, 1)
			if err == nil && err2 == nil && one == other {
				all = append(all, sharedEntry{fmt.Sprintf("release.%s[%d]", list.key, i), entry})
			}
		}
	}
	return all
}
