package matfn

import (
	"math"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// functions are all matrix functions as functions of a batch of square matrices that take zero to zero, for the tests that ask
// all of them the same questions.
var functions = allFunctions()

func allFunctions() map[string]func(x *Node) *Node {
	out := map[string]func(x *Node) *Node{
		"Msign direct":  msign(WithForm(Direct)),
		"Msign gram":    msign(WithForm(Gram)),
		"Msign finish":  msign(WithExactFinish()),
		"Msign exact":   msign(WithExact()),
		"InvSqrt":       plainRoot,
		"InvSqrt exact": func(x *Node) *Node { return InvSqrt(x, WithExact()) },
		"norm u":        func(x *Node) *Node { u, _, _ := SpectralNorm(x); return u },
		"norm sigma":    func(x *Node) *Node { _, sigma, _ := SpectralNorm(x); return sigma },
		"norm v":        func(x *Node) *Node { _, _, v := SpectralNorm(x); return v },
	}
	for option, opts := range map[string][]Option{
		"projected": nil, "nested": {WithForm(Nested)}, "blockwise": {WithForm(Blockwise)}, "exact": {WithExact()},
	} {
		out["SpectralClip "+option] = func(x *Node) *Node { return SpectralClip(x, 0.2, 0.5, opts...) }
		out["SpectralHardcap "+option] = func(x *Node) *Node { return SpectralHardcap(x, 0.5, opts...) }
		out["SpectralReLU "+option] = func(x *Node) *Node { return SpectralReLU(x, 0.2, opts...) }
		out["SpectralClippedWeightDecay "+option] = func(x *Node) *Node { return SpectralClippedWeightDecay(x, 0.5, 0.25, opts...) }
	}
	out["SpectralHardcap at zero"] = func(x *Node) *Node { return Add(SpectralHardcap(x, 0), x) }
	out["SpectralClip to one value"] = func(x *Node) *Node { return SpectralClip(x, 0.5, 0.5) }
	for option, opts := range map[string][]Option{"": nil, " gram": {WithForm(Gram)}, " exact": {WithExact()}} {
		out["EigClip"+option] = func(x *Node) *Node { return EigClip(x, -0.2, 0.5, opts...) }
		out["EigReLU"+option] = func(x *Node) *Node { return EigReLU(x, -0.2, opts...) }
		out["EigHardcap"+option] = func(x *Node) *Node { return EigHardcap(x, 0.5, opts...) }
		out["EigStep"+option] = func(x *Node) *Node { return EigStep(x, 0.4, opts...) }
		out["ProjPSD"+option] = func(x *Node) *Node { return ProjPSD(x, opts...) }
		out["ProjNSD"+option] = func(x *Node) *Node { return ProjNSD(MulScalar(x, -1), opts...) }
	}
	return out
}

// psd returns a float32-rounded symmetric positive semidefinite r x r matrix with eigenvalues from 1 to 1/cond.
func psd(t testing.TB, seed uint64, r int, cond float64) *mat.Dense {
	t.Helper()
	x := must[*mat.Dense](t)(oracle.RandomMatrix(seed, r, 2*r, math.Sqrt(cond)))
	var p mat.Dense
	p.Mul(x, x.T())
	return rounded(t, &p)
}

func one(fn func(*Node) *Node) func([]*Node) []*Node {
	return func(in []*Node) []*Node { return []*Node{fn(in[0])} }
}

// TestBatch: a batch gives what its matrices give alone, over one and two leading axes; a matrix of zeros gives zeros,
// and one with NaN or Inf gives NaN and leaves the others alone.
func TestBatch(t *testing.T) {
	const r, k = 6, 6
	xs := make([]*mat.Dense, k)
	for i := range xs {
		xs[i] = scaled(math.Pow(1e3, float64(i-3)), psd(t, uint64(i), r, 50))
	}
	xs[1] = mat.NewDense(r, r, nil)
	xs[2].Set(1, 2, math.NaN())
	xs[4].Set(3, 0, math.Inf(-1))
	batch := tensorOf(xs...)
	double := tensors.FromFlatDataAndDimensions(tensors.MustCopyFlatData[float32](batch), 2, k/2, r, r)
	for name, fn := range functions {
		got := call(t, one(fn), batch)[0]
		twice := call(t, one(fn), double)[0]
		size := len(got) / k
		for i, x := range xs {
			part := got[i*size : (i+1)*size]
			zero := 0.0
			if strings.HasPrefix(name, "Eig") {
				zero = 1e-12 // a bound times the projector of a sign that is 1 to 1e-7, purified
			}
			for j, v := range part {
				bad := i == 2 || i == 4
				if bad != math.IsNaN(float64(v)) || (i == 1 && math.Abs(float64(v)) > zero) || (bad != math.IsNaN(float64(twice[i*size+j]))) {
					t.Fatalf("%s: matrix %d of the batch gives %v", name, i, part)
				}
			}
			if i == 2 || i == 4 {
				continue
			}
			check.Close(t, name+": batch against single", part, call(t, one(fn), tensorOf(x))[0], 1e-5)
			check.Close(t, name+": two leading axes", twice[i*size:(i+1)*size], part, 1e-6)
		}
	}
}

// TestAllNaN: nothing but NaN, and nothing but Inf, give NaN.
func TestAllNaN(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		x := tensors.FromFlatDataAndDimensions([]float32{bad, bad, bad, bad}, 2, 2)
		for name, fn := range functions {
			for _, v := range call(t, one(fn), x)[0] {
				if !math.IsNaN(float64(v)) {
					t.Errorf("%s of %v gives %v", name, bad, v)
				}
			}
		}
	}
}

