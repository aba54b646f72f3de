//go:build !linux

package gemm

import "testing"

// guarded is memory without guards where the tests know of none.
func guarded[T float32 | float64](_ testing.TB, n int, _ bool) []T { return make([]T, n) }
