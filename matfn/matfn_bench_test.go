package matfn

import (
	"fmt"
	"testing"
	"time"

	. "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"gonum.org/v1/gonum/mat"

	"github.com/polargo/polar/internal/check"
	"github.com/polargo/polar/internal/oracle"
)

// benchmarkOn times fn on float32 matrices, one or a batch, and reports GFLOP/s from the operations of one matrix, and what share of the
// rate of plain products that is.
func benchmarkOn(b *testing.B, xs []*mat.Dense, flops int64, fn func(x *Node) *Node) {
	b.Helper()
	peak := productRate(b)
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
	for b.Loop() {
		run()
	}
	rate := float64(flops) * float64(len(xs)) * float64(b.N) / b.Elapsed().Seconds() / 1e9
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peak, "%peak")
}

// benchmark is benchmarkOn for a batch of Gaussian m x n matrices.
func benchmark(b *testing.B, batch, m, n int, flops int64, fn func(x *Node) *Node) {
	b.Helper()
	var xs []*mat.Dense
	for i := range batch {
		xs = append(xs, oracle.Gaussian(uint64(i), m, n))
	}
	benchmarkOn(b, xs, flops, fn)
}

var measuredRate float64

// productRate returns GFLOP/s of products of 1024 x 1024 matrices, the best of five runs of eight, measured once.
func productRate(b *testing.B) float64 {
	b.Helper()
	if measuredRate > 0 {
		return measuredRate
	}
	const side, chain = 1024, 8
	exec, err := NewExec(check.Backend(b), func(x *Node) *Node {
		for range chain {
			x = MulScalar(product(x, x), 1.0/side)
		}
		return ReduceAllMax(x)
	})
	if err != nil {
		b.Fatal(err)
	}
	defer exec.Finalize()
	x := tensorOf(oracle.Gaussian(1, side, side))
	for range 6 { // the first compiles
		start := time.Now()
		if _, err := exec.Call(x); err != nil {
			b.Fatal(err)
		}
		measuredRate = max(measuredRate, 2*chain*side*side*side/time.Since(start).Seconds()/1e9)
	}
	return measuredRate
}

// BenchmarkMsign reports GFLOP/s of the operations done (MsignFlopsOf), fewer in the Gram form than in the direct one for
// long matrices, so compare forms by time. Shapes: dense layers, and the stacked factors of 30 layers at rank 16.
func BenchmarkMsign(b *testing.B) {
	for _, s := range []struct{ batch, m, n int }{
		{1, 128, 32}, {1, 256, 256}, {1, 512, 512}, {1, 576, 576}, {1, 576, 1536}, {1, 256, 1024}, {1, 1024, 1024}, {1, 1024, 4096},
		{1, 2048, 2048}, {30, 576, 16}, {30, 1536, 16}, {120, 128, 8},
	} {
		for _, f := range []struct {
			name string
			form Form
		}{{"auto", Auto}, {"direct", Direct}, {"gram", Gram}} {
			b.Run(fmt.Sprintf("%dx%dx%d/f32/%s", s.batch, s.m, s.n, f.name), func(b *testing.B) {
				flops := MsignFlopsOf(s.m, s.n, WithForm(f.form))
				benchmark(b, s.batch, s.m, s.n, flops, msign(WithForm(f.form)))
			})
		}
	}
}

// BenchmarkHardcap is SpectralHardcap in its forms. A blockwise cap at 1024 x 4096 takes a minute.
func BenchmarkHardcap(b *testing.B) {
	for _, s := range []struct{ batch, m, n int }{
		{1, 128, 32}, {1, 256, 256}, {1, 512, 512}, {1, 1024, 1024}, {1, 1024, 4096}, {1, 2048, 2048}, {30, 576, 16},
	} {
		for _, f := range []struct {
			name string
			form Form
		}{{"projected", Projected}, {"nested", Nested}, {"blockwise", Blockwise}} {
			b.Run(fmt.Sprintf("%dx%dx%d/f32/%s", s.batch, s.m, s.n, f.name), func(b *testing.B) {
				flops := SpectralClipFlops(s.m, s.n, 0, 1, WithForm(f.form))
				benchmark(b, s.batch, s.m, s.n, flops, hardcap(20, WithForm(f.form)))
			})
		}
	}
}

// BenchmarkExact is what float64 until nothing changes costs.
func BenchmarkExact(b *testing.B) {
	for _, s := range []struct{ m, n int }{{256, 256}, {1024, 1024}} {
		b.Run(fmt.Sprintf("msign/%dx%d", s.m, s.n), func(b *testing.B) {
			benchmark(b, 1, s.m, s.n, MsignFlopsOf(s.m, s.n, WithExact()), msign(WithExact()))
		})
		b.Run(fmt.Sprintf("hardcap/%dx%d", s.m, s.n), func(b *testing.B) {
			benchmark(b, 1, s.m, s.n, SpectralClipFlops(s.m, s.n, 0, 1, WithExact()), hardcap(20, WithExact()))
		})
	}
}

func BenchmarkInvSqrt(b *testing.B) {
	for _, s := range []struct{ batch, r int }{{60, 8}, {60, 16}, {60, 32}, {1, 256}} {
		b.Run(fmt.Sprintf("%dx%dx%d/f32", s.batch, s.r, s.r), func(b *testing.B) {
			var grams []*mat.Dense
			for i := range s.batch {
				x, gram := oracle.Gaussian(uint64(i), s.r, s.r), new(mat.Dense)
				gram.Mul(x, x.T())
				grams = append(grams, gram)
			}
			benchmarkOn(b, grams, InvSqrtFlops(s.r, RootSteps), plainRoot)
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
