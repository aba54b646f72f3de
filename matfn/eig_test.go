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

// withEigenvalues returns V diag(values) Vᵀ for a random orthogonal V, symmetric to the last bit.
func withEigenvalues(t testing.TB, seed uint64, values ...float64) *mat.Dense {
	t.Helper()
	v := must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(seed, len(values), len(values))))
	scaled := mat.DenseCopyOf(v)
	scaled.Apply(func(_, j int, x float64) float64 { return x * values[j] }, scaled)
	var out, sym mat.Dense
	out.Mul(scaled, v.T())
	sym.Add(&out, out.T())
	sym.Scale(0.5, &sym)
	return &sym
}

func eigStep(alpha float64, opts ...Option) func(*Node) *Node {
	return func(x *Node) *Node { return EigStep(x, alpha, opts...) }
}

// TestEigStepIsStrict: an eigenvalue at alpha does not count, in float32 where it is exactly there, in float64 also up to rounding.
func TestEigStepIsStrict(t *testing.T) {
	const tol = 1e-6
	ones := mat.NewDense(2, 2, []float64{1, 1, 1, 1}) // eigenvalues 2 and 0
	eye := mat.NewDense(2, 2, []float64{1, 0, 0, 1})
	zero := mat.NewDense(2, 2, nil)
	for precision, opts := range map[string][]Option{"float32": nil, "exact": {WithExact()}} {
		for _, c := range []struct {
			name  string
			w     *mat.Dense
			alpha float64
			want  *mat.Dense
		}{
			{"at the larger", ones, 2, zero},
			{"at the smaller", ones, 0, scaled(0.5, ones)},
			{"between", ones, 1, scaled(0.5, ones)},
			{"below", ones, -0.5, eye},
			{"of I at 1", eye, 1, zero},
			{"of -I at -1", scaled(-1, eye), -1, zero},
			{"of I below 1", eye, 0.999, eye},
			{"of zero at 0", zero, 0, zero},
			{"of zero below 0", zero, -1e-3, eye},
		} {
			got, want := flat(apply1(t, eigStep(c.alpha, opts...), c.w)), flat(c.want)
			for i := range got {
				if !(math.Abs(got[i]-want[i]) <= tol) {
					t.Errorf("%s, %s: got %v, want %v", precision, c.name, got, want)
					break
				}
			}
		}
	}
	x := withEigenvalues(t, 4, 3, 2, 2, 2, 1, -1)
	want := must[*mat.Dense](t)(oracle.EigStep(x, 2))
	check.Close(t, "three at alpha but for rounding", flat(apply64(t, eigStep(2, WithExact()), x)), flat(want), tol)
	if check.Relative(flat(apply64(t, eigStep(1.9, WithExact()), x)), flat(want)) < 0.5 {
		t.Error("below the three, the projector is the same")
	}
}

// TestEigStepAtTolerance is what tangent spaces need: eigenvalues at a bound but for float32's rounding, others away from it, and a
// threshold 1e-3 inside. It also is a projector: symmetric and idempotent.
func TestEigStepAtTolerance(t *testing.T) {
	const tol = 6e-5 // rounding of 6e-8 turns eigenvectors 1e-3 from the threshold by that times 1e3; the worst here was 9e-6
	for _, norm := range []float64{1, 30} {
		x := rounded(t, withEigenvalues(t, 5, 1, 1, 1, 1-1e-7, 1+1e-7, 0.99, 0.5, 0, 0, -norm, 1+norm, 1-2.5e-3))
		for name, alpha := range map[string]float64{"inside 1": 1 - 1e-3, "outside 1": 1 + 1e-3, "above 0": 1e-3, "below 0": -1e-3} {
			got := apply1(t, eigStep(alpha), x)
			want := must[*mat.Dense](t)(oracle.EigStep(x, alpha))
			limit := tol * norm
			check.Close(t, fmt.Sprintf("%s, norm %g", name, norm), flat(got), flat(want), limit)
			var square mat.Dense
			square.Mul(got, got)
			check.Close(t, fmt.Sprintf("%s, norm %g: square", name, norm), flat(&square), flat(got), 5e-6)
			check.Close(t, "transpose", flat(mat.DenseCopyOf(got.T())), flat(got), 0)
		}
	}
}

