package matfn

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/dtypes/bfloat16"
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// decomposed is a matrix x = U diag(sigma) Vᵀ as a function sees it: U = V and sigma are eigenvalues if it is symmetric.
type decomposed struct {
	x, u, v   *mat.Dense
	sigma     []float64
	frobenius float64
}

// accuracyInput returns the matrix of a kind, shape and condition number (0: of half the rank), rounded to float32 or bfloat16,
// of norm about one.
func accuracyInput(t testing.TB, kind inputKind, m, n int, cond float64, half bool) *decomposed {
	t.Helper()
	d := &decomposed{}
	k := min(m, n)
	sigma := make([]float64, k)
	for i := range sigma {
		sigma[i] = 1
		if k > 1 {
			sigma[i] = math.Pow(cond, -float64(i)/float64(k-1))
		}
		if kind == symmetricMatrix && i%2 == 1 {
			sigma[i] *= -1
		}
	}
	switch {
	case cond == 0:
		d.x = deficient(kind, m, n)
	case kind == anyMatrix:
		d.x = must[*mat.Dense](t)(oracle.WithSingularValues(3, m, n, sigma))
	default:
		v := must[*mat.Dense](t)(oracle.Msign(oracle.Gaussian(3, m, m)))
		scaled := mat.DenseCopyOf(v)
		scaled.Apply(func(_, j int, x float64) float64 { return x * sigma[j] }, scaled)
		d.x = new(mat.Dense)
		d.x.Mul(scaled, v.T())
	}
	for i, v := range flat(d.x) {
		flat(d.x)[i] = float64(float32(v))
		if half {
			flat(d.x)[i] = float64(bfloat16.FromFloat32(float32(v)).Float32())
		}
	}
	d.frobenius = mat.Norm(d.x, 2)
	var err error
	if kind == anyMatrix {
		d.u, d.sigma, d.v, err = oracle.SVD(d.x)
	} else {
		for i := range m { // rounded symmetrically, but products are not
			for j := range i {
				d.x.Set(i, j, d.x.At(j, i))
			}
		}
		d.sigma, d.u, err = oracle.Eigen(d.x)
		d.v = d.u
	}
	if err != nil {
		t.Fatal(err)
	}
	largest := max(math.Abs(d.sigma[0]), math.Abs(d.sigma[k-1]))
	for i, s := range d.sigma {
		if math.Abs(s) < 1e-12*largest {
			d.sigma[i] = 0
		}
	}
	return d
}

// deficient returns a matrix of half the rank, in numbers that need no rounding, not even in bfloat16.
func deficient(kind inputKind, m, n int) *mat.Dense {
	rank := max(min(m, n)/2, 1)
	rng := rand.New(rand.NewPCG(5, 6))
	signs := func(m, n int) *mat.Dense {
		x := mat.NewDense(m, n, nil)
		for i := range flat(x) {
			flat(x)[i] = float64(rng.IntN(3) - 1)
		}
		return x
	}
	a := signs(m, rank)
	a.Set(0, 0, 1) // not zero, whatever the numbers
	right := a
	if kind == anyMatrix {
		right = signs(n, rank)
		right.Set(0, 0, 1)
	}
	left := mat.DenseCopyOf(a)
	if kind == symmetricMatrix {
		left.Apply(func(_, j int, x float64) float64 { return x * float64(1-2*(j%2)) }, left)
	}
	x := new(mat.Dense)
	x.Mul(left, right.T())
	norm := math.Sqrt(2*float64(m)/3) * math.Sqrt(2*float64(n)/3)
	return scaled(math.Exp2(-math.Round(math.Log2(norm))), x)
}

// result returns what a row must give for d.
func (r accuracyRow) result(d *decomposed) *mat.Dense {
	u := mat.DenseCopyOf(d.u)
	u.Apply(func(_, j int, x float64) float64 {
		if d.sigma[j] == 0 && r.kind != symmetricMatrix && !(r.kind == definiteMatrix && r.precision != "exact") {
			return 0
		}
		return x * r.want(d, d.sigma[j])
	}, u)
	out := new(mat.Dense)
	out.Mul(u, d.v.T())
	return out
}

// off returns the error of got relative to what the row must give, in the directions that count.
func (r accuracyRow) off(d *decomposed, got []float64) float64 {
	want := r.result(d)
	m, n := want.Dims()
	var diff mat.Dense
	diff.Sub(mat.NewDense(m, n, got), want)
	norm := mat.Norm(want, 2)
	if r.floor > 0 {
		k := 0
		for k < len(d.sigma) && d.sigma[k] >= r.floor*d.frobenius {
			k++
		}
		var left mat.Dense
		left.Mul(d.u.Slice(0, m, 0, k).T(), &diff)
		diff.Reset()
		diff.Mul(&left, d.v.Slice(0, n, 0, k))
		norm = math.Sqrt(float64(k))
	}
	if norm == 0 {
		norm = 1 // the inputs are of norm one
	}
	return mat.Norm(&diff, 2) / norm
}

// tensorIn returns scale times matrices as a batch of a dtype; one alone is [m, n].
func tensorIn(dtype dtypes.DType, scale float64, ds []*decomposed) *tensors.Tensor {
	m, n := ds[0].x.Dims()
	dims := []int{len(ds), m, n}
	if len(ds) == 1 {
		dims = dims[1:]
	}
	var values []float64
	for _, d := range ds {
		values = append(values, flat(scaled(scale, d.x))...)
	}
	switch dtype {
	case dtypes.Float64:
		return tensors.FromFlatDataAndDimensions(values, dims...)
	case dtypes.BFloat16:
		half := make([]bfloat16.BFloat16, len(values))
		for i, v := range values {
			half[i] = bfloat16.FromFloat32(float32(v))
		}
		return tensors.FromFlatDataAndDimensions(half, dims...)
	}
	single := make([]float32, len(values))
	for i, v := range values {
		single[i] = float32(v)
	}
	return tensors.FromFlatDataAndDimensions(single, dims...)
}

// measure returns the errors of rows of one dtype and kind on all of ds, at a power of two as the scale, which rounds nothing:
// [row][matrix].
func measure(t testing.TB, rows []accuracyRow, ds []*decomposed, scale float64) [][]float64 {
	t.Helper()
	exec, err := NewExec(check.Backend(t), func(in []*Node) (out []*Node) {
		for _, r := range rows {
			out = append(out, ConvertDType(r.fn(in[0], scale), dtypes.Float64))
		}
		return out
	})
	if err != nil {
		t.Fatal(err)
	}
	defer exec.Finalize()
	outputs, err := exec.Call(tensorIn(rows[0].dtype, scale, ds))
	if err != nil {
		t.Fatal(err)
	}
	errors := make([][]float64, len(rows))
	for i, r := range rows {
		got := tensors.MustCopyFlatData[float64](outputs[i])
		outputs[i].MustFinalizeAll()
		for j := range got {
			got[j] *= math.Pow(scale, -r.degree)
		}
		size := len(got) / len(ds)
		for j, d := range ds {
			errors[i] = append(errors[i], r.off(d, got[j*size:(j+1)*size]))
		}
	}
	return errors
}
