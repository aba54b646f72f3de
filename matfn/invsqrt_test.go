package matfn

import (
	"fmt"
	"math"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

const (
	// rootTol is for InvSqrt against the eigendecomposition with the same ridge at any condition number: rounding of 6e-8
	// against eigenvalues of 1e-5 is 6e-3 of them, half of that in the root, in the worst direction; the iteration itself
	// leaves 2.6e-4 there. The worst here was 9e-4.
	rootTol = 2e-3
	// wellTol is the same up to condition number 1000; the worst here was 1.6e-5.
	wellTol = 5e-5
)

// gramOfRank returns the float32-rounded Gram matrix of a Gaussian r x rank matrix.
func gramOfRank(t testing.TB, seed uint64, r, rank int) *mat.Dense {
	t.Helper()
	x := oracle.Gaussian(seed, r, rank)
	var p mat.Dense
	p.Mul(x, x.T())
	return rounded(t, &p)
}

// TestInvSqrtAccuracy is against the oracle with the ridge; without a ridge in the oracle the difference is the ridge.
func TestInvSqrtAccuracy(t *testing.T) {
	for _, r := range []int{1, 2, 8, 32, 100} {
		for _, cond := range []float64{1, 10, 1e3, 1e5} {
			p := psd(t, uint64(r), r, cond)
			got := apply1(t, plainRoot, p)
			tol := rootTol
			if cond <= 1e3 {
				tol = wellTol
			}
			want := must[*mat.Dense](t)(oracle.InvSqrt(p, Ridge))
			check.Close(t, fmt.Sprintf("r %d cond %g", r, cond), flat(got), flat(want), tol)
			bare := must[*mat.Dense](t)(oracle.InvSqrt(p, 0))
			if e := check.Relative(flat(got), flat(bare)); cond >= 1e3 && r > 1 && e < tol {
				t.Errorf("r %d cond %g: no ridge in the result", r, cond)
			} else if cond == 1 && e > 1e-4 { // ridge·√r/2 = 5e-5 at r = 100
				t.Errorf("r %d: the ridge moves a well-conditioned result by %.3g", r, e)
			}
		}
	}
}

// TestInvSqrtSingular: half of the eigenvalues are zero, so the ridge decides, and every step is needed.
func TestInvSqrtSingular(t *testing.T) {
	for _, r := range []int{4, 16, 32} {
		p := gramOfRank(t, 1, r, r/2)
		want := must[*mat.Dense](t)(oracle.InvSqrt(p, Ridge))
		got := apply1(t, plainRoot, p)
		check.Close(t, fmt.Sprintf("r %d of rank %d", r, r/2), flat(got), flat(want), rootTol)
		amplification := must[float64](t)(oracle.SpectralNorm(got)) * math.Sqrt(mat.Norm(p, 2))
		if amplification < 300 || amplification > 317 {
			t.Errorf("r %d: the largest amplification is %.1f, documented about 316", r, amplification)
		}
		for drop := range rootSchedule {
			schedule := append(append(Schedule{}, rootSchedule[:drop]...), rootSchedule[drop+1:]...)
			bite := apply1(t, func(x *Node) *Node { return invSqrt(x, schedule, config{}) }, p)
			if check.Relative(flat(bite), flat(want)) < rootTol {
				t.Errorf("r %d without step %d passes", r, drop+1)
			}
		}
	}
}

// TestInvSqrtScale: InvSqrt(c·P) = InvSqrt(P)/sqrt(c), and R P R = I.
func TestInvSqrtScale(t *testing.T) {
	p := psd(t, 6, 10, 20)
	want := apply1(t, plainRoot, p)
	for _, scale := range []float64{1e-30, 1e-12, 1e-3, 1e3, 1e12, 1e30} {
		got := apply1(t, plainRoot, rounded(t, scaled(scale, p)))
		check.Close(t, fmt.Sprintf("scale %g", scale), flat(scaled(math.Sqrt(scale), got)), flat(want), wellTol)
	}
	var unit mat.Dense
	unit.Product(want, p, want)
	eye := mat.NewDiagDense(10, nil)
	for i := range 10 {
		eye.SetDiag(i, 1)
	}
	check.Close(t, "R P R", flat(&unit), flat(mat.DenseCopyOf(eye)), 1e-3) // the ridge: 1e-5·cond·√r
}

// TestRootIteration holds the bare iteration to the spec's recurrence in float64, where the safety factor and the
// symmetrisation show: on an eigenvalue far below the ridge, which ends unconverged, and on a matrix that is not symmetric.
func TestRootIteration(t *testing.T) {
	p := mat.NewDense(4, 4, []float64{1, 0.02, 0, 0, -0.02, 0.25, 0, 0, 0, 0, 1e-3, 0, 0, 0, 0, 1e-7})
	recurrence := func(g float64, symmetrise bool) []float64 {
		x, q := mat.NewDense(4, 4, []float64{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}), mat.DenseCopyOf(p)
		p := mat.DenseCopyOf(p)
		for _, s := range rootSchedule {
			var square, next mat.Dense
			square.Mul(p, p)
			q.Apply(func(i, j int, v float64) float64 {
				v = s.B/math.Pow(g, 3)*v + s.C/math.Pow(g, 5)*square.At(i, j)
				if i == j {
					v += s.A / g
				}
				return v
			}, p)
			x.Mul(mat.DenseCopyOf(x), q)
			next.Product(p, q, q)
			p.CloneFrom(&next)
			if symmetrise {
				p.Add(&next, next.T())
				p.Scale(0.5, p)
			}
		}
		return flat(x)
	}
	got := flat(apply1(t, func(x *Node) *Node { return iterateRoot(x, identity(x, 4), rootSchedule, rootSafety) }, rounded(t, p)))
	for _, i := range []int{0, 15} { // the block that is not symmetric, and the tiny eigenvalue, which dwarfs it
		part := func(x []float64) []float64 { return []float64{x[i], x[(i+1)%16]} }
		check.Close(t, fmt.Sprint("element ", i), part(got), part(recurrence(1.001, true)), wellTol)
		bite := recurrence(1, true)
		if i == 0 {
			bite = recurrence(1.001, false)
		}
		if check.Relative(part(got), part(bite)) < wellTol {
			t.Errorf("element %d: another recurrence passes", i)
		}
	}
}
