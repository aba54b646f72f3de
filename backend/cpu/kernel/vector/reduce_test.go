package vector

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// rowCases are the kernels that reduce rows; two says that they have two sources.
var rowCases = []struct {
	name string
	two  bool
	run  func(k *Kernels, dst, x, y unsafe.Pointer, rows, cols int)
}{
	{"SumRows", false, func(k *Kernels, dst, x, _ unsafe.Pointer, rows, cols int) { k.SumRows(dst, x, rows, cols) }},
	{"ProdRows", false, func(k *Kernels, dst, x, _ unsafe.Pointer, rows, cols int) { k.ProdRows(dst, x, rows, cols) }},
	{"MaxRows", false, func(k *Kernels, dst, x, _ unsafe.Pointer, rows, cols int) { k.MaxRows(dst, x, rows, cols) }},
	{"MinRows", false, func(k *Kernels, dst, x, _ unsafe.Pointer, rows, cols int) { k.MinRows(dst, x, rows, cols) }},
	{"DotRows", true, func(k *Kernels, dst, x, y unsafe.Pointer, rows, cols int) { k.DotRows(dst, x, y, rows, cols) }},
}

// normal are n floats of moderate size, and sometimes one that is special.
func normal(r *rand.Rand, n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = math.Float32bits(float32(r.NormFloat64()))
		if r.IntN(400) == 0 {
			out[i] = special[r.IntN(len(special))]
		}
	}
	return out
}

func reduceLengths() []int {
	all := []int{255, 256, 257, 319, 320, 321, rowBlock - 1, rowBlock, rowBlock + 1, 3*rowBlock + 65}
	for n := range 2*partials + 3 {
		all = append(all, n)
	}
	return all
}

func TestRows(t *testing.T) {
	for _, c := range rowCases {
		for _, level := range levelsHere() {
			r := rand.New(rand.NewPCG(3, 4))
			for _, cols := range reduceLengths() {
				for _, rows := range []int{0, 1, 3} {
					x, y := newBuffer(rows*cols, r.IntN(64)), newBuffer(rows*cols, r.IntN(64))
					xs, ys := normal(r, rows*cols), normal(r, rows*cols)
					x.put(xs)
					y.put(ys)
					want, dst := make([]uint32, rows+1), newBuffer(rows, r.IntN(64))
					c.run(For(feature.Generic), unsafe.Pointer(&want[0]), x.pointer(), y.pointer(), rows, cols)
					c.run(For(level), dst.pointer(), x.pointer(), y.pointer(), rows, cols)
					problem := same(dst.get(), want[:rows], true) + dst.intact() + same(x.get(), xs, false) + same(y.get(), ys, false)
					for i := range rows { // alone, each row gives the same
						one := newBuffer(1, 0)
						c.run(For(level), one.pointer(), unsafe.Add(x.pointer(), 4*i*cols), unsafe.Add(y.pointer(), 4*i*cols), 1, cols)
						problem += same(one.get(), want[i:i+1], true)
					}
					if problem != "" {
						t.Fatalf("%s %s, %d x %d: %s", level, c.name, rows, cols, problem)
					}
				}
			}
		}
	}
}

// TestRowsSpecial: the special values at every place of a row, alone and against ordinary ones.
func TestRowsSpecial(t *testing.T) {
	oracle := map[string]func(x []float32) float32{
		"MaxRows": func(x []float32) float32 {
			m := float32(math.Inf(-1))
			for _, v := range x {
				m = max(m, v)
			}
			return m
		},
		"MinRows": func(x []float32) float32 {
			m := float32(math.Inf(1))
			for _, v := range x {
				m = min(m, v)
			}
			return m
		},
	}
	for _, c := range rowCases {
		f := oracle[c.name]
		if f == nil {
			continue
		}
		for _, level := range levelsHere() {
			for _, cols := range []int{1, 16, 65, 130} {
				for at := range cols {
					for _, v := range special {
						x := make([]float32, cols)
						for i := range x {
							x[i] = float32(math.Copysign(0, float64(i&1)-0.5))
						}
						x[at] = math.Float32frombits(v)
						var got float32
						c.run(For(level), unsafe.Pointer(&got), unsafe.Pointer(&x[0]), nil, 1, cols)
						if p := same([]uint32{math.Float32bits(got)}, []uint32{math.Float32bits(f(x))}, true); p != "" {
							t.Fatalf("%s %s of %d with %08x at %d: %s", level, c.name, cols, v, at, p)
						}
					}
				}
			}
		}
	}
}

