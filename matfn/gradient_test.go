package matfn

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// gradientTol is for gradients in float32 against central differences of the oracle in float64, whose own error is
// about 1e-8; the worst here was 3e-5.
const gradientTol = 3e-4

// inner returns the sum of the products of the elements of c and fn(x).
func inner(fn func(x *Node) *Node) func(x, c *Node) *Node {
	return func(x, c *Node) *Node { return ReduceAllSum(Mul(c, fn(x))) }
}

// gradientOf returns the gradient of the sum of c∘fn(x) with respect to x.
func gradientOf(t testing.TB, fn func(x *Node) *Node, x, c *mat.Dense) []float32 {
	t.Helper()
	return call(t, func(in []*Node) []*Node { return Gradient(inner(fn)(in[0], in[1]), in[0]) }, tensorOf(x), tensorOf(c))[0]
}

// differences returns the central differences of the sum of c∘fn(x) in every element of x, symmetric pairs together if
// symmetric.
func differences(t testing.TB, fn func(x mat.Matrix) (*mat.Dense, error), x, c *mat.Dense) []float64 {
	t.Helper()
	const h = 1e-5
	value := func(x *mat.Dense) (sum float64) {
		y := must[*mat.Dense](t)(fn(x))
		for i, v := range flat(y) {
			sum += v * flat(c)[i]
		}
		return sum
	}
	out := make([]float64, len(flat(x)))
	for i := range out {
		up, down := mat.DenseCopyOf(x), mat.DenseCopyOf(x)
		flat(up)[i] += h
		flat(down)[i] -= h
		out[i] = (value(up) - value(down)) / (2 * h)
	}
	return out
}

// TestMsignGradient: of the exact polar factor, against differences of the SVD; of a schedule, against differences of its
// polynomial.
func TestMsignGradient(t *testing.T) {
	for _, shape := range [][2]int{{4, 6}, {6, 4}, {5, 5}} {
		x := random(t, 13, shape[0], shape[1], 4)
		c := rounded(t, oracle.Gaussian(14, shape[0], shape[1]))
		exact := differences(t, oracle.Msign, x, c)
		for name, form := range forms {
			got := gradientOf(t, msign(WithForm(form), WithExactFinish()), x, c)
			check.Close(t, name+" exact", wide(got), exact, gradientTol)
			polynomial := differences(t, func(x mat.Matrix) (*mat.Dense, error) {
				norm := mat.Norm(x, 2)
				return oracle.Apply(x, func(s float64) float64 { return JordanQuintic5.At(s / norm) })
			}, x, c)
			got = gradientOf(t, msign(WithForm(form), WithSchedule(JordanQuintic5)), x, c)
			check.Close(t, name+" schedule", wide(got), polynomial, gradientTol)
			if check.Relative(wide(got), exact) < gradientTol {
				t.Errorf("%s: the gradient of another function passes", name)
			}
		}
	}
}

func TestInvSqrtGradient(t *testing.T) {
	p := psd(t, 15, 5, 20)
	c := rounded(t, oracle.Gaussian(16, 5, 5))
	c.Add(c, mat.DenseCopyOf(c.T())) // the oracle sees the symmetric part of p only
	want := differences(t, func(p mat.Matrix) (*mat.Dense, error) { return oracle.InvSqrt(p, Ridge) }, p, c)
	got := wide(gradientOf(t, plainRoot, p, c))
	for i := range 5 {
		for j := range i {
			mean := (got[i*5+j] + got[j*5+i]) / 2
			got[i*5+j], got[j*5+i] = mean, mean
		}
	}
	check.Close(t, "InvSqrt", got, want, gradientTol)
	bare := differences(t, func(p mat.Matrix) (*mat.Dense, error) { return oracle.InvSqrt(p, 0.01) }, p, c)
	if check.Relative(got, bare) < gradientTol {
		t.Error("the gradient with another ridge passes")
	}
}

