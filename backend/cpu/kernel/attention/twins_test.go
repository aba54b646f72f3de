//go:build amd64 && !noasm

package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// twinTol is relative to the sum of absolute terms: a kernel fuses multiplication and addition, its twin does not. Worst: 2.1e-7.
const twinTol = 4e-7

// vectorLevels are the levels of this processor that have kernels.
func vectorLevels() []feature.Level { return levels()[1:] }

// TestProductTwin compares products at every number of rows around the tiles, both widths, with strides of both operands' kinds and
// every alignment, and looks at what lies beside the result.
func TestProductTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	worst := 0.0
	for _, level := range vectorLevels() {
		p := &Plan{level: level}
		for m := range 20 {
			for _, depth := range []int{0, 1, 2, 7, 16, 33} {
				for i, strides := range [][2]int{{depth + 3, 1}, {1, m + 5}, {panelWidth, 1}, {0, 0}} {
					for _, width := range []int{lanes, panelWidth} {
						x := product{am: strides[0], ak: strides[1], ldb: width + 3*i, ldc: width + i, m: m, depth: depth, width: width, add: i%2 == 0}
						worst = max(worst, x.compare(t, p, r, (m+depth)%16))
					}
				}
			}
		}
	}
	t.Logf("worst: %.2g", worst)
}

// compare runs x on random operands, off elements after a multiple of 64 bytes, and returns its worst relative difference to the
// twin's.
func (x product) compare(t *testing.T, p *Plan, r *rand.Rand, off int) (worst float64) {
	fill := func(n int) []float32 {
		_, v := guarded(n, off)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	x.a, x.b = fill(max(0, x.m-1)*x.am+max(0, x.depth-1)*x.ak+1), fill(max(0, x.depth-1)*x.ldb+x.width)
	n := max(0, x.m-1)*x.ldc + x.width
	whole, c := guarded(n, off)
	twin, terms := x, x
	twin.c, terms.c, terms.a, terms.b = make([]float32, n), make([]float32, n), absolute(x.a), absolute(x.b)
	for i := range x.m {
		for j := range x.width {
			at := i*x.ldc + j
			c[at] = float32(r.NormFloat64())
			twin.c[at], terms.c[at] = c[at], float32(math.Abs(float64(c[at])))
		}
	}
	x.c = c
	p.mul(&x)
	twin.generic()
	terms.generic()
	left := 0
	for i := range x.m {
		for j := range x.width {
			at := i*x.ldc + j
			d := math.Abs(float64(c[at]-twin.c[at])) / max(1e-30, float64(terms.c[at]))
			if worst = max(worst, d); d > twinTol {
				t.Fatalf("%s, %d x %d x %d: [%d, %d] is %g, want %g", p.level, x.m, x.depth, x.width, i, j, c[at], twin.c[at])
			}
		}
	}
	for _, v := range whole {
		if v == canary {
			left++
		}
	}
	if left != len(whole)-x.m*x.width {
		t.Fatalf("%s, %d x %d x %d: %d guard values of %d are left", p.level, x.m, x.depth, x.width, left, len(whole)-x.m*x.width)
	}
	return worst
}

func absolute(x []float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(math.Abs(float64(v)))
	}
	return out
}

// columns are the kernels of columns: run changes s and d [rows][panelWidth] and the lanes' x and y.
var columns = map[string]struct {
	run, twin func(p *Plan, s, d []float32, rows int, x, y []float32)
}{
	"max": {
		func(p *Plan, s, _ []float32, rows int, x, _ []float32) { p.max(s, rows, x) },
		func(_ *Plan, s, _ []float32, rows int, x, _ []float32) { maxGeneric(s, rows, x) },
	},
	"exp": {
		func(p *Plan, s, _ []float32, rows int, x, y []float32) { p.exp(s, rows, x, y) },
		func(_ *Plan, s, _ []float32, rows int, x, y []float32) { expGeneric(s, rows, x, y) },
	},
	"grad": {
		func(p *Plan, s, d []float32, rows int, x, y []float32) { p.grad(s, d, rows, x, y) },
		func(_ *Plan, s, d []float32, rows int, x, y []float32) { gradGeneric(s, d, rows, x, y) },
	},
	"scale": {
		func(p *Plan, s, _ []float32, rows int, x, _ []float32) { p.scale(s, rows, x) },
		func(_ *Plan, s, _ []float32, rows int, x, _ []float32) { scaleGeneric(s, rows, x) },
	},
	"dots": {
		func(p *Plan, s, d []float32, rows int, _, y []float32) { p.dots(s, d, rows, y) },
		func(_ *Plan, s, d []float32, rows int, _, y []float32) { dotsGeneric(s, d, rows, y) },
	},
	"hide": {
		func(p *Plan, s, _ []float32, rows int, _, _ []float32) { p.hide(s, rows, testBits[:], 0) },
		func(_ *Plan, s, _ []float32, rows int, _, _ []float32) { hideGeneric(s, rows, testBits[:], 0) },
	},
	"hide the second column": {
		func(p *Plan, s, _ []float32, rows int, _, _ []float32) { p.hide(s, rows, testBits[:], lanes) },
		func(_ *Plan, s, _ []float32, rows int, _, _ []float32) { hideGeneric(s, rows, testBits[:], lanes) },
	},
}

