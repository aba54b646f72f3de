package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// tolerances are relative to the sum of |a b| over K (and |c|), in units of the rounding error u of the type: sums of K terms in
// any order are within K u, and those of random signs far less. The worst measured over TestRandom and TestCases is 5.6 u.
const tolerance = 12

// canary fills what a product must not touch: C between the rows of its matrices.
const canary = -12345.5

// problem is a spec with operands; those of execute are copies that end, or begin, at memory's edge.
type problem[T float32 | float64] struct {
	spec       Spec
	a, b, c    []T
	want, size []float64 // the exact result and the sum of absolute terms, as c; NaN where it was not computed
}

func fill[T float32 | float64](r *rand.Rand, x []T) {
	for i := range x {
		x[i] = T(r.NormFloat64())
	}
}

func extent(offsets []int, v View, rows, cols int) int {
	if rows == 0 || cols == 0 {
		return 0
	}
	return slices.Max(offsets) + (rows-1)*v.Row + (cols-1)*v.Col + 1
}

func (s Spec) offsets() (a, b, c []int) {
	if s.COffsets == nil {
		return zero, zero, zero
	}
	return s.AOffsets, s.BOffsets, s.COffsets
}

// build makes operands and the exact result, of large products at some elements.
func build[T float32 | float64](r *rand.Rand, s Spec) *problem[T] {
	p := &problem[T]{spec: s}
	ao, bo, co := s.offsets()
	p.a = make([]T, extent(ao, s.A, s.M, s.K))
	p.b = make([]T, extent(bo, s.B, s.K, s.N))
	p.c = make([]T, extent(co, s.C, s.M, s.N))
	fill(r, p.a)
	fill(r, p.b)
	for i := range p.c {
		p.c[i] = canary
	}
	p.want, p.size = make([]float64, len(p.c)), make([]float64, len(p.c))
	for i := range p.want {
		p.want[i] = canary
	}
	every := max(1, len(co)*s.M*s.N*s.K/2_000_000)
	for q := range co {
		for i := range s.M {
			for j := range s.N {
				at := co[q] + i*s.C.Row + j*s.C.Col
				if s.Accumulate {
					p.c[at] = T(r.NormFloat64())
				}
				p.want[at] = math.NaN()
				if every == 1 || r.IntN(every) == 0 {
					p.exact(at, ao[q]+i*s.A.Row, bo[q]+j*s.B.Col)
				}
			}
		}
	}
	return p
}

// exact computes an element of C in float64, with what rounding loses, from its first terms in A and B.
func (p *problem[T]) exact(at, a, b int) {
	round := func(x T) float64 {
		if p.spec.BF16 {
			return float64(RoundBF16(float32(x)))
		}
		return float64(x)
	}
	sum, lost := 0.0, 0.0
	if p.spec.Accumulate {
		sum = float64(p.c[at])
	}
	size := math.Abs(sum)
	for k := range p.spec.K {
		x, y := round(p.a[a+k*p.spec.A.Col]), round(p.b[b+k*p.spec.B.Row])
		z := x * y
		next := sum + z
		back := next - sum
		lost += math.FMA(x, y, -z) + (sum - (next - back)) + (z - back)
		sum = next
		size += math.Abs(z)
	}
	p.want[at], p.size[at] = sum+lost, size
}

func place[T float32 | float64](t testing.TB, x []T, atEnd bool) []T {
	y := guarded[T](t, len(x), atEnd)
	copy(y, x)
	return y
}