// TestSpectralNormGradient: the gradient of sigma is u vᵀ.
func TestSpectralNormGradient(t *testing.T) {
	x := rounded(t, must[*mat.Dense](t)(oracle.WithSingularValues(3, 4, 7, []float64{3, 1, 0.5, 0.1})))
	sigma := func(x *Node) *Node { _, sigma, _ := SpectralNorm(x); return sigma }
	got := call(t, func(in []*Node) []*Node { return Gradient(sigma(in[0]), in[0]) }, tensorOf(x))[0]
	u, _, v, err := oracle.SVD(x)
	if err != nil {
		t.Fatal(err)
	}
	var want mat.Dense
	want.Mul(u.Slice(0, 4, 0, 1), v.Slice(0, 7, 0, 1).T())
	check.Close(t, "sigma", wide(got), flat(&want), gradientTol)
}

// gradient64 is gradientOf in float64, input and result included.
func gradient64(t testing.TB, fn func(x *Node) *Node, x, c *mat.Dense) []float64 {
	t.Helper()
	tensor := func(x *mat.Dense) *tensors.Tensor {
		m, n := x.Dims()
		return tensors.FromFlatDataAndDimensions(flat(mat.DenseCopyOf(x)), m, n)
	}
	gradient := func(x, c *Node) *Node { return Gradient(inner(fn)(x, c), x)[0] }
	out := must[*tensors.Tensor](t)(CallOnce(check.Backend(t), gradient, tensor(x), tensor(c)))
	return tensors.MustCopyFlatData[float64](out)
}

// gradientCase is a function with its oracle. Its bounds lie between singular values or eigenvalues of the test's matrices.
type gradientCase struct {
	name    string
	square  bool
	forms   []Form
	fn      func(x *Node, opts ...Option) *Node
	oracle  func(x mat.Matrix) (*mat.Dense, error)
	another func(x mat.Matrix) (*mat.Dense, error) // whose gradient must not pass
}

