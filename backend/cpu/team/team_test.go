package team

import (
	"sync"
	"sync/atomic"
	"testing"
)

// TestEveryTaskOnce: each task runs exactly once, for any number of workers, nested and from several goroutines at once.
func TestEveryTaskOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 8} {
		team := New(workers)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for round := range 50 {
					tasks := round * 7 % 40
					counts := make([]atomic.Int32, tasks)
					var nested atomic.Int32
					team.Run(tasks, func(worker, task int) {
						if worker < 0 || worker >= team.Size() {
							t.Errorf("worker %d of %d", worker, team.Size())
						}
						counts[task].Add(1)
						team.Run(3, func(_, _ int) { nested.Add(1) })
					})
					for i := range counts {
						if n := counts[i].Load(); n != 1 {
							t.Errorf("%d workers: task %d of %d ran %d times", workers, i, tasks, n)
						}
					}
					if int(nested.Load()) != 3*tasks {
						t.Errorf("%d nested tasks, want %d", nested.Load(), 3*tasks)
					}
				}
			})
		}
		group.Wait()
		team.Close()
		ran := 0
		team.Run(5, func(_, _ int) { ran++ })
		if ran != 5 {
			t.Errorf("%d of 5 tasks after Close", ran)
		}
	}
}

// TestPanics: a task's panic reaches the caller of Run, and the team goes on.
func TestPanics(t *testing.T) {
	team := New(2)
	defer team.Close()
	for range 20 {
		func() {
			defer func() {
				if p := recover(); p != "oh" {
					t.Errorf("recovered %v", p)
				}
			}()
			team.Run(100, func(_, task int) {
				if task == 50 {
					panic("oh")
				}
			})
			t.Error("no panic")
		}()
	}
	var ran atomic.Int32
	team.Run(10, func(_, _ int) { ran.Add(1) })
	if ran.Load() != 10 {
		t.Errorf("%d of 10 tasks after panics", ran.Load())
	}
}

// TestCloseDuringRun: closing while another goroutine runs neither hangs nor loses tasks.
func TestCloseDuringRun(t *testing.T) {
	for range 100 {
		team := New(2)
		var ran atomic.Int32
		done := make(chan struct{})
		go func() {
			for range 10 {
				team.Run(8, func(_, _ int) { ran.Add(1) })
			}
			close(done)
		}()
		team.Close()
		<-done
		if ran.Load() != 80 {
			t.Fatalf("%d of 80 tasks", ran.Load())
		}
	}
}