// TestHalfPrecision: bfloat16 and float16 in, the same dtype out, computed in float32: equal to the float32 result up to
// one rounding.
func TestHalfPrecision(t *testing.T) {
	x := psd(t, 3, 8, 30)
	values := make([]bfloat16.BFloat16, 0, 64)
	seen := make([]float32, 0, 64)
	for _, v := range flat(x) {
		b := bfloat16.FromFloat32(float32(v))
		values, seen = append(values, b), append(seen, b.Float32())
	}
	half := tensors.FromFlatDataAndDimensions(values, 8, 8)
	full := tensors.FromFlatDataAndDimensions(seen, 8, 8)
	for name, fn := range functions {
		want := call(t, one(fn), full)[0]
		got := call(t, func(in []*Node) []*Node {
			y := fn(in[0])
			if y.DType() != dtypes.BFloat16 {
				t.Errorf("%s: bfloat16 gives %s", name, y.DType())
			}
			return []*Node{y}
		}, half)[0]
		check.Close(t, name+" in bfloat16", got, want, 1.0/256) // one rounding to 8 bits
		got = call(t, func(in []*Node) []*Node { return []*Node{fn(ConvertDType(in[0], dtypes.Float16))} }, full)[0]
		check.Close(t, name+" in float16", got, want, 1.0/1024)
	}
	// Bite: rounding to bfloat16 is visible at all.
	if e := check.Relative(call(t, one(plainRoot), full)[0], call(t, one(plainRoot), tensorOf(x))[0]); e == 0 {
		t.Error("bfloat16 input equals float32 input")
	}
}

