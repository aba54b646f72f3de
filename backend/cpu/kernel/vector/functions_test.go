package vector

import (
	"math"
	"math/rand/v2"
	"os"
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

// functions are the approximated ones, with the largest error in ulps allowed at any level: the worst of one bit pattern in 61
// (POLAR_LONG=1), which is beside it, rounded up. The plain Go level has 0.5 for all.
var functions = []struct {
	op     Op
	oracle func(float64) float64
	ulps   float64
}{
	{Exp, math.Exp, 1},        // 0.962 at 5.254288
	{Expm1, math.Expm1, 1.5},  // 1.409 at 17.028463
	{Log, math.Log, 1},        // 0.910 at 0.63455075
	{Log1p, math.Log1p, 1.6},  // 1.459 at 0.33552417
	{Tanh, math.Tanh, 2.5},    // 2.419 at -0.0077671753
	{Logistic, logistic, 2.5}, // 2.304 at -3.4651163
	{Erf, math.Erf, 1},        // 0.929 at -0.9795344
	{Sin, math.Sin, 1.6},      // 1.472 at 2843.016
	{Cos, math.Cos, 1.6},      // 1.496 at 1085.1678
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

// TestFunctionsEverywhere samples all bit patterns: one in 4093, and one in 61 where POLAR_LONG is set.
func TestFunctionsEverywhere(t *testing.T) {
	step := uint32(4093)
	if env := os.Getenv("POLAR_LONG"); env != "" && env != "0" {
		step = 61
	}
	for _, level := range levelsHere() {
		for _, f := range functions {
			most, where := worst(For(level), f.op, f.oracle, step)
			t.Logf("%s %s: %.3f ulp at %g", level, f.op, most, where)
			if most > f.ulps {
				t.Errorf("%s %s is %.3f ulp off at %g (%x), allowed %g", level, f.op, most, where, math.Float32bits(where), f.ulps)
			}
		}
	}
}

// TestUlpsBites: a result that is off by 3 units is seen.
func TestUlpsBites(t *testing.T) {
	for _, f := range functions {
		off := func(x float64) float64 { return f.oracle(x) * (1 + 4*0x1p-23) }
		if most, _ := worst(For(feature.Generic), f.op, off, 1<<20+7); most <= f.ulps {
			t.Errorf("%s: 4 units off, found only %g", f.op, most)
		}
	}
}

// TestFunctionsLanes: a lane gives the same at every place of arrays of every length, alone and in place, with guards around them;
// and AVX2 gives what AVX-512 gives.
func TestFunctionsLanes(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	for _, f := range functions {
		for _, level := range levelsHere() {
			kernel := For(level).Unary[f.op]
			for n := range 131 {
				given := words(r, n)
				src, dst := newBuffer(n, r.IntN(64)), newBuffer(n, r.IntN(64))
				src.put(given)
				want := make([]uint32, n)
				for i := range want {
					kernel(unsafe.Pointer(&want[i]), unsafe.Pointer(&given[i]), 1)
				}
				kernel(dst.pointer(), src.pointer(), n)
				p := same(dst.get(), want, false) + dst.intact() + same(src.get(), given, false)
				kernel(src.pointer(), src.pointer(), n)
				p += same(src.get(), want, false) + src.intact()
				if level == feature.AVX512 {
					For(feature.AVX2).Unary[f.op](dst.pointer(), dst.pointer(), 0)
					dst.put(given)
					For(feature.AVX2).Unary[f.op](dst.pointer(), dst.pointer(), n)
					p += same(dst.get(), want, true)
				}
				if p != "" {
					t.Fatalf("%s %s of %d: %s", level, f.op, n, p)
				}
			}
		}
	}
}

// TestFunctionsNotGeneric fails if a level's approximations are those of the plain Go level: then they are not reached.
func TestFunctionsNotGeneric(t *testing.T) {
	const n = 5000
	x, want, got := make([]float32, n), make([]uint32, n), make([]uint32, n)
	for i := range x {
		x[i] = 0.001 * float32(i+1)
	}
	for _, level := range levelsHere()[1:] {
		if For(level).Level == feature.Generic {
			t.Skip("built without assembly")
		}
		for _, f := range functions {
			For(feature.Generic).Unary[f.op](unsafe.Pointer(&want[0]), unsafe.Pointer(&x[0]), n)
			For(level).Unary[f.op](unsafe.Pointer(&got[0]), unsafe.Pointer(&x[0]), n)
			if same(got, want, true) == "" {
				t.Errorf("%s %s is the plain Go kernel", level, f.op)
			}
		}
	}
}
