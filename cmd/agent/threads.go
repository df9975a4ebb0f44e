package main

import (
	"runtime"
	"sync"
)

// threadReserve is how many threads the agent makes at its start beyond those that it needs then. The runtime never gives a thread
// back, and ends the process when it needs one and cannot have it (RLIMIT_NPROC, pids.max): an agent that serves must not die of
// what its workers have used up.
const threadReserve = 16

// reserveThreads makes that many threads, which the runtime then keeps idle: a goroutine that is locked to its thread and waits
// leaves no other way to run the next one. It returns when all of them have unlocked: who is still locked is no reserve yet.
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
