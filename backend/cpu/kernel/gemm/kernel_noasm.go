//go:build !amd64 || noasm

package gemm

import "github.com/polargo/polar/backend/cpu/kernel/feature"

func assembled[T float32 | float64](feature.Level, bool) (kernels[T], bool) {
	return kernels[T]{}, false
}

func peakLoop(feature.Level, bool) (func(turns int), float64) { return peakLoopGeneric() }