var testBits = func() (bits [40]uint32) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range bits {
		bits[i] = r.Uint32()
	}
	return bits
}()

// TestColumnTwins compares the kernels of columns; the other column of the panel must stay as it was.
func TestColumnTwins(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, level := range vectorLevels() {
		p := &Plan{level: level}
		for name, kernel := range columns {
			for _, rows := range []int{1, 2, 3, 16, 39} {
				for off := range align {
					var got, want [4][]float32
					for i, n := range []int{rows * panelWidth, rows * panelWidth, lanes, lanes} {
						_, got[i] = guarded(n, off)
						for j := range n {
							got[i][j] = float32(r.NormFloat64())
						}
						want[i] = append([]float32(nil), got[i]...)
					}
					kernel.run(p, got[0], got[1], rows, got[2], got[3])
					kernel.twin(p, want[0], want[1], rows, want[2], want[3])
					for i := range want {
						for j, w := range want[i] {
							if g := got[i][j]; g != w && !(math.Abs(float64(g-w)) <= 1e-5*max(1, math.Abs(float64(w)))) {
								t.Fatalf("%s, %s, %d rows: operand %d[%d] is %g, want %g", level, name, rows, i, j, g, w)
							}
						}
					}
				}
			}
		}
	}
}

// TestTranspose compares transposes of whole and cut tiles, exactly.
func TestTranspose(t *testing.T) {
	for _, level := range vectorLevels() {
		p := &Plan{level: level}
		for rows := 1; rows <= 33; rows++ {
			for _, cols := range []int{1, 7, 8, 9, 15, 16, 17, 31, 32, 33} {
				for _, step := range []int{0, 1} {
					src, factors := make([]float32, rows*(cols+2)), make([]float32, cols+lanes)
					for i := range src {
						src[i] = float32(i + 1)
					}
					for i := range factors {
						factors[i] = float32(i*step + 3)
					}
					got, want := make([]float32, cols*(rows+1)), make([]float32, cols*(rows+1))
					p.transpose(got, rows+1, src, cols+2, rows, cols, factors, step)
					transposeGeneric(want, rows+1, src, cols+2, rows, cols, factors, step)
					if fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("%s: %d x %d, step %d", level, rows, cols, step)
					}
				}
			}
		}
	}
}

// TestKernelsReached: at the levels with kernels, both passes compute with them. A fused multiplication keeps 2^-24 of
// (1+2^-12)² - (1+2^-11), which the plain twin rounds off; AVX-512's power goes on to denormals, AVX2's ends at 0.
func TestKernelsReached(t *testing.T) {
	for _, level := range levels() {
		p := &Plan{level: level}
		fused := float32(0)
		if level > feature.Generic {
			fused = 1.0 / (1 << 24)
		}
		a := []float32{1 + 1.0/(1<<12)}
		for _, width := range []int{lanes, panelWidth} {
			b, c := make([]float32, width), make([]float32, width)
			for i := range b {
				b[i], c[i] = a[0], -1-1.0/(1<<11)
			}
			p.mul(&product{c: c, a: a, b: b, ldc: width, ldb: width, m: 1, depth: 1, width: width, add: true})
			for i, x := range c {
				if x != fused {
					t.Errorf("%s, width %d: lane %d is %g, want %g", level, width, i, x, fused)
				}
			}
		}
		s := make([]float32, panelWidth)
		for i := range s {
			s[i] = -130
		}
		p.exp(s, 1, make([]float32, lanes), make([]float32, lanes))
		if denormal := s[0] > 0; denormal != (level == feature.AVX512) {
			t.Errorf("%s: 2^-130 is %g", level, s[0])
		}
		if want := map[feature.Level]int{feature.Generic: 0, feature.AVX2: 8, feature.AVX512: 16}[level]; p.tile() != want {
			t.Errorf("%s: tiles of %d, want %d", level, p.tile(), want)
		}
		if planned := New(square(1, 1, 1, 4, 4, true), level).level; planned != level {
			t.Errorf("a plan for %s has level %s", level, planned)
		}
	}
}
