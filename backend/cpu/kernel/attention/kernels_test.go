//go:build amd64 && !noasm

package attention

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
)

// TestLayout compares the offsets that the generator uses.
func TestLayout(t *testing.T) {
	var x product
	got := []uintptr{unsafe.Offsetof(x.c), unsafe.Offsetof(x.a), unsafe.Offsetof(x.b), unsafe.Offsetof(x.ldc), unsafe.Offsetof(x.am), unsafe.Offsetof(x.ak),
		unsafe.Offsetof(x.ldb), unsafe.Offsetof(x.m), unsafe.Offsetof(x.depth), unsafe.Offsetof(x.width), unsafe.Offsetof(x.add)}
	want := []uintptr{0, 24, 48, 72, 80, 88, 96, 104, 112, 120, 128}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("offsets %v, the generator has %v", got, want)
	}
}

// BenchmarkMul is the product of a block's scores.
func BenchmarkMul(b *testing.B) {
	for _, dim := range []int{32, 64} {
		for _, width := range []int{lanes, panelWidth} {
			b.Run(fmt.Sprintf("dim=%d,width=%d", dim, width), func(b *testing.B) {
				p := &Plan{level: feature.Detected()}
				s, k, q := make([]float32, keyBlock*panelWidth), make([]float32, keyBlock*dim*3), make([]float32, dim*panelWidth)
				s, q = aligned(append(s, make([]float32, 16)...)), aligned(append(q, make([]float32, 16)...))
				for b.Loop() {
					p.mul(&product{c: s, ldc: panelWidth, a: k, am: 3 * dim, ak: 1, b: q, ldb: panelWidth, m: keyBlock, depth: dim, width: width})
				}
				b.ReportMetric(float64(2*keyBlock*dim*width)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}

// BenchmarkExp is the exponential of a block's column.
func BenchmarkExp(b *testing.B) {
	p := &Plan{level: feature.Detected()}
	s, m, l := aligned(make([]float32, keyBlock*panelWidth+16)), make([]float32, lanes), make([]float32, lanes)
	for b.Loop() {
		p.exp(s, keyBlock, m, l)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/keyBlock*1e9, "ns/vector")
}

// TestExp2 compares the exponential at every level with math.Exp2, over its range and at the edges.
func TestExp2(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, level := range levels() {
		p := &Plan{level: level}
		worst := 0.0
		for range 2000 {
			s, m, l := make([]float32, panelWidth), make([]float32, lanes), make([]float32, lanes)
			x := make([]float32, lanes)
			for i := range x {
				x[i] = float32(r.Float64()*250 - 125)
			}
			copy(s, x)
			p.exp(s, 1, m, l)
			for i, v := range x {
				want := math.Exp2(float64(v))
				worst = max(worst, math.Abs(float64(s[i])-want)/want)
				if l[i] != s[i] {
					t.Fatalf("%s: sum %g of one %g", level, l[i], s[i])
				}
			}
		}
		if t.Logf("%s: relative error up to %.2g", level, worst); worst > 1.0/(1<<22) {
			t.Errorf("%s: relative error %g", level, worst)
		}
		inf := float32(math.Inf(1))
		edges := []float32{-inf, -1e9, -200, 0, 1, float32(math.NaN())}
		want := []float32{0, 0, 0, 1, 2, float32(math.NaN())}
		s := make([]float32, panelWidth)
		copy(s, edges)
		p.exp(s, 1, make([]float32, lanes), make([]float32, lanes))
		for i, w := range want {
			if s[i] != w && !(w != w && s[i] != s[i]) {
				t.Errorf("%s: 2^%g = %g", level, edges[i], s[i])
			}
		}
	}
}
