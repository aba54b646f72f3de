package matfn

import (
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// exactPolarTol is for the exact functions against the SVD, both in float64, relative to the result: rounding of 1e-16 times
// the condition number times a few products. The output is float32 in these tests, which adds 6e-8.
func exactPolarTol(cond float64) float64 { return 1e-7 + 2e-14*cond }

// apply64 runs a function of one matrix in float64, input included.
func apply64(t testing.TB, fn func(x *Node) *Node, x *mat.Dense) *mat.Dense {
	t.Helper()
	m, n := x.Dims()
	out := call(t, func(in []*Node) []*Node { return []*Node{fn(in[0])} },
		tensors.FromFlatDataAndDimensions(mat.DenseCopyOf(x).RawMatrix().Data, m, n))
	return matrixOf(t, out[0], m, n)
}

// TestOptimal: values end in the interval that the polynomials promise, and no step is for nothing.
func TestOptimal(t *testing.T) {
	for _, c := range []struct {
		floor float64
		steps int
		low   float64
	}{{1e-3, 5, 0.87}, {1e-3, 8, 0.999999}, {2e-10, 17, 0.9998}, {3e-7, 13, 1 - 1e-10}, {0.5, 1, 0.975}, {0.999, 4, 1 - 1e-9}} {
		s := Optimal(c.floor, c.steps)
		low, high := image(s, c.floor)
		if low < c.low || high > 2-c.low+1e-12 {
			t.Errorf("Optimal(%g, %d): values in [%.6f, %.6f], want within %g of one", c.floor, c.steps, low, high, 1-c.low)
		}
		if c.steps > 1 && c.floor < 0.9 {
			if shorter, _ := image(s[:c.steps-1], c.floor); shorter >= c.low {
				t.Errorf("Optimal(%g, %d) is as good without its last step", c.floor, c.steps)
			}
		}
	}
}

// TestExactSchedules: what counts as zero and what as one, and that rounding at the top of the interval dies out.
func TestExactSchedules(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Schedule
		tol  float64
	}{{"polar", exactPolar(), ZeroTol}, {"projector", exactProjector(), rootZeroTol}} {
		if y := c.s.At(c.tol / 2); math.Abs(y) > 1e-12 {
			t.Errorf("%s: %g goes to %g, want 0", c.name, c.tol/2, y)
		}
		if low, high := image(c.s, 2*c.tol); low < 1-1e-12 || high > 1+1e-12 {
			t.Errorf("%s: values above %g end in [%v, %v], want 1", c.name, 2*c.tol, low, high)
		}
		if y := c.s.At(1.001); math.Abs(y-1) > 1e-12 {
			t.Errorf("%s: 1.001 goes to %v, want 1", c.name, y)
		}
	}
	if low, high := image(exactRoot(), 3e-7); low < 1-1e-9 || high > 1+1e-9 {
		t.Errorf("root: [%v, %v], want 1", low, high)
	}
}

// TestMsignExact: with WithExact the polar factor is right at any condition number, and zeros stay zeros.
func TestMsignExact(t *testing.T) {
	for _, shape := range [][2]int{{1, 1}, {1, 7}, {16, 16}, {20, 50}, {50, 20}} {
		for _, cond := range []float64{1, 1e3, 1e6, 1e8} {
			x := must[*mat.Dense](t)(oracle.RandomMatrix(5, shape[0], shape[1], cond))
			want := must[*mat.Dense](t)(oracle.Msign(x))
			for name, form := range forms {
				got := apply64(t, msign(WithExact(), WithForm(form)), x)
				check.Close(t, name, flat(got), flat(want), exactPolarTol(cond))
			}
		}
	}
	sigma := []float64{1, 0.5, 1e-3, 1e-9, 1e-11, 1e-12, 1e-14, 0}
	x := must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 12, sigma))
	kept := must[*mat.Dense](t)(oracle.WithSingularValues(3, 8, 12, []float64{1, 1, 1, 1, 0, 0, 0, 0}))
	for name, form := range forms {
		got := apply64(t, msign(WithExact(), WithForm(form)), x)
		check.Close(t, name+" deficient", flat(got), flat(kept), 1e-5) // 1e-16 over 1e-9, times a few
	}
}

// TestInvSqrtExact: no ridge, singular directions give zero.
func TestInvSqrtExact(t *testing.T) {
	for _, cond := range []float64{1, 1e4, 1e8, 1e12} {
		for _, scale := range []float64{1e-12, 1, 1e12} {
			x := must[*mat.Dense](t)(oracle.RandomMatrix(5, 9, 30, math.Sqrt(cond)))
			x.Scale(math.Sqrt(scale), x)
			var p mat.Dense
			p.Mul(x, x.T())
			want := must[*mat.Dense](t)(oracle.GramInvSqrt(x.T()))
			got := apply64(t, func(p *Node) *Node { return InvSqrt(p, WithExact()) }, &p)
			check.Close(t, "root", flat(got), flat(want), 1e-6+2e-15*cond) // the Gram matrix itself is known to 1e-16 only
		}
	}
	b := mat.NewDense(12, 5, nil)
	b.Slice(0, 12, 0, 3).(*mat.Dense).Copy(oracle.Gaussian(1, 12, 3))
	for i := range 12 {
		b.Set(i, 4, b.At(i, 0)-b.At(i, 1))
	}
	var p mat.Dense
	p.Mul(b.T(), b)
	want := must[*mat.Dense](t)(oracle.InvSqrt(&p, 0))
	got := apply64(t, func(p *Node) *Node { return InvSqrt(p, WithExact()) }, &p)
	check.Close(t, "singular", flat(got), flat(want), 1e-6)
}