// sumTolerance is for sums of n uniform numbers in [0, 1), relative to the sum: at most 64 additions in a partial sum, then 6 to
// fold, then the blocks pairwise. The worst of the test is 8e-8; a running sum is 1e-4 off.
const sumTolerance = 4e-7

func TestSumAccuracy(t *testing.T) {
	const n = 1<<21 + 77
	r := rand.New(rand.NewPCG(5, 6))
	x := make([]float32, n)
	exact, dot, running := 0.0, 0.0, float32(0)
	for i := range x {
		x[i] = r.Float32()
		exact += float64(x[i])
		dot += float64(x[i]) * float64(x[i])
		running += x[i]
	}
	for _, level := range levelsHere() {
		var sum, squares float32
		For(level).SumRows(unsafe.Pointer(&sum), unsafe.Pointer(&x[0]), 1, n)
		For(level).DotRows(unsafe.Pointer(&squares), unsafe.Pointer(&x[0]), unsafe.Pointer(&x[0]), 1, n)
		for _, e := range []float64{math.Abs(float64(sum)/exact - 1), math.Abs(float64(squares)/dot - 1)} {
			if e > sumTolerance {
				t.Errorf("%s: a sum is off by %.2g", level, e)
			}
			t.Logf("%s: off by %.2g", level, e)
		}
	}
	if e := math.Abs(float64(running)/exact - 1); e < 10*sumTolerance {
		t.Errorf("a running sum is off by %.2g only: the test is too easy", e)
	}
}

func TestColumns(t *testing.T) {
	cases := map[string]func(k *Kernels, dst, w, x unsafe.Pointer, rows, cols int){
		"AddColumns":    func(k *Kernels, dst, _, x unsafe.Pointer, rows, cols int) { k.AddColumns(dst, x, rows, cols) },
		"MaxColumns":    func(k *Kernels, dst, _, x unsafe.Pointer, rows, cols int) { k.MaxColumns(dst, x, rows, cols) },
		"MinColumns":    func(k *Kernels, dst, _, x unsafe.Pointer, rows, cols int) { k.MinColumns(dst, x, rows, cols) },
		"MulAddColumns": func(k *Kernels, dst, w, x unsafe.Pointer, rows, cols int) { k.MulAddColumns(dst, w, x, rows, cols) },
	}
	for name, run := range cases {
		for _, level := range levelsHere() {
			r := rand.New(rand.NewPCG(7, 8))
			for cols := range 70 {
				for _, rows := range []int{0, 1, 3, 4, 5, 8, 11} {
					x, w, dst := newBuffer(rows*cols, r.IntN(64)), newBuffer(rows, r.IntN(64)), newBuffer(cols, r.IntN(64))
					start := normal(r, cols)
					xs, ws := normal(r, rows*cols), normal(r, rows)
					x.put(xs)
					w.put(ws)
					dst.put(start)
					want := append([]uint32{}, append(start, 0)...)
					run(For(feature.Generic), unsafe.Pointer(&want[0]), w.pointer(), x.pointer(), rows, cols)
					run(For(level), dst.pointer(), w.pointer(), x.pointer(), rows, cols)
					if p := same(dst.get(), want[:cols], true) + dst.intact() + same(x.get(), xs, false) + same(w.get(), ws, false); p != "" {
						t.Fatalf("%s %s, %d x %d: %s", level, name, rows, cols, p)
					}
				}
			}
		}
	}
}
