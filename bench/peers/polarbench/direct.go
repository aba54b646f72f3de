package main

import (
	"fmt"
	"strings"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/kernel/gemm"
	"github.com/polargo/polar/backend/cpu/team"
)

// openDirect prepares product:MxKxN on package gemm itself, without an executable around it: what is left between this and the
// backend "polar" is the cost of the latter. With bf16, operands are rounded to bfloat16.
func openDirect(w *work, s settings) error {
	if !strings.HasPrefix(s.row, "product:") {
		return fmt.Errorf("gemm has products only")
	}
	m, k, n, err := productSizes(s.row)
	if err != nil {
		return err
	}
	spec := gemm.Spec{M: m, N: n, K: k, A: gemm.View{Row: k, Col: 1}, B: gemm.View{Row: n, Col: 1}, C: gemm.View{Row: n, Col: 1},
		BF16: s.backend == "gemm:bf16"}
	plan, workers := gemm.New[float32](spec, feature.Detected()), team.New(s.threads)
	w.closers = append(w.closers, workers.Close)
	a, b, c := gaussian(1, 0, 1, m*k), gaussian(2, 0, 1, k*n), make([]float32, m*n)
	scratch := make([]float32, plan.Scratch(workers.Size()))
	w.flops = plan.Flops()
	w.step = func() (outcome, error) {
		timer := newClock()
		plan.Run(workers, c, a, b, scratch, nil)
		return timer.stop(), nil
	}
	return nil
}
