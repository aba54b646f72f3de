package matfn

import (
	"math"

	"github.com/gomlx/compute/dtypes"
	. "github.com/gomlx/gomlx/core/graph"
)

// inputKind is what a function wants of its input.
type inputKind int

const (
	anyMatrix inputKind = iota // any shape; the function acts on singular values
	symmetricMatrix
	definiteMatrix // positive semidefinite
)

// accuracyConds are the inputs of TestAccuracyTable: condition numbers, and 0 for a matrix of half the rank.
var accuracyConds = []float64{1, 1e2, 1e4, 1e6, 0}

// limits are what a row of the table may be off for each of accuracyConds, in the Frobenius norm relative to the result, for
// all shapes up to 1024 x 4096 and scales from 1e-12 to 1e12; infinite is no promise.
type limits [5]float64

// accuracyRow is a function in one form and precision, with what it must give.
type accuracyRow struct {
	function, form, precision string
	kind                      inputKind
	dtype                     dtypes.DType
	fn                        matrixFunction
	want                      func(d *decomposed, sigma float64) float64
	degree                    float64 // fn of c·x with bounds times c is c^degree times fn of x
	floor                     float64 // directions of singular values below floor·‖x‖_F do not count
	limits                    limits
}

// matrixFunction builds a function of x with bounds times scale.
type matrixFunction func(x *Node, scale float64, opts ...Option) *Node

var none = math.Inf(1)

var (
	// steady is for float32 functions that do not lift small singular values: some dozen products, each rounding by 6e-8 and
	// amplifying what was before it a few times.
	steady = limits{2e-5, 2e-5, 2e-5, 2e-5, 2e-5}
	// jump is for EigStep, whose value changes from 0 to 1 at the threshold: eigenvalues near it mix by rounding over their
	// distance, and there are more of them in larger matrices (2.6e-5 measured at 512 x 512).
	jump = limits{1e-4, 1e-4, 1e-4, 1e-4, 1e-4}
	// far is for a bound 1e-4 of the norm in float32, where rounding of 6e-8 of the norm is 6e-4 of the bound unless all singular
	// values are above it; nestedFar for the form in which twice the norm cancels.
	far       = limits{2e-5, 2e-5, 5e-4, 2e-3, 5e-3}
	nestedFar = limits{5e-2, 5e-2, 5e-2, 5e-2, 1e-1}
	// lifting is for those that do: rounding of 6e-8 of the norm turns singular vectors of 1/cond of it by 6e-8·cond.
	lifting = limits{2e-5, 2e-5, 1e-4, 1e-2, 2e-5}
	// The same with WithExact, where rounding is 1e-16: 5e8 times less.
	exactSteady = limits{1e-12, 1e-12, 1e-12, 1e-12, 1e-12}
	// Where a singular value equals the bound, as the spacing has it at condition numbers 1e4 and 1e6, a sign within 1e-10 of the
	// norm counts as undecided; of a bound 1e-4 of the norm that may cost 1e-6/√k: 5.1e-8 was measured at 1024 x 256.
	exactFar       = limits{1e-11, 1e-11, 1e-7, 1e-7, 1e-11}
	exactNestedFar = limits{1e-9, 1e-9, 1e-9, 1e-9, 1e-9}
	exactLifting   = limits{1e-12, 1e-12, 1e-11, 1e-9, 1e-11}
	// gramLoss is what an eigenvalue function loses in the Gram form, where signs of small eigenvalues are signs of their squares.
	gramLoss = limits{2e-5, 2e-5, 2e-4, 1e-3, 1e-3}
	// halfRounding is what rounding a result to bfloat16's 8 bits adds at most.
	halfRounding = 1.0 / 256
)

func (l limits) plus(x float64) limits {
	for i := range l {
		l[i] += x
	}
	return l
}

// accuracyRows are all functions in all their forms and precisions.
func accuracyRows() (rows []accuracyRow) {
	// add adds a function in float32, bfloat16 and float64.
	add := func(r accuracyRow, form Form, single, exact limits, fn matrixFunction) {
		r.form = map[Form]string{Direct: "direct", Gram: "Gram", Projected: "projected", Nested: "nested", Blockwise: "blockwise"}[form]
		var opts []Option
		if form != Auto {
			opts = []Option{WithForm(form)}
		}
		with := func(precision string, dtype dtypes.DType, limits limits, more ...Option) {
			r := r
			more = append(more, opts...)
			r.precision, r.dtype, r.limits = precision, dtype, limits
			r.fn = func(x *Node, c float64, _ ...Option) *Node { return fn(x, c, more...) }
			rows = append(rows, r)
		}
		with("float32", dtypes.Float32, single)
		half := single.plus(halfRounding)
		if r.kind == definiteMatrix { // rounding by 4e-3 makes small eigenvalues negative
			half[2], half[3] = none, none
		}
		with("bfloat16", dtypes.BFloat16, half)
		if exact != (limits{}) {
			r.floor = 0
			with("exact", dtypes.Float64, exact, WithExact())
		}
	}
	for _, form := range []Form{Direct, Gram} {
		one := func(*decomposed, float64) float64 { return 1 }
		add(accuracyRow{function: "Msign", want: one, floor: floor}, form,
			limits{bound, bound, bound, bound, bound}, exactLifting,
			func(x *Node, _ float64, opts ...Option) *Node { return Msign(x, opts...) })
		add(accuracyRow{function: "Msign, finish", want: one}, form,
			limits{exactTol, exactTol, exactTol, none, none}, limits{},
			func(x *Node, _ float64, opts ...Option) *Node { return Msign(x, append(opts, WithExactFinish())...) })
	}
	for _, exact := range []bool{false, true} {
		r := accuracyRow{function: "InvSqrt", kind: definiteMatrix, degree: -0.5}
		if exact {
			r.want = func(_ *decomposed, s float64) float64 { return 1 / math.Sqrt(s) }
			r.precision, r.dtype, r.limits = "exact", dtypes.Float64, limits{1e-12, 1e-12, 1e-11, 1e-9, 1e-11}
			r.fn = func(x *Node, _ float64, _ ...Option) *Node { return InvSqrt(x, WithExact()) }
			rows = append(rows, r)
			continue
		}
		r.want = func(d *decomposed, s float64) float64 { return 1 / math.Sqrt(s+Ridge*d.frobenius) }
		add(r, Auto, limits{wellTol, wellTol, rootTol, rootTol, rootTol}, limits{},
			func(x *Node, _ float64, _ ...Option) *Node { return InvSqrt(x) })
	}
	for _, form := range []Form{Projected, Nested, Blockwise} {
		addClips(add, form)
	}
	for _, form := range []Form{Direct, Gram} {
		addEigen(add, form)
	}
	return rows
}

