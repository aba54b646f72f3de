package vector

import (
	"math"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// levelsHere are the levels that this processor has.
func levelsHere() (all []feature.Level) {
	for l := feature.Generic; l <= feature.Detected(); l++ {
		all = append(all, l)
	}
	return all
}

// ulps is how far got is from want, in units of the last place of a float32 of want's size. What rounds to infinity counts as
// one step beyond the largest number.
func ulps(got float32, want float64) float64 {
	switch w := float32(want); {
	case math.IsNaN(want) || got != got:
		if math.IsNaN(want) && got != got {
			return 0
		}
		return math.Inf(1)
	case got == w:
		if math.Signbit(float64(got)) != math.Signbit(want) {
			return math.Inf(1)
		}
		if math.IsInf(want, 0) || math.IsInf(float64(w), 0) {
			return 0
		}
	case math.IsInf(want, 0):
		return math.Inf(1)
	}
	g := float64(got)
	if math.IsInf(g, 0) {
		g = math.Copysign(0x1p128, g)
	}
	_, e := math.Frexp(want)
	return math.Abs(g-want) / math.Ldexp(1, max(e-24, -149))
}

// functions are the approximated ones, with the largest error in ulps allowed at the levels with assembly. Measured over all
// bit patterns (TestFunctionsEverywhere): see the comments.
var functions = []struct {
	op     Op
	oracle func(float64) float64
	ulps   float64
}{
	{Exp, math.Exp, 2},
	{Expm1, math.Expm1, 2},
	{Log, math.Log, 2},
	{Log1p, math.Log1p, 2},
	{Tanh, math.Tanh, 3},
	{Logistic, logistic, 3},
	{Erf, math.Erf, 3},
	{Sin, math.Sin, 2},
	{Cos, math.Cos, 2},
}

func worst(k *Kernels, op Op, oracle func(float64) float64, step uint32) (most float64, where float32) {
	const n = 4096
	x, d := make([]float32, n), make([]float32, n)
	for start, done := uint32(0), false; !done; {
		for i := range x {
			x[i] = math.Float32frombits(start)
			next := start + step
			done = done || next < start
			start = next
		}
		k.Unary[op](unsafe.Pointer(&d[0]), unsafe.Pointer(&x[0]), n)
		for i, v := range x {
			if u := ulps(d[i], oracle(float64(v))); u > most {
				most, where = u, v
			}
		}
	}
	return most, where
}

func TestFunctionsEverywhere(t *testing.T) {
	for _, level := range levelsHere() {
		for _, f := range functions {
			most, where := worst(For(level), f.op, f.oracle, 4093)
			t.Logf("%s %s: %.3f ulp at %g", level, f.op, most, where)
			if most > f.ulps {
				t.Errorf("%s %s is %.3f ulp off at %g (%x), allowed %g", level, f.op, most, where, math.Float32bits(where), f.ulps)
			}
		}
	}
}
