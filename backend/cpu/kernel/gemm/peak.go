package gemm

import (
	"runtime"
	"time"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// Peak measures the float32 rate, in GFLOP/s, that all workers of a team reach together with multiply-adds on registers alone,
// at a level; with bf16, with the level's dot products of bfloat16 where it has them. It takes 60 ms and returns the best of six
// tries, so other work on the processor lowers it little.
func Peak(t *team.Team, level feature.Level, bf16 bool) float64 {
	run, flops := peakLoop(level, bf16)
	turns := 1000
	try := func() time.Duration {
		start := time.Now()
		t.Run(t.Size(), func(int, int) { run(turns) })
		return time.Since(start)
	}
	best := 0.0
	for tries := 0; tries < 6; {
		took := try()
		if took < 10*time.Millisecond {
			turns *= 2
			continue
		}
		best = max(best, float64(turns)*flops*float64(t.Size())/took.Seconds()/1e9)
		tries++
	}
	return best
}

// peakGeneric multiplies and adds on eight variables; the sum is returned so that it is computed.
func peakGeneric(turns int) float32 {
	var a, b, c, d, e, f, g, h float32
	x, y := float32(turns%3), float32(turns%5)
	for range turns {
		a += x * y
		b += x * y
		c += x * y
		d += x * y
		e += x * y
		f += x * y
		g += x * y
		h += x * y
		x, y = y, x
	}
	return a + b + c + d + e + f + g + h
}

func peakLoopGeneric() (func(int), float64) {
	return func(turns int) {
		runtime.KeepAlive(peakGeneric(turns))
	}, 16
}