// execute runs a problem on memory with guards and returns C with the kernel's name. It checks that epilogues see every element
// once.
func execute[T float32 | float64](t testing.TB, p *problem[T], level feature.Level, workers int) (c []T, name string) {
	t.Helper()
	run := func(t testing.TB) {
		plan := New[T](p.spec, level)
		tm := team.New(workers)
		defer tm.Close()
		atEnd := workers != 2
		a, b, out := place(t, p.a, atEnd), place(t, p.b, atEnd), place(t, p.c, atEnd)
		scratch := guarded[T](t, plan.Scratch(workers), atEnd)
		for i := range scratch {
			scratch[i] = T(math.NaN())
		}
		s := p.spec
		seen := make([]uint8, plan.batch*s.M*s.N)
		plan.Run(tm, out, a, b, scratch, func(worker, product, row, col, rows, cols int) {
			if worker < 0 || worker >= workers {
				t.Errorf("worker %d of %d", worker, workers)
			}
			for i := row; i < row+rows; i++ {
				for j := col; j < col+cols; j++ {
					seen[(product*s.M+i)*s.N+j]++
				}
			}
		})
		if i := slices.IndexFunc(seen, func(n uint8) bool { return n != 1 }); i >= 0 {
			t.Fatalf("%s %+v: epilogue called %d times for element %d,%d", plan.Kernel(), s, seen[i], i/s.N%s.M, i%s.N)
		}
		c, name = slices.Clone(out), plan.Kernel()
	}
	scoped(t, run)
	return c, name
}

// scoped runs f and then its cleanups, so that guarded memory does not pile up.
func scoped(t testing.TB, f func(t testing.TB)) {
	t.Helper()
	s := &scope{TB: t}
	defer func() {
		for _, undo := range s.undo {
			undo()
		}
	}()
	f(s)
}

type scope struct {
	testing.TB
	undo []func()
}

func (s *scope) Cleanup(f func()) { s.undo = append(s.undo, f) }

// verify compares with the exact result and returns the worst error in units of the tolerance's unit.
func (p *problem[T]) verify(c []T) (worst float64, err error) {
	u := math.Ldexp(1, -24)
	if _, double := any(T(0)).(float64); double {
		u = math.Ldexp(1, -53)
	}
	for i := range c {
		got := float64(c[i])
		if got == p.want[i] || p.want[i] != p.want[i] && got != canary {
			continue
		}
		e := math.Abs(got-p.want[i]) / (u * p.size[i])
		if !(e <= tolerance) {
			return e, fmt.Errorf("c[%d] = %v, want %v: %.3g units", i, got, p.want[i], e)
		}
		worst = max(worst, e)
	}
	return worst, nil
}

func levels() (l []feature.Level) {
	for level := feature.Generic; level <= feature.Detected(); level++ {
		l = append(l, level)
	}
	return l
}

// worst is the largest error that check has met, in units of the tolerance's.
var worst float64

// check runs a spec at some levels and with 1, 2, 3 and 8 workers, and returns the kernels' names.
func check[T float32 | float64](t testing.TB, r *rand.Rand, s Spec, levels ...feature.Level) (names []string) {
	t.Helper()
	p := build[T](r, s)
	for _, level := range levels {
		first, name := execute(t, p, level, 1)
		e, err := p.verify(first)
		if err != nil {
			t.Fatalf("%s %+v: %v", name, s, err)
		}
		worst = max(worst, e)
		for _, workers := range []int{2, 3, 8} {
			if again, _ := execute(t, p, level, workers); !slices.Equal(first, again) {
				t.Fatalf("%s %+v: %d workers give other bits than one", name, s, workers)
			}
		}
		names = append(names, name)
	}
	return names
}