// TestMisuse: what cannot be computed is refused while building, by one line that names it.
func TestMisuse(t *testing.T) {
	vector := tensors.FromFlatDataAndDimensions([]float32{1, 2}, 2)
	integers := tensors.FromFlatDataAndDimensions([]int32{1, 2, 3, 4}, 2, 2)
	wide := tensors.FromFlatDataAndDimensions([]float32{1, 2}, 1, 2)
	square := tensors.FromFlatDataAndDimensions([]float32{1, 2, 3, 4}, 2, 2)
	nan, infinite := math.NaN(), math.Inf(1)
	norm := func(opts ...NormOption) func(*Node) *Node {
		return func(x *Node) *Node { _, sigma, _ := SpectralNorm(x, opts...); return sigma }
	}
	for _, c := range []struct {
		name string
		fn   func(*Node) *Node
		x    *tensors.Tensor
		want string
	}{
		{"Msign of a vector", msign(), vector, "matfn.Msign"},
		{"Msign of integers", msign(), integers, "Int32"},
		{"no steps", msign(WithSchedule(nil)), wide, "no steps"},
		{"NaN step", msign(WithSchedule(Schedule{{math.NaN(), 0, 0}})), wide, "must be finite"},
		{"unknown form", msign(WithForm(7)), wide, "unknown form 7"},
		{"InvSqrt of a vector", plainRoot, vector, "matfn.InvSqrt"},
		{"InvSqrt not square", plainRoot, wide, "square"},
		{"clip of a vector", func(x *Node) *Node { return SpectralClip(x, 0, 1) }, vector, "matfn.SpectralClip"},
		{"clip of integers", func(x *Node) *Node { return SpectralClip(x, 0, 1) }, integers, "Int32"},
		{"clip to [2, 1]", func(x *Node) *Node { return SpectralClip(x, 2, 1) }, wide, "lo 2 and hi 1"},
		{"clip to [-2, -1]", func(x *Node) *Node { return SpectralClip(x, -2, -1) }, wide, "hi >= 0"},
		{"clip to [NaN, 1]", func(x *Node) *Node { return SpectralClip(x, nan, 1) }, wide, "NaN"},
		{"clip to [0, Inf]", func(x *Node) *Node { return SpectralClip(x, 0, infinite) }, wide, "finite"},
		{"clip in a form of Msign", func(x *Node) *Node { return SpectralClip(x, 0, 1, WithForm(Gram)) }, wide, "unknown form 2"},
		{"clip without steps", func(x *Node) *Node { return SpectralClip(x, 0, 1, WithSchedule(nil)) }, wide, "no steps"},
		{"cap at -1", func(x *Node) *Node { return SpectralHardcap(x, -1) }, wide, "beta -1"},
		{"relu at NaN", func(x *Node) *Node { return SpectralReLU(x, nan) }, wide, "alpha NaN"},
		{"decay above Inf", func(x *Node) *Node { return SpectralClippedWeightDecay(x, infinite, 0.1) }, wide, "beta +Inf"},
		{"decay by 1.5", func(x *Node) *Node { return SpectralClippedWeightDecay(x, 1, 1.5) }, wide, "lambda 1.5"},
		{"decay by NaN", func(x *Node) *Node { return SpectralClippedWeightDecay(x, 1, nan) }, wide, "lambda NaN"},
		{"EigClip not square", func(x *Node) *Node { return EigClip(x, 0, 1) }, wide, "matfn.EigClip"},
		{"EigClip to [2, 1]", func(x *Node) *Node { return EigClip(x, 2, 1) }, square, "lo 2 and hi 1"},
		{"EigClip to [NaN, 1]", func(x *Node) *Node { return EigClip(x, nan, 1) }, square, "NaN"},
		{"EigClip to [0, Inf]", func(x *Node) *Node { return EigClip(x, 0, infinite) }, square, "bound +Inf"},
		{"EigReLU at Inf", func(x *Node) *Node { return EigReLU(x, infinite) }, square, "bound +Inf"},
		{"EigHardcap at NaN", func(x *Node) *Node { return EigHardcap(x, nan) }, square, "bound NaN"},
		{"EigStep at -Inf", func(x *Node) *Node { return EigStep(x, -infinite) }, square, "bound -Inf"},
		{"EigStep of integers", func(x *Node) *Node { return EigStep(x, 0) }, integers, "matfn.EigStep"},
		{"ProjPSD not square", func(x *Node) *Node { return ProjPSD(x) }, wide, "square"},
		{"ProjNSD in a form of a clip", func(x *Node) *Node { return ProjNSD(x, WithForm(Nested)) }, square, "unknown form 4"},
		{"norm of a vector", norm(), vector, "matfn.SpectralNorm"},
		{"too few steps", norm(WithPowerSteps(3)), wide, "at least 16"},
	} {
		exec, err := NewExec(check.Backend(t), c.fn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = exec.Call(c.x); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
		exec.Finalize()
	}
}
