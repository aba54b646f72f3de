package gemm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/team"
)

// benchmark is a shape in the order M x K x N and the layout of its operands: N as they are, T transposed in memory.
type benchmark struct {
	m, k, n, batch int
	layout         string
}

var benchmarks = []benchmark{
	{1024, 1024, 1024, 1, "NN"}, {1024, 1024, 1024, 1, "NT"}, {1024, 1024, 1024, 1, "TN"},
	{2048, 576, 1536, 1, "NN"}, {2048, 576, 1536, 1, "NT"},
	{2048, 576, 16, 1, "NN"}, {2048, 576, 16, 1, "NT"}, {2048, 16, 576, 1, "NN"}, {2048, 16, 576, 1, "NT"},
	{16, 2048, 576, 1, "NN"}, {16, 2048, 576, 1, "TN"}, {576, 2048, 16, 1, "TN"},
	{2048, 128, 384, 1, "NN"}, {2048, 128, 512, 1, "NN"}, {2048, 512, 128, 1, "NN"}, {128, 2048, 512, 1, "TN"},
	{1024, 384, 1536, 1, "NN"}, {1024, 576, 1536, 1, "NN"}, {1024, 1536, 576, 1, "NN"}, {576, 1024, 1536, 1, "TN"},
	{1024, 1536, 576, 1, "NT"}, {256, 576, 49152, 1, "NT"}, {256, 49152, 576, 1, "NN"},
	{64, 64, 64, 96, "NT"}, {64, 64, 64, 96, "NN"}, {256, 64, 256, 12, "NT"}, {256, 256, 64, 12, "NN"}, {256, 256, 64, 12, "TN"},
	{16, 16, 16, 30, "NN"}, {16, 16, 16, 30, "NT"}, {16, 576, 16, 30, "TN"}, {16, 2048, 16, 1, "TN"}, {576, 16, 16, 30, "NN"},
	{1, 576, 1536, 1, "NN"}, {1, 576, 1536, 1, "NT"}, {1536, 576, 1, 1, "NN"}, {4, 576, 1536, 1, "NT"},
}

func (b benchmark) spec() Spec {
	s := Spec{M: b.m, N: b.n, K: b.k, A: View{b.k, 1}, B: View{b.n, 1}, C: View{b.n, 1}}
	if b.layout[0] == 'T' {
		s.A = View{1, b.m}
	}
	if b.layout[1] == 'T' {
		s.B = View{1, b.k}
	}
	for i := range b.batch {
		s.AOffsets = append(s.AOffsets, i*b.m*b.k)
		s.BOffsets = append(s.BOffsets, i*b.k*b.n)
		s.COffsets = append(s.COffsets, i*b.m*b.n)
	}
	return s
}

// BenchmarkGemm reports GFLOP/s and the share of the measured peak. GEMM_WORKERS sets the workers (2).
func BenchmarkGemm(b *testing.B) {
	workers := 2
	if text := os.Getenv("GEMM_WORKERS"); text != "" {
		fmt.Sscan(text, &workers)
	}
	t := team.New(workers)
	defer t.Close()
	for _, bf16 := range []bool{false, true} {
		name := "f32"
		if bf16 {
			name = "bf16"
		}
		peak := Peak(t, feature.Detected(), bf16)
		for _, x := range benchmarks {
			b.Run(fmt.Sprintf("%s/%dx%dx%dx%d%s", name, x.batch, x.m, x.k, x.n, x.layout), func(b *testing.B) {
				s := x.spec()
				s.BF16 = bf16
				p := New[float32](s, feature.Detected())
				r := rand.New(rand.NewPCG(1, 1))
				left, right, c := make([]float32, x.batch*x.m*x.k), make([]float32, x.batch*x.k*x.n), make([]float32, x.batch*x.m*x.n)
				fill(r, left)
				fill(r, right)
				scratch := make([]float32, p.Scratch(workers))
				p.Run(t, c, left, right, scratch, nil)
				for b.Loop() {
					p.Run(t, c, left, right, scratch, nil)
				}
				rate := p.Flops() / float64(b.Elapsed().Nanoseconds()) * float64(b.N)
				b.ReportMetric(rate, "GFLOP/s")
				b.ReportMetric(100*rate/peak, "%peak")
			})
		}
	}
}