var gradientCases = []gradientCase{
	{"SpectralClip", false, []Form{Projected, Nested, Blockwise},
		func(x *Node, opts ...Option) *Node { return SpectralClip(x, 0.3, 0.8, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClip(x, 0.3, 0.8) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClip(x, 0.2, 0.8) }},
	{"SpectralClip to one value", false, []Form{Projected},
		func(x *Node, opts ...Option) *Node { return SpectralClip(x, 0.6, 0.6, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClip(x, 0.6, 0.6) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClip(x, 0.6, 0.8) }},
	{"SpectralHardcap", false, []Form{Projected, Nested, Blockwise},
		func(x *Node, opts ...Option) *Node { return SpectralHardcap(x, 0.6, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralHardcap(x, 0.6) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralHardcap(x, 0.8) }},
	{"SpectralReLU", false, []Form{Projected, Nested},
		func(x *Node, opts ...Option) *Node { return SpectralReLU(x, 0.6, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralReLU(x, 0.6) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralReLU(x, 0.4) }},
	{"SpectralClippedWeightDecay", false, []Form{Projected, Nested, Blockwise},
		func(x *Node, opts ...Option) *Node { return SpectralClippedWeightDecay(x, 0.6, 0.3, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClippedWeightDecay(x, 0.6, 0.3) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.SpectralClippedWeightDecay(x, 0.6, 0.2) }},
	{"EigClip", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return EigClip(x, -0.6, 0.5, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigClip(x, -0.6, 0.5) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigClip(x, -0.6, 0.8) }},
	{"EigReLU", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return EigReLU(x, -0.6, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigReLU(x, -0.6) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigReLU(x, -0.1) }},
	{"EigHardcap", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return EigHardcap(x, 0.5, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigHardcap(x, 0.5) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigHardcap(x, 0.1) }},
	{"EigStep", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return EigStep(x, 0.5, opts...) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigStep(x, 0.5) },
		func(x mat.Matrix) (*mat.Dense, error) { return oracle.EigStep(x, 0.1) }},
	{"ProjPSD", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return ProjPSD(x, opts...) }, oracle.ProjPSD, oracle.ProjNSD},
	{"ProjNSD", true, []Form{Direct, Gram},
		func(x *Node, opts ...Option) *Node { return ProjNSD(x, opts...) }, oracle.ProjNSD, oracle.ProjPSD},
}

// TestClipGradients: of clips and eigenvalue functions in all forms, in float32 and WithExact, against differences of the oracles.
func TestClipGradients(t *testing.T) {
	const (
		// What float32 rounds in the 13 steps of a sign grows with their slopes, up to 8 a step; the worst here was 4.5e-3.
		clipGradientTol  = 1e-2
		exactGradientTol = 1e-7 // the differences themselves are good to 1e-9
	)
	for _, c := range gradientCases {
		shapes := [][2]int{{4, 6}, {6, 4}, {5, 5}}
		if c.square {
			shapes = shapes[2:]
		}
		for _, shape := range shapes {
			x := random(t, 13, shape[0], shape[1], 4) // singular values from 1 to 0.25
			if c.square {
				x = rounded(t, withEigenvalues(t, 3, 1, 0.7, 0.25, -0.4, -0.9))
			}
			weights := rounded(t, oracle.Gaussian(14, shape[0], shape[1]))
			want := differences(t, c.oracle, x, weights)
			if other := differences(t, c.another, x, weights); check.Relative(other, want) < 3*clipGradientTol {
				t.Errorf("%s %v: the gradient of another function passes", c.name, shape)
			}
			for _, form := range c.forms {
				name := fmt.Sprintf("%s, form %d, %v", c.name, form, shape)
				single := gradientOf(t, func(x *Node) *Node { return c.fn(x, WithForm(form)) }, x, weights)
				check.Close(t, name, wide(single), want, clipGradientTol)
				double := gradient64(t, func(x *Node) *Node { return c.fn(x, WithForm(form), WithExact()) }, x, weights)
				check.Close(t, name+", exact", double, want, exactGradientTol)
			}
		}
	}
}

// TestExactGradients: of Msign and InvSqrt WithExact.
func TestExactGradients(t *testing.T) {
	const tol = 1e-7
	for _, shape := range [][2]int{{4, 6}, {6, 4}, {5, 5}} {
		x, c := random(t, 13, shape[0], shape[1], 4), rounded(t, oracle.Gaussian(14, shape[0], shape[1]))
		want := differences(t, oracle.Msign, x, c)
		for name, form := range forms {
			check.Close(t, name, gradient64(t, msign(WithForm(form), WithExact()), x, c), want, tol)
		}
	}
	p, c := psd(t, 15, 5, 20), rounded(t, oracle.Gaussian(16, 5, 5))
	want := differences(t, func(p mat.Matrix) (*mat.Dense, error) { return oracle.InvSqrt(p, 0) }, p, c)
	check.Close(t, "InvSqrt", gradient64(t, func(p *Node) *Node { return InvSqrt(p, WithExact()) }, p, c), want, tol)
}

// TestGradientsAreFinite: at zero, and in a batch where another matrix is zero, gradients are numbers, for half precision
// too.
func TestGradientsAreFinite(t *testing.T) {
	x := tensorOf(mat.NewDense(4, 4, nil), psd(t, 1, 4, 10))
	for name, fn := range functions {
		for _, dtype := range []dtypes.DType{dtypes.Float32, dtypes.BFloat16} {
			got := call(t, func(in []*Node) []*Node {
				return Gradient(ReduceAllSum(ConvertDType(fn(ConvertDType(in[0], dtype)), dtypes.Float32)), in[0])
			}, x)[0]
			moved := false
			for i, v := range got {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					t.Fatalf("%s in %s: gradient %v at [%d]", name, dtype, v, i)
				}
				moved = moved || (i >= 16 && v != 0)
			}
			if !moved {
				t.Errorf("%s in %s: no gradient reaches x", name, dtype)
			}
		}
	}
}

func wide(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