// TestEigenIdempotent: projections once are projections twice.
func TestEigenIdempotent(t *testing.T) {
	x := rounded(t, withEigenvalues(t, 6, 2, 1, 0.6, 0.3, 0.01, 0, -0.2, -0.5, -3))
	for name, fn := range map[string]func(x *Node) *Node{
		"EigClip":    func(x *Node) *Node { return EigClip(x, -0.4, 0.5) },
		"EigReLU":    func(x *Node) *Node { return EigReLU(x, -0.4) },
		"EigHardcap": func(x *Node) *Node { return EigHardcap(x, 0.5) },
		"ProjPSD":    func(x *Node) *Node { return ProjPSD(x) },
		"ProjNSD":    func(x *Node) *Node { return ProjNSD(x) },
	} {
		once := apply1(t, fn, x)
		check.Close(t, name, flat(apply1(t, fn, once)), flat(once), clipTol)
		if check.Relative(flat(once), flat(x)) < 0.1 {
			t.Errorf("%s leaves x alone: no bite", name)
		}
	}
	step := apply1(t, eigStep(0.25), x)
	check.Close(t, "EigStep of a projector", flat(apply1(t, eigStep(0.5), step)), flat(step), clipTol)
}

// TestEigenParts: positive and negative part add up to x and are orthogonal, a clip is a cap of a relu, and only the symmetric part
// of the input counts.
func TestEigenParts(t *testing.T) {
	x := rounded(t, withEigenvalues(t, 7, 2, 1, 0.6, 0.3, 0.01, 0, -0.2, -0.5, -3))
	positive, negative := apply1(t, func(x *Node) *Node { return ProjPSD(x) }, x), apply1(t, func(x *Node) *Node { return ProjNSD(x) }, x)
	var sum, product mat.Dense
	sum.Add(positive, negative)
	product.Mul(positive, negative)
	check.Close(t, "parts", flat(&sum), flat(x), clipTol)
	if e := mat.Norm(&product, 2); e > clipTol {
		t.Errorf("the parts' product is %.2g", e)
	}
	clip := func(x *Node) *Node { return EigClip(x, -0.4, 0.5) }
	clipped := apply1(t, clip, x)
	both := apply1(t, func(x *Node) *Node { return EigHardcap(EigReLU(x, -0.4), 0.5) }, x)
	check.Close(t, "cap of relu", flat(both), flat(clipped), clipTol)
	skew := oracle.Gaussian(3, 9, 9)
	skew.Sub(skew, mat.DenseCopyOf(skew.T()))
	skew.Add(skew, x)
	check.Close(t, "with a skew part", flat(apply1(t, clip, rounded(t, skew))), flat(clipped), clipTol)
	check.Close(t, "one value", flat(apply1(t, func(x *Node) *Node { return EigClip(x, 0.5, 0.5) }, x)),
		flat(withEigenvalues(t, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)), clipTol)
}

// TestEigenBoundsBeyond: bounds beyond the eigenvalues give back the matrix or a multiple of I, however far they are.
func TestEigenBoundsBeyond(t *testing.T) {
	x := rounded(t, withEigenvalues(t, 8, 1, 0.5, 0.1, 0, -0.3, -0.9))
	eye := mat.NewDense(6, 6, nil)
	for i := range 6 {
		eye.Set(i, i, 1)
	}
	for _, b := range []float64{1.05, 10, 1e6, 1e30} {
		for name, c := range map[string]struct {
			fn   func(x *Node) *Node
			want *mat.Dense
		}{
			"EigClip outside":  {func(x *Node) *Node { return EigClip(x, -b, b) }, x},
			"EigReLU below":    {func(x *Node) *Node { return EigReLU(x, -b) }, x},
			"EigHardcap above": {func(x *Node) *Node { return EigHardcap(x, b) }, x},
			"EigClip above":    {func(x *Node) *Node { return EigClip(x, b, 2*b) }, scaled(b, eye)},
			"EigClip below":    {func(x *Node) *Node { return EigClip(x, -2*b, -b) }, scaled(-b, eye)},
			"EigReLU above":    {func(x *Node) *Node { return EigReLU(x, b) }, scaled(b, eye)},
			"EigHardcap below": {func(x *Node) *Node { return EigHardcap(x, -b) }, scaled(-b, eye)},
			"EigStep above":    {func(x *Node) *Node { return Add(eyeLike(x), EigStep(x, b)) }, eye},
			"EigStep below":    {func(x *Node) *Node { return EigStep(x, -b) }, eye},
		} {
			check.Close(t, fmt.Sprintf("%s at %g", name, b), flat(apply1(t, c.fn, x)), flat(c.want), 2e-6)
		}
	}
}

func eyeLike(x *Node) *Node { return identity(x, x.Shape().Dim(-1)) }
