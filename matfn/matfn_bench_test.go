package matfn

import (
	"fmt"
	"testing"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// benchmark times fn on a [batch, m, n] float32 tensor and reports GFLOP/s from the operations of one call.
func benchmark(b *testing.B, batch, m, n int, flops int64, fn func(x *Node) *Node) {
	var xs []*mat.Dense
	for i := range batch {
		x := oracle.Gaussian(uint64(i), m, n)
		if m == n { // also fit for InvSqrt
			var gram mat.Dense
			gram.Mul(x, x.T())
			x = &gram
		}
		xs = append(xs, x)
	}
	exec, err := NewExec(check.Backend(b), func(x *Node) *Node { return ReduceAllMax(fn(x)) })
	if err != nil {
		b.Fatal(err)
	}
	defer exec.Finalize()
	x := tensorOf(xs...)
	run := func() {
		out, err := exec.Call(x)
		if err != nil {
			b.Fatal(err)
		}
		_ = tensors.ToScalar[float32](out[0])
	}
	run() // compile and warm up
	b.ResetTimer()
	for b.Loop() {
		run()
	}
	seconds := b.Elapsed().Seconds()
	b.ReportMetric(float64(flops)*float64(batch)*float64(b.N)/seconds/1e9, "GFLOP/s")
}

// BenchmarkMsign reports GFLOP/s of the operations done (MsignFlopsOf), fewer in the Gram form than in the direct one for
// long matrices, so compare forms by time. Shapes: dense layers, and the stacked factors of 30 layers at rank 16.
func BenchmarkMsign(b *testing.B) {
	for _, s := range []struct{ batch, m, n int }{{1, 256, 256}, {1, 576, 576}, {1, 576, 1536}, {1, 256, 1024}, {30, 576, 16}, {30, 1536, 16}, {120, 128, 8}} {
		for _, f := range []struct {
			name string
			form Form
		}{{"direct", Direct}, {"gram", Gram}} {
			b.Run(fmt.Sprintf("%dx%dx%d/f32/%s", s.batch, s.m, s.n, f.name), func(b *testing.B) {
				flops := MsignFlopsOf(s.m, s.n, WithForm(f.form))
				benchmark(b, s.batch, s.m, s.n, flops, msign(WithForm(f.form)))
			})
		}
	}
}

func BenchmarkInvSqrt(b *testing.B) {
	for _, s := range []struct{ batch, r int }{{60, 8}, {60, 16}, {60, 32}, {1, 256}} {
		b.Run(fmt.Sprintf("%dx%dx%d/f32", s.batch, s.r, s.r), func(b *testing.B) {
			benchmark(b, s.batch, s.r, s.r, InvSqrtFlops(s.r, RootSteps), plainRoot)
		})
	}
}

func BenchmarkSpectralNorm(b *testing.B) {
	for _, s := range []struct{ m, n int }{{576, 576}, {576, 1536}} {
		b.Run(fmt.Sprintf("%dx%d/f32", s.m, s.n), func(b *testing.B) {
			benchmark(b, 1, s.m, s.n, SpectralNormFlops(s.m, s.n, MinPowerSteps), func(x *Node) *Node {
				_, sigma, _ := SpectralNorm(x)
				return sigma
			})
		})
	}
}
