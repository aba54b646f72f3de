package main

import (
	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/kernel/gemm"
	"github.com/polargo/polar/backend/cpu/team"
)

// measuredPeak returns the float32 peak of so many cores in GFLOP/s: the best of a few short runs of a loop of fused
// multiply-adds on registers.
func measuredPeak(threads int) float64 {
	workers := team.New(threads)
	defer workers.Close()
	best := 0.0
	for range 5 {
		best = max(best, gemm.Peak(workers, feature.Detected(), false))
	}
	return best
}
