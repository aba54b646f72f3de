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
	}{{1e-3, 5, 0.866}, {1e-3, 8, 0.999999}, {2e-10, 17, 0.999}, {3e-7, 13, 1 - 1e-10}, {0.5, 1, 0.975}, {0.999, 4, 1 - 1e-9}} {
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

// TestOptimalPublished: without the safety factor, Optimal is the table of the Polar Express paper, which is for a floor of 1e-3.
func TestOptimalPublished(t *testing.T) {
	published := Schedule{
		{8.28721201814563, -23.595886519098837, 17.300387312530933},
		{4.107059111542203, -2.9478499167379106, 0.5448431082926601},
		{3.9486908534822946, -2.908902115962949, 0.5518191394370137},
		{3.3184196573706015, -2.488488024314874, 0.51004894012372},
		{2.300652019954817, -1.6689039845747493, 0.4188073119525673},
		{1.891301407787398, -1.2679958271945868, 0.37680408948524835},
		{1.8750014808534479, -1.2500016453999487, 0.3750001645474248},
		{1.875, -1.25, 0.375},
	}
	const tol = 1e-10 // near the limit the exchange ends by rounding; the worst here was 4e-11
	for i, s := range optimal(1e-3, len(published), 1, optimalCushion) {
		for _, d := range []float64{s.A - published[i].A, s.B - published[i].B, s.C - published[i].C} {
			if !(math.Abs(d) < tol) {
				t.Errorf("step %d is %v, published %v", i+1, s, published[i])
			}
		}
	}
}

// TestOptimalStable: no step takes a large singular value to a small one, where rounding would be all that is left of it.
// Without the cushion some value ends below 1e-4 on its way.
func TestOptimalStable(t *testing.T) {
	const smallest = 0.02
	for _, floor := range []float64{1e-6, 2e-10} {
		least := func(cushion float64) float64 {
			least, schedule := 1.0, optimal(floor, 17, optimalSafety, cushion)
			for i := range 20_000 {
				s := 0.05 + 0.95*float64(i)/20_000
				for _, step := range schedule {
					s = step.At(s)
					least = min(least, s)
				}
			}
			return least
		}
		if got := least(optimalCushion); got < smallest {
			t.Errorf("floor %g: a value falls to %.3g", floor, got)
		}
		if got := least(0); got > smallest/100 {
			t.Errorf("floor %g: without a cushion values stay above %.3g: the test has no bite", floor, got)
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
