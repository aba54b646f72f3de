// Package gemm multiplies matrices: batches of products with any strides, in float32, float64 and bfloat16 with float32 sums.
//
// A Plan is made once for a Spec and run many times; it is never changed by running and may run on several teams at once, each
// Run with its own scratch. Memory belongs to the caller. Elements outside the matrices are neither read nor written, inside
// the slices or behind them. The sum over K of an element has one fixed order, which depends on the Spec and the level alone:
// results are the same bits for any number of workers.
//
// Design: C (row-major; a column-major C is computed as its transpose) is cut into blocks, the tasks of the team. A block is
// walked in panels of up to 12 rows, and a kernel multiplies a panel of A, whose elements it broadcasts, by strips of 32 columns
// of B, over up to kc terms. Kernels take strides for A and B, so packing is a choice: B is packed into strips where it is used
// by many rows or where its rows are not contiguous, once for all workers or by the worker that needs it; a panel of A is copied
// where its rows would fall into the same sets of the first-level cache. There is a kernel for each number of rows, so ragged
// sizes cost nothing, and the last columns are masked.
package gemm

import (
	"fmt"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// View is the strides, in elements, of the rows and columns of a matrix in memory. They are not negative; a transposed matrix
// has Row 1, and a stride 0 repeats a row or column (of A or B).
type View struct{ Row, Col int }

func (v View) transposed() View { return View{v.Col, v.Row} }

// Spec is a batch of products C_i = A_i B_i, or C_i += A_i B_i with Accumulate: A is M x K, B is K x N, C is M x N.
//
// The matrices of C must not overlap each other, nor A or B. K = 0 gives zeros. NaN and Inf go through as in IEEE arithmetic:
// no term is skipped.
type Spec struct {
	M, N, K int
	A, B, C View
	// Where each product's matrices begin, in elements of the slices given to Run; equal lengths, the size of the batch. All nil:
	// one product at 0.
	AOffsets, BOffsets, COffsets []int
	Accumulate                   bool
	// BF16 rounds A and B to bfloat16, to nearest even, and sums in float32 (float32 only). Where feature.BF16 says so,
	// VDPBF16PS is used: it takes subnormal numbers as zeros, sums two terms at a time, and so differs in the last bits from
	// other levels, which round the operands and multiply as in float32.
	BF16 bool
}

// Epilogue is called by the worker that finished a block of C, rows x cols at (row, col) of a product, once for every element,
// after its last addition and while it is in cache. Blocks depend on the Spec and the level only; their order and worker do not
// stay the same.
type Epilogue func(worker, product, row, col, rows, cols int)

// Plan is how a Spec is computed. It is safe for concurrent use.
type Plan[T float32 | float64] struct {
	spec    Spec
	level   feature.Level
	kernels kernels[T]
	batch   int
	swapped bool // computes the transposed product; the fields below are of what is computed

	m, n, k    int // k counts pairs of terms if kernels.pairs
	a, b, c    View
	aOff, bOff []int
	cOff       []int

	bMode  bMode
	aCopy  bool // copy A
	aRows  bool // row by row, a panel at a time; else it is packed by blocks
	tile   bool // C is computed in scratch and copied element by element
	dots   bool // by dot products along K instead of panels
	kc     int  // terms in a pass
	nc, ks int  // columns and terms whose packed B is in scratch at once, bShared
	mb, nb int  // size of a block
	ma     int  // rows of A packed at a time
	group  int  // products in a task
}

// bMode says how the kernels see B.
type bMode int

const (
	bDirect bMode = iota // in place
	bLocal               // packed by each worker for its block
	bShared              // packed by all workers for all
)

var bModes = [...]string{"direct", "local", "shared"}

// New plans a batch of products for a level. It panics for impossible specs: negative sizes or strides, offsets of different
// lengths, BF16 with float64, a C in which elements coincide.
func New[T float32 | float64](spec Spec, level feature.Level) *Plan[T] {
	spec.check()
	p := &Plan[T]{spec: spec, level: level, batch: spec.batch(), kernels: kernelsOf[T](level, spec.BF16)}
	if _, double := any(T(0)).(float64); double && spec.BF16 {
		panic("gemm: BF16 is for float32")
	}
	p.orient()
	p.choose()
	return p
}

func (s Spec) batch() int {
	if s.COffsets == nil {
		return 1
	}
	return len(s.COffsets)
}

func (s Spec) check() {
	if s.M < 0 || s.N < 0 || s.K < 0 || min(s.A.Row, s.A.Col, s.B.Row, s.B.Col, s.C.Row, s.C.Col) < 0 {
		panic(fmt.Sprintf("gemm: negative size or stride in %dx%dx%d, A %v, B %v, C %v", s.M, s.K, s.N, s.A, s.B, s.C))
	}
	if len(s.AOffsets) != len(s.COffsets) || len(s.BOffsets) != len(s.COffsets) {
		panic(fmt.Sprintf("gemm: %d, %d and %d offsets", len(s.AOffsets), len(s.BOffsets), len(s.COffsets)))
	}
	c := s.C
	if s.M > 1 && s.N > 1 && (c.Row == 0 || c.Col == 0) || s.M > 1 && s.N == 1 && c.Row == 0 || s.N > 1 && s.M == 1 && c.Col == 0 {
		panic(fmt.Sprintf("gemm: elements of C coincide: %dx%d with strides %v", s.M, s.N, c))
	}
}

// Flops is the number of floating-point operations of a Run: 2 M N K for each product.
func (p *Plan[T]) Flops() float64 {
	return 2 * float64(p.spec.M) * float64(p.spec.N) * float64(p.spec.K) * float64(p.batch)
}

// Kernel names the kernel and the case chosen, for tests and profiles, as "avx512/f32 shared b, copied a".
func (p *Plan[T]) Kernel() string {
	name := p.kernels.name
	if p.dots {
		return name + " dots" + p.swap()
	}
	name += " " + bModes[p.bMode] + " b"
	if p.aCopy {
		name += ", copied a"
	}
	if p.tile {
		name += ", tiled c"
	}
	return name + p.swap()
}

func (p *Plan[T]) swap() string {
	if p.swapped {
		return ", swapped"
	}
	return ""
}

// Scratch is how many elements of scratch Run needs on a team of so many workers. Their contents do not matter.
func (p *Plan[T]) Scratch(workers int) int {
	return p.sharedLen() + workers*p.workerLen()
}

// Run computes the products on a team, with scratch of at least Scratch(t.Size()) elements. epilogue may be nil. It panics if
// a matrix does not lie within its slice or scratch is short.
func (p *Plan[T]) Run(t *team.Team, c, a, b []T, scratch []T, epilogue Epilogue) {
	if p.spec.M == 0 || p.spec.N == 0 || p.batch == 0 {
		return
	}
	p.within(c, a, b, scratch, t.Size())
	if p.swapped {
		a, b = b, a
		if f := epilogue; f != nil {
			epilogue = func(worker, product, row, col, rows, cols int) { f(worker, product, col, row, cols, rows) }
		}
	}
	r := &runner[T]{Plan: p, out: c, left: a, right: b, scratch: scratch, epilogue: epilogue, workers: make([]worker[T], t.Size())}
	r.run(t)
}

func (p *Plan[T]) within(c, a, b, scratch []T, workers int) {
	s := p.spec
	if need := p.Scratch(workers); len(scratch) < need {
		panic(fmt.Sprintf("gemm: %d elements of scratch, need %d", len(scratch), need))
	}
	hold := func(name string, length int, offsets []int, v View, rows, cols int) {
		if rows == 0 || cols == 0 {
			return
		}
		span := (rows-1)*v.Row + (cols-1)*v.Col
		if offsets == nil {
			offsets = zero
		}
		for _, o := range offsets {
			if o < 0 || o+span >= length {
				panic(fmt.Sprintf("gemm: %s is %dx%d, strides %v, at %d: outside %d elements", name, rows, cols, v, o, length))
			}
		}
	}
	hold("A", len(a), s.AOffsets, s.A, s.M, s.K)
	hold("B", len(b), s.BOffsets, s.B, s.K, s.N)
	hold("C", len(c), s.COffsets, s.C, s.M, s.N)
}

var zero = []int{0}
