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

// functions are all matrix functions as functions of a batch of square matrices, for the tests that ask all of them the
// same questions.
var functions = map[string]func(x *Node) *Node{
	"Msign direct": msign(WithForm(Direct)),
	"Msign gram":   msign(WithForm(Gram)),
	"Msign finish": msign(WithExactFinish()),
	"InvSqrt":      plainRoot,
	"norm u":       func(x *Node) *Node { u, _, _ := SpectralNorm(x); return u },
	"norm sigma":   func(x *Node) *Node { _, sigma, _ := SpectralNorm(x); return sigma },
	"norm v":       func(x *Node) *Node { _, _, v := SpectralNorm(x); return v },
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
			for j, v := range part {
				bad := i == 2 || i == 4
				if bad != math.IsNaN(float64(v)) || (i == 1 && v != 0) || (bad != math.IsNaN(float64(twice[i*size+j]))) {
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
