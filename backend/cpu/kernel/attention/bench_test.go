package attention

import (
	"fmt"
	"testing"
	"time"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// BenchmarkAttention reports the rate of useful operations on one worker, for the shapes of the models that the project trains.
// "best" is that of the fastest call: on a machine with other work it says more than the mean.
func BenchmarkAttention(b *testing.B) {
	for _, c := range []struct{ batch, heads, kv, length, dim int }{
		{32, 4, 4, 64, 32}, {4, 6, 6, 256, 64}, {4, 9, 3, 256, 64}, {2, 9, 3, 512, 64}, {1, 9, 3, 1024, 64}, {1, 9, 3, 2048, 64}, {1, 8, 8, 512, 128},
	} {
		p := newProblem(withLayout(square(c.batch, c.heads, c.kv, c.length, c.dim, true), rowsFirst), 1)
		plan := New(p.Spec, feature.Detected())
		forward, vjp := plan.Flops()
		t := team.New(1)
		defer t.Close()
		out, stats := make([]float32, len(p.dout)), make([]float32, c.batch*c.heads*c.length)
		dq, dk, dv := make([]float32, len(p.q)), make([]float32, len(p.k)), make([]float32, len(p.v))
		scratch, scratchVJP := make([]float32, plan.Scratch(1)), make([]float32, plan.ScratchVJP(1))
		name := fmt.Sprintf("%dx%dx%dx%dx%d/", c.batch, c.heads, c.kv, c.length, c.dim)
		b.Run(name+"forward", func(b *testing.B) {
			rate(b, forward, func() { plan.Run(t, out, stats, p.q, p.k, p.v, nil, scratch) })
		})
		b.Run(name+"vjp", func(b *testing.B) {
			rate(b, vjp, func() { plan.RunVJP(t, dq, dk, dv, p.q, p.k, p.v, out, stats, p.dout, nil, scratchVJP) })
		})
	}
}

func rate(b *testing.B, flops float64, f func()) {
	f()
	best := time.Hour
	for b.Loop() {
		start := time.Now()
		f()
		best = min(best, time.Since(start))
	}
	b.ReportMetric(flops*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	b.ReportMetric(flops/best.Seconds()/1e9, "best-GFLOP/s")
}
