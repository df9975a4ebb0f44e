package watchdog

import (
	"runtime"
	"sync"
)

// threadReserve is how many threads the watchdog makes at its start beyond those that it needs then. While this goroutine waits in the
// kernel the runtime's monitor gives the processor to another thread; it takes an idle one, makes one where none is idle yet, never
// gives one back, and ends the process when it cannot have it (RLIMIT_NPROC, pids.max). A guardian must not die of what its tree has
// used up.
const threadReserve = 4

// reserveThreads makes that many threads, which the runtime then keeps idle: a goroutine that is locked to its thread and waits
// leaves no other way to run the next one.
func reserveThreads(n int) {
	var there, gone sync.WaitGroup
	leave := make(chan struct{})
	for range n {
		there.Add(1)
		gone.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			<-leave
		})
	}
	there.Wait()
	close(leave)
	gone.Wait()
}
