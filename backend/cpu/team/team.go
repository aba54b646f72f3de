// Package team runs independent tasks on a fixed number of goroutines.
//
// A team is never entered twice: a call that finds it busy, from inside a task or from another goroutine, runs its tasks
// itself, one after another. So nothing ever waits for a worker that waits for it, and tasks must not depend on which
// worker runs them or on their order.
package team

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Team is a fixed number of workers, of which the caller of Run is one.
type Team struct {
	workers int
	busy    sync.Mutex // held while Run hands tasks to the others

	// The current round. A worker sees a new round when round changes.
	round  atomic.Uint64
	tasks  int64
	task   func(worker, task int)
	next   atomic.Int64 // the next task to take
	active atomic.Int64 // workers still in the round
	panics atomic.Pointer[any]
	wake   []chan struct{}
	asleep []atomic.Bool
	stop   chan struct{}
	once   sync.Once
}

// spins is how often a worker looks for a new round before it sleeps: some tens of microseconds, the time between two operations
// of a small model. Sleeping and waking costs about as much.
const spins = 2000

// New starts a team of n workers (at least 1); the caller of Run counts as one, so n-1 goroutines are started. Close ends them.
func New(n int) *Team {
	n = max(n, 1)
	t := &Team{workers: n, wake: make([]chan struct{}, n), asleep: make([]atomic.Bool, n), stop: make(chan struct{})}
	for i := 1; i < n; i++ {
		t.wake[i] = make(chan struct{}, 1)
		go t.work(i)
	}
	return t
}

// Size is the number of workers. Worker numbers given to tasks are below it.
func (t *Team) Size() int { return t.workers }

// Close ends the workers, after the round that is running. Run still works afterwards, on the caller alone. It must not be
// called from a task.
func (t *Team) Close() {
	t.busy.Lock()
	defer t.busy.Unlock()
	t.once.Do(func() { close(t.stop) })
}

// Run calls task(worker, i) for every i from 0 to tasks-1, each exactly once, on the team's workers, and returns when all
// are done. Tasks of one worker do not overlap, so worker may index scratch memory of this call. If tasks panic, Run panics
// with the first value after all workers have stopped.
func (t *Team) Run(tasks int, task func(worker, task int)) {
	if tasks <= 0 {
		return
	}
	if tasks == 1 || t.workers == 1 || !t.busy.TryLock() {
		alone(tasks, task)
		return
	}
	defer t.busy.Unlock()
	if t.stopped() {
		alone(tasks, task)
		return
	}
	t.tasks, t.task = int64(tasks), task
	t.next.Store(0)
	t.panics.Store(nil)
	t.active.Store(int64(t.workers - 1))
	t.round.Add(1)
	for i := 1; i < t.workers; i++ {
		if t.asleep[i].Load() {
			select {
			case t.wake[i] <- struct{}{}:
			default:
			}
		}
	}
	t.take(0)
	for i := 0; t.active.Load() > 0; i++ {
		if i > spins {
			runtime.Gosched()
		}
	}
	t.task = nil
	if p := t.panics.Load(); p != nil {
		panic(*p)
	}
}

func alone(tasks int, task func(worker, task int)) {
	for i := range tasks {
		task(0, i)
	}
}

func (t *Team) stopped() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
	}
}

// take runs tasks until none is left.
func (t *Team) take(worker int) {
	defer func() {
		if p := recover(); p != nil {
			t.panics.CompareAndSwap(nil, &p)
			t.next.Store(t.tasks)
		}
	}()
	for {
		i := t.next.Add(1) - 1
		if i >= t.tasks {
			return
		}
		t.task(worker, int(i))
	}
}

func (t *Team) work(worker int) {
	seen := uint64(0)
	for {
		if !t.await(worker, seen) {
			return
		}
		seen = t.round.Load()
		t.take(worker)
		t.active.Add(-1)
	}
}

// await returns true when a round after seen has begun, false when the team is closed.
func (t *Team) await(worker int, seen uint64) bool {
	for i := range spins {
		if t.round.Load() != seen {
			return true
		}
		if i%64 == 63 {
			runtime.Gosched()
		}
	}
	for {
		t.asleep[worker].Store(true)
		if t.round.Load() != seen {
			t.asleep[worker].Store(false)
			return true
		}
		select {
		case <-t.wake[worker]:
		case <-t.stop:
			return false
		}
		t.asleep[worker].Store(false)
		if t.round.Load() != seen {
			return true
		}
	}
}