type adder = func(r accuracyRow, form Form, single, exact limits, fn matrixFunction)

// between is min(max(s, lo), hi).
func between(lo, hi float64) func(*decomposed, float64) float64 {
	return func(_ *decomposed, s float64) float64 { return min(max(s, lo), hi) }
}

func addClips(add adder, form Form) {
	add(accuracyRow{function: "SpectralClip [0.05, 0.5]", want: between(0.05, 0.5), degree: 1}, form, lifting, exactLifting,
		func(x *Node, c float64, opts ...Option) *Node { return SpectralClip(x, 0.05*c, 0.5*c, opts...) })
	add(accuracyRow{function: "SpectralHardcap 0.3", want: between(0, 0.3), degree: 1}, form, steady, exactSteady,
		func(x *Node, c float64, opts ...Option) *Node { return SpectralHardcap(x, 0.3*c, opts...) })
	distant, exactDistant := far, exactFar
	if form == Nested {
		distant, exactDistant = nestedFar, exactNestedFar
	}
	add(accuracyRow{function: "SpectralHardcap 1e-4", want: between(0, 1e-4), degree: 1}, form, distant, exactDistant,
		func(x *Node, c float64, opts ...Option) *Node { return SpectralHardcap(x, 1e-4*c, opts...) })
	add(accuracyRow{function: "SpectralHardcap 2", want: between(0, 2), degree: 1}, form, steady, exactSteady,
		func(x *Node, c float64, opts ...Option) *Node { return SpectralHardcap(x, 2*c, opts...) })
	add(accuracyRow{function: "SpectralReLU 0.1", want: between(0.1, none), degree: 1}, form, lifting, exactLifting,
		func(x *Node, c float64, opts ...Option) *Node { return SpectralReLU(x, 0.1*c, opts...) })
	decay := func(_ *decomposed, s float64) float64 { return s - 0.25*max(s-0.3, 0) }
	add(accuracyRow{function: "SpectralClippedWeightDecay 0.3", degree: 1, want: decay}, form, steady, exactSteady,
		func(x *Node, c float64, opts ...Option) *Node {
			return SpectralClippedWeightDecay(x, 0.3*c, 0.25, opts...)
		})
}

func addEigen(add adder, form Form) {
	single, exact := steady, exactSteady
	if form == Gram {
		single, exact = gramLoss, exactFar
	}
	eigen := func(name string, want func(*decomposed, float64) float64, degree float64, fn matrixFunction) {
		add(accuracyRow{function: name, kind: symmetricMatrix, want: want, degree: degree}, form, single, exact, fn)
	}
	eigen("EigClip [-0.3, 0.2]", between(-0.3, 0.2), 1,
		func(x *Node, c float64, opts ...Option) *Node { return EigClip(x, -0.3*c, 0.2*c, opts...) })
	eigen("EigReLU -0.1", between(-0.1, none), 1,
		func(x *Node, c float64, opts ...Option) *Node { return EigReLU(x, -0.1*c, opts...) })
	eigen("EigHardcap 0.1", between(-none, 0.1), 1,
		func(x *Node, c float64, opts ...Option) *Node { return EigHardcap(x, 0.1*c, opts...) })
	step := func(_ *decomposed, s float64) float64 {
		if s > 0.25 {
			return 1
		}
		return 0
	}
	smooth := single
	for i := range single {
		single[i] = max(single[i], jump[i])
	}
	eigen("EigStep 0.25", step, 0, func(x *Node, c float64, opts ...Option) *Node { return EigStep(x, 0.25*c, opts...) })
	single = smooth
	eigen("ProjPSD", between(0, none), 1, func(x *Node, _ float64, opts ...Option) *Node { return ProjPSD(x, opts...) })
	eigen("ProjNSD", between(-none, 0), 1, func(x *Node, _ float64, opts ...Option) *Node { return ProjNSD(x, opts...) })
}
