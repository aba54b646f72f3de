package vector

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// benchLanes is a tile of 8 KB: three of them fit the level 1 cache.
const benchLanes = 2048

// benchCalls is how many calls are timed together.
const benchCalls = 16

// measure reports lanes a nanosecond, in the best of all rounds of benchCalls calls: what the kernel does when nothing else runs.
func measure(b *testing.B, lanes int, f func()) {
	best := time.Duration(math.MaxInt64)
	for b.Loop() {
		start := time.Now()
		for range benchCalls {
			f()
		}
		best = min(best, time.Since(start))
	}
	b.ReportMetric(float64(lanes*benchCalls)/float64(best.Nanoseconds()), "lanes/ns")
	b.ReportMetric(0, "ns/op")
}

func benchData() (x, y, d []float32) {
	r := rand.New(rand.NewPCG(1, 1))
	x, y, d = make([]float32, benchLanes), make([]float32, benchLanes), make([]float32, benchLanes)
	for i := range x {
		x[i], y[i] = float32(r.NormFloat64()), 0.5+r.Float32()
	}
	return x, y, d
}

func BenchmarkElementwise(b *testing.B) {
	x, y, d := benchData()
	px, py, pd := unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), unsafe.Pointer(&d[0])
	run := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			measure(b, benchLanes, f)
		})
	}
	for _, level := range levelsHere() {
		k := For(level)
		for op := range Count {
			name := op.String() + "/" + level.String()
			if f := k.Unary[op]; f != nil {
				in := px
				if op == Log || op == Log1p || op == Sqrt || op == Rsqrt {
					in = py
				}
				run(name, func() { f(pd, in, benchLanes) })
				continue
			}
			vv, vs := k.VV[op], k.VS[op]
			run(name+"/VV", func() { vv(pd, px, py, benchLanes) })
			run(name+"/VS", func() { vs(pd, px, py, benchLanes) })
		}
		name := "/" + level.String()
		run("Select"+name, func() { k.Select(pd, px, px, py, benchLanes) })
		run("MulAddVVV"+name, func() { k.MulAddVVV(pd, px, py, px, benchLanes) })
		run("MulAddVSS"+name, func() { k.MulAddVSS(pd, px, py, px, benchLanes) })
		run("FloatFromBF16"+name, func() { k.FloatFromBF16(pd, px, benchLanes) })
		run("BF16FromFloat"+name, func() { k.BF16FromFloat(pd, px, benchLanes) })
		run("MaskFromBool"+name, func() { k.MaskFromBool(pd, px, benchLanes) })
		run("BoolFromMask"+name, func() { k.BoolFromMask(pd, px, benchLanes) })
		run("Fill"+name, func() { k.Fill(pd, px, benchLanes) })
		run("AddOf16"+name, func() { k.VV[Add](pd, px, py, 16) })
	}
}

func BenchmarkReduce(b *testing.B) {
	x, y, d := benchData()
	px, py, pd := unsafe.Pointer(&x[0]), unsafe.Pointer(&y[0]), unsafe.Pointer(&d[0])
	for _, level := range levelsHere() {
		k := For(level)
		for _, shape := range []struct {
			name       string
			rows, cols int
		}{{"1x2048", 1, 2048}, {"8x256", 8, 256}, {"32x64", 32, 64}, {"128x16", 128, 16}} {
			for name, f := range map[string]func(){
				"SumRows":       func() { k.SumRows(pd, px, shape.rows, shape.cols) },
				"MaxRows":       func() { k.MaxRows(pd, px, shape.rows, shape.cols) },
				"DotRows":       func() { k.DotRows(pd, px, py, shape.rows, shape.cols) },
				"AddColumns":    func() { k.AddColumns(pd, px, shape.rows, shape.cols) },
				"MaxColumns":    func() { k.MaxColumns(pd, px, shape.rows, shape.cols) },
				"MulAddColumns": func() { k.MulAddColumns(pd, py, px, shape.rows, shape.cols) },
				"Repeat":        func() { k.Repeat(pd, px, shape.rows, shape.cols) },
				"Tile":          func() { k.Tile(pd, px, shape.rows, shape.cols) },
				"Copy2D":        func() { k.Copy2D(pd, px, shape.rows, shape.cols, shape.cols, shape.cols) },
				"Transpose2D":   func() { k.Transpose2D(pd, px, shape.rows, shape.cols, shape.rows, shape.cols) },
			} {
				b.Run(name+"/"+shape.name+"/"+level.String(), func(b *testing.B) {
					measure(b, benchLanes, f)
				})
			}
		}
	}
}

func BenchmarkTranspose(b *testing.B) {
	for _, n := range []int{256, 1000, 1024, 2048} {
		x, d := make([]float32, n*n), make([]float32, n*n)
		for _, level := range levelsHere() {
			b.Run(fmt.Sprintf("%d/%s", n, level), func(b *testing.B) {
				measure(b, n*n, func() { For(level).Transpose2D(unsafe.Pointer(&d[0]), unsafe.Pointer(&x[0]), n, n, n, n) })
			})
		}
	}
}

// BenchmarkCopyStrided: the layouts of attention, (batch, length, heads, width) to (batch, heads, length, width), and a
// permutation that transposes.
func BenchmarkCopyStrided(b *testing.B) {
	const n = 4 * 64 * 8 * 32
	src, dst := make([]byte, 8*n), make([]byte, 8*n)
	dims := []int{4, 8, 64, 32} // of the destination
	to := []int{8 * 64 * 32, 64 * 32, 32, 1}
	for _, c := range []struct {
		name string
		from []int
	}{{"heads", []int{64 * 8 * 32, 32, 8 * 32, 1}}, {"transposed", []int{64 * 8 * 32, 32 * 64, 1, 64}}, {"broadcast", []int{0, 64, 1, 0}}} {
		for _, elem := range []int{1, 2, 4, 8} {
			for _, level := range levelsHere() {
				b.Run(fmt.Sprintf("%s/%dbytes/%s", c.name, elem, level), func(b *testing.B) {
					measure(b, n, func() { For(level).CopyStrided(dst, src, elem, dims, to, c.from) })
				})
			}
		}
	}
}