func randomSpec(r *rand.Rand, most int) Spec {
	size := func() int {
		switch r.IntN(8) {
		case 0:
			return r.IntN(3)
		case 1:
			return 1 + r.IntN(most)
		}
		return 1 + r.IntN(70)
	}
	s := Spec{M: size(), N: size(), K: size(), Accumulate: r.IntN(3) == 0}
	view := func(rows, cols int, c bool) (v View) {
		switch pad := r.IntN(2) * r.IntN(9); r.IntN(8) {
		case 0, 1, 2, 3:
			v = View{cols + pad, 1}
		case 4, 5:
			v = View{1, rows + pad}
		case 6:
			v = View{2*cols + pad + 1, 2}
		default:
			v = View{3, 3*rows + pad}
		}
		if !c && r.IntN(10) == 0 {
			if r.IntN(2) == 0 {
				v.Row = 0
			} else {
				v.Col = 0
			}
		}
		return v
	}
	s.A, s.B, s.C = view(s.M, s.K, false), view(s.K, s.N, false), view(s.M, s.N, true)
	if batch := r.IntN(8); batch > 3 {
		batch = 1 + r.IntN(12)
		gap := extent(zero, s.C, s.M, s.N) + r.IntN(3)
		for _, j := range r.Perm(batch) {
			s.AOffsets = append(s.AOffsets, r.IntN(100))
			s.BOffsets = append(s.BOffsets, r.IntN(100))
			s.COffsets = append(s.COffsets, j*gap)
		}
	}
	return s
}

func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		s := randomSpec(r, 200)
		s.BF16 = r.IntN(5) == 0
		check[float32](t, r, s, levels()...)
		s.BF16 = false
		check[float64](t, r, s, levels()...)
	}
	t.Logf("worst error: %.3g units", worst)
}

// TestNonFinite: NaN and Inf reach exactly the elements of C that IEEE arithmetic says, also through zeros.
func TestNonFinite(t *testing.T) {
	const m, n, k = 30, 70, 40
	for _, level := range levels() {
		for _, at := range []View{{k, 1}, {1, m}} {
			s := Spec{M: m, N: n, K: k, A: at, B: View{n, 1}, C: View{n, 1}}
			p := build[float32](rand.New(rand.NewPCG(3, 4)), s)
			clear(p.b[5*n : 6*n]) // row 5 of B is zero
			p.a[7*at.Row+5*at.Col] = float32(math.Inf(1))
			p.a[9*at.Row+6*at.Col] = float32(math.NaN())
			c, name := execute(t, p, level, 2)
			for i := range m {
				for j := range n {
					bad := c[i*n+j] != c[i*n+j]
					if bad != (i == 7 || i == 9) {
						t.Fatalf("%s: c[%d,%d] = %v", name, i, j, c[i*n+j])
					}
				}
			}
		}
	}
}

// TestBite: a changed element of A must be noticed by the comparison.
func TestBite(t *testing.T) {
	s := Spec{M: 40, N: 50, K: 600, A: View{600, 1}, B: View{50, 1}, C: View{50, 1}}
	p := build[float32](rand.New(rand.NewPCG(5, 6)), s)
	p.a[17*600+300] += 1e-3
	c, name := execute(t, p, feature.Detected(), 2)
	if _, err := p.verify(c); err == nil {
		t.Fatalf("%s: an error of 1e-3 in A was not noticed", name)
	}
}

func TestRefuses(t *testing.T) {
	must := func(text string, f func()) {
		defer func() {
			if got := fmt.Sprint(recover()); !strings.Contains(got, text) {
				t.Errorf("got %q, want %q", got, text)
			}
		}()
		f()
	}
	ok := Spec{M: 2, N: 3, K: 4, A: View{4, 1}, B: View{3, 1}, C: View{3, 1}}
	bad := ok
	bad.K = -1
	must("negative", func() { New[float32](bad, feature.Generic) })
	bad = ok
	bad.AOffsets = []int{0}
	must("offsets", func() { New[float32](bad, feature.Generic) })
	bad = ok
	bad.C.Row = 0
	must("coincide", func() { New[float32](bad, feature.Generic) })
	bad = ok
	bad.BF16 = true
	must("BF16", func() { New[float64](bad, feature.Generic) })
	tm := team.New(1)
	p := New[float32](ok, feature.Generic)
	scratch := make([]float32, p.Scratch(1))
	x := make([]float32, 12)
	must("outside", func() { p.Run(tm, x, x[:7], x, scratch, nil) })
	must("outside", func() { p.Run(tm, x[:5], x, x, scratch, nil) })
	must("outside", func() { p.Run(tm, x, x, x[:11], scratch, nil) })
}
